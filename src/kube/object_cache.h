/* The reflector's cache: objects by namespace and name, each a compact JSON document of its own. Private to the
 * reflector. */
#pragma once

#include "base/json.h"
#include "base/str.h"

#define uthash_fatal(message) panic("out of memory for the object cache")
#define HASH_FUNCTION(key, len, out) ((out) = (unsigned)str_hash((key), (len)))
#include <uthash.h>

struct cache_entry {
    yyjson_doc *doc;     /* the object, or its identity only */
    uint32_t generation; /* of the list that has last seen it */
    UT_hash_handle hh;
    char key[]; /* "namespace/name" */
};

struct object_cache {
    struct cache_entry *entries;
};

struct cache_entry *cache_find(const struct object_cache *c, const char *ns, const char *name);
/* An entry without a document; there is none yet. */
struct cache_entry *cache_add(struct object_cache *c, const char *ns, const char *name);
/* Takes it out of the cache; the caller frees it. */
void cache_take(struct object_cache *c, struct cache_entry *e);
void cache_entry_free(struct cache_entry *e);
void cache_free(struct object_cache *c);

static inline yyjson_val *cache_object(const struct cache_entry *e) {
    return yyjson_doc_get_root(e->doc);
}

/* A copy of an object that takes no more memory than it needs; apiVersion and kind are added where the list that it
 * came from left them out (they may be NULL). */
yyjson_doc *object_compact(yyjson_val *object, const char *api_version, const char *kind);
/* {"metadata":{name, namespace, uid, resourceVersion}} */
yyjson_doc *object_identity(yyjson_val *object);
