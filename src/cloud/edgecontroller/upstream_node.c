/* What a node says about itself. */
#include "cloud/edgecontroller/internal.h"

#include "base/clock.h"

static const char *cloud_address(const struct edgecontroller *e) {
    return e->o.config->hub.advertise_addresses.items[0];
}

static void bad_content(struct upstream *u) {
    struct error err = ERROR_INIT;
    error_set(&err, ERR_INVALID, "the content of %s %s is not an object", u->r.operation, u->r.type);
    upstream_fail(u, NULL, &err);
}

/* ---- registration ---- */

static void on_labels(void *arg, struct kube_result *r) {
    upstream_done(arg, r);
}

static void patch_labels(struct upstream *u, void (*done)(void *arg, struct kube_result *r)) {
    upstream_call(u, &(struct upstream_call){.verb = "PATCH",
                                             .content_type = KUBE_MERGE_PATCH,
                                             .body = bytes_str(u->text),
                                             .as_cloud = true,
                                             .done = done});
}

static void already_exists(struct upstream *u) {
    struct error err = ERROR_INIT;
    error_set(&err, ERR_EXISTS, "nodes \"%s\" already exists", u->r.name);
    upstream_fail(u, NULL, &err);
}

static void on_labels_of_existing(void *arg, struct kube_result *r) {
    (void)r;
    already_exists(arg);
}

static void on_created(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code == ERR_NONE && u->text)
        patch_labels(u, on_labels);
    /* A cloudcore that died between the two calls has left a Node without the edge label, which nobody would serve. */
    else if (r->status == 409 && u->text && !downstream_is_edge_node(u->e->downstream, u->r.node))
        patch_labels(u, on_labels_of_existing);
    else
        upstream_done(u, r);
}

/* Labels under kubernetes.io go in a second call, as ourselves: a node identity may not set them. */
static bool post_node(struct upstream *u, yyjson_val *node, void (*done)(void *arg, struct kube_result *r)) {
    size_t len;
    _cleanup_(free_p) char *body = node_for_api(node, u->r.name, cloud_address(u->e), true, &len, &u->text);
    if (!body)
        return false;
    upstream_call(
        u, &(struct upstream_call){.verb = "POST", .collection = true, .body = bytes_of(body, len), .done = done});
    return true;
}

void handle_node_insert(struct upstream *u, yyjson_val *found) {
    (void)found;
    if (!post_node(u, u->r.content, on_created))
        bad_content(u);
}

void handle_node_update(struct upstream *u, yyjson_val *found) {
    size_t len;
    (void)found;
    if (!yyjson_is_obj(u->r.content)) {
        bad_content(u);
        return;
    }
    _cleanup_(free_p) char *body = node_metadata_patch(u->r.content, &len);
    upstream_call(u, &(struct upstream_call){.verb = "PATCH",
                                             .content_type = KUBE_MERGE_PATCH,
                                             .body = bytes_of(body, len),
                                             .as_cloud = true,
                                             .done = upstream_done});
}

void handle_node_patch(struct upstream *u, yyjson_val *found) {
    size_t len;
    (void)found;
    _cleanup_(free_p) char *body = status_patch_for_api(u->r.content, true, NULL, &len);
    if (!body) {
        bad_content(u);
        return;
    }
    upstream_call(u, &(struct upstream_call){.verb = "PATCH",
                                             .sub = "status",
                                             .content_type = KUBE_STRATEGIC_MERGE,
                                             .body = bytes_of(body, len),
                                             .done = upstream_done});
}

/* ---- the older form: nodestatus (resource-sync.md 1.7) ---- */

/* Its answers name the type "node" in place of "nodestatus". */
static void answer_legacy(struct upstream *u, const char *rv, const char *text) {
    _cleanup_(buf_free) struct buf resource = BUF_INIT(2048), content = BUF_INIT(8192);
    (void)buf_addf(&resource, "%s/node/%s", *u->r.ns ? u->r.ns : "null", u->r.name);
    (void)json_append_string(&content, bytes_str(text));
    size_t len;
    char *copy = buf_take(&content, &len);
    upstream_answer_text(u, resource.ptr, rv, copy, len);
}

static void on_legacy_done(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code == ERR_NONE)
        answer_legacy(u, object_rv(r->body), "OK");
    else
        answer_legacy(u, NULL, error_text(&r->error));
}

static void on_legacy_labels(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code == ERR_NONE)
        answer_legacy(u, NULL, "OK");
    else
        answer_legacy(u, NULL, error_text(&r->error));
}

static void on_legacy_created(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (u->text && (r->error.code == ERR_NONE || r->status == 409))
        patch_labels(u, on_legacy_labels);
    else if (r->status == 409)
        answer_legacy(u, NULL, "OK");
    else
        on_legacy_labels(u, r);
}

void handle_nodestatus_insert(struct upstream *u, yyjson_val *found) {
    (void)found;
    if (!post_node(u, u->r.content, on_legacy_created))
        answer_legacy(u, NULL, "the content is not a Node");
}

static void refresh_heartbeats(yyjson_mut_doc *d, yyjson_mut_val *status, int64_t frequency_s) {
    size_t i, max;
    yyjson_mut_val *c;
    char now[RFC3339_SIZE];
    yyjson_mut_arr_foreach (yyjson_mut_obj_get(status, "conditions"), i, max, c) {
        const char *beat = json_mut_str(c, "lastHeartbeatTime");
        int64_t at = 0;
        if (!beat || rfc3339_parse(bytes_str(beat), &at) < 0 || clock_wall_s() - at / 1000000000 > frequency_s)
            json_set_str(d, c, "lastHeartbeatTime", rfc3339_now(now));
    }
}

/* Each extended resource becomes an annotation: [{"name","type","capacity"}, ...]. */
static void note_extended_resources(yyjson_mut_doc *d, yyjson_mut_val *node, yyjson_val *resources) {
    size_t i, max;
    yyjson_val *k, *v;
    yyjson_mut_val *notes = json_ensure_obj(d, json_ensure_obj(d, node, "metadata"), "annotations");
    yyjson_obj_foreach (resources, i, max, k, v) {
        _cleanup_(free_p) char *text = json_write(v, NULL);
        json_set_str(d, notes, yyjson_get_str(k), text);
    }
}

static char *merge_legacy_status(struct upstream *u, yyjson_val *now, size_t *len) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *node = yyjson_val_mut_copy(d, now);
    yyjson_mut_val *status = yyjson_val_mut_copy(d, json_get(u->r.content, "Status"));
    yyjson_val *attached = json_get(now, "status", "volumesAttached");
    yyjson_val *port = json_get(now, "status", "daemonEndpoints", "kubeletEndpoint");
    refresh_heartbeats(d, status, u->e->o.config->edge_controller.node_update_frequency_s);
    if (attached)
        json_set(d, status, "volumesAttached", yyjson_val_mut_copy(d, attached));
    if (json_int_or(json_get(port, "Port"), 0) != 0)
        json_set(d, json_ensure_obj(d, status, "daemonEndpoints"), "kubeletEndpoint", yyjson_val_mut_copy(d, port));
    json_set(d, node, "status", status);
    note_extended_resources(d, node, json_get(u->r.content, "ExtendResources"));
    char *text = json_write_mut(node, len);
    yyjson_mut_doc_free(d);
    return text;
}

static void on_legacy_read(void *arg, struct kube_result *r) {
    struct upstream *u = arg;
    if (r->error.code != ERR_NONE) {
        answer_legacy(u, NULL, error_text(&r->error));
        return;
    }
    size_t len;
    _cleanup_(free_p) char *body = merge_legacy_status(u, r->body, &len);
    upstream_call(u, &(struct upstream_call){
                         .verb = "PUT", .sub = "status", .body = bytes_of(body, len), .done = on_legacy_done});
}

void handle_nodestatus_update(struct upstream *u, yyjson_val *found) {
    (void)found;
    if (!yyjson_is_obj(json_get(u->r.content, "Status"))) {
        answer_legacy(u, NULL, "the content has no Status");
        return;
    }
    upstream_call(u, &(struct upstream_call){.verb = "GET", .done = on_legacy_read});
}
