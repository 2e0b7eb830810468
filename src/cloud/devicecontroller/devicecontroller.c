#include "cloud/devicecontroller/internal.h"

#include "base/mem.h"

struct devicecontroller *devicecontroller_new(const struct devicecontroller_options *o) {
    struct devicecontroller *c = NEW(struct devicecontroller);
    c->o = *o;
    c->queue = status_queue_new(c);
    c->sent = metric_get(METRIC_COUNTER, "devicecontroller_messages_down_total", "Messages made for nodes.", NULL);
    c->reports = metric_get(METRIC_COUNTER, "devicecontroller_reports_total", "Reports of devices.", NULL);
    c->denied = metric_get(METRIC_COUNTER, "devicecontroller_reports_denied_total",
                           "Reports of devices that are not the node's, or that say nothing.", NULL);
    return c;
}

void devicecontroller_start(struct devicecontroller *c) {
    devices_start(c);
}

void devicecontroller_free(struct devicecontroller *c) {
    if (!c)
        return;
    devices_free(c);
    status_queue_free(c->queue);
    free(c);
}

void devicecontroller_set_hub(struct devicecontroller *c, struct cloudhub *hub) {
    c->hub = hub;
}

void devicecontroller_connected(struct devicecontroller *c, const char *node) {
    devices_converge(c, node);
}

/* ---- reports ---- */

/* A node reports on its own devices only. What is refused is confirmed all the same: it would be sent for ever. */
static struct device *authorised(struct devicecontroller *c, const struct hub_request *r, struct bytes ns,
                                 struct bytes name) {
    _cleanup_(free_p) char *n = bytes_dup(ns), *m = bytes_dup(name);
    struct device *d = device_find(c, n, m);
    if (d && str_eq(d->node, r->node))
        return d;
    metric_add(c->denied, 1);
    if (d)
        log_warn("report refused: the device is not on this node node=%s device=%s/%s", r->node, n, m);
    else
        log_info("report of a device that does not exist node=%s device=%s/%s", r->node, n, m);
    devices_confirm(c, r->node, r->message->id);
    return NULL;
}

static void report(struct devicecontroller *c, struct hub_request *r, enum report_kind kind, struct bytes ns,
                   struct bytes name) {
    if (!reflector_synced(c->devices))
        return; /* whose it is will be known in a moment: without a confirmation the node sends it again */
    struct device *d = authorised(c, r, ns, name);
    if (!d)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    yyjson_val *content = message_content_object(r->message, &doc);
    metric_add(c->reports, 1);
    status_writer_report(d->writer, content, kind, r->message->id);
}

void devicecontroller_request(struct devicecontroller *c, struct hub_request *r) {
    struct bytes ns = BYTES_EMPTY, name = BYTES_EMPTY;
    enum report_kind kind = report_parse_resource(bytes_str(r->message->resource), &ns, &name);
    if (kind == REPORT_UNKNOWN) {
        log_debug("dropped: not a report node=%s resource=%s", r->node, r->message->resource);
    } else if (kind == REPORT_MEMBERSHIP) {
        devices_confirm(c, r->node, r->message->id);
        devices_send_membership(c, r->node);
    } else {
        report(c, r, kind, ns, name);
    }
    hub_request_done(r);
}
