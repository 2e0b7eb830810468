/* The v3 documents as one Swagger 2.0 document in protobuf, which is all that kubectl up to 1.28 reads: it validates,
 * explains and looks for the dryRun parameter in it. Field numbers: embedded-api.md 2.5. */
#include "apiserver/openapi.h"
#include "base/str.h"

#define DOCUMENT_MAX (32u << 20)
#define SCHEMA_DEPTH 64

/* ---- protobuf --------------------------------------------------------------------------------------------------- */

static void add_varint(struct buf *out, uint64_t n) {
    for (; n >= 0x80; n >>= 7)
        buf_add_char(out, (char)(n | 0x80));
    buf_add_char(out, (char)n);
}

static void add_bytes(struct buf *out, unsigned field, struct bytes b) {
    add_varint(out, field << 3 | 2);
    add_varint(out, b.len);
    buf_add_bytes(out, b);
}

static void add_string(struct buf *out, unsigned field, const char *s) {
    if (!str_empty(s))
        add_bytes(out, field, bytes_str(s));
}

/* The message in `inner`, which is freed. */
static void add_message(struct buf *out, unsigned field, struct buf *inner) {
    add_bytes(out, field, buf_bytes(inner));
    buf_free(inner);
}

/* A vendor extension: JSON is YAML. */
static void add_extension(struct buf *out, unsigned field, const char *name, const yyjson_val *value) {
    struct buf any = BUF_INIT(DOCUMENT_MAX), named = BUF_INIT(DOCUMENT_MAX);
    _cleanup_(free_p) char *yaml = json_write(value, NULL);
    add_string(&any, 2, yaml);
    add_string(&named, 1, name);
    add_message(&named, 2, &any);
    add_message(out, field, &named);
}

/* ---- schemas ---------------------------------------------------------------------------------------------------- */

static void add_schema(struct buf *out, unsigned field, yyjson_val *schema, unsigned depth);

static bool flag(yyjson_val *schema, const char *name) {
    return yyjson_get_bool(yyjson_obj_get(schema, name));
}

static void add_reference(struct buf *out, const char *ref) {
    static const char v3[] = "#/components/schemas/";
    _cleanup_(free_p) char *v2 = xasprintf("#/definitions/%s", str_starts_with(ref, v3) ? ref + sizeof(v3) - 1 : ref);
    add_string(out, 1, v2);
}

static void add_type(struct buf *out, yyjson_val *schema) {
    bool either = flag(schema, "x-kubernetes-int-or-string");
    const char *type = either ? "string" : json_str(schema, "type");
    struct buf item = BUF_INIT(256);
    add_string(out, 2, either ? "int-or-string" : json_str(schema, "format"));
    if (str_empty(type) || flag(schema, "nullable"))
        return;
    add_string(&item, 1, type);
    add_message(out, 22, &item);
}

static void add_members(struct buf *out, yyjson_val *schema, unsigned depth) {
    yyjson_val *additional = yyjson_obj_get(schema, "additionalProperties"), *items = json_get(schema, "items");
    struct buf inner = BUF_INIT(DOCUMENT_MAX);
    if (yyjson_is_obj(additional)) {
        add_schema(&inner, 1, additional, depth);
        add_message(out, 21, &inner);
    }
    if (yyjson_is_obj(items)) {
        add_schema(&inner, 1, items, depth);
        add_message(out, 23, &inner);
    }
    yyjson_val *properties = json_get(schema, "properties");
    if (yyjson_obj_size(properties) == 0 || flag(schema, "x-kubernetes-preserve-unknown-fields"))
        return; /* a closed set would have unknown ones refused */
    yyjson_obj_iter it = yyjson_obj_iter_with(properties);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct buf named = BUF_INIT(DOCUMENT_MAX);
        add_string(&named, 1, yyjson_get_str(key));
        add_schema(&named, 2, yyjson_obj_iter_get_val(key), depth);
        add_message(&inner, 1, &named);
    }
    add_message(out, 25, &inner);
}

static void add_extensions(struct buf *out, yyjson_val *schema) {
    yyjson_obj_iter it = yyjson_obj_iter_with(schema);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
        if (str_starts_with(yyjson_get_str(key), "x-kubernetes-"))
            add_extension(out, 31, yyjson_get_str(key), yyjson_obj_iter_get_val(key));
}

static void add_schema(struct buf *out, unsigned field, yyjson_val *schema, unsigned depth) {
    struct buf s = BUF_INIT(DOCUMENT_MAX);
    if (json_str(schema, "$ref")) {
        add_reference(&s, json_str(schema, "$ref"));
    } else if (depth > 0) {
        add_string(&s, 4, json_str(schema, "description"));
        yyjson_arr_iter required = yyjson_arr_iter_with(yyjson_obj_get(schema, "required"));
        for (yyjson_val *name; (name = yyjson_arr_iter_next(&required));)
            add_string(&s, 19, yyjson_get_str(name));
        add_type(&s, schema);
        add_members(&s, schema, depth - 1);
        add_extensions(&s, schema);
    }
    add_message(out, field, &s);
}

/* ---- the document ----------------------------------------------------------------------------------------------- */

/* A patch operation with its parameters' names. */
static void add_path(struct buf *paths, const char *path, yyjson_val *item) {
    yyjson_val *patch = json_get(item, "patch");
    struct buf operation = BUF_INIT(65536), path_item = BUF_INIT(65536), named = BUF_INIT(65536);
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(patch, "parameters"));
    for (yyjson_val *p; (p = yyjson_arr_iter_next(&it));) {
        struct buf query = BUF_INIT(1024), plain = BUF_INIT(1024), parameter = BUF_INIT(1024), any = BUF_INIT(1024);
        add_string(&query, 2, "query");
        add_string(&query, 4, json_str(p, "name"));
        add_message(&plain, 3, &query);
        add_message(&parameter, 2, &plain);
        add_message(&any, 1, &parameter);
        add_message(&operation, 8, &any);
    }
    add_extension(&operation, 13, "x-kubernetes-group-version-kind",
                  json_get(patch, "x-kubernetes-group-version-kind"));
    add_message(&path_item, 8, &operation);
    add_string(&named, 1, path);
    add_message(&named, 2, &path_item);
    add_message(paths, 2, &named);
}

static void add_version(struct buf *paths, struct buf *definitions, struct strlist *seen, yyjson_val *v3) {
    yyjson_obj_iter it = yyjson_obj_iter_with(json_get(v3, "paths"));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
        add_path(paths, yyjson_get_str(key), yyjson_obj_iter_get_val(key));
    it = yyjson_obj_iter_with(json_get(v3, "components", "schemas"));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct buf named = BUF_INIT(DOCUMENT_MAX);
        if (strlist_has(seen, yyjson_get_str(key)))
            continue; /* metadata stands in every version's document */
        strlist_add(seen, yyjson_get_str(key));
        add_string(&named, 1, yyjson_get_str(key));
        add_schema(&named, 2, yyjson_obj_iter_get_val(key), SCHEMA_DEPTH);
        add_message(definitions, 1, &named);
    }
}

void openapi_v2(const struct kinds *ks, struct buf *out) {
    struct buf info = BUF_INIT(256), paths = BUF_INIT(DOCUMENT_MAX), definitions = BUF_INIT(DOCUMENT_MAX);
    _cleanup_(buf_free) struct buf index = BUF_INIT(DOCUMENT_MAX);
    _cleanup_(strlist_free) struct strlist seen = {0};
    if (openapi_v3(ks, BYTES_LIT("/openapi/v3"), &index, NULL) < 0)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *list = yyjson_read(index.ptr, index.len, 0);
    yyjson_obj_iter it = yyjson_obj_iter_with(json_get(yyjson_doc_get_root(list), "paths"));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        _cleanup_(free_p) char *path = xasprintf("/openapi/v3/%s", yyjson_get_str(key));
        _cleanup_(buf_free) struct buf text = BUF_INIT(DOCUMENT_MAX);
        if (openapi_v3(ks, bytes_str(path), &text, NULL) < 0)
            continue;
        _cleanup_(yyjson_doc_free_p) yyjson_doc *v3 = yyjson_read(text.ptr, text.len, 0);
        add_version(&paths, &definitions, &seen, yyjson_doc_get_root(v3));
    }
    add_string(out, 1, "2.0");
    add_string(&info, 1, "Kubernetes");
    add_string(&info, 2, "v1.32.0");
    add_message(out, 2, &info);
    add_message(out, 8, &paths);
    add_message(out, 9, &definitions);
}
