/* Bytes between a client and a node, both ways, as they are. */
#include "apiserver/connect.h"

#define LAST_BYTES_MS (10 * 60 * 1000) /* a slow client gets the end, too */
#define KEEPALIVE_S 15
#define QUEUE_HIGH (256u << 10)
#define MESSAGE_MAX (1u << 20)
#define MESSAGE_OUT (32u << 10)
#define WS_PING_MS 30000 /* keeps NATs open */

/* ---- stream to stream ---- */

static size_t client_data(void *arg, struct bytes in) {
    struct connect *c = arg;
    if (stream_write(c->node, in.ptr, in.len))
        stream_pause(c->client);
    return in.len;
}

static void client_drained(void *arg) {
    struct connect *c = arg;
    stream_resume(c->node);
}

static void client_closed(void *arg, const struct error *why) {
    connect_free(arg);
}

static size_t node_data(void *arg, struct bytes in) {
    struct connect *c = arg;
    if (stream_write(c->client, in.ptr, in.len))
        stream_pause(c->node);
    return in.len;
}

static void node_drained(void *arg) {
    struct connect *c = arg;
    stream_resume(c->client);
}

static void node_closed(void *arg, const struct error *why) {
    struct connect *c = arg;
    if (why->code == ERR_NONE)
        stream_finish(TAKE(c->client), LAST_BYTES_MS);
    connect_free(c);
}

static const struct stream_handlers CLIENT = {.data = client_data, .drained = client_drained, .closed = client_closed};
static const struct stream_handlers NODE = {.data = node_data, .drained = node_drained, .closed = node_closed};

/* ---- WebSocket messages to stream ---- */

static void ws_message(void *arg, struct bytes payload, bool binary) {
    struct connect *c = arg;
    if (stream_write(c->node, payload.ptr, payload.len))
        ws_pause(c->ws);
}

static void ws_drained(void *arg) {
    struct connect *c = arg;
    stream_resume(c->node);
}

static void ws_closed(void *arg, unsigned code, const struct error *why) {
    connect_free(arg);
}

static size_t node_data_ws(void *arg, struct bytes in) {
    struct connect *c = arg;
    for (size_t at = 0; at < in.len;) {
        size_t n = in.len - at < MESSAGE_OUT ? in.len - at : MESSAGE_OUT;
        if (ws_send(c->ws, bytes_of(in.ptr + at, n), true, NULL) < 0) {
            connect_free(c);
            return in.len;
        }
        at += n;
    }
    if (ws_queued(c->ws) > QUEUE_HIGH)
        stream_pause(c->node);
    return in.len;
}

static void node_drained_ws(void *arg) {
    struct connect *c = arg;
    ws_resume(c->ws);
}

static void node_closed_ws(void *arg, const struct error *why) {
    struct connect *c = arg;
    bool good = why->code == ERR_NONE;
    ws_close(TAKE(c->ws), good ? WS_CLOSE_NORMAL : WS_CLOSE_INTERNAL, good ? "" : "the connection to the node broke");
    connect_free(c);
}

static const struct ws_handlers WS = {.message = ws_message, .drained = ws_drained, .closed = ws_closed};
static const struct stream_handlers NODE_WS = {
    .data = node_data_ws, .drained = node_drained_ws, .closed = node_closed_ws};

/* ---- beginning ---- */

static bool is_hop_header(struct bytes name) {
    static const char *const passed[] = {"Content-Type", "Content-Length", "Transfer-Encoding"};
    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        if (strlen(passed[i]) == name.len && strncasecmp(name.ptr, passed[i], name.len) == 0)
            return false;
    return true;
}

/* The node's answer as the client is to see it. */
static void write_head(struct connect *c) {
    struct bytes name, value;
    _cleanup_(buf_free) struct buf head = BUF_INIT(64 << 10);
    bool upgrade = c->form == CONNECT_UPGRADE;
    buf_addf(&head, "HTTP/1.1 %d %s\r\n", http_dial_status(c->dial), http_status_text(http_dial_status(c->dial)));
    for (unsigned i = 0; (name = http_dial_header_at(c->dial, i, &value)).len > 0; i++)
        if (upgrade || !is_hop_header(name))
            buf_addf(&head, "%.*s: %.*s\r\n", (int)name.len, name.ptr, (int)value.len, value.ptr);
    if (!upgrade)
        buf_add_str(&head, "Cache-Control: no-cache, private\r\nConnection: close\r\n");
    buf_add_str(&head, "\r\n");
    stream_write(c->client, head.ptr, head.len);
}

void connect_pipe(struct connect *c) {
    static const char *const tunnel_protocols[] = {"SPDY/3.1+portforward.k8s.io", NULL};
    const struct stream_handlers *node_handlers = &NODE;
    http_on_close(c->http, NULL, NULL);
    if (c->form == CONNECT_TUNNEL) {
        const struct ws_options o = {
            .handlers = &WS, .arg = c, .max_message = MESSAGE_MAX, .ping_every_ms = WS_PING_MS};
        c->ws = ws_accept(TAKE(c->http), tunnel_protocols, &o);
        if (!c->ws) {
            connect_free(c);
            return;
        }
        node_handlers = &NODE_WS;
    } else {
        c->client = http_take_stream(TAKE(c->http));
        stream_set_tcp_timeouts(c->client, 0, KEEPALIVE_S);
        write_head(c);
        stream_set_handlers(c->client, &CLIENT, c);
    }
    c->node = http_dial_take(c->dial);
    stream_set_handlers(c->node, node_handlers, c);
}
