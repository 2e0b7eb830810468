#include "cloud/edgecontroller/internal.h"

#include "base/mem.h"
#include "wire/resource.h"

static const struct route routes[] = {
    {"node", "insert", ANSWER_PAIR, false, "", "v1", "nodes", false, handle_node_insert},
    {"node", "update", ANSWER_OK, false, "", "v1", "nodes", false, handle_node_update},
    {"node", "query", ANSWER_OBJECT, false, "", "v1", "nodes", false, handle_query},
    {"nodepatch", "*", ANSWER_PAIR, false, "", "v1", "nodes", false, handle_node_patch},
    {"nodestatus", "insert", ANSWER_OK, false, "", "v1", "nodes", false, handle_nodestatus_insert},
    {"nodestatus", "update", ANSWER_OK, false, "", "v1", "nodes", false, handle_nodestatus_update},
    {"podpatch", "*", ANSWER_PAIR, false, "", "v1", "pods", true, handle_pod_patch},
    {"podstatus", "update", ANSWER_OK, false, "", "v1", "pods", true, handle_podstatus},
    {"pod", "insert", ANSWER_PAIR, false, "", "v1", "pods", true, handle_create},
    {"pod", "delete", ANSWER_OK, false, "", "v1", "pods", true, handle_pod_delete},
    {"event", "insert", ANSWER_OK, true, "", "v1", "events", true, handle_create},
    {"event", "update", ANSWER_OK, true, "", "v1", "events", true, handle_replace},
    {"event", "patch", ANSWER_OK, true, "", "v1", "events", true, handle_event_patch},
    {"configmap", "query", ANSWER_OBJECT, false, "", "v1", "configmaps", true, handle_query},
    {"secret", "query", ANSWER_OBJECT, false, "", "v1", "secrets", true, handle_query},
    {"persistentvolume", "query", ANSWER_OBJECT, false, "", "v1", "persistentvolumes", false, handle_query},
    {"persistentvolumeclaim", "query", ANSWER_OBJECT, false, "", "v1", "persistentvolumeclaims", true, handle_query},
    {"volumeattachment", "query", ANSWER_OBJECT, false, "storage.k8s.io", "v1", "volumeattachments", false,
     handle_query},
    {"serviceaccounttoken", "query", ANSWER_OBJECT, false, "", "v1", "serviceaccounts", true, handle_token},
    {"lease", "insert", ANSWER_PAIR, false, "coordination.k8s.io", "v1", "leases", true, handle_create},
    {"lease", "update", ANSWER_PAIR, false, "coordination.k8s.io", "v1", "leases", true, handle_replace},
    {"lease", "query", ANSWER_PAIR, false, "coordination.k8s.io", "v1", "leases", true, handle_query},
    {"certificatesigningrequest", "insert", ANSWER_PAIR, false, "certificates.k8s.io", "v1",
     "certificatesigningrequests", false, handle_create},
    {"certificatesigningrequest", "query", ANSWER_OBJECT, false, "certificates.k8s.io", "v1",
     "certificatesigningrequests", false, handle_query},
};

static const struct route *find_route(const char *type, const char *operation) {
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (str_eq(routes[i].type, type) &&
            (str_eq(routes[i].operations, "*") || str_eq(routes[i].operations, operation)))
            return &routes[i];
    return NULL;
}

/* ---- the end of a request ---- */

void upstream_finish(struct upstream *u) {
    hub_request_done(u->hub);
    yyjson_doc_free(u->content);
    free(u->ns);
    free(u->type);
    free(u->name);
    free(u->text);
    free(u);
}

/* Takes text. */
static void send_answer(const struct hub_request *h, const char *resource, const char *rv, char *text, size_t len) {
    const struct message_fields f = {.parent_id = h->message->id,
                                     .source = MODULE_EDGECONTROLLER,
                                     .group = GROUP_RESOURCE,
                                     .operation = OP_RESPONSE,
                                     .resource = resource ? resource : h->message->resource,
                                     .resource_version = rv,
                                     .content_text = bytes_of(text, len)};
    hub_request_answer(h, message_new(&f));
    free(text);
}

void upstream_answer_text(struct upstream *u, const char *resource, const char *rv, char *text, size_t len) {
    send_answer(u->hub, resource, rv, text, len);
    upstream_finish(u);
}

void upstream_succeed(struct upstream *u, yyjson_val *object) {
    size_t len;
    if (u->route->silent) {
        upstream_finish(u);
        return;
    }
    char *text = answer_success(u->route->shape, object, &len);
    upstream_answer_text(u, NULL, object_rv(object), text, len);
}

void upstream_fail(struct upstream *u, yyjson_val *status, const struct error *err) {
    size_t len;
    metric_add(u->e->failed, 1);
    log_debug("request failed: %s node=%s resource=%s operation=%s", error_text(err), u->r.node,
              u->hub->message->resource, u->r.operation);
    char *text = answer_failure(u->route->shape, status, err, u->route->plural, u->r.name, &len);
    upstream_answer_text(u, NULL, NULL, text, len);
}

/* For requests that never got as far as a route. */
static void fail_early(struct edgecontroller *e, struct hub_request *h, const struct error *err) {
    size_t len;
    metric_add(e->failed, 1);
    log_debug("request refused: %s node=%s", error_text(err), h->node);
    char *text = answer_failure(ANSWER_OBJECT, NULL, err, NULL, NULL, &len);
    send_answer(h, NULL, NULL, text, len);
    hub_request_done(h);
}

/* ---- calls ---- */

void upstream_call(struct upstream *u, const struct upstream_call *c) {
    const struct route *t = u->route;
    const struct cloud_config *config = u->e->o.config;
    bool impersonate = config->hub.authorization_enable && !config->hub.authorization_debug && !c->as_cloud;
    _cleanup_(free_p) char *path = kube_path(t->group, t->version, t->namespaced ? u->r.ns : NULL, t->plural,
                                             c->collection ? NULL : u->r.name, c->sub);
    const struct kube_request r = {.verb = c->verb,
                                   .path = path,
                                   .content_type = c->content_type,
                                   .body = c->body,
                                   .as_node = impersonate ? u->r.node : NULL,
                                   .done = c->done,
                                   .arg = u};
    kube_call(u->e->o.kube, &r);
}

void upstream_done(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code == ERR_NONE)
        upstream_succeed(u, r->body);
    else
        upstream_fail(u, r->body, &r->error);
}

/* ---- plain handlers ---- */

void handle_query(struct upstream *u, yyjson_val *found) {
    if (found) {
        upstream_succeed(u, found);
        return;
    }
    upstream_call(u, &(struct upstream_call){.verb = "GET", .done = upstream_done});
}

static void need_object(struct upstream *u) {
    struct error err = ERROR_INIT;
    error_set(&err, ERR_INVALID, "the content of %s %s is not an object", u->r.operation, u->r.type);
    upstream_fail(u, NULL, &err);
}

static void send_content(struct upstream *u, const char *verb, const char *sub, bool collection) {
    size_t len;
    if (!yyjson_is_obj(u->r.content)) {
        need_object(u);
        return;
    }
    u->text = json_write(u->r.content, &len);
    upstream_call(u, &(struct upstream_call){.verb = verb,
                                             .sub = sub,
                                             .collection = collection,
                                             .body = bytes_of(u->text, len),
                                             .as_cloud = str_eq(u->r.type, "event"),
                                             .done = upstream_done});
}

void handle_create(struct upstream *u, yyjson_val *found) {
    (void)found;
    send_content(u, "POST", NULL, true);
}

void handle_replace(struct upstream *u, yyjson_val *found) {
    (void)found;
    send_content(u, "PUT", NULL, false);
}

void handle_token(struct upstream *u, yyjson_val *found) {
    (void)found;
    send_content(u, "POST", "token", false);
}

void handle_event_patch(struct upstream *u, yyjson_val *found) {
    (void)found;
    const char *patch = json_str(u->r.content, "patchData");
    if (!patch) {
        need_object(u);
        return;
    }
    upstream_call(u, &(struct upstream_call){.verb = "PATCH",
                                             .content_type = KUBE_STRATEGIC_MERGE,
                                             .body = bytes_str(patch),
                                             .as_cloud = true,
                                             .done = upstream_done});
}

/* ---- dispatch ---- */

static void deny(struct upstream *u, const struct error *why) {
    metric_add(u->e->denied, 1);
    log_warn("request denied: %s", error_text(why));
    upstream_fail(u, NULL, why);
}

static void on_looked_up(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    struct error why = ERROR_INIT;
    if (r->error.code == ERR_NOT_FOUND && str_eq(u->route->plural, "pods")) {
        pod_not_found(u, &r->error, r->body);
    } else if (r->error.code != ERR_NONE) {
        upstream_fail(u, r->body, &r->error);
    } else if (!belongs_to_node(u->e->location, &u->r, r->body)) {
        error_set(&why, ERR_DENIED, "node %s may not %s %s %s%s%s: it is not its own", u->r.node, u->r.operation,
                  u->r.type, u->r.ns, *u->r.ns ? "/" : "", u->r.name);
        deny(u, &why);
    } else {
        u->route->handle(u, r->body);
    }
}

static int parse_request(struct upstream *u, struct error *err) {
    const struct message *m = u->hub->message;
    struct resource res;
    if (resource_parse(bytes_str(m->resource), &res, err) < 0)
        return -1;
    u->ns = bytes_dup(res.ns);
    u->type = bytes_dup(res.type);
    u->name = bytes_dup(res.name);
    u->r = (struct edge_request){.node = u->hub->node,
                                 .ns = u->ns,
                                 .type = u->type,
                                 .name = u->name,
                                 .operation = m->operation,
                                 .content = message_content_object(m, &u->content)};
    if (!u->r.content)
        u->r.content = m->content;
    u->route = find_route(u->type, m->operation);
    if (!u->route)
        return error_set(err, ERR_UNSUPPORTED, "operation \"%s\" on \"%s\" is not known to this cloudcore",
                         m->operation, m->resource);
    if (u->route->namespaced && str_empty(u->ns))
        return error_set(err, ERR_INVALID, "resource \"%s\" needs a namespace", m->resource);
    if (str_empty(u->name) && !str_eq(u->type, "podstatus"))
        return error_set(err, ERR_INVALID, "resource \"%s\" needs a name", m->resource);
    return 0;
}

static void start_request(struct edgecontroller *e, struct hub_request *h) {
    struct error err = ERROR_INIT;
    struct upstream *u = NEW(struct upstream);
    u->e = e;
    u->hub = h;
    u->r.node = h->node;
    u->r.operation = h->message->operation;
    if (parse_request(u, &err) < 0) {
        static const struct route unknown = {.type = "", .plural = "", .shape = ANSWER_OBJECT};
        if (!u->route)
            u->route = &unknown;
        upstream_fail(u, NULL, &err);
        return;
    }
    switch (authorize(e->location, &u->r, &err)) {
    case VERDICT_DENY:
        deny(u, &err);
        break;
    case VERDICT_LOOK:
        upstream_call(u, &(struct upstream_call){.verb = "GET", .as_cloud = true, .done = on_looked_up});
        break;
    case VERDICT_ALLOW:
        u->route->handle(u, NULL);
        break;
    }
}

void edgecontroller_request(void *arg, struct hub_request *h) {
    struct edgecontroller *e = arg;
    const struct message *m = h->message;
    struct error err = ERROR_INIT;
    metric_add(e->requests, 1);
    if (is_cloud_module(m->source)) {
        metric_add(e->denied, 1);
        log_warn("request denied: it claims to come from a module of the cloud node=%s source=%s", h->node, m->source);
        error_set(&err, ERR_DENIED, "a node may not send as \"%s\"", m->source);
        fail_early(e, h, &err);
    } else if (str_empty(m->id) && str_empty(m->resource)) {
        /* An answer could name no question. KubeEdge's edgecore sends such a message when it stops. */
        log_debug("dropped: it says nothing node=%s", h->node);
        hub_request_done(h);
    } else if (str_eq(m->operation, OP_UPLOAD) || str_eq(m->source, MODULE_TWIN) || str_eq(m->group, GROUP_HUB)) {
        /* Reports to components that are not there: nobody waits for an answer. */
        log_debug("dropped: no component for it node=%s source=%s resource=%s", h->node, m->source, m->resource);
        hub_request_done(h);
    } else if (str_eq(m->source, MODULE_METASERVER)) {
        error_set(&err, ERR_UNSUPPORTED, "dynamicController is not enabled in this cloudcore");
        fail_early(e, h, &err);
    } else {
        start_request(e, h);
    }
}
