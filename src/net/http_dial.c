#include "net/http_dial.h"

#include "base/mem.h"
#include "net/http_parse.h"

enum { MAX_HEAD = 64 << 10, MAX_REQUEST = 256 << 10 };

struct http_dial {
    struct stream *stream;
    struct http_parser parser;
    struct http_message answer;
    struct buf request;
    struct timer *deadline;
    uint8_t depth; /* callbacks on the stack: freeing waits for them */
    bool over, freed;
    void (*done)(void *arg, const struct error *err);
    void *arg;
};

static void destroy(struct http_dial *d) {
    http_message_free(&d->answer);
    free(d);
}

void http_dial_free(struct http_dial *d) {
    if (!d || d->freed)
        return;
    d->freed = true;
    stream_free(TAKE(d->stream));
    timer_free(TAKE(d->deadline));
    buf_free_secret(&d->request);
    if (d->depth == 0)
        destroy(d);
}

static void tell(struct http_dial *d, const struct error *err) {
    if (d->over)
        return;
    d->over = true;
    timer_stop(d->deadline);
    d->depth++;
    d->done(d->arg, err);
    if (--d->depth == 0 && d->freed)
        destroy(d);
}

static void on_deadline(void *arg) {
    struct error err = ERROR_INIT;
    error_set(&err, ERR_TIMEOUT, "no answer in time");
    tell(arg, &err);
}

static void on_ready(void *arg) {
    struct http_dial *d = arg;
    stream_write(d->stream, d->request.ptr, d->request.len);
}

static size_t on_data(void *arg, struct bytes in) {
    struct http_dial *d = arg;
    struct error err = ERROR_INIT;
    enum http_event ev;
    if (d->over) /* for whoever takes the stream */
        return 0;
    size_t used = http_parse(&d->parser, in, &ev);
    if (ev == HTTP_EV_BAD) {
        error_set(&err, ERR_INVALID, "the answer is not HTTP: %s", d->parser.reason);
        tell(d, &err);
    } else if (ev != HTTP_EV_MORE) {
        tell(d, NULL);
    }
    return used;
}

static void on_closed(void *arg, const struct error *why) {
    struct error err = *why;
    if (err.code == ERR_NONE)
        error_set(&err, ERR_UNAVAILABLE, "the connection was closed before an answer came");
    tell(arg, &err);
}

static const struct stream_handlers HANDLERS = {.ready = on_ready, .data = on_data, .closed = on_closed};

struct http_dial *http_dial_new(struct loop *l, const struct http_dial_options *o, struct error *err) {
    struct http_dial *d = NEW(struct http_dial);
    d->done = o->done;
    d->arg = o->arg;
    buf_init(&d->request, MAX_REQUEST);
    http_message_init(&d->answer, MAX_HEAD);
    http_parser_init_answer(&d->parser, &d->answer, MAX_HEAD);
    d->deadline = timer_new(l, on_deadline, d);
    timer_set(d->deadline, o->timeout_ms);
    const struct stream_options so = {.handlers = &HANDLERS, .arg = d, .connect_timeout_ms = o->timeout_ms};
    if (buf_add_bytes(&d->request, o->request) < 0)
        error_set(err, ERR_TOO_LARGE, "the request's head is too large");
    else
        d->stream = stream_connect(l, o->host, o->port, o->tls, o->server_name, &so, err);
    if (d->stream)
        return d;
    http_dial_free(d);
    return NULL;
}

int http_dial_status(const struct http_dial *d) {
    return d->answer.status;
}

struct bytes http_dial_header(const struct http_dial *d, const char *name) {
    unsigned count;
    return http_message_field(&d->answer, name, &count);
}

struct bytes http_dial_header_at(const struct http_dial *d, unsigned i, struct bytes *value) {
    return http_message_field_at(&d->answer, i, value);
}

struct stream *http_dial_take(struct http_dial *d) {
    stream_set_timeouts(d->stream, 0, 0);
    return TAKE(d->stream);
}
