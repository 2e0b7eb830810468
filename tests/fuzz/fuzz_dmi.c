/* DMI: what mappers send (bytes of an HTTP/2 connection, or a report by itself), and the configData of Devices that is
 * packed for them. */
#include "base/mem.h"
#include "edge/dmi/convert.h"
#include "net/grpc_serve.h"
#include "net/grpc_wire.h"

static void handle(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    Dmi__ReportDeviceStatusResponse a = DMI__REPORT_DEVICE_STATUS_RESPONSE__INIT;
    grpc_reply(r, &a.base);
}

static void answered(void *arg) {
}

static void connection(struct bytes in) {
    static const struct grpc_method methods[] = {{"/a/B", &dmi__report_device_status_request__descriptor, handle}};
    const struct grpc_serve_options o = {
        .methods = methods, .n_methods = 1, .max_message = 65536, .answered = answered};
    struct grpc_serve *s = grpc_serve_new(&o);
    struct bytes out;
    if (grpc_serve_receive(s, in, NULL) == 0)
        while (grpc_serve_output(s, &out, NULL) == 0 && out.len > 0)
            ;
    grpc_serve_free(s);
}

static void report(struct bytes in) {
    ProtobufCMessage *m = grpc_unpack(&dmi__report_device_status_request__descriptor, in);
    struct buf out = BUF_INIT(4 << 20);
    if (m && dmi_report_json((const Dmi__ReportDeviceStatusRequest *)m, &out, NULL) == 0) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(buf_bytes(&out), 4 << 20, NULL);
        if (!doc)
            panic("this is no JSON: %s", out.ptr);
    }
    buf_free(&out);
    if (m)
        protobuf_c_message_free_unpacked(m, NULL);
}

static void device(struct bytes in) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(in, 1 << 20, NULL);
    yyjson_val *root = yyjson_doc_get_root(doc);
    Dmi__Device *d = doc ? dmi_device(root, json_get(root, "model"), NULL) : NULL;
    if (doc)
        protobuf_c_message_free_unpacked(&dmi_model(root)->base, NULL);
    if (!d)
        return;
    size_t n = protobuf_c_message_get_packed_size(&d->base);
    _cleanup_(free_p) uint8_t *packed = xmalloc(n + 1);
    protobuf_c_message_pack(&d->base, packed);
    protobuf_c_message_free_unpacked(&d->base, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    struct bytes in = bytes_of(data + 1, size - 1);
    if (data[0] % 3 == 0)
        connection(in);
    else if (data[0] % 3 == 1)
        report(in);
    else
        device(in);
    return 0;
}
