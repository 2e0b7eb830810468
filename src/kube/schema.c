#include "kube/schema.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/members.h"
#include "kube/quantity.h"

/* ---- looking things up ---------------------------------------------------------------------------------------- */

const struct schema_type *schema_find(const char *group, const char *version, const char *name) {
    size_t low = 0, high = schema_n_types; /* sorted by name, then group */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct schema_type *t = &schema_types[mid];
        int c = strcmp(schema_type_name(t), name);
        if (c == 0)
            c = strcmp(schema_type_group(t), group);
        if (c == 0)
            return strcmp(schema_strings + t->version, version) == 0 ? t : NULL;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

const struct schema_field *schema_field(const struct schema_type *t, struct bytes json_name) {
    for (size_t i = 0; i < t->n_fields; i++) {
        const struct schema_field *f = schema_field_at(t, i);
        if (f->inlined) {
            const struct schema_field *inner = schema_field(schema_field_message(f), json_name);
            if (inner)
                return inner;
        } else if (f->name_len == json_name.len && memcmp(schema_field_name(f), json_name.ptr, json_name.len) == 0) {
            return f;
        }
    }
    return NULL;
}

/* ---- pruning and type checks ------------------------------------------------------------------------------------ */

struct prune {
    yyjson_mut_doc *doc;
    struct strlist *unknown;
    struct buf path; /* where we are: "spec.containers[0]" */
    struct error *err;
};

static yyjson_mut_val *prune_object(struct prune *p, const struct schema_type *t, yyjson_val *src, unsigned depth);

static void path_push(struct prune *p, struct bytes name) {
    if (p->path.len > 0)
        buf_add_char(&p->path, '.');
    buf_add_bytes(&p->path, name);
}

static void path_pop(struct prune *p, size_t len) {
    p->path.len = len;
    p->path.overflowed = false;
    if (p->path.ptr)
        p->path.ptr[len] = '\0';
}

static yyjson_mut_val *wrong_type(struct prune *p, const char *expected, yyjson_val *got) {
    error_set(p->err, ERR_INVALID, "%.200s: expected %s, got %s", p->path.ptr ? p->path.ptr : "body", expected,
              yyjson_get_type_desc(got));
    return NULL;
}

static yyjson_mut_val *bad_value(struct prune *p, const char *expected, struct bytes got) {
    error_set(p->err, ERR_INVALID, "%.200s: expected %s, got \"%.*s\"", p->path.ptr ? p->path.ptr : "body", expected,
              (int)(got.len < 80 ? got.len : 80), got.ptr);
    return NULL;
}

static void note(struct prune *p, const char *what, struct bytes name) {
    if (!p->unknown || p->unknown->count >= SCHEMA_MAX_UNKNOWN)
        return;
    size_t len = p->path.len;
    path_push(p, name);
    strlist_add_take(p->unknown, xasprintf("%s field \"%s\"", what, p->path.ptr ? p->path.ptr : ""));
    path_pop(p, len);
}

static yyjson_mut_val *prune_integer(struct prune *p, yyjson_val *src, int64_t min, int64_t max) {
    /* Go reads 1.0 into an integer only if it is written without a fraction; so do we. */
    if (!yyjson_is_int(src))
        return wrong_type(p, "an integer", src);
    if (yyjson_is_uint(src) && yyjson_get_uint(src) > (uint64_t)INT64_MAX)
        return wrong_type(p, "a smaller integer", src);
    int64_t value = yyjson_get_sint(src);
    if (value < min || value > max)
        return wrong_type(p, "an integer of 32 bits", src);
    return yyjson_mut_sint(p->doc, value);
}

static yyjson_mut_val *prune_quantity(struct prune *p, yyjson_val *src) {
    _cleanup_(free_p) char *number = NULL;
    struct bytes text = json_bytes(src);
    if (yyjson_is_num(src)) {
        size_t len;
        number = json_write(src, &len);
        text = bytes_of(number, len);
    } else if (!yyjson_is_str(src)) {
        return wrong_type(p, "a quantity", src);
    }
    _cleanup_(buf_free) struct buf out = BUF_INIT(128);
    if (quantity_canonical(bytes_trim(text), &out, NULL) < 0)
        return bad_value(p, "a quantity such as 100m or 64Mi", text);
    return yyjson_mut_strncpy(p->doc, out.ptr, out.len);
}

static yyjson_mut_val *prune_time(struct prune *p, yyjson_val *src, bool micro) {
    if (!yyjson_is_str(src))
        return wrong_type(p, "a time", src);
    int64_t ns;
    if (rfc3339_parse(json_bytes(src), &ns) < 0)
        return bad_value(p, "a time such as 2026-01-02T03:04:05Z", json_bytes(src));
    char text[RFC3339_SIZE];
    int64_t unit = micro ? 1000 : 1000000000;
    int64_t value = ns / unit - (ns % unit < 0); /* rounded down */
    return yyjson_mut_strcpy(p->doc, micro ? rfc3339_micro(value, text) : rfc3339_seconds(value, text));
}

static yyjson_mut_val *prune_bytes(struct prune *p, yyjson_val *src) {
    if (!yyjson_is_str(src))
        return wrong_type(p, "a base64 string", src);
    struct bytes text = json_bytes(src);
    _cleanup_(buf_free) struct buf raw = BUF_INIT(text.len + 4);
    _cleanup_(buf_free) struct buf clean = BUF_INIT(text.len + 8);
    if (base64_decode(text, &raw) < 0 || base64_encode(buf_bytes(&raw), &clean) < 0)
        return wrong_type(p, "a base64 string", src);
    return yyjson_mut_strncpy(p->doc, str_or(clean.ptr, ""), clean.len);
}

static yyjson_mut_val *prune_strings(struct prune *p, yyjson_val *src) {
    if (!yyjson_is_arr(src))
        return wrong_type(p, "a list of strings", src);
    yyjson_arr_iter it = yyjson_arr_iter_with(src);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        if (!yyjson_is_str(v))
            return wrong_type(p, "a string", v);
    return yyjson_val_mut_copy(p->doc, src);
}

/* A schema, or a list of schemas, a boolean, a list of strings. */
static yyjson_mut_val *prune_schema_union(struct prune *p, const struct schema_field *f, yyjson_val *src,
                                          unsigned depth) {
    if (yyjson_is_obj(src))
        return prune_object(p, schema_field_message(f), src, depth);
    if (f->type == FT_SCHEMA_OR_BOOL && yyjson_is_bool(src))
        return yyjson_mut_bool(p->doc, yyjson_get_bool(src));
    if (f->type == FT_SCHEMA_OR_STRINGS)
        return prune_strings(p, src);
    if (f->type != FT_SCHEMA_OR_ARRAY || !yyjson_is_arr(src))
        return wrong_type(p, "a schema", src);
    yyjson_mut_val *list = yyjson_mut_arr(p->doc);
    yyjson_arr_iter it = yyjson_arr_iter_with(src);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
        yyjson_mut_val *item = prune_object(p, schema_field_message(f), v, depth);
        if (!item)
            return NULL;
        yyjson_mut_arr_append(list, item);
    }
    return list;
}

static yyjson_mut_val *prune_one(struct prune *p, const struct schema_field *f, yyjson_val *src, unsigned depth) {
    switch ((enum field_type)f->type) {
    case FT_STRING:
        return yyjson_is_str(src) ? yyjson_mut_strncpy(p->doc, yyjson_get_str(src), yyjson_get_len(src))
                                  : wrong_type(p, "a string", src);
    case FT_BOOL:
        return yyjson_is_bool(src) ? yyjson_mut_bool(p->doc, yyjson_get_bool(src)) : wrong_type(p, "a boolean", src);
    case FT_INT32:
        return prune_integer(p, src, INT32_MIN, INT32_MAX);
    case FT_INT64:
        return prune_integer(p, src, INT64_MIN, INT64_MAX);
    case FT_DOUBLE:
        return yyjson_is_num(src) ? yyjson_val_mut_copy(p->doc, src) : wrong_type(p, "a number", src);
    case FT_BYTES:
        return prune_bytes(p, src);
    case FT_MESSAGE:
        return prune_object(p, schema_field_message(f), src, depth);
    case FT_QUANTITY:
        return prune_quantity(p, src);
    case FT_INT_OR_STRING:
        return yyjson_is_str(src) ? yyjson_mut_strncpy(p->doc, yyjson_get_str(src), yyjson_get_len(src))
                                  : prune_integer(p, src, INT32_MIN, INT32_MAX);
    case FT_TIME:
    case FT_MICRO_TIME:
        return prune_time(p, src, f->type == FT_MICRO_TIME);
    case FT_RAW:
        return yyjson_val_mut_copy(p->doc, src);
    case FT_STRINGS:
        return prune_strings(p, src);
    case FT_SCHEMA_OR_ARRAY:
    case FT_SCHEMA_OR_BOOL:
    case FT_SCHEMA_OR_STRINGS:
        return prune_schema_union(p, f, src, depth);
    }
    return NULL;
}

static yyjson_mut_val *prune_list(struct prune *p, const struct schema_field *f, yyjson_val *src, unsigned depth) {
    if (!yyjson_is_arr(src))
        return wrong_type(p, "a list", src);
    yyjson_mut_val *list = yyjson_mut_arr(p->doc);
    size_t len = p->path.len, i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(src);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)); i++) {
        buf_addf(&p->path, "[%zu]", i);
        yyjson_mut_val *item;
        if (yyjson_is_null(v) && f->type == FT_MESSAGE) /* as Go: an empty element */
            item = yyjson_mut_obj(p->doc);
        else
            item = prune_one(p, f, v, depth);
        path_pop(p, len);
        if (!item)
            return NULL;
        yyjson_mut_arr_append(list, item);
    }
    return list;
}

static yyjson_mut_val *prune_map(struct prune *p, const struct schema_field *f, yyjson_val *src, unsigned depth) {
    if (!yyjson_is_obj(src))
        return wrong_type(p, "an object", src);
    _cleanup_(members_free) struct members members;
    members_init(&members, src);
    yyjson_mut_val *map = yyjson_mut_obj(p->doc);
    size_t len = p->path.len;
    yyjson_obj_iter it = yyjson_obj_iter_with(src);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct bytes name = json_bytes(key);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (!members_is_last(&members, key)) {
            note(p, "duplicate", name);
            continue;
        }
        path_push(p, name);
        yyjson_mut_val *item;
        if (yyjson_is_null(value) && (f->type == FT_STRING || f->type == FT_BYTES))
            item = yyjson_mut_str(p->doc, "");
        else
            item = prune_one(p, f, value, depth);
        path_pop(p, len);
        if (!item)
            return NULL;
        yyjson_mut_obj_add(map, yyjson_mut_strncpy(p->doc, name.ptr, name.len), item);
    }
    return map;
}

static yyjson_mut_val *prune_object(struct prune *p, const struct schema_type *t, yyjson_val *src, unsigned depth) {
    if (depth == 0) {
        error_set(p->err, ERR_TOO_LARGE, "%.200s: nested too deeply", p->path.ptr ? p->path.ptr : "body");
        return NULL;
    }
    if (!yyjson_is_obj(src))
        return wrong_type(p, "an object", src);
    _cleanup_(members_free) struct members members;
    members_init(&members, src);
    yyjson_mut_val *obj = yyjson_mut_obj(p->doc);
    size_t len = p->path.len;
    yyjson_obj_iter it = yyjson_obj_iter_with(src);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct bytes name = json_bytes(key);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        const struct schema_field *f = schema_field(t, name);
        bool counts = members_is_last(&members, key);
        if (!f || !counts)
            note(p, f ? "duplicate" : "unknown", name);
        if (!f || !counts || yyjson_is_null(value))
            continue;
        path_push(p, name);
        yyjson_mut_val *v = f->shape == FS_LIST  ? prune_list(p, f, value, depth - 1)
                            : f->shape == FS_MAP ? prune_map(p, f, value, depth - 1)
                                                 : prune_one(p, f, value, depth - 1);
        path_pop(p, len);
        if (!v)
            return NULL;
        yyjson_mut_obj_add(obj, yyjson_mut_strn(p->doc, schema_field_name(f), f->name_len), v);
    }
    return obj;
}

yyjson_mut_val *schema_prune(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *src, struct strlist *unknown,
                             struct error *err) {
    struct prune p = {.doc = d, .unknown = unknown, .path = BUF_INIT(4096), .err = err};
    yyjson_mut_val *out = prune_object(&p, t, src, JSON_MAX_DEPTH);
    buf_free(&p.path);
    return out;
}
