/* MQTT payloads: whatever a client publishes, rows and messages that are made of it are valid JSON. */
#include "base/mem.h"
#include "edge/devicetwin/twin.h"

static void check(struct buf *b) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(buf_bytes(b), TWIN_JSON_MAX, NULL);
    if (!doc)
        panic("this is no JSON: %s", b->ptr);
    buf_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_of(data + 1, size - 1), 1 << 20, NULL);
    if (!doc)
        return 0;
    struct twin_device *d = twin_device_new(BYTES_LIT("default/meter"));
    for (int round = 0; round < 2; round++) {
        struct buf result = BUF_INIT(TWIN_JSON_MAX), document = BUF_INIT(TWIN_JSON_MAX);
        bool changed;
        if (twin_update(d, yyjson_doc_get_root(doc), (enum twin_origin)(data[0] % 3), 1, &result, &document, &changed,
                        NULL) == 0) {
            struct buf all = BUF_INIT(TWIN_JSON_MAX), delta = BUF_INIT(TWIN_JSON_MAX), twins = BUF_INIT(TWIN_JSON_MAX),
                       report = BUF_INIT(TWIN_JSON_MAX);
            twin_write_all(d, &all);
            (void)twin_write_delta(d, &delta, &twins);
            (void)twin_write_report(d, &report);
            check(&all);
            check(&delta);
            check(&twins);
            check(&report);
            check(&result);
            check(&document);
            for (struct twin *t = d->twins; t; t = t->hh.next) {
                struct buf row = BUF_INIT(TWIN_JSON_MAX);
                twin_write_row(d, t, &row);
                check(&row);
                t->dirty = false;
            }
            twin_report_done(d, true);
        }
        buf_free(&result);
        buf_free(&document);
    }
    twin_device_free(d);
    return 0;
}
