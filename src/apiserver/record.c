#include "apiserver/record.h"

#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>

static const char rv_key[] = "\"resourceVersion\":\"";
static const char meta_key[] = "\"metadata\":{";

/* Finds the head and the resourceVersion in text of the fixed order. */
static int find_parts(struct bytes text, uint32_t *head, uint32_t *rv_off, uint32_t *rv_len) {
    if (text.len > UINT32_MAX)
        return -1;
    const char *meta = memmem(text.ptr, text.len, meta_key, sizeof(meta_key) - 1);
    if (!meta)
        return -1;
    const char *end = text.ptr + text.len;
    const char *rv = memmem(meta, (size_t)(end - meta), rv_key, sizeof(rv_key) - 1);
    if (!rv)
        return -1;
    rv += sizeof(rv_key) - 1;
    const char *quote = memchr(rv, '"', (size_t)(end - rv));
    if (!quote)
        return -1;
    *head = (uint32_t)(meta - text.ptr);
    *rv_off = (uint32_t)(rv - text.ptr);
    *rv_len = (uint32_t)(quote - rv);
    return 0;
}

struct record *record_new(const char *ns, const char *name, struct bytes text, uint64_t rev, struct error *err) {
    uint32_t head, off, old_len;
    if (find_parts(text, &head, &off, &old_len) < 0) {
        error_set(err, ERR_INVALID, "stored object %s/%s is not in the form that this server writes", ns, name);
        return NULL;
    }
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, rev);
    uint32_t rv_len = (uint32_t)n;
    size_t ns_size = strlen(ns) + 1, name_size = strlen(name) + 1;
    size_t len = text.len - old_len + rv_len;
    struct record *r = xmalloc(sizeof(*r) + ns_size + name_size + len + 1);
    char *p = (char *)(r + 1);
    r->ns = memcpy(p, ns, ns_size);
    p += ns_size;
    r->name = memcpy(p, name, name_size);
    p += name_size;
    r->text = p;
    memcpy(p, text.ptr, off);
    memcpy(p + off, digits, rv_len);
    memcpy(p + off + rv_len, text.ptr + off + old_len, text.len - off - old_len);
    p[len] = 0;
    r->refs = 1;
    r->head_len = head;
    r->rv_off = off;
    r->rv_len = rv_len;
    r->rev = rev;
    r->len = len;
    return r;
}

struct record *record_ref(struct record *r) {
    if (r)
        r->refs++;
    return r;
}

void record_unref(struct record *r) {
    if (r && --r->refs == 0)
        free(r);
}

/* Moves members of from to the end of to: first those named, in that order, then the rest. */
static void reorder(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *const *first, size_t n_first) {
    yyjson_mut_val *sorted = yyjson_mut_obj(d);
    for (size_t i = 0; i < n_first; i++) {
        yyjson_mut_val *v = yyjson_mut_obj_remove_key(obj, first[i]);
        if (v)
            yyjson_mut_obj_add(sorted, yyjson_mut_str(d, first[i]), v);
    }
    yyjson_mut_obj_iter it = yyjson_mut_obj_iter_with(obj);
    yyjson_mut_val *key;
    while ((key = yyjson_mut_obj_iter_next(&it))) {
        yyjson_mut_val *v = yyjson_mut_obj_iter_get_val(key);
        yyjson_mut_obj_iter_remove(&it);
        yyjson_mut_obj_add(sorted, key, v);
    }
    obj->tag = sorted->tag; /* its content; its place among its own siblings stays */
    obj->uni = sorted->uni;
}

char *record_write(yyjson_mut_doc *d, yyjson_mut_val *root, const char *api_version, const char *kind, size_t *len) {
    static const char *const meta_first[] = {"name", "generateName", "namespace", "uid", "resourceVersion"};
    static const char *const root_first[] = {"kind", "apiVersion", "metadata"};
    json_set_str(d, root, "kind", kind);
    json_set_str(d, root, "apiVersion", api_version);
    yyjson_mut_val *meta = json_ensure_obj(d, root, "metadata");
    json_set_str(d, meta, "resourceVersion", "0");
    reorder(d, meta, meta_first, ARRAY_LEN(meta_first));
    reorder(d, root, root_first, ARRAY_LEN(root_first));
    return json_write_mut(root, len);
}

bool record_same(const struct record *r, struct bytes text) {
    uint32_t head, off, rv_len;
    if (find_parts(text, &head, &off, &rv_len) < 0 || off != r->rv_off)
        return false;
    size_t tail = text.len - off - rv_len;
    return tail == r->len - r->rv_off - r->rv_len && memcmp(text.ptr, r->text, off) == 0 &&
           memcmp(text.ptr + off + rv_len, r->text + r->rv_off + r->rv_len, tail) == 0;
}

/* The text from offset `from` on, with another resourceVersion (0: its own). A dry run's record has none: it is left
 * out, with the comma before it (uid stands there). */
static int append_from(struct buf *out, const struct record *r, size_t from, uint64_t rev) {
    size_t tail = r->rv_off + r->rv_len;
    if (rev == 0 && r->rev != 0)
        return buf_add(out, r->text + from, r->len - from);
    if (rev == 0) {
        buf_add(out, r->text + from, r->rv_off - sizeof(rv_key) - from);
        return buf_add(out, r->text + tail + 1, r->len - tail - 1);
    }
    buf_add(out, r->text + from, r->rv_off - from);
    buf_addf(out, "%" PRIu64, rev);
    return buf_add(out, r->text + tail, r->len - tail);
}

int record_append(struct buf *out, const struct record *r, uint64_t rev) {
    return append_from(out, r, 0, rev);
}

int record_append_bare(struct buf *out, const struct record *r) {
    buf_add_char(out, '{');
    return append_from(out, r, r->head_len, 0);
}

yyjson_doc *record_parse(const struct record *r) {
    yyjson_doc *d = yyjson_read(r->text, r->len, 0);
    if (!d)
        panic("apiserver: stored object %s/%s does not parse", r->ns, r->name);
    return d;
}
