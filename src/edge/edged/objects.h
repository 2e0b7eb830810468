/* ConfigMaps, Secrets and service account tokens that a pod refers to: fetched together through MetaManager, held only
 * while they are needed. */
#pragma once

#include "edge/bus.h"
#include "edge/edged/pod.h"

#include <uthash.h>

enum object_kind { OBJ_CONFIGMAP, OBJ_SECRET, OBJ_TOKEN };

struct object_entry {
    enum object_kind kind;
    char *name;      /* of the ConfigMap, Secret; of a token: service account, '/', audience, '/', seconds */
    yyjson_doc *doc; /* NULL: see error */
    yyjson_val *obj;
    struct error error; /* ERR_NOT_FOUND: there is none. Others: could not be asked */
    UT_hash_handle hh;  /* by kind and name */
    char key[];
};

struct object_set {
    struct object_entry *items; /* a hash, in the order of the pod's references */
    char *ns;
};

void object_set_free(struct object_set *s);
DEFINE_CLEANUP(struct object_set, object_set_free)
/* NULL where the set does not hold it. */
const struct object_entry *object_set_get(const struct object_set *s, enum object_kind kind, const char *name);
/* The entry, added empty, to be filled by the fetch, if it is not there yet. name is not empty. */
struct object_entry *object_set_want(struct object_set *s, enum object_kind kind, const char *name);
/* Everything that the pod's volumes, env and image pull secrets refer to. */
struct object_set *object_set_of_pod(const struct pod *p);
bool pod_refers_to(const struct pod *p, enum object_kind kind, const char *name);

/* The entry name of a projected service account token. Owned. */
char *token_entry_name(const struct pod *p, yyjson_val *source);

/* Asks MetaManager for each entry. done is called once, with the same set (ownership stays with the caller; the set
 * must live until then), from the loop. Cancelled by object_fetch_cancel. */
struct object_fetch;
struct object_fetch *object_fetch_start(struct bus *b, const struct pod *p, struct object_set *s,
                                        void (*done)(void *arg), void *arg);
void object_fetch_cancel(struct object_fetch *f); /* NULL is fine */
/* Reads an answer of MetaManager's into an entry: the object, an array of stored values, or an error. */
void object_entry_set(struct object_entry *e, struct message *answer, const struct error *err);
