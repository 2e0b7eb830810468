/* Garbage collection by owner (embedded-api.md 6.9): what only names owners that are gone goes, too. Owners that are
 * deleted in the foreground wait for their dependents; those that leave orphans lose their dependents' references. */
#define LOG_COMPONENT "apiserver"
#include "apiserver/controllers/reconcile.h"
#include "apiserver/controllers/view.h"
#include "base/str.h"
#include "kube/object.h"

#define FOREGROUND "foregroundDeletion"
#define ORPHAN "orphan"

struct garbage {
    struct apiserver *s;
    struct view *view;
    struct reconciler *queue;
};

enum owner_state { OWNER_SOLID, OWNER_WAITING, OWNER_ABSENT };

static bool has_finalizer(yyjson_val *o, const char *name) {
    size_t i, n;
    yyjson_val *f;
    yyjson_arr_foreach (json_get(o, "metadata", "finalizers"), i, n, f)
        if (str_eq(yyjson_get_str(f), name))
            return true;
    return false;
}

/* The kind that a reference names, NULL if it is not served. */
static const struct kind *owner_kind(struct garbage *x, yyjson_val *ref) {
    struct bytes version = bytes_str(str_or(json_str(ref, "apiVersion"), "")), group = BYTES_LIT("");
    struct bytes whole = version;
    if (!bytes_cut(whole, '/', &group, &version)) {
        group = BYTES_LIT("");
        version = whole;
    }
    return kinds_find_kind(x->s->kinds, group, version, bytes_str(str_or(json_str(ref, "kind"), "")));
}

static enum owner_state state_of(struct garbage *x, const char *ns, yyjson_val *ref) {
    const struct kind *k = owner_kind(x, ref);
    if (!k)
        return OWNER_SOLID; /* nobody here can tell */
    if (k->namespaced && !*ns)
        return OWNER_ABSENT;
    struct record *rec = storage_latest(x->s->storage, kind_resource(x->s, k), k->namespaced ? ns : "",
                                        str_or(json_str(ref, "name"), ""));
    if (!rec)
        return OWNER_ABSENT;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *owner = yyjson_doc_get_root(doc);
    if (!str_eq(object_uid(owner), json_str(ref, "uid")))
        return OWNER_ABSENT;
    return object_deleting(owner) && has_finalizer(owner, FOREGROUND) ? OWNER_WAITING : OWNER_SOLID;
}

/* ---- dependents ---- */

static void keep_references(struct garbage *x, struct item *it, const struct kind *k, yyjson_val *o,
                            bool (*keep)(struct garbage *x, const char *ns, yyjson_val *ref, void *arg), void *arg) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d), *meta = json_ensure_obj(d, patch, "metadata");
    yyjson_mut_val *list = json_ensure_arr(d, meta, "ownerReferences");
    size_t i, n;
    yyjson_val *ref;
    yyjson_arr_foreach (json_get(o, "metadata", "ownerReferences"), i, n, ref)
        if (keep(x, object_namespace(o), ref, arg))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d, ref));
    if (yyjson_mut_arr_size(list) == 0)
        json_set(d, meta, "ownerReferences", yyjson_mut_null(d));
    json_set_str(d, meta, "uid", object_uid(o));
    json_set_str(d, meta, "resourceVersion", object_rv(o));
    if (item_patch(it, k, object_namespace(o), object_name(o), "", patch) < 0)
        item_again(it, 1);
}

static bool is_solid(struct garbage *x, const char *ns, yyjson_val *ref, void *arg) {
    return state_of(x, ns, ref) == OWNER_SOLID;
}

static void check_owners(struct garbage *x, struct item *it, const struct kind *k, yyjson_val *o) {
    size_t i, n, count[3] = {0};
    yyjson_val *ref;
    yyjson_arr_foreach (json_get(o, "metadata", "ownerReferences"), i, n, ref)
        count[state_of(x, object_namespace(o), ref)]++;
    if (count[OWNER_WAITING] + count[OWNER_ABSENT] == 0)
        return;
    if (count[OWNER_SOLID] > 0) {
        keep_references(x, it, k, o, is_solid, NULL);
        return;
    }
    if (object_deleting(o))
        return;
    enum propagation how = has_finalizer(o, ORPHAN) ? PROPAGATE_ORPHAN : PROPAGATE_BACKGROUND;
    if (has_finalizer(o, FOREGROUND) || (count[OWNER_WAITING] > 0 && view_dependents(x->view, object_uid(o))))
        how = PROPAGATE_FOREGROUND;
    if (item_delete(it, k, object_namespace(o), object_name(o), object_uid(o), how) < 0)
        item_again(it, 1);
}

/* ---- owners ---- */

static yyjson_val *reference_to(yyjson_val *o, const char *uid) {
    size_t i, n;
    yyjson_val *ref;
    yyjson_arr_foreach (json_get(o, "metadata", "ownerReferences"), i, n, ref)
        if (str_eq(json_str(ref, "uid"), uid))
            return ref;
    return NULL;
}

static void delete_in_foreground(struct garbage *x, struct item *it, const struct kind *k, yyjson_val *owner) {
    bool blocked = false;
    for (struct dependent *d = view_dependents(x->view, object_uid(owner)); d; d = d->next) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(d->rec);
        yyjson_val *ref = reference_to(yyjson_doc_get_root(doc), object_uid(owner));
        blocked |= json_bool_or(json_get(ref, "blockOwnerDeletion"), false);
        if (!object_deleting(yyjson_doc_get_root(doc)))
            reconciler_mark(x->queue, d->resource, d->rec->ns, d->rec->name);
    }
    if (!blocked)
        item_drop_finalizer(it, k, owner, FOREGROUND);
}

static bool is_another(struct garbage *x, const char *ns, yyjson_val *ref, void *arg) {
    return !str_eq(json_str(ref, "uid"), arg);
}

static void leave_orphans(struct garbage *x, struct item *it, const struct kind *k, yyjson_val *owner) {
    _cleanup_(free_p) char *uid = xstrdup(object_uid(owner));
    bool any = false;
    for (struct dependent *d = view_dependents(x->view, uid); d; d = d->next) {
        const struct kind *of = controller_kind(x->s, d->resource);
        struct record *latest = storage_latest(x->s->storage, d->resource, d->rec->ns, d->rec->name);
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = latest ? record_parse(latest) : NULL;
        if (!of || !doc || !reference_to(yyjson_doc_get_root(doc), uid))
            continue;
        any = true;
        keep_references(x, it, of, yyjson_doc_get_root(doc), is_another, uid);
    }
    if (!any)
        item_drop_finalizer(it, k, owner, ORPHAN);
}

static void look(void *self, struct item *it, struct record *rec, yyjson_val *o) {
    struct garbage *x = self;
    const struct kind *k = o ? controller_kind(x->s, it->resource) : NULL;
    if (!k)
        return;
    if (object_deleting(o) && has_finalizer(o, ORPHAN))
        leave_orphans(x, it, k, o);
    else if (object_deleting(o) && has_finalizer(o, FOREGROUND))
        delete_in_foreground(x, it, k, o);
    else
        check_owners(x, it, k, o);
}

/* ---- what changed ---- */

static bool mentions(const struct record *rec, const char *text) {
    return memmem(rec->text, rec->len, text, strlen(text)) != NULL;
}

static void mark(struct garbage *x, struct resource *r, const struct record *rec) {
    reconciler_mark(x->queue, r, rec->ns, rec->name);
}

/* Those that wait for the object, or hang on it. */
static void object_gone(struct garbage *x, const struct record *rec) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *o = yyjson_doc_get_root(doc), *ref;
    size_t i, n;
    for (struct dependent *d = view_dependents(x->view, object_uid(o)); d; d = d->next)
        mark(x, d->resource, d->rec);
    yyjson_arr_foreach (json_get(o, "metadata", "ownerReferences"), i, n, ref) {
        const struct kind *k = owner_kind(x, ref);
        if (k)
            reconciler_mark(x->queue, kind_resource(x->s, k), k->namespaced ? rec->ns : "",
                            str_or(json_str(ref, "name"), ""));
    }
}

static void change(void *self, const struct change *c) {
    struct garbage *x = self;
    if (!c->new_) {
        object_gone(x, c->old);
        return;
    }
    bool waits = mentions(c->new_, "\"deletionTimestamp\":\"") &&
                 (mentions(c->new_, "\"" FOREGROUND "\"") || mentions(c->new_, "\"" ORPHAN "\""));
    /* References are judged when they appear; afterwards it is the owner's going that brings the next look. */
    bool owned =
        (!c->old || !mentions(c->old, "\"ownerReferences\":[{")) && mentions(c->new_, "\"ownerReferences\":[{");
    if (waits || owned)
        mark(x, c->resource, c->new_);
    if (c->old && !owned && mentions(c->old, "\"ownerReferences\":[{") && !mentions(c->new_, "\"ownerReferences\":[{"))
        object_gone(x, c->old); /* it is nobody's any more: owners may wait for that */
}

/* ---- life ---- */

struct loading {
    struct garbage *x;
    struct resource *r;
};

static void load(void *arg, struct record *rec) {
    struct loading *l = arg;
    change(l->x, &(struct change){.resource = l->r, .new_ = rec});
}

static void load_resource(void *arg, struct resource *r) {
    struct loading l = {arg, r};
    recordmap_each(&r->objects, NULL, load, &l);
}

static void work(void *self) {
    struct garbage *x = self;
    reconciler_work(x->queue);
}

static void tick(void *self, int64_t now_ms) {
    struct garbage *x = self;
    reconciler_tick(x->queue, now_ms);
}

static void *new (struct apiserver *s) {
    struct garbage *x = NEW(struct garbage);
    x->s = s;
    x->view = s->view;
    x->queue = reconciler_new(s, look, x);
    storage_each_resource(s->storage, load_resource, x);
    return x;
}

static void release(void *self) {
    struct garbage *x = self;
    reconciler_free(x->queue);
    free(x);
}

const struct controller_type garbage_controller = {
    .name = "garbage", .new = new, .change = change, .work = work, .tick = tick, .free = release};
