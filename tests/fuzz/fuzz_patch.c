/* Input: a byte that chooses the patch kind and the type, then two JSON texts divided by a NUL. What comes out must be
 * JSON of bounded depth; a diff applied must give what it was made for. */
#include "kube/patch.h"

#include <stdlib.h>

static void check_diff(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *from, yyjson_val *to) {
    yyjson_mut_val *patch = NULL;
    struct error err = ERROR_INIT;
    if (patch_diff_strategic(d, t, from, to, &patch, &err) < 0 || !patch)
        return;
    yyjson_doc *p = yyjson_mut_val_imut_copy(patch, NULL);
    if (!patch_strategic(d, t, from, yyjson_doc_get_root(p), &err) && err.code != ERR_INVALID &&
        err.code != ERR_UNSUPPORTED && err.code != ERR_TOO_LARGE)
        abort();
    yyjson_doc_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const types[] = {"Pod", "Node", "ConfigMap", "Secret"};
    const uint8_t *cut = size > 1 ? memchr(data + 1, 0, size - 1) : NULL;
    if (!cut)
        return 0;
    const struct schema_type *t = schema_find("", "v1", types[data[0] / 4 % 4]);
    yyjson_doc *a = json_parse(bytes_of(data + 1, (size_t)(cut - data - 1)), 1 << 20, NULL);
    yyjson_doc *b = json_parse(bytes_of(cut + 1, (size_t)(data + size - cut - 1)), 1 << 20, NULL);
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    if (a && b) {
        yyjson_val *target = yyjson_doc_get_root(a), *patch = yyjson_doc_get_root(b);
        yyjson_mut_val *out = NULL;
        switch (data[0] % 4) {
        case 0:
            out = patch_json(d, target, patch, &err);
            break;
        case 1:
            out = patch_merge(d, target, patch, &err);
            break;
        case 2:
            out = patch_strategic(d, t, target, patch, &err);
            break;
        default:
            check_diff(d, t, target, patch);
        }
        if (out)
            free(json_write_mut(out, NULL));
    }
    yyjson_mut_doc_free(d);
    yyjson_doc_free(a);
    yyjson_doc_free(b);
    return 0;
}
