#define LOG_COMPONENT "edgestream"
#include "edge/edgestream/edgestream.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/link.h"

#include <inttypes.h>
#include <uthash.h>

#define PING_MS 5000
#define SILENCE_MS 20000 /* pongs come every 5 s */
#define WRITE_MS 20000
#define ROOM (256u << 10)
#define MAX_STREAMS 512
#define QUEUE_MAX (48u << 20)     /* if every stream had a piece under way when the link filled up */
#define IDLE_MS (4 * 3600 * 1000) /* as the kubelet has it */
#define FRAME_MAX (TUNNEL_DATA_MAX + TUNNEL_HEAD_MAX)
#define CREDIT_MIN (TUNNEL_WINDOW_SIZE / 4)

struct tunnel_stream {
    struct edgestream *owner;
    uint64_t id;
    struct kubelet_call *call; /* NULL while it is being opened */
    int64_t window;            /* bytes that the cloud has room for; may go below 0 by one piece */
    uint64_t credit;           /* bytes consumed that the cloud has not been told of */
    uint64_t unread;           /* bytes of input that the call has not passed on */
    bool blocked;              /* the call was told to wait */
    struct timer *idle;
    UT_hash_handle hh;
};

struct edgestream {
    struct loop *loop;
    const struct edge_config *config;
    struct kubelet kubelet;
    struct link *link;
    char *url, *node_header, *address_header;
    const char *headers[4];
    struct tunnel_stream *streams; /* by id */
    bool windows;                  /* the cloud knows flow control */
    struct log_once connecting;
};

/* ---- sending ---- */

static void send_frame(struct edgestream *e, const struct buf *frame) {
    struct error err = ERROR_INIT;
    if (link_send(e->link, buf_bytes(frame), &err) < 0 && link_is_up(e->link)) {
        log_warn("the tunnel is broken off: %s", error_text(&err));
        link_restart(e->link);
    }
}

static void send(struct edgestream *e, uint64_t id, enum tunnel_type type, struct bytes data) {
    _cleanup_(buf_free) struct buf frame = BUF_INIT(FRAME_MAX);
    if (tunnel_frame_write(&frame, id, type, data) == 0)
        send_frame(e, &frame);
}

static bool may_send(const struct tunnel_stream *s) {
    return link_room(s->owner->link) && (!s->owner->windows || s->window > 0);
}

static int on_data(void *arg, struct bytes piece) {
    struct tunnel_stream *s = arg;
    timer_set(s->idle, IDLE_MS);
    s->window -= (int64_t)piece.len;
    while (piece.len > 0) {
        size_t n = piece.len < TUNNEL_CHUNK ? piece.len : TUNNEL_CHUNK;
        send(s->owner, s->id, TUNNEL_DATA, bytes_of(piece.ptr, n));
        piece = bytes_of(piece.ptr + n, piece.len - n);
    }
    s->blocked = !may_send(s);
    return s->blocked;
}

static void on_consumed(void *arg, size_t n) {
    struct tunnel_stream *s = arg;
    s->credit += n;
    s->unread -= n < s->unread ? n : s->unread;
    if (!s->owner->windows || s->credit < CREDIT_MIN)
        return;
    _cleanup_(buf_free) struct buf frame = BUF_INIT(64);
    if (tunnel_window_write(&frame, s->id, s->credit) == 0)
        send_frame(s->owner, &frame);
    s->credit = 0;
}

/* ---- streams ---- */

static void stream_forget(struct tunnel_stream *s) {
    HASH_DEL(s->owner->streams, s);
    timer_free(s->idle);
    free(s);
}

static void on_ended(void *arg) {
    struct tunnel_stream *s = arg;
    send(s->owner, s->id, TUNNEL_REMOVE, BYTES_EMPTY);
    stream_forget(s);
}

static const struct kubelet_caller CALLER = {.data = on_data, .consumed = on_consumed, .ended = on_ended};

static void stream_cancel(struct tunnel_stream *s) {
    kubelet_call_cancel(s->call);
    stream_forget(s);
}

static void on_idle(void *arg) {
    struct tunnel_stream *s = arg;
    log_info("a stream is ended: nothing was said for four hours id=%" PRIu64, s->id);
    send(s->owner, s->id, TUNNEL_REMOVE, BYTES_EMPTY);
    stream_cancel(s);
}

static void stream_begin(struct edgestream *e, const struct tunnel_frame *f, bool head) {
    struct tunnel_request r;
    struct error err = ERROR_INIT;
    struct tunnel_stream *s = NULL;
    HASH_FIND(hh, e->streams, &f->id, sizeof(f->id), s);
    if (s) {
        log_warn("the cloud opens a stream that is open already id=%" PRIu64, f->id);
        return;
    }
    if (HASH_COUNT(e->streams) >= MAX_STREAMS || tunnel_request_read(f->data, &r, &err) < 0) {
        log_warn("a stream is refused: %s id=%" PRIu64, err.code ? error_text(&err) : "too many are open", f->id);
        send(e, f->id, TUNNEL_REMOVE, BYTES_EMPTY);
        return;
    }
    log_debug("stream id=%" PRIu64 " %s %s?%s", f->id, r.method, r.path, r.query);
    s = NEW(struct tunnel_stream);
    *s = (struct tunnel_stream){.owner = e, .id = f->id, .window = TUNNEL_WINDOW_SIZE};
    s->idle = timer_new(e->loop, on_idle, s);
    timer_set(s->idle, IDLE_MS);
    HASH_ADD(hh, e->streams, id, sizeof(s->id), s);
    s->call = e->kubelet.open(e->kubelet.arg, &r, head, &CALLER, s);
    tunnel_request_free(&r);
    if (!s->call)
        on_ended(s);
}

static void stream_input(struct tunnel_stream *s, struct bytes piece) {
    timer_set(s->idle, IDLE_MS);
    s->unread += piece.len;
    if (s->unread > TUNNEL_WINDOW_SIZE + TUNNEL_DATA_MAX * (s->owner->windows ? 0 : 4)) {
        log_warn("a stream is ended: its input comes faster than it is taken id=%" PRIu64, s->id);
        send(s->owner, s->id, TUNNEL_REMOVE, BYTES_EMPTY);
        stream_cancel(s);
        return;
    }
    kubelet_call_input(s->call, piece);
}

static void stream_window(struct tunnel_stream *s, struct bytes data) {
    uint64_t n;
    if (tunnel_window_read(data, &n, NULL) < 0 || s->window > (int64_t)TUNNEL_DATA_MAX)
        return;
    s->window += (int64_t)n;
    if (!s->blocked || !may_send(s))
        return;
    s->blocked = false;
    kubelet_call_room(s->call);
}

/* ---- the link ---- */

static void on_message(void *arg, struct bytes message) {
    struct edgestream *e = arg;
    struct tunnel_frame f;
    struct error err = ERROR_INIT;
    if (tunnel_frame_read(message, &f, &err) < 0) {
        log_warn("the tunnel is broken off: %s", error_text(&err));
        link_restart(e->link);
        return;
    }
    struct tunnel_stream *s = NULL;
    HASH_FIND(hh, e->streams, &f.id, sizeof(f.id), s);
    switch (f.type) {
    case TUNNEL_LOGS:
    case TUNNEL_METRICS:
        stream_begin(e, &f, false);
        break;
    case TUNNEL_EXEC:
    case TUNNEL_ATTACH:
        stream_begin(e, &f, true);
        break;
    case TUNNEL_DATA:
        if (s)
            stream_input(s, f.data);
        break;
    case TUNNEL_WINDOW:
        if (s && e->windows)
            stream_window(s, f.data);
        break;
    case TUNNEL_REMOVE: /* KubeEdge's cloud waits for ours, and repeats its own until then */
        if (s)
            stream_cancel(s);
        send(e, f.id, TUNNEL_REMOVE, BYTES_EMPTY);
        break;
    case TUNNEL_CLOSE:
        log_warn("the cloud ends the tunnel: %.*s", (int)(f.data.len < 200 ? f.data.len : 200), f.data.ptr);
        link_restart(e->link);
        break;
    default:
        log_debug("a frame of an unknown type type=%" PRIu64, f.type);
        break;
    }
}

static void on_up(void *arg) {
    struct edgestream *e = arg;
    e->windows = str_eq(link_protocol(e->link), TUNNEL_PROTOCOL);
    log_once_recovered(&e->connecting, LOG_COMPONENT, "the tunnel stands again server=%s", e->config->stream.server);
    log_info("connected server=%s flow_control=%s", e->config->stream.server, e->windows ? "yes" : "no");
}

static void on_down(void *arg) {
    struct edgestream *e = arg;
    struct tunnel_stream *s, *tmp;
    HASH_ITER (hh, e->streams, s, tmp)
        stream_cancel(s);
}

static void on_failed(void *arg, const struct error *why) {
    struct edgestream *e = arg;
    log_once_failed(&e->connecting, LOG_COMPONENT,
                    "no tunnel, so no logs and exec from the cloud server=%s: %s; trying again",
                    e->config->stream.server, error_text(why));
}

static void on_room(void *arg) {
    struct edgestream *e = arg;
    struct tunnel_stream *s, *tmp;
    HASH_ITER (hh, e->streams, s, tmp) {
        if (!s->blocked || !may_send(s))
            continue;
        s->blocked = false;
        kubelet_call_room(s->call);
        if (!link_room(e->link))
            break;
    }
}

static void on_confirmed(void *arg) {
}

static const struct link_handlers HANDLERS = {.up = on_up,
                                              .message = on_message,
                                              .confirmed = on_confirmed,
                                              .room = on_room,
                                              .down = on_down,
                                              .failed = on_failed};

/* ---- public ---- */

struct edgestream *edgestream_new(struct loop *l, const struct edge_config *c, const struct kubelet *k) {
    struct edgestream *e = NEW(struct edgestream);
    *e = (struct edgestream){.loop = l, .config = c, .kubelet = *k};
    size_t n = 0;
    e->url = xasprintf("wss://%s" TUNNEL_PATH, c->stream.server);
    e->node_header = xasprintf(TUNNEL_NODE_HEADER ": %s", c->edged.node_name);
    e->headers[n++] = e->node_header;
    e->headers[n++] = "Sec-WebSocket-Protocol: " TUNNEL_PROTOCOL;
    if (!str_empty(c->edged.node_ip)) { /* else the cloud takes the address that it sees */
        e->address_header = xasprintf(TUNNEL_ADDRESS_HEADER ": %s", c->edged.node_ip);
        e->headers[n++] = e->address_header;
    }
    struct link_options o = {.url = e->url,
                             .headers = e->headers,
                             .handlers = &HANDLERS,
                             .arg = e,
                             .handshake_timeout_ms = (int)c->stream.handshake_timeout_s * 1000,
                             .silence_ms = SILENCE_MS,
                             .write_timeout_ms = WRITE_MS,
                             .max_message = FRAME_MAX,
                             .max_queued = QUEUE_MAX,
                             .room = ROOM,
                             .ping_every_ms = PING_MS};
    e->link = link_new(l, &o);
    return e;
}

void edgestream_set_tls(void *arg, struct tls_ctx *tls) {
    struct edgestream *e = arg;
    link_set_tls(e->link, tls_ctx_ref(tls));
}

void edgestream_stop(struct edgestream *e) {
    on_down(e);
    link_stop(e->link);
}

void edgestream_free(struct edgestream *e) {
    if (!e)
        return;
    on_down(e);
    link_free(e->link);
    free(e->url);
    free(e->node_header);
    free(e->address_header);
    free(e);
}
