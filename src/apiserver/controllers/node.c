/* Node lifecycle with the edge's rules (embedded-api.md 6.6): a node that gave no sign of life for the grace period is
 * not known to be Ready and takes no new pods. Its pods stay what and where they are: nothing here evicts or deletes.
 */
#define LOG_COMPONENT "nodes"
#include "apiserver/controllers/controllers.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"

#include <uthash.h>

#define LEASE_NS "kube-node-lease"

struct watched_node {
    char *name;
    int64_t alive_ms; /* monotonic: the last sign of life; at start: now, so that a restart of ours blames nobody */
    char *heartbeat;  /* of the Ready condition, as last seen */
    bool dirty;
    UT_hash_handle hh;
};

struct nodes {
    struct apiserver *s;
    struct resource *nodes, *leases;
    struct watched_node *watched;
    bool dirty;
};

/* Conditions that make taints. */
static const struct {
    const char *condition, *status, *taint;
} condition_taints[] = {
    {"Ready", "False", "node.kubernetes.io/not-ready"},
    {"Ready", "Unknown", "node.kubernetes.io/unreachable"},
    {"MemoryPressure", "True", "node.kubernetes.io/memory-pressure"},
    {"DiskPressure", "True", "node.kubernetes.io/disk-pressure"},
    {"PIDPressure", "True", "node.kubernetes.io/pid-pressure"},
    {"NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"},
};
#define UNSCHEDULABLE "node.kubernetes.io/unschedulable"
static const char *const watched_conditions[] = {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"};

static yyjson_val *condition_of(yyjson_val *node, const char *type) {
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(node, "status", "conditions"), i, n, c)
        if (str_eq(json_str(c, "type"), type))
            return c;
    return NULL;
}

static bool has_status(yyjson_val *node, const char *type, const char *status) {
    yyjson_val *c = condition_of(node, type);
    return c && str_eq(json_str(c, "status"), status);
}

/* ---- signs of life ---- */

static void forget(struct nodes *x, struct watched_node *w) {
    HASH_DEL(x->watched, w);
    free(w->name);
    free(w->heartbeat);
    free(w);
}

static void node_seen(struct nodes *x, const struct record *rec) {
    struct watched_node *w;
    HASH_FIND_STR(x->watched, rec->name, w);
    bool is_new = !w;
    if (is_new) {
        w = NEW(struct watched_node);
        w->name = xstrdup(rec->name);
        w->alive_ms = clock_mono_ms();
        HASH_ADD_KEYPTR(hh, x->watched, w->name, strlen(w->name), w);
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *ready = condition_of(yyjson_doc_get_root(doc), "Ready");
    const char *beat = ready ? json_str(ready, "lastHeartbeatTime") : NULL;
    if (beat && !str_eq(beat, w->heartbeat)) {
        /* Our own Unknown keeps the time of the last heartbeat, so it is no sign of life. */
        free(w->heartbeat);
        w->heartbeat = xstrdup(beat);
        w->alive_ms = clock_mono_ms();
    }
    w->dirty = x->dirty = true;
}

static void change(void *self, const struct change *c) {
    struct nodes *x = self;
    struct watched_node *w = NULL;
    if (c->resource == x->nodes && c->new_) {
        node_seen(x, c->new_);
    } else if (c->resource == x->nodes) {
        HASH_FIND_STR(x->watched, c->old->name, w);
        if (w)
            forget(x, w);
    } else if (c->resource == x->leases && c->new_ && strcmp(c->new_->ns, LEASE_NS) == 0) {
        HASH_FIND_STR(x->watched, c->new_->name, w);
        if (w)
            w->alive_ms = clock_mono_ms();
    }
}

/* ---- taints ---- */

static bool is_ours(const char *key) {
    if (str_eq(key, UNSCHEDULABLE))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(condition_taints); i++)
        if (str_eq(key, condition_taints[i].taint))
            return true;
    return false;
}

static bool wants_taint(yyjson_val *node, const char *key) {
    if (strcmp(key, UNSCHEDULABLE) == 0)
        return yyjson_is_true(json_get(node, "spec", "unschedulable"));
    for (size_t i = 0; i < ARRAY_LEN(condition_taints); i++)
        if (strcmp(key, condition_taints[i].taint) == 0 &&
            has_status(node, condition_taints[i].condition, condition_taints[i].status))
            return true;
    return false;
}

static bool is_no_schedule(yyjson_val *taint) {
    return str_eq(json_str(taint, "effect"), "NoSchedule");
}

static bool has_taint(yyjson_val *node, const char *key) {
    size_t i, n;
    yyjson_val *t;
    yyjson_arr_foreach (json_get(node, "spec", "taints"), i, n, t)
        if (str_eq(json_str(t, "key"), key) && is_no_schedule(t))
            return true;
    return false;
}

static bool taint_due(yyjson_val *node, const char *key) {
    return wants_taint(node, key) != has_taint(node, key);
}

static bool taints_due(yyjson_val *node) {
    for (size_t i = 0; i < ARRAY_LEN(condition_taints); i++)
        if (taint_due(node, condition_taints[i].taint))
            return true;
    return taint_due(node, UNSCHEDULABLE);
}

static void add_taint(yyjson_mut_doc *d, yyjson_mut_val *list, yyjson_val *node, const char *key) {
    char now[RFC3339_SIZE];
    if (!wants_taint(node, key) || has_taint(node, key))
        return;
    yyjson_mut_val *t = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, t, "key", key);
    json_set_str(d, t, "effect", "NoSchedule");
    json_set_str(d, t, "timeAdded", rfc3339_now(now));
}

/* Others' taints stay, ours follow the conditions; a change of the node meanwhile makes the write fail and the next
 * look. */
static void write_taints(struct nodes *x, const struct record *rec, yyjson_val *node) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    json_set_str(d, json_ensure_obj(d, patch, "metadata"), "resourceVersion", object_rv(node));
    yyjson_mut_val *list = json_ensure_arr(d, json_ensure_obj(d, patch, "spec"), "taints");
    size_t i, n;
    yyjson_val *t;
    yyjson_arr_foreach (json_get(node, "spec", "taints"), i, n, t) {
        const char *key = str_or(json_str(t, "key"), "");
        if (!is_ours(key) || !is_no_schedule(t) || wants_taint(node, key))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d, t));
    }
    for (i = 0; i < ARRAY_LEN(condition_taints); i++)
        add_taint(d, list, node, condition_taints[i].taint);
    add_taint(d, list, node, UNSCHEDULABLE);
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(patch, &len);
    struct write w = {
        .verb = WRITE_PATCH, .ns = "", .name = rec->name, .body_type = BODY_MERGE_PATCH, .body = bytes_of(body, len)};
    if (controller_write(&w, x->s, "", "v1", "nodes") < 0)
        log_debug("taints not written node=%s", rec->name);
}

static void look_at_taints(struct nodes *x, const char *name) {
    struct record *rec = storage_latest(x->s->storage, x->nodes, "", name);
    if (!rec)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    if (taints_due(yyjson_doc_get_root(doc)))
        write_taints(x, rec, yyjson_doc_get_root(doc));
}

static void work(void *self) {
    struct nodes *x = self;
    if (!x->dirty)
        return;
    x->dirty = false;
    struct watched_node *w, *tmp;
    HASH_ITER (hh, x->watched, w, tmp) {
        if (w->dirty)
            look_at_taints(x, w->name);
        w->dirty = false;
    }
}

/* ---- silence ---- */

static void add_unknown(yyjson_mut_doc *d, yyjson_mut_val *list, yyjson_val *node, const char *type) {
    yyjson_val *have = condition_of(node, type);
    char now[RFC3339_SIZE];
    if (have && str_eq(json_str(have, "status"), "Unknown"))
        return;
    yyjson_mut_val *c = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, c, "type", type);
    json_set_str(d, c, "status", "Unknown");
    json_set_str(d, c, "reason", have ? "NodeStatusUnknown" : "NodeStatusNeverUpdated");
    json_set_str(d, c, "message", have ? "The node stopped posting its status." : "The node never posted its status.");
    json_set_str(d, c, "lastTransitionTime", rfc3339_now(now));
    if (!have)
        json_set_str(d, c, "lastHeartbeatTime", str_or(json_str(node, "metadata", "creationTimestamp"), now));
}

static void set_unknown(struct nodes *x, const char *name) {
    struct record *rec = storage_latest(x->s->storage, x->nodes, "", name);
    if (!rec)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *node = yyjson_doc_get_root(doc);
    if (has_status(node, "Ready", "Unknown"))
        return;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    json_set_str(d, json_ensure_obj(d, patch, "metadata"), "resourceVersion", object_rv(node));
    yyjson_mut_val *list = json_ensure_arr(d, json_ensure_obj(d, patch, "status"), "conditions");
    for (size_t i = 0; i < ARRAY_LEN(watched_conditions); i++)
        add_unknown(d, list, node, watched_conditions[i]);
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(patch, &len);
    struct write w = {.verb = WRITE_PATCH,
                      .ns = "",
                      .name = name,
                      .subresource = "status",
                      .body_type = BODY_STRATEGIC_PATCH,
                      .body = bytes_of(body, len)};
    if (controller_write(&w, x->s, "", "v1", "nodes") < 0)
        return;
    log_info("node gives no sign of life, its pods are left alone node=%s", name);
    const struct event_about about = {"v1", "Node", "", name, object_uid(node)};
    _cleanup_(free_p) char *message = xasprintf("Node %s status is now: NodeNotReady", name);
    controller_event(x->s, &about, "Normal", "NodeNotReady", "node-controller", message);
}

/* While nothing can be stored no sign of life is heard: that is not the nodes' fault. */
static void tick(void *self, int64_t now_ms) {
    struct nodes *x = self;
    struct watched_node *w, *tmp;
    bool deaf = storage_trouble(x->s->storage) != NULL;
    HASH_ITER (hh, x->watched, w, tmp) {
        if (deaf) {
            w->alive_ms = now_ms;
        } else if (now_ms - w->alive_ms > x->s->node_grace_s * INT64_C(1000)) {
            w->alive_ms = now_ms; /* looked at again after another grace period: the write may fail */
            set_unknown(x, w->name);
        }
    }
}

/* ---- life ---- */

static void load(void *self, struct record *rec) {
    node_seen(self, rec);
}

static void *new (struct apiserver *s) {
    struct nodes *x = NEW(struct nodes);
    x->s = s;
    x->nodes = controller_resource(s, "", "nodes");
    x->leases = controller_resource(s, "coordination.k8s.io", "leases");
    recordmap_each(&x->nodes->objects, NULL, load, x);
    return x;
}

static void release(void *self) {
    struct nodes *x = self;
    struct watched_node *w, *tmp;
    HASH_ITER (hh, x->watched, w, tmp)
        forget(x, w);
    free(x);
}

const struct controller_type node_controller = {
    .name = "node", .new = new, .change = change, .work = work, .tick = tick, .free = release};
