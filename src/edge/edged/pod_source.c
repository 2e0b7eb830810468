/* Which pods are to run here: the stored ones first, then whatever MetaManager passes on (resource-sync.md 7.2). */
#define LOG_COMPONENT "edged"
#include "base/log.h"
#include "edge/edged/pod_worker.h"
#include "edge/edged/static_pods.h"
#include "kube/object.h"
#include "wire/resource.h"

#define QUERY_TIMEOUT_MS 60000
#define RETRY_FIRST_MS 200
#define RETRY_MAX_MS 10000
#define INCOMPLETE_RETRY_MS 15000

struct pod_source {
    struct pods *pods;
    struct bus_request *request;
    struct timer *retry;
    struct backoff backoff;
};

static void ask(void *arg);

struct pod_source *pod_source_new(struct pods *ps) {
    struct pod_source *s = NEW(struct pod_source);
    s->pods = ps;
    s->backoff = BACKOFF(RETRY_FIRST_MS, RETRY_MAX_MS);
    s->retry = timer_new(ps->loop, ask, s);
    return s;
}

void pod_source_free(struct pod_source *s) {
    if (!s)
        return;
    if (s->request)
        bus_request_cancel(s->request);
    timer_free(s->retry);
    free(s);
}

/* The cloud's picture of a static pod. */
static bool is_mirror(yyjson_val *obj) {
    return object_annotation(obj, "kubernetes.io/config.mirror") != NULL;
}

/* True if the pod is one for this node. One that cannot be run is told, and spoils nothing for the others. */
static bool take_pod(struct pods *ps, yyjson_val *obj, struct strlist *uids) {
    if (!str_eq(json_str(obj, "spec", "nodeName"), ps->config->node_name))
        return false;
    if (is_mirror(obj)) {
        static_pods_mirror(ps->static_pods, obj, false);
        return false;
    }
    struct error err = ERROR_INIT;
    struct pod *p = pod_new(obj, &err);
    if (!p) {
        log_error("pod ignored: %s pod=%s/%s", err.msg, object_namespace(obj), object_name(obj));
        return false;
    }
    if (uids)
        strlist_add(uids, p->uid);
    pods_update(ps, p);
    return true;
}

static void take_stored(struct pods *ps, yyjson_val *list, bool complete) {
    struct strlist uids = {0};
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (list, i, max, v) {
        yyjson_doc *parsed = NULL;
        if (yyjson_is_str(v)) {
            parsed = json_parse(bytes_of(yyjson_get_str(v), yyjson_get_len(v)), MESSAGE_MAX, NULL);
            v = yyjson_doc_get_root(parsed);
        }
        take_pod(ps, v, &uids);
        yyjson_doc_free(parsed);
    }
    log_info("stored pods of this node: %zu%s", uids.count,
             complete ? "" : "; some may be missing: what else runs goes on running until the cloud has told");
    pods_set_read(ps, &uids, complete);
    strlist_free(&uids);
}

static void on_stored(void *arg, struct message *answer, const struct error *err) {
    struct pod_source *s = arg;
    s->request = NULL;
    yyjson_val *content = answer ? answer->content : NULL;
    if (answer && !str_eq(answer->operation, OP_ERROR) && (yyjson_is_arr(content) || yyjson_is_null(content))) {
        backoff_reset(&s->backoff);
        take_stored(s->pods, content, true);
    } else if (yyjson_is_arr(yyjson_obj_get(content, "incomplete"))) {
        take_stored(s->pods, yyjson_obj_get(content, "incomplete"), false);
        timer_set(s->retry, INCOMPLETE_RETRY_MS);
    } else {
        log_warn("the stored pods cannot be read yet: %s", answer ? "unexpected answer" : error_text(err));
        timer_set(s->retry, backoff_next_ms(&s->backoff));
    }
    message_free(answer);
}

static void ask(void *arg) {
    struct pod_source *s = arg;
    if (s->request)
        return;
    _cleanup_(buf_free) struct buf resource = BUF_INIT(512);
    resource_format(&resource, str_or(s->pods->config->node_namespace, "default"), "pod", NULL);
    struct message *m = message_new(&(struct message_fields){
        .source = MODULE_EDGED, .group = GROUP_META, .operation = OP_QUERY, .resource = resource.ptr});
    s->request = bus_request(s->pods->bus, MODULE_METAMANAGER, m, QUERY_TIMEOUT_MS, on_stored, s);
}

void pod_source_start(struct pod_source *s) {
    timer_set(s->retry, 0);
}

static bool is_operation(const struct message *m, const char *op) {
    return str_eq(m->operation, op);
}

static void pod_message(struct pod_source *s, struct message *m, const struct resource *r) {
    yyjson_doc *parsed = NULL;
    yyjson_val *obj = message_content_object(m, &parsed);
    if (is_operation(m, OP_INSERT) || is_operation(m, OP_UPDATE)) {
        take_pod(s->pods, obj, NULL);
    } else if (is_operation(m, OP_DELETE)) {
        const char *uid = object_uid(obj);
        if (is_mirror(obj))
            static_pods_mirror(s->pods->static_pods, obj, true);
        else if (!str_empty(uid))
            pods_remove(s->pods, uid);
        else
            timer_set(s->retry, 0); /* which one? What is stored now tells */
    }
    yyjson_doc_free(parsed);
}

void pod_source_message(struct pod_source *s, struct message *m) {
    struct resource r;
    if (resource_parse(bytes_str(m->resource), &r, NULL) < 0)
        return;
    if (bytes_eq_str(r.type, "pod")) {
        pod_message(s, m, &r);
    } else if (bytes_eq_str(r.type, "configmap") || bytes_eq_str(r.type, "secret")) {
        _cleanup_(free_p) char *type = bytes_dup(r.type), *ns = bytes_dup(r.ns), *name = bytes_dup(r.name);
        pods_object_changed(s->pods, type, ns, name);
    }
}
