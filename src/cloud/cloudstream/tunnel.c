#define LOG_COMPONENT "cloudstream"
#include "base/log.h"
#include "base/mem.h"
#include "cloud/cloudhub/identity.h"
#include "cloud/cloudstream/internal.h"

#include <utlist.h>

#define FRAME_MAX (TUNNEL_DATA_MAX + TUNNEL_HEAD_MAX)
#define SILENCE_MS 20000 /* nodes ping every 5 s */
#define MAX_QUEUED (8u << 20)
#define ADVERTISE_FIRST_MS 1000
#define ADVERTISE_MAX_MS 20000

/* ---- the port in the Node's status: an API server finds it there ---- */

static void on_advertised(void *arg, struct kube_result *k) {
    struct tunnel *t = arg;
    t->advertising = NULL;
    if (k->error.code == ERR_NONE)
        return;
    log_debug("the Node's kubelet port is not written yet node=%s: %s", t->node, error_text(&k->error));
    timer_set(t->advertise, backoff_next_ms(&t->backoff));
}

static void advertise(void *arg) {
    struct tunnel *t = arg;
    _cleanup_(free_p) char *path = kube_path("", "v1", NULL, "nodes", t->node, "status");
    _cleanup_(free_p) char *body = xasprintf("{\"status\":{\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":%d}}}}",
                                             (int)t->owner->o.config->stream.stream_port);
    const struct kube_request q = {.verb = "PATCH",
                                   .path = path,
                                   .content_type = KUBE_MERGE_PATCH,
                                   .body = bytes_str(body),
                                   .try_once = true,
                                   .done = on_advertised,
                                   .arg = t};
    t->advertising = kube_call(t->owner->kube, &q);
}

/* ---- life ---- */

static void tunnel_free(struct tunnel *t) {
    struct tunnel *current = NULL;
    struct relay *r, *tmp;
    HASH_FIND_STR(t->owner->by_node, t->node, current);
    if (current == t)
        HASH_DEL(t->owner->by_node, t);
    HASH_ITER (hh, t->relays, r, tmp)
        relay_break(r);
    DL_DELETE(t->owner->tunnels, t);
    if (t->advertising)
        kube_call_cancel(t->advertising);
    timer_free(t->advertise);
    ws_free(t->ws);
    free(t->node);
    free(t->address);
    free(t);
}

void tunnel_end(struct tunnel *t, unsigned close_code, const char *why) {
    log_info("the tunnel ends node=%s: %s", t->node, why);
    struct relay *r, *tmp;
    HASH_ITER (hh, t->relays, r, tmp)
        relay_break(r);
    ws_close(TAKE(t->ws), close_code, why);
    tunnel_free(t);
}

static void on_closed(void *arg, unsigned close_code, const struct error *why) {
    struct tunnel *t = arg;
    log_info("the tunnel is closed node=%s: %s", t->node, error_text(why));
    tunnel_free(t);
}

static void on_message(void *arg, struct bytes message, bool binary) {
    struct tunnel *t = arg;
    struct tunnel_frame f;
    struct error err = ERROR_INIT;
    if (tunnel_frame_read(message, &f, &err) < 0)
        tunnel_end(t, WS_CLOSE_PROTOCOL, error_text(&err));
    else
        relay_frame(t, &f);
}

static void on_drained(void *arg) {
    relay_room(arg);
}

static const struct ws_handlers HANDLERS = {.message = on_message, .drained = on_drained, .closed = on_closed};

void tunnel_send(struct tunnel *t, const struct buf *frame) {
    struct error err = ERROR_INIT;
    if (ws_send(t->ws, buf_bytes(frame), false, &err) < 0)
        log_warn("a frame is lost: %s node=%s", error_text(&err), t->node);
}

struct tunnel *tunnel_find(struct cloudstream *c, struct bytes node) {
    struct tunnel *t = NULL;
    HASH_FIND(hh, c->by_node, node.ptr, node.len, t);
    if (t)
        return t;
    DL_FOREACH (c->tunnels, t)
        if (bytes_eq_str(node, t->address))
            return t;
    return NULL;
}

/* ---- accepting ---- */

/* The address that API servers know the node by; where it does not say: the one it comes from. */
static char *address_of(const struct http_request *r) {
    struct bytes given = bytes_trim(http_header(r, TUNNEL_ADDRESS_HEADER, NULL));
    if (given.len > 0 && given.len < 64)
        return bytes_dup(given);
    const char *peer = stream_peer_addr(http_stream(r)), *colon = strrchr(peer, ':');
    return colon ? xstrndup(peer, (size_t)(colon - peer)) : xstrdup(peer);
}

/* The certificate decides who it is; the header may only agree. */
static int check_identity(struct http_request *r, struct bytes *node, struct x509_subject *subject, struct error *err) {
    bool verified = false;
    struct bytes claimed = http_header(r, TUNNEL_NODE_HEADER, NULL);
    if (stream_peer_subject(http_stream(r), subject, &verified, err) < 0 || identity_node(subject, node, err) < 0)
        return -1;
    if (!verified || !bytes_eq(*node, claimed))
        return error_set(err, ERR_DENIED, "the certificate is that of node %.*s, the header says %.*s", (int)node->len,
                         node->ptr, (int)(claimed.len < 253 ? claimed.len : 253), claimed.ptr);
    return 0;
}

void tunnel_accept(void *arg, struct http_request *r) {
    static const char *const protocols[] = {TUNNEL_PROTOCOL, NULL};
    struct cloudstream *c = arg;
    struct x509_subject subject;
    struct bytes node;
    struct error err = ERROR_INIT;
    if (check_identity(r, &node, &subject, &err) < 0) {
        log_warn("a tunnel is refused: %s addr=%s", error_text(&err), stream_peer_addr(http_stream(r)));
        http_respondf(r, 403, "%s\n", error_text(&err));
        return;
    }
    struct tunnel *t = NEW(struct tunnel), *old = NULL;
    t->owner = c;
    t->node = bytes_dup(node);
    t->address = address_of(r);
    const struct ws_options o = {.handlers = &HANDLERS,
                                 .arg = t,
                                 .max_message = FRAME_MAX,
                                 .max_queued = MAX_QUEUED,
                                 .read_timeout_ms = SILENCE_MS};
    t->ws = ws_accept(r, protocols, &o);
    if (!t->ws) {
        free(t->node);
        free(t->address);
        free(t);
        return;
    }
    t->windows = ws_protocol(t->ws) != NULL;
    HASH_FIND_STR(c->by_node, t->node, old);
    if (old)
        tunnel_end(old, WS_CLOSE_GOING_AWAY, "the node has connected anew");
    HASH_ADD_KEYPTR(hh, c->by_node, t->node, strlen(t->node), t);
    DL_APPEND(c->tunnels, t);
    t->backoff = BACKOFF(ADVERTISE_FIRST_MS, ADVERTISE_MAX_MS);
    t->advertise = timer_new(c->loop, advertise, t);
    timer_set(t->advertise, 0);
    log_info("a tunnel stands node=%s address=%s addr=%s flow_control=%s", t->node, t->address,
             stream_peer_addr(ws_stream(t->ws)), t->windows ? "yes" : "no");
}
