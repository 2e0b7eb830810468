/* Input: a byte that chooses the schema, then up to four JSON texts divided by NULs: an object, what is applied to it,
 * stored owners, managedFields. What is owned must survive being stored and being written, and an apply must be settled
 * by itself: a second one changes nothing. */
#include "kube/apply.h"

#include "base/str.h"

#include <stdlib.h>

static struct topology topology_of(uint8_t choice) {
    static const char *const types[] = {"Pod", "Node", "ConfigMap"};
    if (choice % 4 < 3)
        return topology_builtin(schema_find("", "v1", types[choice % 4]));
    return topology_custom(NULL);
}

static void check_round_trip(const struct ownership *o, const struct field_tree *tree) {
    struct buf stored = BUF_INIT(8 << 20), text = BUF_INIT(64 << 20);
    struct ownership again, read;
    ownership_store(o, tree, &stored);
    ownership_load(&again, buf_bytes(&stored), tree);
    if (o->count > 0 && !ownership_same(o, &again, tree))
        abort();
    if (ownership_write(o, tree, &text) && !text.overflowed) {
        yyjson_doc *doc = yyjson_read(text.ptr, text.len, 0);
        if (!doc)
            abort();
        if (ownership_read(&read, yyjson_doc_get_root(doc), tree, NULL) == 0)
            ownership_free(&read);
        yyjson_doc_free(doc);
    }
    ownership_free(&again);
    buf_free(&text);
    buf_free(&stored);
}

static void apply_once(yyjson_val *object, yyjson_val *config, struct topology topology, struct bytes stored) {
    const struct manager who = {.name = "fuzz", .api_version = "v1", .subresource = "", .apply = true, .time = 1};
    struct field_tree live, said, tree;
    struct ownership owned, o;
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    size_t n;
    field_tree_init(&live, object, topology);
    field_tree_init(&said, config, topology);
    ownership_load(&owned, stored, &live);
    struct apply a = {.live = &live, .owned = &owned, .config = &said, .applier = ownership_find(&owned, &who)};
    free(apply_conflicts(&a, &n));
    yyjson_doc *merged = yyjson_mut_val_imut_copy(apply_merge(&a, d), NULL);
    if (!merged)
        abort();
    field_tree_init(&tree, yyjson_doc_get_root(merged), topology);
    if (ownership_apply(&o, &tree, &owned, &live, &said, &who, NULL) == 0) {
        check_round_trip(&o, &tree);
        ownership_free(&o);
    }
    ownership_free(&owned);
    field_tree_free(&tree);
    field_tree_free(&said);
    field_tree_free(&live);
    yyjson_doc_free(merged);
    yyjson_mut_doc_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes parts[4] = {0}, rest = bytes_of(data + 1, size ? size - 1 : 0);
    size_t n = size ? bytes_split(rest, '\0', parts, ARRAY_LEN(parts)) : 0;
    if (n < 3)
        return 0;
    yyjson_doc *object = json_parse(parts[0], 1 << 20, NULL), *config = json_parse(parts[1], 1 << 20, NULL);
    yyjson_doc *sent = json_parse(parts[3], 1 << 20, NULL);
    struct topology topology = topology_of(data[0]);
    if (yyjson_is_obj(yyjson_doc_get_root(object)) && yyjson_is_obj(yyjson_doc_get_root(config)))
        apply_once(yyjson_doc_get_root(object), yyjson_doc_get_root(config), topology, parts[2]);
    if (object && sent) {
        struct field_tree tree;
        struct ownership o;
        field_tree_init(&tree, yyjson_doc_get_root(object), topology);
        if (ownership_read(&o, yyjson_doc_get_root(sent), &tree, NULL) == 0) {
            check_round_trip(&o, &tree);
            ownership_free(&o);
        }
        field_tree_free(&tree);
    }
    yyjson_doc_free(object);
    yyjson_doc_free(config);
    yyjson_doc_free(sent);
    return 0;
}
