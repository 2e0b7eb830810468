#define LOG_COMPONENT "apiserver"
#include "apiserver/controllers/view.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#include <utlist.h>

#define LISTENERS_MAX 12
#define OWNERS_MAX 32 /* of one object that are followed */
#define PORTS_MAX 256

struct owner { /* whose pods these are: a uid, or "/<namespace>" for pods that nobody controls */
    char *uid;
    struct pod_view *pods;
    UT_hash_handle hh;
};

struct owned { /* whose dependents these are */
    char *uid;
    struct dependent *first;
    UT_hash_handle hh;
};

struct view {
    struct apiserver *s;
    struct resource *pod_objects, *node_objects;
    struct pod_view *pods;
    struct node_view *nodes;
    struct owner *owners;
    struct owned *owned;
    struct view_listener listeners[LISTENERS_MAX];
    size_t n_listeners;
};

/* ---- reading a pod ---- */

static int64_t time_s(const char *text) {
    int64_t ns;
    return text && rfc3339_parse(bytes_str(text), &ns) == 0 ? ns / 1000000000 : 0;
}

static enum pod_phase phase_of(yyjson_val *pod) {
    const char *phase = str_or(json_str(pod, "status", "phase"), "Pending");
    static const char *const names[] = {"Pending", "Running", "Unknown", "Succeeded", "Failed"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(phase, names[i]) == 0)
            return (enum pod_phase)i;
    return PHASE_UNKNOWN;
}

static void read_owner(struct pod_view *p, yyjson_val *pod) {
    size_t i, n;
    yyjson_val *r, *owner = NULL;
    yyjson_arr_foreach (json_get(pod, "metadata", "ownerReferences"), i, n, r)
        if (json_bool_or(json_get(r, "controller"), false))
            owner = r;
    p->owner_kind = xstrdup(str_or(json_str(owner, "kind"), ""));
    p->owner_name = xstrdup(str_or(json_str(owner, "name"), ""));
    p->owner_uid = xstrdup(str_or(json_str(owner, "uid"), ""));
}

static void read_ready(struct pod_view *p, yyjson_val *pod) {
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(pod, "status", "conditions"), i, n, c)
        if (str_eq(json_str(c, "type"), "Ready") && str_eq(json_str(c, "status"), "True")) {
            p->ready = true;
            p->ready_since_s = time_s(json_str(c, "lastTransitionTime"));
        }
    yyjson_arr_foreach (json_get(pod, "status", "containerStatuses"), i, n, c) {
        int64_t end = time_s(json_str(c, "state", "terminated", "finishedAt"));
        p->restarts += json_int_or(json_get(c, "restartCount"), 0);
        if (end > p->finished_s)
            p->finished_s = end;
    }
}

static void read_ports(struct pod_view *p, yyjson_val *pod) {
    size_t i, n, j, m;
    yyjson_val *c, *port;
    yyjson_arr_foreach (json_get(pod, "spec", "containers"), i, n, c)
        yyjson_arr_foreach (json_get(c, "ports"), j, m, port) {
            int64_t number = json_int_or(json_get(port, "hostPort"), 0);
            if (number <= 0 || p->n_ports == PORTS_MAX)
                continue;
            p->ports = xreallocarray(p->ports, p->n_ports + 1, sizeof *p->ports);
            struct host_port *h = &p->ports[p->n_ports++];
            *h = (struct host_port){.ip = xstrdup(str_or(json_str(port, "hostIP"), "")), .port = number};
            snprintf(h->protocol, sizeof h->protocol, "%.7s", str_or(json_str(port, "protocol"), "TCP"));
        }
}

static int64_t index_annotation(yyjson_val *pod, const char *key, int64_t fallback) {
    const char *text = object_annotation(pod, key);
    int64_t n;
    return text && parse_i64(bytes_str(text), INT32_MIN, INT32_MAX, &n) == 0 ? n : fallback;
}

/* A DaemonSet's pod names its node in its affinity until it is bound. */
static const char *wanted_node(yyjson_val *pod) {
    yyjson_val *terms = json_get(pod, "spec", "affinity", "nodeAffinity",
                                 "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms");
    yyjson_val *field = yyjson_arr_get_first(json_get(yyjson_arr_get_first(terms), "matchFields"));
    if (!str_eq(json_str(field, "key"), "metadata.name"))
        return "";
    return str_or(yyjson_get_str(yyjson_arr_get_first(json_get(field, "values"))), "");
}

static bool has_finalizer(yyjson_val *o, const char *name) {
    size_t i, n;
    yyjson_val *f;
    yyjson_arr_foreach (json_get(o, "metadata", "finalizers"), i, n, f)
        if (str_eq(yyjson_get_str(f), name))
            return true;
    return false;
}

static yyjson_doc *copy_labels(yyjson_val *pod) {
    yyjson_val *labels = object_labels(pod);
    if (!labels || yyjson_obj_size(labels) == 0)
        return NULL;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    return yyjson_mut_val_imut_copy(yyjson_val_mut_copy(d, labels), NULL);
}

static struct pod_view *pod_read(struct record *rec) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *pod = yyjson_doc_get_root(doc);
    size_t ns_len = strlen(rec->ns), name_len = strlen(rec->name);
    struct pod_view *p = xcalloc(1, sizeof *p + ns_len + name_len + 2);
    memcpy(p->key, rec->ns, ns_len);
    p->key[ns_len] = '/';
    memcpy(p->key + ns_len + 1, rec->name, name_len + 1);
    p->rec = record_ref(rec);
    p->phase = phase_of(pod);
    p->deleting = object_deleting(pod);
    p->created_s = time_s(json_str(pod, "metadata", "creationTimestamp"));
    p->deletion_cost = index_annotation(pod, "controller.kubernetes.io/pod-deletion-cost", 0);
    p->completion_index = index_annotation(pod, "batch.kubernetes.io/job-completion-index", -1);
    p->priority = json_int_or(json_get(pod, "spec", "priority"), 0);
    p->node = xstrdup(str_or(json_str(pod, "spec", "nodeName"), ""));
    p->ip = xstrdup(str_or(json_str(pod, "status", "podIP"), ""));
    p->wanted_node = xstrdup(wanted_node(pod));
    p->hash = xstrdup(
        str_or(object_label(pod, "pod-template-hash"), str_or(object_label(pod, "controller-revision-hash"), "")));
    p->labels = copy_labels(pod);
    p->tracked = has_finalizer(pod, "batch.kubernetes.io/job-tracking");
    p->wants_node = !*p->node && pod_active(p) && yyjson_arr_size(json_get(pod, "spec", "schedulingGates")) == 0 &&
                    str_eq(str_or(json_str(pod, "spec", "schedulerName"), "default-scheduler"), "default-scheduler");
    read_owner(p, pod);
    read_ready(p, pod);
    read_ports(p, pod);
    amounts_of_pod(&p->requests, json_get(pod, "spec"));
    return p;
}

static void pod_free(struct pod_view *p) {
    char *const texts[] = {p->owner_kind, p->owner_name, p->owner_uid, p->node, p->ip, p->wanted_node, p->hash};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
    for (size_t i = 0; i < p->n_ports; i++)
        free(p->ports[i].ip);
    free(p->ports);
    yyjson_doc_free(p->labels);
    amounts_free(&p->requests);
    record_unref(p->rec);
    free(p);
}

bool pod_available(const struct pod_view *p, int64_t min_ready_s, int64_t now_s, int64_t *in_s) {
    if (!p->ready || !pod_active(p))
        return false;
    int64_t left = p->ready_since_s + min_ready_s - now_s;
    if (min_ready_s == 0 || left <= 0)
        return true;
    if (left < *in_s)
        *in_s = left;
    return false;
}

/* ---- where pods are found ---- */

static struct node_view *node_get(struct view *v, const char *name) {
    struct node_view *n;
    HASH_FIND_STR(v->nodes, name, n);
    if (n)
        return n;
    n = NEW(struct node_view);
    n->name = xstrdup(name);
    n->gone_ms = clock_mono_ms();
    HASH_ADD_KEYPTR(hh, v->nodes, n->name, strlen(n->name), n);
    return n;
}

static void node_free(struct view *v, struct node_view *n) {
    HASH_DEL(v->nodes, n);
    amounts_free(&n->allocatable);
    amounts_free(&n->used);
    yyjson_doc_free(n->doc);
    free(n->text);
    free(n->name);
    free(n);
}

static struct owner *owner_get(struct view *v, const struct pod_view *p) {
    _cleanup_(free_p) char *uid = *p->owner_uid ? xstrdup(p->owner_uid) : xasprintf("/%s", p->rec->ns);
    struct owner *o;
    HASH_FIND_STR(v->owners, uid, o);
    if (o)
        return o;
    o = NEW(struct owner);
    o->uid = TAKE(uid);
    HASH_ADD_KEYPTR(hh, v->owners, o->uid, strlen(o->uid), o);
    return o;
}

static void pod_link(struct view *v, struct pod_view *p) {
    HASH_ADD_KEYPTR(hh, v->pods, p->key, strlen(p->key), p);
    p->of = owner_get(v, p);
    DL_APPEND2(p->of->pods, p, owner_prev, owner_next);
    if (!*p->node)
        return;
    struct node_view *n = node_get(v, p->node);
    DL_APPEND2(n->pods, p, node_prev, node_next);
    if (!pod_finished(p))
        amounts_add(&n->used, &p->requests, 1);
}

static void pod_unlink(struct view *v, struct pod_view *p) {
    HASH_DEL(v->pods, p);
    DL_DELETE2(p->of->pods, p, owner_prev, owner_next);
    if (!p->of->pods) {
        HASH_DEL(v->owners, p->of);
        free(p->of->uid);
        free(p->of);
    }
    p->of = NULL;
    if (!*p->node)
        return;
    struct node_view *n = node_get(v, p->node);
    DL_DELETE2(n->pods, p, node_prev, node_next);
    if (!pod_finished(p))
        amounts_add(&n->used, &p->requests, -1);
    if (!n->pods && !n->doc)
        node_free(v, n);
}

static void pod_changed(struct view *v, const struct record *old, struct record *new_) {
    struct pod_view *was = old ? view_pod(v, old->ns, old->name) : NULL, *is = new_ ? pod_read(new_) : NULL;
    if (is)
        pod_link(v, is); /* first, so that neither its node nor its owner goes and comes */
    if (was)
        pod_unlink(v, was);
    for (size_t i = 0; i < v->n_listeners; i++)
        if (v->listeners[i].pod)
            v->listeners[i].pod(v->listeners[i].self, was, is);
    if (was)
        pod_free(was);
}

/* ---- nodes ---- */

static bool node_ready(yyjson_val *node) {
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(node, "status", "conditions"), i, n, c)
        if (str_eq(json_str(c, "type"), "Ready"))
            return str_eq(json_str(c, "status"), "True");
    return false;
}

static void copy_member(yyjson_mut_doc *d, yyjson_mut_val *to, yyjson_val *from, const char *key) {
    yyjson_val *v = yyjson_obj_get(from, key);
    if (v)
        json_set(d, to, key, yyjson_val_mut_copy(d, v));
}

/* The part of the node that decides what may run there. Owned text. */
static char *node_relevant(yyjson_val *node, size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_val *meta = json_ensure_obj(d, root, "metadata"), *spec = json_ensure_obj(d, root, "spec");
    copy_member(d, meta, yyjson_obj_get(node, "metadata"), "name");
    copy_member(d, meta, yyjson_obj_get(node, "metadata"), "labels");
    copy_member(d, spec, yyjson_obj_get(node, "spec"), "taints");
    copy_member(d, spec, yyjson_obj_get(node, "spec"), "unschedulable");
    copy_member(d, root, yyjson_obj_get(node, "status"), "allocatable");
    json_set_bool(d, root, "ready", node_ready(node));
    return json_write_mut(root, len);
}

static void node_changed(struct view *v, const struct record *old, const struct record *new_) {
    struct node_view *n = node_get(v, new_ ? new_->name : old->name);
    char *text = NULL;
    size_t len = 0;
    bool existed = n->doc != NULL;
    if (new_) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(new_);
        text = node_relevant(yyjson_doc_get_root(doc), &len);
    }
    if (str_eq(text, n->text)) {
        free(text);
        return;
    }
    free(n->text);
    yyjson_doc_free(n->doc);
    amounts_free(&n->allocatable);
    n->text = text;
    n->doc = text ? yyjson_read(text, len, 0) : NULL;
    n->ready = n->doc && json_bool_or(json_get(yyjson_doc_get_root(n->doc), "ready"), false);
    n->gone_ms = n->doc ? 0 : clock_mono_ms();
    if (n->doc)
        amounts_read(&n->allocatable, json_get(yyjson_doc_get_root(n->doc), "allocatable"));
    for (size_t i = 0; i < v->n_listeners; i++)
        if (v->listeners[i].node)
            v->listeners[i].node(v->listeners[i].self, n, existed);
    if (!n->pods && !n->doc)
        node_free(v, n);
}

/* ---- owners ---- */

static void dependent_add(struct view *v, const char *uid, struct resource *r, struct record *rec) {
    struct owned *o;
    HASH_FIND_STR(v->owned, uid, o);
    if (!o) {
        o = NEW(struct owned);
        o->uid = xstrdup(uid);
        HASH_ADD_KEYPTR(hh, v->owned, o->uid, strlen(o->uid), o);
    }
    struct dependent *x = NEW(struct dependent);
    x->resource = r;
    x->rec = record_ref(rec);
    DL_APPEND(o->first, x);
}

static void dependent_remove(struct view *v, const char *uid, const struct resource *r, const struct record *rec) {
    struct owned *o;
    struct dependent *x, *tmp;
    HASH_FIND_STR(v->owned, uid, o);
    if (!o)
        return;
    DL_FOREACH_SAFE (o->first, x, tmp) {
        if (x->resource != r || strcmp(x->rec->name, rec->name) != 0 || strcmp(x->rec->ns, rec->ns) != 0)
            continue;
        DL_DELETE(o->first, x);
        record_unref(x->rec);
        free(x);
        break;
    }
    if (o->first)
        return;
    HASH_DEL(v->owned, o);
    free(o->uid);
    free(o);
}

static void follow_owners(struct view *v, struct resource *r, struct record *rec, bool add) {
    static const char key[] = "\"ownerReferences\":[{";
    if (!rec || !memmem(rec->text, rec->len, key, sizeof(key) - 1))
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    size_t i, n;
    yyjson_val *ref;
    yyjson_arr_foreach (json_get(yyjson_doc_get_root(doc), "metadata", "ownerReferences"), i, n, ref) {
        const char *uid = json_str(ref, "uid");
        if (str_empty(uid) || i == OWNERS_MAX)
            continue;
        if (add)
            dependent_add(v, uid, r, rec);
        else
            dependent_remove(v, uid, r, rec);
    }
}

struct dependent *view_dependents(struct view *v, const char *owner_uid) {
    struct owned *o;
    HASH_FIND_STR(v->owned, owner_uid, o);
    return o ? o->first : NULL;
}

/* ---- life ---- */

void view_change(struct view *v, const struct change *c) {
    follow_owners(v, c->resource, c->old, false);
    follow_owners(v, c->resource, c->new_, true);
    if (c->resource == v->pod_objects)
        pod_changed(v, c->old, c->new_);
    else if (c->resource == v->node_objects)
        node_changed(v, c->old, c->new_);
}

void view_listen(struct view *v, struct view_listener l) {
    if (v->n_listeners == LISTENERS_MAX)
        panic("apiserver: more controllers listen than there is room for");
    v->listeners[v->n_listeners++] = l;
}

struct pod_view *view_pod(struct view *v, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct pod_view *p;
    HASH_FIND_STR(v->pods, key, p);
    return p;
}

struct pod_view *view_pods(struct view *v) {
    return v->pods;
}

struct node_view *view_nodes(struct view *v) {
    return v->nodes;
}

struct node_view *view_node(struct view *v, const char *name) {
    struct node_view *n;
    HASH_FIND_STR(v->nodes, name, n);
    return n;
}

struct pod_view *view_pods_of(struct view *v, const char *owner_uid) {
    struct owner *o;
    HASH_FIND_STR(v->owners, owner_uid, o);
    return o ? o->pods : NULL;
}

struct pod_view *view_orphans(struct view *v, const char *ns) {
    _cleanup_(free_p) char *key = xasprintf("/%s", ns);
    return view_pods_of(v, key);
}

struct loading {
    struct view *v;
    struct resource *r;
};

static void load(void *arg, struct record *rec) {
    struct loading *l = arg;
    view_change(l->v, &(struct change){.resource = l->r, .new_ = rec});
}

static void load_resource(void *arg, struct resource *r) {
    struct loading l = {arg, r};
    recordmap_each(&r->objects, NULL, load, &l);
}

struct view *view_new(struct apiserver *s) {
    struct view *v = NEW(struct view);
    v->s = s;
    v->pod_objects = controller_resource(s, "", "pods");
    v->node_objects = controller_resource(s, "", "nodes");
    storage_each_resource(s->storage, load_resource, v);
    return v;
}

void view_free(struct view *v) {
    if (!v)
        return;
    struct pod_view *p, *p_tmp;
    struct node_view *n, *n_tmp;
    struct owned *o, *o_tmp;
    HASH_ITER (hh, v->pods, p, p_tmp) {
        pod_unlink(v, p);
        pod_free(p);
    }
    HASH_ITER (hh, v->nodes, n, n_tmp)
        node_free(v, n);
    HASH_ITER (hh, v->owned, o, o_tmp) {
        struct dependent *x, *x_tmp;
        DL_FOREACH_SAFE (o->first, x, x_tmp) {
            record_unref(x->rec);
            free(x);
        }
        HASH_DEL(v->owned, o);
        free(o->uid);
        free(o);
    }
    free(v);
}
