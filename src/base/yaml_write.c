/* JSON to YAML, block style. */
#include "base/str.h"
#include "base/yaml.h"
#include "base/yaml_scalar.h"

static void write_indent(struct buf *out, unsigned indent) {
    for (unsigned i = 0; i < indent; i++)
        buf_add_str(out, "  ");
}

/* The code of a character that YAML takes for a line break or refuses to read as it stands; 0 for the others. All of
 * them have two or three bytes, but DEL. */
static unsigned unprintable(const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    unsigned code = n == 1   ? p[0]
                    : n == 2 ? (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu)
                    : n == 3 ? (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu)
                             : 0;
    bool bad = (code >= 0x7f && code <= 0x9f) || code == 0x2028 || code == 0x2029 || code == 0xfeff || code >= 0xfffe;
    return bad ? code : 0;
}

/* A JSON string is a double-quoted YAML scalar, once those characters are escaped. */
static void write_quoted(struct buf *out, struct bytes text) {
    _cleanup_(buf_free) struct buf quoted = BUF_INIT(out->max);
    if (json_append_string(&quoted, text) < 0)
        out->overflowed = true;
    struct bytes s = buf_bytes(&quoted);
    while (s.len > 0) {
        size_t n = utf8_length(s);
        unsigned code = unprintable(s.ptr, n);
        if (code)
            buf_addf(out, "\\u%04x", code);
        else
            buf_add(out, s.ptr, n);
        s.ptr += n;
        s.len -= n;
    }
}

static void write_string(struct buf *out, const char *s, size_t n) {
    struct bytes text = {s, n};
    if (yaml_scalar_plain(text))
        buf_add_bytes(out, text);
    else
        write_quoted(out, text);
}

static bool is_block(const yyjson_val *v) {
    return (yyjson_is_obj((yyjson_val *)(uintptr_t)v) || yyjson_is_arr((yyjson_val *)(uintptr_t)v)) &&
           unsafe_yyjson_get_len((void *)(uintptr_t)v) > 0;
}

static int write_scalar(struct buf *out, yyjson_val *v) {
    if (yyjson_is_str(v))
        write_string(out, yyjson_get_str(v), yyjson_get_len(v));
    else if (json_append(out, v) < 0) /* also {} and [] */
        return -1;
    return buf_add_char(out, '\n');
}

static int write_value(struct buf *out, yyjson_val *v, unsigned indent, bool first_in_line, unsigned depth);

static int write_object(struct buf *out, yyjson_val *v, unsigned indent, bool first_in_line, unsigned depth) {
    size_t i, max;
    yyjson_val *key, *item;
    yyjson_obj_foreach (v, i, max, key, item) {
        if (i > 0 || !first_in_line)
            write_indent(out, indent);
        write_string(out, yyjson_get_str(key), yyjson_get_len(key));
        buf_add_char(out, ':');
        buf_add_char(out, is_block(item) ? '\n' : ' ');
        /* the items of a list stand as far right as its key, as in Go's output */
        if (write_value(out, item, yyjson_is_arr(item) ? indent : indent + 1, false, depth) < 0)
            return -1;
    }
    return out->overflowed ? -1 : 0;
}

static int write_list(struct buf *out, yyjson_val *v, unsigned indent, bool first_in_line, unsigned depth) {
    size_t i, max;
    yyjson_val *item;
    yyjson_arr_foreach (v, i, max, item) {
        if (i > 0 || !first_in_line)
            write_indent(out, indent);
        buf_add_str(out, "- ");
        if (write_value(out, item, indent + 1, true, depth) < 0)
            return -1;
    }
    return out->overflowed ? -1 : 0;
}

/* first_in_line: the line's indentation (or "- ") is written already. */
static int write_value(struct buf *out, yyjson_val *v, unsigned indent, bool first_in_line, unsigned depth) {
    if (depth > JSON_MAX_DEPTH) {
        out->overflowed = true;
        return -1;
    }
    if (!is_block(v))
        return write_scalar(out, v);
    if (yyjson_is_obj(v))
        return write_object(out, v, indent, first_in_line, depth + 1);
    return write_list(out, v, indent, first_in_line, depth + 1);
}

int yaml_write(struct buf *out, const yyjson_val *v) {
    return write_value(out, (yyjson_val *)(uintptr_t)v, 0, false, 0);
}
