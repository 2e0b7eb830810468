#include "cloud/edgecontroller/internal.h"

#include "base/mem.h"

struct edgecontroller *edgecontroller_new(const struct edgecontroller_options *o) {
    struct edgecontroller *e = NEW(struct edgecontroller);
    e->o = *o;
    e->location = location_new();
    e->downstream = downstream_new(e);
    e->requests = metric_get(METRIC_COUNTER, "edgecontroller_requests_total", "Requests of nodes.", NULL);
    e->denied = metric_get(METRIC_COUNTER, "edgecontroller_requests_denied_total",
                           "Requests of nodes for what is not theirs.", NULL);
    e->failed = metric_get(METRIC_COUNTER, "edgecontroller_requests_failed_total",
                           "Requests of nodes that were malformed or that the API server refused.", NULL);
    return e;
}

void edgecontroller_start(struct edgecontroller *e) {
    downstream_start(e->downstream);
}

void edgecontroller_free(struct edgecontroller *e) {
    if (!e)
        return;
    downstream_free(e->downstream);
    location_free(e->location);
    free(e);
}

void edgecontroller_set_hub(struct edgecontroller *e, struct cloudhub *hub) {
    e->hub = hub;
}

bool edgecontroller_synced(const struct edgecontroller *e) {
    return e->told_synced;
}

/* Which cloudcore holds the node's session is noted on its Node; the router's REST endpoint reads it. */
static void note_session(struct edgecontroller *e, const char *node) {
    _cleanup_(free_p) char *path = kube_path("", "v1", NULL, "nodes", node, NULL);
    _cleanup_(buf_free) struct buf body = BUF_INIT(4096);
    (void)buf_add_str(&body, "{\"metadata\":{\"annotations\":{\"cloudcore\":");
    (void)json_append_string(&body, bytes_str(e->o.config->hub.advertise_addresses.items[0]));
    (void)buf_add_str(&body, "}}}");
    const struct kube_request r = {
        .verb = "PATCH", .path = path, .content_type = KUBE_MERGE_PATCH, .body = buf_bytes(&body)};
    kube_call(e->o.kube, &r);
}

void edgecontroller_connected(void *arg, const char *node) {
    struct edgecontroller *e = arg;
    if (!downstream_is_edge_node(e->downstream, node))
        return; /* it registers first */
    if (!downstream_noted(e->downstream, node))
        note_session(e, node);
    downstream_converge(e->downstream, node);
}
