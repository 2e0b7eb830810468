#include "wire/token.h"

#include "base/json.h"
#include "base/str.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#define JWT_HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

static int sign(struct bytes text, struct bytes key, unsigned char mac[SHA256_DIGEST_LENGTH], struct error *err) {
    unsigned n = 0;
    if (key.len == 0 || key.len > INT32_MAX)
        return error_set(err, ERR_INVALID, "join token: the CA key is empty");
    if (!HMAC(EVP_sha256(), key.ptr, (int)key.len, (const unsigned char *)text.ptr, text.len, mac, &n) ||
        n != SHA256_DIGEST_LENGTH)
        return error_set(err, ERR_INTERNAL, "join token: computing the signature failed");
    return 0;
}

static void add_ca_hash(struct bytes ca_cert_der, struct buf *out) {
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)ca_cert_der.ptr, ca_cert_der.len, hash);
    hex_encode(bytes_of(hash, sizeof(hash)), out);
}

int join_token_new(struct bytes ca_cert_der, struct bytes key_der, int64_t expires, struct buf *out,
                   struct error *err) {
    _cleanup_(buf_free_secret) struct buf jwt = BUF_INIT(JOIN_TOKEN_MAX);
    char claims[64];
    int n = snprintf(claims, sizeof(claims), "{\"exp\":%lld}", (long long)expires);
    base64url_encode(BYTES_LIT(JWT_HEADER), &jwt);
    buf_add_char(&jwt, '.');
    base64url_encode(bytes_of(claims, (size_t)n), &jwt);
    unsigned char mac[SHA256_DIGEST_LENGTH];
    if (sign(buf_bytes(&jwt), key_der, mac, err) < 0)
        return -1;
    buf_add_char(&jwt, '.');
    base64url_encode(bytes_of(mac, sizeof(mac)), &jwt);
    add_ca_hash(ca_cert_der, out);
    buf_add_char(out, '.');
    buf_add_bytes(out, buf_bytes(&jwt));
    return buf_check(out, err, "join token");
}

int join_token_check_ca(struct bytes token, struct bytes ca_cert_der, struct bytes *jwt, struct error *err) {
    struct bytes parts[4];
    token = bytes_trim(token);
    if (token.len > JOIN_TOKEN_MAX)
        return error_set(err, ERR_TOO_LARGE, "join token: %zu bytes are more than the limit of %d", token.len,
                         JOIN_TOKEN_MAX);
    size_t n = bytes_split(token, '.', parts, 4);
    if (n != 4)
        return error_set(err, ERR_INVALID, "join token: it has %zu parts instead of 4; take it from keadm gettoken", n);
    _cleanup_(buf_free) struct buf hash = BUF_INIT(2 * SHA256_DIGEST_LENGTH);
    add_ca_hash(ca_cert_der, &hash);
    if (parts[0].len != hash.len || CRYPTO_memcmp(parts[0].ptr, hash.ptr, hash.len) != 0)
        return error_set(err, ERR_DENIED,
                         "join token: it was made for another CA than the one this cloud presents; check the cloud's "
                         "address, or take a new token");
    *jwt = bytes_of(parts[1].ptr, token.len - parts[0].len - 1);
    return 0;
}

/* One base64url part as a JSON object, or NULL. */
static yyjson_doc *decode_part(struct bytes part, const char *what, struct error *err) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(JOIN_TOKEN_MAX);
    if (base64url_decode(part, &text) < 0) {
        error_set(err, ERR_INVALID, "token is malformed: could not base64 decode %s", what);
        return NULL;
    }
    yyjson_doc *doc = json_parse(buf_bytes(&text), JOIN_TOKEN_MAX, NULL);
    if (yyjson_is_obj(yyjson_doc_get_root(doc)))
        return doc;
    yyjson_doc_free(doc);
    error_set(err, ERR_INVALID, "token is malformed: could not JSON decode %s", what);
    return NULL;
}

static int check_signature(struct bytes signed_part, struct bytes signature, struct bytes key_der, struct error *err) {
    _cleanup_(buf_free) struct buf given = BUF_INIT(JOIN_TOKEN_MAX);
    if (base64url_decode(signature, &given) < 0)
        return error_set(err, ERR_INVALID, "token is malformed: could not base64 decode signature");
    unsigned char mac[SHA256_DIGEST_LENGTH];
    if (sign(signed_part, key_der, mac, err) < 0)
        return -1;
    if (given.len != sizeof(mac) || CRYPTO_memcmp(given.ptr, mac, sizeof(mac)) != 0)
        return error_set(err, ERR_DENIED, "token signature is invalid: signature is invalid");
    return 0;
}

static int check_expiry(yyjson_val *claims, int64_t now, struct error *err) {
    yyjson_val *exp = json_get(claims, "exp");
    if (!exp)
        return error_set(err, ERR_DENIED, "token has invalid claims: exp claim is required");
    if (!yyjson_is_num(exp))
        return error_set(err, ERR_DENIED, "token has invalid claims: exp is not a number");
    bool valid = yyjson_is_int(exp) ? now < json_int_or(exp, INT64_MAX) : (double)now < yyjson_get_real(exp);
    return valid ? 0 : error_set(err, ERR_EXPIRED, "token has invalid claims: token is expired");
}

int join_token_verify(struct bytes jwt, struct bytes key_der, int64_t now, struct error *err) {
    struct bytes parts[3];
    if (jwt.len > JOIN_TOKEN_MAX)
        return error_set(err, ERR_INVALID, "token is malformed: it is too long");
    if (bytes_split(jwt, '.', parts, 3) != 3)
        return error_set(err, ERR_INVALID, "token is malformed: token contains an invalid number of segments");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *header = decode_part(parts[0], "header", err);
    if (!header)
        return -1;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *claims = decode_part(parts[1], "claim", err);
    if (!claims)
        return -1;
    if (!str_eq(json_str(yyjson_doc_get_root(header), "alg"), "HS256"))
        return error_set(err, ERR_DENIED, "token signature is invalid: only the signing method HS256 is accepted");
    struct bytes signed_part = bytes_of(jwt.ptr, parts[0].len + 1 + parts[1].len);
    if (check_signature(signed_part, parts[2], key_der, err) < 0)
        return -1;
    return check_expiry(yyjson_doc_get_root(claims), now, err);
}
