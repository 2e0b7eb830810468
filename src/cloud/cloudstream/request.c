#define LOG_COMPONENT "cloudstream"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cloud/cloudstream/internal.h"

#include <strings.h>
#include <utlist.h>

#define LOOKUP_MS 10000

/* A request whose pod is being looked up. */
struct lookup {
    struct cloudstream *owner;
    struct http_request *request;
    struct kube_call *call;
    struct lookup *prev, *next;
};

static void lookup_free(struct lookup *l) {
    DL_DELETE(l->owner->lookups, l);
    free(l);
}

static void to_node(struct cloudstream *c, struct http_request *r, struct bytes node) {
    struct tunnel *t = node.len > 0 ? tunnel_find(c, node) : NULL;
    if (t)
        relay_begin(t, r);
    else
        http_respondf(r, 502, "node \"%.*s\" is not connected: no tunnel from it stands here\n",
                      (int)(node.len < 253 ? node.len : 253), node.ptr);
}

/* ---- by pod ---- */

static void on_pod(void *arg, struct kube_result *k) {
    struct lookup *l = arg;
    struct cloudstream *c = l->owner;
    struct http_request *r = l->request;
    lookup_free(l);
    http_on_close(r, NULL, NULL);
    const char *node = json_str(k->body, "spec", "nodeName");
    if (k->error.code != ERR_NONE)
        http_respondf(r, k->error.code == ERR_NOT_FOUND ? 404 : 502, "%s\n", error_text(&k->error));
    else if (str_empty(node))
        http_respondf(r, 400, "the pod is not on any node yet\n");
    else
        to_node(c, r, bytes_str(node));
}

static void on_gone(void *arg) {
    struct lookup *l = arg;
    kube_call_cancel(l->call);
    lookup_free(l);
}

static void look_up(struct cloudstream *c, struct http_request *r, struct bytes ns, struct bytes name) {
    if (!dns_label_valid(ns) || !dns_subdomain_valid(name)) {
        http_respondf(r, 404, "the path names no pod\n");
        return;
    }
    _cleanup_(free_p) char *space = bytes_dup(ns), *pod = bytes_dup(name);
    _cleanup_(free_p) char *path = kube_path("", "v1", space, "pods", pod, NULL);
    struct lookup *l = NEW(struct lookup);
    l->owner = c;
    l->request = r;
    DL_APPEND(c->lookups, l);
    http_on_close(r, on_gone, l);
    const struct kube_request q = {.verb = "GET", .path = path, .timeout_ms = LOOKUP_MS, .done = on_pod, .arg = l};
    l->call = kube_call(c->kube, &q);
}

void request_drop_all(struct cloudstream *c) {
    struct lookup *l, *tmp;
    DL_FOREACH_SAFE (c->lookups, l, tmp)
        on_gone(l);
}

/* ---- by the address that was dialled ---- */

/* "/api/v1/nodes/<name>/proxy/...", by a proxy in front of an API server; else the Host header without its port. */
static struct bytes named_node(const struct http_request *r) {
    struct bytes uri = http_header(r, "X-Forwarded-Uri", NULL), host = http_header(r, "Host", NULL), parts[7];
    if (bytes_starts_with(uri, "/api/v1/nodes/") && bytes_split(uri, '/', parts, ARRAY_LEN(parts)) > 6)
        return parts[4];
    struct bytes inner, before;
    if (bytes_starts_with(host, "[") && bytes_cut(bytes_of(host.ptr + 1, host.len - 1), ']', &inner, NULL))
        return inner;
    return bytes_cut(host, ':', &before, NULL) ? before : host;
}

/* Whoever gets in may run commands in every pod. */
static bool may_enter(struct http_request *r, struct x509_subject *who) {
    bool verified = false;
    return stream_peer_subject(http_stream(r), who, &verified, NULL) == 0 && verified &&
           (strcmp(who->organization, "system:masters") == 0 ||
            strcmp(who->organization, "kubeadm:cluster-admins") == 0);
}

void request_accept(void *arg, struct http_request *r) {
    static const char *const of_pods[] = {"containerLogs", "exec", "attach", "portForward", "run", "checkpoint"};
    struct cloudstream *c = arg;
    struct x509_subject who = {.common_name = ""};
    struct bytes parts[8];
    if (!may_enter(r, &who)) {
        log_warn("a request is refused user=%s group=%s addr=%s", who.common_name, who.organization,
                 stream_peer_addr(http_stream(r)));
        http_respondf(r, 403, "Forbidden\n");
        return;
    }
    size_t n = bytes_split(http_path(r), '/', parts, ARRAY_LEN(parts));
    for (size_t i = 0; i < ARRAY_LEN(of_pods) && n >= 4; i++)
        if (bytes_eq_str(parts[1], of_pods[i])) {
            look_up(c, r, parts[2], parts[3]);
            return;
        }
    to_node(c, r, named_node(r));
}
