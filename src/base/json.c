#include "base/json.h"

#include "base/str.h"

/* Checked before parsing, so that no part of the reader ever works on text deeper than the limit. Only text that is
 * inside strings can fool a count of brackets, so strings are skipped. Stops at the end of the first value. */
static int check_depth(struct bytes text, struct error *err) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_MAX_DEPTH)
                return error_set(err, ERR_TOO_LARGE, "JSON is nested deeper than %d", JSON_MAX_DEPTH);
        } else if (c == '}' || c == ']') {
            if (depth <= 1)
                return 0;
            depth--;
        }
    }
    return 0;
}

static yyjson_doc *parse(struct bytes text, size_t max_size, yyjson_read_flag flags, struct error *err) {
    if (text.len > max_size) {
        error_set(err, ERR_TOO_LARGE, "JSON of %zu bytes is larger than the limit of %zu", text.len, max_size);
        return NULL;
    }
    if (check_depth(text, err) < 0)
        return NULL;
    yyjson_read_err e = {0};
    /* without YYJSON_READ_INSITU the reader copies the text and does not write to it */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text.ptr, text.len, flags, NULL, &e);
    if (!doc)
        error_set(err, ERR_INVALID, "JSON is not valid at byte %zu: %s", e.pos, e.msg ? e.msg : "empty");
    return doc;
}

yyjson_doc *json_parse(struct bytes text, size_t max_size, struct error *err) {
    return parse(text, max_size, YYJSON_READ_NOFLAG, err);
}

yyjson_doc *json_parse_first(struct bytes text, size_t max_size, struct error *err) {
    return parse(text, max_size, YYJSON_READ_STOP_WHEN_DONE, err);
}

/* ---- members of the same name ---- */

static int compare_keys(const void *a, const void *b) {
    yyjson_val *x = *(yyjson_val *const *)a, *y = *(yyjson_val *const *)b;
    size_t n = yyjson_get_len(x), m = yyjson_get_len(y);
    return n != m ? (n < m ? -1 : 1) : memcmp(yyjson_get_str(x), yyjson_get_str(y), n);
}

static bool names_repeat(yyjson_val *obj) {
    size_t i, max, n = 0;
    yyjson_val *key, *val;
    if (yyjson_obj_size(obj) < 2)
        return false;
    _cleanup_(free_p) yyjson_val **keys = xcalloc(yyjson_obj_size(obj), sizeof(*keys));
    yyjson_obj_foreach (obj, i, max, key, val)
        keys[n++] = key;
    qsort(keys, n, sizeof(*keys), compare_keys);
    for (size_t k = 1; k < n; k++)
        if (compare_keys(&keys[k - 1], &keys[k]) == 0)
            return true;
    return false;
}

static bool has_duplicates(yyjson_val *v, unsigned depth) {
    size_t i, max;
    yyjson_val *key, *val;
    if (!yyjson_is_ctn(v))
        return false;
    if (depth == 0 || names_repeat(v))
        return true;
    yyjson_obj_foreach (v, i, max, key, val) {
        if (has_duplicates(val, depth - 1))
            return true;
    }
    yyjson_arr_foreach (v, i, max, val) {
        if (has_duplicates(val, depth - 1))
            return true;
    }
    return false;
}

bool json_has_duplicates(yyjson_val *v) {
    return has_duplicates(v, JSON_MAX_DEPTH);
}

/* A value can hold a float that JSON has no text for only if our own code put it there. */
static char *written(char *s, const yyjson_write_err *e) {
    if (!s)
        panic("writing JSON: %s", e->msg ? e->msg : "failed");
    return s;
}

char *json_write(const yyjson_val *v, size_t *len) {
    yyjson_write_err e = {0};
    return written(yyjson_val_write_opts(v, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL, len, &e), &e);
}

char *json_write_mut(const yyjson_mut_val *v, size_t *len) {
    yyjson_write_err e = {0};
    return written(yyjson_mut_val_write_opts(v, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL, len, &e), &e);
}

char *json_write_pretty(const yyjson_val *v, size_t *len) {
    yyjson_write_err e = {0};
    yyjson_write_flag flags = YYJSON_WRITE_PRETTY_TWO_SPACES | YYJSON_WRITE_ALLOW_INVALID_UNICODE;
    return written(yyjson_val_write_opts(v, flags, NULL, len, &e), &e);
}

int json_append(struct buf *out, const yyjson_val *v) {
    size_t n;
    _cleanup_(free_p) char *s = json_write(v, &n);
    return buf_add(out, s, n);
}

int json_append_mut(struct buf *out, const yyjson_mut_val *v) {
    size_t n;
    _cleanup_(free_p) char *s = json_write_mut(v, &n);
    return buf_add(out, s, n);
}

static int append_escape(struct buf *out, unsigned char c) {
    static const char *const shorts[] = {['\b'] = "\\b", ['\f'] = "\\f", ['\n'] = "\\n", ['\r'] = "\\r",
                                         ['\t'] = "\\t", ['"'] = "\\\"", ['\\'] = "\\\\"};
    if (c < ARRAY_LEN(shorts) && shorts[c])
        return buf_add_str(out, shorts[c]);
    return buf_addf(out, "\\u%04x", c);
}

int json_append_string(struct buf *out, struct bytes s) {
    buf_add_char(out, '"');
    while (s.len > 0) {
        /* runs of plain characters are copied at once */
        size_t plain = 0, n = 0;
        unsigned char c = 0;
        while (plain < s.len) {
            c = (unsigned char)s.ptr[plain];
            n = utf8_length((struct bytes){s.ptr + plain, s.len - plain});
            if (n == 0 || c < 0x20 || c == '"' || c == '\\')
                break;
            plain += n;
        }
        buf_add(out, s.ptr, plain);
        s.ptr += plain;
        s.len -= plain;
        if (s.len == 0)
            break;
        if (n == 0)
            buf_add_str(out, "\xef\xbf\xbd");
        else
            append_escape(out, c);
        s.ptr++;
        s.len--;
    }
    buf_add_char(out, '"');
    return out->overflowed ? -1 : 0;
}

yyjson_val *json_get_path(yyjson_val *v, const char *const *path, size_t n) {
    for (size_t i = 0; i < n && v; i++)
        v = yyjson_obj_get(v, path[i]);
    return v;
}

yyjson_mut_val *json_mut_get_path(yyjson_mut_val *v, const char *const *path, size_t n) {
    for (size_t i = 0; i < n && v; i++)
        v = yyjson_mut_obj_get(v, path[i]);
    return v;
}

int64_t json_int_or(yyjson_val *v, int64_t fallback) {
    if (yyjson_is_sint(v))
        return yyjson_get_sint(v);
    if (yyjson_is_uint(v) && yyjson_get_uint(v) <= INT64_MAX)
        return (int64_t)yyjson_get_uint(v);
    return fallback;
}

bool json_bool_or(yyjson_val *v, bool fallback) {
    return yyjson_is_bool(v) ? yyjson_get_bool(v) : fallback;
}

void json_set(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, yyjson_mut_val *value) {
    yyjson_mut_val *k = yyjson_mut_strcpy(d, key);
    if (!k || !value || !yyjson_mut_obj_put(obj, k, value))
        panic("setting JSON member \"%s\"", key);
}

void json_set_str(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, const char *value) {
    struct bytes text = bytes_str(value ? value : "");
    if (utf8_valid(text)) {
        json_set(d, obj, key, yyjson_mut_strncpy(d, text.ptr, text.len));
        return;
    }
    _cleanup_(buf_free) struct buf mended = BUF_INIT(SIZE_MAX / 2);
    while (text.len > 0) {
        size_t n = utf8_length(text), step = n ? n : 1;
        buf_add(&mended, n ? text.ptr : "\xef\xbf\xbd", n ? n : 3);
        text = bytes_of(text.ptr + step, text.len - step);
    }
    json_set(d, obj, key, yyjson_mut_strncpy(d, mended.ptr, mended.len));
}

void json_set_int(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, int64_t value) {
    json_set(d, obj, key, yyjson_mut_sint(d, value));
}

void json_set_bool(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, bool value) {
    json_set(d, obj, key, yyjson_mut_bool(d, value));
}

void json_remove(yyjson_mut_val *obj, const char *key) {
    yyjson_mut_obj_remove_key(obj, key);
}

yyjson_mut_val *json_ensure_obj(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key) {
    yyjson_mut_val *v = yyjson_mut_obj_get(obj, key);
    if (!yyjson_mut_is_obj(v)) {
        v = yyjson_mut_obj(d);
        json_set(d, obj, key, v);
    }
    return v;
}

yyjson_mut_val *json_ensure_arr(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key) {
    yyjson_mut_val *v = yyjson_mut_obj_get(obj, key);
    if (!yyjson_mut_is_arr(v)) {
        v = yyjson_mut_arr(d);
        json_set(d, obj, key, v);
    }
    return v;
}

/* An integer is held signed or unsigned by how it was made, not by its value. */
static bool numbers_equal(bool a_int, bool a_negative, uint64_t a_bits, double a, bool b_int, bool b_negative,
                          uint64_t b_bits, double b) {
    if (a_int && b_int)
        return a_negative == b_negative && a_bits == b_bits;
    return a == b;
}

static bool num_equal(yyjson_val *a, yyjson_val *b) {
    return numbers_equal(yyjson_is_int(a), yyjson_is_sint(a) && yyjson_get_sint(a) < 0, yyjson_get_uint(a),
                         yyjson_get_num(a), yyjson_is_int(b), yyjson_is_sint(b) && yyjson_get_sint(b) < 0,
                         yyjson_get_uint(b), yyjson_get_num(b));
}

static bool mut_num_equal(yyjson_mut_val *a, yyjson_mut_val *b) {
    return numbers_equal(yyjson_mut_is_int(a), yyjson_mut_is_sint(a) && yyjson_mut_get_sint(a) < 0,
                         yyjson_mut_get_uint(a), yyjson_mut_get_num(a), yyjson_mut_is_int(b),
                         yyjson_mut_is_sint(b) && yyjson_mut_get_sint(b) < 0, yyjson_mut_get_uint(b),
                         yyjson_mut_get_num(b));
}

/* Recursion is as deep as the documents, which json_parse caps. */
bool json_equal(yyjson_val *a, yyjson_val *b) {
    if (!a || !b)
        return a == b;
    if (yyjson_get_type(a) != yyjson_get_type(b))
        return false;
    size_t i, max;
    yyjson_val *key, *item;
    switch (yyjson_get_type(a)) {
    case YYJSON_TYPE_NUM:
        return num_equal(a, b);
    case YYJSON_TYPE_STR:
        return bytes_eq(bytes_of(yyjson_get_str(a), yyjson_get_len(a)), bytes_of(yyjson_get_str(b), yyjson_get_len(b)));
    case YYJSON_TYPE_BOOL:
        return yyjson_get_bool(a) == yyjson_get_bool(b);
    case YYJSON_TYPE_ARR:
        if (yyjson_arr_size(a) != yyjson_arr_size(b))
            return false;
        yyjson_val *other = yyjson_arr_get_first(b);
        yyjson_arr_foreach (a, i, max, item) {
            if (!json_equal(item, other))
                return false;
            other = unsafe_yyjson_get_next(other);
        }
        return true;
    case YYJSON_TYPE_OBJ:
        if (yyjson_obj_size(a) != yyjson_obj_size(b))
            return false;
        yyjson_obj_iter it = yyjson_obj_iter_with(b); /* quick where both have the same order */
        yyjson_obj_foreach (a, i, max, key, item) {
            yyjson_val *found = yyjson_obj_iter_getn(&it, yyjson_get_str(key), yyjson_get_len(key));
            if (!found || !json_equal(item, found))
                return false;
        }
        return true;
    default:
        return true;
    }
}

bool json_mut_equal(yyjson_mut_val *a, yyjson_mut_val *b) {
    if (!a || !b)
        return a == b;
    if (yyjson_mut_get_type(a) != yyjson_mut_get_type(b))
        return false;
    size_t i, max;
    yyjson_mut_val *key, *item;
    switch (yyjson_mut_get_type(a)) {
    case YYJSON_TYPE_NUM:
        return mut_num_equal(a, b);
    case YYJSON_TYPE_STR:
        return bytes_eq(bytes_of(yyjson_mut_get_str(a), yyjson_mut_get_len(a)),
                        bytes_of(yyjson_mut_get_str(b), yyjson_mut_get_len(b)));
    case YYJSON_TYPE_BOOL:
        return yyjson_mut_get_bool(a) == yyjson_mut_get_bool(b);
    case YYJSON_TYPE_ARR:
        if (yyjson_mut_arr_size(a) != yyjson_mut_arr_size(b))
            return false;
        yyjson_mut_val *other = yyjson_mut_arr_get_first(b);
        yyjson_mut_arr_foreach (a, i, max, item) {
            if (!json_mut_equal(item, other))
                return false;
            other = other->next;
        }
        return true;
    case YYJSON_TYPE_OBJ:
        if (yyjson_mut_obj_size(a) != yyjson_mut_obj_size(b))
            return false;
        yyjson_mut_obj_foreach (a, i, max, key, item) {
            yyjson_mut_val *found = yyjson_mut_obj_getn(b, yyjson_mut_get_str(key), yyjson_mut_get_len(key));
            if (!found || !json_mut_equal(item, found))
                return false;
        }
        return true;
    default:
        return true;
    }
}
