/* The scheduler: pods that name no node get the node that fits and scores best (embedded-api.md 6.1), by priority, then
 * age.
 *
 * What nodes have and pods ask for stands in the view, so that a pod costs a walk over the nodes and no parsing but its
 * own. A pod that fits nowhere is looked at again when something changed that may help: a node, room on one, or the pod
 * itself. */
#define LOG_COMPONENT "scheduler"
#include "apiserver/controllers/fit.h"
#include "apiserver/controllers/view.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"

#include <utlist.h>

#define AT_ONCE 64 /* pods decided before the loop does something else */
#define REASONS_MAX 16

struct waiting_pod {
    char *ns, *name;
    int64_t priority, created_s;
    uint64_t seen; /* generation of the cluster that it did not fit in; 0: not tried */
    char *told;    /* the message it was given */
    UT_hash_handle hh;
    char key[];
};

struct assumed { /* what pods ask for that are being bound to a node */
    char *node;
    struct amounts amounts;
    unsigned pods;
    UT_hash_handle hh;
};

struct scheduler {
    struct apiserver *s;
    struct view *view;
    struct resource *pods;
    struct waiting_pod *waiting;
    struct assumed *assumed;
    struct binding *bindings;
    uint64_t generation; /* of what may help a pod that waits */
    bool dirty, unsorted;
    struct timer *again;
};

struct binding { /* on its way to the disk */
    struct scheduler *sch;
    char *ns, *name, *uid, *node, *owner;
    struct amounts requests;
    bool has_ports;
    struct binding *prev, *next;
};

/* ---- pods that wait ---- */

static void waiting_remove(struct scheduler *sch, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct waiting_pod *p;
    HASH_FIND_STR(sch->waiting, key, p);
    if (!p)
        return;
    HASH_DEL(sch->waiting, p);
    free(p->ns);
    free(p->name);
    free(p->told);
    free(p);
}

static void waiting_add(struct scheduler *sch, const struct pod_view *pod) {
    struct waiting_pod *p;
    HASH_FIND_STR(sch->waiting, pod->key, p);
    if (!p) {
        p = xcalloc(1, sizeof(*p) + strlen(pod->key) + 1);
        memcpy(p->key, pod->key, strlen(pod->key) + 1);
        p->ns = xstrdup(pod->rec->ns);
        p->name = xstrdup(pod->rec->name);
        p->priority = pod->priority;
        p->created_s = pod->created_s;
        HASH_ADD_KEYPTR(hh, sch->waiting, p->key, strlen(p->key), p);
        sch->unsorted = true;
    }
    p->seen = 0; /* it may have changed */
    sch->dirty = true;
}

static int by_priority(const struct waiting_pod *a, const struct waiting_pod *b) {
    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    return a->created_s != b->created_s ? (a->created_s < b->created_s ? -1 : 1) : strcmp(a->key, b->key);
}

static void room_changed(struct scheduler *sch) {
    sch->generation++;
    sch->dirty = true;
}

static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct scheduler *sch = self;
    bool held = was && *was->node && !pod_finished(was), holds = is && *is->node && !pod_finished(is);
    if (held && !holds)
        room_changed(sch);
    if (is && is->wants_node)
        waiting_add(sch, is);
    else
        waiting_remove(sch, (is ? is : was)->rec->ns, (is ? is : was)->rec->name);
}

static void node_changed(void *self, struct node_view *node, bool existed) {
    room_changed(self);
}

/* ---- does it fit ---- */

struct reasons {
    struct {
        char text[FIT_REASON_SIZE];
        unsigned count;
    } items[REASONS_MAX];
    size_t n;
    unsigned nodes;
};

static void count_reason(struct reasons *r, const char *why) {
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->items[i].text, why) == 0) {
            r->items[i].count++;
            return;
        }
    if (r->n == REASONS_MAX)
        return;
    snprintf(r->items[r->n].text, FIT_REASON_SIZE, "%s", why);
    r->items[r->n++].count = 1;
}

static int64_t assumed_amount(struct scheduler *sch, const char *node, const char *resource) {
    struct assumed *a = NULL;
    if (sch->assumed)
        HASH_FIND_STR(sch->assumed, node, a);
    return a ? amounts_get(&a->amounts, resource, 0) : 0;
}

static int64_t in_use(struct scheduler *sch, const struct node_view *n, const char *resource) {
    return amounts_get(&n->used, resource, 0) + assumed_amount(sch, n->name, resource);
}

/* A node that does not say how many pods it takes takes any number; what else it does not name it does not have. */
static bool has_room(struct scheduler *sch, const struct pod_view *pod, const struct node_view *n, char *why) {
    for (size_t i = 0; i < pod->requests.count; i++) {
        const struct amount *r = &pod->requests.items[i];
        bool is_pods = strcmp(r->name, "pods") == 0;
        if (r->value <= 0)
            continue;
        int64_t has = amounts_get(&n->allocatable, r->name, is_pods ? INT64_MAX : 0);
        if (in_use(sch, n, r->name) <= has - r->value)
            continue;
        if (is_pods)
            snprintf(why, FIT_REASON_SIZE, "Too many pods");
        else
            snprintf(why, FIT_REASON_SIZE, "Insufficient %.200s", r->name);
        return false;
    }
    return true;
}

static bool any_ip(const char *ip) {
    return !*ip || strcmp(ip, "0.0.0.0") == 0;
}

static bool ports_free(const struct pod_view *pod, const struct node_view *n) {
    for (const struct pod_view *p = pod->n_ports ? n->pods : NULL; p; p = p->node_next)
        for (size_t i = 0; i < p->n_ports && !pod_finished(p); i++)
            for (size_t j = 0; j < pod->n_ports; j++) {
                const struct host_port *a = &p->ports[i], *b = &pod->ports[j];
                if (a->port == b->port && strcmp(a->protocol, b->protocol) == 0 &&
                    (any_ip(a->ip) || any_ip(b->ip) || strcmp(a->ip, b->ip) == 0))
                    return false;
            }
    return true;
}

static bool fits(struct scheduler *sch, const struct pod_view *view, yyjson_val *pod, const struct node_view *n,
                 char *why) {
    if (!fit_node(pod, yyjson_doc_get_root(n->doc), n->ready, why) || !has_room(sch, view, n, why))
        return false;
    if (ports_free(view, n))
        return true;
    snprintf(why, FIT_REASON_SIZE, "node(s) didn't have free ports for the requested pod ports");
    return false;
}

/* ---- which is best ---- */

/* How much of a resource would be left, in hundredths; 100 where the node does not say what it has. */
static int64_t share_left(struct scheduler *sch, const struct pod_view *pod, const struct node_view *n,
                          const char *resource) {
    int64_t has = amounts_get(&n->allocatable, resource, 0);
    if (has <= 0)
        return 100;
    int64_t left = has - in_use(sch, n, resource) - amounts_get(&pod->requests, resource, 0);
    return left <= 0 ? 0 : (int64_t)((double)left / (double)has * 100);
}

/* Each part in hundredths, weighed as Kubernetes does. The number of pods decides where nothing else does. */
static int64_t score(struct scheduler *sch, const struct pod_view *view, yyjson_val *pod, const struct node_view *n) {
    yyjson_val *node = yyjson_doc_get_root(n->doc);
    int64_t preference = fit_preference(pod, node), unwelcome = fit_unwelcome(pod, node);
    int64_t room = (share_left(sch, view, n, "cpu") + share_left(sch, view, n, "memory")) / 2;
    int64_t spread = n->siblings > 10 ? 0 : 100 - 10 * n->siblings;
    int64_t total = 2 * (preference > 100 ? 100 : preference) + 3 * (unwelcome > 0 ? 0 : 100) + room + 2 * spread;
    return total * 100000 - in_use(sch, n, "pods");
}

/* How many pods of the same owner each node has. */
static void count_siblings(struct scheduler *sch, const struct pod_view *pod) {
    struct node_view *n;
    for (n = view_nodes(sch->view); n; n = n->hh.next)
        n->siblings = 0;
    if (!*pod->owner_uid)
        return;
    for (struct pod_view *p = view_pods_of(sch->view, pod->owner_uid); p; p = p->owner_next)
        if (*p->node && pod_active(p) && (n = view_node(sch->view, p->node)))
            n->siblings++;
    for (struct binding *b = sch->bindings; b; b = b->next)
        if (strcmp(b->owner, pod->owner_uid) == 0 && (n = view_node(sch->view, b->node)))
            n->siblings++;
}

/* NULL if it fits nowhere. */
static struct node_view *choose(struct scheduler *sch, const struct pod_view *view, yyjson_val *pod,
                                struct reasons *why) {
    struct node_view *best = NULL;
    int64_t best_score = 0;
    count_siblings(sch, view);
    for (struct node_view *n = view_nodes(sch->view); n; n = n->hh.next) {
        char reason[FIT_REASON_SIZE];
        if (!n->doc)
            continue;
        why->nodes++;
        if (!fits(sch, view, pod, n, reason)) {
            count_reason(why, reason);
            continue;
        }
        int64_t s = score(sch, view, pod, n);
        if (!best || s > best_score) {
            best = n;
            best_score = s;
        }
    }
    return best;
}

/* ---- binding ---- */

static void about_pod(struct event_about *about, const char *ns, const char *name, const char *uid) {
    *about = (struct event_about){"v1", "Pod", ns, name, uid};
}

static void assume(struct scheduler *sch, const char *node, const struct amounts *requests, int sign) {
    struct assumed *a;
    HASH_FIND_STR(sch->assumed, node, a);
    if (!a) {
        a = NEW(struct assumed);
        a->node = xstrdup(node);
        HASH_ADD_KEYPTR(hh, sch->assumed, a->node, strlen(a->node), a);
    }
    amounts_add(&a->amounts, requests, sign);
    a->pods += (unsigned)sign;
    if (a->pods > 0)
        return;
    HASH_DEL(sch->assumed, a);
    amounts_free(&a->amounts);
    free(a->node);
    free(a);
}

static void binding_free(struct binding *b) {
    DL_DELETE(b->sch->bindings, b);
    assume(b->sch, b->node, &b->requests, -1);
    amounts_free(&b->requests);
    free(b->ns);
    free(b->name);
    free(b->uid);
    free(b->node);
    free(b->owner);
    free(b);
}

/* The pod's own change has told the view meanwhile, so the assumption goes either way. */
static void bound(void *arg, struct write_result *r) {
    struct binding *b = arg;
    struct scheduler *sch = b->sch;
    if (r->fail.code) {
        log_debug("pod not bound pod=%s/%s node=%s: %s", b->ns, b->name, b->node, r->fail.message);
        struct pod_view *p = view_pod(sch->view, b->ns, b->name);
        if (p && p->wants_node)
            waiting_add(sch, p);
    } else {
        struct event_about about;
        about_pod(&about, b->ns, b->name, b->uid);
        _cleanup_(free_p) char *message = xasprintf("Successfully assigned %s/%s to %s", b->ns, b->name, b->node);
        controller_event(sch->s, &about, "Normal", "Scheduled", "default-scheduler", message);
    }
    if (b->has_ports)
        room_changed(sch); /* others with ports have waited for this one */
    binding_free(b);
    if (sch->dirty)
        timer_set(sch->again, 0);
}

static void bind_pod(struct scheduler *sch, const struct pod_view *view, yyjson_val *pod, struct node_view *node) {
    struct binding *b = NEW(struct binding);
    *b = (struct binding){.sch = sch,
                          .ns = xstrdup(view->rec->ns),
                          .name = xstrdup(view->rec->name),
                          .uid = xstrdup(object_uid(pod)),
                          .node = xstrdup(node->name),
                          .owner = xstrdup(view->owner_uid),
                          .has_ports = view->n_ports > 0};
    amounts_add(&b->requests, &view->requests, 1);
    DL_APPEND(sch->bindings, b);
    assume(sch, b->node, &b->requests, 1);
    _cleanup_(free_p) char *body =
        xasprintf("{\"target\":{\"kind\":\"Node\",\"name\":\"%s\"},\"metadata\":{\"uid\":\"%s\"}}", node->name, b->uid);
    struct write w = {.verb = WRITE_CREATE,
                      .ns = b->ns,
                      .name = b->name,
                      .subresource = "binding",
                      .body = bytes_str(body),
                      .done = bound,
                      .arg = b};
    waiting_remove(sch, b->ns, b->name);
    if (controller_write(&w, sch->s, "", "v1", "pods") < 0)
        binding_free(b); /* it has changed, which brings the next look */
}

static bool ports_in_flight(const struct scheduler *sch) {
    for (const struct binding *b = sch->bindings; b; b = b->next)
        if (b->has_ports)
            return true;
    return false;
}

/* ---- telling ---- */

/* "0/3 nodes are available: 1 node(s) were not ready, 2 node(s) were unschedulable." Owned. */
static char *explain(const struct reasons *r) {
    struct buf out = BUF_INIT(REASONS_MAX * (FIT_REASON_SIZE + 32) + 64);
    if (r->nodes == 0) {
        buf_add_str(&out, "no nodes available to schedule pods");
        return buf_take(&out, NULL);
    }
    buf_addf(&out, "0/%u nodes are available: ", r->nodes);
    for (size_t i = 0; i < r->n; i++)
        buf_addf(&out, "%s%u %s", i ? ", " : "", r->items[i].count, r->items[i].text);
    buf_add_char(&out, '.');
    return buf_take(&out, NULL);
}

static void set_condition(struct scheduler *sch, const struct record *rec, const char *message) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    yyjson_mut_val *list = json_ensure_arr(d, json_ensure_obj(d, patch, "status"), "conditions");
    yyjson_mut_val *c = yyjson_mut_arr_add_obj(d, list);
    char now[RFC3339_SIZE];
    json_set_str(d, c, "type", "PodScheduled");
    json_set_str(d, c, "status", "False");
    json_set_str(d, c, "reason", "Unschedulable");
    json_set_str(d, c, "message", message);
    json_set_str(d, c, "lastTransitionTime", rfc3339_now(now));
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(patch, &len);
    struct write w = {.verb = WRITE_PATCH,
                      .ns = rec->ns,
                      .name = rec->name,
                      .subresource = "status",
                      .body_type = BODY_STRATEGIC_PATCH,
                      .body = bytes_of(body, len)};
    if (controller_write(&w, sch->s, "", "v1", "pods") < 0)
        log_debug("condition not written pod=%s/%s", rec->ns, rec->name);
}

/* Tells the pod why it waits; once for each reason. */
static void tell_unschedulable(struct scheduler *sch, struct waiting_pod *p, const struct record *rec, yyjson_val *pod,
                               char *message) {
    p->seen = sch->generation;
    if (str_eq(p->told, message)) {
        free(message);
        return;
    }
    free(p->told);
    p->told = message;
    struct event_about about;
    about_pod(&about, rec->ns, rec->name, object_uid(pod));
    set_condition(sch, rec, message);
    controller_event(sch->s, &about, "Warning", "FailedScheduling", "default-scheduler", message);
}

/* ---- one pod ---- */

static void schedule(struct scheduler *sch, struct waiting_pod *p) {
    struct pod_view *view = view_pod(sch->view, p->ns, p->name);
    struct record *latest = storage_latest(sch->s->storage, sch->pods, p->ns, p->name);
    p->seen = sch->generation;
    if (!view || !view->wants_node || view->rec != latest)
        return; /* its change is on the way */
    if (view->n_ports && ports_in_flight(sch))
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(view->rec);
    yyjson_val *pod = yyjson_doc_get_root(doc);
    const char *unsupported = fit_unsupported(pod);
    if (unsupported) {
        tell_unschedulable(sch, p, view->rec, pod, xstrdup(unsupported));
        return;
    }
    struct reasons why = {0};
    struct node_view *n = choose(sch, view, pod, &why);
    if (n)
        bind_pod(sch, view, pod, n);
    else
        tell_unschedulable(sch, p, view->rec, pod, explain(&why));
}

static void work(void *self) {
    struct scheduler *sch = self;
    unsigned n = 0;
    if (!sch->dirty || sch->s->stopping)
        return;
    sch->dirty = false;
    if (sch->unsorted)
        HASH_SORT(sch->waiting, by_priority);
    sch->unsorted = false;
    struct waiting_pod *p, *tmp;
    HASH_ITER (hh, sch->waiting, p, tmp) {
        if (p->seen == sch->generation)
            continue;
        if (n++ == AT_ONCE) {
            sch->dirty = true;
            timer_set(sch->again, 0);
            return;
        }
        schedule(sch, p);
    }
}

/* ---- life ---- */

static void *new (struct apiserver *s) {
    struct scheduler *sch = NEW(struct scheduler);
    sch->s = s;
    sch->view = s->view;
    sch->generation = 1;
    sch->pods = controller_resource(s, "", "pods");
    sch->again = timer_new(s->loop, work, sch);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .node = node_changed, .self = sch});
    for (struct pod_view *p = view_pods(s->view); p; p = p->hh.next)
        if (p->wants_node)
            waiting_add(sch, p);
    return sch;
}

static void release(void *self) {
    struct scheduler *sch = self;
    struct waiting_pod *p, *p_tmp;
    timer_free(sch->again);
    while (sch->bindings)
        binding_free(sch->bindings);
    HASH_ITER (hh, sch->waiting, p, p_tmp)
        waiting_remove(sch, p->ns, p->name);
    free(sch);
}

const struct controller_type scheduler_controller = {.name = "scheduler", .new = new, .work = work, .free = release};
