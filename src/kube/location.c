#include "kube/location.h"

#include "base/mem.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/references.h"

#include <uthash.h>
#include <utlist.h>

struct object; /* a thing that pods refer to */

/* One node uses one object, through `pods` pods. In the hash of the node, and in the list of the object. */
struct use {
    struct object *object;
    struct node *node;
    unsigned pods;
    struct use *prev, *next;
    UT_hash_handle hh; /* by object */
};

struct object {
    char *key; /* "<kind>/<ns>/<name>" */
    enum location_kind kind;
    const char *ns, *name; /* owned: one piece */
    struct use *uses;
    UT_hash_handle hh;
};

struct pod {
    char *key; /* "<ns>/<name>" */
    char *ns, *name, *uid;
    struct node *node;
    struct object **refs;
    size_t n_refs;
    struct pod *prev, *next; /* of the node */
    UT_hash_handle hh;
};

struct node {
    char *name;
    struct pod *pods;
    struct use *uses;
    UT_hash_handle hh;
};

struct location {
    struct node *nodes;
    struct pod *pods;
    struct object *objects;
};

struct location *location_new(void) {
    return NEW(struct location);
}

/* ---- objects and their uses ---- */

static struct object *find_object(const struct location *l, enum location_kind kind, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%d/%s/%s", (int)kind, ns, name);
    struct object *o;
    HASH_FIND_STR(l->objects, key, o);
    return o;
}

static struct object *find_or_add_object(struct location *l, enum location_kind kind, const char *ns,
                                         const char *name) {
    struct object *o = find_object(l, kind, ns, name);
    if (o)
        return o;
    size_t ns_size = strlen(ns) + 1, name_size = strlen(name) + 1;
    char *both = xmalloc(ns_size + name_size);
    memcpy(both, ns, ns_size);
    memcpy(both + ns_size, name, name_size);
    o = NEW(struct object);
    o->key = xasprintf("%d/%s/%s", (int)kind, ns, name);
    o->kind = kind;
    o->ns = both;
    o->name = both + ns_size;
    HASH_ADD_KEYPTR(hh, l->objects, o->key, strlen(o->key), o);
    return o;
}

static struct use *find_use(const struct node *n, const struct object *o) {
    struct use *u;
    HASH_FIND_PTR(n->uses, &o, u);
    return u;
}

static void use_object(struct node *n, struct object *o) {
    struct use *u = find_use(n, o);
    if (!u) {
        u = NEW(struct use);
        u->object = o;
        u->node = n;
        HASH_ADD_PTR(n->uses, object, u);
        DL_APPEND(o->uses, u);
    }
    u->pods++;
}

static void leave_object(struct location *l, struct node *n, struct object *o) {
    struct use *u = find_use(n, o);
    if (--u->pods > 0)
        return;
    HASH_DEL(n->uses, u);
    DL_DELETE(o->uses, u);
    free(u);
    if (o->uses)
        return;
    HASH_DEL(l->objects, o);
    free((char *)(uintptr_t)o->ns);
    free(o->key);
    free(o);
}

/* ---- nodes ---- */

static struct node *find_node(const struct location *l, const char *name) {
    struct node *n;
    HASH_FIND_STR(l->nodes, name, n);
    return n;
}

static struct node *find_or_add_node(struct location *l, const char *name) {
    struct node *n = find_node(l, name);
    if (n)
        return n;
    n = NEW(struct node);
    n->name = xstrdup(name);
    HASH_ADD_KEYPTR(hh, l->nodes, n->name, strlen(n->name), n);
    return n;
}

/* ---- pods ---- */

static struct pod *find_pod(const struct location *l, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct pod *p;
    HASH_FIND_STR(l->pods, key, p);
    return p;
}

static void drop_pod(struct location *l, struct pod *p) {
    struct node *n = p->node;
    for (size_t i = 0; i < p->n_refs; i++)
        leave_object(l, n, p->refs[i]);
    DL_DELETE(n->pods, p);
    if (!n->pods) {
        HASH_DEL(l->nodes, n);
        free(n->name);
        free(n);
    }
    HASH_DEL(l->pods, p);
    free(p->refs);
    free(p->uid);
    free(p->ns);
    free(p->name);
    free(p->key);
    free(p);
}

struct collecting {
    struct location *location;
    struct pod *pod;
};

static void collect(void *arg, enum location_kind kind, const char *name) {
    struct collecting *c = arg;
    struct pod *p = c->pod;
    struct object *o = find_or_add_object(c->location, kind, p->ns, name);
    for (size_t i = 0; i < p->n_refs; i++)
        if (p->refs[i] == o)
            return;
    p->refs = xreallocarray(p->refs, p->n_refs + 1, sizeof(struct object *));
    p->refs[p->n_refs++] = o;
    use_object(p->node, o);
}

void location_set_pod(struct location *l, yyjson_val *object) {
    const char *ns = object_namespace(object), *name = object_name(object);
    const char *node = json_str(object, "spec", "nodeName");
    struct pod *old = find_pod(l, ns, name);
    if (str_empty(node)) {
        if (old)
            drop_pod(l, old);
        return;
    }
    struct pod *p = NEW(struct pod);
    p->key = xasprintf("%s/%s", ns, name);
    p->ns = xstrdup(ns);
    p->name = xstrdup(name);
    p->uid = xstrdup(object_uid(object));
    p->node = find_or_add_node(l, node);
    struct collecting c = {l, p};
    pod_references(object, collect, &c);
    DL_APPEND(p->node->pods, p);
    if (old)
        drop_pod(l, old);
    HASH_ADD_KEYPTR(hh, l->pods, p->key, strlen(p->key), p);
}

void location_remove_pod(struct location *l, const char *ns, const char *name) {
    struct pod *p = find_pod(l, ns, name);
    if (p)
        drop_pod(l, p);
}

void location_free(struct location *l) {
    if (!l)
        return;
    while (l->pods)
        drop_pod(l, l->pods);
    free(l);
}

/* ---- questions ---- */

const char *location_pod_node(const struct location *l, const char *ns, const char *name, const char **uid) {
    const struct pod *p = find_pod(l, ns, name);
    if (p && uid)
        *uid = p->uid;
    return p ? p->node->name : NULL;
}

bool location_uses(const struct location *l, const char *node, enum location_kind kind, const char *ns,
                   const char *name) {
    const struct node *n = find_node(l, node);
    const struct object *o = n ? find_object(l, kind, ns, name) : NULL;
    return o && find_use(n, o);
}

void location_each_node(const struct location *l, enum location_kind kind, const char *ns, const char *name,
                        void (*fn)(void *arg, const char *node), void *arg) {
    const struct object *o = find_object(l, kind, ns, name);
    const struct use *u;
    if (o)
        DL_FOREACH (o->uses, u)
            fn(arg, u->node->name);
}

void location_each_pod(const struct location *l, const char *node,
                       void (*fn)(void *arg, const char *ns, const char *name), void *arg) {
    const struct node *n = find_node(l, node);
    const struct pod *p;
    if (n)
        DL_FOREACH (n->pods, p)
            fn(arg, p->ns, p->name);
}

void location_each_use(const struct location *l, const char *node, enum location_kind kind,
                       void (*fn)(void *arg, const char *ns, const char *name), void *arg) {
    const struct node *n = find_node(l, node);
    const struct use *u, *next;
    if (n)
        HASH_ITER (hh, n->uses, u, next)
            if (u->object->kind == kind)
                fn(arg, u->object->ns, u->object->name);
}
