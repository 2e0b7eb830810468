#include "base/mem.h"
#include "net/tls.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

int sha256(struct bytes in, unsigned char out[32]) {
    if (EVP_Digest(in.ptr, in.len, out, NULL, EVP_sha256(), NULL) != 1)
        panic("OpenSSL has no SHA-256");
    return 0;
}

int hmac_sha256(struct bytes key, struct bytes in, unsigned char out[32]) {
    if (key.len > INT_MAX)
        return -1;
    if (!HMAC(EVP_sha256(), key.len ? key.ptr : "", (int)key.len, (const unsigned char *)in.ptr, in.len, out, NULL))
        panic("OpenSSL has no HMAC-SHA-256");
    return 0;
}

bool secret_equal(struct bytes a, struct bytes b) {
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}
