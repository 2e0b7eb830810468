/* Frames and requests that are read are written back as the same. */
#include "base/mem.h"
#include "wire/tunnel.h"

static void check_request(struct bytes json) {
    struct tunnel_request r, again;
    _cleanup_(buf_free) struct buf out = BUF_INIT(4u << 20);
    if (tunnel_request_read(json, &r, NULL) < 0)
        return;
    if (tunnel_request_write(&out, 7, &r, true) < 0 || tunnel_request_read(buf_bytes(&out), &again, NULL) < 0)
        panic("a request that was read cannot be written and read again");
    if (strcmp(r.method, again.method) != 0 || strcmp(r.path, again.path) != 0 || strcmp(r.query, again.query) != 0 ||
        r.n_headers != again.n_headers)
        panic("a request changed on its way");
    tunnel_request_free(&r);
    tunnel_request_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tunnel_frame f, again;
    uint64_t window;
    _cleanup_(buf_free) struct buf out = BUF_INIT(size + TUNNEL_HEAD_MAX);
    check_request(bytes_of(data, size));
    if (tunnel_frame_read(bytes_of(data, size), &f, NULL) < 0)
        return 0;
    if (tunnel_frame_write(&out, f.id, (enum tunnel_type)f.type, f.data) < 0)
        panic("a frame that was read cannot be written");
    if (f.type <= TUNNEL_WINDOW && (tunnel_frame_read(buf_bytes(&out), &again, NULL) < 0 || again.id != f.id ||
                                    again.type != f.type || !bytes_eq(again.data, f.data)))
        panic("a frame changed on its way");
    (void)!tunnel_window_read(f.data, &window, NULL);
    check_request(f.data);
    return 0;
}
