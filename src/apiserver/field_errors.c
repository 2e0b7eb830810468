#include "apiserver/field_errors.h"

static const struct {
    const char *reason, *text;
} types[] = {
    [FIELD_REQUIRED] = {"FieldValueRequired", "Required value"},
    [FIELD_INVALID] = {"FieldValueInvalid", "Invalid value"},
    [FIELD_NOT_SUPPORTED] = {"FieldValueNotSupported", "Unsupported value"},
    [FIELD_FORBIDDEN] = {"FieldValueForbidden", "Forbidden"},
    [FIELD_DUPLICATE] = {"FieldValueDuplicate", "Duplicate value"},
    [FIELD_TOO_LONG] = {"FieldValueTooLong", "Too long"},
    [FIELD_TOO_MANY] = {"FieldValueTooMany", "Too many"},
    [FIELD_NOT_FOUND] = {"FieldValueNotFound", "Not found"},
    [FIELD_TYPE_INVALID] = {"FieldValueTypeInvalid", "Invalid value"},
};

const char *field_error_reason(enum field_error_type type) {
    return types[type].reason;
}

void field_errors_free(struct field_errors *e) {
    for (size_t i = 0; i < e->count; i++) {
        free(e->items[i].field);
        free(e->items[i].message);
    }
    free(e->items);
    *e = (struct field_errors){0};
}

static void add_take(struct field_errors *e, enum field_error_type type, const char *field, char *message) {
    if (e->count >= FIELD_ERRORS_MAX) {
        free(message);
        return;
    }
    e->items = xreallocarray(e->items, e->count + 1, sizeof *e->items);
    e->items[e->count++] = (struct field_error){type, xstrdup(field), message};
}

void field_errors_add(struct field_errors *e, enum field_error_type type, const char *field, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *detail = xvasprintf(fmt, ap);
    va_end(ap);
    add_take(e, type, field, *detail ? xasprintf("%s: %s", types[type].text, detail) : xstrdup(types[type].text));
}

void field_errors_value(struct field_errors *e, enum field_error_type type, const char *field, yyjson_val *value,
                        const char *detail) {
    _cleanup_(free_p) char *text = value ? json_write(value, NULL) : xstrdup("null");
    bool cut = strlen(text) > 200;
    field_errors_add(e, type, field, "%.*s%s%s%s", cut ? 0 : 200, text, cut ? "(value left out: it is long)" : "",
                     *detail ? ": " : "", detail);
}

void field_errors_unsupported(struct field_errors *e, const char *field, const char *value,
                              const char *const *allowed) {
    _cleanup_(buf_free) struct buf list = BUF_INIT(8192);
    buf_add(&list, "", 0);
    for (size_t i = 0; allowed[i]; i++)
        buf_addf(&list, "%s\"%s\"", i ? ", " : "", allowed[i]);
    field_errors_add(e, FIELD_NOT_SUPPORTED, field, "\"%.200s\": supported values: %s", value, str_or(list.ptr, ""));
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

size_t field_path_push(struct buf *path, const char *name) {
    size_t len = path->len;
    if (len > 0)
        buf_add_char(path, '.');
    buf_add_str(path, name);
    return len;
}

size_t field_path_index(struct buf *path, size_t i) {
    size_t len = path->len;
    buf_addf(path, "[%zu]", i);
    return len;
}

size_t field_path_key(struct buf *path, const char *key) {
    size_t len = path->len;
    buf_addf(path, "[%s]", key);
    return len;
}

void field_path_pop(struct buf *path, size_t len) {
    path->len = len;
    path->overflowed = false;
    if (path->ptr)
        path->ptr[len] = '\0';
}
