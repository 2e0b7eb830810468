/* Kubernetes protobuf bodies, and pruning of what they give. */
#include "kube/schema.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const kinds[][2] = {
        {"v1", "Pod"}, {"v1", "Secret"}, {"apiextensions.k8s.io/v1", "CustomResourceDefinition"}, {"v1", "Event"}};
    if (size < 1)
        return 0;
    struct buf body = BUF_INIT(1 << 20);
    if (data[0] & 0x80) { /* a whole body */
        buf_add(&body, data + 1, size - 1);
    } else { /* only the object, so that the fuzzer gets past the envelope at once */
        const char *const *kind = kinds[data[0] % 4];
        size_t version = strlen(kind[0]), name = strlen(kind[1]), n = size - 1;
        buf_add(&body, "k8s\0\x0a", 5);
        buf_add_char(&body, (char)(version + name + 4));
        buf_addf(&body, "\x0a%c%s\x12%c%s", (char)version, kind[0], (char)name, kind[1]);
        buf_add_char(&body, 0x12);
        for (; n >= 0x80; n >>= 7)
            buf_add_char(&body, (char)(n | 0x80));
        buf_add_char(&body, (char)n);
        buf_add(&body, data + 1, size - 1);
    }
    yyjson_mut_doc *doc = NULL;
    struct error err = ERROR_INIT;
    if (!body.overflowed && schema_decode_protobuf(buf_bytes(&body), &doc, &err) == 0) {
        char *text = json_write_mut(yyjson_mut_doc_get_root(doc), NULL);
        if (!text) /* what was decoded must be writable: valid UTF-8, finite numbers */
            abort();
        free(text);
        yyjson_doc *copy = yyjson_mut_doc_imut_copy(doc, NULL);
        yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *pruned = schema_prune(d, schema_find("", "v1", "Pod"), yyjson_doc_get_root(copy), NULL, &err);
        (void)pruned;
        yyjson_mut_doc_free(d);
        yyjson_doc_free(copy);
        yyjson_mut_doc_free(doc);
    }
    buf_free(&body);
    return 0;
}
