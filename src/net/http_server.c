#define LOG_COMPONENT "http"
#include "net/http_server.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/http_server_internal.h"

enum {
    DEFAULT_MAX_HEAD = 64 * 1024,
    DEFAULT_IDLE_MS = 120 * 1000,
    DEFAULT_REQUEST_MS = 30 * 1000,
    WRITE_STALL_MS = 60 * 1000, /* a peer that takes nothing for so long is given up */
    FINISH_MS = 10 * 1000,      /* for the last bytes of a connection that is closed */
    MAX_EXTRA_HEADERS = 32 * 1024,
};

/* ---- connections ---- */

static void request_free(struct http_request *r) {
    http_message_free(&r->message);
    buf_free(&r->extra);
    free(r);
}

static void conn_destroy(struct http_conn *c) {
    struct http_server *s = c->server;
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    if (c->request)
        request_free(c->request);
    free(c);
}

/* Closes the connection at once, unless it was taken out of c. */
void http_conn_free(struct http_conn *c) {
    if (c->freed)
        return;
    c->freed = true;
    stream_free(TAKE(c->stream));
    timer_free(TAKE(c->timer));
    if (c->depth == 0)
        conn_destroy(c);
}

static void conn_enter(struct http_conn *c) {
    c->depth++;
}

static void conn_leave(struct http_conn *c) {
    if (--c->depth == 0 && c->freed)
        conn_destroy(c);
}

static void conn_finish(struct http_conn *c) {
    stream_finish(TAKE(c->stream), FINISH_MS);
    http_conn_free(c);
}

static bool is_handled(const struct http_conn *c) {
    return c->request && c->request->phase != HTTP_RECEIVING;
}

void http_request_done(struct http_request *r) {
    struct http_conn *c = r->conn;
    bool close = r->close_after || !c->server->listener;
    if (c->peer_gone) {
        http_conn_free(c);
        return;
    }
    if (close) {
        conn_finish(c);
        return;
    }
    c->request = NULL;
    request_free(r);
    timer_set(c->timer, c->server->options.idle_timeout_ms);
    if (c->depth == 0)
        stream_resume(c->stream); /* the next request may have come already */
}

/* Tells the handler that nobody waits for the answer any more. */
static void request_lost(struct http_conn *c) {
    struct http_request *r = c->request;
    r->phase = HTTP_ENDED;
    if (r->on_close)
        r->on_close(r->on_close_arg);
}

/* ---- refusals ---- */

static void refuse(struct http_conn *c, int status, const char *reason) {
    struct http_request *r = c->request;
    const struct http_server_options *o = &c->server->options;
    timer_stop(c->timer);
    r->phase = HTTP_HANDLING;
    r->message.keep_alive &= c->parser.done; /* else the rest of it would be taken for the next request */
    log_debug("%s: answered %d: %s", stream_peer_addr(c->stream), status, reason);
    if (o->error_page)
        o->error_page(o->arg, r, status, reason);
    else
        http_respondf(r, status, "%s\n", reason);
}

static bool path_fits(const struct http_route *route, struct bytes path) {
    size_t n = strlen(route->path);
    if (n == 0 || route->path[n - 1] != '*')
        return bytes_eq_str(path, route->path);
    return path.len >= n - 1 && memcmp(path.ptr, route->path, n - 1) == 0;
}

static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

static void add_allow(struct http_request *r, unsigned methods) {
    _cleanup_(buf_free) struct buf list = BUF_INIT(128);
    for (unsigned i = 0; i < ARRAY_LEN(method_names); i++)
        if (methods & (1u << i))
            buf_addf(&list, "%s%s", list.len ? ", " : "", method_names[i]);
    http_add_header(r, "Allow", list.len ? list.ptr : "");
}

/* The row for the request, or NULL: then it is refused. */
static const struct http_route *find_route(struct http_conn *c) {
    const struct http_server_options *o = &c->server->options;
    struct bytes path = http_path(c->request);
    unsigned allowed = 0;
    for (size_t i = 0; i < o->n_routes; i++) {
        const struct http_route *route = &o->routes[i];
        if (!path_fits(route, path))
            continue;
        if (route->methods == 0 || route->methods & (1u << http_method(c->request)))
            return route;
        allowed |= route->methods;
    }
    if (allowed) {
        add_allow(c->request, allowed);
        refuse(c, 405, "method not allowed");
    } else {
        refuse(c, 404, "not found");
    }
    return NULL;
}

/* ---- receiving ---- */

/* Who may send this, and how much? Otherwise it is refused before its body is read. */
static bool admit(struct http_conn *c) {
    struct http_message *m = &c->request->message;
    const struct http_route *route = find_route(c);
    if (!route)
        return false;
    c->request->route = route;
    if (route->auth == HTTP_AUTH_CLIENT_CERT && !stream_peer_verified(c->stream)) {
        refuse(c, 401, "a client certificate is needed");
        return false;
    }
    if (m->content_length > route->max_body) {
        refuse(c, 413, "the request's body is too large");
        return false;
    }
    m->body.max = route->max_body;
    return true;
}

static void head_received(struct http_conn *c) {
    if (admit(c) && c->request->message.expects_continue)
        stream_write(c->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void request_received(struct http_conn *c) {
    struct http_request *r = c->request;
    if (!r->route && !admit(c)) /* one without a body */
        return;
    timer_stop(c->timer);
    r->phase = HTTP_HANDLING;
    r->route->handle(c->server->options.arg, r);
}

static void begin_request(struct http_conn *c) {
    size_t max_head = c->server->options.max_header_bytes;
    struct http_request *r = NEW(struct http_request);
    r->conn = c;
    buf_init(&r->extra, MAX_EXTRA_HEADERS);
    http_message_init(&r->message, max_head);
    http_parser_init(&c->parser, &r->message, max_head);
    c->request = r;
    timer_set(c->timer, c->server->options.request_timeout_ms);
}

static size_t conn_data(void *arg, struct bytes in) {
    struct http_conn *c = arg;
    size_t used = 0;
    conn_enter(c);
    while (used < in.len && !c->freed && !is_handled(c)) {
        enum http_event ev;
        if (!c->request)
            begin_request(c);
        used += http_parse(&c->parser, bytes_of(in.ptr + used, in.len - used), &ev);
        if (ev == HTTP_EV_HEAD)
            head_received(c);
        else if (ev == HTTP_EV_DONE)
            request_received(c);
        else if (ev == HTTP_EV_BAD)
            refuse(c, c->parser.status, c->parser.reason);
    }
    conn_leave(c);
    return used;
}

static void conn_drained(void *arg) {
    struct http_conn *c = arg;
    struct http_request *r = c->request;
    if (!r || !r->blocked || !r->on_drained)
        return;
    conn_enter(c);
    r->blocked = false;
    r->on_drained(r->on_drained_arg);
    conn_leave(c);
}

static void conn_closed(void *arg, const struct error *why) {
    struct http_conn *c = arg;
    if (is_handled(c) && !c->request->on_close) {
        c->peer_gone = true; /* the handler does not know, and still holds the request */
        return;
    }
    conn_enter(c);
    if (is_handled(c))
        request_lost(c);
    http_conn_free(c);
    conn_leave(c);
}

static const struct stream_handlers conn_handlers = {
    .data = conn_data,
    .drained = conn_drained,
    .closed = conn_closed,
};

static void on_conn_timer(void *arg) {
    struct http_conn *c = arg;
    conn_enter(c);
    if (c->request)
        refuse(c, 408, "the request did not arrive in time");
    else
        conn_finish(c);
    conn_leave(c);
}

static void on_accepted(void *arg, struct stream *stream) {
    struct http_server *s = arg;
    struct http_conn *c = NEW(struct http_conn);
    c->server = s;
    c->stream = stream;
    c->timer = timer_new(s->loop, on_conn_timer, c);
    c->next = s->conns;
    if (c->next)
        c->next->prev = c;
    s->conns = c;
    timer_set(c->timer, s->options.idle_timeout_ms);
    stream_set_timeouts(stream, 0, WRITE_STALL_MS);
    stream_set_handlers(stream, &conn_handlers, c);
}

/* ---- the server ---- */

static void end_all(void *arg) {
    struct http_server *s = arg;
    for (struct http_conn *c = s->conns, *next; c; c = next) {
        conn_enter(c);
        if (is_handled(c) && c->request->phase != HTTP_ENDED)
            request_lost(c);
        next = c->next;
        http_conn_free(c);
        conn_leave(c);
    }
}

struct http_server *http_server_new(struct loop *l, const struct http_server_options *o, struct error *err) {
    struct http_server *s = NEW(struct http_server);
    s->loop = l;
    s->options = *o;
    if (s->options.max_header_bytes == 0)
        s->options.max_header_bytes = DEFAULT_MAX_HEAD;
    if (s->options.idle_timeout_ms == 0)
        s->options.idle_timeout_ms = DEFAULT_IDLE_MS;
    if (s->options.request_timeout_ms == 0)
        s->options.request_timeout_ms = DEFAULT_REQUEST_MS;
    s->options.listen.accepted = on_accepted;
    s->options.listen.arg = s;
    s->listener = listener_new(l, &s->options.listen, err);
    if (!s->listener) {
        free(s);
        return NULL;
    }
    s->stop_timer = timer_new(l, end_all, s);
    return s;
}

uint16_t http_server_port(const struct http_server *s) {
    return s->listener ? listener_port(s->listener) : 0;
}

void http_server_set_tls(struct http_server *s, struct tls_ctx *tls) {
    if (s->listener)
        listener_set_tls(s->listener, tls);
}

void http_server_stop(struct http_server *s, int grace_ms) {
    listener_free(TAKE(s->listener));
    for (struct http_conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        if (!is_handled(c))
            conn_finish(c);
    }
    timer_set(s->stop_timer, grace_ms);
}

void http_server_free(struct http_server *s) {
    if (!s)
        return;
    listener_free(TAKE(s->listener));
    end_all(s);
    timer_free(s->stop_timer);
    free(s);
}
