/* exec, attach and port-forward (streams.md 2.3, 2.12): the container runtime makes a URL of its streaming server, and
 * the client's connection is carried there byte for byte. Nothing of what is spoken in it is looked into. */
#include "edge/edged/server.h"
#include "net/stream.h"

#include <strings.h>

#define CRI_MS 30000
#define REQUEST_MAX (128u << 10)
#define CONNECT_MS 10000
#define LAST_INPUT_MS 5000

struct stream_call {
    struct kubelet_call base;
    struct answer answer;
    struct loop *loop;
    struct tunnel_header *headers; /* of the request */
    size_t n_headers;
    char *method;
    struct stream *stream; /* to the runtime; NULL: not yet */
    size_t held;           /* bytes of input that wait in it, for which no room was told yet */
    bool full;             /* it takes no more */
    bool asking;           /* the runtime makes the URL */
    bool cancelled;
};

static void call_free(struct stream_call *c) {
    for (size_t i = 0; i < c->n_headers; i++) {
        free(c->headers[i].name);
        free(c->headers[i].value);
    }
    free(c->headers);
    free(c->method);
    stream_free(c->stream);
    free(c);
}

static void finish(struct stream_call *c) {
    const struct answer a = c->answer;
    call_free(c);
    a.caller->ended(a.arg);
}

/* ---- the runtime's end ---- */

static size_t on_data(void *arg, struct bytes in) {
    struct stream_call *c = arg;
    struct bytes piece = bytes_of(in.ptr, in.len < TUNNEL_CHUNK ? in.len : TUNNEL_CHUNK);
    if (piece.len > 0 && c->answer.caller->data(c->answer.arg, piece))
        stream_pause(c->stream);
    else if (piece.len < in.len)
        stream_resume(c->stream); /* the rest is shown in the next turn */
    return piece.len;
}

static void on_drained(void *arg) {
    struct stream_call *c = arg;
    size_t n = c->held;
    c->full = false;
    c->held = 0;
    if (n > 0)
        c->answer.caller->consumed(c->answer.arg, n);
}

static void on_closed(void *arg, const struct error *why) {
    finish(arg);
}

static const struct stream_handlers HANDLERS = {.data = on_data, .drained = on_drained, .closed = on_closed};

/* ---- the client's end ---- */

static void on_input(struct kubelet_call *base, struct bytes piece) {
    struct stream_call *c = CONTAINER_OF(base, struct stream_call, base);
    if (!c->stream)
        return; /* a client speaks when it has been answered */
    c->held += piece.len;
    c->full = stream_write(c->stream, piece.ptr, piece.len) != 0;
    if (!c->full)
        on_drained(c);
}

static void on_room(struct kubelet_call *base) {
    struct stream_call *c = CONTAINER_OF(base, struct stream_call, base);
    if (c->stream)
        stream_resume(c->stream);
}

static void on_cancel(struct kubelet_call *base) {
    struct stream_call *c = CONTAINER_OF(base, struct stream_call, base);
    c->cancelled = true;
    if (c->stream)
        stream_finish(TAKE(c->stream), LAST_INPUT_MS);
    if (!c->asking)
        call_free(c);
}

static const struct kubelet_call_ops OPS = {.input = on_input, .room = on_room, .cancel = on_cancel};

/* ---- the request ---- */

struct url {
    char host[256];
    uint16_t port;
    struct bytes authority, path;
};

static int parse_url(const char *text, struct url *u, struct error *err) {
    static const char scheme[] = "http://";
    struct bytes rest = bytes_str(text), host, port;
    uint64_t number;
    if (!bytes_starts_with(rest, scheme))
        return error_set(err, ERR_UNSUPPORTED, "the container runtime streams from \"%.200s\": only http:// is offered",
                         text);
    rest = bytes_of(rest.ptr + strlen(scheme), rest.len - strlen(scheme));
    const char *slash = memchr(rest.ptr, '/', rest.len);
    u->authority = slash ? bytes_of(rest.ptr, (size_t)(slash - rest.ptr)) : rest;
    u->path = slash ? bytes_of(slash, rest.len - u->authority.len) : BYTES_LIT("/");
    const char *colon = memrchr(u->authority.ptr, ':', u->authority.len);
    if (!colon)
        return error_set(err, ERR_INVALID, "the container runtime streams from \"%.200s\": it names no port", text);
    host = bytes_of(u->authority.ptr, (size_t)(colon - u->authority.ptr));
    port = bytes_of(colon + 1, u->authority.len - host.len - 1);
    if (host.len >= 2 && host.ptr[0] == '[')
        host = bytes_of(host.ptr + 1, host.len - 2);
    if (parse_u64(port, UINT16_MAX, &number) < 0 || number == 0 || host.len == 0 || host.len >= sizeof(u->host))
        return error_set(err, ERR_INVALID, "the container runtime streams from \"%.200s\": no address", text);
    memcpy(u->host, host.ptr, host.len);
    u->host[host.len] = 0;
    u->port = (uint16_t)number;
    return 0;
}

static int write_request(const struct stream_call *c, const struct url *u, struct buf *out, struct error *err) {
    buf_addf(out, "%s %.*s HTTP/1.1\r\nHost: %.*s\r\n", c->method, (int)u->path.len, u->path.ptr, (int)u->authority.len,
             u->authority.ptr);
    for (size_t i = 0; i < c->n_headers; i++)
        if (strcasecmp(c->headers[i].name, "Host") != 0)
            buf_addf(out, "%s: %s\r\n", c->headers[i].name, c->headers[i].value);
    buf_add_str(out, "\r\n");
    return buf_check(out, err, "the request to the container runtime");
}

static int dial(struct stream_call *c, const char *url, struct error *err) {
    struct url u;
    _cleanup_(buf_free) struct buf request = BUF_INIT(REQUEST_MAX);
    const struct stream_options o = {.handlers = &HANDLERS, .arg = c, .connect_timeout_ms = CONNECT_MS};
    if (parse_url(url, &u, err) < 0 || write_request(c, &u, &request, err) < 0)
        return -1;
    c->stream = stream_connect(c->loop, u.host, u.port, NULL, NULL, &o, err);
    if (!c->stream)
        return error_wrap(err, "connect to the container runtime's streaming server");
    stream_write(c->stream, request.ptr, request.len);
    return 0;
}

static void on_url(struct stream_call *c, int status, const char *url, const struct error *why) {
    struct error err = ERROR_INIT;
    c->asking = false;
    if (c->cancelled) {
        call_free(c);
        return;
    }
    if (url && dial(c, url, &err) == 0)
        return;
    int code = status == CRI_STATUS_NOT_FOUND ? 404 : status == GRPC_RESOURCE_EXHAUSTED ? 429 : 500;
    answer_error(&c->answer, code, "%s\n", error_text(url ? &err : why));
    finish(c);
}

static void on_exec(void *arg, int status, const void *reply, const struct error *err) {
    const Cri__ExecResponse *r = reply;
    on_url(arg, status, r ? r->url : NULL, err);
}

static void on_attach(void *arg, int status, const void *reply, const struct error *err) {
    const Cri__AttachResponse *r = reply;
    on_url(arg, status, r ? r->url : NULL, err);
}

static void on_port_forward(void *arg, int status, const void *reply, const struct error *err) {
    const Cri__PortForwardResponse *r = reply;
    on_url(arg, status, r ? r->url : NULL, err);
}

static struct stream_call *call_new(struct pods *ps, const struct tunnel_request *r, const struct answer *a) {
    struct stream_call *c = NEW(struct stream_call);
    *c = (struct stream_call){.base = {&OPS}, .answer = *a, .loop = ps->loop, .asking = true};
    c->method = xstrdup(r->method);
    c->headers = xcalloc(r->n_headers + 1, sizeof(c->headers[0]));
    for (; c->n_headers < r->n_headers; c->n_headers++) {
        c->headers[c->n_headers].name = xstrdup(r->headers[c->n_headers].name);
        c->headers[c->n_headers].value = xstrdup(r->headers[c->n_headers].value);
    }
    return c;
}

/* ---- what is asked for ---- */

/* Takes the next part off a list: true while there was one. */
static bool next_part(struct bytes *rest, char sep, struct bytes *part) {
    struct bytes whole = *rest, after;
    if (!whole.ptr)
        return false;
    bool more = bytes_cut(whole, sep, part, &after);
    *rest = more ? after : BYTES_EMPTY;
    if (!more)
        *part = whole;
    return true;
}

static bool query_is(const struct tunnel_request *r, const char *name) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64);
    return query_get(bytes_str(r->query), name, &text) && bytes_eq_str(buf_bytes(&text), "1");
}

/* The running instance of the container, or NULL: answered. */
static const struct rt_container *running(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                                          const struct answer *a) {
    const struct worker_container *c = target_container(ps, t, a);
    if (!c)
        return NULL;
    if (!tunnel_request_header(r, "Upgrade"))
        answer_error(a, 400, "the connection has to be upgraded for this\n");
    else if (!query_is(r, "input") && !query_is(r, "output") && !query_is(r, "error"))
        answer_error(a, 400, "you must specify at least 1 of stdin, stdout, stderr\n");
    else if (!worker_container_running(c))
        answer_error(a, 404, "container \"%s\" in pod \"%s\" does not run\n", t->container, t->pod);
    else
        return worker_current(c);
    return NULL;
}

static void add_commands(const struct tunnel_request *r, Cri__ExecRequest *q) {
    struct bytes rest = bytes_str(r->query), part, name, value;
    while (next_part(&rest, '&', &part)) {
        _cleanup_(buf_free) struct buf text = BUF_INIT(part.len + 1);
        if (bytes_cut(part, '=', &name, &value) && bytes_eq_str(name, "command") &&
            percent_decode(value, true, &text) == 0)
            cri_add_string(&q->cmd, &q->n_cmd, text.len ? text.ptr : "");
    }
}

struct kubelet_call *exec_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                               const struct answer *a) {
    const struct rt_container *rc = running(ps, r, t, a);
    if (!rc)
        return NULL;
    Cri__ExecRequest *q = CRI_NEW(Cri__ExecRequest, cri__exec_request__init);
    q->container_id = xstrdup(rc->id);
    q->tty = query_is(r, "tty");
    q->stdin = query_is(r, "input");
    q->stdout = query_is(r, "output");
    q->stderr = query_is(r, "error") && !q->tty;
    add_commands(r, q);
    struct stream_call *c = NULL;
    if (q->n_cmd == 0) {
        answer_error(a, 400, "no command is given\n");
    } else {
        c = call_new(ps, r, a);
        cri_call(ps->cri, CRI_EXEC, q, CRI_MS, on_exec, c);
    }
    CRI_FREE(q);
    return c ? &c->base : NULL;
}

struct kubelet_call *attach_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                                 const struct answer *a) {
    const struct rt_container *rc = running(ps, r, t, a);
    if (!rc)
        return NULL;
    const struct worker_container *wc = worker_container_named(target_pod(ps, t, a), t->container);
    Cri__AttachRequest q = CRI__ATTACH_REQUEST__INIT;
    q.container_id = rc->id;
    q.tty = json_bool_or(json_get(wc->spec, "tty"), false); /* as the container was made */
    q.stdin = query_is(r, "input");
    q.stdout = query_is(r, "output");
    q.stderr = query_is(r, "error") && !q.tty;
    struct stream_call *c = call_new(ps, r, a);
    cri_call(ps->cri, CRI_ATTACH, &q, CRI_MS, on_attach, c);
    return &c->base;
}

/* "port=80&port=81" or "port=80,81"; none over SPDY, where each stream names its own. */
static int read_ports(const struct tunnel_request *r, int32_t *ports, size_t max, size_t *n) {
    struct bytes rest = bytes_str(r->query), part, name, list, one;
    while (next_part(&rest, '&', &part)) {
        if (!bytes_cut(part, '=', &name, &list) || !bytes_eq_str(name, "port"))
            continue;
        while (next_part(&list, ',', &one)) {
            int64_t number;
            if (*n == max || parse_i64(one, 1, UINT16_MAX, &number) < 0)
                return -1;
            ports[(*n)++] = (int32_t)number;
        }
    }
    return 0;
}

struct kubelet_call *port_forward_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                                       const struct answer *a) {
    int32_t ports[32];
    struct pod_worker *w = target_pod(ps, t, a);
    if (!w)
        return NULL;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    Cri__PortForwardRequest q = CRI__PORT_FORWARD_REQUEST__INIT;
    q.port = ports;
    if (!tunnel_request_header(r, "Upgrade")) {
        answer_error(a, 400, "the connection has to be upgraded for this\n");
    } else if (!s || !s->ready) {
        answer_error(a, 404, "pod \"%s\" does not run\n", t->pod);
    } else if (read_ports(r, ports, ARRAY_LEN(ports), &q.n_port) < 0) {
        answer_error(a, 400, "a port is no number from 1 to 65535, or there are more than 32\n");
    } else {
        q.pod_sandbox_id = s->id;
        struct stream_call *c = call_new(ps, r, a);
        cri_call(ps->cri, CRI_PORT_FORWARD, &q, CRI_MS, on_port_forward, c);
        return &c->base;
    }
    return NULL;
}
