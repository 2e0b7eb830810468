#define LOG_COMPONENT "cloudstream"
#include "base/log.h"
#include "base/mem.h"
#include "cloud/cloudstream/internal.h"

#include <inttypes.h>

#define QUEUE_MAX (256u << 10) /* bytes that wait for a node before clients have to wait */
#define CREDIT_MIN (TUNNEL_WINDOW_SIZE / 4)
#define HOLD_MS 5000
#define LAST_BYTES_MS (10 * 60 * 1000) /* a slow client gets the end of what it asked for, too */
#define KEEPALIVE_S 15

/* ---- life ---- */

static void release_hold(struct relay *r) {
    if (!timer_pending(r->hold))
        return;
    timer_stop(r->hold);
    if (--r->tunnel->holders == 0)
        ws_resume(r->tunnel->ws);
}

static void relay_free(struct relay *r) {
    release_hold(r);
    HASH_DEL(r->tunnel->relays, r);
    timer_free(r->hold);
    free(r);
}

void relay_break(struct relay *r) {
    stream_free(r->client);
    relay_free(r);
}

static void send(struct relay *r, enum tunnel_type type, struct bytes data) {
    _cleanup_(buf_free) struct buf frame = BUF_INIT(TUNNEL_DATA_MAX + TUNNEL_HEAD_MAX);
    if (tunnel_frame_write(&frame, r->id, type, data) == 0)
        tunnel_send(r->tunnel, &frame);
}

/* ---- from the client ---- */

static bool may_send(const struct relay *r) {
    return ws_queued(r->tunnel->ws) < QUEUE_MAX && (!r->tunnel->windows || r->window > 0);
}

static size_t on_data(void *arg, struct bytes in) {
    struct relay *r = arg;
    size_t used = 0;
    while (used < in.len && may_send(r)) {
        size_t n = in.len - used < TUNNEL_CHUNK ? in.len - used : TUNNEL_CHUNK;
        send(r, TUNNEL_DATA, bytes_of(in.ptr + used, n));
        r->window -= (int64_t)n;
        used += n;
    }
    if (used < in.len && !r->paused) {
        r->paused = true;
        stream_pause(r->client);
    }
    return used;
}

static void unpause(struct relay *r) {
    if (!r->paused || !may_send(r))
        return;
    r->paused = false;
    stream_resume(r->client);
}

void relay_room(struct tunnel *t) {
    struct relay *r, *tmp;
    HASH_ITER (hh, t->relays, r, tmp)
        unpause(r);
}

static void on_closed(void *arg, const struct error *why) {
    struct relay *r = arg;
    log_debug("the client is gone id=%" PRIu64 ": %s", r->id, error_text(why));
    send(r, TUNNEL_REMOVE, BYTES_EMPTY);
    relay_break(r);
}

/* ---- to the client ---- */

static void give_credit(struct relay *r) {
    if (!r->tunnel->windows || r->full || r->owed < CREDIT_MIN)
        return;
    _cleanup_(buf_free) struct buf frame = BUF_INIT(64);
    if (tunnel_window_write(&frame, r->id, r->owed) == 0)
        tunnel_send(r->tunnel, &frame);
    r->owed = 0;
}

static void on_drained(void *arg) {
    struct relay *r = arg;
    r->full = false;
    release_hold(r);
    give_credit(r);
}

static void on_held_too_long(void *arg) {
    struct relay *r = arg;
    log_warn("a stream is ended: its client is slow, and the node cannot hold back one stream alone node=%s",
             r->tunnel->node);
    if (--r->tunnel->holders == 0)
        ws_resume(r->tunnel->ws);
    send(r, TUNNEL_REMOVE, BYTES_EMPTY);
    relay_break(r);
}

static void to_client(struct relay *r, struct bytes data) {
    if (r->full && r->tunnel->windows && r->owed > TUNNEL_WINDOW_SIZE + TUNNEL_DATA_MAX) {
        log_warn("a stream is ended: the node sends more than was allowed node=%s", r->tunnel->node);
        send(r, TUNNEL_REMOVE, BYTES_EMPTY);
        relay_break(r);
        return;
    }
    r->owed += data.len;
    r->full = stream_write(r->client, data.ptr, data.len) != 0;
    give_credit(r);
    if (r->full && !r->tunnel->windows && !timer_pending(r->hold)) {
        timer_set(r->hold, HOLD_MS);
        if (r->tunnel->holders++ == 0)
            ws_pause(r->tunnel->ws);
    }
}

void relay_frame(struct tunnel *t, const struct tunnel_frame *f) {
    struct relay *r = NULL;
    uint64_t n;
    HASH_FIND(hh, t->relays, &f->id, sizeof(f->id), r);
    if (!r)
        return;
    if (f->type == TUNNEL_DATA) {
        to_client(r, f->data);
    } else if (f->type == TUNNEL_REMOVE) {
        stream_finish(r->client, LAST_BYTES_MS);
        relay_free(r);
    } else if (f->type == TUNNEL_WINDOW && t->windows && tunnel_window_read(f->data, &n, NULL) == 0 &&
               r->window <= (int64_t)TUNNEL_DATA_MAX) {
        r->window += (int64_t)n;
        unpause(r);
    }
}

/* ---- beginning ---- */

static const struct stream_handlers HANDLERS = {.data = on_data, .drained = on_drained, .closed = on_closed};

/* All go as TUNNEL_EXEC, which is nothing but an HTTP request and the bytes of its connection: so the status reaches
 * the API server, and one kind of stream serves them all. */
static int write_request(struct buf *out, uint64_t id, const struct http_request *q) {
    _cleanup_(tunnel_request_free) struct tunnel_request r = {0};
    _cleanup_(buf_free) struct buf json = BUF_INIT(TUNNEL_DATA_MAX);
    bool upgrade = http_is_upgrade(q);
    r.method = xstrdup(http_method_name(q));
    r.path = bytes_dup(http_path(q));
    r.query = bytes_dup(http_query(q));
    struct bytes name, value;
    for (unsigned i = 0; (name = http_header_at(q, i, &value)).len > 0; i++)
        if (upgrade || !bytes_eq_str(name, "Connection"))
            if (!bytes_eq_str(name, "Host"))
                tunnel_request_add(&r, name, value);
    if (!upgrade) /* the connection carries one request */
        tunnel_request_add(&r, BYTES_LIT("Connection"), BYTES_LIT("close"));
    if (tunnel_request_write(&json, id, &r, true) < 0)
        return -1;
    return tunnel_frame_write(out, id, TUNNEL_EXEC, buf_bytes(&json));
}

void relay_begin(struct tunnel *t, struct http_request *q) {
    _cleanup_(buf_free) struct buf frame = BUF_INIT(TUNNEL_DATA_MAX);
    uint64_t id = ++t->owner->last_id;
    if (write_request(&frame, id, q) < 0) {
        http_respondf(q, 431, "the request is too large\n");
        return;
    }
    struct relay *r = NEW(struct relay);
    *r = (struct relay){.id = id, .tunnel = t, .window = TUNNEL_WINDOW_SIZE};
    r->hold = timer_new(t->owner->loop, on_held_too_long, r);
    HASH_ADD(hh, t->relays, id, sizeof(r->id), r);
    tunnel_send(t, &frame);
    r->client = http_take_stream(q);
    stream_set_tcp_timeouts(r->client, 0, KEEPALIVE_S);
    stream_set_handlers(r->client, &HANDLERS, r);
}
