/* The scheduler: pods that name no node get the fitting, ready node with the fewest pods (embedded-api.md 6.1).
 *
 * Pods and nodes are followed as they change; what the filters look at is kept for each node, so that a pod costs a
 * walk over the nodes and no parsing. A pod that fits nowhere is looked at again when a node changes in a way that
 * matters. */
#define LOG_COMPONENT "scheduler"
#include "apiserver/controllers/controllers.h"

#include "apiserver/controllers/fit.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/quantity.h"

#include <inttypes.h>
#include <uthash.h>

#define AT_ONCE 64 /* pods decided before the loop does something else */
#define REASONS_MAX 16

struct node {
    char *name;
    yyjson_doc *doc; /* what fit_node needs; NULL: there is no such node (yet), only pods that name it */
    char *text;      /* of doc, to see whether it changed */
    bool ready;
    int64_t max_pods;
    int64_t pods; /* bound and not finished; with those being bound */
    UT_hash_handle hh;
};

struct waiting_pod {
    char *ns, *name;
    uint64_t seen_nodes; /* generation of the nodes that it did not fit on; 0: not tried */
    char *told;          /* the message it was given */
    UT_hash_handle hh;
    char key[];
};

struct scheduler {
    struct apiserver *s;
    struct resource *pods, *node_objects;
    struct node *nodes;
    struct waiting_pod *waiting; /* in the order they came */
    uint64_t nodes_generation;
    bool dirty;
    struct timer *again;
};

struct binding { /* on its way to the disk */
    struct scheduler *sch;
    char *ns, *name, *uid, *node;
};

/* ---- nodes ---- */

static struct node *node_get(struct scheduler *sch, const char *name) {
    struct node *n;
    HASH_FIND_STR(sch->nodes, name, n);
    if (n)
        return n;
    n = NEW(struct node);
    n->name = xstrdup(name);
    HASH_ADD_KEYPTR(hh, sch->nodes, n->name, strlen(n->name), n);
    return n;
}

static bool node_ready(yyjson_val *node) {
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(node, "status", "conditions"), i, n, c)
        if (str_eq(json_str(c, "type"), "Ready"))
            return str_eq(json_str(c, "status"), "True");
    return false;
}

static int64_t node_max_pods(yyjson_val *node) {
    struct quantity q;
    yyjson_val *v = json_get(node, "status", "allocatable", "pods");
    if (yyjson_is_int(v))
        return json_int_or(v, INT64_MAX);
    if (!yyjson_is_str(v) || quantity_parse(bytes_str(yyjson_get_str(v)), &q, NULL) < 0)
        return INT64_MAX;
    return quantity_value(q);
}

static void copy_member(yyjson_mut_doc *d, yyjson_mut_val *to, yyjson_val *from, const char *key) {
    yyjson_val *v = yyjson_obj_get(from, key);
    if (v)
        json_set(d, to, key, yyjson_val_mut_copy(d, v));
}

/* The part of the node that decides. Owned text. */
static char *relevant(yyjson_val *node, bool ready, int64_t max_pods, size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_val *meta = json_ensure_obj(d, root, "metadata"), *spec = json_ensure_obj(d, root, "spec");
    copy_member(d, meta, yyjson_obj_get(node, "metadata"), "name");
    copy_member(d, meta, yyjson_obj_get(node, "metadata"), "labels");
    copy_member(d, spec, yyjson_obj_get(node, "spec"), "taints");
    copy_member(d, spec, yyjson_obj_get(node, "spec"), "unschedulable");
    json_set_bool(d, root, "ready", ready);
    json_set_int(d, root, "maxPods", max_pods);
    return json_write_mut(root, len);
}

static void node_changed(struct scheduler *sch, const struct record *old, const struct record *new_) {
    struct node *n = node_get(sch, new_ ? new_->name : old->name);
    char *text = NULL;
    size_t len = 0;
    if (new_) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(new_);
        yyjson_val *node = yyjson_doc_get_root(doc);
        n->ready = node_ready(node);
        n->max_pods = node_max_pods(node);
        text = relevant(node, n->ready, n->max_pods, &len);
    }
    if (str_eq(text, n->text)) {
        free(text);
        return;
    }
    free(n->text);
    yyjson_doc_free(n->doc);
    n->text = text;
    n->doc = text ? yyjson_read(text, len, 0) : NULL;
    sch->nodes_generation++;
    sch->dirty = true;
}

/* ---- pods ---- */

static char *pod_key(const char *ns, const char *name) {
    return xasprintf("%s/%s", ns, name);
}

static void waiting_remove(struct scheduler *sch, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = pod_key(ns, name);
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

static void waiting_add(struct scheduler *sch, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = pod_key(ns, name);
    struct waiting_pod *p;
    HASH_FIND_STR(sch->waiting, key, p);
    if (!p) {
        p = xcalloc(1, sizeof(*p) + strlen(key) + 1);
        memcpy(p->key, key, strlen(key) + 1);
        p->ns = xstrdup(ns);
        p->name = xstrdup(name);
        HASH_ADD_KEYPTR(hh, sch->waiting, p->key, strlen(p->key), p);
    }
    sch->dirty = true;
}

struct pod_state {
    char node[256]; /* "" if none, or if it is finished */
    bool wants_node;
};

static struct pod_state pod_state_of(const struct record *rec) {
    struct pod_state st = {.node = ""};
    if (!rec)
        return st;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *pod = yyjson_doc_get_root(doc);
    const char *node = str_or(json_str(pod, "spec", "nodeName"), "");
    const char *phase = str_or(json_str(pod, "status", "phase"), "");
    bool finished = strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
    st.wants_node =
        !*node && !finished && !object_deleting(pod) &&
        yyjson_arr_size(json_get(pod, "spec", "schedulingGates")) == 0 &&
        strcmp(str_or(json_str(pod, "spec", "schedulerName"), "default-scheduler"), "default-scheduler") == 0;
    if (*node && !finished && strlen(node) < sizeof(st.node))
        memcpy(st.node, node, strlen(node) + 1);
    return st;
}

static void pod_changed(struct scheduler *sch, const struct record *old, const struct record *new_) {
    struct pod_state was = pod_state_of(old), is = pod_state_of(new_);
    const struct record *key = new_ ? new_ : old;
    if (strcmp(was.node, is.node) != 0) {
        if (*was.node) {
            node_get(sch, was.node)->pods--;
            sch->nodes_generation++; /* there may be room now */
            sch->dirty = true;
        }
        if (*is.node)
            node_get(sch, is.node)->pods++;
    }
    if (is.wants_node)
        waiting_add(sch, key->ns, key->name);
    else
        waiting_remove(sch, key->ns, key->name);
}

static void change(void *self, const struct change *c) {
    struct scheduler *sch = self;
    if (c->resource == sch->pods)
        pod_changed(sch, c->old, c->new_);
    else if (c->resource == sch->node_objects)
        node_changed(sch, c->old, c->new_);
}

/* ---- deciding ---- */

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

/* The fitting node with the fewest pods, NULL if there is none. */
static struct node *choose(struct scheduler *sch, yyjson_val *pod, struct reasons *why) {
    struct node *best = NULL, *n, *tmp;
    HASH_ITER (hh, sch->nodes, n, tmp) {
        char reason[FIT_REASON_SIZE];
        if (!n->doc)
            continue;
        why->nodes++;
        if (!fit_node(pod, yyjson_doc_get_root(n->doc), n->ready, reason))
            count_reason(why, reason);
        else if (n->pods >= n->max_pods)
            count_reason(why, "Too many pods");
        else if (!best || n->pods < best->pods)
            best = n;
    }
    return best;
}

static void about_pod(struct event_about *about, const char *ns, const char *name, const char *uid) {
    *about = (struct event_about){"v1", "Pod", ns, name, uid};
}

static void binding_free(struct binding *b) {
    free(b->ns);
    free(b->name);
    free(b->uid);
    free(b->node);
    free(b);
}

/* The pod's own change has told the node's count meanwhile, so the assumption goes either way. */
static void bound(void *arg, struct write_result *r) {
    struct binding *b = arg;
    struct scheduler *sch = b->sch;
    node_get(sch, b->node)->pods--;
    if (r->fail.code) {
        log_debug("pod not bound pod=%s/%s node=%s: %s", b->ns, b->name, b->node, r->fail.message);
        struct record *rec = storage_latest(sch->s->storage, sch->pods, b->ns, b->name);
        if (pod_state_of(rec).wants_node)
            waiting_add(sch, b->ns, b->name);
    } else {
        struct event_about about;
        about_pod(&about, b->ns, b->name, b->uid);
        _cleanup_(free_p) char *message = xasprintf("Successfully assigned %s/%s to %s", b->ns, b->name, b->node);
        controller_event(sch->s, &about, "Normal", "Scheduled", "default-scheduler", message);
    }
    binding_free(b);
}

static void bind_pod(struct scheduler *sch, const struct record *rec, yyjson_val *pod, struct node *node) {
    struct binding *b = NEW(struct binding);
    *b = (struct binding){sch, xstrdup(rec->ns), xstrdup(rec->name), xstrdup(object_uid(pod)), xstrdup(node->name)};
    _cleanup_(free_p) char *body =
        xasprintf("{\"target\":{\"kind\":\"Node\",\"name\":\"%s\"},\"metadata\":{\"uid\":\"%s\"}}", node->name, b->uid);
    struct write w = {.verb = WRITE_CREATE,
                      .ns = rec->ns,
                      .name = rec->name,
                      .subresource = "binding",
                      .body = bytes_str(body),
                      .done = bound,
                      .arg = b};
    node->pods++; /* assumed, so that the next pod sees it */
    waiting_remove(sch, b->ns, b->name);
    if (controller_write(&w, sch->s, "", "v1", "pods") < 0) {
        node->pods--;
        binding_free(b);
    }
}

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
    p->seen_nodes = sch->nodes_generation;
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

static void schedule(struct scheduler *sch, struct waiting_pod *p) {
    struct record *rec = storage_latest(sch->s->storage, sch->pods, p->ns, p->name);
    if (!rec || !pod_state_of(rec).wants_node) {
        p->seen_nodes = sch->nodes_generation;
        return; /* its change is on the way */
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *pod = yyjson_doc_get_root(doc);
    const char *unsupported = fit_unsupported(pod);
    if (unsupported) {
        tell_unschedulable(sch, p, rec, pod, xstrdup(unsupported));
        return;
    }
    struct reasons why = {0};
    struct node *n = choose(sch, pod, &why);
    if (n)
        bind_pod(sch, rec, pod, n);
    else
        tell_unschedulable(sch, p, rec, pod, explain(&why));
}

static void work(void *self) {
    struct scheduler *sch = self;
    unsigned n = 0;
    if (!sch->dirty)
        return;
    sch->dirty = false;
    struct waiting_pod *p, *tmp;
    HASH_ITER (hh, sch->waiting, p, tmp) {
        if (p->seen_nodes == sch->nodes_generation)
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

static void load_node(void *self, struct record *rec) {
    node_changed(self, NULL, rec);
}

static void load_pod(void *self, struct record *rec) {
    pod_changed(self, NULL, rec);
}

static void *new (struct apiserver *s) {
    struct scheduler *sch = NEW(struct scheduler);
    sch->s = s;
    sch->nodes_generation = 1;
    sch->pods = controller_resource(s, "", "pods");
    sch->node_objects = controller_resource(s, "", "nodes");
    sch->again = timer_new(s->loop, work, sch);
    recordmap_each(&sch->node_objects->objects, NULL, load_node, sch);
    recordmap_each(&sch->pods->objects, NULL, load_pod, sch);
    sch->dirty = true;
    return sch;
}

static void release(void *self) {
    struct scheduler *sch = self;
    struct node *n, *n_tmp;
    struct waiting_pod *p, *p_tmp;
    timer_free(sch->again);
    HASH_ITER (hh, sch->nodes, n, n_tmp) {
        HASH_DEL(sch->nodes, n);
        yyjson_doc_free(n->doc);
        free(n->text);
        free(n->name);
        free(n);
    }
    HASH_ITER (hh, sch->waiting, p, p_tmp)
        waiting_remove(sch, p->ns, p->name);
    free(sch);
}

const struct controller_type scheduler_controller = {
    .name = "scheduler", .new = new, .change = change, .work = work, .free = release};
