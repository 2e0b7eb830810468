/* What a gRPC server may send: HTTP/2 frames, headers, trailers, messages. The first byte says how it is cut in pieces.
 */
#include "base/mem.h"
#include "cri.pb-c.h"
#include "net/grpc_wire.h"

#define CALLS 3

static struct grpc_wire *wire;

static void on_nothing(void *arg) {
}

static void on_message(void *arg, struct grpc_exchange *x, struct bytes message) {
    static const ProtobufCMessageDescriptor *const types[] = {
        &cri__container_status_response__descriptor, &cri__list_pod_sandbox_response__descriptor,
        &cri__list_container_stats_response__descriptor, &cri__container_event_response__descriptor};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        ProtobufCMessage *m = grpc_unpack(types[i], message);
        if (m)
            protobuf_c_message_free_unpacked(m, NULL);
    }
    if (message.len == 7) /* some calls are cancelled in their message */
        grpc_wire_cancel(wire, x);
}

static void on_ended(void *arg, struct grpc_exchange *x, int status, const char *text, bool untouched) {
    if (status < 0 || status > 16 || !text)
        panic("not a status: %d", status);
    grpc_exchange_clear(x);
}

static void flush(void) {
    struct bytes out = BYTES_EMPTY;
    while (grpc_wire_output(wire, &out, NULL) == 0 && out.len > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct grpc_wire_handlers handlers = {on_nothing, on_nothing, on_message, on_ended};
    struct grpc_exchange calls[CALLS] = {0};
    if (size == 0)
        return 0;
    size_t step = data[0] ? data[0] : size;
    wire = grpc_wire_new("localhost", &handlers, NULL);
    for (size_t i = 0; i < CALLS; i++) {
        calls[i].method = "/runtime.v1.RuntimeService/Version";
        calls[i].request = BYTES_LIT("\0\0\0\0\0");
        calls[i].timeout_ms = 1000;
        calls[i].max_message = 65536;
        if (grpc_wire_start(wire, &calls[i]) < 0)
            panic("a new connection takes no calls");
    }
    flush();
    for (size_t i = 1; i < size; i += step) {
        if (grpc_wire_receive(wire, bytes_of(data + i, size - i < step ? size - i : step), NULL) < 0)
            break;
        flush();
    }
    grpc_wire_free(wire);
    for (size_t i = 0; i < CALLS; i++)
        grpc_exchange_clear(&calls[i]);
    return 0;
}
