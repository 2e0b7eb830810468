#define LOG_COMPONENT "edged"

#include "edge/edged/node_lease.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "kube/object.h"

#define REQUEST_TIMEOUT_MS 10000

struct node_lease {
    struct loop *loop;
    struct bus *bus;
    const struct edged_config *config;
    char *node_uid;
    yyjson_doc *current; /* as the cloud returned it; NULL: ask for it first */
    bool absent;         /* the cloud has none: make it */
    struct bus_request *request;
    struct timer *timer;
    struct backoff backoff;
    struct log_once trouble;
};

char *node_lease_text(const struct edged_config *c, const char *node_uid, yyjson_val *current, const char *now_micro) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *lease = yyjson_is_obj(current) ? yyjson_val_mut_copy(d, current) : yyjson_mut_obj(d);
    yyjson_mut_val *meta = json_ensure_obj(d, lease, "metadata"), *spec = json_ensure_obj(d, lease, "spec");
    json_set_str(d, lease, "kind", "Lease");
    json_set_str(d, lease, "apiVersion", "coordination.k8s.io/v1");
    json_set_str(d, meta, "name", c->node_name);
    json_set_str(d, meta, "namespace", "kube-node-lease");
    yyjson_mut_val *owners = yyjson_mut_arr(d), *o = yyjson_mut_arr_add_obj(d, owners);
    json_set_str(d, o, "apiVersion", "v1");
    json_set_str(d, o, "kind", "Node");
    json_set_str(d, o, "name", c->node_name);
    json_set_str(d, o, "uid", node_uid);
    json_set(d, meta, "ownerReferences", owners);
    json_set_str(d, spec, "holderIdentity", c->node_name);
    json_set_int(d, spec, "leaseDurationSeconds", c->lease_duration_s);
    json_set_str(d, spec, "renewTime", now_micro);
    return json_write_mut(lease, NULL);
}

static int64_t interval_ms(const struct node_lease *n) {
    int64_t ms = n->config->lease_duration_s * 1000 / 4;
    return ms + (int64_t)random_below((uint64_t)ms / 25 + 1);
}

static void forget(struct node_lease *n) {
    if (n->current)
        yyjson_doc_free(TAKE(n->current));
}

static void again(struct node_lease *n, const char *why) {
    log_once_failed(&n->trouble, LOG_COMPONENT, "the node's lease is not renewed: %s; trying again", why);
    timer_set(n->timer, backoff_next_ms(&n->backoff));
}

static const char *failure_reason(yyjson_val *content, const char **message) {
    yyjson_val *status = json_get(content, "Err", "ErrStatus");
    if (!status)
        status = json_get(content, "ErrStatus");
    *message = str_or(json_str(status, "message"), "refused");
    return str_or(json_str(status, "reason"), "Unknown");
}

static void answered(void *arg, struct message *answer, const struct error *err) {
    struct node_lease *n = arg;
    n->request = NULL;
    if (!answer) {
        if (err->code != ERR_UNAVAILABLE) /* that one is told by EdgeHub; renewed when the link is back */
            again(n, error_text(err));
        return;
    }
    yyjson_val *object = json_get(answer->content, "Object"), *refusal = json_get(answer->content, "Err");
    bool ok = yyjson_is_obj(object) && (!refusal || yyjson_is_null(refusal)) && *object_name(object);
    if (ok) {
        bool queried = !n->current && !n->absent;
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        yyjson_mut_doc_set_root(d, yyjson_val_mut_copy(d, object));
        forget(n);
        n->current = yyjson_mut_doc_imut_copy(d, NULL);
        n->absent = false;
        backoff_reset(&n->backoff);
        log_once_recovered(&n->trouble, LOG_COMPONENT, "the node's lease is renewed again");
        timer_set(n->timer, queried ? 0 : interval_ms(n));
    } else {
        const char *message, *reason = failure_reason(answer->content, &message);
        bool queried = !n->current && !n->absent;
        n->absent = queried && strcmp(reason, "NotFound") == 0;
        forget(n); /* a conflict, or it was deleted: read it anew */
        if (n->absent)
            timer_set(n->timer, 0);
        else
            again(n, message);
    }
    message_free(answer);
}

static void renew(void *arg) {
    struct node_lease *n = arg;
    if (n->request || !n->node_uid || !bus_connected(n->bus))
        return;
    char now[RFC3339_SIZE];
    _cleanup_(free_p) char *resource = xasprintf("kube-node-lease/lease/%s", n->config->node_name), *text = NULL;
    struct message_fields f = {
        .source = MODULE_EDGED, .group = GROUP_META, .operation = OP_QUERY, .resource = resource};
    if (n->current || n->absent) {
        text = node_lease_text(n->config, n->node_uid, yyjson_doc_get_root(n->current), rfc3339_micro_now(now));
        f.content_text = bytes_str(text);
        f.operation = n->current ? OP_UPDATE : OP_INSERT;
    }
    n->request = bus_request(n->bus, MODULE_METAMANAGER, message_new(&f), REQUEST_TIMEOUT_MS, answered, n);
}

struct node_lease *node_lease_new(struct loop *l, struct bus *b, const struct edged_config *c) {
    struct node_lease *n = NEW(struct node_lease);
    n->loop = l;
    n->bus = b;
    n->config = c;
    n->timer = timer_new(l, renew, n);
    n->backoff = BACKOFF(100, 7000);
    return n;
}

void node_lease_set_owner(struct node_lease *n, const char *node_uid) {
    if (n->node_uid && strcmp(n->node_uid, node_uid) == 0)
        return;
    free(n->node_uid);
    n->node_uid = xstrdup(node_uid);
    node_lease_renew_now(n);
}

void node_lease_renew_now(struct node_lease *n) {
    backoff_reset(&n->backoff);
    timer_set(n->timer, 0);
}

void node_lease_free(struct node_lease *n) {
    if (!n)
        return;
    bus_request_cancel(n->request);
    timer_free(n->timer);
    forget(n);
    free(n->node_uid);
    free(n);
}
