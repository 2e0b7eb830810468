/* CustomResourceDefinitions: what is stored and Established is served; one that is being deleted takes its objects with
 * it (embedded-api.md 5.7). */
#define LOG_COMPONENT "apiserver"
#include "apiserver/controllers/controllers.h"

#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"

#define FINALIZER "customresourcecleanup.apiextensions.k8s.io"
#define AT_ONCE 500

static bool is_established(yyjson_val *crd) {
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(crd, "status", "conditions"), i, n, c)
        if (str_eq(json_str(c, "type"), "Established") && str_eq(json_str(c, "status"), "True"))
            return true;
    return false;
}

void crd_changed(struct apiserver *s, const struct record *old, const struct record *new_) {
    struct error err = ERROR_INIT;
    if (!new_) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *gone = record_parse(old);
        yyjson_val *spec = yyjson_obj_get(yyjson_doc_get_root(gone), "spec");
        watch_hub_end_kind(s->watches, str_or(json_str(spec, "group"), ""),
                           str_or(json_str(spec, "names", "plural"), ""));
        kinds_remove_crd(s->kinds, old->name);
        return;
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(new_);
    if (is_established(yyjson_doc_get_root(doc)) && kinds_put_crd(s->kinds, yyjson_doc_get_root(doc), &err) < 0)
        log_warn("a CustomResourceDefinition cannot be served name=%s: %s", new_->name, error_text(&err));
}

struct crds {
    struct apiserver *s;
    struct resource *crds;
    struct strlist deleting;
    bool dirty;
};

static void change(void *self, const struct change *c) {
    struct crds *x = self;
    if (c->resource == x->crds) {
        const char *name = c->new_ ? c->new_->name : c->old->name;
        strlist_remove(&x->deleting, name);
        if (c->new_ && record_deleting(c->new_))
            strlist_add(&x->deleting, name);
    }
    x->dirty |= x->deleting.count > 0;
}

/* Deletes what is left of the custom objects; true if there are none. */
static bool empty_resource(struct crds *x, const char *group, const char *plural) {
    struct resource *r = storage_resource(x->s->storage, group, plural);
    const struct kind *kind = NULL;
    for (size_t i = 0; i < kinds_count(x->s->kinds) && !kind; i++) {
        const struct kind *k = kinds_at(x->s->kinds, i);
        if (strcmp(k->group, group) == 0 && strcmp(k->plural, plural) == 0)
            kind = k;
    }
    size_t n;
    struct record **records = recordmap_snapshot(&r->objects, NULL, &n);
    for (size_t i = 0; i < n && i < AT_ONCE && kind; i++) {
        struct record *latest = storage_latest(x->s->storage, r, records[i]->ns, records[i]->name);
        if (latest && !record_deleting(latest))
            controller_delete(x->s, kind, latest);
    }
    recordmap_free_snapshot(records, n);
    return n == 0;
}

static void drop_finalizer(struct crds *x, const char *name, yyjson_val *crd) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    yyjson_mut_val *list = json_ensure_arr(d, json_ensure_obj(d, patch, "metadata"), "finalizers");
    size_t i, n;
    yyjson_val *f;
    yyjson_arr_foreach (json_get(crd, "metadata", "finalizers"), i, n, f)
        if (!str_eq(yyjson_get_str(f), FINALIZER))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d, f));
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(patch, &len);
    struct write w = {
        .verb = WRITE_PATCH, .ns = "", .name = name, .body_type = BODY_MERGE_PATCH, .body = bytes_of(body, len)};
    if (controller_write(&w, x->s, "apiextensions.k8s.io", "v1", "customresourcedefinitions") < 0)
        log_debug("a CustomResourceDefinition is not deleted yet name=%s", name);
}

static void finish_one(struct crds *x, const char *name) {
    struct record *rec = storage_latest(x->s->storage, x->crds, "", name);
    if (!rec)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *crd = yyjson_doc_get_root(doc);
    if (empty_resource(x, str_or(json_str(crd, "spec", "group"), ""),
                       str_or(json_str(crd, "spec", "names", "plural"), "")))
        drop_finalizer(x, name, crd);
}

static void work(void *self) {
    struct crds *x = self;
    if (!x->dirty)
        return;
    x->dirty = false;
    _cleanup_(strlist_free) struct strlist names = {0};
    for (size_t i = 0; i < x->deleting.count; i++)
        strlist_add(&names, x->deleting.items[i]);
    for (size_t i = 0; i < names.count; i++)
        finish_one(x, names.items[i]);
}

static void tick(void *self, int64_t now_ms) {
    struct crds *x = self;
    x->dirty |= x->deleting.count > 0;
    work(x);
}

static void remember(void *self, struct record *crd) {
    struct crds *x = self;
    if (record_deleting(crd))
        strlist_add(&x->deleting, crd->name);
}

static void *new (struct apiserver *s) {
    struct crds *x = NEW(struct crds);
    x->s = s;
    x->crds = controller_resource(s, "apiextensions.k8s.io", "customresourcedefinitions");
    recordmap_each(&x->crds->objects, NULL, remember, x);
    return x;
}

static void release(void *self) {
    struct crds *x = self;
    strlist_free(&x->deleting);
    free(x);
}

const struct controller_type crd_controller = {
    .name = "crd", .new = new, .change = change, .work = work, .tick = tick, .free = release};
