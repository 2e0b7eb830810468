/* Looking at a request, and answering it. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/http_server_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

const char *http_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Status";
}

/* ---- the request ---- */

enum http_method http_method(const struct http_request *r) {
    switch (r->message.llhttp_method) {
    case HTTP_GET:
        return HTTP_M_GET;
    case HTTP_HEAD:
        return HTTP_M_HEAD;
    case HTTP_POST:
        return HTTP_M_POST;
    case HTTP_PUT:
        return HTTP_M_PUT;
    case HTTP_PATCH:
        return HTTP_M_PATCH;
    case HTTP_DELETE:
        return HTTP_M_DELETE;
    case HTTP_OPTIONS:
        return HTTP_M_OPTIONS;
    default:
        return HTTP_M_OTHER;
    }
}

const char *http_method_name(const struct http_request *r) {
    if (r->message.llhttp_method == HTTP_NO_METHOD)
        return "-";
    return llhttp_method_name((llhttp_method_t)r->message.llhttp_method);
}

struct bytes http_target(const struct http_request *r) {
    return bytes_of(r->message.text.ptr, r->message.target_len);
}

/* What follows "http://host" in a target that is a whole URL, as proxies send it. */
static struct bytes origin_form(struct bytes t) {
    size_t scheme = bytes_starts_with(t, "http://") ? 7 : bytes_starts_with(t, "https://") ? 8 : 0;
    if (scheme == 0)
        return t;
    for (size_t i = scheme; i < t.len; i++)
        if (t.ptr[i] == '/')
            return bytes_of(t.ptr + i, t.len - i);
    return BYTES_LIT("/");
}

struct bytes http_path(const struct http_request *r) {
    struct bytes target = origin_form(http_target(r)), path;
    return bytes_cut(target, '?', &path, NULL) ? path : target;
}

struct bytes http_query(const struct http_request *r) {
    struct bytes query;
    return bytes_cut(http_target(r), '?', NULL, &query) ? query : BYTES_EMPTY;
}

struct bytes http_header(const struct http_request *r, const char *name, bool *found) {
    unsigned count;
    struct bytes value = http_message_field(&r->message, name, &count);
    if (found)
        *found = count > 0;
    return value;
}

struct bytes http_header_at(const struct http_request *r, unsigned i, struct bytes *value) {
    return http_message_field_at(&r->message, i, value);
}

struct bytes http_body(const struct http_request *r) {
    return buf_bytes(&r->message.body);
}

struct stream *http_stream(const struct http_request *r) {
    return r->conn->stream;
}

void *http_server_arg(const struct http_request *r) {
    return r->conn->server->options.arg;
}

void http_on_close(struct http_request *r, void (*fn)(void *arg), void *arg) {
    r->on_close = fn;
    r->on_close_arg = arg;
}

void http_on_drained(struct http_request *r, void (*fn)(void *arg), void *arg) {
    r->on_drained = fn;
    r->on_drained_arg = arg;
}

/* ---- the answer ---- */

void http_add_header(struct http_request *r, const char *name, const char *value) {
    if (strpbrk(name, "\r\n: ") || strpbrk(value, "\r\n"))
        panic("header %s of an HTTP answer has a line break in it", name);
    if (buf_addf(&r->extra, "%s: %s\r\n", name, value) < 0)
        panic("more than 32 KiB of headers in an HTTP answer");
}

static const char *date_header(void) {
    static _Thread_local struct {
        int64_t second;
        char text[48];
    } cached;
    int64_t now = clock_wall_s();
    if (cached.second != now) {
        time_t t = (time_t)now;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(cached.text, sizeof(cached.text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        cached.second = now;
    }
    return cached.text;
}

static void put(struct http_request *r, const char *text) {
    stream_write(r->conn->stream, text, strlen(text));
}

/* length < 0: not known. */
static void write_head(struct http_request *r, int status, const char *content_type, int64_t length) {
    char line[128];
    bool bodiless = status == 204 || status == 304;
    r->close_after |= !r->message.keep_alive || !r->conn->server->listener;
    r->no_body = bodiless || r->message.llhttp_method == HTTP_HEAD;
    r->chunked = length < 0 && !bodiless && r->message.minor > 0;
    r->close_after |= length < 0 && !bodiless && !r->chunked;
    snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
    put(r, line);
    put(r, date_header());
    if (content_type) {
        put(r, "Content-Type: ");
        put(r, content_type);
        put(r, "\r\n");
    }
    if (r->chunked) {
        put(r, "Transfer-Encoding: chunked\r\n");
    } else if (length >= 0 && !bodiless) {
        snprintf(line, sizeof(line), "Content-Length: %" PRId64 "\r\n", length);
        put(r, line);
    }
    if (r->close_after)
        put(r, "Connection: close\r\n");
    else if (r->message.minor == 0)
        put(r, "Connection: keep-alive\r\n");
    stream_write(r->conn->stream, r->extra.ptr, r->extra.len);
    put(r, "\r\n");
    buf_free(&r->extra);
}

static void must_be_unanswered(const struct http_request *r) {
    if (r->phase == HTTP_STREAMING)
        panic("an HTTP request is answered twice");
}

void http_respond(struct http_request *r, int status, const char *content_type, struct bytes body) {
    if (r->phase == HTTP_ENDED)
        return;
    must_be_unanswered(r);
    write_head(r, status, content_type, (int64_t)body.len);
    if (!r->no_body)
        stream_write(r->conn->stream, body.ptr, body.len);
    http_request_done(r);
}

void http_respondf(struct http_request *r, int status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *formatted = xvasprintf(fmt, ap);
    va_end(ap);
    http_respond(r, status, "text/plain; charset=utf-8", bytes_str(formatted));
}

void http_start(struct http_request *r, int status, const char *content_type, int64_t length) {
    if (r->phase == HTTP_ENDED)
        return;
    must_be_unanswered(r);
    write_head(r, status, content_type, length);
    r->phase = HTTP_STREAMING;
    r->remaining = length < 0 ? -1 : length;
}

int http_write(struct http_request *r, struct bytes data) {
    if (r->phase == HTTP_ENDED || r->no_body || data.len == 0)
        return 0;
    if (r->phase != HTTP_STREAMING || (r->remaining >= 0 && data.len > (uint64_t)r->remaining))
        panic("http_write without http_start, or of more than the length given there");
    struct stream *s = r->conn->stream;
    if (r->chunked) {
        char size[24];
        int n = snprintf(size, sizeof(size), "%zx\r\n", data.len);
        stream_write(s, size, (size_t)n);
    }
    int full = stream_write(s, data.ptr, data.len);
    if (r->chunked)
        full = stream_write(s, "\r\n", 2);
    if (r->remaining >= 0)
        r->remaining -= (int64_t)data.len;
    r->blocked = full;
    return full;
}

void http_end(struct http_request *r) {
    if (r->phase == HTTP_ENDED)
        return;
    if (r->phase != HTTP_STREAMING)
        panic("http_end without http_start");
    if (r->remaining > 0 && !r->no_body) {
        http_abort(r); /* shorter than promised: the peer must not take it for whole */
        return;
    }
    if (r->chunked && !r->no_body)
        stream_write(r->conn->stream, "0\r\n\r\n", 5);
    http_request_done(r);
}

void http_abort(struct http_request *r) {
    if (r->phase != HTTP_ENDED)
        http_conn_free(r->conn);
}

bool http_wants_upgrade(const struct http_request *r, const char *protocol) {
    return r->message.upgrade && http_message_has_token(&r->message, "Upgrade", protocol);
}

bool http_is_upgrade(const struct http_request *r) {
    return r->message.upgrade;
}

struct stream *http_take_stream(struct http_request *r) {
    struct http_conn *c = r->conn;
    if (r->phase != HTTP_HANDLING)
        panic("the stream of an HTTP request that is answered is taken");
    struct stream *s = TAKE(c->stream);
    stream_set_timeouts(s, 0, 0);
    http_conn_free(c);
    return s;
}

struct stream *http_upgrade(struct http_request *r, const char *protocol) {
    if (r->phase != HTTP_HANDLING || !http_wants_upgrade(r, protocol))
        return NULL;
    put(r, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: ");
    put(r, protocol);
    put(r, "\r\nConnection: Upgrade\r\n");
    stream_write(r->conn->stream, r->extra.ptr, r->extra.len);
    put(r, "\r\n");
    return http_take_stream(r);
}
