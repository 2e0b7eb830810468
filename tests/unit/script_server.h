/* An HTTP/1.1 server for the tests whose answers are scripted byte by byte, so that it can also misbehave: answer half,
 * close, stay silent. On the loop of the test. */
#pragma once

#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/loop.h"
#include "net/stream.h"

#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct ss_server;

struct ss_conn {
    struct ss_server *server;
    struct stream *stream; /* NULL: closed */
    unsigned requests;     /* on this connection */
    struct ss_conn *next;
};

struct ss_server {
    struct loop *loop;
    struct listener *listener;
    struct tls_ctx *tls;
    /* head: request line and headers; target: "/path?query" */
    void (*handle)(struct ss_conn *c, struct bytes head, const char *method, const char *target, struct bytes body);
    struct ss_conn *conns;
    unsigned connections, requests;
    uint16_t port;
};

static void UNUSED ss_printf(struct ss_conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void ss_printf(struct ss_conn *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *text = xvasprintf(fmt, ap);
    va_end(ap);
    if (c->stream)
        stream_write(c->stream, text, strlen(text));
    free(text);
}

/* A whole answer. */
static void UNUSED ss_answer(struct ss_conn *c, int status, const char *headers, const char *body) {
    ss_printf(c, "HTTP/1.1 %d Whatever\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body), headers, body);
}

/* A chunked answer: its head, then pieces, then the end. */
static void UNUSED ss_begin_chunks(struct ss_conn *c, const char *headers) {
    ss_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n", headers);
}
static void UNUSED ss_chunk(struct ss_conn *c, const char *text) {
    ss_printf(c, "%zx\r\n%s\r\n", strlen(text), text);
}
static void UNUSED ss_end_chunks(struct ss_conn *c) {
    ss_printf(c, "0\r\n\r\n");
}

/* Cuts the connection; what was written is sent first. */
static void UNUSED ss_cut(struct ss_conn *c) {
    if (c->stream)
        stream_finish(TAKE(c->stream), 1000);
}

static void ss_closed(void *arg, const struct error *why) {
    struct ss_conn *c = arg;
    stream_free(TAKE(c->stream));
}

static size_t ss_content_length(struct bytes head) {
    char *text = bytes_dup(head);
    const char *at = strcasestr(text, "\r\ncontent-length:");
    size_t n = at ? strtoul(at + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    free(text);
    return n;
}

/* Handles the requests that are whole. */
static size_t ss_data(void *arg, struct bytes in) {
    struct ss_conn *c = arg;
    size_t used = 0;
    while (c->stream && used < in.len) {
        const char *start = in.ptr + used, *end = memmem(start, in.len - used, "\r\n\r\n", 4);
        if (!end)
            break;
        size_t head = (size_t)(end - start) + 4, length = ss_content_length(bytes_of(start, head));
        if (in.len - used < head + length)
            break;
        char *text = xstrndup(start, head), method[16] = "", target[4096] = "";
        sscanf(text, "%15s %4095s", method, target);
        c->requests++;
        c->server->requests++;
        c->server->handle(c, bytes_of(text, head), method, target, bytes_of(start + head, length));
        used += head + length;
        free(text);
    }
    return used;
}

static const struct stream_handlers ss_handlers = {.data = ss_data, .closed = ss_closed};

static void ss_accept(void *arg, struct stream *stream) {
    struct ss_server *s = arg;
    struct ss_conn *c = NEW(struct ss_conn);
    c->server = s;
    c->stream = stream;
    c->next = s->conns;
    s->conns = c;
    s->connections++;
    stream_set_handlers(stream, &ss_handlers, c);
}

/* unix_path NULL: a free port of the loopback; or `port` again, after ss_stop. */
static void UNUSED ss_start(struct ss_server *s, const char *unix_path) {
    struct error err = ERROR_INIT;
    struct listener_options o = {
        .address = "127.0.0.1", .port = s->port, .tls = s->tls, .accepted = ss_accept, .arg = s};
    if (unix_path)
        o = (struct listener_options){.unix_path = unix_path, .unix_mode = 0600, .accepted = ss_accept, .arg = s};
    s->listener = listener_new(s->loop, &o, &err);
    if (!s->listener)
        panic("the test's server: %s", err.msg);
    s->port = unix_path ? 0 : listener_port(s->listener);
}

/* Closes the listener and every connection. */
static void UNUSED ss_stop(struct ss_server *s) {
    if (s->listener)
        listener_free(TAKE(s->listener));
    while (s->conns) {
        struct ss_conn *c = s->conns;
        s->conns = c->next;
        stream_free(c->stream);
        free(c);
    }
}

/* Runs the loop until *done is true; false after so many milliseconds without that. */
static void ss_stop_loop(void *arg) {
    event_base_loopbreak(loop_base(arg));
}
static bool UNUSED run_until(struct loop *l, const bool *done, int64_t ms) {
    struct timer *t = timer_new(l, ss_stop_loop, l);
    timer_set(t, ms);
    while (!*done && timer_pending(t))
        event_base_loop(loop_base(l), EVLOOP_ONCE);
    timer_free(t);
    return *done;
}
/* So many milliseconds, and however busy the machine is, what has been set going gets its turns. */
static void UNUSED run_for(struct loop *l, int64_t ms) {
    const bool never = false;
    run_until(l, &never, ms);
    for (int i = 0; i < 50; i++)
        event_base_loop(loop_base(l), EVLOOP_NONBLOCK);
}
