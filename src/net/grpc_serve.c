#include "net/grpc_serve.h"

#include "base/mem.h"
#include "base/str.h"
#include "net/grpc_wire.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <utlist.h>

#define MAX_STREAMS 128 /* calls at once on a connection */
#define MAX_HEADER_LIST (16 * 1024)
#define STREAM_WINDOW (256 * 1024)
#define CONNECTION_WINDOW (1024 * 1024)
#define MAX_REPLY (16u << 20)
#define MAX_TEXT 512

struct grpc_request {
    struct grpc_serve *serve; /* NULL: the connection, or the call, is gone */
    int32_t stream;
    const struct grpc_method *method;
    bool is_grpc, handed, answered;
    int refused; /* a status that was decided on before the request was complete; 0: none */
    struct buf in;
    struct buf out;
    size_t sent;
    char status[4];
    char *text; /* grpc-message, encoded */
    struct grpc_request *prev, *next;
};

struct grpc_serve {
    struct grpc_serve_options o;
    nghttp2_session *session;
    struct grpc_request *requests;
};

static void request_free(struct grpc_request *r) {
    if (r->serve)
        DL_DELETE(r->serve->requests, r);
    buf_free(&r->in);
    buf_free(&r->out);
    free(r->text);
    free(r);
}

/* ---- answers ---- */

static nghttp2_nv header(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static size_t add_status(const struct grpc_request *r, nghttp2_nv *out) {
    out[0] = header("grpc-status", r->status);
    if (!r->text)
        return 1;
    out[1] = header("grpc-message", r->text);
    return 2;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *arg) {
    struct grpc_request *r = source->ptr;
    nghttp2_nv trailers[2];
    size_t n = r->out.len - r->sent;
    if (n > max)
        n = max;
    if (n > 0)
        memcpy(out, r->out.ptr + r->sent, n);
    r->sent += n;
    if (r->sent == r->out.len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, trailers, add_status(r, trailers)) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

static void submit(struct grpc_request *r) {
    struct grpc_serve *s = r->serve;
    nghttp2_nv headers[4] = {header(":status", "200"), header("content-type", "application/grpc")};
    nghttp2_data_provider body = {.source.ptr = r, .read_callback = read_body};
    size_t n = 2;
    if (r->out.len == 0)
        n += add_status(r, headers + n); /* trailers only */
    r->answered = true;
    if (nghttp2_submit_response(s->session, r->stream, headers, n, r->out.len > 0 ? &body : NULL) != 0)
        nghttp2_submit_rst_stream(s->session, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_INTERNAL_ERROR);
    s->o.answered(s->o.arg);
}

static char *encode_text(const char *text) {
    struct buf out = BUF_INIT(MAX_TEXT * 3 + 1);
    for (; *text && out.len < MAX_TEXT; text++) {
        if (*text >= 0x20 && *text < 0x7f && *text != '%')
            (void)buf_add_char(&out, *text);
        else
            (void)buf_addf(&out, "%%%02X", (unsigned char)*text);
    }
    return buf_take(&out, NULL);
}

static void answer_error(struct grpc_request *r, int status, const char *text) {
    if (!r->serve) {
        request_free(r);
        return;
    }
    (void)snprintf(r->status, sizeof r->status, "%d", status & 0x1f);
    r->text = encode_text(text);
    submit(r);
}

void grpc_reply_error(struct grpc_request *r, int status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *text = xvasprintf(fmt, ap);
    va_end(ap);
    answer_error(r, status, text);
}

void grpc_reply(struct grpc_request *r, const ProtobufCMessage *reply) {
    if (!r->serve) {
        request_free(r);
        return;
    }
    size_t n = protobuf_c_message_get_packed_size(reply);
    char *space = n <= MAX_REPLY ? buf_reserve(&r->out, n + GRPC_PREFIX_SIZE) : NULL;
    if (!space) {
        answer_error(r, GRPC_RESOURCE_EXHAUSTED, "the answer is too large");
        return;
    }
    space[0] = 0;
    for (int i = 0; i < 4; i++)
        space[1 + i] = (char)(n >> (24 - 8 * i) & 0xff);
    protobuf_c_message_pack(reply, (uint8_t *)space + GRPC_PREFIX_SIZE);
    buf_commit(&r->out, n + GRPC_PREFIX_SIZE);
    r->status[0] = '0';
    submit(r);
}

/* ---- requests ---- */

/* The one message of a unary call. */
static int unframe(struct bytes in, struct bytes *message) {
    if (in.len < GRPC_PREFIX_SIZE || in.ptr[0] != 0)
        return -1;
    size_t length = 0;
    for (int i = 1; i < GRPC_PREFIX_SIZE; i++)
        length = length << 8 | (unsigned char)in.ptr[i];
    *message = bytes_of(in.ptr + GRPC_PREFIX_SIZE, in.len - GRPC_PREFIX_SIZE);
    return message->len == length ? 0 : -1;
}

static void complete(struct grpc_request *r) {
    struct bytes body;
    r->handed = true;
    if (!r->is_grpc) {
        answer_error(r, GRPC_INVALID_ARGUMENT, "this is a gRPC server: content-type must be application/grpc");
    } else if (!r->method) {
        answer_error(r, GRPC_UNIMPLEMENTED, "no such method");
    } else if (r->refused) {
        answer_error(r, r->refused, "the request is too large");
    } else if (unframe(buf_bytes(&r->in), &body) < 0) {
        answer_error(r, GRPC_INVALID_ARGUMENT, "the request is not one uncompressed message");
    } else {
        ProtobufCMessage *m = grpc_unpack(r->method->request_type, body);
        if (m) {
            r->method->handle(r->serve->o.handler_arg, r, m);
            protobuf_c_message_free_unpacked(m, NULL);
        } else {
            answer_error(r, GRPC_INVALID_ARGUMENT, "the request could not be decoded");
        }
    }
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct grpc_serve *s = arg;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct grpc_request *r = NEW(struct grpc_request);
    r->serve = s;
    r->stream = frame->hd.stream_id;
    r->in = BUF_INIT(s->o.max_message + GRPC_PREFIX_SIZE);
    r->out = BUF_INIT(MAX_REPLY + GRPC_PREFIX_SIZE);
    DL_APPEND(s->requests, r);
    return nghttp2_session_set_stream_user_data(session, r->stream, r) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static const struct grpc_method *find_method(const struct grpc_serve *s, struct bytes path) {
    for (size_t i = 0; i < s->o.n_methods; i++)
        if (bytes_eq_str(path, s->o.methods[i].path))
            return &s->o.methods[i];
    return NULL;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg) {
    struct grpc_request *r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    struct bytes key = bytes_of(name, name_len), v = bytes_of(value, value_len);
    if (r && bytes_eq_str(key, ":path"))
        r->method = find_method(arg, v);
    if (r && bytes_eq_str(key, "content-type"))
        r->is_grpc = bytes_starts_with(v, "application/grpc");
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg) {
    struct grpc_request *r = nghttp2_session_get_stream_user_data(session, id);
    if (r && !r->refused && buf_add(&r->in, data, len) < 0)
        r->refused = GRPC_RESOURCE_EXHAUSTED;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    bool end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (!end || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct grpc_request *r = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (r && !r->handed)
        complete(r);
    return 0;
}

/* A request that its handler still holds stays with the handler. */
static void let_go(struct grpc_request *r) {
    if (r->handed && !r->answered) {
        DL_DELETE(r->serve->requests, r);
        r->serve = NULL;
    } else {
        request_free(r);
    }
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg) {
    struct grpc_request *r = nghttp2_session_get_stream_user_data(session, id);
    if (r)
        let_go(r);
    return 0;
}

/* ---- life ---- */

struct grpc_serve *grpc_serve_new(const struct grpc_serve_options *o) {
    struct grpc_serve *s = NEW(struct grpc_serve);
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, MAX_STREAMS},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST},
    };
    s->o = *o;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
        panic("out of memory for an HTTP/2 session");
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option_set_no_closed_streams(option, 1);
    if (nghttp2_session_server_new2(&s->session, callbacks, s, option) != 0)
        panic("out of memory for an HTTP/2 session");
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    (void)nghttp2_submit_settings(s->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
    (void)nghttp2_session_set_local_window_size(s->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
    return s;
}

void grpc_serve_free(struct grpc_serve *s) {
    if (!s)
        return;
    struct grpc_request *r, *next;
    nghttp2_session_del(s->session); /* calls no handlers */
    DL_FOREACH_SAFE (s->requests, r, next)
        let_go(r);
    free(s);
}

int grpc_serve_receive(struct grpc_serve *s, struct bytes in, struct error *err) {
    ssize_t n = nghttp2_session_mem_recv(s->session, (const uint8_t *)in.ptr, in.len);
    if (n < 0)
        return error_set(err, ERR_INVALID, "HTTP/2: %s", nghttp2_strerror((int)n));
    return 0;
}

int grpc_serve_output(struct grpc_serve *s, struct bytes *out, struct error *err) {
    const uint8_t *p = NULL;
    ssize_t n = nghttp2_session_mem_send(s->session, &p);
    if (n < 0)
        return error_set(err, ERR_INTERNAL, "HTTP/2: %s", nghttp2_strerror((int)n));
    *out = bytes_of(p, (size_t)n);
    if (n == 0 && !nghttp2_session_want_read(s->session) && !nghttp2_session_want_write(s->session))
        return error_set(err, ERR_UNAVAILABLE, "HTTP/2: the peer has finished");
    return 0;
}
