#include "net/tls.h"

#include "base/mem.h"
#include "base/str.h"
#include "net/openssl_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>

enum { MAX_ALPN_SIZE = 256 };

struct tls_ctx {
    SSL_CTX *ssl;
    atomic_uint refs;
    unsigned char alpn[MAX_ALPN_SIZE]; /* as on the wire: length, name, length, name ... */
    unsigned alpn_len;
};

int openssl_error(struct error *err, enum error_code code, const char *what) {
    char text[160] = "no reason given";
    unsigned long e = ERR_peek_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    if (reason)
        snprintf(text, sizeof(text), "%s", reason);
    else if (e)
        ERR_error_string_n(e, text, sizeof(text));
    ERR_clear_error();
    return error_set(err, code, "%s: %s", what, text);
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *c) {
    if (c)
        atomic_fetch_add(&c->refs, 1);
    return c;
}

void tls_ctx_free(struct tls_ctx *c) {
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    SSL_CTX_free(c->ssl);
    free(c);
}

void *tls_ctx_ssl(struct tls_ctx *c) {
    return c->ssl;
}

static struct tls_ctx *ctx_new(const SSL_METHOD *method) {
    struct tls_ctx *c = NEW(struct tls_ctx);
    atomic_init(&c->refs, 1);
    c->ssl = SSL_CTX_new(method);
    if (!c->ssl)
        panic("OpenSSL cannot make a TLS context");
    SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    /* No buffers while a connection is idle; a write may be cut, and be repeated from another address. */
    SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY |
                                 SSL_MODE_NO_AUTO_CHAIN); /* sends the chain that was given, not the roots as well */
    SSL_CTX_set_read_ahead(c->ssl, 1);                    /* one recv per record in place of two */
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(c->ssl, 0);
    SSL_CTX_set_cipher_list(c->ssl, "ECDHE+AESGCM:ECDHE+CHACHA20");
    /* A certificate in the trusted file is trusted, whether or not its own issuer is at hand: as Go's peers do. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return c;
}

static int use_identity(struct tls_ctx *c, struct bytes cert_pem, struct bytes key_pem, struct error *err) {
    _cleanup_(X509_stack_free_p) STACK_OF(X509) *chain = x509_read_pem(cert_pem, err);
    if (!chain)
        return error_wrap(err, "TLS certificate");
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(key_pem, err);
    if (!key)
        return error_wrap(err, "TLS key");
    if (SSL_CTX_use_certificate(c->ssl, sk_X509_value(chain, 0)) != 1)
        return openssl_error(err, ERR_INVALID, "TLS certificate");
    if (SSL_CTX_use_PrivateKey(c->ssl, key) != 1 || SSL_CTX_check_private_key(c->ssl) != 1)
        return openssl_error(err, ERR_INVALID, "the TLS key does not belong to the certificate");
    for (int i = 1; i < sk_X509_num(chain); i++)
        if (SSL_CTX_add1_chain_cert(c->ssl, sk_X509_value(chain, i)) != 1)
            return openssl_error(err, ERR_INVALID, "TLS certificate chain");
    return 0;
}

static int trust(struct tls_ctx *c, struct bytes ca_pem, bool announce, struct error *err) {
    _cleanup_(X509_stack_free_p) STACK_OF(X509) *cas = x509_read_pem(ca_pem, err);
    if (!cas)
        return error_wrap(err, "CA certificates");
    X509_STORE *store = SSL_CTX_get_cert_store(c->ssl);
    for (int i = 0; i < sk_X509_num(cas); i++) {
        X509 *ca = sk_X509_value(cas, i);
        if (X509_STORE_add_cert(store, ca) != 1 || (announce && SSL_CTX_add_client_CA(c->ssl, ca) != 1))
            return openssl_error(err, ERR_INVALID, "CA certificate");
    }
    return 0;
}

/* Verifies as usual, but lets an unverified certificate pass: SSL_get_verify_result keeps the reason. */
static int verify_but_accept(X509_STORE_CTX *store, void *arg) {
    if (X509_verify_cert(store) <= 0 && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    return 1;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                       unsigned inlen, void *arg) {
    const struct tls_ctx *c = arg;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, outlen, c->alpn, c->alpn_len, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int offer_alpn(struct tls_ctx *c, const char *const *names, struct error *err) {
    static const char *const http1[] = {"http/1.1", NULL};
    for (const char *const *n = names ? names : http1; *n; n++) {
        size_t len = strlen(*n);
        if (len == 0 || c->alpn_len + 1 + len > sizeof(c->alpn) || len > UINT8_MAX)
            return error_set(err, ERR_TOO_LARGE, "ALPN name \"%s\" does not fit", *n);
        c->alpn[c->alpn_len++] = (unsigned char)len;
        memcpy(c->alpn + c->alpn_len, *n, len);
        c->alpn_len += (unsigned)len;
    }
    SSL_CTX_set_alpn_select_cb(c->ssl, choose_alpn, c);
    return 0;
}

static int set_up_server(struct tls_ctx *c, const struct tls_server_options *o, struct error *err) {
    if (use_identity(c, o->cert_pem, o->key_pem, err) < 0 || offer_alpn(c, o->alpn, err) < 0)
        return -1;
    if (o->client_ca_pem.len == 0) {
        if (o->require_client_cert)
            return error_set(err, ERR_INVALID, "client certificates are required, but no CA for them is given");
        return 0;
    }
    if (trust(c, o->client_ca_pem, true, err) < 0)
        return error_wrap(err, "client CA");
    SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER | (o->require_client_cert ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    if (!o->require_client_cert && o->accept_unverified_client_cert)
        SSL_CTX_set_cert_verify_callback(c->ssl, verify_but_accept, NULL);
    return 0;
}

struct tls_ctx *tls_server_ctx(const struct tls_server_options *o, struct error *err) {
    struct tls_ctx *c = ctx_new(TLS_server_method());
    if (set_up_server(c, o, err) == 0)
        return c;
    tls_ctx_free(c);
    return NULL;
}

static int set_up_client(struct tls_ctx *c, const struct tls_client_options *o, struct error *err) {
    if (o->cert_pem.len > 0 && use_identity(c, o->cert_pem, o->key_pem, err) < 0)
        return -1;
    if (o->insecure_bootstrap)
        return 0; /* SSL_VERIFY_NONE is a new context's mode */
    SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
    if (o->ca_pem.len > 0 && trust(c, o->ca_pem, false, err) < 0)
        return -1;
    if ((o->ca_pem.len == 0 || o->use_system_roots) && SSL_CTX_set_default_verify_paths(c->ssl) != 1)
        return openssl_error(err, ERR_IO, "load the system's root certificates");
    return 0;
}

struct tls_ctx *tls_client_ctx(const struct tls_client_options *o, struct error *err) {
    struct tls_ctx *c = ctx_new(TLS_client_method());
    if (set_up_client(c, o, err) == 0)
        return c;
    tls_ctx_free(c);
    return NULL;
}
