/* WebSocket frames from a client, cut as the first byte says. */
#include "base/mem.h"
#include "net/ws_frames.h"

static unsigned read_all(struct bytes in, size_t step) {
    struct ws_reader r;
    unsigned messages = 0;
    ws_reader_init(&r, true, 1000);
    enum ws_event ev = WS_EV_MORE;
    for (size_t at = 0; at < in.len && ev != WS_EV_BAD && ev != WS_EV_CLOSE; at += step) {
        struct bytes piece = bytes_of(in.ptr + at, in.len - at < step ? in.len - at : step);
        while ((ev = ws_read(&r, &piece)) != WS_EV_MORE && ev != WS_EV_BAD && ev != WS_EV_CLOSE) {
            if (r.payload.len > 1000)
                panic("a message over the limit");
            messages += ev == WS_EV_MESSAGE;
        }
    }
    ws_reader_free(&r);
    return messages;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    struct bytes in = bytes_of(data + 1, size - 1);
    if (read_all(in, in.len + 1) != read_all(in, (size_t)data[0] + 1))
        panic("cut frames give other messages");
    return 0;
}
