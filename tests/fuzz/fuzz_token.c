/* No text that was not signed passes, whatever its parts hold. */
#include "base/mem.h"
#include "wire/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes text = bytes_of(data, size), jwt;
    struct error err = ERROR_INIT;
    /* one key that the seed corpus is signed with, so that the claims are reached as well */
    struct bytes key = BYTES_LIT("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
                                 "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f");
    if (join_token_check_ca(text, BYTES_LIT("\x30\x03\x02\x01\x2a"), &jwt, &err) == 0)
        text = jwt;
    if (join_token_verify(text, key, INT64_MAX, &err) == 0)
        panic("an expired token passed");
    if (join_token_verify(text, BYTES_LIT("a key that signed nothing"), 0, &err) == 0)
        panic("an unsigned token passed");
    return 0;
}
