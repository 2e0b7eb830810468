/* Endpoints and EndpointSlices of Services that select pods (embedded-api.md 6.11). Pods on a node that is silent are
 * listed as not ready: nobody else can reach them, though they may well run. */
#include "apiserver/controllers/children.h"
#include "base/str.h"
#include "kube/object.h"

#include <uthash.h>

#define SLICE_MAX 100
#define ADDRESSES_MAX 1000 /* of an Endpoints object */
#define SLICES_MAX 1024
#define MANAGER "endpointslice.kubernetes.io/managed-by"
#define MANAGER_NAME "endpointslice-controller.k8s.io"
#define SERVICE_LABEL "kubernetes.io/service-name"

struct service { /* that selects pods */
    struct selector *selector;
    char *ns, *name;
    UT_hash_handle hh;
    char key[];
};

struct endpoints {
    struct apiserver *s;
    struct view *view;
    struct resource *services, *slices, *objects;
    const struct kind *slice_kind, *endpoints_kind;
    struct service *known;
    struct reconciler *queue;
};

struct target { /* a pod that the Service leads to */
    const struct pod_view *pod;
    char *ports; /* JSON: as in a slice, with names resolved for this pod */
    bool ready;
};

struct serving { /* one look */
    struct endpoints *x;
    struct item *it;
    yyjson_val *service;
    struct target *targets;
    size_t n;
    bool not_ready_too; /* publishNotReadyAddresses */
};

/* ---- which pods ---- */

static struct service *find(struct endpoints *x, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct service *s;
    HASH_FIND_STR(x->known, key, s);
    return s;
}

static void forget(struct endpoints *x, struct service *s) {
    HASH_DEL(x->known, s);
    selector_free(s->selector);
    free(s->ns);
    free(s->name);
    free(s);
}

static struct selector *selector_of(yyjson_val *service) {
    yyjson_val *labels = json_get(service, "spec", "selector");
    struct selector *s = NULL;
    if (yyjson_obj_size(labels) == 0 || str_eq(json_str(service, "spec", "type"), "ExternalName"))
        return NULL;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(d);
    json_set(d, o, "matchLabels", yyjson_val_mut_copy(d, labels));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(o, NULL);
    return selector_from_object(yyjson_doc_get_root(doc), &s, NULL) == 0 ? s : NULL;
}

static void learn(struct endpoints *x, const struct record *rec) {
    struct service *s = find(x, rec->ns, rec->name);
    if (s)
        forget(x, s);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    struct selector *selector = selector_of(yyjson_doc_get_root(doc));
    if (!selector)
        return;
    size_t ns_len = strlen(rec->ns), name_len = strlen(rec->name);
    s = xcalloc(1, sizeof(*s) + ns_len + name_len + 2);
    memcpy(s->key, rec->ns, ns_len);
    s->key[ns_len] = '/';
    memcpy(s->key + ns_len + 1, rec->name, name_len);
    s->ns = xstrdup(rec->ns);
    s->name = xstrdup(rec->name);
    s->selector = selector;
    HASH_ADD_KEYPTR(hh, x->known, s->key, strlen(s->key), s);
}

static bool node_ready(struct endpoints *x, const struct pod_view *p) {
    struct node_view *n = *p->node ? view_node(x->view, p->node) : NULL;
    return n && n->ready;
}

/* ---- ports ---- */

/* The number of the pod's port of that name and protocol; 0 if it has none. */
static int64_t named_port(yyjson_val *pod, const char *name, const char *protocol) {
    size_t i, n, j, m;
    yyjson_val *c, *port;
    yyjson_arr_foreach (json_get(pod, "spec", "containers"), i, n, c)
        yyjson_arr_foreach (json_get(c, "ports"), j, m, port)
            if (str_eq(json_str(port, "name"), name) &&
                str_eq(str_or(json_str(port, "protocol"), "TCP"), str_or(protocol, "TCP")))
                return json_int_or(json_get(port, "containerPort"), 0);
    return 0;
}

static char *resolve_ports(yyjson_val *service, yyjson_val *pod) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(d);
    size_t i, n, len;
    yyjson_val *p;
    yyjson_arr_foreach (json_get(service, "spec", "ports"), i, n, p) {
        yyjson_val *target = json_get(p, "targetPort");
        const char *protocol = str_or(json_str(p, "protocol"), "TCP"), *app = json_str(p, "appProtocol");
        int64_t number = yyjson_is_str(target) ? named_port(pod, yyjson_get_str(target), protocol)
                                               : json_int_or(target, json_int_or(json_get(p, "port"), 0));
        if (number <= 0)
            continue;
        yyjson_mut_val *port = yyjson_mut_arr_add_obj(d, list);
        json_set_str(d, port, "name", str_or(json_str(p, "name"), ""));
        json_set_str(d, port, "protocol", protocol);
        json_set_int(d, port, "port", number);
        if (app)
            json_set_str(d, port, "appProtocol", app);
    }
    return json_write_mut(list, &len);
}

/* ---- targets ---- */

static int by_ports(const void *pa, const void *pb) {
    const struct target *a = pa, *b = pb;
    int c = strcmp(a->ports, b->ports);
    return c ? c : strcmp(a->pod->key, b->pod->key);
}

static void gather(struct serving *w, const struct service *s) {
    size_t cap = 0;
    w->not_ready_too = json_bool_or(json_get(w->service, "spec", "publishNotReadyAddresses"), false);
    for (struct pod_view *p = view_pods(w->x->view); p; p = p->hh.next) {
        if (strcmp(p->rec->ns, s->ns) != 0 || !*p->ip || pod_finished(p) ||
            !selector_match_labels(s->selector, pod_labels(p)))
            continue;
        if (w->n == cap) {
            cap = cap ? cap * 2 : 8;
            w->targets = xreallocarray(w->targets, cap, sizeof(*w->targets));
        }
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(p->rec);
        w->targets[w->n++] =
            (struct target){.pod = p,
                            .ports = resolve_ports(w->service, yyjson_doc_get_root(doc)),
                            .ready = (p->ready && node_ready(w->x, p) && !p->deleting) || w->not_ready_too};
    }
    if (w->n)
        qsort(w->targets, w->n, sizeof(*w->targets), by_ports);
}

static void add_reference(yyjson_mut_doc *d, yyjson_mut_val *to, const struct pod_view *p) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(p->rec);
    yyjson_mut_val *ref = json_ensure_obj(d, to, "targetRef");
    json_set_str(d, ref, "kind", "Pod");
    json_set_str(d, ref, "namespace", p->rec->ns);
    json_set_str(d, ref, "name", p->rec->name);
    json_set_str(d, ref, "uid", object_uid(yyjson_doc_get_root(doc)));
}

static yyjson_mut_val *ports_value(yyjson_mut_doc *d, const char *text) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
    return yyjson_val_mut_copy(d, yyjson_doc_get_root(doc));
}

/* ---- EndpointSlices ---- */

static void add_endpoint(struct serving *w, yyjson_mut_doc *d, yyjson_mut_val *list, const struct target *t) {
    const struct pod_view *p = t->pod;
    struct node_view *node = view_node(w->x->view, p->node);
    const char *zone = node && node->doc ? json_str(yyjson_doc_get_root(node->doc), "metadata", "labels",
                                                    "topology.kubernetes.io/zone")
                                         : NULL;
    yyjson_mut_val *e = yyjson_mut_arr_add_obj(d, list), *conditions;
    yyjson_mut_arr_add_strcpy(d, json_ensure_arr(d, e, "addresses"), p->ip);
    conditions = json_ensure_obj(d, e, "conditions");
    json_set_bool(d, conditions, "ready", t->ready);
    json_set_bool(d, conditions, "serving", p->ready && node_ready(w->x, p));
    json_set_bool(d, conditions, "terminating", p->deleting);
    add_reference(d, e, p);
    if (*p->node)
        json_set_str(d, e, "nodeName", p->node);
    if (zone)
        json_set_str(d, e, "zone", zone);
}

static yyjson_mut_val *build_slice(struct serving *w, yyjson_mut_doc *d, size_t from, size_t to) {
    yyjson_mut_val *slice = yyjson_mut_obj(d), *meta = json_ensure_obj(d, slice, "metadata");
    yyjson_val *labels = object_labels(w->service);
    if (labels)
        json_set(d, meta, "labels", yyjson_val_mut_copy(d, labels));
    json_set_str(d, json_ensure_obj(d, meta, "labels"), SERVICE_LABEL, w->it->name);
    json_set_str(d, json_ensure_obj(d, meta, "labels"), MANAGER, MANAGER_NAME);
    if (str_eq(json_str(w->service, "spec", "clusterIP"), "None"))
        json_set_str(d, json_ensure_obj(d, meta, "labels"), "service.kubernetes.io/headless", "");
    json_set_str(d, slice, "addressType", strchr(from < w->n ? w->targets[from].pod->ip : "", ':') ? "IPv6" : "IPv4");
    yyjson_mut_val *list = json_ensure_arr(d, slice, "endpoints");
    for (size_t i = from; i < to; i++)
        add_endpoint(w, d, list, &w->targets[i]);
    json_set(d, slice, "ports", from < to ? ports_value(d, w->targets[from].ports) : yyjson_mut_arr(d));
    return slice;
}

static bool same_part(yyjson_val *had, yyjson_val *now, const char *key) {
    yyjson_val *a = yyjson_obj_get(had, key), *b = yyjson_obj_get(now, key);
    return (yyjson_arr_size(a) == 0 && yyjson_arr_size(b) == 0) || (a && b && json_equal(a, b));
}

/* The slice there is becomes the one that should be. */
static void update_slice(struct serving *w, const struct record *rec, yyjson_mut_doc *d, yyjson_mut_val *slice) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *had = record_parse(rec), *now = yyjson_mut_val_imut_copy(slice, NULL);
    yyjson_val *a = yyjson_doc_get_root(had), *b = yyjson_doc_get_root(now);
    if (same_part(a, b, "endpoints") && same_part(a, b, "ports") && json_equal(object_labels(a), object_labels(b)))
        return;
    yyjson_mut_val *patch = yyjson_mut_obj(d), *meta = json_ensure_obj(d, patch, "metadata");
    json_set_str(d, meta, "uid", object_uid(a));
    json_set(d, meta, "labels", yyjson_val_mut_copy(d, object_labels(b)));
    json_set(d, patch, "endpoints", yyjson_val_mut_copy(d, json_get(b, "endpoints")));
    json_set(d, patch, "ports", yyjson_val_mut_copy(d, json_get(b, "ports")));
    if (item_patch(w->it, w->x->slice_kind, rec->ns, rec->name, "", patch) < 0)
        item_again(w->it, 1);
}

static size_t our_slices(struct serving *w, struct record **out) {
    size_t n = 0;
    for (struct dependent *x = view_dependents(w->x->view, object_uid(w->service)); x && n < SLICES_MAX; x = x->next) {
        static const char ours[] = "\"" MANAGER "\":\"" MANAGER_NAME "\"";
        if (x->resource == w->x->slices && memmem(x->rec->text, x->rec->len, ours, sizeof(ours) - 1))
            out[n++] = x->rec;
    }
    return n;
}

static void write_slices(struct serving *w) {
    struct record *have[SLICES_MAX];
    size_t n = our_slices(w, have), used = 0, from = 0;
    do {
        size_t to = from;
        while (to < w->n && to - from < SLICE_MAX && strcmp(w->targets[to].ports, w->targets[from].ports) == 0)
            to++;
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *slice = build_slice(w, d, from, to);
        if (used < n) {
            update_slice(w, have[used], d, slice);
        } else {
            _cleanup_(free_p) char *prefix = xasprintf("%.57s-", w->it->name);
            json_set_str(d, json_ensure_obj(d, slice, "metadata"), "generateName", prefix);
            child_owned_by(d, slice, w->service);
            if (child_create(w->it, w->x->slice_kind, slice, NULL) < 0)
                item_again(w->it, 1);
        }
        used++;
        from = to;
    } while (from < w->n);
    for (size_t i = used; i < n; i++)
        if (item_delete(w->it, w->x->slice_kind, have[i]->ns, have[i]->name, NULL, PROPAGATE_BACKGROUND) < 0)
            item_again(w->it, 1);
}

/* ---- Endpoints ---- */

static void add_address(yyjson_mut_doc *d, yyjson_mut_val *subset, const struct target *t) {
    yyjson_mut_val *list = json_ensure_arr(d, subset, t->ready ? "addresses" : "notReadyAddresses");
    yyjson_mut_val *a = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, a, "ip", t->pod->ip);
    if (*t->pod->node)
        json_set_str(d, a, "nodeName", t->pod->node);
    add_reference(d, a, t->pod);
}

static yyjson_mut_val *build_subsets(struct serving *w, yyjson_mut_doc *d) {
    yyjson_mut_val *list = yyjson_mut_arr(d), *subset = NULL;
    const char *ports = NULL;
    size_t count = 0;
    for (size_t i = 0; i < w->n && count < ADDRESSES_MAX; i++) {
        const struct target *t = &w->targets[i];
        if (t->pod->deleting)
            continue;
        if (!ports || strcmp(ports, t->ports) != 0) {
            subset = yyjson_mut_arr_add_obj(d, list);
            ports = t->ports;
        }
        add_address(d, subset, t);
        json_set(d, subset, "ports", ports_value(d, ports));
        count++;
    }
    return list;
}

static void write_endpoints(struct serving *w) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(d), *meta = json_ensure_obj(d, o, "metadata");
    struct record *rec = storage_get(w->x->objects, w->it->ns, w->it->name);
    yyjson_mut_val *subsets = build_subsets(w, d);
    json_set(d, o, "subsets", subsets);
    if (!rec) {
        yyjson_val *labels = object_labels(w->service);
        json_set_str(d, meta, "name", w->it->name);
        if (labels)
            json_set(d, meta, "labels", yyjson_val_mut_copy(d, labels));
        json_set_str(d, json_ensure_obj(d, meta, "labels"), "endpoints.kubernetes.io/managed-by",
                     "endpoint-controller");
        if (child_create(w->it, w->x->endpoints_kind, o, NULL) < 0)
            item_again(w->it, 1);
        return;
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *had = record_parse(rec), *now = yyjson_mut_val_imut_copy(o, NULL);
    if (same_part(yyjson_doc_get_root(had), yyjson_doc_get_root(now), "subsets"))
        return;
    json_set_str(d, meta, "uid", object_uid(yyjson_doc_get_root(had)));
    if (item_patch(w->it, w->x->endpoints_kind, w->it->ns, w->it->name, "", o) < 0)
        item_again(w->it, 1);
}

/* ---- one look ---- */

static void look(void *self, struct item *it, struct record *rec, yyjson_val *service) {
    struct endpoints *x = self;
    struct service *s = find(x, it->ns, it->name);
    if (!service && storage_get(x->objects, it->ns, it->name)) {
        if (item_delete(it, x->endpoints_kind, it->ns, it->name, NULL, PROPAGATE_BACKGROUND) < 0)
            item_again(it, 1);
        return;
    }
    if (!service || !s || object_deleting(service))
        return;
    struct serving w = {.x = x, .it = it, .service = service};
    gather(&w, s);
    write_slices(&w);
    write_endpoints(&w);
    for (size_t i = 0; i < w.n; i++)
        free(w.targets[i].ports);
    free(w.targets);
}

/* ---- life ---- */

/* Does anything that endpoints tell differ? */
static bool differs(const struct pod_view *a, const struct pod_view *b) {
    return strcmp(a->ip, b->ip) != 0 || strcmp(a->node, b->node) != 0 || a->ready != b->ready ||
           a->deleting != b->deleting || pod_finished(a) != pod_finished(b) || !a->labels != !b->labels ||
           (a->labels && !json_equal(pod_labels(a), pod_labels(b)));
}

static void mark_services(struct endpoints *x, const struct pod_view *p) {
    struct service *s, *tmp;
    HASH_ITER (hh, x->known, s, tmp)
        if (strcmp(s->ns, p->rec->ns) == 0 && selector_match_labels(s->selector, pod_labels(p)))
            reconciler_mark(x->queue, x->services, s->ns, s->name);
}

static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct endpoints *x = self;
    if (was && is && !differs(was, is))
        return;
    if (was && *was->ip)
        mark_services(x, was);
    if (is && *is->ip)
        mark_services(x, is);
}

static void node_changed(void *self, struct node_view *node, bool existed) {
    for (struct pod_view *p = node->pods; p; p = p->node_next)
        if (*p->ip)
            mark_services(self, p);
}

static void change(void *self, const struct change *c) {
    struct endpoints *x = self;
    const struct record *rec = c->new_ ? c->new_ : c->old;
    if (c->resource == x->services) {
        struct service *s = find(x, rec->ns, rec->name);
        if (c->new_)
            learn(x, c->new_);
        else if (s)
            forget(x, s);
        reconciler_mark(x->queue, x->services, rec->ns, rec->name);
    } else if (c->resource == x->objects && find(x, rec->ns, rec->name)) {
        reconciler_mark(x->queue, x->services, rec->ns, rec->name); /* somebody else may have changed it */
    }
}

static void work(void *self) {
    struct endpoints *x = self;
    reconciler_work(x->queue);
}

static void tick(void *self, int64_t now_ms) {
    struct endpoints *x = self;
    reconciler_tick(x->queue, now_ms);
}

static void load(void *self, struct record *rec) {
    learn(self, rec);
}

static void *new (struct apiserver *s) {
    struct endpoints *x = NEW(struct endpoints);
    x->s = s;
    x->view = s->view;
    x->services = controller_resource(s, "", "services");
    x->slices = controller_resource(s, "discovery.k8s.io", "endpointslices");
    x->objects = controller_resource(s, "", "endpoints");
    x->slice_kind = server_kind(s, "discovery.k8s.io", "v1", "endpointslices");
    x->endpoints_kind = server_kind(s, "", "v1", "endpoints");
    x->queue = reconciler_new(s, look, x);
    recordmap_each(&x->services->objects, NULL, load, x);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .node = node_changed, .self = x});
    reconciler_mark_all(x->queue, x->services, NULL);
    return x;
}

static void release(void *self) {
    struct endpoints *x = self;
    struct service *s, *tmp;
    reconciler_free(x->queue);
    HASH_ITER (hh, x->known, s, tmp)
        forget(x, s);
    free(x);
}

const struct controller_type endpoints_controller = {
    .name = "endpoints", .new = new, .change = change, .work = work, .tick = tick, .free = release};
