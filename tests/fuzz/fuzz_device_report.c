/* What a node reports of a device: the status that is made of it is valid JSON. */
#include "cloud/devicecontroller/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char DEVICE[] = "{\"spec\":{\"properties\":[{\"name\":\"t\"},{\"name\":\"u\"}]}}";
    struct bytes ns, name, text = bytes_of(data, size);
    struct device_state s = {0};
    struct buf out = BUF_INIT(8 << 20);
    (void)report_parse_resource(text, &ns, &name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(text, 1 << 20, NULL),
                                            *device = json_parse(BYTES_LIT(DEVICE), 4096, NULL);
    if (!doc)
        return 0;
    for (int kind = REPORT_TWIN; kind <= REPORT_STATE; kind++)
        if (device_state_apply(&s, (enum report_kind)kind, yyjson_doc_get_root(doc), yyjson_doc_get_root(device),
                               NULL) < 0)
            continue;
    device_state_fill(&s, yyjson_doc_get_root(doc));
    (void)buf_add_char(&out, '{');
    device_state_write(&s, &out);
    (void)buf_add_char(&out, '}');
    _cleanup_(yyjson_doc_free_p) yyjson_doc *back = json_parse(buf_bytes(&out), 8 << 20, NULL);
    if (!back && !out.overflowed)
        panic("this is no JSON: %s", out.ptr);
    buf_free(&out);
    device_state_free(&s);
    return 0;
}
