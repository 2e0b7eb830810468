#include "net/websocket.h"

#include "base/mem.h"
#include "base/str.h"
#include "net/ws_internal.h"

enum {
    DEFAULT_MAX_QUEUED = 4 << 20,
    WRITE_STALL_MS = 30 * 1000, /* a peer that takes nothing for so long is given up */
    GOODBYE_MS = 5 * 1000,      /* for the close frame and what is queued before it */
    MAX_REASON = 123,
    ABNORMAL = 1006,
};

struct ws *ws_new(bool is_server, const struct ws_options *o) {
    if (o->max_message == 0)
        panic("a WebSocket without a limit for its messages");
    struct ws *w = NEW(struct ws);
    w->handlers = o->handlers;
    w->arg = o->arg;
    w->fragment = o->fragment;
    w->max_queued = o->max_queued ? o->max_queued : DEFAULT_MAX_QUEUED;
    w->read_ms = o->read_timeout_ms;
    ws_reader_init(&w->reader, is_server, o->max_message);
    return w;
}

static void on_ping_timer(void *arg) {
    ws_ping(arg, BYTES_EMPTY);
}

void ws_begin(struct ws *w, int ping_every_ms) {
    stream_set_timeouts(w->stream, w->read_ms, WRITE_STALL_MS);
    if (ping_every_ms > 0) {
        w->ping = timer_new(stream_loop(w->stream), on_ping_timer, w);
        timer_every(w->ping, ping_every_ms);
    }
}

/* ---- ending ---- */

static void destroy(struct ws *w) {
    ws_reader_free(&w->reader);
    free(w->protocol);
    free(w);
}

static void enter(struct ws *w) {
    w->depth++;
}

static void leave(struct ws *w) {
    if (--w->depth == 0 && w->freed)
        destroy(w);
}

void ws_free(struct ws *w) {
    if (!w)
        return;
    if (w->goodbye)
        stream_finish(TAKE(w->stream), GOODBYE_MS);
    else
        stream_free(TAKE(w->stream));
    timer_free(TAKE(w->ping));
    ws_opening_free(TAKE(w->opening));
    w->freed = true;
    if (w->depth == 0)
        destroy(w);
}

void ws_over(struct ws *w, unsigned close_code, const struct error *why) {
    if (w->over)
        return;
    w->over = true;
    timer_free(TAKE(w->ping));
    w->handlers->closed(w->arg, close_code, why);
}

/* ---- sending ---- */

static void put(void *arg, const void *p, size_t n) {
    struct ws *w = arg;
    stream_write(w->stream, p, n);
}

static void send_frame(struct ws *w, bool fin, uint8_t opcode, struct bytes payload) {
    ws_write_frame(fin, opcode, !w->reader.is_server, payload, put, w);
}

static void send_close(struct ws *w, unsigned code, struct bytes reason) {
    char payload[2 + MAX_REASON];
    size_t n = reason.len < MAX_REASON ? reason.len : MAX_REASON;
    if (w->goodbye || w->over || w->opening)
        return;
    w->goodbye = true;
    payload[0] = (char)(code >> 8);
    payload[1] = (char)code;
    if (n > 0)
        memcpy(payload + 2, reason.ptr, n);
    send_frame(w, true, WSLAY_CONNECTION_CLOSE, code ? bytes_of(payload, 2 + n) : BYTES_EMPTY);
}

int ws_send(struct ws *w, struct bytes payload, bool binary, struct error *err) {
    if (w->over || w->goodbye || w->opening)
        return error_set(err, ERR_UNAVAILABLE, "the WebSocket connection is not open");
    size_t queued = stream_queued(w->stream);
    if (queued > w->max_queued || payload.len > w->max_queued - queued)
        return error_set(err, ERR_UNAVAILABLE, "%zu bytes wait already for %s", queued, stream_peer_addr(w->stream));
    uint8_t opcode = binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME;
    while (w->fragment > 0 && payload.len > w->fragment) {
        send_frame(w, false, opcode, bytes_of(payload.ptr, w->fragment));
        payload = bytes_of(payload.ptr + w->fragment, payload.len - w->fragment);
        opcode = WSLAY_CONTINUATION_FRAME;
    }
    send_frame(w, true, opcode, payload);
    return 0;
}

void ws_ping(struct ws *w, struct bytes payload) {
    if (!w->over && !w->goodbye && !w->opening)
        send_frame(w, true, WSLAY_PING, bytes_of(payload.ptr, payload.len < 125 ? payload.len : 125));
}

void ws_close(struct ws *w, unsigned code, const char *reason) {
    if (!w)
        return;
    send_close(w, code, bytes_str(reason));
    ws_free(w);
}

/* ---- receiving ---- */

static void answer_ping(struct ws *w) {
    /* A peer that pings without reading the pongs gets no more of them. */
    if (stream_queued(w->stream) < w->max_queued && !w->goodbye)
        send_frame(w, true, WSLAY_PONG, w->reader.payload);
}

static void peer_closes(struct ws *w) {
    unsigned code = w->reader.close_code;
    struct error none = ERROR_INIT;
    error_set(&none, ERR_NONE, "the peer closed the WebSocket (%u%s%.*s)", code, w->reader.payload.len ? ": " : "",
              (int)w->reader.payload.len, w->reader.payload.len ? w->reader.payload.ptr : "");
    send_close(w, code == 1005 ? 0 : code, BYTES_EMPTY);
    ws_over(w, code, &none);
}

static void refuse(struct ws *w) {
    struct error err = ERROR_INIT;
    unsigned code = w->reader.close_code;
    error_set(&err, code == WS_CLOSE_TOO_BIG ? ERR_TOO_LARGE : ERR_INVALID, "WebSocket: %s", w->reader.reason);
    send_close(w, code, bytes_str(w->reader.reason));
    ws_over(w, ABNORMAL, &err);
}

static void handle(struct ws *w, enum ws_event ev) {
    switch (ev) {
    case WS_EV_MESSAGE:
        w->handlers->message(w->arg, w->reader.payload, w->reader.payload_binary);
        break;
    case WS_EV_PING:
        answer_ping(w);
        break;
    case WS_EV_PONG:
        if (w->handlers->pong)
            w->handlers->pong(w->arg);
        break;
    case WS_EV_CLOSE:
        peer_closes(w);
        break;
    case WS_EV_BAD:
        refuse(w);
        break;
    case WS_EV_MORE:
        break;
    }
}

static size_t on_data(void *arg, struct bytes in) {
    struct ws *w = arg;
    struct bytes rest = in;
    enter(w);
    if (w->opening && !w->over && ws_opening_data(w, &rest)) {
        int ping_ms = ws_opening_ping_ms(w->opening);
        ws_opening_free(TAKE(w->opening));
        ws_begin(w, ping_ms);
        w->handlers->open(w->arg);
    }
    enum ws_event ev = WS_EV_MORE;
    do {
        if (w->freed || w->over || w->paused || w->opening)
            break;
        ev = ws_read(&w->reader, &rest);
        handle(w, ev);
    } while (ev != WS_EV_MORE);
    size_t used = w->over ? in.len : in.len - rest.len;
    leave(w);
    return used;
}

static void on_ready(void *arg) {
    ws_opening_send(arg);
}

static void on_drained(void *arg) {
    struct ws *w = arg;
    if (w->over || w->opening || !w->handlers->drained)
        return;
    enter(w);
    w->handlers->drained(w->arg);
    leave(w);
}

static void on_closed(void *arg, const struct error *why) {
    struct ws *w = arg;
    struct error err = *why;
    if (w->opening && err.code == ERR_NONE)
        error_set(&err, ERR_UNAVAILABLE, "the server closed the connection during the WebSocket handshake");
    enter(w);
    ws_over(w, ABNORMAL, &err);
    leave(w);
}

const struct stream_handlers ws_stream_handlers = {
    .ready = on_ready,
    .data = on_data,
    .drained = on_drained,
    .closed = on_closed,
};

void ws_pause(struct ws *w) {
    w->paused = true;
    stream_pause(w->stream);
}

void ws_resume(struct ws *w) {
    w->paused = false;
    stream_resume(w->stream);
}

size_t ws_queued(const struct ws *w) {
    return stream_queued(w->stream);
}

struct stream *ws_stream(const struct ws *w) {
    return w->stream;
}

const char *ws_protocol(const struct ws *w) {
    return w->protocol;
}
