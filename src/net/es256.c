#include "net/es256.h"

#include "net/openssl_internal.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>

#define DER_MAX 128

struct es256_key {
    EVP_PKEY *key;
    unsigned char x[32], y[32];
};

DEFINE_CLEANUP(ECDSA_SIG, ECDSA_SIG_free)
DEFINE_CLEANUP(EVP_MD_CTX, EVP_MD_CTX_free)

static int read_coordinate(EVP_PKEY *key, const char *which, unsigned char out[32]) {
    BIGNUM *n = NULL;
    int rc = EVP_PKEY_get_bn_param(key, which, &n) == 1 && BN_bn2binpad(n, out, 32) == 32 ? 0 : -1;
    BN_free(n);
    return rc;
}

struct es256_key *es256_key_new(struct bytes key_pem, struct error *err) {
    _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = key_read_pem(key_pem, err);
    if (!key)
        return NULL;
    struct es256_key *k = NEW(struct es256_key);
    if (EVP_PKEY_get_bits(key) != 256 || read_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, k->x) < 0 ||
        read_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, k->y) < 0) {
        ERR_clear_error();
        free(k);
        error_set(err, ERR_INVALID, "the key is not an elliptic curve key on P-256");
        return NULL;
    }
    k->key = TAKE(key);
    return k;
}

void es256_key_free(struct es256_key *k) {
    if (!k)
        return;
    EVP_PKEY_free(k->key);
    free(k);
}

int es256_sign(const struct es256_key *k, struct bytes text, unsigned char out[ES256_SIZE], struct error *err) {
    unsigned char der[DER_MAX];
    const unsigned char *p = der;
    size_t len = sizeof(der);
    _cleanup_(EVP_MD_CTX_free_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, k->key) != 1 ||
        EVP_DigestSign(ctx, der, &len, (const unsigned char *)text.ptr, text.len) != 1)
        return openssl_error(err, ERR_INTERNAL, "sign");
    _cleanup_(ECDSA_SIG_free_p) ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
    if (!sig || BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32) != 32 ||
        BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32) != 32)
        return openssl_error(err, ERR_INTERNAL, "signature");
    return 0;
}

bool es256_verify(const struct es256_key *k, struct bytes text, struct bytes signature) {
    unsigned char der[DER_MAX], *p = der;
    if (signature.len != ES256_SIZE)
        return false;
    const unsigned char *raw = (const unsigned char *)signature.ptr;
    _cleanup_(ECDSA_SIG_free_p) ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, 32, NULL), *s = BN_bin2bn(raw + 32, 32, NULL);
    if (!sig || !r || !s || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        return false;
    }
    int len = i2d_ECDSA_SIG(sig, &p);
    _cleanup_(EVP_MD_CTX_free_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = len > 0 && ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, k->key) == 1 &&
                EVP_DigestVerify(ctx, der, (size_t)len, (const unsigned char *)text.ptr, text.len) == 1;
    ERR_clear_error();
    return good;
}

void es256_point(const struct es256_key *k, unsigned char x[32], unsigned char y[32]) {
    memcpy(x, k->x, 32);
    memcpy(y, k->y, 32);
}

int es256_public_der(const struct es256_key *k, struct buf *out, struct error *err) {
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(k->key, &der);
    if (len <= 0)
        return openssl_error(err, ERR_INTERNAL, "public key");
    int rc = buf_add(out, der, (size_t)len);
    OPENSSL_free(der);
    return rc < 0 ? error_set(err, ERR_TOO_LARGE, "public key") : 0;
}
