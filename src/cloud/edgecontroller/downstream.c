#include "cloud/edgecontroller/internal.h"

#include "base/mem.h"
#include "wire/resource.h"

#include <uthash.h>

#define EDGE_LABEL "node-role.kubernetes.io/edge"

enum watched { WATCH_NODES, WATCH_PODS, WATCH_CONFIGMAPS, WATCH_SECRETS, N_WATCHED };

/* A Node with the edge label. Of its object only what tells a real change from a status report is kept. */
struct edge_node {
    char *name;
    yyjson_doc *last; /* metadata and spec, as sent last */
    UT_hash_handle hh;
};

/* A GET on its way; nodes that connect at the same time and want the same object share it. */
struct fetch {
    struct downstream *d;
    char *key; /* "<kind>/<ns>/<name>" */
    const struct kind *kind;
    struct strlist nodes;
    struct kube_call *call;
    UT_hash_handle hh;
};

struct downstream {
    struct edgecontroller *e;
    struct reflector *reflectors[N_WATCHED];
    struct edge_node *nodes;
    struct fetch *fetches;
    struct metric *sent;
};

struct kind {
    enum watched watched;
    const char *plural, *type, *name; /* in URLs; in messages; of objects */
    enum location_kind location;
    const char *created; /* operation for a new object */
};
static const struct kind node_kind = {WATCH_NODES, "nodes", "node", "Node", 0, OP_UPDATE};
static const struct kind configmap_kind = {WATCH_CONFIGMAPS, "configmaps",       "configmap",
                                           "ConfigMap",      LOCATION_CONFIGMAP, OP_INSERT};
static const struct kind secret_kind = {WATCH_SECRETS, "secrets", "secret", "Secret", LOCATION_SECRET, OP_UPDATE};

/* ---- sending ---- */

static void send_text(struct downstream *d, const char *node, const char *type, const char *operation, const char *ns,
                      const char *name, const char *rv, struct bytes content) {
    struct edgecontroller *e = d->e;
    /* Who is not connected is told everything when it comes back; only what is gone by then must be remembered. */
    if (!e->hub || (!str_eq(operation, OP_DELETE) && !cloudhub_connected(e->hub, node)))
        return;
    _cleanup_(buf_free) struct buf resource = BUF_INIT(1024);
    (void)resource_format(&resource, ns, type, name);
    const struct message_fields f = {.source = MODULE_EDGECONTROLLER,
                                     .group = GROUP_RESOURCE,
                                     .operation = operation,
                                     .resource = resource.ptr,
                                     .resource_version = rv,
                                     .content_text = content};
    metric_add(d->sent, 1);
    cloudhub_send(e->hub, node, message_new(&f));
}

static void send_object(struct downstream *d, const char *node, const char *type, const char *operation,
                        yyjson_val *object) {
    size_t len;
    _cleanup_(free_p) char *text = object_for_edge(object, &len);
    send_text(d, node, type, operation, object_namespace(object), object_name(object), object_rv(object),
              bytes_of(text, len));
}

yyjson_val *downstream_pod(const struct downstream *d, const char *ns, const char *name) {
    return reflector_get(d->reflectors[WATCH_PODS], ns, name);
}

/* The deletion of an object of which no more is known. */
static void send_deletion(struct downstream *d, const char *node, const char *type, const char *kind, const char *ns,
                          const char *name, const char *uid) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    json_set_str(doc, object, "kind", kind);
    json_set_str(doc, object, "apiVersion", "v1");
    yyjson_mut_val *metadata = json_ensure_obj(doc, object, "metadata");
    json_set_str(doc, metadata, "name", name);
    json_set_str(doc, metadata, "namespace", ns);
    if (!str_empty(uid))
        json_set_str(doc, metadata, "uid", uid);
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(object, &len);
    yyjson_mut_doc_free(doc);
    send_text(d, node, type, OP_DELETE, ns, name, NULL, bytes_of(text, len));
}

void downstream_delete_stale_pod(struct downstream *d, const char *node, const char *ns, const char *name,
                                 const char *uid) {
    log_info("the node reports a pod that is gone, telling it to delete it node=%s pod=%s/%s", node, ns, name);
    send_deletion(d, node, "pod", "Pod", ns, name, uid);
}

/* ---- fetching for nodes that connect ---- */

static void free_fetch(struct fetch *f) {
    HASH_DEL(f->d->fetches, f);
    strlist_free(&f->nodes);
    free(f->key);
    free(f);
}

/* An answer may be older than what the watch has told since: what is deleted by now would come back to the edge. */
static bool still_there(const struct fetch *f, yyjson_val *object) {
    return f->kind == &node_kind ||
           reflector_has(f->d->reflectors[f->kind->watched], object_namespace(object), object_name(object));
}

static void on_fetched(void *arg, struct kube_result *r) {
    struct fetch *f = arg;
    if (r->error.code == ERR_NONE)
        for (size_t i = 0; i < f->nodes.count && still_there(f, r->body); i++)
            send_object(f->d, f->nodes.items[i], f->kind->type, OP_UPDATE, r->body);
    else if (r->error.code != ERR_NOT_FOUND)
        log_warn("not sent to %zu nodes, they ask for it when they need it: %s object=%s", f->nodes.count,
                 error_text(&r->error), f->key);
    free_fetch(f);
}

static void fetch_for(struct downstream *d, const struct kind *k, const char *ns, const char *name, const char *node) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s/%s", k->type, ns, name);
    struct fetch *f;
    HASH_FIND_STR(d->fetches, key, f);
    if (f) {
        if (!strlist_has(&f->nodes, node))
            strlist_add(&f->nodes, node);
        return;
    }
    f = NEW(struct fetch);
    f->d = d;
    f->kind = k;
    f->key = TAKE(key);
    strlist_add(&f->nodes, node);
    HASH_ADD_KEYPTR(hh, d->fetches, f->key, strlen(f->key), f);
    _cleanup_(free_p) char *path = kube_path("", "v1", ns, k->plural, name, NULL);
    const struct kube_request q = {.verb = "GET", .path = path, .done = on_fetched, .arg = f};
    f->call = kube_call(d->e->o.kube, &q);
}

struct converging {
    struct downstream *d;
    const char *node;
    const struct kind *kind;
};

/* What is not there may have been deleted while the node was away, and we were, too. */
static void converge_use(void *arg, const char *ns, const char *name) {
    struct converging *c = arg;
    if (reflector_has(c->d->reflectors[c->kind->watched], ns, name))
        fetch_for(c->d, c->kind, ns, name, c->node);
    else
        send_deletion(c->d, c->node, c->kind->type, c->kind->name, ns, name, NULL);
}

static void converge_pod(void *arg, const char *ns, const char *name) {
    struct converging *c = arg;
    yyjson_val *pod = downstream_pod(c->d, ns, name);
    if (pod)
        send_object(c->d, c->node, "pod", object_deleting(pod) ? OP_UPDATE : OP_INSERT, pod);
}

void downstream_converge(struct downstream *d, const char *node) {
    static const struct kind *const kinds[] = {&configmap_kind, &secret_kind};
    if (!downstream_is_edge_node(d, node))
        return; /* the label brings it here again */
    fetch_for(d, &node_kind, "", node, node);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct converging c = {d, node, kinds[i]};
        location_each_use(d->e->location, node, kinds[i]->location, converge_use, &c);
    }
    struct converging c = {d, node, NULL};
    location_each_pod(d->e->location, node, converge_pod, &c);
}

/* ---- nodes ---- */

static struct edge_node *find_node(const struct downstream *d, const char *name) {
    struct edge_node *n;
    HASH_FIND_STR(d->nodes, name, n);
    return n;
}

bool downstream_is_edge_node(const struct downstream *d, const char *node) {
    return find_node(d, node) != NULL;
}

bool downstream_noted(const struct downstream *d, const char *node) {
    const struct edge_node *n = find_node(d, node);
    return n && str_eq(object_annotation(yyjson_doc_get_root(n->last), "cloudcore"),
                       d->e->o.config->hub.advertise_addresses.items[0]);
}

static void free_node(struct downstream *d, struct edge_node *n) {
    HASH_DEL(d->nodes, n);
    yyjson_doc_free(n->last);
    free(n->name);
    free(n);
}

static yyjson_doc *without_status(yyjson_val *object) {
    yyjson_mut_doc *m = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_val_mut_copy(m, object);
    json_remove(o, "status");
    yyjson_mut_val *metadata = yyjson_mut_obj_get(o, "metadata");
    if (metadata)
        json_remove(metadata, "managedFields");
    yyjson_mut_doc_set_root(m, o);
    yyjson_doc *d = yyjson_mut_doc_imut_copy(m, NULL);
    yyjson_mut_doc_free(m);
    return d;
}

static void on_node(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    struct downstream *d = arg;
    (void)old;
    const char *name = object_name(object);
    struct edge_node *n = find_node(d, name);
    if (ev == REFLECTOR_DELETED) {
        if (n)
            free_node(d, n);
        if (d->e->hub)
            cloudhub_forget(d->e->hub, name);
        return;
    }
    bool fresh = !n;
    if (fresh) {
        n = NEW(struct edge_node);
        n->name = xstrdup(name);
        HASH_ADD_KEYPTR(hh, d->nodes, n->name, strlen(n->name), n);
    } else if (n->last && !object_changed(yyjson_doc_get_root(n->last), object)) {
        return;
    }
    yyjson_doc_free(n->last);
    n->last = without_status(object);
    if (fresh)
        downstream_converge(d, name);
    else
        send_object(d, name, "node", OP_UPDATE, object);
}

/* ---- pods ---- */

static yyjson_doc *trim_pod(void *arg, yyjson_val *object) {
    (void)arg;
    size_t len;
    _cleanup_(free_p) char *text = object_for_edge(object, &len);
    return yyjson_read(text, len, 0);
}

static void on_pod(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    struct downstream *d = arg;
    const char *node = json_str(object, "spec", "nodeName");
    if (ev == REFLECTOR_DELETED)
        location_remove_pod(d->e->location, object_namespace(object), object_name(object));
    else
        location_set_pod(d->e->location, object);
    if (str_empty(node) || !downstream_is_edge_node(d, node))
        return;
    if (ev == REFLECTOR_DELETED)
        send_object(d, node, "pod", OP_DELETE, object);
    else if (ev == REFLECTOR_ADDED)
        send_object(d, node, "pod", object_deleting(object) ? OP_UPDATE : OP_INSERT, object);
    else if (!old || object_changed(old, object))
        send_object(d, node, "pod", OP_UPDATE, object);
}

/* ---- ConfigMaps and Secrets ---- */

struct spreading {
    struct downstream *d;
    const struct kind *kind;
    const char *operation;
    yyjson_val *object;
};

static void spread_to(void *arg, const char *node) {
    struct spreading *s = arg;
    if (downstream_is_edge_node(s->d, node))
        send_object(s->d, node, s->kind->type, s->operation, s->object);
}

static void spread(struct downstream *d, const struct kind *k, enum reflector_event ev, yyjson_val *object) {
    struct spreading s = {d, k,
                          ev == REFLECTOR_DELETED ? OP_DELETE
                          : ev == REFLECTOR_ADDED ? k->created
                                                  : OP_UPDATE,
                          object};
    location_each_node(d->e->location, k->location, object_namespace(object), object_name(object), spread_to, &s);
}

static void on_configmap(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    (void)old;
    spread(arg, &configmap_kind, ev, object);
}

static void on_secret(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    (void)old;
    spread(arg, &secret_kind, ev, object);
}

/* ---- life ---- */

static void on_synced(void *arg) {
    struct downstream *d = arg;
    struct edgecontroller *e = d->e;
    if (e->told_synced || !downstream_synced(d))
        return;
    e->told_synced = true;
    e->o.synced(e->o.arg);
}

bool downstream_synced(const struct downstream *d) {
    for (size_t i = 0; i < N_WATCHED; i++)
        if (!d->reflectors[i] || !reflector_synced(d->reflectors[i]))
            return false;
    return true;
}

struct downstream *downstream_new(struct edgecontroller *e) {
    struct downstream *d = NEW(struct downstream);
    d->e = e;
    d->sent = metric_get(METRIC_COUNTER, "edgecontroller_messages_down_total", "Messages made for nodes.", NULL);
    return d;
}

void downstream_start(struct downstream *d) {
    const struct reflector_options o[N_WATCHED] = {
        [WATCH_NODES] = {.plural = "nodes", .label_selector = EDGE_LABEL "=", .event = on_node},
        [WATCH_PODS] = {.plural = "pods",
                        .field_selector = "spec.nodeName!=",
                        .keep_objects = true,
                        .trim = trim_pod,
                        .event = on_pod},
        /* Identities only: what they hold is sent on as it comes by, and read again when a node connects. */
        [WATCH_CONFIGMAPS] = {.plural = "configmaps", .event = on_configmap},
        [WATCH_SECRETS] = {.plural = "secrets", .event = on_secret},
    };
    for (size_t i = 0; i < N_WATCHED; i++) {
        struct reflector_options one = o[i];
        one.group = "";
        one.version = "v1";
        one.synced = on_synced;
        one.arg = d;
        d->reflectors[i] = reflector_new(d->e->o.kube, &one);
    }
}

void downstream_free(struct downstream *d) {
    if (!d)
        return;
    for (size_t i = 0; i < N_WATCHED; i++)
        if (d->reflectors[i])
            reflector_free(d->reflectors[i]);
    struct fetch *f, *next_fetch;
    HASH_ITER (hh, d->fetches, f, next_fetch) {
        kube_call_cancel(f->call);
        free_fetch(f);
    }
    struct edge_node *n, *next;
    HASH_ITER (hh, d->nodes, n, next)
        free_node(d, n);
    free(d);
}
