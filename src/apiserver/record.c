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

struct record *record_new(const char *ns, const char *name, struct bytes stored, uint64_t rev, struct error *err) {
    uint32_t head, off, old_len;
    struct bytes text = stored, owners = BYTES_EMPTY;
    bytes_cut(stored, '\n', &text, &owners);
    if (find_parts(text, &head, &off, &old_len) < 0) {
        error_set(err, ERR_INVALID, "stored object %s/%s is not in the form that this server writes", ns, name);
        return NULL;
    }
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, rev);
    uint32_t rv_len = (uint32_t)n;
    size_t ns_size = strlen(ns) + 1, name_size = strlen(name) + 1;
    size_t len = text.len - old_len + rv_len;
    struct record *r = xmalloc(sizeof(*r) + ns_size + name_size + len + 1 + owners.len);
    char *p = (char *)(r + 1);
    r->ns = memcpy(p, ns, ns_size);
    p += ns_size;
    r->name = memcpy(p, name, name_size);
    p += name_size;
    r->text = p;
    memcpy(p, text.ptr, off);
    memcpy(p + off, digits, rv_len);
    memcpy(p + off + rv_len, text.ptr + off + old_len, text.len - off - old_len);
    p[len] = '\n';
    if (owners.len > 0)
        memcpy(p + len + 1, owners.ptr, owners.len);
    r->refs = 1;
    r->head_len = head;
    r->rv_off = off;
    r->rv_len = rv_len;
    r->rev = rev;
    r->len = len;
    r->owners_len = owners.len;
    return r;
}

int record_key_cmp(const struct record *r, const char *ns, const char *name) {
    int c = strcmp(r->ns, ns);
    return c ? c : strcmp(r->name, name);
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

/* A dry run's record has no resourceVersion: it is left out, with the comma before it (uid stands there). */
int record_append_with(struct buf *out, const struct record *r, uint64_t rev, struct bytes members, bool bare) {
    size_t from = bare ? r->head_len : 0, tail = r->rv_off + r->rv_len + 1; /* behind the closing quote */
    if (bare)
        buf_add_char(out, '{');
    if (rev == 0 && r->rev == 0) {
        buf_add(out, r->text + from, r->rv_off - sizeof(rv_key) - from);
    } else if (rev == 0) {
        buf_add(out, r->text + from, tail - from);
    } else {
        buf_add(out, r->text + from, r->rv_off - from);
        buf_addf(out, "%" PRIu64 "\"", rev);
    }
    buf_add_bytes(out, members);
    return buf_add(out, r->text + tail, r->len - tail);
}

int record_append(struct buf *out, const struct record *r, uint64_t rev) {
    return record_append_with(out, r, rev, BYTES_EMPTY, false);
}

yyjson_doc *record_parse(const struct record *r) {
    yyjson_doc *d = yyjson_read(r->text, r->len, 0);
    if (!d)
        panic("apiserver: stored object %s/%s does not parse", r->ns, r->name);
    return d;
}
