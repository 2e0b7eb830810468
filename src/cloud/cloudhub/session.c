#include "cloud/cloudhub/hub_thread.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cloud/cloudhub/identity.h"
#include "net/stream.h"

#include <utlist.h>

#define RESEND_TICK_MS 250
#define WRITE_AHEAD (256u << 10) /* bytes handed to the socket before the queue holds the rest */
#define MAX_OPEN_REQUESTS 64     /* of one node: reading pauses above it */
#define SOCKET_BACKLOG (2u * MESSAGE_MAX)

struct session *session_find(struct hub_thread *t, uint64_t id) {
    struct session *s;
    HASH_FIND(hh, t->by_id, &id, sizeof id, s);
    return s;
}

static void free_session(struct session *s) {
    struct hub_thread *t = s->thread;
    HASH_DEL(t->by_id, s);
    DL_DELETE(t->sessions, s);
    free(s->node);
    free(s);
}

/* Tells the control thread that the session is over, queue included, and forgets it. */
static void give_back(struct session *s) {
    if (s->queue)
        node_queue_rewind(s->queue);
    cloudhub_post(s->thread->o.hub, (struct hub_event){.kind = HUB_DETACHED,
                                                       .thread = s->thread->o.index,
                                                       .session = s->id,
                                                       .node = xstrdup(s->node),
                                                       .queue = TAKE(s->queue)});
    free_session(s);
}

void session_end(struct session *s, unsigned code, const char *reason) {
    log_info("session ended by us node=%s reason=\"%s\"", s->node, reason);
    ws_close(TAKE(s->ws), code, reason);
    give_back(s);
}

/* ---- downstream ---- */

void session_pump(struct session *s, int64_t now_ms) {
    const struct hub_metrics *metrics = hub_metrics();
    bool again;
    const struct hub_item *i;
    while (ws_queued(s->ws) < WRITE_AHEAD && (i = node_queue_next(s->queue, now_ms, &again))) {
        struct error err = ERROR_INIT;
        if (ws_send(s->ws, bytes_of(i->text, i->len), false, &err) < 0) {
            log_debug("not sent: %s node=%s", error_text(&err), s->node);
            break; /* the connection is over: `closed` follows */
        }
        metric_add(again ? metrics->resent : metrics->sent, 1);
    }
    if (node_queue_in_flight(s->queue) > 0 && !timer_pending(s->thread->resend))
        timer_set(s->thread->resend, RESEND_TICK_MS);
}

void session_put(struct session *s, struct hub_item *item) {
    node_queue_put(s->queue, item);
    session_pump(s, clock_mono_ms());
}

void session_attach(struct session *s, struct node_queue *q) {
    s->queue = q;
    log_info("node connected node=%s addr=%s", s->node, stream_peer_addr(ws_stream(s->ws)));
    ws_resume(s->ws);
    session_pump(s, clock_mono_ms());
}

static void on_drained(void *arg) {
    struct session *s = arg;
    if (s->queue)
        session_pump(s, clock_mono_ms());
}

/* ---- upstream ---- */

void session_request_done(struct session *s) {
    if (s->open_requests > 0)
        s->open_requests--;
    if (s->paused && s->open_requests < MAX_OPEN_REQUESTS / 2) {
        s->paused = false;
        ws_resume(s->ws);
    }
}

void session_heard(struct session *s) {
    s->last_heard = clock_mono_ms();
    DL_DELETE(s->thread->sessions, s);
    DL_APPEND(s->thread->sessions, s);
}

static void answer_here(struct session *s, const struct message *m, const char *source, const char *group,
                        const char *text) {
    const struct message_fields f = {.operation = OP_RESPONSE, .content_string = text};
    struct message *a = message_response(m, source, group, &f);
    struct hub_item *item = NULL;
    if (hub_item_new(a, &item, NULL) == 0) {
        item->needs_ack = false; /* it is of this connection: no edge confirms it */
        session_put(s, item);
    }
    message_free(a);
}

static void ask_control(struct session *s, struct message *m) {
    if (++s->open_requests >= MAX_OPEN_REQUESTS && !s->paused) {
        s->paused = true;
        ws_pause(s->ws);
    }
    cloudhub_post(s->thread->o.hub, (struct hub_event){.kind = HUB_REQUEST,
                                                       .thread = s->thread->o.index,
                                                       .session = s->id,
                                                       .node = xstrdup(s->node),
                                                       .message = m});
}

/* wire-protocol.md 3.2, as far as the session itself answers. True if it did. */
static bool handle_here(struct session *s, const struct message *m) {
    if (str_eq(m->operation, OP_KEEPALIVE))
        return true;
    if (str_eq(m->operation, "ping") || str_eq(m->operation, "pong") || str_eq(m->operation, "config")) {
        answer_here(s, m, m->source, m->group, "ack");
        return true;
    }
    if (str_eq(m->operation, OP_RESPONSE)) {
        if (node_queue_ack(s->queue, m->parent_id)) {
            metric_add(hub_metrics()->acknowledged, 1);
            session_pump(s, clock_mono_ms());
        }
        return true;
    }
    if (str_eq(m->operation, OP_ERROR)) {
        metric_add(hub_metrics()->edge_errors, 1);
        log_warn("the node could not store an object, it is sent again node=%s resource=%s", s->node, m->resource);
        return true;
    }
    if (str_eq(m->resource, "k8s/ca.crt")) {
        answer_here(s, m, MODULE_CLOUDHUB, GROUP_RESOURCE, s->thread->o.kubernetes_ca);
        return true;
    }
    return false;
}

static void on_message(void *arg, struct bytes payload, bool binary) {
    struct session *s = arg;
    struct error err = ERROR_INIT;
    _cleanup_(message_free_p) struct message *m = NULL;
    metric_add(hub_metrics()->received, 1);
    session_heard(s);
    if (message_decode(payload, &m, &err) < 0) {
        metric_add(hub_metrics()->malformed, 1);
        if (!s->garbled) /* one line per session: a node may repeat it for ever */
            log_warn("message skipped: %s node=%s", error_text(&err), s->node);
        s->garbled = true;
        return;
    }
    if (!handle_here(s, m))
        ask_control(s, TAKE(m));
}

static void on_closed(void *arg, unsigned close_code, const struct error *why) {
    struct session *s = arg;
    log_info("node disconnected node=%s reason=\"%s\"", s->node,
             why->code == ERR_NONE ? "closed by the node" : error_text(why));
    ws_free(TAKE(s->ws));
    give_back(s);
}

static const struct ws_handlers handlers = {.message = on_message, .drained = on_drained, .closed = on_closed};

/* ---- acceptance ---- */

static void refuse(struct http_request *r, int status, const char *reason) {
    metric_add(hub_metrics()->refused, 1);
    log_warn("connection refused: %s addr=%s", reason, stream_peer_addr(http_stream(r)));
    http_respondf(r, status, "%s\n", reason);
}

/* The node that may speak on this connection, as an owned string; NULL: refused and answered. */
static char *identify(struct http_request *r) {
    struct error err = ERROR_INIT;
    struct x509_subject subject;
    bool verified = false;
    struct bytes node_id = http_header(r, "node_id", NULL);
    if (stream_peer_subject(http_stream(r), &subject, &verified, &err) < 0 || !verified) {
        refuse(r, 401, "a client certificate is required");
        return NULL;
    }
    if (identity_check(&subject, node_id, http_path(r), &err) < 0) {
        refuse(r, err.code == ERR_DENIED ? 403 : 400, error_text(&err));
        return NULL;
    }
    if (!bytes_eq_str(http_header(r, "ConnectionUse", NULL), "msg")) {
        refuse(r, 400, "header ConnectionUse must be \"msg\"");
        return NULL;
    }
    return bytes_dup(node_id);
}

void session_accept(void *arg, struct http_request *r) {
    struct hub_thread *t = arg;
    _cleanup_(free_p) char *node = identify(r);
    if (!node)
        return;
    struct session *s = NEW(struct session);
    const struct ws_options o = {
        .handlers = &handlers, .arg = s, .max_message = MESSAGE_MAX, .max_queued = SOCKET_BACKLOG};
    s->ws = ws_accept(r, NULL, &o);
    if (!s->ws) {
        metric_add(hub_metrics()->refused, 1);
        free(s);
        return;
    }
    s->thread = t;
    s->id = ++t->last_session;
    s->node = TAKE(node);
    s->last_heard = clock_mono_ms();
    HASH_ADD(hh, t->by_id, id, sizeof s->id, s);
    DL_APPEND(t->sessions, s);
    /* Nothing is read before the control thread has said that the node may come in. */
    ws_pause(s->ws);
    stream_set_tcp_timeouts(ws_stream(s->ws), (int)t->o.keepalive_ms, 15);
    cloudhub_post(
        t->o.hub,
        (struct hub_event){.kind = HUB_CONNECTED, .thread = t->o.index, .session = s->id, .node = xstrdup(s->node)});
}
