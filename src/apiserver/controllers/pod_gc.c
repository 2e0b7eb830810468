/* Pods that nobody will end: those of nodes that are gone, those that a taint drives away, and finished ones beyond a
 * number (embedded-api.md 6.6, 6.7).
 *
 * A node that is merely silent keeps its pods. Only a taint NoExecute that somebody set, or a pod's own
 * tolerationSeconds for an unreachable node, ends one. */
#define LOG_COMPONENT "apiserver"
#include "apiserver/controllers/fit.h"
#include "apiserver/controllers/view.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"

#define EVERY_MS 5000
#define NODE_GONE_MS 40000
#define FINISHED_MAX 1000 /* finished pods that are kept; the oldest go */
#define OUT_OF_SERVICE "node.kubernetes.io/out-of-service"

struct pod_gc {
    struct apiserver *s;
    struct view *view;
    int64_t next_ms;
};

/* ---- deleting ---- */

static void delete_pod(struct pod_gc *x, const struct pod_view *p, int64_t grace_s, const char *why) {
    struct write w = {.verb = WRITE_DELETE, .ns = p->rec->ns, .name = p->rec->name, .delete = {.grace_s = grace_s}};
    if (controller_write(&w, x->s, "", "v1", "pods") == 0)
        log_info("pod deleted pod=%s/%s node=%s: %s", p->rec->ns, p->rec->name, p->node, why);
}

/* What is deleted by us says so in its status. */
static void mark_disrupted(struct pod_gc *x, const struct pod_view *p, bool failed, const char *reason,
                           const char *message) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d), *status = json_ensure_obj(d, patch, "status");
    yyjson_mut_val *c = yyjson_mut_arr_add_obj(d, json_ensure_arr(d, status, "conditions"));
    char now[RFC3339_SIZE];
    json_set_str(d, c, "type", "DisruptionTarget");
    json_set_str(d, c, "status", "True");
    json_set_str(d, c, "reason", reason);
    json_set_str(d, c, "message", message);
    json_set_str(d, c, "lastTransitionTime", rfc3339_now(now));
    if (failed)
        json_set_str(d, status, "phase", "Failed");
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(patch, &len);
    struct write w = {.verb = WRITE_PATCH,
                      .ns = p->rec->ns,
                      .name = p->rec->name,
                      .subresource = "status",
                      .body_type = BODY_STRATEGIC_PATCH,
                      .body = bytes_of(body, len)};
    if (controller_write(&w, x->s, "", "v1", "pods") < 0)
        log_debug("condition not written pod=%s/%s", p->rec->ns, p->rec->name);
}

/* ---- nodes ---- */

static void collect_node(struct pod_gc *x, struct node_view *n, int64_t now_ms) {
    if (now_ms - n->gone_ms < NODE_GONE_MS)
        return;
    for (struct pod_view *p = n->pods; p; p = p->node_next) {
        if (!pod_finished(p))
            mark_disrupted(x, p, true, "DeletionByPodGC", "PodGC: node no longer exists");
        delete_pod(x, p, 0, "its node no longer exists");
    }
}

static bool is_unreachable(const char *key) {
    return str_eq(key, "node.kubernetes.io/unreachable") || str_eq(key, "node.kubernetes.io/not-ready");
}

/* Seconds that the pod tolerates the taint; INT64_MAX: for ever. */
static int64_t tolerated_s(yyjson_val *pod, yyjson_val *taint) {
    const char *key = str_or(json_str(taint, "key"), ""), *value = str_or(json_str(taint, "value"), "");
    int64_t least = -1;
    size_t i, n;
    yyjson_val *t;
    yyjson_arr_foreach (json_get(pod, "spec", "tolerations"), i, n, t) {
        if (!fit_tolerates_one(t, key, value, "NoExecute"))
            continue;
        int64_t s = json_int_or(json_get(t, "tolerationSeconds"), INT64_MAX);
        s = s < 0 ? 0 : s;
        least = least < 0 || s < least ? s : least;
    }
    return least < 0 ? 0 : least;
}

static int64_t tainted_since(yyjson_val *taint, int64_t now_s) {
    const char *text = json_str(taint, "timeAdded");
    int64_t ns;
    return text && rfc3339_parse(bytes_str(text), &ns) == 0 ? ns / 1000000000 : now_s;
}

/* Silence counts as a taint NoExecute only for pods that gave it a number of seconds. */
static bool evicts(yyjson_val *pod, yyjson_val *taint, int64_t now_s) {
    bool execute = str_eq(json_str(taint, "effect"), "NoExecute");
    int64_t seconds = tolerated_s(pod, taint);
    if (!execute && (!is_unreachable(json_str(taint, "key")) || seconds == 0 || seconds == INT64_MAX))
        return false;
    return seconds != INT64_MAX && now_s >= tainted_since(taint, now_s) + seconds;
}

static void evict_pods(struct pod_gc *x, struct node_view *n, yyjson_val *taint, int64_t now_s) {
    static const char seconds[] = "\"tolerationSeconds\":";
    bool execute = str_eq(json_str(taint, "effect"), "NoExecute");
    for (struct pod_view *p = n->pods; p; p = p->node_next) {
        if (!pod_active(p) || (!execute && !memmem(p->rec->text, p->rec->len, seconds, sizeof(seconds) - 1)))
            continue;
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(p->rec);
        if (!evicts(yyjson_doc_get_root(doc), taint, now_s))
            continue;
        mark_disrupted(x, p, false, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        delete_pod(x, p, -1, "a taint of its node drives it away");
    }
}

static void look_at_taints(struct pod_gc *x, struct node_view *n, int64_t now_s) {
    size_t i, count;
    yyjson_val *taint;
    yyjson_arr_foreach (json_get(yyjson_doc_get_root(n->doc), "spec", "taints"), i, count, taint) {
        const char *key = json_str(taint, "key");
        bool execute = str_eq(json_str(taint, "effect"), "NoExecute");
        if (execute || is_unreachable(key))
            evict_pods(x, n, taint, now_s);
        if (!str_eq(key, OUT_OF_SERVICE))
            continue;
        for (struct pod_view *p = n->pods; p; p = p->node_next)
            if (p->deleting)
                delete_pod(x, p, 0, "its node is out of service");
    }
}

/* ---- finished pods ---- */

static int by_age(const void *pa, const void *pb) {
    const struct pod_view *a = *(struct pod_view *const *)pa, *b = *(struct pod_view *const *)pb;
    return a->created_s != b->created_s ? (a->created_s < b->created_s ? -1 : 1) : strcmp(a->key, b->key);
}

static void collect_finished(struct pod_gc *x) {
    size_t n = 0, count = 0;
    for (struct pod_view *p = view_pods(x->view); p; p = p->hh.next)
        count += pod_finished(p) && !p->deleting;
    if (count <= FINISHED_MAX)
        return;
    struct pod_view **list = xcalloc(count, sizeof(struct pod_view *));
    for (struct pod_view *p = view_pods(x->view); p; p = p->hh.next)
        if (pod_finished(p) && !p->deleting)
            list[n++] = p;
    qsort(list, n, sizeof(struct pod_view *), by_age);
    for (size_t i = 0; i < n - FINISHED_MAX; i++)
        delete_pod(x, list[i], 0, "there are too many finished pods");
    free(list);
}

/* ---- life ---- */

static void tick(void *self, int64_t now_ms) {
    struct pod_gc *x = self;
    if (now_ms < x->next_ms || storage_trouble(x->s->storage))
        return;
    x->next_ms = now_ms + EVERY_MS;
    for (struct node_view *n = view_nodes(x->view); n; n = n->hh.next) {
        if (!n->doc)
            collect_node(x, n, now_ms);
        else
            look_at_taints(x, n, clock_wall_s());
    }
    collect_finished(x);
}

static void *new (struct apiserver *s) {
    struct pod_gc *x = NEW(struct pod_gc);
    x->s = s;
    x->view = s->view;
    return x;
}

const struct controller_type pod_gc_controller = {.name = "pod_gc", .new = new, .tick = tick, .free = free};
