#include "edge/link.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/stream.h"

#define PAUSE_FIRST_MS 1000
#define PAUSE_UNREACHABLE_MS 3000 /* nobody answers */
#define PAUSE_REFUSED_MS 30000    /* somebody answers, and does not want us */
#define DIAL_MS 3000              /* for TCP's first answer, to an address */
#define DIAL_NAME_MS 10000        /* for a name to be resolved as well */
#define PROBE_MS 5000             /* for an answer after the network changed */
#define STEADY_MS 10000           /* a connection that held so long was a good one: pauses start anew */
#define ROOM_BYTES (1u << 20)
#define TCP_KEEPALIVE_S 15

struct link {
    struct loop *loop;
    struct link_options o;
    struct tls_ctx *tls;
    struct ws *ws;
    bool up, stopped, paused;
    bool asked; /* a confirmation is awaited */
    int64_t up_since;
    int dial_ms;
    struct timer *next;    /* the next attempt */
    struct timer *restart; /* not from within a handler */
    struct timer *watch;   /* while connecting: TCP has to answer; while up: an answer to a probe has to come */
    struct backoff backoff;
};

static void attempt(void *arg);
static void on_restart(void *arg);

/* ---- the end of a connection or an attempt ---- */

static bool nobody_answered(const struct error *why) {
    return why->code == ERR_TIMEOUT || why->code == ERR_UNAVAILABLE;
}

static void plan_next(struct link *k, const struct error *why) {
    int64_t max = nobody_answered(why) ? PAUSE_UNREACHABLE_MS : PAUSE_REFUSED_MS;
    k->backoff.max_ms = max;
    if (k->backoff.current_ms > max)
        k->backoff.current_ms = max;
    timer_set(k->next, backoff_next_ms(&k->backoff));
}

static void ended(struct link *k, const struct error *why) {
    bool was_up = k->up;
    if (was_up && clock_mono_ms() - k->up_since >= STEADY_MS)
        backoff_reset(&k->backoff);
    if (k->ws)
        ws_free(TAKE(k->ws));
    k->up = k->asked = false;
    timer_stop(k->watch);
    timer_stop(k->restart);
    if (k->stopped)
        return;
    plan_next(k, why);
    if (was_up)
        k->o.handlers->down(k->o.arg);
    k->o.handlers->failed(k->o.arg, why);
}

static void give_up(struct link *k, const char *what) {
    struct error err = ERROR_INIT;
    (void)error_set(&err, ERR_TIMEOUT, "%s", what);
    ended(k, &err);
}

static void on_watch(void *arg) {
    struct link *k = arg;
    if (k->up) {
        give_up(k, "no answer after the network changed");
        return;
    }
    if (!k->ws || !stream_dialing(ws_stream(k->ws)))
        return; /* TCP stands: the rest has the whole handshake timeout */
    k->dial_ms = k->dial_ms * 3 / 2 < DIAL_NAME_MS ? k->dial_ms * 3 / 2 : DIAL_NAME_MS;
    give_up(k, "the address does not answer");
}

/* ---- WebSocket callbacks ---- */

static void on_open(void *arg) {
    struct link *k = arg;
    k->up = true;
    k->dial_ms = DIAL_MS;
    timer_stop(k->watch);
    k->up_since = clock_mono_ms();
    if (k->paused)
        ws_pause(k->ws);
    stream_set_tcp_timeouts(ws_stream(k->ws), k->o.silence_ms, TCP_KEEPALIVE_S);
    stream_set_timeouts(ws_stream(k->ws), k->o.silence_ms, k->o.write_timeout_ms);
    k->o.handlers->up(k->o.arg);
}

static void on_message(void *arg, struct bytes payload, bool binary) {
    struct link *k = arg;
    timer_stop(k->watch);
    k->o.handlers->message(k->o.arg, payload);
}

static void on_pong(void *arg) {
    struct link *k = arg;
    timer_stop(k->watch);
    if (!k->asked)
        return;
    k->asked = false;
    k->o.handlers->confirmed(k->o.arg);
}

static void on_drained(void *arg) {
    struct link *k = arg;
    k->o.handlers->room(k->o.arg);
}

static void on_closed(void *arg, unsigned close_code, const struct error *why) {
    struct link *k = arg;
    struct error err = *why;
    if (err.code == ERR_NONE)
        (void)error_set(&err, ERR_UNAVAILABLE, "the cloud closed the connection (code %u)", close_code);
    ended(k, &err);
}

static const struct ws_handlers WS_HANDLERS = {
    .open = on_open, .message = on_message, .pong = on_pong, .drained = on_drained, .closed = on_closed};

static void attempt(void *arg) {
    struct link *k = arg;
    struct error err = ERROR_INIT;
    struct ws_options o = {.handlers = &WS_HANDLERS,
                           .arg = k,
                           .max_message = k->o.max_message,
                           .max_queued = k->o.max_queued ? k->o.max_queued : k->o.max_message + ROOM_BYTES,
                           .ping_every_ms = k->o.ping_every_ms,
                           .read_timeout_ms = k->o.silence_ms};
    if (k->ws || k->stopped)
        return;
    k->ws = ws_connect(k->loop, k->o.url, k->tls, k->o.headers, k->o.handshake_timeout_ms, &o, &err);
    if (!k->ws)
        ended(k, &err);
    else
        timer_set(k->watch, k->dial_ms);
}

/* ---- public ---- */

struct link *link_new(struct loop *l, const struct link_options *o) {
    struct link *k = NEW(struct link);
    k->loop = l;
    k->o = *o;
    k->dial_ms = DIAL_MS;
    k->backoff = BACKOFF(PAUSE_FIRST_MS, PAUSE_UNREACHABLE_MS);
    k->next = timer_new(l, attempt, k);
    k->watch = timer_new(l, on_watch, k);
    k->restart = timer_new(l, on_restart, k);
    return k;
}

void link_set_tls(struct link *k, struct tls_ctx *tls) {
    bool first = !k->tls;
    tls_ctx_free(k->tls);
    k->tls = tls;
    if (first || timer_pending(k->next))
        timer_set(k->next, 0);
}

void link_nudge(struct link *k) {
    if (k->stopped || !k->tls)
        return;
    if (k->up) {
        if (!timer_pending(k->watch))
            timer_set(k->watch, PROBE_MS);
        (void)link_ask_confirmation(k);
        return;
    }
    if (k->ws && stream_dialing(ws_stream(k->ws)))
        ws_free(TAKE(k->ws)); /* begun on the old network */
    backoff_reset(&k->backoff);
    if (!k->ws)
        timer_set(k->next, 0);
}

bool link_is_up(const struct link *k) {
    return k->up;
}

bool link_room(const struct link *k) {
    return k->up && ws_queued(k->ws) < (k->o.room ? k->o.room : ROOM_BYTES);
}

const char *link_protocol(const struct link *k) {
    return k->up ? ws_protocol(k->ws) : NULL;
}

int link_send(struct link *k, struct bytes text, struct error *err) {
    if (!k->up)
        return error_set(err, ERR_UNAVAILABLE, "not connected to the cloud");
    return ws_send(k->ws, text, false, err);
}

bool link_ask_confirmation(struct link *k) {
    if (!k->up || k->asked)
        return false;
    k->asked = true;
    ws_ping(k->ws, BYTES_EMPTY);
    return true;
}

void link_pause(struct link *k, bool paused) {
    k->paused = paused;
    if (k->ws && k->up)
        (paused ? ws_pause : ws_resume)(k->ws);
}

static void on_restart(void *arg) {
    struct link *k = arg;
    if (k->up)
        give_up(k, "broken off by this side");
}

void link_restart(struct link *k) {
    timer_set(k->restart, 0);
}

void link_stop(struct link *k) {
    k->stopped = true;
    timer_stop(k->next);
    timer_stop(k->watch);
    timer_stop(k->restart);
    if (k->ws)
        ws_close(TAKE(k->ws), WS_CLOSE_GOING_AWAY, "edgecore stops");
    k->up = false;
}

void link_free(struct link *k) {
    if (!k)
        return;
    if (k->ws)
        ws_free(k->ws);
    tls_ctx_free(k->tls);
    timer_free(k->next);
    timer_free(k->watch);
    timer_free(k->restart);
    free(k);
}
