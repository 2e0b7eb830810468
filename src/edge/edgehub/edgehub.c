#define LOG_COMPONENT "edgehub"

#include "edge/edgehub/edgehub.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/edgehub/certificates.h"
#include "edge/edgehub/dispatch.h"
#include "edge/edgehub/link_watch.h"
#include "edge/edgehub/upstream.h"
#include "edge/link.h"
#include "net/metrics.h"

#define KEPT_BYTES (8u << 20)
#define KEPT_COUNT 10000
#define CONFIRM_MS 500 /* kept messages are asked about once they have been quiet for so long */

struct edgehub {
    struct loop *loop;
    struct bus *bus;
    struct edge_config *config;
    struct certificates *certificates;
    struct link *link;
    struct link_watch *watch;
    struct upstream *upstream;
    struct timer *keepalive, *confirm;
    char *url, *node_header, *project_header;
    const char *headers[4];
    struct log_once connecting, undecodable;
    struct metric *received, *sent, *malformed, *dropped, *connected;
    bool stopped;
    struct tls_ctx *tls; /* NULL: no certificate yet */
    void (*on_tls)(void *arg, struct tls_ctx *tls);
    void *on_tls_arg;
};

/* ---- up ---- */

static void flush(struct edgehub *h) {
    struct bytes text;
    while (link_room(h->link) && upstream_next(h->upstream, &text)) {
        if (link_send(h->link, text, NULL) < 0)
            return; /* stays in the queue */
        upstream_sent(h->upstream);
        metric_add(h->sent, 1);
    }
    if (upstream_unconfirmed(h->upstream) && link_is_up(h->link) && !timer_pending(h->confirm))
        timer_set(h->confirm, CONFIRM_MS);
}

static void ask_confirmation(struct edgehub *h) {
    if (link_ask_confirmation(h->link))
        upstream_mark(h->upstream);
}

static void on_confirm(void *arg) {
    struct edgehub *h = arg;
    if (upstream_unconfirmed(h->upstream))
        ask_confirmation(h);
}

static char *encode(const struct message *m, size_t *len) {
    struct buf text = BUF_INIT(MESSAGE_MAX);
    if (message_encode(m, &text) < 0) {
        buf_free(&text);
        return NULL;
    }
    return buf_take(&text, len);
}

static void enqueue(struct edgehub *h, enum upstream_kind kind, const struct message *m) {
    struct error err = ERROR_INIT;
    size_t len = 0;
    char *text = encode(m, &len);
    if (!text) {
        (void)error_set(&err, ERR_TOO_LARGE, "the message is larger than %u bytes", MESSAGE_MAX);
        log_warn("a message is too large to be sent resource=%s operation=%s", m->resource, m->operation);
        (void)bus_reply_error(h->bus, m->id, &err);
        return;
    }
    unsigned dropped = upstream_add(h->upstream, kind, text, len);
    metric_add(h->dropped, dropped);
    flush(h);
}

/* A message that a component wants sent. */
static void handle(void *arg, struct message *m) {
    struct edgehub *h = arg;
    bool request = bus_is_request(h->bus, m->id);
    bool ack = strcmp(m->operation, OP_RESPONSE) == 0 || strcmp(m->operation, OP_ERROR) == 0;
    if (request && !link_is_up(h->link)) {
        struct error err = ERROR_INIT;
        (void)error_set(&err, ERR_UNAVAILABLE, "not connected to the cloud");
        (void)bus_reply_error(h->bus, m->id, &err);
    } else if (!ack || link_is_up(h->link)) {
        enqueue(h, ack ? UPSTREAM_ACK : request ? UPSTREAM_REQUEST : UPSTREAM_KEPT, m);
    }
    message_free(m);
}

static void send_keepalive(void *arg) {
    struct edgehub *h = arg;
    struct message_fields f = {.source = MODULE_WEBSOCKET,
                               .group = GROUP_RESOURCE,
                               .operation = OP_KEEPALIVE,
                               .resource = "node",
                               .content_string = "ping"};
    _cleanup_(message_free_p) struct message *m = message_new(&f);
    size_t len = 0;
    _cleanup_(free_p) char *text = encode(m, &len);
    if (text && link_is_up(h->link)) /* past the queue: it must not wait */
        (void)!link_send(h->link, bytes_of(text, len), NULL);
    ask_confirmation(h);
}

/* ---- down ---- */

static void answer_control(struct edgehub *h, const struct message *m) {
    struct message_fields f = {.operation = OP_RESPONSE, .content_string = "ack"};
    _cleanup_(message_free_p) struct message *answer = message_response(m, m->source, m->group, &f);
    enqueue(h, UPSTREAM_ACK, answer);
}

static void dispatch(struct edgehub *h, struct message *m) {
    const char *component;
    switch (downstream_target(m, &component)) {
    case DOWN_CONTROL:
        answer_control(h, m);
        break;
    case DOWN_ANSWER:
        if (bus_reply(h->bus, m))
            return;
        if (component) {
            bus_send(h->bus, component, m);
            return;
        }
        break;
    case DOWN_COMPONENT:
        bus_send(h->bus, component, m);
        return;
    case DOWN_DROP:
        log_info("a message from the cloud is for nobody here group=%s source=%s resource=%s", m->group, m->source,
                 m->resource);
        break;
    }
    message_free(m);
}

static void on_message(void *arg, struct bytes text) {
    struct edgehub *h = arg;
    struct error err = ERROR_INIT;
    struct message *m = NULL;
    metric_add(h->received, 1);
    if (message_decode(text, &m, &err) < 0) {
        metric_add(h->malformed, 1);
        log_once_failed(&h->undecodable, LOG_COMPONENT, "a message from the cloud is not understood and dropped: %s",
                        error_text(&err));
        return;
    }
    dispatch(h, m);
}

static void on_downstream(void *arg, bool paused) {
    struct edgehub *h = arg;
    link_pause(h->link, paused);
}

/* ---- the link ---- */

static void on_up(void *arg) {
    struct edgehub *h = arg;
    log_once_recovered(&h->connecting, LOG_COMPONENT, "the cloud can be reached again server=%s",
                       h->config->hub.server);
    log_info("connected server=%s", h->config->hub.server);
    metric_set(h->connected, 1);
    send_keepalive(h);
    timer_every(h->keepalive, h->config->hub.heartbeat_s * 1000);
    flush(h);
    bus_publish_connected(h->bus, true);
}

static void on_down(void *arg) {
    struct edgehub *h = arg;
    struct error err = ERROR_INIT;
    timer_stop(h->keepalive);
    timer_stop(h->confirm);
    metric_set(h->connected, 0);
    upstream_disconnected(h->upstream);
    (void)error_set(&err, ERR_UNAVAILABLE, "the connection to the cloud broke");
    bus_fail_requests(h->bus, MODULE_WEBSOCKET, &err);
    bus_publish_connected(h->bus, false);
}

static const char *advice_for(const struct error *why) {
    switch (why->code) {
    case ERR_DENIED:
        return "is this node's certificate from this cloud, and for this node? To join it anew put a token from "
               "`keadm gettoken` into modules.edgeHub.token and remove the certificate files";
    case ERR_TIMEOUT:
    case ERR_UNAVAILABLE:
        return "pods go on running; trying again";
    default:
        return "trying again";
    }
}

static void on_failed(void *arg, const struct error *why) {
    struct edgehub *h = arg;
    log_once_failed(&h->connecting, LOG_COMPONENT, "no connection to the cloud server=%s: %s; %s",
                    h->config->hub.server, error_text(why), advice_for(why));
    if (why->code == ERR_DENIED && certificates_rejoin(h->certificates))
        log_info("the cloud refuses our certificate: joining anew with the token server=%s",
                 h->config->hub.http_server);
}

static void on_confirmed(void *arg) {
    struct edgehub *h = arg;
    upstream_confirmed(h->upstream);
    if (upstream_unconfirmed(h->upstream) && !timer_pending(h->confirm))
        timer_set(h->confirm, CONFIRM_MS);
}

static void on_room(void *arg) {
    flush(arg);
}

static void on_network_changed(void *arg) {
    struct edgehub *h = arg;
    link_nudge(h->link);
}

static const struct link_handlers LINK_HANDLERS = {.up = on_up,
                                                   .message = on_message,
                                                   .confirmed = on_confirmed,
                                                   .room = on_room,
                                                   .down = on_down,
                                                   .failed = on_failed};

/* ---- certificates ---- */

static void on_certificate(void *arg) {
    struct edgehub *h = arg;
    struct error err = ERROR_INIT;
    struct tls_ctx *tls = certificates_tls(h->certificates, &err);
    if (!tls) {
        log_error("the certificate files cannot be used file=%s: %s", h->config->hub.cert_file, error_text(&err));
        return;
    }
    tls_ctx_free(h->tls);
    h->tls = tls;
    link_set_tls(h->link, tls_ctx_ref(tls));
    if (h->on_tls)
        h->on_tls(h->on_tls_arg, tls);
}

static void on_joined(void *arg) {
    struct edgehub *h = arg;
    struct error err = ERROR_INIT;
    if (edge_config_forget_token(h->config, &err) < 0)
        log_warn("the join token has served, but stays in the configuration: remove it yourself: %s", error_text(&err));
}

static const struct certificates_handlers CERTIFICATE_HANDLERS = {.ready = on_certificate, .joined = on_joined};

/* ---- public ---- */

static void make_link(struct edgehub *h) {
    const struct edgehub_config *c = &h->config->hub;
    h->url = xasprintf("wss://%s/%s/%s/events", c->server, c->project_id, h->config->edged.node_name);
    h->node_header = xasprintf("node_id: %s", h->config->edged.node_name);
    h->project_header = xasprintf("project_id: %s", c->project_id);
    h->headers[0] = h->node_header;
    h->headers[1] = h->project_header;
    h->headers[2] = "ConnectionUse: msg";
    struct link_options o = {.url = h->url,
                             .headers = h->headers,
                             .handlers = &LINK_HANDLERS,
                             .arg = h,
                             .handshake_timeout_ms = (int)c->handshake_timeout_s * 1000,
                             .silence_ms = (int)(c->heartbeat_s + c->read_deadline_s) * 1000,
                             .write_timeout_ms = (int)c->write_deadline_s * 1000,
                             .max_message = MESSAGE_MAX};
    h->link = link_new(h->loop, &o);
}

static void make_metrics(struct edgehub *h) {
    h->received = metric_get(METRIC_COUNTER, "selvage_edgehub_messages_total", "Messages", "direction=\"down\"");
    h->sent = metric_get(METRIC_COUNTER, "selvage_edgehub_messages_total", "Messages", "direction=\"up\"");
    h->malformed =
        metric_get(METRIC_COUNTER, "selvage_edgehub_malformed_total", "Messages that could not be decoded", NULL);
    h->dropped = metric_get(METRIC_COUNTER, "selvage_edgehub_dropped_total",
                            "Upward messages that gave way to newer ones while offline", NULL);
    h->connected = metric_get(METRIC_GAUGE, "selvage_edgehub_connected", "1 while connected to the cloud", NULL);
}

struct edgehub *edgehub_new(struct loop *l, struct bus *b, struct edge_config *c, struct error *err) {
    struct edgehub *h = NEW(struct edgehub);
    h->loop = l;
    h->bus = b;
    h->config = c;
    h->upstream = upstream_new(KEPT_BYTES, KEPT_COUNT);
    h->keepalive = timer_new(l, send_keepalive, h);
    h->confirm = timer_new(l, on_confirm, h);
    make_metrics(h);
    make_link(h);
    h->certificates = certificates_new(l, c, &CERTIFICATE_HANDLERS, h, err);
    if (!h->certificates) {
        edgehub_free(h);
        return NULL;
    }
    return h;
}

int edgehub_start(struct edgehub *h, struct error *err) {
    bus_register(h->bus, MODULE_WEBSOCKET, handle, h);
    bus_on_downstream(h->bus, on_downstream, h);
    h->watch = link_watch_new(h->loop, on_network_changed, h);
    certificates_start(h->certificates);
    return 0;
}

void edgehub_on_tls(struct edgehub *h, void (*fn)(void *arg, struct tls_ctx *tls), void *arg) {
    h->on_tls = fn;
    h->on_tls_arg = arg;
    if (h->tls)
        fn(arg, h->tls);
}

void edgehub_stop(struct edgehub *h) {
    if (h->stopped)
        return;
    h->stopped = true;
    link_watch_free(TAKE(h->watch));
    timer_stop(h->keepalive);
    timer_stop(h->confirm);
    link_stop(h->link);
    bus_publish_connected(h->bus, false);
}

void edgehub_free(struct edgehub *h) {
    if (!h)
        return;
    bus_on_downstream(h->bus, NULL, NULL);
    bus_unregister(h->bus, MODULE_WEBSOCKET);
    link_watch_free(h->watch);
    certificates_free(h->certificates);
    link_free(h->link);
    tls_ctx_free(h->tls);
    upstream_free(h->upstream);
    timer_free(h->keepalive);
    timer_free(h->confirm);
    free(h->url);
    free(h->node_header);
    free(h->project_header);
    free(h);
}
