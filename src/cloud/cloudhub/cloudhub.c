#include "cloud/cloudhub/internal.h"

#include "base/mem.h"
#include "net/stream.h"

#include <unistd.h>
#include <uthash.h>

/* One node that connected at least once and was not deleted since. */
struct node_entry {
    char *name;
    bool attached;   /* a session has its queue */
    unsigned thread; /* of that session */
    uint64_t session;
    bool pending; /* a newer session waits until that one has given the queue back */
    unsigned pending_thread;
    uint64_t pending_session;
    struct node_queue *parked; /* the queue, while no session has it */
    UT_hash_handle hh;
};

struct cloudhub {
    struct cloudhub_options o;
    struct hub_thread **threads;
    unsigned n_threads;
    struct node_entry *nodes;
    size_t n_attached;
    bool stopping;
};

const struct hub_metrics *hub_metrics(void) {
    static struct hub_metrics m; /* filled by cloudhub_start, before any thread runs */
    if (m.connected)
        return &m;
    m.accepted = metric_get(METRIC_COUNTER, "cloudhub_sessions_accepted_total", "Sessions of nodes that began.", NULL);
    m.refused = metric_get(METRIC_COUNTER, "cloudhub_sessions_refused_total",
                           "Connections refused: identity, node limit, protocol.", NULL);
    m.received = metric_get(METRIC_COUNTER, "cloudhub_messages_received_total", "Messages from nodes.", NULL);
    m.sent =
        metric_get(METRIC_COUNTER, "cloudhub_messages_sent_total", "Messages to nodes, repetitions not counted.", NULL);
    m.resent = metric_get(METRIC_COUNTER, "cloudhub_messages_resent_total",
                          "Messages sent again for want of an answer.", NULL);
    m.acknowledged =
        metric_get(METRIC_COUNTER, "cloudhub_messages_acknowledged_total", "Messages that a node has stored.", NULL);
    m.malformed =
        metric_get(METRIC_COUNTER, "cloudhub_messages_malformed_total", "Messages that could not be read.", NULL);
    m.edge_errors =
        metric_get(METRIC_COUNTER, "cloudhub_edge_errors_total", "Messages that a node could not store.", NULL);
    m.connected = metric_get(METRIC_GAUGE, "cloudhub_connected_nodes", "Nodes with a session.", NULL);
    return &m;
}

static struct node_entry *find_node(const struct cloudhub *h, const char *name) {
    struct node_entry *n;
    HASH_FIND_STR(h->nodes, name, n);
    return n;
}

static struct node_entry *find_or_add_node(struct cloudhub *h, const char *name) {
    struct node_entry *n = find_node(h, name);
    if (n)
        return n;
    n = NEW(struct node_entry);
    n->name = xstrdup(name);
    n->parked = node_queue_new(QUEUE_WINDOW);
    HASH_ADD_KEYPTR(hh, h->nodes, n->name, strlen(n->name), n);
    return n;
}

static void free_node(struct cloudhub *h, struct node_entry *n) {
    HASH_DEL(h->nodes, n);
    node_queue_free(n->parked);
    free(n->name);
    free(n);
}

static void refuse(struct cloudhub *h, unsigned thread, uint64_t session, unsigned code, const char *reason) {
    hub_thread_post(h->threads[thread],
                    (struct hub_command){.kind = HUB_REFUSE, .session = session, .close_code = code, .reason = reason});
}

static void attach(struct cloudhub *h, struct node_entry *n, unsigned thread, uint64_t session) {
    n->attached = true;
    n->thread = thread;
    n->session = session;
    h->n_attached++;
    metric_set(hub_metrics()->connected, (int64_t)h->n_attached);
    metric_add(hub_metrics()->accepted, 1);
    hub_thread_post(h->threads[thread],
                    (struct hub_command){
                        .kind = HUB_ATTACH, .session = session, .node = xstrdup(n->name), .queue = TAKE(n->parked)});
    h->o.connected(h->o.arg, n->name);
}

static void detach(struct cloudhub *h, struct node_entry *n, unsigned code, const char *reason) {
    hub_thread_post(
        h->threads[n->thread],
        (struct hub_command){.kind = HUB_DETACH, .session = n->session, .close_code = code, .reason = reason});
}

/* ---- what hub threads tell ---- */

static void on_connected(struct cloudhub *h, const struct hub_event *e) {
    struct node_entry *n = find_node(h, e->node);
    if (n && n->attached) {
        if (n->pending)
            refuse(h, n->pending_thread, n->pending_session, WS_CLOSE_GOING_AWAY, "replaced by a newer connection");
        else
            detach(h, n, WS_CLOSE_GOING_AWAY, "replaced by a newer connection");
        n->pending = true;
        n->pending_thread = e->thread;
        n->pending_session = e->session;
        return;
    }
    if (h->n_attached >= (size_t)h->o.config->hub.node_limit) {
        log_warn("node refused: the limit is reached, raise modules.cloudHub.nodeLimit node=%s limit=%lld", e->node,
                 (long long)h->o.config->hub.node_limit);
        metric_add(hub_metrics()->refused, 1);
        refuse(h, e->thread, e->session, WS_CLOSE_TRY_LATER, "node limit reached (modules.cloudHub.nodeLimit)");
        return;
    }
    attach(h, find_or_add_node(h, e->node), e->thread, e->session);
}

static void on_detached(struct cloudhub *h, struct hub_event *e) {
    struct node_entry *n = find_node(h, e->node);
    if (n && n->pending && n->pending_session == e->session && n->pending_thread == e->thread) {
        n->pending = false; /* gone before its turn came */
        return;
    }
    if (!n || !n->attached || n->session != e->session || n->thread != e->thread)
        return; /* forgotten or refused meanwhile */
    if (!e->queue)
        return; /* it ended while ATTACH was on its way: that comes back with the queue */
    n->attached = false;
    n->parked = TAKE(e->queue);
    h->n_attached--;
    metric_set(hub_metrics()->connected, (int64_t)h->n_attached);
    if (n->pending && !h->stopping) {
        n->pending = false;
        attach(h, n, n->pending_thread, n->pending_session);
        return;
    }
    h->o.disconnected(h->o.arg, n->name);
}

static void on_returned(struct cloudhub *h, struct hub_event *e) {
    struct node_entry *n = find_node(h, e->node);
    if (!n)
        return;
    if (n->attached)
        hub_thread_post(h->threads[n->thread],
                        (struct hub_command){
                            .kind = HUB_SEND, .session = n->session, .node = xstrdup(n->name), .item = TAKE(e->item)});
    else if (n->parked)
        node_queue_put(n->parked, TAKE(e->item));
}

static void on_request(struct cloudhub *h, struct hub_event *e) {
    struct hub_request *r = NEW(struct hub_request);
    *r = (struct hub_request){
        .hub = h, .thread = e->thread, .session = e->session, .node = TAKE(e->node), .message = TAKE(e->message)};
    h->o.request(h->o.arg, r);
}

static void free_event(void *arg) {
    struct hub_event *e = arg;
    free(e->node);
    node_queue_free(e->queue);
    hub_item_free(e->item);
    if (e->message)
        message_free(e->message);
    free(e);
}

static void on_event(void *arg) {
    struct hub_event *e = arg;
    struct cloudhub *h = e->hub;
    switch (e->kind) {
    case HUB_CONNECTED:
        on_connected(h, e);
        break;
    case HUB_DETACHED:
        on_detached(h, e);
        break;
    case HUB_RETURNED:
        on_returned(h, e);
        break;
    case HUB_REQUEST:
        on_request(h, e);
        break;
    }
    free_event(e);
}

void cloudhub_post(struct cloudhub *h, struct hub_event e) {
    e.hub = h;
    loop_post_full(h->o.loop, on_event, free_event, xmemdup(&e, sizeof e));
}

/* ---- requests ---- */

void hub_request_answer(const struct hub_request *r, struct message *m) {
    struct error err = ERROR_INIT;
    struct hub_item *item = NULL;
    if (hub_item_new(m, &item, &err) < 0)
        log_error("answer dropped: %s node=%s", error_text(&err), r->node);
    else
        hub_thread_post(r->hub->threads[r->thread],
                        (struct hub_command){.kind = HUB_ANSWER, .session = r->session, .item = item});
    message_free(m);
}

void hub_request_done(struct hub_request *r) {
    if (!r->part)
        hub_thread_post(r->hub->threads[r->thread], (struct hub_command){.kind = HUB_DONE, .session = r->session});
    message_free(r->message);
    free(r->node);
    free(r);
}

/* ---- downstream ---- */

void cloudhub_send(struct cloudhub *h, const char *node, struct message *m) {
    struct node_entry *n = find_node(h, node);
    struct error err = ERROR_INIT;
    _cleanup_(hub_item_free_p) struct hub_item *item = NULL;
    if (n && hub_item_new(m, &item, &err) < 0)
        log_error("message dropped: %s node=%s", error_text(&err), node);
    message_free(m);
    if (!item)
        return;
    if (n->attached)
        hub_thread_post(
            h->threads[n->thread],
            (struct hub_command){.kind = HUB_SEND, .session = n->session, .node = xstrdup(node), .item = TAKE(item)});
    else if (item->needs_ack)
        node_queue_put(n->parked, TAKE(item));
}

bool cloudhub_connected(const struct cloudhub *h, const char *node) {
    const struct node_entry *n = find_node(h, node);
    return n && n->attached;
}

void cloudhub_forget(struct cloudhub *h, const char *node) {
    struct node_entry *n = find_node(h, node);
    if (!n)
        return;
    if (n->attached) {
        detach(h, n, WS_CLOSE_NORMAL, "the Node object was deleted");
        h->n_attached--;
        metric_set(hub_metrics()->connected, (int64_t)h->n_attached);
        h->o.disconnected(h->o.arg, n->name);
    }
    if (n->pending)
        refuse(h, n->pending_thread, n->pending_session, WS_CLOSE_TRY_LATER, "the Node object was deleted");
    free_node(h, n);
}

/* ---- start and stop ---- */

/* Sockets with SO_REUSEPORT share a port without complaint, also with another process: ask first, without it. */
static int check_port_free(struct loop *l, const char *address, uint16_t port, struct error *err) {
    const struct listener_options o = {.address = address, .port = port, .max_connections = 1};
    struct listener *probe = listener_new(l, &o, err);
    if (!probe)
        return -1;
    listener_free(probe);
    return 0;
}

static unsigned thread_count(const struct cloud_config *c) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (c->hub.threads > 0)
        return (unsigned)c->hub.threads;
    return cores < 1 ? 1 : cores > 64 ? 64 : (unsigned)cores;
}

static struct tls_ctx *make_tls(const struct hub_pki *pki, struct error *err) {
    const struct tls_server_options o = {.cert_pem = buf_bytes(&pki->server_cert_pem),
                                         .key_pem = buf_bytes(&pki->server_key_pem),
                                         .client_ca_pem = buf_bytes(&pki->ca_cert_pem),
                                         .require_client_cert = true};
    return tls_server_ctx(&o, err);
}

static int start_threads(struct cloudhub *h, struct tls_ctx *tls, struct error *err) {
    const struct cloud_config *c = h->o.config;
    unsigned count = thread_count(c);
    h->threads = xcalloc(count, sizeof *h->threads);
    for (unsigned i = 0; i < count; i++) {
        const struct hub_thread_options o = {
            .hub = h,
            .index = i,
            .address = c->hub.websocket_address,
            .port = (uint16_t)c->hub.websocket_port,
            .reuse_port = count > 1,
            .tls = tls,
            .keepalive_ms = c->hub.keepalive_interval_s * 1000,
            .kubernetes_ca = h->o.kubernetes_ca_pem.ptr ? h->o.kubernetes_ca_pem.ptr : "",
        };
        if (hub_thread_start(&h->threads[i], &o, err) < 0)
            return -1;
        h->n_threads++;
    }
    return 0;
}

int cloudhub_start(struct cloudhub **out, const struct cloudhub_options *o, struct error *err) {
    const char *address = o->config->hub.websocket_address;
    uint16_t port = (uint16_t)o->config->hub.websocket_port;
    if (check_port_free(o->loop, address, port, err) < 0)
        return error_wrap(err, "modules.cloudHub.websocket");
    struct tls_ctx *tls = make_tls(o->pki, err);
    if (!tls)
        return error_wrap(err, "CloudHub's certificate");
    (void)hub_metrics();
    struct cloudhub *h = NEW(struct cloudhub);
    h->o = *o;
    int rc = start_threads(h, tls, err);
    tls_ctx_free(tls);
    if (rc < 0) {
        cloudhub_stop(h);
        return -1;
    }
    log_info("listening for nodes address=%s port=%u threads=%u", address, port, h->n_threads);
    *out = h;
    return 0;
}

void cloudhub_stop(struct cloudhub *h) {
    if (!h)
        return;
    h->stopping = true;
    for (unsigned i = 0; i < h->n_threads; i++)
        hub_thread_post(h->threads[i], (struct hub_command){.kind = HUB_STOP});
    for (unsigned i = 0; i < h->n_threads; i++)
        hub_thread_join(h->threads[i]);
    struct node_entry *n, *next;
    HASH_ITER (hh, h->nodes, n, next)
        free_node(h, n);
    free(h->threads);
    free(h);
}
