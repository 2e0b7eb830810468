/* Every active namespace has a ServiceAccount "default". */
#include "apiserver/controllers/controllers.h"

struct accounts {
    struct apiserver *s;
    struct resource *namespaces, *accounts;
    bool dirty;
};

static void change(void *self, const struct change *c) {
    struct accounts *a = self;
    if (c->resource == a->namespaces || (c->resource == a->accounts && !c->new_))
        a->dirty = true;
}

static void ensure(void *self, struct record *ns) {
    struct accounts *a = self;
    static const char body[] = "{\"metadata\":{\"name\":\"default\"}}";
    if (storage_latest(a->s->storage, a->accounts, ns->name, "default") || record_deleting(ns))
        return;
    struct write w = {.verb = WRITE_CREATE, .ns = ns->name, .name = "", .body = bytes_of(body, sizeof(body) - 1)};
    a->dirty |= controller_write(&w, a->s, "", "v1", "serviceaccounts") < 0;
}

static void work(void *self) {
    struct accounts *a = self;
    if (!a->dirty)
        return;
    a->dirty = false;
    recordmap_each(&a->namespaces->objects, NULL, ensure, a);
}

static void *new (struct apiserver *s) {
    struct accounts *a = NEW(struct accounts);
    a->s = s;
    a->namespaces = controller_resource(s, "", "namespaces");
    a->accounts = controller_resource(s, "", "serviceaccounts");
    a->dirty = true;
    return a;
}

const struct controller_type serviceaccount_controller = {
    .name = "serviceaccount", .new = new, .change = change, .work = work, .free = free};
