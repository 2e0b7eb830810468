/* What a node says about its pods. */
#include "cloud/edgecontroller/internal.h"

#include "base/clock.h"
#include "kube/references.h"

#define MAX_STATUSES 500 /* of one report: more pods than any node runs */

/* The uid that the edge believes in, "" if it does not say. */
static const char *claimed_uid(const struct upstream *u) {
    if (str_eq(u->r.type, "podstatus"))
        return str_or(json_str(u->r.content, "UID"), "");
    if (str_eq(u->r.type, "podpatch"))
        return object_uid(u->r.content);
    return "";
}

void pod_not_found(struct upstream *u, const struct error *err, yyjson_val *status) {
    if (str_eq(u->r.type, "pod")) { /* it shall be deleted, and it is */
        upstream_succeed(u, NULL);
        return;
    }
    downstream_delete_stale_pod(u->e->downstream, u->r.node, u->r.ns, u->r.name, claimed_uid(u));
    if (str_eq(u->r.type, "podstatus"))
        upstream_succeed(u, NULL);
    else
        upstream_fail(u, status, err);
}

/* ---- podpatch ---- */

static void on_patched(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code == ERR_NOT_FOUND)
        pod_not_found(u, &r->error, r->body);
    else
        upstream_done(u, r);
}

void handle_pod_patch(struct upstream *u, yyjson_val *found) {
    size_t len;
    struct error err = ERROR_INIT;
    const char *uid = object_uid(found);
    if (!found)
        (void)location_pod_node(u->e->location, u->r.ns, u->r.name, &uid);
    const char *claimed = claimed_uid(u);
    if (!str_empty(claimed) && !str_empty(uid) && !str_eq(claimed, uid)) {
        downstream_delete_stale_pod(u->e->downstream, u->r.node, u->r.ns, u->r.name, claimed);
        error_set(&err, ERR_CONFLICT, "pod %s/%s is another one now: uid %s, not %s", u->r.ns, u->r.name, uid, claimed);
        upstream_fail(u, NULL, &err);
        return;
    }
    _cleanup_(free_p) char *body = status_patch_for_api(u->r.content, false, uid, &len);
    if (!body) {
        error_set(&err, ERR_INVALID, "the patch is not an object");
        upstream_fail(u, NULL, &err);
        return;
    }
    upstream_call(u, &(struct upstream_call){.verb = "PATCH",
                                             .sub = "status",
                                             .content_type = KUBE_STRATEGIC_MERGE,
                                             .body = bytes_of(body, len),
                                             .done = on_patched});
}

/* ---- deletion, confirmed by the edge ---- */

static void on_deleted(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    /* Gone already, or another pod by now: what the edge wanted is so. */
    if (r->error.code == ERR_NONE || r->error.code == ERR_NOT_FOUND || r->status == 409)
        upstream_succeed(u, NULL);
    else
        upstream_fail(u, r->body, &r->error);
}

static void delete_pod(struct upstream *u, yyjson_mut_doc *d, yyjson_mut_val *options, const char *uid) {
    json_set_str(d, json_ensure_obj(d, options, "preconditions"), "uid", uid);
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(options, &len);
    upstream_call(u, &(struct upstream_call){.verb = "DELETE", .body = bytes_of(text, len), .done = on_deleted});
}

static void delete_now(struct upstream *u, const char *uid) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *options = yyjson_mut_obj(d);
    json_set_str(d, options, "apiVersion", "v1");
    json_set_str(d, options, "kind", "DeleteOptions");
    json_set_int(d, options, "gracePeriodSeconds", 0);
    delete_pod(u, d, options, uid);
}

/* The pod that is meant by a deletion that names no uid: what shall be deleted anyway, or a mirror of the node's own.
 * Else it might be about a pod of that name that is gone, and hit the one that was made since. */
static const char *uid_meant(const struct upstream *u, yyjson_val *found) {
    yyjson_val *pod = found ? found : downstream_pod(u->e->downstream, u->r.ns, u->r.name);
    bool may = object_deleting(pod) || object_annotation(pod, MIRROR_ANNOTATION);
    return may ? object_uid(pod) : "";
}

void handle_pod_delete(struct upstream *u, yyjson_val *found) {
    struct error err = ERROR_INIT;
    bool options = yyjson_is_obj(u->r.content);
    const char *uid = options ? json_str(u->r.content, "preconditions", "uid")
                              : yyjson_get_str(u->hub->message->content); /* older edges: only the uid */
    if (str_empty(uid))
        uid = uid_meant(u, found);
    if (str_empty(uid)) {
        error_set(&err, ERR_CONFLICT, "pod %s/%s is not being deleted: to delete it, name its uid", u->r.ns, u->r.name);
        upstream_fail(u, NULL, &err);
        return;
    }
    if (!options) {
        delete_now(u, uid);
        return;
    }
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    delete_pod(u, d, yyjson_val_mut_copy(d, u->r.content), uid);
}

/* ---- podstatus, the older form (resource-sync.md 1.8) ---- */

static bool is_finished(yyjson_val *pod) {
    const char *phase = json_str(pod, "status", "phase");
    size_t i, max;
    yyjson_val *c;
    if (!object_deleting(pod) || (!str_eq(phase, "Succeeded") && !str_eq(phase, "Failed")))
        return false;
    yyjson_arr_foreach (json_get(pod, "status", "containerStatuses"), i, max, c) {
        if (json_get(c, "state", "running"))
            return false;
    }
    return true;
}

static yyjson_val *find_condition(yyjson_val *status, const char *type) {
    size_t i, max;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(status, "conditions"), i, max, c) {
        if (str_eq(json_str(c, "type"), type))
            return c;
    }
    return NULL;
}

/* Times that the edge cannot know better: the first start, and since when a condition is as it is. */
static void keep_times(yyjson_mut_doc *d, yyjson_mut_val *status, yyjson_val *before) {
    size_t i, max;
    yyjson_mut_val *c;
    char now[RFC3339_SIZE];
    const char *start = json_str(before, "startTime");
    if (start)
        json_set_str(d, status, "startTime", start);
    yyjson_mut_arr_foreach (yyjson_mut_obj_get(status, "conditions"), i, max, c) {
        yyjson_val *old = find_condition(before, json_mut_str(c, "type"));
        bool same = old && str_eq(json_str(old, "status"), json_mut_str(c, "status"));
        const char *since = same ? json_str(old, "lastTransitionTime") : NULL;
        json_set_str(d, c, "lastTransitionTime", since ? since : rfc3339_now(now));
    }
}

/* One element of a report, as a request of its own. */
static struct upstream *element_request(struct upstream *whole, yyjson_val *element) {
    struct upstream *u = NEW(struct upstream);
    struct hub_request *h = NEW(struct hub_request);
    *h = *whole->hub;
    h->node = xstrdup(whole->hub->node);
    h->message = message_copy(whole->hub->message);
    h->part = true;
    const char *name = json_str(element, "Name");
    u->e = whole->e;
    u->hub = h;
    u->route = whole->route;
    u->ns = xstrdup(whole->ns);
    u->type = xstrdup(whole->type);
    u->name = xstrdup(str_or(name, whole->name));
    size_t len;
    _cleanup_(free_p) char *text = json_write(element, &len);
    u->content = yyjson_read(text, len, 0);
    u->r = (struct edge_request){.node = h->node,
                                 .ns = u->ns,
                                 .type = u->type,
                                 .name = u->name,
                                 .operation = h->message->operation,
                                 .content = yyjson_doc_get_root(u->content)};
    return u;
}

static void on_status_put(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code == ERR_NONE && is_finished(r->body))
        delete_now(u, object_uid(r->body));
    else
        on_patched(u, r);
}

static void on_pod_read(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    struct error err = ERROR_INIT;
    if (r->error.code != ERR_NONE && r->error.code != ERR_NOT_FOUND) {
        upstream_fail(u, r->body, &r->error);
        return;
    }
    if (r->error.code == ERR_NOT_FOUND || !str_eq(object_uid(r->body), claimed_uid(u))) {
        pod_not_found(u, &r->error, NULL);
        return;
    }
    if (!str_eq(json_str(r->body, "spec", "nodeName"), u->r.node)) {
        metric_add(u->e->denied, 1);
        error_set(&err, ERR_DENIED, "node %s may not update the status of pod %s/%s", u->r.node, u->r.ns, u->r.name);
        upstream_fail(u, NULL, &err);
        return;
    }
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *pod = yyjson_val_mut_copy(d, r->body);
    yyjson_mut_val *status = yyjson_val_mut_copy(d, json_get(u->r.content, "Status"));
    keep_times(d, status, json_get(r->body, "status"));
    json_set(d, pod, "status", status);
    size_t len;
    _cleanup_(free_p) char *body = json_write_mut(pod, &len);
    yyjson_mut_doc_free(d);
    upstream_call(
        u, &(struct upstream_call){.verb = "PUT", .sub = "status", .body = bytes_of(body, len), .done = on_status_put});
}

static void report_one(struct upstream *whole, yyjson_val *element) {
    struct error err = ERROR_INIT;
    struct upstream *u = element_request(whole, element);
    if (!dns_subdomain_valid(bytes_str(u->r.name)) || !yyjson_is_obj(json_get(element, "Status"))) {
        error_set(&err, ERR_INVALID, "a pod status needs UID, Name and Status");
        upstream_fail(u, NULL, &err);
        return;
    }
    upstream_call(u, &(struct upstream_call){.verb = "GET", .done = on_pod_read});
}

void handle_podstatus(struct upstream *u, yyjson_val *found) {
    size_t i, max;
    yyjson_val *element;
    struct error err = ERROR_INIT;
    (void)found;
    if (yyjson_arr_size(u->r.content) > MAX_STATUSES) {
        error_set(&err, ERR_TOO_LARGE, "more than %d pod statuses in one report", MAX_STATUSES);
        upstream_fail(u, NULL, &err);
    } else if (yyjson_is_arr(u->r.content)) {
        yyjson_arr_foreach (u->r.content, i, max, element)
            report_one(u, element);
        upstream_finish(u);
    } else if (yyjson_is_obj(u->r.content)) {
        report_one(u, u->r.content);
        upstream_finish(u);
    } else {
        error_set(&err, ERR_INVALID, "a pod status report is an object or an array");
        upstream_fail(u, NULL, &err);
    }
}
