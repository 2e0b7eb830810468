#include "wire/resource.h"

#include "base/str.h"

#define SHOWN 120 /* bytes of a bad resource that a message quotes */

int resource_parse(struct bytes text, struct resource *out, struct error *err) {
    struct bytes parts[3];
    size_t n = bytes_split(text, '/', parts, 3);
    int shown = (int)(text.len < SHOWN ? text.len : SHOWN);
    if (n != 2 && n != 3)
        return error_set(err, ERR_INVALID, "resource \"%.*s\" has %zu segments, not <ns>/<type>[/<name>]", shown,
                         text.len ? text.ptr : "", n);
    for (size_t i = 0; i < n; i++)
        if (parts[i].len == 0)
            return error_set(err, ERR_INVALID, "resource \"%.*s\" has an empty segment", shown, text.ptr);
    *out = (struct resource){.ns = bytes_eq_str(parts[0], "null") ? BYTES_EMPTY : parts[0],
                             .type = parts[1],
                             .name = n == 3 ? parts[2] : BYTES_EMPTY};
    return 0;
}

bool resource_split_node(struct bytes text, struct bytes *node, struct bytes *rest) {
    struct bytes prefix, after, name, tail;
    if (!bytes_cut(text, '/', &prefix, &after) || !bytes_eq_str(prefix, "node"))
        return false;
    if (!bytes_cut(after, '/', &name, &tail) || name.len == 0 || tail.len == 0)
        return false;
    *node = name;
    *rest = tail;
    return true;
}

int resource_format(struct buf *out, const char *ns, const char *type, const char *name) {
    const char *slash = str_empty(name) ? "" : "/";
    return buf_addf(out, "%s/%s%s%s", str_or(ns, "null"), type, slash, str_or(name, ""));
}
