/* The tables `meta` and `meta_v2` (resource-sync.md 5.1 to 5.3), and the rules by which rows change. Used on the store
 * queue's thread only, inside a transaction that the caller began (reads need none). */
#pragma once

#include "base/json.h"
#include "store/store.h"
#include "wire/resource.h"

struct meta_store;

/* Opens or makes the file. A damaged one is set aside, and what can still be read of it is copied to the new one. */
int meta_store_open(struct meta_store **out, const char *path, struct error *err) MUST_CHECK;
void meta_store_close(struct meta_store *s);
struct store *meta_store_db(struct meta_store *s); /* for the tables of meta_local.h */
int meta_store_begin(struct meta_store *s, struct error *err) MUST_CHECK;
int meta_store_commit(struct meta_store *s, struct error *err) MUST_CHECK;
void meta_store_rollback(struct meta_store *s);
/* Set aside and made anew while running, once it has shown itself to be damaged. */
bool meta_store_is_damaged(const struct meta_store *s);
int meta_store_rebuild(struct meta_store *s, struct error *err) MUST_CHECK;
/* May rows be missing that were acknowledged? From a rebuild on, also after a restart, until it is told otherwise. */
bool meta_store_has_gaps(const struct meta_store *s);
int meta_store_set_gaps(struct meta_store *s, bool gaps, struct error *err) MUST_CHECK;

enum meta_put {
    META_PUT_ALWAYS,    /* insert or replace, unless what is stored is newer */
    META_PUT_IF_STORED, /* only over a row of the same uid: a late answer must not bring back what was deleted */
    META_PUT_FETCHED,   /* an answer: unless the object has been deleted since it was asked for */
};
enum meta_put_result {
    META_STORED,  /* new, or newer than what was there */
    META_CURRENT, /* the same resourceVersion was stored already */
    META_STALE,   /* older than what is stored, or deleted meanwhile */
};
/* *told: does the new object differ from the old one in more than its status and bookkeeping? May be NULL. */
int meta_store_put(struct meta_store *s, struct bytes key, const struct resource *r, yyjson_val *object,
                   enum meta_put how, enum meta_put_result *result, bool *told, struct error *err) MUST_CHECK;
/* Removes the object if uid is "" or its own. *old: the removed value's text (owned by the caller), NULL if nothing
 * was removed. */
int meta_store_delete(struct meta_store *s, struct bytes key, const struct resource *r, const char *uid, char **old,
                      size_t *old_len, struct error *err) MUST_CHECK;
/* A row that is no object: patch texts, tokens. */
int meta_store_put_raw(struct meta_store *s, struct bytes key, struct bytes type, struct bytes value,
                       struct error *err) MUST_CHECK;
int meta_store_delete_raw(struct meta_store *s, struct bytes key, struct error *err) MUST_CHECK;
/* The row's value, owned by the caller; NULL if there is none. */
int meta_store_get(struct meta_store *s, struct bytes key, char **value, size_t *len, struct error *err) MUST_CHECK;
/* All values of a type as a JSON array. A row that is no JSON is left out. */
int meta_store_list(struct meta_store *s, struct bytes type, struct buf *out, struct error *err) MUST_CHECK;
/* The tokens bound to a pod. */
int meta_store_delete_tokens(struct meta_store *s, struct bytes pod_uid, struct error *err) MUST_CHECK;
