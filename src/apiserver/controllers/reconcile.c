#define LOG_COMPONENT "apiserver"
#include "apiserver/controllers/reconcile.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"

#include <uthash.h>
#include <utlist.h>

#define AT_ONCE 64 /* objects looked at before the loop does something else */
#define RETRY_MS 500
#define RETRY_MAX_MS (5 * 60 * 1000)

struct entry {
    struct item item;
    struct entry *prev, *next; /* of the ready list */
    bool dirty, ready, looking;
    unsigned in_flight, failures;
    int64_t due_ms; /* look then; 0: not asked for */
    UT_hash_handle hh;
    char key[];
};

struct reconciler {
    struct apiserver *s;
    reconcile_look *look;
    void *self;
    struct entry *entries, *ready;
    struct timer *again;
};

static struct entry *outer(struct item *it) {
    return (struct entry *)((char *)it - offsetof(struct entry, item));
}

static struct entry *entry_get(struct reconciler *r, struct resource *resource, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s/%s/%s", resource->group, resource->plural, ns, name);
    struct entry *e;
    HASH_FIND_STR(r->entries, key, e);
    if (e)
        return e;
    size_t key_len = strlen(key), ns_len = strlen(ns), name_len = strlen(name);
    e = xcalloc(1, sizeof *e + key_len + ns_len + name_len + 3);
    memcpy(e->key, key, key_len + 1);
    char *own_ns = e->key + key_len + 1, *own_name = own_ns + ns_len + 1;
    memcpy(own_ns, ns, ns_len + 1);
    memcpy(own_name, name, name_len + 1);
    e->item = (struct item){r, resource, own_ns, own_name};
    HASH_ADD_KEYPTR(hh, r->entries, e->key, key_len, e);
    return e;
}

/* In the ready list if it should be looked at; forgotten if nothing is left to do. */
static void settle(struct reconciler *r, struct entry *e) {
    bool ready = e->dirty && e->in_flight == 0 && e->failures == 0;
    if (ready && !e->ready)
        DL_APPEND(r->ready, e);
    else if (!ready && e->ready)
        DL_DELETE(r->ready, e);
    e->ready = ready;
    if (e->dirty || e->in_flight || e->failures || e->due_ms || e->looking)
        return;
    HASH_DEL(r->entries, e);
    free(e);
}

void reconciler_mark(struct reconciler *r, struct resource *resource, const char *ns, const char *name) {
    struct entry *e = entry_get(r, resource, ns, name);
    e->dirty = true;
    settle(r, e);
}

struct marking {
    struct reconciler *r;
    struct resource *resource;
};

static void mark_one(void *arg, struct record *rec) {
    struct marking *m = arg;
    reconciler_mark(m->r, m->resource, rec->ns, rec->name);
}

void reconciler_mark_all(struct reconciler *r, struct resource *resource, const char *ns) {
    struct marking m = {r, resource};
    recordmap_each(&resource->objects, ns, mark_one, &m);
}

static void look_at(struct reconciler *r, struct entry *e) {
    struct record *rec = storage_get(e->item.resource, e->item.ns, e->item.name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = rec ? record_parse(rec) : NULL;
    e->dirty = false;
    e->due_ms = 0;
    e->looking = true;
    unsigned failures = e->failures;
    r->look(r->self, &e->item, rec, doc ? yyjson_doc_get_root(doc) : NULL);
    e->looking = false;
    if (e->failures == failures)
        e->failures = 0;
    settle(r, e);
}

static void work(void *arg) {
    struct reconciler *r = arg;
    for (unsigned n = 0; r->ready && !r->s->stopping; n++) {
        if (n == AT_ONCE) {
            timer_set(r->again, 0);
            return;
        }
        look_at(r, r->ready);
    }
}

void reconciler_work(struct reconciler *r) {
    work(r);
}

void reconciler_tick(struct reconciler *r, int64_t now_ms) {
    struct entry *e, *tmp;
    HASH_ITER (hh, r->entries, e, tmp) {
        if (!e->due_ms || e->due_ms > now_ms || e->in_flight)
            continue;
        unsigned failures = e->failures;
        if (failures == 0) {
            e->dirty = true;
            settle(r, e);
            continue;
        }
        look_at(r, e); /* counts on in failures if it fails again */
    }
    work(r);
}

struct reconciler *reconciler_new(struct apiserver *s, reconcile_look *look, void *self) {
    struct reconciler *r = NEW(struct reconciler);
    r->s = s;
    r->look = look;
    r->self = self;
    r->again = timer_new(s->loop, work, r);
    return r;
}

void reconciler_free(struct reconciler *r) {
    struct entry *e, *tmp;
    timer_free(r->again);
    HASH_ITER (hh, r->entries, e, tmp) {
        HASH_DEL(r->entries, e);
        free(e);
    }
    free(r);
}

/* ---- while looking ---- */

void item_again(struct item *it, int64_t in_s) {
    struct entry *e = outer(it);
    int64_t due = clock_mono_ms() + in_s * 1000;
    if (!e->due_ms || due < e->due_ms)
        e->due_ms = due;
}

void item_failed(struct item *it) {
    struct entry *e = outer(it);
    int64_t delay = RETRY_MS << (e->failures < 10 ? e->failures : 10);
    e->failures++;
    e->dirty = true;
    e->due_ms = clock_mono_ms() + (delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS);
}

static void written(void *arg, struct write_result *res) {
    struct entry *e = arg;
    struct reconciler *r = e->item.of;
    e->in_flight--;
    if (res->fail.code)
        item_failed(&e->item);
    settle(r, e);
    if (r->ready)
        timer_set(r->again, 0);
}

int item_write(struct item *it, struct write *w, const struct kind *k, char **why) {
    struct entry *e = outer(it);
    struct fail f = {0};
    w->done = written;
    w->arg = e;
    if (controller_submit(w, it->of->s, k, &f) == 0) {
        e->in_flight++;
        return 0;
    }
    log_debug("controller's write refused resource=%s name=%s/%s: %s", k->plural, w->ns, w->name, f.message);
    if (why)
        *why = xstrdup(f.message);
    /* What has moved on meanwhile brings the next look by itself. */
    bool moved_on = f.code == 404 || f.code == 409;
    fail_clear(&f);
    if (!moved_on)
        item_failed(it);
    return -1;
}

void item_status(struct item *it, const struct kind *k, yyjson_val *obj, yyjson_mut_doc *d, yyjson_mut_val *status) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *now = yyjson_mut_val_imut_copy(status, NULL);
    yyjson_val *had = json_get(obj, "status");
    if (had && json_equal(had, yyjson_doc_get_root(now)))
        return;
    yyjson_mut_val *body = yyjson_mut_obj(d), *meta = json_ensure_obj(d, body, "metadata");
    json_set_str(d, meta, "name", it->name);
    json_set_str(d, meta, "resourceVersion", object_rv(obj));
    json_set(d, body, "status", status);
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(body, &len);
    struct write w = {.verb = WRITE_UPDATE,
                      .ns = it->ns,
                      .name = it->name,
                      .subresource = "status",
                      .body_type = BODY_JSON,
                      .body = bytes_of(text, len)};
    if (item_write(it, &w, k, NULL) < 0)
        log_debug("status not written resource=%s name=%s/%s", k->plural, it->ns, it->name);
}

int item_patch(struct item *it, const struct kind *k, const char *ns, const char *name, const char *subresource,
               yyjson_mut_val *patch) {
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(patch, &len);
    struct write w = {.verb = WRITE_PATCH,
                      .ns = ns,
                      .name = name,
                      .subresource = subresource,
                      .body_type = BODY_MERGE_PATCH,
                      .body = bytes_of(text, len)};
    return item_write(it, &w, k, NULL);
}

int item_delete(struct item *it, const struct kind *k, const char *ns, const char *name, const char *uid,
                enum propagation how) {
    struct write w = {.verb = WRITE_DELETE,
                      .ns = ns,
                      .name = name,
                      .subresource = "",
                      .delete = {.grace_s = -1, .propagation = how, .uid = xstrdup_null(uid)}};
    return item_write(it, &w, k, NULL);
}

void item_drop_finalizer(struct item *it, const struct kind *k, yyjson_val *obj, const char *finalizer) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d), *meta = json_ensure_obj(d, patch, "metadata");
    yyjson_mut_val *list = json_ensure_arr(d, meta, "finalizers");
    size_t i, n;
    yyjson_val *f;
    yyjson_arr_foreach (json_get(obj, "metadata", "finalizers"), i, n, f)
        if (!str_eq(yyjson_get_str(f), finalizer))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d, f));
    if (yyjson_mut_arr_size(list) == 0)
        json_set(d, meta, "finalizers", yyjson_mut_null(d));
    json_set_str(d, meta, "uid", object_uid(obj));
    json_set_str(d, meta, "resourceVersion", object_rv(obj));
    if (item_patch(it, k, object_namespace(obj), object_name(obj), "", patch) < 0)
        item_again(it, 1); /* it has changed meanwhile */
}
