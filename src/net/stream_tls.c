#include "base/mem.h"
#include "net/openssl_internal.h"
#include "net/stream_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>

static bool is_address(const char *name) {
    unsigned char ip[16];
    return inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1;
}

static int expect_name(SSL *ssl, const char *name, struct error *err) {
    int ok = is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name)
                              : SSL_set1_host(ssl, name) && SSL_set_tlsext_host_name(ssl, name);
    return ok == 1 ? 0 : openssl_error(err, ERR_INVALID, "name of the TLS server");
}

int tls_begin(struct stream *s, struct tls_ctx *tls, const char *server_name, struct error *err) {
    s->ssl = SSL_new(tls_ctx_ssl(tls));
    if (!s->ssl)
        panic("OpenSSL: no memory");
    s->tls = tls_ctx_ref(tls);
    s->is_client = server_name != NULL;
    if (!server_name) {
        SSL_set_accept_state(s->ssl);
        return 0;
    }
    SSL_set_connect_state(s->ssl);
    return expect_name(s->ssl, server_name, err);
}

/* A peer that refuses our certificate says so in an alert. */
static enum error_code alert_code(int alert) {
    switch (alert) {
    case SSL_AD_CERTIFICATE_EXPIRED:
        return ERR_EXPIRED;
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return ERR_DENIED;
    default:
        return ERR_UNAVAILABLE;
    }
}

static int tls_failed(struct stream *s, struct error *err) {
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    long verify = SSL_get_verify_result(s->ssl);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        ERR_clear_error();
        error_set(err, verify == X509_V_ERR_CERT_HAS_EXPIRED ? ERR_EXPIRED : ERR_DENIED,
                  "TLS: the peer's certificate is not acceptable: %s", X509_verify_cert_error_string(verify));
    } else if (reason > SSL_AD_REASON_OFFSET) {
        openssl_error(err, alert_code(reason - SSL_AD_REASON_OFFSET), "TLS: the peer refused us");
    } else {
        openssl_error(err, ERR_INVALID, "TLS");
    }
    return IO_FAILED;
}

/* What a call that did not succeed means; notes which event it waits for. */
static int tls_result(struct stream *s, int rc, bool *other_direction, int waits_for, struct error *err) {
    int saved_errno = errno;
    int e = SSL_get_error(s->ssl, rc);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
        if (e != waits_for)
            *other_direction = true;
        return IO_AGAIN;
    }
    /* Most peers just close the connection; whether something is missing is for the protocol above to tell. */
    if (e == SSL_ERROR_ZERO_RETURN ||
        (e == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        ERR_clear_error();
        return IO_EOF;
    }
    if (e == SSL_ERROR_SSL)
        return tls_failed(s, err);
    ERR_clear_error();
    error_set_errno(err, saved_errno ? saved_errno : ECONNRESET, "TLS connection");
    if (err)
        err->code = ERR_UNAVAILABLE;
    return IO_FAILED;
}

static void slim_peer_cert(struct stream *s);

int tls_handshake(struct stream *s, struct error *err) {
    bool wants_write = false;
    ERR_clear_error();
    int rc = SSL_do_handshake(s->ssl);
    if (rc == 1) {
        slim_peer_cert(s);
        return 1;
    }
    rc = tls_result(s, rc, &wants_write, SSL_ERROR_WANT_READ, err);
    s->read_wants_write = wants_write;
    if (rc == IO_EOF) {
        error_set(err, ERR_UNAVAILABLE, "the peer closed the connection during the TLS handshake");
        return IO_FAILED;
    }
    return rc;
}

ssize_t tls_read(struct stream *s, char *to, size_t size, struct error *err) {
    bool wants_write = false;
    ERR_clear_error();
    int n = SSL_read(s->ssl, to, size < INT_MAX ? (int)size : INT_MAX);
    if (n > 0)
        return n;
    n = tls_result(s, n, &wants_write, SSL_ERROR_WANT_READ, err);
    s->read_wants_write = wants_write;
    return n;
}

ssize_t tls_write(struct stream *s, const char *from, size_t n, struct error *err) {
    bool wants_read = false;
    ERR_clear_error();
    int rc = SSL_write(s->ssl, from, n < INT_MAX ? (int)n : INT_MAX);
    if (rc > 0)
        return rc;
    rc = tls_result(s, rc, &wants_read, SSL_ERROR_WANT_WRITE, err);
    s->write_wants_read = wants_read;
    if (rc == IO_EOF) {
        error_set(err, ERR_UNAVAILABLE, "the peer has closed the TLS connection");
        return IO_FAILED;
    }
    return rc;
}

bool tls_has_more(const struct stream *s) {
    return s->ssl && SSL_has_pending(s->ssl);
}

void tls_goodbye(struct stream *s) {
    if (!s->ssl)
        return;
    ERR_clear_error();
    SSL_shutdown(s->ssl); /* one try: the peer may be gone */
    ERR_clear_error();
}

/* ---- the peer's certificate ---- */

/* OpenSSL keeps the peer's certificate for as long as the connection lives, with its public key unpacked into dozens of
 * small pieces, some 3 KB. Nothing needs that key after the handshake. So servers keep the certificate's bytes, and
 * give OpenSSL's copy a small key that all connections share: 2.4 KB less per connection. */
static EVP_PKEY *small_key;

static void make_small_key(void) {
    static const unsigned char any[32] = {1};
    small_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, any, sizeof(any));
}

static void slim_peer_cert(struct stream *s) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    X509 *x = SSL_get0_peer_certificate(s->ssl);
    if (!x || s->is_client)
        return;
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    if (n > 0) {
        s->peer_cert = xmemdup(der, (size_t)n);
        s->peer_cert_len = (size_t)n;
        pthread_once(&once, make_small_key);
        if (!small_key || X509_set_pubkey(x, small_key) != 1)
            panic("OpenSSL has no Ed25519");
    }
    OPENSSL_free(der);
}

bool stream_peer_verified(const struct stream *s) {
    return s->ssl && SSL_get0_peer_certificate(s->ssl) && SSL_get_verify_result(s->ssl) == X509_V_OK &&
           SSL_get_verify_mode(s->ssl) != SSL_VERIFY_NONE;
}

/* As OpenSSL has it: of servers without the peer's key. */
static X509 *peer_cert(const struct stream *s, bool *verified, struct error *err) {
    X509 *x = s->ssl ? SSL_get0_peer_certificate(s->ssl) : NULL;
    if (verified)
        *verified = stream_peer_verified(s);
    if (!x)
        error_set(err, ERR_NOT_FOUND, "%s sent no certificate", stream_peer_addr(s));
    return x;
}

int stream_peer_cert(const struct stream *s, struct buf *out, bool *verified, struct error *err) {
    X509 *x = peer_cert(s, verified, err);
    if (!x)
        return -1;
    if (!s->peer_cert)
        return x509_write_pem(x, out, err);
    _cleanup_(X509_free_p) X509 *whole = x509_read(bytes_of(s->peer_cert, s->peer_cert_len), err);
    return whole ? x509_write_pem(whole, out, err) : -1;
}

int stream_peer_subject(struct stream *s, struct x509_subject *out, bool *verified, struct error *err) {
    X509 *x = peer_cert(s, verified, err);
    if (!x)
        return -1;
    if (!s->peer_subject) { /* every request on the connection asks */
        if (x509_read_name(X509_get_subject_name(x), out, err) < 0)
            return -1;
        size_t cn = strlen(out->common_name) + 1, org = strlen(out->organization) + 1,
               others = strlen(out->other_organizations) + 1;
        s->peer_subject = xmalloc(cn + org + others);
        memcpy(s->peer_subject, out->common_name, cn);
        memcpy(s->peer_subject + cn, out->organization, org);
        memcpy(s->peer_subject + cn + org, out->other_organizations, others);
        return 0;
    }
    const char *organization = s->peer_subject + strlen(s->peer_subject) + 1,
               *others = organization + strlen(organization) + 1;
    memcpy(out->common_name, s->peer_subject, (size_t)(organization - s->peer_subject));
    memcpy(out->organization, organization, (size_t)(others - organization));
    memcpy(out->other_organizations, others, strlen(others) + 1);
    return 0;
}
