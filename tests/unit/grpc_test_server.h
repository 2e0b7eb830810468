/* A gRPC server for the tests, on nghttp2's server mode, without a socket: bytes in, bytes out. What it answers depends
 * on the method's last word. It keeps each request and answers when that is complete. */
#pragma once

#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"
#include "cri.pb-c.h"

#include <nghttp2/nghttp2.h>

struct ts_stream {
    int32_t id;
    char method[64], timeout[16];
    struct buf request;
    struct buf body; /* what is to be sent */
    size_t sent;
    bool hold;          /* after the body: no trailers, no end */
    bool no_status;     /* end without trailers */
    const char *status; /* of the trailers */
    struct ts_stream *next;
};

struct ts_server {
    nghttp2_session *session;
    struct ts_stream *streams;
    unsigned calls;        /* requests that were looked at */
    unsigned resets;       /* RST_STREAM frames received */
    unsigned refuse;       /* so many requests are refused */
    unsigned goaway_after; /* GOAWAY is sent with the answer to this many calls */
};

static void ts_prefix(struct buf *out, unsigned flag, size_t length) {
    buf_add_char(out, (char)flag);
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_add_char(out, (char)(length >> shift & 0xff));
}

static void ts_add_version(struct buf *out, size_t length) {
    Cri__VersionResponse m = CRI__VERSION_RESPONSE__INIT;
    _cleanup_(free_p) char *text = xmalloc(length + 1);
    memset(text, 'x', length);
    text[length] = 0;
    m.version = text;
    size_t n = cri__version_response__get_packed_size(&m);
    _cleanup_(free_p) uint8_t *packed = xmalloc(n + 1);
    cri__version_response__pack(&m, packed);
    ts_prefix(out, 0, n);
    buf_add(out, packed, n);
}

static nghttp2_nv ts_nv(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static ssize_t ts_read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t max, uint32_t *flags,
                            nghttp2_data_source *source, void *arg) {
    struct ts_stream *s = source->ptr;
    size_t n = s->body.len - s->sent;
    if (n > max)
        n = max;
    if (n == 0 && s->hold)
        return NGHTTP2_ERR_DEFERRED;
    if (n > 0)
        memcpy(out, s->body.ptr + s->sent, n);
    s->sent += n;
    if (s->sent == s->body.len && !s->hold) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (!s->no_status) {
            nghttp2_nv trailers[] = {ts_nv("grpc-status", s->status)};
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, id, trailers, 1);
        }
    }
    return (ssize_t)n;
}

static void ts_answer(struct ts_server *t, struct ts_stream *s) {
    const char *what = strrchr(s->method, '/') + 1;
    const char *http = str_eq(what, "Http503") ? "503" : "200";
    nghttp2_nv headers[4] = {ts_nv(":status", http), ts_nv("content-type", "application/grpc")};
    size_t n = 2;
    t->calls++;
    if (str_eq(what, "Fail")) { /* trailers only */
        headers[n++] = ts_nv("grpc-status", "5");
        headers[n++] = ts_nv("grpc-message", "no such%20thing: \xc3\xa9 %C3%A9 %zz 100%");
        nghttp2_submit_response(t->session, s->id, headers, n, NULL);
        return;
    }
    if (str_eq(what, "Hang"))
        return;
    if (str_eq(what, "Echo"))
        buf_add_bytes(&s->body, buf_bytes(&s->request));
    if (str_eq(what, "Large"))
        ts_add_version(&s->body, 3 * 1024 * 1024);
    for (unsigned i = 0; i < 3 && (str_eq(what, "Stream") || str_eq(what, "Endless") || str_eq(what, "Burst")); i++)
        ts_add_version(&s->body, i);
    if (str_eq(what, "Two"))
        ts_add_version(&s->body, 1), ts_add_version(&s->body, 1);
    if (str_eq(what, "Cut"))
        ts_prefix(&s->body, 0, 10), buf_add_str(&s->body, "abc");
    if (str_eq(what, "Huge"))
        ts_prefix(&s->body, 0, 0xffffffff), buf_add_str(&s->body, "abc");
    if (str_eq(what, "Compressed"))
        ts_prefix(&s->body, 1, 1), buf_add_str(&s->body, "a");
    if (str_eq(what, "Garbage"))
        ts_prefix(&s->body, 0, 3), buf_add_str(&s->body, "\xff\xff\xff");
    if (str_eq(what, "Html"))
        headers[1] = ts_nv("content-type", "text/html"), buf_add_str(&s->body, "<html>");
    s->hold = str_eq(what, "Endless") || str_eq(what, "Huge");
    s->no_status = str_eq(what, "NoStatus") || str_eq(what, "Html") || str_eq(what, "Http503");
    s->status = str_eq(what, "Late") ? "9" : str_eq(what, "Odd") ? "four" : "0";
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = ts_read_body};
    nghttp2_submit_response(t->session, s->id, headers, n, &provider);
    if (t->goaway_after && t->calls == t->goaway_after)
        nghttp2_submit_goaway(t->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR, NULL, 0);
}

static int ts_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct ts_server *t = arg;
    struct ts_stream *s = NEW(struct ts_stream);
    s->id = frame->hd.stream_id;
    s->request = BUF_INIT(64 * 1024 * 1024);
    s->body = BUF_INIT(64 * 1024 * 1024);
    s->next = t->streams;
    t->streams = s;
    nghttp2_session_set_stream_user_data(session, s->id, s);
    return 0;
}

static int ts_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg) {
    struct ts_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (bytes_eq_str(bytes_of(name, name_len), ":path"))
        snprintf(s->method, sizeof s->method, "%.*s", (int)value_len, (const char *)value);
    if (bytes_eq_str(bytes_of(name, name_len), "grpc-timeout"))
        snprintf(s->timeout, sizeof s->timeout, "%.*s", (int)value_len, (const char *)value);
    return 0;
}

static int ts_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg) {
    struct ts_stream *s = nghttp2_session_get_stream_user_data(session, id);
    return s && buf_add(&s->request, data, len) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int ts_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct ts_server *t = arg;
    struct ts_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        t->resets++;
    if (!s || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    if (t->refuse > 0) {
        t->refuse--;
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_REFUSED_STREAM);
    } else {
        ts_answer(t, s);
    }
    return 0;
}

static void ts_init(struct ts_server *t) {
    nghttp2_session_callbacks *callbacks;
    *t = (struct ts_server){0};
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, ts_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, ts_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, ts_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, ts_frame);
    nghttp2_session_server_new(&t->session, callbacks, t);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(t->session, NGHTTP2_FLAG_NONE, NULL, 0);
}

static void ts_free(struct ts_server *t) {
    nghttp2_session_del(t->session);
    while (t->streams) {
        struct ts_stream *s = t->streams;
        t->streams = s->next;
        buf_free(&s->request);
        buf_free(&s->body);
        free(s);
    }
}
