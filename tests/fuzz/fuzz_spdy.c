/* However a peer's bytes are cut, the reader ends, and consumes all but what it calls bad. */
#include "base/mem.h"
#include "net/spdy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct spdy *s = spdy_new();
    size_t step = size ? (size_t)data[0] % 64 + 1 : 1;
    for (size_t at = 0; at < size; at += step) {
        struct bytes in = bytes_of(data + at, size - at < step ? size - at : step);
        struct spdy_event ev;
        do {
            ev = spdy_read(s, &in);
        } while (ev.kind != SPDY_MORE && ev.kind != SPDY_BAD);
        if (ev.kind == SPDY_BAD)
            break;
        if (in.len > 0)
            panic("bytes were left over");
    }
    spdy_free(s);
    return 0;
}
