#include "net/grpc_wire.h"

#include "base/mem.h"
#include "base/str.h"
#include "net/grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#define STREAM_WINDOW (256 * 1024)
#define CONNECTION_WINDOW (1024 * 1024)
#define MAX_HEADER_LIST (16 * 1024)
#define MAX_TEXT 4096 /* of grpc-message; the rest is cut */

struct grpc_wire {
    nghttp2_session *session;
    const struct grpc_wire_handlers *handlers;
    void *arg;
    char *authority;
    bool settled;
};

void grpc_exchange_clear(struct grpc_exchange *x) {
    buf_free(&x->in);
    buf_free(&x->text);
}

/* ---- messages -----------------------------------------------------------------------------------------------------
 */

/* Unpacking allocates more than the message is long (a message of empty messages, the most): so it has a budget. */
static void *budget_alloc(void *arg, size_t size) {
    size_t *left = arg;
    if (size > *left)
        return NULL;
    *left -= size;
    return malloc(size);
}

static void budget_free(void *arg, void *p) {
    free(p);
}

ProtobufCMessage *grpc_unpack(const ProtobufCMessageDescriptor *type, struct bytes in) {
    size_t left = in.len * 16 + 65536;
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &left};
    return protobuf_c_message_unpack(type, &allocator, in.len, (const uint8_t *)in.ptr);
}

/* ---- answers ------------------------------------------------------------------------------------------------------
 */

/* Gives an exchange up from our side: `ended` follows when the stream is closed. */
static void give_up(struct grpc_wire *w, struct grpc_exchange *x, int status, const char *text) {
    if (x->verdict >= 0)
        return;
    x->verdict = status;
    x->verdict_text = text;
    nghttp2_submit_rst_stream(w->session, NGHTTP2_FLAG_NONE, x->stream_id, NGHTTP2_CANCEL);
}

/* What an HTTP status means where no grpc-status came (the mapping that gRPC publishes). */
static int status_of_http(int http) {
    switch (http) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

static int status_of_reset(uint32_t code) {
    switch (code) {
    case NGHTTP2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* grpc-message is percent-encoded, and a peer's mistakes in it must not cost us its meaning: bad escapes stay as they
 * are, what is no text becomes '?'. */
static void decode_text(struct bytes in, struct buf *out) {
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%' && i + 2 < in.len && hex_digit(in.ptr[i + 1]) >= 0 && hex_digit(in.ptr[i + 2]) >= 0) {
            c = (char)(hex_digit(in.ptr[i + 1]) * 16 + hex_digit(in.ptr[i + 2]));
            i += 2;
        }
        if (c == '\n' || c == '\t' || c == '\r')
            c = ' ';
        buf_add_char(out, (unsigned char)c < 0x20 || c == 0x7f ? '?' : c);
    }
    if (!utf8_valid(buf_bytes(out)))
        for (size_t i = 0; i < out->len; i++)
            if ((unsigned char)out->ptr[i] >= 0x80)
                out->ptr[i] = '?';
}

static void end_exchange(struct grpc_wire *w, struct grpc_exchange *x, uint32_t reset_code) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(MAX_TEXT);
    bool untouched = x->unsent || (reset_code == NGHTTP2_REFUSED_STREAM && x->http_status == 0);
    int status;

    if (x->verdict >= 0) {
        status = x->verdict;
        buf_add_str(&text, x->verdict_text);
    } else if (x->grpc_status >= 0) {
        status = x->grpc_status;
        decode_text(buf_bytes(&x->text), &text);
        if (status == GRPC_OK && (x->prefix_len > 0 || x->in.len > 0)) {
            status = GRPC_INTERNAL;
            buf_add_str(&text, "the answer ends in the middle of a message");
        }
    } else if (x->http_status != 0 && x->http_status != 200) {
        status = status_of_http(x->http_status);
        buf_addf(&text, "HTTP status %d instead of a gRPC answer", x->http_status);
    } else if (x->content_fault) {
        status = GRPC_UNKNOWN;
        buf_add_str(&text, x->content_fault);
    } else if (reset_code != NGHTTP2_NO_ERROR || x->unsent) {
        status = x->unsent ? GRPC_UNAVAILABLE : status_of_reset(reset_code);
        buf_addf(&text, "stream reset by the server: %s", nghttp2_http2_strerror(reset_code));
    } else {
        status = GRPC_INTERNAL;
        buf_add_str(&text, "the answer ended without a grpc-status");
    }
    if (status == GRPC_OK)
        untouched = false;
    w->handlers->ended(w->arg, x, status, text.ptr ? text.ptr : "", untouched && x->verdict < 0);
}

static void read_header(struct grpc_exchange *x, struct bytes name, struct bytes value) {
    int64_t n;
    if (bytes_eq_str(name, ":status")) {
        x->http_status = parse_i64(value, 100, 999, &n) == 0 ? (int)n : 999;
    } else if (bytes_eq_str(name, "content-type")) {
        if (!bytes_starts_with(value, "application/grpc"))
            x->content_fault = "the answer's content type is not application/grpc";
    } else if (bytes_eq_str(name, "grpc-status")) {
        x->grpc_status = parse_i64(value, 0, GRPC_UNAUTHENTICATED, &n) == 0 ? (int)n : GRPC_UNKNOWN;
    } else if (bytes_eq_str(name, "grpc-message")) {
        buf_clear(&x->text);
        buf_add(&x->text, value.ptr, value.len < MAX_TEXT ? value.len : MAX_TEXT);
    }
}

/* Reads the prefix of the next message. False: more bytes are needed, or the exchange was given up. */
static bool read_prefix(struct grpc_wire *w, struct grpc_exchange *x, struct bytes *in) {
    size_t n = GRPC_PREFIX_SIZE - x->prefix_len;
    if (n == 0)
        return true;
    if (n > in->len)
        n = in->len;
    memcpy(x->prefix + x->prefix_len, in->ptr, n);
    x->prefix_len += n;
    *in = bytes_of(in->ptr + n, in->len - n);
    if (x->prefix_len < GRPC_PREFIX_SIZE)
        return false;
    x->length =
        (size_t)x->prefix[1] << 24 | (size_t)x->prefix[2] << 16 | (size_t)x->prefix[3] << 8 | (size_t)x->prefix[4];
    if (x->prefix[0] != 0)
        give_up(w, x, GRPC_INTERNAL, "the answer is compressed although that was not offered");
    else if (x->length > x->max_message)
        give_up(w, x, GRPC_RESOURCE_EXHAUSTED, "the answer is larger than allowed");
    return x->verdict < 0;
}

/* Cuts DATA into messages. A handler may cancel the exchange, which may free x: so it is looked up anew each time. */
static void read_data(struct grpc_wire *w, int32_t stream_id, struct bytes in) {
    struct grpc_exchange *x;
    while ((x = nghttp2_session_get_stream_user_data(w->session, stream_id)) != NULL && x->verdict < 0) {
        if (in.len == 0 && (x->prefix_len < GRPC_PREFIX_SIZE || x->in.len < x->length))
            return;
        if (!read_prefix(w, x, &in))
            return;
        struct bytes message;
        if (x->in.len == 0 && in.len >= x->length) {
            message = bytes_of(in.ptr, x->length);
            in = bytes_of(in.ptr + x->length, in.len - x->length);
        } else {
            size_t n = x->length - x->in.len;
            if (n > in.len)
                n = in.len;
            if (buf_add(&x->in, in.ptr, n) < 0) {
                give_up(w, x, GRPC_RESOURCE_EXHAUSTED, "the answer is larger than allowed");
                return;
            }
            in = bytes_of(in.ptr + n, in.len - n);
            if (x->in.len < x->length)
                return;
            message = buf_bytes(&x->in);
        }
        x->prefix_len = 0;
        w->handlers->message(w->arg, x, message);
        x = nghttp2_session_get_stream_user_data(w->session, stream_id);
        if (x)
            buf_clear(&x->in);
    }
}

/* ---- nghttp2's callbacks ------------------------------------------------------------------------------------------
 */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg) {
    struct grpc_exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (x)
        read_header(x, bytes_of(name, name_len), bytes_of(value, value_len));
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len,
                         void *arg) {
    struct grpc_exchange *x = nghttp2_session_get_stream_user_data(session, stream_id);
    /* The body of a proxy's error page is of no use to us. */
    if (x && x->http_status == 200 && !x->content_fault)
        read_data(arg, stream_id, bytes_of(data, len));
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg) {
    struct grpc_wire *w = arg;
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK) && !w->settled) {
        w->settled = true;
        w->handlers->settled(w->arg);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        w->handlers->going_away(w->arg);
    } else if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
               (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
        /* An answer that came before the whole request was sent: the rest of it interests nobody. */
        struct grpc_exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (x && x->sent < x->request.len)
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error_code, void *arg) {
    if (frame->hd.type == NGHTTP2_HEADERS) {
        struct grpc_exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (x)
            x->unsent = true;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *arg) {
    struct grpc_exchange *x = nghttp2_session_get_stream_user_data(session, stream_id);
    if (x) {
        nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        end_exchange(arg, x, error_code);
    }
    return 0;
}

static ssize_t read_request(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t max, uint32_t *flags,
                            nghttp2_data_source *source, void *arg) {
    struct grpc_exchange *x = nghttp2_session_get_stream_user_data(session, stream_id);
    if (!x) /* cancelled meanwhile */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = x->request.len - x->sent;
    if (n > max)
        n = max;
    if (n > 0)
        memcpy(out, x->request.ptr + x->sent, n);
    x->sent += n;
    if (x->sent == x->request.len)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* ---- the connection -----------------------------------------------------------------------------------------------
 */

static nghttp2_session *session_new(struct grpc_wire *w) {
    nghttp2_session *session;
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        panic("out of memory for an HTTP/2 session");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    if (nghttp2_session_client_new(&session, callbacks, w) != 0)
        panic("out of memory for an HTTP/2 session");
    nghttp2_session_callbacks_del(callbacks);

    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST},
    };
    if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) != 0 ||
        nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0)
        panic("out of memory for an HTTP/2 session");
    return session;
}

struct grpc_wire *grpc_wire_new(const char *authority, const struct grpc_wire_handlers *handlers, void *arg) {
    struct grpc_wire *w = NEW(struct grpc_wire);
    w->handlers = handlers;
    w->arg = arg;
    w->authority = xstrdup(authority);
    w->session = session_new(w);
    return w;
}

void grpc_wire_free(struct grpc_wire *w) {
    if (!w)
        return;
    nghttp2_session_del(w->session);
    free(w->authority);
    free(w);
}

int grpc_wire_receive(struct grpc_wire *w, struct bytes in, struct error *err) {
    ssize_t n = nghttp2_session_mem_recv(w->session, (const uint8_t *)in.ptr, in.len);
    if (n < 0)
        return error_set(err, ERR_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror((int)n));
    return 0;
}

int grpc_wire_output(struct grpc_wire *w, struct bytes *out, struct error *err) {
    const uint8_t *data = NULL;
    ssize_t n = nghttp2_session_mem_send(w->session, &data);
    if (n < 0)
        return error_set(err, ERR_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror((int)n));
    *out = bytes_of(data, (size_t)n);
    return 0;
}

bool grpc_wire_finished(const struct grpc_wire *w) {
    return !nghttp2_session_want_read(w->session) && !nghttp2_session_want_write(w->session);
}

/* "500m": at most eight digits and a unit. */
static void format_timeout(int64_t ms, char *out, size_t size) {
    if (ms < 1)
        ms = 1;
    if (ms <= 99999999)
        snprintf(out, size, "%lldm", (long long)ms);
    else
        snprintf(out, size, "%lldS", (long long)(ms / 1000 > 99999999 ? 99999999 : ms / 1000));
}

static nghttp2_nv header(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

int grpc_wire_start(struct grpc_wire *w, struct grpc_exchange *x) {
    char timeout[32];
    nghttp2_nv headers[8] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", x->method),
        header(":authority", w->authority),
        header("te", "trailers"),
        header("content-type", "application/grpc"),
        header("user-agent", "selvage/" SELVAGE_VERSION),
    };
    size_t n = 7;
    if (x->timeout_ms >= 0) {
        format_timeout(x->timeout_ms, timeout, sizeof timeout);
        headers[n++] = header("grpc-timeout", timeout);
    }
    x->sent = x->prefix_len = 0;
    x->in = BUF_INIT(x->max_message);
    x->text = BUF_INIT(MAX_TEXT);
    x->http_status = 0;
    x->grpc_status = x->verdict = -1;
    x->unsent = false;
    x->content_fault = NULL;
    nghttp2_data_provider provider = {.read_callback = read_request};
    x->stream_id = nghttp2_submit_request(w->session, NULL, headers, n, &provider, x);
    return x->stream_id < 0 ? -1 : 0;
}

void grpc_wire_cancel(struct grpc_wire *w, struct grpc_exchange *x) {
    /* A request that still waits in nghttp2's queue has no stream yet: the reset below takes it out of the queue. */
    nghttp2_session_set_stream_user_data(w->session, x->stream_id, NULL);
    nghttp2_submit_rst_stream(w->session, NGHTTP2_FLAG_NONE, x->stream_id, NGHTTP2_CANCEL);
}
