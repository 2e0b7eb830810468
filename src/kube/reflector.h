/* List + watch of one collection, kept in a cache; told to a handler as it changes. On the loop thread.
 *
 * Free it before its kube_client. It may be freed in its own callbacks.
 *
 * LIST by pages of 500 (fewer where a page would be too large), WATCH with bookmarks from there, 410 means relist (the
 * difference to the cache is told as events), clean ends reconnect at once, failures back off with jitter
 * (embedded-api.md 0.1). RVs are compared for equality only. A connection on which nothing comes for idle_timeout_ms is
 * given up: bookmarks come about once a minute.
 */
#pragma once

#include "base/json.h"
#include "kube/client.h"

enum reflector_event { REFLECTOR_ADDED, REFLECTOR_MODIFIED, REFLECTOR_DELETED };

struct reflector;
struct reflector_options {
    const char *group, *version, *plural;
    const char *ns;             /* NULL: all */
    const char *label_selector; /* or NULL */
    const char *field_selector; /* or NULL */
    /* Keep objects in the cache? false: only name, namespace, uid, resourceVersion are kept (told objects are whole):
     * for collections that would be too large. */
    bool keep_objects;
    int idle_timeout_ms; /* 0: 150 s */
    /* Cuts an object down to what is kept; may be NULL. Returns a new document, which the reflector owns. Name,
     * namespace, uid and resourceVersion must stay. */
    yyjson_doc *(*trim)(void *arg, yyjson_val *object);
    /* object is whole, with apiVersion and kind; old is what was kept, NULL for ADDED (and where nothing is kept). The
     * cache shows the new state already. For DELETED, object is the last known one: what was kept, if the deletion
     * was learned from a list. */
    void (*event)(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old);
    /* The first list is complete (called again after each relist). */
    void (*synced)(void *arg);
    void *arg;
};
struct reflector *reflector_new(struct kube_client *k, const struct reflector_options *o);
void reflector_free(struct reflector *r);
bool reflector_synced(const struct reflector *r);
yyjson_val *reflector_get(const struct reflector *r, const char *ns,
                          const char *name); /* borrowed; NULL if unknown or not kept */
bool reflector_has(const struct reflector *r, const char *ns, const char *name); /* also of what is not kept */
size_t reflector_count(const struct reflector *r);
void reflector_each(const struct reflector *r, void (*fn)(void *arg, yyjson_val *object), void *arg);
