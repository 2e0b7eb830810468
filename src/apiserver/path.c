#include "apiserver/path.h"

#include "base/mem.h"
#include "base/str.h"

#define MAX_SEGMENTS 64
#define MAX_VALUE (64u << 10)

/* Appends one decoded segment and a NUL; gives its offset in the block, or -1. */
static long add_segment(struct buf *block, struct bytes raw, struct error *err) {
    size_t start = block->len;
    if (percent_decode(raw, false, block) < 0)
        return error_set(err, ERR_INVALID, "the path has a malformed escape");
    struct bytes s = {block->ptr + start, block->len - start};
    if (bytes_eq_str(s, ".") || bytes_eq_str(s, ".."))
        return error_set(err, ERR_INVALID, "the path has a segment \".\" or \"..\"");
    if (s.len > 0 && (memchr(s.ptr, '/', s.len) || memchr(s.ptr, '%', s.len)))
        return error_set(err, ERR_INVALID, "a name in the path has a '/' or a '%%' in it");
    if (buf_add_char(block, 0) < 0)
        return error_set(err, ERR_INVALID, "the path is too long");
    return (long)start;
}

struct segments {
    size_t n, at;
    const char *items[MAX_SEGMENTS];
};

static const char *next(struct segments *s) {
    return s->at < s->n ? s->items[s->at++] : "";
}

/* namespaces/<x>/<status|finalize> is the Namespace itself; namespaces/<x>/<more> lies in it. */
static void read_tail(struct segments *s, struct api_path *out) {
    size_t left = s->n - s->at;
    if (strcmp(s->items[s->at], "namespaces") == 0 && left > 2 && strcmp(s->items[s->at + 2], "status") != 0 &&
        strcmp(s->items[s->at + 2], "finalize") != 0) {
        s->at++;
        out->ns = next(s);
    }
    out->resource = next(s);
    out->name = next(s);
    out->subresource = next(s);
    out->rest = next(s);
}

static int split(struct bytes path, struct buf *block, struct segments *s, struct error *err) {
    long offsets[MAX_SEGMENTS];
    struct bytes raw[MAX_SEGMENTS];
    if (bytes_starts_with(path, "/"))
        path = bytes_of(path.ptr + 1, path.len - 1);
    while (bytes_ends_with(path, "/"))
        path.len--;
    size_t n = bytes_split(path, '/', raw, MAX_SEGMENTS);
    if (n > MAX_SEGMENTS)
        return error_set(err, ERR_NOT_FOUND, "the path has too many segments");
    for (size_t i = 0; i < n; i++)
        if ((offsets[i] = add_segment(block, raw[i], err)) < 0)
            return -1;
    for (size_t i = 0; i < n; i++)
        s->items[i] = block->ptr + offsets[i];
    s->n = n;
    return 0;
}

int api_path_parse(struct bytes path, struct api_path *out, struct error *err) {
    *out = (struct api_path){
        .group = "", .version = "", .ns = "", .resource = "", .name = "", .subresource = "", .rest = ""};
    _cleanup_(buf_free) struct buf block = BUF_INIT(path.len + MAX_SEGMENTS + 1);
    struct segments s = {0};
    bool core = bytes_starts_with(path, "/api/"), named = bytes_starts_with(path, "/apis/");
    if (!core && !named)
        return error_set(err, ERR_NOT_FOUND, "not the path of a resource");
    if (split(path, &block, &s, err) < 0)
        return -1;
    if (s.n < (core ? 3u : 4u))
        return error_set(err, ERR_NOT_FOUND, "not the path of a resource");
    for (size_t i = 0; i < s.n; i++)
        if (!*s.items[i])
            return error_set(err, ERR_INVALID, "the path has an empty segment");
    s.at = 1;
    out->group = core ? "" : next(&s);
    out->version = next(&s);
    read_tail(&s, out);
    out->block = buf_take(&block, NULL);
    return 0;
}

void api_path_free(struct api_path *p) {
    free(p->block);
    p->block = NULL;
}

bool list_next(struct bytes *rest, char sep, struct bytes *part) {
    if (!rest->ptr)
        return false;
    const char *at = rest->len > 0 ? memchr(rest->ptr, sep, rest->len) : NULL;
    if (!at) {
        *part = *rest;
        *rest = BYTES_EMPTY;
        return true;
    }
    *part = bytes_of(rest->ptr, (size_t)(at - rest->ptr));
    *rest = bytes_of(at + 1, rest->len - part->len - 1);
    return true;
}

/* Does the query have a parameter of that name? */
static bool query_has(struct bytes query, const char *name) {
    size_t n = strlen(name);
    struct bytes part;
    while (list_next(&query, '&', &part))
        if (part.len >= n && memcmp(part.ptr, name, n) == 0 && (part.len == n || part.ptr[n] == '='))
            return true;
    return false;
}

bool query_flag(struct bytes query, const char *name) {
    _cleanup_(buf_free) struct buf v = BUF_INIT(16);
    if (!query_get(query, name, &v))
        return query_has(query, name);
    return !bytes_eq_str(buf_bytes(&v), "0") && !bytes_eq_str(buf_bytes(&v), "false");
}

int query_text(struct bytes query, const char *name, char **out, struct error *err) {
    *out = NULL;
    if (!query_has(query, name))
        return 0;
    _cleanup_(buf_free) struct buf v = BUF_INIT(MAX_VALUE);
    if (!query_get(query, name, &v))
        return error_set(err, ERR_INVALID, "the query parameter %s cannot be decoded", name);
    *out = buf_take(&v, NULL);
    return 0;
}
