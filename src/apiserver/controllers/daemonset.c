/* DaemonSets: one pod on each node that fits (embedded-api.md 6.4). A node that is silent holds up nothing: it is left
 * alone and left out, and gets what is due when it comes back. */
#include "apiserver/controllers/daemonset.h"

#include "apiserver/controllers/fit.h"
#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define HASH_LABEL "controller-revision-hash"
#define COMPONENT "daemonset-controller"
#define FAILED_STAYS_S 10 /* before a pod that failed makes place for the next */
#define REVISIONS_MAX 256

struct daemonsets {
    struct apiserver *s;
    struct view *view;
    struct resource *objects, *revisions;
    const struct kind *kind, *revision_kind, *pods;
    struct reconciler *queue;
};

struct daemon { /* one look */
    struct daemonsets *x;
    struct item *it;
    yyjson_val *set;
    yyjson_doc *pod; /* as it would be made, without a node */
    char hash[TEMPLATE_HASH_SIZE];
    struct daemon_node *nodes;
    size_t n;
    int64_t misscheduled, again_s;
};

/* ---- what to do ---- */

void daemonset_decide(struct daemon_node *nodes, size_t n, bool rolling, int64_t max_unavailable) {
    int64_t unavailable = 0;
    for (size_t i = 0; i < n; i++) {
        struct daemon_node *d = &nodes[i];
        d->create = d->fits && d->online && !d->pod && !d->leaving;
        d->remove = d->pod && !d->fits && !d->stays;
        if (!d->fits || !d->online)
            continue;
        if (rolling && d->pod && !d->updated && !d->available)
            d->remove = true; /* it does not work anyway */
        unavailable += !d->available;
    }
    for (size_t i = 0; i < n && rolling && unavailable < max_unavailable; i++) {
        struct daemon_node *d = &nodes[i];
        if (!d->fits || !d->online || !d->pod || d->updated || d->remove)
            continue;
        d->remove = true;
        unavailable++;
    }
}

/* ---- the pod of a node ---- */

static void tolerate(yyjson_mut_doc *d, yyjson_mut_val *list, const char *key, const char *effect) {
    yyjson_mut_val *t;
    yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(list);
    while ((t = yyjson_mut_arr_iter_next(&it)))
        if (str_eq(json_mut_str(t, "key"), key) && str_eq(json_mut_str(t, "effect"), effect) &&
            str_eq(json_mut_str(t, "operator"), "Exists"))
            return;
    t = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, t, "key", key);
    json_set_str(d, t, "operator", "Exists");
    json_set_str(d, t, "effect", effect);
}

/* Daemons stay on nodes in trouble, and go to cordoned ones. */
static void add_tolerations(yyjson_mut_doc *d, yyjson_mut_val *spec) {
    static const char *const no_schedule[] = {"disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"};
    yyjson_mut_val *list = json_ensure_arr(d, spec, "tolerations");
    tolerate(d, list, "node.kubernetes.io/not-ready", "NoExecute");
    tolerate(d, list, "node.kubernetes.io/unreachable", "NoExecute");
    for (size_t i = 0; i < ARRAY_LEN(no_schedule); i++) {
        _cleanup_(free_p) char *key = xasprintf("node.kubernetes.io/%s", no_schedule[i]);
        tolerate(d, list, key, "NoSchedule");
    }
    if (yyjson_mut_get_bool(yyjson_mut_obj_get(spec, "hostNetwork")))
        tolerate(d, list, "node.kubernetes.io/network-unavailable", "NoSchedule");
}

static yyjson_doc *build_pod(struct daemon *w) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *pod = child_pod(d, w->set, json_get(w->set, "spec", "template"));
    yyjson_mut_val *meta = json_ensure_obj(d, pod, "metadata");
    json_set_str(d, json_ensure_obj(d, meta, "labels"), HASH_LABEL, w->hash);
    add_tolerations(d, json_ensure_obj(d, pod, "spec"));
    return yyjson_mut_val_imut_copy(pod, NULL);
}

static void create_pod(struct daemon *w, const char *node) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(w->pod, NULL);
    yyjson_mut_val *pod = yyjson_mut_doc_get_root(d), *spec = json_ensure_obj(d, pod, "spec");
    yyjson_mut_val *affinity = json_ensure_obj(d, json_ensure_obj(d, spec, "affinity"), "nodeAffinity");
    static const char required[] = "requiredDuringSchedulingIgnoredDuringExecution";
    json_remove(affinity, required);
    yyjson_mut_val *terms = json_ensure_arr(d, json_ensure_obj(d, affinity, required), "nodeSelectorTerms");
    yyjson_mut_val *fields = json_ensure_arr(d, yyjson_mut_arr_add_obj(d, terms), "matchFields");
    yyjson_mut_val *field = yyjson_mut_arr_add_obj(d, fields);
    json_set_str(d, field, "key", "metadata.name");
    json_set_str(d, field, "operator", "In");
    yyjson_mut_arr_add_strcpy(d, json_ensure_arr(d, field, "values"), node);
    _cleanup_(free_p) char *why = NULL;
    if (child_create(w->it, w->x->pods, pod, &why) < 0) {
        _cleanup_(free_p) char *message = xasprintf("Error creating: %s", str_or(why, ""));
        event_about_object(w->x->s, w->set, "Warning", "FailedCreate", COMPONENT, message);
    }
}

static void delete_pod(struct daemon *w, const struct pod_view *p) {
    if (item_delete(w->it, w->x->pods, p->rec->ns, p->rec->name, NULL, PROPAGATE_BACKGROUND) < 0)
        return;
    _cleanup_(free_p) char *message = xasprintf("Deleted pod: %s", p->rec->name);
    event_about_object(w->x->s, w->set, "Normal", "SuccessfulDelete", COMPONENT, message);
}

/* ---- nodes and pods together ---- */

static struct daemon_node *node_of(struct daemon *w, const struct pod_view *p) {
    const char *name = *p->node ? p->node : p->wanted_node;
    for (size_t lo = 0, hi = w->n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(name, w->nodes[mid].name);
        if (c == 0)
            return &w->nodes[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct daemon_node *)a)->name, ((const struct daemon_node *)b)->name);
}

static void gather_nodes(struct daemon *w) {
    size_t cap = HASH_COUNT(view_nodes(w->x->view));
    w->nodes = xcalloc(cap ? cap : 1, sizeof(*w->nodes));
    for (struct node_view *v = view_nodes(w->x->view); v; v = v->hh.next) {
        if (!v->doc)
            continue;
        char why[FIT_REASON_SIZE];
        yyjson_val *pod = yyjson_doc_get_root(w->pod), *node = yyjson_doc_get_root(v->doc);
        struct daemon_node *d = &w->nodes[w->n++];
        *d = (struct daemon_node){.name = v->name, .online = v->ready};
        d->fits = fit_node(pod, node, true, why) || (!v->ready && fit_selected(pod, node));
        d->stays = fit_selected(pod, node) && fit_stays(pod, node);
    }
    qsort(w->nodes, w->n, sizeof(*w->nodes), by_name);
}

static void again(struct daemon *w, int64_t in_s) {
    if (in_s < w->again_s)
        w->again_s = in_s;
}

/* A finished pod makes place, after a while, so that one that fails at once does not keep everybody busy. */
static void retire(struct daemon *w, struct daemon_node *d, const struct pod_view *p) {
    int64_t since = p->finished_s ? p->finished_s : p->created_s, left = since + FAILED_STAYS_S - clock_wall_s();
    if (d && d->online)
        d->leaving = true;
    if (p->deleting)
        return;
    if (left > 0) {
        again(w, left);
        return;
    }
    _cleanup_(free_p) char *message = xasprintf("Found failed daemon pod %s/%s on node %s, will try to kill it",
                                                p->rec->ns, p->rec->name, d ? d->name : "");
    if (p->phase == PHASE_FAILED)
        event_about_object(w->x->s, w->set, "Warning", "FailedDaemonPod", COMPONENT, message);
    delete_pod(w, p);
}

static void place_pod(struct daemon *w, struct pod_view *p, int64_t min_ready, int64_t now) {
    struct daemon_node *d = node_of(w, p);
    if (pod_finished(p)) {
        retire(w, d, p);
    } else if (!d || p->deleting) {
        if (d)
            d->leaving = true;
    } else if (d->pod && (*d->pod->node || !*p->node) && d->pod->created_s <= p->created_s) {
        delete_pod(w, p); /* a second one */
    } else {
        if (d->pod)
            delete_pod(w, d->pod);
        d->pod = p;
        d->updated = strcmp(p->hash, w->hash) == 0;
        int64_t in_s = INT64_MAX;
        d->available = pod_available(p, min_ready, now, &in_s);
        if (in_s < INT64_MAX)
            again(w, in_s);
        w->misscheduled += !d->fits;
    }
}

/* ---- history ---- */

static yyjson_mut_val *revision_data(struct daemon *w, yyjson_mut_doc *d) {
    yyjson_mut_val *data = yyjson_mut_obj(d);
    yyjson_mut_val *template = yyjson_val_mut_copy(d, json_get(w->set, "spec", "template"));
    json_set_str(d, template, "$patch", "replace");
    json_set(d, json_ensure_obj(d, data, "spec"), "template", template);
    return data;
}

struct revision {
    yyjson_doc *doc;
    yyjson_val *o;
    int64_t number;
    bool used;
};

static int by_number(const void *a, const void *b) {
    int64_t x = ((const struct revision *)a)->number, y = ((const struct revision *)b)->number;
    return x < y ? -1 : x > y;
}

static void create_revision(struct daemon *w, const char *name, int64_t number) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(d), *meta = json_ensure_obj(d, o, "metadata");
    yyjson_val *labels = json_get(w->set, "spec", "template", "metadata", "labels");
    yyjson_val *annotations = object_annotations(w->set);
    json_set_str(d, meta, "name", name);
    json_set(d, meta, "labels", labels ? yyjson_val_mut_copy(d, labels) : yyjson_mut_obj(d));
    json_set_str(d, json_ensure_obj(d, meta, "labels"), HASH_LABEL, w->hash);
    if (annotations)
        json_set(d, meta, "annotations", yyjson_val_mut_copy(d, annotations));
    child_owned_by(d, o, w->set);
    json_set(d, o, "data", revision_data(w, d));
    json_set_int(d, o, "revision", number);
    if (child_create(w->it, w->x->revision_kind, o, NULL) < 0)
        item_again(w->it, 1);
}

/* The revision of the present template is there and has the highest number; superfluous ones go. */
static void keep_history(struct daemon *w) {
    struct revision list[REVISIONS_MAX];
    size_t n = 0, old = 0;
    int64_t highest = 0, keep = json_int_or(json_get(w->set, "spec", "revisionHistoryLimit"), 10);
    _cleanup_(free_p) char *name = xasprintf("%.240s-%s", w->it->name, w->hash);
    struct revision *present = NULL;
    for (struct dependent *x = view_dependents(w->x->view, object_uid(w->set)); x && n < REVISIONS_MAX; x = x->next) {
        if (x->resource != w->x->revisions)
            continue;
        struct revision r = {.doc = record_parse(x->rec)};
        r.o = yyjson_doc_get_root(r.doc);
        r.number = json_int_or(json_get(r.o, "revision"), 0);
        list[n++] = r;
    }
    qsort(list, n, sizeof(list[0]), by_number);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(object_name(list[i].o), name) == 0)
            present = &list[i];
        else if (list[i].number > highest)
            highest = list[i].number;
        const char *hash = str_or(object_label(list[i].o, HASH_LABEL), "");
        for (struct pod_view *p = view_pods_of(w->x->view, object_uid(w->set)); p; p = p->owner_next)
            list[i].used |= strcmp(p->hash, hash) == 0;
        old += &list[i] != present && !list[i].used;
    }
    if (!present) {
        create_revision(w, name, highest + 1);
    } else if (present->number <= highest) {
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *patch = yyjson_mut_obj(d);
        json_set_int(d, patch, "revision", highest + 1);
        if (item_patch(w->it, w->x->revision_kind, w->it->ns, name, "", patch) < 0)
            item_again(w->it, 1);
    }
    for (size_t i = 0; i < n && (int64_t)old > keep; i++)
        if (&list[i] != present && !list[i].used &&
            item_delete(w->it, w->x->revision_kind, w->it->ns, object_name(list[i].o), NULL, PROPAGATE_BACKGROUND) == 0)
            old--;
    for (size_t i = 0; i < n; i++)
        yyjson_doc_free(list[i].doc);
}

/* ---- status ---- */

static void write_status(struct daemon *w) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *status = yyjson_mut_obj(d);
    int64_t desired = 0, current = 0, ready = 0, updated = 0, available = 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct daemon_node *x = &w->nodes[i];
        if (!x->fits || !x->online)
            continue;
        desired++;
        current += x->pod != NULL;
        ready += x->pod && x->pod->ready;
        updated += x->pod && x->updated;
        available += x->available;
    }
    json_set_int(d, status, "currentNumberScheduled", current);
    json_set_int(d, status, "numberMisscheduled", w->misscheduled);
    json_set_int(d, status, "desiredNumberScheduled", desired);
    json_set_int(d, status, "numberReady", ready);
    const struct {
        const char *key;
        int64_t value;
    } optional[] = {
        {"observedGeneration", json_int_or(json_get(w->set, "metadata", "generation"), 0)},
        {"updatedNumberScheduled", updated},
        {"numberAvailable", available},
        {"numberUnavailable", desired - available},
    };
    for (size_t i = 0; i < ARRAY_LEN(optional); i++)
        if (optional[i].value)
            json_set_int(d, status, optional[i].key, optional[i].value);
    item_status(w->it, w->x->kind, w->set, d, status);
}

/* ---- one look ---- */

static void act(struct daemon *w) {
    yyjson_val *strategy = json_get(w->set, "spec", "updateStrategy");
    int64_t desired = 0;
    for (size_t i = 0; i < w->n; i++)
        desired += w->nodes[i].fits && w->nodes[i].online;
    int64_t most = amount_of(json_get(strategy, "rollingUpdate", "maxUnavailable"), desired, true, 1);
    daemonset_decide(w->nodes, w->n, !str_eq(json_str(strategy, "type"), "OnDelete"), most);
    for (size_t i = 0; i < w->n; i++) {
        if (w->nodes[i].remove)
            delete_pod(w, w->nodes[i].pod);
        if (w->nodes[i].create)
            create_pod(w, w->nodes[i].name);
    }
    keep_history(w);
}

static void look(void *self, struct item *it, struct record *rec, yyjson_val *set) {
    struct daemonsets *x = self;
    _cleanup_(selector_free_p) struct selector *s = NULL;
    if (!set || selector_from_object(json_get(set, "spec", "selector"), &s, NULL) < 0)
        return;
    struct daemon w = {.x = x, .it = it, .set = set, .again_s = INT64_MAX};
    template_hash(json_get(set, "spec", "template"), 0, w.hash);
    w.pod = build_pod(&w);
    gather_nodes(&w);
    size_t n;
    struct pod_view **pods = children_claim(it, x->view, x->pods, set, s, &n);
    int64_t min_ready = json_int_or(json_get(set, "spec", "minReadySeconds"), 0), now = clock_wall_s();
    for (size_t i = 0; i < n; i++)
        place_pod(&w, pods[i], min_ready, now);
    if (!object_deleting(set))
        act(&w);
    write_status(&w);
    if (w.again_s < INT64_MAX)
        item_again(it, w.again_s);
    free(pods);
    free(w.nodes);
    yyjson_doc_free(w.pod);
}

/* ---- life ---- */

static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct daemonsets *x = self;
    children_pod_changed(x->queue, x->objects, "DaemonSet", was, is);
    if (!was && is && strcmp(is->owner_kind, "DaemonSet") == 0) {
        const struct event_about about = {"apps/v1", "DaemonSet", is->rec->ns, is->owner_name, is->owner_uid};
        _cleanup_(free_p) char *message = xasprintf("Created pod: %s", is->rec->name);
        controller_event(x->s, &about, "Normal", "SuccessfulCreate", COMPONENT, message);
    }
}

static void node_changed(void *self, struct node_view *node, bool existed) {
    struct daemonsets *x = self;
    reconciler_mark_all(x->queue, x->objects, NULL);
}

static void change(void *self, const struct change *c) {
    struct daemonsets *x = self;
    if (c->resource == x->objects && c->new_)
        reconciler_mark(x->queue, x->objects, c->new_->ns, c->new_->name);
}

static void work(void *self) {
    struct daemonsets *x = self;
    reconciler_work(x->queue);
}

static void tick(void *self, int64_t now_ms) {
    struct daemonsets *x = self;
    reconciler_tick(x->queue, now_ms);
}

static void *new (struct apiserver *s) {
    struct daemonsets *x = NEW(struct daemonsets);
    x->s = s;
    x->view = s->view;
    x->objects = controller_resource(s, "apps", "daemonsets");
    x->revisions = controller_resource(s, "apps", "controllerrevisions");
    x->kind = server_kind(s, "apps", "v1", "daemonsets");
    x->revision_kind = server_kind(s, "apps", "v1", "controllerrevisions");
    x->pods = server_kind(s, "", "v1", "pods");
    x->queue = reconciler_new(s, look, x);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .node = node_changed, .self = x});
    reconciler_mark_all(x->queue, x->objects, NULL);
    return x;
}

static void release(void *self) {
    struct daemonsets *x = self;
    reconciler_free(x->queue);
    free(x);
}

const struct controller_type daemonset_controller = {
    .name = "daemonset", .new = new, .change = change, .work = work, .tick = tick, .free = release};
