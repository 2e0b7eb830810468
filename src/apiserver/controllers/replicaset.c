/* ReplicaSets: as many pods as they ask for (embedded-api.md 6.2). Pods on silent nodes count: they are not replaced.
 */
#include "apiserver/controllers/replicaset.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define BURST 500 /* pods created or deleted in one look */

struct replicasets {
    struct apiserver *s;
    struct view *view;
    struct resource *sets;
    const struct kind *kind, *pods;
    struct reconciler *queue;
};

/* ---- which pods go first ---- */

static int compare(int64_t a, int64_t b) {
    return a < b ? -1 : a > b;
}

/* < 0: a is the better one to delete. */
static int victim_order(const void *pa, const void *pb) {
    const struct victim *a = pa, *b = pb;
    const struct pod_view *p = a->pod, *q = b->pod;
    int order[] = {
        compare(*p->node != '\0', *q->node != '\0'),
        /* Pending before Unknown before Running */
        compare(p->phase == PHASE_PENDING   ? 0
                : p->phase == PHASE_UNKNOWN ? 1
                                            : 2,
                q->phase == PHASE_PENDING   ? 0
                : q->phase == PHASE_UNKNOWN ? 1
                                            : 2),
        compare(p->ready, q->ready),
        compare(p->deletion_cost, q->deletion_cost),
        compare(b->siblings, a->siblings),
        compare(q->ready_since_s, p->ready_since_s), /* ready for a shorter time */
        compare(q->restarts, p->restarts),
        compare(q->created_s, p->created_s),
    };
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        if (order[i])
            return order[i];
    return strcmp(p->key, q->key);
}

void replicaset_victims(struct victim *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        list[i].siblings = 0;
        for (size_t j = 0; *list[i].pod->node && n <= BURST && j < n; j++)
            list[i].siblings += strcmp(list[i].pod->node, list[j].pod->node) == 0;
    }
    qsort(list, n, sizeof(*list), victim_order);
}

/* ---- making them so many ---- */

static char *create_pods(struct replicasets *x, struct item *it, yyjson_val *rs, int64_t count) {
    char *why = NULL;
    for (int64_t i = 0; i < count && i < BURST && !why; i++) {
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        if (child_create(it, x->pods, child_pod(d, rs, json_get(rs, "spec", "template")), &why) < 0 && !why)
            why = xstrdup("refused");
    }
    if (why) {
        _cleanup_(free_p) char *message = xasprintf("Error creating: %s", why);
        event_about_object(x->s, rs, "Warning", "FailedCreate", "replicaset-controller", message);
    }
    return why;
}

static void delete_pods(struct replicasets *x, struct item *it, yyjson_val *rs, struct pod_view **pods, size_t n,
                        int64_t count) {
    struct victim *list = xcalloc(n, sizeof(*list));
    for (size_t i = 0; i < n; i++)
        list[i].pod = pods[i];
    replicaset_victims(list, n);
    for (size_t i = 0; i < n && i < BURST && (int64_t)i < count; i++) {
        const struct record *rec = list[i].pod->rec;
        if (item_delete(it, x->pods, rec->ns, rec->name, NULL, PROPAGATE_BACKGROUND) < 0)
            continue;
        _cleanup_(free_p) char *message = xasprintf("Deleted pod: %s", rec->name);
        event_about_object(x->s, rs, "Normal", "SuccessfulDelete", "replicaset-controller", message);
    }
    free(list);
}

struct counts {
    int64_t active, labeled, ready, available, terminating;
};

static struct counts count_pods(struct pod_view **pods, size_t n, yyjson_val *rs, int64_t *in_s) {
    struct counts c = {0};
    int64_t min_ready = json_int_or(json_get(rs, "spec", "minReadySeconds"), 0), now = clock_wall_s();
    _cleanup_(selector_free_p) struct selector *template_labels = NULL;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_val *labels = json_get(rs, "spec", "template", "metadata", "labels");
    yyjson_mut_val *as_selector = yyjson_mut_obj(d);
    json_set(d, as_selector, "matchLabels", labels ? yyjson_val_mut_copy(d, labels) : yyjson_mut_obj(d));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *selector = yyjson_mut_val_imut_copy(as_selector, NULL);
    bool known = selector_from_object(yyjson_doc_get_root(selector), &template_labels, NULL) == 0;
    for (size_t i = 0; i < n; i++) {
        const struct pod_view *p = pods[i];
        c.terminating += p->deleting && !pod_finished(p);
        if (!pod_active(p))
            continue;
        c.active++;
        c.labeled += known && selector_match_labels(template_labels, pod_labels(p));
        c.ready += p->ready;
        c.available += pod_available(p, min_ready, now, in_s);
    }
    return c;
}

static void write_status(struct replicasets *x, struct item *it, yyjson_val *rs, const struct counts *c,
                         const char *why) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *status = yyjson_mut_obj(d), *conditions = yyjson_mut_arr(d);
    const struct {
        const char *key;
        int64_t value;
    } members[] = {
        {"fullyLabeledReplicas", c->labeled},
        {"readyReplicas", c->ready},
        {"availableReplicas", c->available},
        {"terminatingReplicas", c->terminating},
        {"observedGeneration", json_int_or(json_get(rs, "metadata", "generation"), 0)},
    };
    json_set_int(d, status, "replicas", c->active);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (members[i].value)
            json_set_int(d, status, members[i].key, members[i].value);
    if (why)
        condition_add(d, conditions, rs, &(struct new_condition){"ReplicaFailure", "True", "FailedCreate", why});
    if (yyjson_mut_arr_size(conditions))
        json_set(d, status, "conditions", conditions);
    item_status(it, x->kind, rs, d, status);
}

static void look(void *self, struct item *it, struct record *rec, yyjson_val *rs) {
    struct replicasets *x = self;
    _cleanup_(selector_free_p) struct selector *s = NULL;
    if (!rs || selector_from_object(json_get(rs, "spec", "selector"), &s, NULL) < 0)
        return;
    size_t n, active = 0;
    int64_t in_s = INT64_MAX;
    struct pod_view **pods = children_claim(it, x->view, x->pods, rs, s, &n);
    struct counts c = count_pods(pods, n, rs, &in_s);
    int64_t want = json_int_or(json_get(rs, "spec", "replicas"), 1);
    _cleanup_(free_p) char *why = NULL;
    if (!object_deleting(rs) && c.active < want) {
        why = create_pods(x, it, rs, want - c.active);
    } else if (!object_deleting(rs) && c.active > want) {
        struct pod_view **running = xcalloc(n, sizeof(*running));
        for (size_t i = 0; i < n; i++)
            if (pod_active(pods[i]))
                running[active++] = pods[i];
        delete_pods(x, it, rs, running, active, c.active - want);
        free(running);
    }
    write_status(x, it, rs, &c, why);
    free(pods);
    if (in_s < INT64_MAX)
        item_again(it, in_s);
}

/* ---- life ---- */

static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct replicasets *x = self;
    children_pod_changed(x->queue, x->sets, "ReplicaSet", was, is);
    if (!was && is && strcmp(is->owner_kind, "ReplicaSet") == 0) {
        const struct event_about about = {"apps/v1", "ReplicaSet", is->rec->ns, is->owner_name, is->owner_uid};
        _cleanup_(free_p) char *message = xasprintf("Created pod: %s", is->rec->name);
        controller_event(x->s, &about, "Normal", "SuccessfulCreate", "replicaset-controller", message);
    }
}

static void change(void *self, const struct change *c) {
    struct replicasets *x = self;
    if (c->resource == x->sets && c->new_)
        reconciler_mark(x->queue, x->sets, c->new_->ns, c->new_->name);
}

static void work(void *self) {
    struct replicasets *x = self;
    reconciler_work(x->queue);
}

static void tick(void *self, int64_t now_ms) {
    struct replicasets *x = self;
    reconciler_tick(x->queue, now_ms);
}

static void *new (struct apiserver *s) {
    struct replicasets *x = NEW(struct replicasets);
    x->s = s;
    x->view = s->view;
    x->sets = controller_resource(s, "apps", "replicasets");
    x->kind = server_kind(s, "apps", "v1", "replicasets");
    x->pods = server_kind(s, "", "v1", "pods");
    x->queue = reconciler_new(s, look, x);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .self = x});
    reconciler_mark_all(x->queue, x->sets, NULL);
    return x;
}

static void release(void *self) {
    struct replicasets *x = self;
    reconciler_free(x->queue);
    free(x);
}

const struct controller_type replicaset_controller = {
    .name = "replicaset", .new = new, .change = change, .work = work, .tick = tick, .free = release};
