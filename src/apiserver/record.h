/* One version of one stored object: immutable, counted, kept as the JSON text that clients get.
 *
 * The text is compact and in a fixed order: kind, apiVersion, metadata {name, generateName, namespace, uid,
 * resourceVersion, ...}, the rest. So the head can be exchanged (lists, other versions) and the resourceVersion can be
 * replaced without parsing. Who owns which fields (kube/ownership.h) is stored behind the text, after a newline, which
 * compact JSON never holds. Loop thread only; the writer thread reads records whose reference the loop thread holds. */
#pragma once

#include "base/json.h"

#include <stdint.h>

struct record {
    unsigned refs;
    uint32_t head_len; /* `{"kind":...,"apiVersion":...,`: what stands before `"metadata"` */
    uint32_t rv_off;   /* of the resourceVersion's digits */
    uint32_t rv_len;
    uint64_t rev; /* the resourceVersion */
    size_t len;   /* of the text */
    size_t owners_len;
    const char *ns, *name, *text;
};

/* From a stored text in the fixed order (record_write), with any resourceVersion; rev replaces it. ERR_INVALID if text
 * has no metadata.resourceVersion where it should be: a damaged database. */
struct record *record_new(const char *ns, const char *name, struct bytes text, uint64_t rev,
                          struct error *err) MUST_CHECK;
/* Order of lists: by namespace, then name, in bytes. */
int record_key_cmp(const struct record *r, const char *ns, const char *name);
struct record *record_ref(struct record *r); /* NULL is fine */
void record_unref(struct record *r);
DEFINE_CLEANUP(struct record, record_unref)

/* Puts the object in the fixed order, with resourceVersion "0", and writes it. root is changed. Owned text. */
char *record_write(yyjson_mut_doc *d, yyjson_mut_val *root, const char *api_version, const char *kind, size_t *len);
/* Is text the same as the record's, resourceVersions aside? */
bool record_same(const struct record *r, struct bytes text);

/* Appends the record's text with other words for some of it. rev 0: its own; a
 * record of revision 0 (a dry run) has no resourceVersion. */
int record_append(struct buf *out, const struct record *r, uint64_t rev);
/* With more members of the metadata, JSON text that begins with a comma. bare: without kind and apiVersion (items of
 * built-in lists). */
int record_append_with(struct buf *out, const struct record *r, uint64_t rev, struct bytes members, bool bare);
yyjson_doc *record_parse(const struct record *r);
static inline struct bytes record_text(const struct record *r) {
    return (struct bytes){r->text, r->len};
}
static inline struct bytes record_owners(const struct record *r) { /* empty if nobody is known */
    return (struct bytes){r->text + r->len + 1, r->owners_len};
}
static inline struct bytes record_stored(const struct record *r) { /* what record_new takes */
    return (struct bytes){r->text, r->len + (r->owners_len ? 1 + r->owners_len : 0)};
}
