/* Reading keys, certificates and requests, and verifying them. Making them is in x509_sign.c. */
#include "base/mem.h"
#include "net/openssl_internal.h"
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

/* No key, request or CA bundle of ours is larger. */
enum { MAX_PEM_SIZE = 4 << 20, MAX_CSR_SIZE = 64 << 10, MIN_SECURITY_BITS = 112 };

static BIO *reader(struct bytes in, struct error *err) {
    if (in.len == 0 || in.len > MAX_PEM_SIZE) {
        error_set(err, in.len ? ERR_TOO_LARGE : ERR_INVALID, in.len ? "larger than 4 MiB" : "empty");
        return NULL;
    }
    BIO *b = BIO_new_mem_buf(in.ptr, (int)in.len);
    if (!b)
        panic("OpenSSL: no memory");
    return b;
}

static int no_password(char *buf, int size, int rwflag, void *arg) {
    return -1; /* encrypted PEM is refused, never asked about on the terminal */
}

STACK_OF(X509) * x509_read_pem(struct bytes pem, struct error *err) {
    _cleanup_(BIO_free_all_p) BIO *in = reader(pem, err);
    if (!in)
        return NULL;
    STACK_OF(X509) *list = sk_X509_new_null();
    for (X509 *x; (x = PEM_read_bio_X509(in, NULL, no_password, NULL));)
        sk_X509_push(list, x);
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (at_end && sk_X509_num(list) > 0) {
        ERR_clear_error();
        return list;
    }
    if (at_end) {
        ERR_clear_error();
        error_set(err, ERR_INVALID, "no PEM block \"CERTIFICATE\" in it");
    } else {
        openssl_error(err, ERR_INVALID, "not a PEM certificate");
    }
    sk_X509_pop_free(list, X509_free);
    return NULL;
}

static X509 *x509_read_der(struct bytes der, struct error *err) {
    const unsigned char *p = (const unsigned char *)der.ptr;
    X509 *x = der.len && der.len <= MAX_PEM_SIZE ? d2i_X509(NULL, &p, (long)der.len) : NULL;
    if (x && p == (const unsigned char *)der.ptr + der.len)
        return x;
    X509_free(x);
    openssl_error(err, ERR_INVALID, "not a DER certificate");
    return NULL;
}

X509 *x509_read(struct bytes in, struct error *err) {
    if (in.len > 0 && in.ptr[0] == 0x30) /* ASN.1 SEQUENCE */
        return x509_read_der(in, err);
    STACK_OF(X509) *list = x509_read_pem(in, err);
    X509 *x = list ? sk_X509_shift(list) : NULL;
    X509_stack_free_p(&list);
    return x;
}

EVP_PKEY *key_read_pem(struct bytes pem, struct error *err) {
    _cleanup_(BIO_free_all_p) BIO *in = reader(pem, err);
    if (!in)
        return NULL;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
    if (!key)
        openssl_error(err, ERR_INVALID, "not a PEM private key");
    ERR_clear_error();
    return key;
}

static EVP_PKEY *key_read_der(struct bytes der, struct error *err) {
    const unsigned char *p = (const unsigned char *)der.ptr;
    EVP_PKEY *key = der.len && der.len <= MAX_PEM_SIZE ? d2i_AutoPrivateKey(NULL, &p, (long)der.len) : NULL;
    if (!key)
        openssl_error(err, ERR_INVALID, "not a DER private key");
    ERR_clear_error();
    return key;
}

/* Moves what was written to a memory BIO into out. */
static int drain(BIO *from, struct buf *out, struct error *err) {
    char *p = NULL;
    long n = BIO_get_mem_data(from, &p);
    if (n < 0 || buf_add(out, p, (size_t)n) < 0)
        return error_set(err, ERR_TOO_LARGE, "the encoded form does not fit");
    return 0;
}

/* A memory BIO whose memory is wiped when it is freed: keys pass through it. */
static BIO *writer(void) {
    BIO *b = BIO_new(BIO_s_secmem());
    if (!b)
        panic("OpenSSL: no memory");
    return b;
}

int x509_write_pem(X509 *x, struct buf *out, struct error *err) {
    _cleanup_(BIO_free_all_p) BIO *b = writer();
    if (PEM_write_bio_X509(b, x) != 1)
        return openssl_error(err, ERR_INTERNAL, "encode the certificate");
    return drain(b, out, err);
}

static int key_write_pem(EVP_PKEY *key, struct buf *out, struct error *err) {
    _cleanup_(BIO_free_all_p) BIO *b = writer();
    if (PEM_write_bio_PrivateKey_traditional(b, key, NULL, NULL, 0, NULL, NULL) != 1)
        return openssl_error(err, ERR_INTERNAL, "encode the key");
    return drain(b, out, err);
}

int x509_new_key(struct buf *key_pem, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key)
        return openssl_error(err, ERR_INTERNAL, "make a P-256 key");
    return key_write_pem(key, key_pem, err);
}

int x509_key_pem_to_der(struct bytes pem, struct buf *sec1_der, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(pem, err);
    if (!key)
        return -1;
    _cleanup_(BIO_free_all_p) BIO *b = writer();
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return error_set(err, ERR_UNSUPPORTED, "not an elliptic curve key, which alone has the SEC 1 form");
    if (i2d_PrivateKey_bio(b, key) != 1)
        return openssl_error(err, ERR_INTERNAL, "encode the key");
    return drain(b, sec1_der, err);
}

int x509_key_der_to_pem(struct bytes der, struct buf *pem, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_der(der, err);
    return key ? key_write_pem(key, pem, err) : -1;
}

int x509_cert_pem_to_der(struct bytes pem, struct buf *der, struct error *err) {
    _cleanup_(X509_stack_free_p) STACK_OF(X509) *list = x509_read_pem(pem, err);
    if (!list)
        return -1;
    _cleanup_(BIO_free_all_p) BIO *b = writer();
    if (i2d_X509_bio(b, sk_X509_value(list, 0)) != 1)
        return openssl_error(err, ERR_INTERNAL, "encode the certificate");
    return drain(b, der, err);
}

int x509_cert_der_to_pem(struct bytes der, struct buf *pem, struct error *err) {
    _cleanup_(X509_free_p) X509 *x = x509_read_der(der, err);
    return x ? x509_write_pem(x, pem, err) : -1;
}

/* ---- what they say ---- */

static int copy_name_entry(const X509_NAME *name, int at, char *out, size_t size, struct error *err) {
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    int rc = 0;
    if (n < 0)
        rc = openssl_error(err, ERR_INVALID, "subject");
    else if ((size_t)n >= size || memchr(utf8, 0, (size_t)n))
        rc = error_set(err, ERR_INVALID, "a name in the subject is too long, or has a NUL in it");
    else
        memcpy(out, utf8, (size_t)n), out[n] = '\0';
    OPENSSL_free(utf8);
    return rc;
}

static int copy_other_organizations(const X509_NAME *name, int org, struct x509_subject *out, struct error *err) {
    size_t len = 0;
    while ((org = X509_NAME_get_index_by_NID((X509_NAME *)name, NID_organizationName, org)) >= 0) {
        char one[sizeof(out->organization)];
        if (copy_name_entry(name, org, one, sizeof(one), err) < 0)
            return -1;
        size_t n = strlen(one);
        if (strchr(one, '\n') || len + n + 2 > sizeof(out->other_organizations))
            return error_set(err, ERR_INVALID, "the subject has too many organizations");
        if (len > 0)
            out->other_organizations[len++] = '\n';
        memcpy(out->other_organizations + len, one, n + 1);
        len += n;
    }
    return 0;
}

int x509_read_name(const X509_NAME *name, struct x509_subject *out, struct error *err) {
    memset(out, 0, sizeof(*out));
    int cn = X509_NAME_get_index_by_NID((X509_NAME *)name, NID_commonName, -1);
    int org = X509_NAME_get_index_by_NID((X509_NAME *)name, NID_organizationName, -1);
    if (cn >= 0 && X509_NAME_get_index_by_NID((X509_NAME *)name, NID_commonName, cn) >= 0)
        return error_set(err, ERR_INVALID, "the subject has more than one common name");
    if (cn >= 0 && copy_name_entry(name, cn, out->common_name, sizeof(out->common_name), err) < 0)
        return -1;
    if (org >= 0 && copy_name_entry(name, org, out->organization, sizeof(out->organization), err) < 0)
        return -1;
    return org >= 0 ? copy_other_organizations(name, org, out, err) : 0;
}

static int64_t unix_time(const ASN1_TIME *t) {
    _cleanup_(ASN1_TIME_free_p) ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int days = 0, seconds = 0;
    if (!epoch || !t || ASN1_TIME_diff(&days, &seconds, epoch, t) != 1)
        return 0;
    return (int64_t)days * 86400 + seconds;
}

int x509_cert_info(struct bytes pem_or_der, struct x509_info *out, struct error *err) {
    _cleanup_(X509_free_p) X509 *x = x509_read(pem_or_der, err);
    if (!x || x509_read_name(X509_get_subject_name(x), &out->subject, err) < 0)
        return -1;
    out->not_before = unix_time(X509_get0_notBefore(x));
    out->not_after = unix_time(X509_get0_notAfter(x));
    out->is_ca = X509_check_ca(x) == 1;
    return 0;
}

int x509_check_pair(struct bytes cert_pem, struct bytes key_pem, struct error *err) {
    _cleanup_(X509_stack_free_p) STACK_OF(X509) *chain = x509_read_pem(cert_pem, err);
    if (!chain)
        return error_wrap(err, "certificate");
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(key_pem, err);
    if (!key)
        return error_wrap(err, "key");
    if (X509_check_private_key(sk_X509_value(chain, 0), key) != 1) {
        ERR_clear_error();
        return error_set(err, ERR_INVALID, "the key does not belong to the certificate");
    }
    return 0;
}

X509_REQ *csr_read(struct bytes der, struct error *err) {
    const unsigned char *p = (const unsigned char *)der.ptr;
    if (der.len == 0 || der.len > MAX_CSR_SIZE) {
        error_set(err, ERR_INVALID, "the request is empty or larger than 64 KiB");
        return NULL;
    }
    _cleanup_(X509_REQ_free_p) X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)der.len);
    if (!req || p != (const unsigned char *)der.ptr + der.len) {
        openssl_error(err, ERR_INVALID, "not a PKCS#10 request in DER");
        return NULL;
    }
    EVP_PKEY *key = X509_REQ_get0_pubkey(req);
    if (!key || EVP_PKEY_get_security_bits(key) < MIN_SECURITY_BITS) {
        ERR_clear_error();
        error_set(err, ERR_INVALID, "the request's key is of an unknown kind or too weak");
        return NULL;
    }
    if (X509_REQ_verify(req, key) != 1) {
        ERR_clear_error();
        error_set(err, ERR_DENIED, "the request is not signed with its own key");
        return NULL;
    }
    return TAKE(req);
}

int x509_csr_subject(struct bytes csr_der, struct x509_subject *out, struct error *err) {
    _cleanup_(X509_REQ_free_p) X509_REQ *req = csr_read(csr_der, err);
    if (!req)
        return -1;
    return x509_read_name(X509_REQ_get_subject_name(req), out, err);
}

static bool san_matches(const GENERAL_NAME *n, const char *want, const ASN1_OCTET_STRING *want_ip) {
    if (want_ip)
        return n->type == GEN_IPADD && ASN1_OCTET_STRING_cmp(n->d.iPAddress, want_ip) == 0;
    if (n->type != GEN_DNS)
        return false;
    int len = ASN1_STRING_length(n->d.dNSName);
    return len >= 0 && bytes_eq_str(bytes_of(ASN1_STRING_get0_data(n->d.dNSName), (size_t)len), want);
}

bool x509_has_sans(struct bytes cert_pem, const char *const *sans) {
    _cleanup_(X509_free_p) X509 *x = x509_read(cert_pem, NULL);
    if (!x)
        return false;
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool all = true;
    for (; sans && *sans && all; sans++) {
        ASN1_OCTET_STRING *ip = a2i_IPADDRESS(*sans);
        bool found = false;
        for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++)
            found = san_matches(sk_GENERAL_NAME_value(names, i), *sans, ip);
        ASN1_OCTET_STRING_free(ip);
        all = found;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return all;
}

/* ---- verification ---- */

int x509_verify_client(struct bytes cert_pem_or_der, struct bytes ca_pem, struct error *err) {
    _cleanup_(X509_free_p) X509 *x = x509_read(cert_pem_or_der, err);
    if (!x)
        return -1;
    _cleanup_(X509_stack_free_p) STACK_OF(X509) *cas = x509_read_pem(ca_pem, err);
    if (!cas)
        return error_wrap(err, "CA certificates");
    _cleanup_(X509_STORE_free_p) X509_STORE *store = X509_STORE_new();
    _cleanup_(X509_STORE_CTX_free_p) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    for (int i = 0; i < sk_X509_num(cas); i++)
        X509_STORE_add_cert(store, sk_X509_value(cas, i));
    if (!ctx || X509_STORE_CTX_init(ctx, store, x, NULL) != 1)
        return openssl_error(err, ERR_INTERNAL, "verify the certificate");
    X509_STORE_CTX_set_default(ctx, "ssl_client"); /* the clientAuth purpose */
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    int ok = X509_verify_cert(ctx);
    int why = X509_STORE_CTX_get_error(ctx);
    ERR_clear_error();
    if (ok == 1)
        return 0;
    return error_set(err, why == X509_V_ERR_CERT_HAS_EXPIRED ? ERR_EXPIRED : ERR_DENIED,
                     "the certificate is not acceptable: %s", X509_verify_cert_error_string(why));
}
