/* TLS contexts and X.509 on OpenSSL 3. Verification is always on; TLS 1.2 is the minimum.
 *
 * Certificates and keys: PEM files or DER/PEM bytes. Keys are P-256 throughout (wire-protocol.md 4.5). */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct tls_ctx;

struct tls_server_options {
    struct bytes cert_pem; /* the chain, leaf first */
    struct bytes key_pem;
    struct bytes client_ca_pem; /* empty: client certificates are not asked for */
    bool require_client_cert;   /* else asked for, and verified if sent: a certificate that fails ends the handshake */
    bool accept_unverified_client_cert; /* with !require: a bad one is kept, and shown by stream_peer as not verified */
    const char *const *alpn;            /* NULL-terminated, or NULL: only http/1.1 */
};
struct tls_client_options {
    struct bytes ca_pem;            /* trusted roots; empty: the system's */
    struct bytes cert_pem, key_pem; /* our identity; empty: none */
    bool use_system_roots;          /* in addition to ca_pem */
    /* Only for fetching /ca.crt, whose bytes are then checked against the token's hash (wire-protocol.md 6.2), and for
     * HTTPS probes of pods, where there is nobody to trust. */
    bool insecure_bootstrap;
};

struct tls_ctx *tls_server_ctx(const struct tls_server_options *o, struct error *err) MUST_CHECK;
struct tls_ctx *tls_client_ctx(const struct tls_client_options *o, struct error *err) MUST_CHECK;
struct tls_ctx *tls_ctx_ref(struct tls_ctx *c);
void tls_ctx_free(struct tls_ctx *c); /* drops a reference; connections keep theirs */
void *tls_ctx_ssl(struct tls_ctx *c); /* the SSL_CTX, for net/ */

/* ---- keys, requests, certificates. Owned results; PEM unless the name says DER. ---- */

struct x509_subject {
    char common_name[256];
    char organization[256];        /* the first one, "" if none */
    char other_organizations[512]; /* the others, one on each line */
};
struct x509_info {
    struct x509_subject subject;
    int64_t not_before, not_after; /* Unix seconds */
    bool is_ca;
};

int x509_new_key(struct buf *key_pem, struct error *err) MUST_CHECK; /* P-256, SEC 1 "EC PRIVATE KEY" */
int x509_key_pem_to_der(struct bytes pem, struct buf *sec1_der, struct error *err) MUST_CHECK;
int x509_key_der_to_pem(struct bytes sec1_der, struct buf *pem,
                        struct error *err) MUST_CHECK; /* PKCS#8 DER is understood too */
int x509_cert_pem_to_der(struct bytes pem, struct buf *der, struct error *err) MUST_CHECK; /* the first certificate */
int x509_cert_der_to_pem(struct bytes der, struct buf *pem, struct error *err) MUST_CHECK;
int x509_cert_info(struct bytes pem_or_der, struct x509_info *out, struct error *err) MUST_CHECK;
/* Does the certificate belong to the key? */
int x509_check_pair(struct bytes cert_pem, struct bytes key_pem, struct error *err) MUST_CHECK;

/* PKCS#10, signed by key_pem. locality and the like as the original sends them are added (wire-protocol.md 4.5). */
int x509_new_csr(struct bytes key_pem, const struct x509_subject *subject, struct buf *csr_der,
                 struct error *err) MUST_CHECK;
/* Parses a request and verifies its own signature. */
int x509_csr_subject(struct bytes csr_der, struct x509_subject *out, struct error *err) MUST_CHECK;

/* Self-signed CA: CN given, 100 x 364 days, as wire-protocol.md 4.5. */
int x509_new_ca(const char *common_name, struct bytes key_pem, struct buf *cert_pem, struct error *err) MUST_CHECK;

struct x509_sign {
    struct bytes ca_cert_pem, ca_key_pem;
    int64_t not_before; /* Unix seconds; 0 = now minus 5 minutes, so that a slow edge clock does not refuse it */
    int64_t lifetime_s;
    bool server_auth, client_auth; /* extended key usage */
    /* NULL-terminated, each an IP address or a DNS name; may be NULL */
    const char *const *sans;
};
/* A certificate for the public key of csr_der, with the given subject (the CSR's own is not trusted). */
int x509_sign_csr(const struct x509_sign *s, struct bytes csr_der, const struct x509_subject *subject,
                  struct buf *cert_pem, struct error *err) MUST_CHECK;
/* A certificate for a key that we hold. */
int x509_sign_key(const struct x509_sign *s, struct bytes key_pem, const struct x509_subject *subject,
                  struct buf *cert_pem, struct error *err) MUST_CHECK;
/* Does the certificate carry all these SANs? */
bool x509_has_sans(struct bytes cert_pem, const char *const *sans);
/* Chain to one of the CAs, within its dates, and good for clientAuth (a certificate that names extended key usages must
 * name that one: the same rule as in the handshake). ERR_EXPIRED, or ERR_DENIED. */
int x509_verify_client(struct bytes cert_pem_or_der, struct bytes ca_pem, struct error *err) MUST_CHECK;

int sha256(struct bytes in, unsigned char out[32]);
int hmac_sha256(struct bytes key, struct bytes in, unsigned char out[32]);
bool secret_equal(struct bytes a, struct bytes b); /* constant time for equal lengths */
