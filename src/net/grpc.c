#include "net/grpc.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/grpc_wire.h"
#include "net/stream.h"

#include <utlist.h>

#define DEFAULT_TIMEOUT_MS 10000
#define DEFAULT_MAX_MESSAGE (16 * 1024 * 1024)
#define HANDSHAKE_TIMEOUT_MS 5000
#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 5000
#define MAX_REFUSALS 3 /* a request is sent again so often after the server said it had not looked at it */

/* A connection. A channel has one that takes new calls, and for a while older ones whose server said GOAWAY. */
struct link {
    struct grpc_channel *channel;
    struct stream *stream;
    struct grpc_wire *wire;
    bool ready;    /* connected below HTTP/2 */
    bool draining; /* takes no new calls */
    bool dead;     /* freed when no handler is on the stack any more */
    struct link *prev, *next;
};

struct grpc_call {
    struct grpc_channel *channel;
    struct link *link; /* NULL: waits for a connection */
    struct grpc_exchange exchange;
    char *method;
    char *request;
    const ProtobufCMessageDescriptor *response_type;
    void (*done)(void *arg, int status, const ProtobufCMessage *reply, const struct error *err);
    void (*message)(void *arg, const ProtobufCMessage *message);
    void *arg;
    int64_t deadline; /* monotonic ms; 0: none */
    struct timer *timer;
    ProtobufCMessage *reply; /* unary: held until the status has come */
    unsigned refusals;
    struct grpc_call *prev, *next;
};

struct grpc_channel {
    struct loop *loop;
    char *target; /* as given: for messages */
    char *unix_path;
    char *host;
    uint16_t port;
    struct link *links;
    struct link *current;  /* the one that takes new calls, or is being connected; NULL */
    bool connected;        /* current is usable */
    int told;              /* by on_state: 1, 0; -1: nothing yet */
    struct timer *connect; /* backoff before the next attempt, or the handshake's deadline */
    struct timer *flush;   /* something was queued for sending */
    struct backoff backoff;
    struct error last_error; /* why there is no connection */
    struct grpc_call *calls;
    void (*on_state)(void *arg, bool connected, const struct error *why);
    void *on_state_arg;
    unsigned busy; /* handlers on the stack: nothing that they use may be freed */
    bool freed;    /* grpc_channel_free was called meanwhile */
};

static void enter(struct grpc_channel *c);
static void leave(struct grpc_channel *c);
static void channel_connect(struct grpc_channel *c);

/* ---- calls --------------------------------------------------------------------------------------------------------
 */

static enum error_code code_of_status(int status) {
    static const enum error_code codes[] = {
        [GRPC_CANCELLED] = ERR_CANCELLED,
        [GRPC_UNKNOWN] = ERR_INTERNAL,
        [GRPC_INVALID_ARGUMENT] = ERR_INVALID,
        [GRPC_DEADLINE_EXCEEDED] = ERR_TIMEOUT,
        [GRPC_NOT_FOUND] = ERR_NOT_FOUND,
        [GRPC_ALREADY_EXISTS] = ERR_EXISTS,
        [GRPC_PERMISSION_DENIED] = ERR_DENIED,
        [GRPC_RESOURCE_EXHAUSTED] = ERR_TOO_LARGE,
        [GRPC_FAILED_PRECONDITION] = ERR_CONFLICT,
        [GRPC_ABORTED] = ERR_CONFLICT,
        [GRPC_OUT_OF_RANGE] = ERR_INVALID,
        [GRPC_UNIMPLEMENTED] = ERR_UNSUPPORTED,
        [GRPC_INTERNAL] = ERR_INTERNAL,
        [GRPC_UNAVAILABLE] = ERR_UNAVAILABLE,
        [GRPC_DATA_LOSS] = ERR_INTERNAL,
        [GRPC_UNAUTHENTICATED] = ERR_DENIED,
    };
    return status > 0 && (size_t)status < ARRAY_LEN(codes) ? codes[status] : ERR_INTERNAL;
}

static void call_free(struct grpc_call *call) {
    DL_DELETE(call->channel->calls, call);
    timer_free(call->timer);
    if (call->reply)
        protobuf_c_message_free_unpacked(call->reply, NULL);
    grpc_exchange_clear(&call->exchange);
    free(call->method);
    free(call->request);
    free(call);
}

/* Ends the call and tells its owner. The caller has entered the channel. */
static void call_finish(struct grpc_call *call, int status, const struct error *why) {
    const ProtobufCMessage *reply = call->message || status != GRPC_OK ? NULL : call->reply;
    timer_stop(call->timer);
    /* Out of every list first: the owner may free the channel. */
    struct grpc_channel *c = call->channel;
    DL_DELETE(c->calls, call);
    call->done(call->arg, status, reply, status == GRPC_OK ? NULL : why);
    DL_APPEND(c->calls, call);
    call_free(call);
}

static void PRINTF_LIKE(3, 4) call_fail(struct grpc_call *call, int status, const char *fmt, ...) {
    struct error why = ERROR_INIT;
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *text = xvasprintf(fmt, ap);
    va_end(ap);
    error_set(&why, code_of_status(status), "%s", text);
    call_finish(call, status, &why);
}

static void call_timeout(void *arg) {
    struct grpc_call *call = arg;
    struct grpc_channel *c = call->channel;
    enter(c);
    if (call->link) {
        grpc_wire_cancel(call->link->wire, &call->exchange);
        timer_set(c->flush, 0);
        call_fail(call, GRPC_DEADLINE_EXCEEDED, "%s: no answer in time from %s", call->method, c->target);
    } else {
        call_fail(call, GRPC_UNAVAILABLE, "not connected to %s: %s", c->target,
                  c->last_error.code ? c->last_error.msg : "no connection in time");
    }
    leave(c);
}

static void wire_message(void *arg, struct grpc_exchange *x, struct bytes message) {
    struct grpc_call *call = CONTAINER_OF(x, struct grpc_call, exchange);
    struct link *l = call->link;
    if (call->reply) {
        grpc_wire_cancel(l->wire, x);
        call_fail(call, GRPC_INTERNAL, "%s: more than one answer", call->method);
        return;
    }
    ProtobufCMessage *m = grpc_unpack(call->response_type, message);
    if (!m) {
        grpc_wire_cancel(l->wire, x);
        call_fail(call, GRPC_INTERNAL, "%s: the answer is not a %s", call->method, call->response_type->name);
    } else if (call->message) {
        call->message(call->arg, m);
        protobuf_c_message_free_unpacked(m, NULL);
    } else {
        call->reply = m;
    }
}

static void wire_ended(void *arg, struct grpc_exchange *x, int status, const char *text, bool untouched) {
    struct grpc_call *call = CONTAINER_OF(x, struct grpc_call, exchange);
    call->link = NULL;
    grpc_exchange_clear(x);
    if (untouched && call->refusals++ < MAX_REFUSALS)
        return; /* waits again: leave() starts it on a connection that takes it */
    if (status == GRPC_OK && !call->message && !call->reply)
        call_fail(call, GRPC_INTERNAL, "%s: status OK without an answer", call->method);
    else if (status == GRPC_OK)
        call_finish(call, GRPC_OK, NULL);
    else if (str_empty(text))
        call_fail(call, status, "%s: gRPC status %d", call->method, status);
    else
        call_fail(call, status, "%s", text);
}

static void call_start(struct grpc_call *call) {
    struct link *l = call->channel->current;
    int64_t left = call->deadline ? call->deadline - clock_mono_ms() : -1;
    if (call->deadline && left <= 0)
        return; /* its timer is about to say so */
    call->exchange.timeout_ms = left;
    if (grpc_wire_start(l->wire, &call->exchange) < 0) {
        l->draining = true;
        call->channel->current = NULL;
        call->channel->connected = false;
        return;
    }
    call->link = l;
}

/* ---- connections --------------------------------------------------------------------------------------------------
 */

static void set_connected(struct grpc_channel *c, bool connected, const struct error *why) {
    c->connected = connected;
    if (c->told == connected)
        return;
    c->told = connected;
    if (c->on_state)
        c->on_state(c->on_state_arg, connected, why);
}

static void connect_later(struct grpc_channel *c) {
    timer_set(c->connect, backoff_next_ms(&c->backoff));
}

static void link_drop(struct link *l) {
    stream_free(l->stream);
    l->stream = NULL;
    l->dead = true;
    if (l->channel->current == l)
        l->channel->current = NULL;
}

/* The connection failed: its calls with it. The caller has entered the channel. */
static void link_fail(struct link *l, const struct error *why) {
    struct grpc_channel *c = l->channel;
    if (l->dead || c->freed)
        return;
    bool was_current = c->current == l;
    link_drop(l);
    if (was_current) {
        c->last_error = *why;
        c->connected = false;
        connect_later(c);
    }
    struct grpc_call *call;
    bool found;
    do { /* from the front again after each: its owner may have cancelled others */
        found = false;
        DL_FOREACH (c->calls, call) {
            if (call->link == l) {
                call->link = NULL;
                call_fail(call, GRPC_UNAVAILABLE, "connection to %s lost: %s", c->target, error_text(why));
                found = true;
                break;
            }
        }
    } while (found && !c->freed);
    if (was_current && !c->freed)
        set_connected(c, false, why);
}

static bool link_has_calls(const struct link *l) {
    const struct grpc_call *call;
    DL_FOREACH (l->channel->calls, call)
        if (call->link == l)
            return true;
    return false;
}

static void link_flush(struct link *l) {
    struct error err = ERROR_INIT;
    struct bytes out;
    while (l->ready && !l->dead && !l->channel->freed) {
        if (grpc_wire_output(l->wire, &out, &err) < 0) {
            link_fail(l, &err);
            return;
        }
        if (l->dead || l->channel->freed)
            return;
        if (out.len == 0)
            break;
        if (stream_write(l->stream, out.ptr, out.len) > 0)
            return; /* goes on when drained */
    }
    if (l->ready && !l->dead && !l->channel->freed && grpc_wire_finished(l->wire)) {
        error_set(&err, ERR_UNAVAILABLE, "%s ended the HTTP/2 connection", l->channel->target);
        link_fail(l, &err);
    }
}

static void link_ready(void *arg) {
    struct link *l = arg;
    struct grpc_channel *c = l->channel;
    enter(c);
    l->ready = true;
    link_flush(l);
    leave(c);
}

static size_t link_data(void *arg, struct bytes in) {
    struct link *l = arg;
    struct grpc_channel *c = l->channel;
    struct error err = ERROR_INIT;
    enter(c);
    if (!l->dead && grpc_wire_receive(l->wire, in, &err) < 0)
        link_fail(l, &err);
    else
        link_flush(l);
    leave(c);
    return in.len;
}

static void link_closed(void *arg, const struct error *why) {
    struct link *l = arg;
    struct grpc_channel *c = l->channel;
    struct error closed = ERROR_INIT;
    error_set(&closed, ERR_UNAVAILABLE, "closed by the other side");
    enter(c);
    link_fail(l, why && why->code != ERR_NONE ? why : &closed);
    leave(c);
}

static const struct stream_handlers link_handlers = {
    .ready = link_ready, .data = link_data, .drained = link_ready, .closed = link_closed};

static void wire_settled(void *arg) {
    struct grpc_channel *c = ((struct link *)arg)->channel;
    if (c->current != arg)
        return;
    timer_stop(c->connect);
    backoff_reset(&c->backoff);
    c->last_error = (struct error)ERROR_INIT;
    set_connected(c, true, NULL);
}

static void wire_going_away(void *arg) {
    struct link *l = arg;
    struct grpc_channel *c = l->channel;
    l->draining = true;
    if (c->current != l)
        return;
    c->current = NULL;
    error_set(&c->last_error, ERR_UNAVAILABLE, "%s is going away", c->target);
    connect_later(c);
    set_connected(c, false, &c->last_error);
}

static const struct grpc_wire_handlers wire_handlers = {
    .settled = wire_settled, .going_away = wire_going_away, .message = wire_message, .ended = wire_ended};

static void channel_connect(struct grpc_channel *c) {
    struct link *l = NEW(struct link);
    struct stream_options o = {.handlers = &link_handlers, .arg = l, .connect_timeout_ms = HANDSHAKE_TIMEOUT_MS};
    struct error err = ERROR_INIT;
    l->channel = c;
    l->stream = c->unix_path ? stream_connect_unix(c->loop, c->unix_path, &o, &err)
                             : stream_connect(c->loop, c->host, c->port, NULL, NULL, &o, &err);
    if (!l->stream) {
        c->last_error = err;
        free(l);
        connect_later(c);
        set_connected(c, false, &err);
        return;
    }
    l->wire = grpc_wire_new(c->unix_path ? "localhost" : c->target, &wire_handlers, l);
    DL_APPEND(c->links, l);
    c->current = l;
    timer_set(c->connect, HANDSHAKE_TIMEOUT_MS);
}

/* Either the time to connect again has come, or a connection has not spoken HTTP/2 in time. */
static void connect_timer(void *arg) {
    struct grpc_channel *c = arg;
    enter(c);
    if (c->current && !c->connected) {
        struct error err = ERROR_INIT;
        error_set(&err, ERR_TIMEOUT, "%s does not answer in HTTP/2", c->target);
        link_fail(c->current, &err);
    } else if (!c->current) {
        channel_connect(c);
    }
    leave(c);
}

static void flush_timer(void *arg) {
    struct grpc_channel *c = arg;
    struct link *l;
    enter(c);
    DL_FOREACH (c->links, l)
        link_flush(l);
    leave(c);
}

/* ---- the channel --------------------------------------------------------------------------------------------------
 */

static void channel_destroy(struct grpc_channel *c) {
    struct link *l, *next;
    DL_FOREACH_SAFE (c->links, l, next) {
        DL_DELETE(c->links, l);
        stream_free(l->stream);
        grpc_wire_free(l->wire);
        free(l);
    }
    timer_free(c->connect);
    timer_free(c->flush);
    free(c->target);
    free(c->unix_path);
    free(c->host);
    free(c);
}

static void enter(struct grpc_channel *c) {
    c->busy++;
}

/* The outermost handler is done: what could not be done below it is done now. */
static void leave(struct grpc_channel *c) {
    struct link *l, *next;
    struct grpc_call *call;
    if (c->busy == 1 && !c->freed) {
        DL_FOREACH (c->calls, call) {
            if (!call->link && c->current && c->connected) {
                call_start(call);
                timer_set(c->flush, 0);
            }
        }
        if (!c->current && c->calls && !timer_pending(c->connect))
            connect_later(c);
        DL_FOREACH_SAFE (c->links, l, next) {
            if (l->draining && !l->dead && !link_has_calls(l))
                link_drop(l);
            if (l->dead) {
                DL_DELETE(c->links, l);
                grpc_wire_free(l->wire);
                free(l);
            }
        }
    }
    if (--c->busy == 0 && c->freed)
        channel_destroy(c);
}

static int parse_target(struct grpc_channel *c, const char *target, struct error *err) {
    if (str_starts_with(target, "unix://"))
        c->unix_path = xstrdup(target + 7);
    else if (str_starts_with(target, "unix:"))
        c->unix_path = xstrdup(target + 5);
    else if (target[0] == '/')
        c->unix_path = xstrdup(target);
    if (c->unix_path) {
        if (c->unix_path[0] != '/')
            return error_set(err, ERR_INVALID, "gRPC target %s: the socket's path must be absolute", target);
        return 0;
    }
    const char *colon = strrchr(target, ':');
    int64_t port;
    if (!colon || colon == target || parse_i64(bytes_str(colon + 1), 1, 65535, &port) < 0)
        return error_set(err, ERR_INVALID, "gRPC target %s: neither a unix socket nor host:port", target);
    size_t host_len = (size_t)(colon - target);
    bool bracketed = target[0] == '[' && host_len > 2 && colon[-1] == ']';
    c->host = bracketed ? xstrndup(target + 1, host_len - 2) : xstrndup(target, host_len);
    c->port = (uint16_t)port;
    return 0;
}

struct grpc_channel *grpc_channel_new(struct loop *l, const char *target, struct error *err) {
    struct grpc_channel *c = NEW(struct grpc_channel);
    c->loop = l;
    c->target = xstrdup(target);
    c->told = -1;
    c->backoff = BACKOFF(BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
    if (parse_target(c, target, err) < 0) {
        channel_destroy(c);
        return NULL;
    }
    c->connect = timer_new(l, connect_timer, c);
    c->flush = timer_new(l, flush_timer, c);
    return c;
}

void grpc_channel_free(struct grpc_channel *c) {
    if (!c)
        return;
    struct grpc_call *call, *next;
    enter(c);
    c->freed = true;
    timer_stop(c->connect);
    timer_stop(c->flush);
    DL_FOREACH_SAFE (c->calls, call, next) {
        if (call->link)
            grpc_wire_cancel(call->link->wire, &call->exchange);
        call_free(call);
    }
    leave(c);
}

void grpc_channel_on_state(struct grpc_channel *c, void (*fn)(void *arg, bool connected, const struct error *why),
                           void *arg) {
    c->on_state = fn;
    c->on_state_arg = arg;
}

/* The request in gRPC's frame: a flag that says "not compressed", the length, the message. */
static struct bytes pack(const ProtobufCMessage *m) {
    size_t n = protobuf_c_message_get_packed_size(m);
    char *out = xmalloc(GRPC_PREFIX_SIZE + n);
    out[0] = 0;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (char)(n >> (24 - 8 * i) & 0xff);
    protobuf_c_message_pack(m, (uint8_t *)out + GRPC_PREFIX_SIZE);
    return bytes_of(out, GRPC_PREFIX_SIZE + n);
}

struct grpc_call *grpc_call(struct grpc_channel *c, const struct grpc_call_options *o) {
    struct grpc_call *call = NEW(struct grpc_call);
    int timeout_ms = o->timeout_ms ? o->timeout_ms : DEFAULT_TIMEOUT_MS;
    call->channel = c;
    call->method = xstrdup(o->method);
    call->response_type = o->response_type;
    call->done = o->done;
    call->message = o->message;
    call->arg = o->arg;
    call->exchange.method = call->method;
    call->exchange.request = pack(o->request);
    call->request = (char *)call->exchange.request.ptr;
    call->exchange.max_message = o->max_message ? o->max_message : DEFAULT_MAX_MESSAGE;
    call->timer = timer_new(c->loop, call_timeout, call);
    if (timeout_ms > 0) {
        call->deadline = clock_mono_ms() + timeout_ms;
        timer_set(call->timer, timeout_ms);
    }
    DL_APPEND(c->calls, call);
    enter(c);
    if (!c->current && !timer_pending(c->connect))
        timer_set(c->connect, 0);
    leave(c);
    return call;
}

void grpc_call_cancel(struct grpc_call *call) {
    if (!call)
        return;
    struct grpc_channel *c = call->channel;
    enter(c);
    if (call->link) {
        grpc_wire_cancel(call->link->wire, &call->exchange);
        timer_set(c->flush, 0);
    }
    call_free(call);
    leave(c);
}
