/* Making requests and certificates, with the fields of wire-protocol.md 4.5. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "net/openssl_internal.h"
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum { CA_SERIAL = 1024, CA_DAYS = 100 * 364, CLOCK_SLACK_S = 300 };

/* What a new certificate says, whoever its key comes from. */
struct profile {
    const struct x509_subject *subject;
    int64_t not_before, not_after;
    uint64_t serial;
    const char *key_usage, *extended_key_usage, *basic_constraints; /* NULL: left out */
    const char *const *sans;
};

static int add_name(X509_NAME *name, const char *field, const char *value, struct error *err) {
    if (!value[0])
        return 0;
    if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1)
        return 0;
    char what[64];
    snprintf(what, sizeof(what), "subject field %s", field);
    return openssl_error(err, ERR_INVALID, what);
}

int x509_new_csr(struct bytes key_pem, const struct x509_subject *subject, struct buf *csr_der, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(key_pem, err);
    if (!key)
        return error_wrap(err, "key of the certificate request");
    _cleanup_(X509_REQ_free_p) X509_REQ *req = X509_REQ_new();
    if (!req)
        panic("OpenSSL: no memory");
    X509_NAME *name = X509_REQ_get_subject_name(req);
    /* Country, locality and province are what the original sends; no signer looks at them. */
    if (add_name(name, "C", "CN", err) < 0 || add_name(name, "O", subject->organization, err) < 0 ||
        add_name(name, "L", "Hangzhou", err) < 0 || add_name(name, "ST", "Zhejiang", err) < 0 ||
        add_name(name, "CN", subject->common_name, err) < 0)
        return -1;
    if (X509_REQ_set_version(req, 0) != 1 || X509_REQ_set_pubkey(req, key) != 1 ||
        X509_REQ_sign(req, key, EVP_sha256()) <= 0)
        return openssl_error(err, ERR_INTERNAL, "sign the certificate request");
    unsigned char *der = NULL;
    int n = i2d_X509_REQ(req, &der);
    int rc = n > 0 ? buf_add(csr_der, der, (size_t)n) : -1;
    OPENSSL_free(der);
    return rc == 0 ? 0 : error_set(err, ERR_TOO_LARGE, "the certificate request does not fit");
}

static int add_ext(X509 *x, X509V3_CTX *ctx, int nid, const char *value, struct error *err) {
    if (!value)
        return 0;
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    int ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok ? 0 : openssl_error(err, ERR_INTERNAL, OBJ_nid2ln(nid));
}

static GENERAL_NAME *san_new(const char *san) {
    GENERAL_NAME *n = GENERAL_NAME_new();
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(san);
    if (ip) {
        GENERAL_NAME_set0_value(n, GEN_IPADD, ip);
        return n;
    }
    ERR_clear_error();
    ASN1_IA5STRING *dns = ASN1_IA5STRING_new();
    ASN1_STRING_set(dns, san, -1);
    GENERAL_NAME_set0_value(n, GEN_DNS, dns);
    return n;
}

/* Built by hand and not from a text like "DNS:a,IP:b", in which a name with a comma could smuggle in another. */
static int add_sans(X509 *x, const char *const *sans, struct error *err) {
    if (!sans || !*sans)
        return 0;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    for (; *sans; sans++)
        if (**sans)
            sk_GENERAL_NAME_push(names, san_new(*sans));
    int ok = sk_GENERAL_NAME_num(names) == 0 ||
             X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok ? 0 : openssl_error(err, ERR_INTERNAL, "subject alternative names");
}

static int set_dates(X509 *x, const struct profile *p, struct error *err) {
    if (p->not_after <= p->not_before)
        return error_set(err, ERR_INVALID, "the certificate would end before it begins");
    if (!ASN1_TIME_set(X509_getm_notBefore(x), (time_t)p->not_before) ||
        !ASN1_TIME_set(X509_getm_notAfter(x), (time_t)p->not_after))
        return openssl_error(err, ERR_INVALID, "dates of the certificate");
    return 0;
}

/* issuer NULL: self-signed. */
static int make(const struct profile *p, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, struct buf *pem,
                struct error *err) {
    _cleanup_(X509_free_p) X509 *x = X509_new();
    if (!x)
        panic("OpenSSL: no memory");
    X509_NAME *subject = X509_get_subject_name(x);
    if (add_name(subject, "O", p->subject->organization, err) < 0 ||
        add_name(subject, "CN", p->subject->common_name, err) < 0 || set_dates(x, p, err) < 0)
        return -1;
    if (X509_set_version(x, X509_VERSION_3) != 1 || ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), p->serial) != 1 ||
        X509_set_pubkey(x, key) != 1 || X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject) != 1)
        return openssl_error(err, ERR_INTERNAL, "fill in the certificate");
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    if (add_ext(x, &ctx, NID_key_usage, p->key_usage, err) < 0 ||
        add_ext(x, &ctx, NID_ext_key_usage, p->extended_key_usage, err) < 0 ||
        add_ext(x, &ctx, NID_basic_constraints, p->basic_constraints, err) < 0 || add_sans(x, p->sans, err) < 0)
        return -1;
    bool has_key_id = issuer && X509_get0_subject_key_id(issuer);
    if (add_ext(x, &ctx, NID_subject_key_identifier, issuer ? NULL : "hash", err) < 0 ||
        add_ext(x, &ctx, NID_authority_key_identifier, has_key_id ? "keyid" : NULL, err) < 0)
        return -1;
    if (X509_sign(x, issuer_key, EVP_sha256()) <= 0)
        return openssl_error(err, ERR_INTERNAL, "sign the certificate");
    return x509_write_pem(x, pem, err);
}

int x509_new_ca(const char *common_name, struct bytes key_pem, struct buf *cert_pem, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(key_pem, err);
    if (!key)
        return error_wrap(err, "CA key");
    struct x509_subject subject = {.organization = ""};
    int64_t now = clock_wall_s();
    if (strlen(common_name) >= sizeof(subject.common_name))
        return error_set(err, ERR_TOO_LARGE, "the CA's name is too long");
    memcpy(subject.common_name, common_name, strlen(common_name) + 1);
    struct profile p = {
        .subject = &subject,
        .not_before = now - CLOCK_SLACK_S,
        .not_after = now + (int64_t)CA_DAYS * 86400,
        .serial = CA_SERIAL,
        .key_usage = "critical,digitalSignature,keyEncipherment,keyCertSign",
        .extended_key_usage = "serverAuth,clientAuth",
        .basic_constraints = "critical,CA:TRUE",
    };
    return make(&p, key, NULL, key, cert_pem, err);
}

static int sign(const struct x509_sign *s, EVP_PKEY *key, const struct x509_subject *subject, struct buf *cert_pem,
                struct error *err) {
    _cleanup_(X509_free_p) X509 *ca = x509_read(s->ca_cert_pem, err);
    if (!ca)
        return error_wrap(err, "CA certificate");
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *ca_key = key_read_pem(s->ca_key_pem, err);
    if (!ca_key)
        return error_wrap(err, "CA key");
    if (X509_check_private_key(ca, ca_key) != 1) {
        ERR_clear_error();
        return error_set(err, ERR_INVALID, "the CA's key does not belong to its certificate");
    }
    int64_t now = clock_wall_s();
    struct profile p = {
        .subject = subject,
        .not_before = s->not_before ? s->not_before : now - CLOCK_SLACK_S,
        .not_after = (s->not_before ? s->not_before : now) + s->lifetime_s,
        .serial = (random_u64() >> 1) | 1,
        .key_usage = "critical,digitalSignature,keyEncipherment",
        .extended_key_usage = s->server_auth && s->client_auth ? "serverAuth,clientAuth"
                              : s->server_auth                 ? "serverAuth"
                              : s->client_auth                 ? "clientAuth"
                                                               : NULL,
        .sans = s->sans,
    };
    return make(&p, key, ca, ca_key, cert_pem, err);
}

int x509_sign_csr(const struct x509_sign *s, struct bytes csr_der, const struct x509_subject *subject,
                  struct buf *cert_pem, struct error *err) {
    _cleanup_(X509_REQ_free_p) X509_REQ *req = csr_read(csr_der, err);
    if (!req)
        return error_wrap(err, "certificate request");
    return sign(s, X509_REQ_get0_pubkey(req), subject, cert_pem, err);
}

int x509_sign_key(const struct x509_sign *s, struct bytes key_pem, const struct x509_subject *subject,
                  struct buf *cert_pem, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(key_pem, err);
    if (!key)
        return error_wrap(err, "key");
    return sign(s, key, subject, cert_pem, err);
}
