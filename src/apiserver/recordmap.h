/* The current objects of one resource, ordered by namespace, then name (byte order): a sorted list of sorted chunks, so
 * that finding is a binary search, listing is a walk, and inserting moves a few hundred pointers at most. Holds a
 * reference to each record. */
#pragma once

#include "apiserver/record.h"

struct recordmap_chunk;
struct recordmap {
    struct recordmap_chunk **chunks;
    size_t n_chunks, cap_chunks;
    size_t count;
    size_t bytes; /* of all texts */
};

void recordmap_clear(struct recordmap *m);
struct record *recordmap_get(const struct recordmap *m, const char *ns, const char *name); /* borrowed; NULL if none */
void recordmap_put(struct recordmap *m, struct record *r); /* takes a reference; replaces the one of that key */
void recordmap_remove(struct recordmap *m, const char *ns, const char *name);
/* Owned array of references, in order; ns NULL: of all namespaces. Free with recordmap_free_snapshot. */
struct record **recordmap_snapshot(const struct recordmap *m, const char *ns, size_t *n);
void recordmap_free_snapshot(struct record **records, size_t n);
/* fn for each, in order; it must not change the map. */
void recordmap_each(const struct recordmap *m, const char *ns, void (*fn)(void *arg, struct record *r), void *arg);
