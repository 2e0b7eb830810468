/* Any JSON as an object of a kind: decoded, defaulted, validated and printed; and any JSON as a CRD that is then
 * served. */
#include "apiserver/defaults.h"
#include "apiserver/openapi.h"
#include "apiserver/table.h"
#include "apiserver/validate.h"

#include <stdlib.h>

static void walk(const struct kind *k, yyjson_val *body) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct field_errors errors = {0};
    struct strlist unknown = {0}, warnings = {0};
    struct buf out = BUF_INIT(16 << 20);
    struct error err = ERROR_INIT;
    yyjson_mut_val *o = kind_decode(k, d, body, &unknown, &err);
    if (o) {
        defaults_apply(k, d, o);
        defaults_create(k, d, o);
        yyjson_doc *doc = yyjson_mut_val_imut_copy(o, NULL);
        validate_create(k, yyjson_doc_get_root(doc), &errors, &warnings);
        validate_update(k, "", yyjson_doc_get_root(doc), body, &errors, &warnings);
        table_row(&out, k, yyjson_doc_get_root(doc), TABLE_METADATA, 1767323045, true);
        yyjson_doc_free(doc);
    }
    table_row(&out, k, body, TABLE_OBJECT, 1767323045, true);
    buf_free(&out);
    strlist_free(&unknown);
    strlist_free(&warnings);
    field_errors_free(&errors);
    yyjson_mut_doc_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    struct kinds *ks = kinds_new();
    yyjson_doc *doc = json_parse(bytes_of(data + 1, size - 1), 1 << 20, NULL);
    if (doc) {
        yyjson_val *root = yyjson_doc_get_root(doc);
        struct error err = ERROR_INIT;
        walk(kinds_at(ks, data[0] % kinds_count(ks)), root);
        if (kinds_put_crd(ks, root, &err) == 0) {
            struct buf out = BUF_INIT(16 << 20);
            const struct kind *custom = kinds_at(ks, kinds_count(ks) - 1);
            walk(custom, root);
            if (openapi_v3(ks, BYTES_LIT("/openapi/v3"), &out, &err) < 0)
                abort();
            buf_free(&out);
        }
    }
    yyjson_doc_free(doc);
    kinds_free(ks);
    return 0;
}
