/* Rules that stand in the table of fields: values of closed enumerations, for every built-in kind. */
#include "apiserver/validate_kinds.h"
#include "base/str.h"

#define WALK_DEPTH 48
#define WALK_PATH_MAX 4096
#define MAX_VALUES 16

struct enum_walk {
    struct field_errors *errors;
    struct buf path;
};

/* A kind's own rules may have said the same. */
static bool told(const struct enum_walk *w) {
    for (size_t i = 0; i < w->errors->count; i++)
        if (str_eq(w->errors->items[i].field, field_path_text(&w->path)))
            return true;
    return false;
}

static void check_value(struct enum_walk *w, const struct schema_field *f, yyjson_val *v) {
    struct bytes allowed[MAX_VALUES], value = bytes_of(yyjson_get_str(v), yyjson_get_len(v));
    size_t n = bytes_split(bytes_str(schema_field_enum(f)), ' ', allowed, MAX_VALUES);
    _cleanup_(buf_free) struct buf list = BUF_INIT(1024);
    if (!yyjson_is_str(v) || value.len == 0 || told(w)) /* "" is as good as nothing */
        return;
    for (size_t i = 0; i < n && i < MAX_VALUES; i++) {
        if (bytes_eq(allowed[i], value))
            return;
        buf_addf(&list, "%s\"%.*s\"", i ? ", " : "", (int)allowed[i].len, allowed[i].ptr);
    }
    _cleanup_(free_p) char *detail = xasprintf("supported values: %s", str_or(list.ptr, ""));
    field_errors_value(w->errors, FIELD_NOT_SUPPORTED, field_path_text(&w->path), v, detail);
}

static void check_object(struct enum_walk *w, const struct schema_type *t, yyjson_val *obj, unsigned depth);

static void check_one(struct enum_walk *w, const struct schema_field *f, yyjson_val *v, unsigned depth) {
    if (f->type == FT_MESSAGE)
        check_object(w, schema_field_message(f), v, depth - 1);
    else if (f->type == FT_STRING && *schema_field_enum(f))
        check_value(w, f, v);
}

static void check_field(struct enum_walk *w, const struct schema_field *f, yyjson_val *v, unsigned depth) {
    if (f->shape == FS_ONE) {
        check_one(w, f, v, depth);
    } else if (f->shape == FS_LIST) {
        size_t i = 0;
        yyjson_arr_iter it = yyjson_arr_iter_with(v);
        for (yyjson_val *e; (e = yyjson_arr_iter_next(&it)); i++) {
            size_t len = field_path_index(&w->path, i);
            check_one(w, f, e, depth);
            field_path_pop(&w->path, len);
        }
    } else if (f->type == FT_MESSAGE) {
        yyjson_obj_iter it = yyjson_obj_iter_with(v);
        for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
            size_t len = field_path_key(&w->path, yyjson_get_str(key));
            check_one(w, f, yyjson_obj_iter_get_val(key), depth);
            field_path_pop(&w->path, len);
        }
    }
}

static void check_object(struct enum_walk *w, const struct schema_type *t, yyjson_val *obj, unsigned depth) {
    yyjson_obj_iter it = yyjson_obj_iter_with(obj);
    for (yyjson_val *key; depth > 0 && (key = yyjson_obj_iter_next(&it));) {
        const struct schema_field *f = schema_field(t, bytes_of(yyjson_get_str(key), yyjson_get_len(key)));
        if (!f || (f->type != FT_MESSAGE && !*schema_field_enum(f)))
            continue;
        size_t len = field_path_push(&w->path, yyjson_get_str(key));
        check_field(w, f, yyjson_obj_iter_get_val(key), depth);
        field_path_pop(&w->path, len);
    }
}

void validate_schema(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    static const char *const checked[] = {"spec", "webhooks"}; /* status is the agents' concern */
    struct enum_walk w = {.errors = e, .path = BUF_INIT(WALK_PATH_MAX)};
    for (size_t i = 0; k->type && i < ARRAY_LEN(checked); i++) {
        const struct schema_field *f = schema_field(k->type, bytes_str(checked[i]));
        size_t len = field_path_push(&w.path, checked[i]);
        if (f && yyjson_obj_get(o, checked[i]))
            check_field(&w, f, yyjson_obj_get(o, checked[i]), WALK_DEPTH);
        field_path_pop(&w.path, len);
    }
    buf_free(&w.path);
}
