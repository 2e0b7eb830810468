/* A namespace that is being deleted is emptied; when nothing is left, its finalizer goes and with it the namespace
 * (embedded-api.md 6.8). Objects that wait for something, such as pods on nodes that are offline, hold it. */
#include "apiserver/controllers/controllers.h"

#include "base/str.h"
#include "kube/object.h"

#define AT_ONCE 500 /* deletions submitted per commit or second */

struct terminating {
    struct apiserver *s;
    struct resource *namespaces;
    struct strlist names; /* being deleted */
    bool dirty;
};

static void change(void *self, const struct change *c) {
    struct terminating *t = self;
    if (c->resource != t->namespaces) {
        const char *ns = c->new_ ? c->new_->ns : c->old->ns;
        t->dirty |= t->names.count > 0 && *ns && strlist_has(&t->names, ns);
        return;
    }
    const char *name = c->new_ ? c->new_->name : c->old->name;
    strlist_remove(&t->names, name);
    if (c->new_ && record_deleting(c->new_)) {
        strlist_add(&t->names, name);
        t->dirty = true;
    }
}

/* Asks for the deletion of what is not going yet; gives how many objects are left. */
static size_t empty_kind(struct terminating *t, const struct kind *k, const char *ns, unsigned *budget) {
    size_t n;
    struct record **records = recordmap_snapshot(&kind_resource(t->s, k)->objects, ns, &n);
    for (size_t i = 0; i<n && * budget> 0; i++) {
        struct record *latest = storage_latest(t->s->storage, kind_resource(t->s, k), ns, records[i]->name);
        if (!latest || record_deleting(latest))
            continue;
        controller_delete(t->s, k, latest);
        (*budget)--;
    }
    recordmap_free_snapshot(records, n);
    return n;
}

static void drop_finalizer(struct terminating *t, const char *name) {
    struct record *ns = storage_latest(t->s->storage, t->namespaces, "", name);
    if (!ns)
        return;
    static const char patch[] = "{\"spec\":{\"finalizers\":null}}";
    struct write w = {.verb = WRITE_PATCH,
                      .ns = "",
                      .name = name,
                      .subresource = "finalize",
                      .body_type = BODY_MERGE_PATCH,
                      .body = bytes_of(patch, sizeof(patch) - 1)};
    t->dirty |= controller_write(&w, t->s, "", "v1", "namespaces") < 0;
}

static void empty_namespace(struct terminating *t, const char *name) {
    unsigned budget = AT_ONCE;
    size_t left = 0;
    for (size_t i = 0; i < kinds_count(t->s->kinds); i++) {
        const struct kind *k = kinds_at(t->s->kinds, i);
        if (k->namespaced && (k->verbs & VERB_DELETE))
            left += empty_kind(t, k, name, &budget);
    }
    if (left == 0)
        drop_finalizer(t, name);
}

static void work(void *self) {
    struct terminating *t = self;
    if (!t->dirty)
        return;
    t->dirty = false;
    _cleanup_(strlist_free) struct strlist names = {0};
    for (size_t i = 0; i < t->names.count; i++)
        strlist_add(&names, t->names.items[i]);
    for (size_t i = 0; i < names.count; i++)
        empty_namespace(t, names.items[i]);
}

/* A write that was refused is tried again. */
static void tick(void *self, int64_t now_ms) {
    struct terminating *t = self;
    t->dirty |= t->names.count > 0;
    work(t);
}

static void remember(void *self, struct record *ns) {
    struct terminating *t = self;
    if (record_deleting(ns))
        strlist_add(&t->names, ns->name);
}

static void *new (struct apiserver *s) {
    struct terminating *t = NEW(struct terminating);
    t->s = s;
    t->namespaces = controller_resource(s, "", "namespaces");
    recordmap_each(&t->namespaces->objects, NULL, remember, t);
    return t;
}

static void release(void *self) {
    struct terminating *t = self;
    strlist_free(&t->names);
    free(t);
}

const struct controller_type namespace_controller = {
    .name = "namespace", .new = new, .change = change, .work = work, .tick = tick, .free = release};
