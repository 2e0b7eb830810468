#include "kube/object_cache.h"

#include "base/str.h"
#include "kube/object.h"

#define MAX_KEY 1024

static size_t make_key(char *out, const char *ns, const char *name) {
    size_t n = strnlen(ns, MAX_KEY / 2 - 1), m = strnlen(name, MAX_KEY / 2 - 1);
    memcpy(out, ns, n);
    out[n] = '/';
    memcpy(out + n + 1, name, m);
    out[n + 1 + m] = 0;
    return n + 1 + m;
}

struct cache_entry *cache_find(const struct object_cache *c, const char *ns, const char *name) {
    char key[MAX_KEY];
    struct cache_entry *e;
    size_t n = make_key(key, ns, name);
    HASH_FIND(hh, c->entries, key, n, e);
    return e;
}

struct cache_entry *cache_add(struct object_cache *c, const char *ns, const char *name) {
    char key[MAX_KEY];
    size_t n = make_key(key, ns, name);
    struct cache_entry *e = xcalloc(1, sizeof *e + n + 1);
    memcpy(e->key, key, n + 1);
    HASH_ADD_KEYPTR(hh, c->entries, e->key, n, e);
    return e;
}

void cache_take(struct object_cache *c, struct cache_entry *e) {
    HASH_DEL(c->entries, e);
}

void cache_entry_free(struct cache_entry *e) {
    yyjson_doc_free(e->doc);
    free(e);
}

void cache_free(struct object_cache *c) {
    struct cache_entry *e, *next;
    HASH_ITER (hh, c->entries, e, next) {
        HASH_DEL(c->entries, e);
        cache_entry_free(e);
    }
}

static yyjson_doc *finish(yyjson_mut_doc *d, yyjson_mut_val *root) {
    yyjson_doc *out = yyjson_mut_val_imut_copy(root, NULL);
    if (!out)
        panic("out of memory for a cached object");
    yyjson_mut_doc_free(d);
    return out;
}

yyjson_doc *object_compact(yyjson_val *object, const char *api_version, const char *kind) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_val_mut_copy(d, object);
    if (!root)
        panic("out of memory for a cached object");
    if (api_version && str_empty(object_api_version(object)))
        json_set_str(d, root, "apiVersion", api_version);
    if (kind && str_empty(object_kind(object)))
        json_set_str(d, root, "kind", kind);
    return finish(d, root);
}

yyjson_doc *object_identity(yyjson_val *object) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_val *metadata = json_ensure_obj(d, root, "metadata");
    json_set_str(d, metadata, "name", object_name(object));
    if (*object_namespace(object))
        json_set_str(d, metadata, "namespace", object_namespace(object));
    json_set_str(d, metadata, "uid", object_uid(object));
    json_set_str(d, metadata, "resourceVersion", object_rv(object));
    return finish(d, root);
}
