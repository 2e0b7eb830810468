#define LOG_COMPONENT "apiserver"
#include "apiserver/controllers/controllers.h"

#include "apiserver/controllers/view.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"

#include <inttypes.h>

#define EVENT_MAX (16u << 10)

static const struct controller_type *const types[] = {
    &cluster_role_controller, &crd_controller,        &namespace_controller, &serviceaccount_controller,
    &event_ttl_controller,    &node_controller,       &scheduler_controller, &service_ips_controller,
    &deployment_controller,   &replicaset_controller, &daemonset_controller, &job_controller,
    &endpoints_controller,    &garbage_controller,    &pod_gc_controller,    &budget_controller,
};

struct controllers {
    struct apiserver *s;
    void *self[ARRAY_LEN(types)];
    bool working;
};

static void on_change(void *arg, const struct change *change) {
    struct controllers *c = arg;
    view_change(c->s->view, change);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i]->change)
            types[i]->change(c->self[i], change);
}

static void on_commit(void *arg) {
    struct controllers *c = arg;
    for (size_t i = 0; i < ARRAY_LEN(types) && !c->s->stopping; i++)
        if (types[i]->work)
            types[i]->work(c->self[i]);
}

struct controllers *controllers_new(struct apiserver *s) {
    struct controllers *c = NEW(struct controllers);
    c->s = s;
    s->view = view_new(s);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        c->self[i] = types[i]->new (s);
    storage_on_change(s->storage, on_change, c);
    storage_on_commit(s->storage, on_commit, c);
    return c;
}

void controllers_free(struct controllers *c) {
    if (!c)
        return;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        types[i]->free(c->self[i]);
    view_free(c->s->view);
    c->s->view = NULL;
    free(c);
}

void controllers_tick(struct controllers *c) {
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i]->tick)
            types[i]->tick(c->self[i], now);
}

/* ---- helpers ---- */

struct resource *controller_resource(struct apiserver *s, const char *group, const char *plural) {
    return storage_resource(s->storage, group, plural);
}

int controller_submit(struct write *w, struct apiserver *s, const struct kind *k, struct fail *f) {
    w->s = s;
    w->kind = k;
    w->fields = FIELDS_IGNORE;
    if (!w->subresource)
        w->subresource = "";
    if (w->verb != WRITE_DELETE)
        w->delete.grace_s = -1;
    return write_submit(w, f);
}

int controller_write(struct write *w, struct apiserver *s, const char *group, const char *version, const char *plural) {
    struct fail f = {0};
    if (controller_submit(w, s, server_kind(s, group, version, plural), &f) == 0)
        return 0;
    log_debug("controller's write refused resource=%s name=%s/%s: %s", plural, w->ns, w->name, f.message);
    fail_clear(&f);
    return -1;
}

const struct kind *controller_kind(struct apiserver *s, const struct resource *r) {
    for (size_t i = 0; i < kinds_count(s->kinds); i++) {
        const struct kind *k = kinds_at(s->kinds, i);
        if (strcmp(k->storage_plural, r->plural) == 0 && strcmp(k->storage_group, r->group) == 0)
            return k;
    }
    return NULL;
}

void controller_delete(struct apiserver *s, const struct kind *k, const struct record *rec) {
    struct fail f = {0};
    struct write w = {.s = s,
                      .kind = k,
                      .verb = WRITE_DELETE,
                      .ns = rec->ns,
                      .name = rec->name,
                      .subresource = "",
                      .delete = {.grace_s = -1}};
    if (write_submit(&w, &f) < 0) {
        log_debug("controller's delete refused resource=%s name=%s/%s: %s", k->plural, rec->ns, rec->name, f.message);
        fail_clear(&f);
    }
}

bool record_deleting(const struct record *rec) {
    static const char key[] = "\"deletionTimestamp\":\"";
    if (!memmem(rec->text, rec->len, key, sizeof(key) - 1))
        return false;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    return object_deleting(yyjson_doc_get_root(doc));
}

static void add_about(yyjson_mut_doc *d, yyjson_mut_val *event, const struct event_about *about) {
    yyjson_mut_val *o = json_ensure_obj(d, event, "involvedObject");
    json_set_str(d, o, "kind", about->kind);
    if (*about->ns)
        json_set_str(d, o, "namespace", about->ns);
    json_set_str(d, o, "name", about->name);
    json_set_str(d, o, "uid", about->uid);
    json_set_str(d, o, "apiVersion", about->api_version);
}

void controller_event(struct apiserver *s, const struct event_about *about, const char *type, const char *reason,
                      const char *component, const char *message) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *event = yyjson_mut_obj(d);
    const char *ns = *about->ns ? about->ns : "default";
    char now[RFC3339_SIZE];
    rfc3339_now(now);
    _cleanup_(free_p) char *name = xasprintf("%.200s.%016" PRIx64, about->name, random_u64());
    yyjson_mut_val *meta = json_ensure_obj(d, event, "metadata");
    json_set_str(d, meta, "name", name);
    json_set_str(d, meta, "namespace", ns);
    add_about(d, event, about);
    json_set_str(d, event, "reason", reason);
    json_set_str(d, event, "message", message);
    json_set_str(d, event, "type", type);
    json_set_str(d, json_ensure_obj(d, event, "source"), "component", component);
    json_set_str(d, event, "reportingComponent", component);
    json_set_str(d, event, "firstTimestamp", now);
    json_set_str(d, event, "lastTimestamp", now);
    json_set_int(d, event, "count", 1);
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(event, &len);
    struct write w = {.verb = WRITE_CREATE, .ns = ns, .name = "", .body = bytes_of(body, len)};
    if (controller_write(&w, s, "", "v1", "events") < 0)
        log_debug("event not written reason=%s object=%s/%s", reason, ns, about->name);
}
