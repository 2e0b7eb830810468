#include "net/http_parse.h"

#include "base/mem.h"
#include "base/str.h"

#include <strings.h>

enum { MAX_FIELDS = 256 };

void http_message_init(struct http_message *m, size_t max_head) {
    *m = (struct http_message){.text = BUF_INIT(max_head), .body = BUF_INIT(0), .llhttp_method = HTTP_NO_METHOD};
}

void http_message_free(struct http_message *m) {
    buf_free(&m->text);
    buf_free(&m->body);
    free(TAKE(m->fields));
}

static struct bytes field_value(const struct http_message *m, const struct http_field *f) {
    return bytes_trim(bytes_of(m->text.ptr + f->value, f->value_len));
}

static bool field_named(const struct http_message *m, const struct http_field *f, struct bytes name) {
    return f->name_len == name.len && strncasecmp(m->text.ptr + f->name, name.ptr, name.len) == 0;
}

struct bytes http_message_field(const struct http_message *m, const char *name, unsigned *count) {
    struct bytes first = BYTES_EMPTY, wanted = bytes_str(name);
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_fields; i++)
        if (field_named(m, &m->fields[i], wanted) && n++ == 0)
            first = field_value(m, &m->fields[i]);
    if (count)
        *count = n;
    return first;
}

struct bytes http_message_field_at(const struct http_message *m, unsigned i, struct bytes *value) {
    if (i >= m->n_fields)
        return BYTES_EMPTY;
    *value = field_value(m, &m->fields[i]);
    return bytes_of(m->text.ptr + m->fields[i].name, m->fields[i].name_len);
}

static bool has_token(struct bytes list, struct bytes token) {
    for (bool more = true; more;) {
        struct bytes item, rest;
        more = bytes_cut(list, ',', &item, &rest);
        item = bytes_trim(more ? item : list);
        if (item.len == token.len && strncasecmp(item.ptr, token.ptr, token.len) == 0)
            return true;
        list = rest;
    }
    return false;
}

bool http_message_has_token(const struct http_message *m, const char *name, const char *token) {
    struct bytes wanted = bytes_str(name);
    for (unsigned i = 0; i < m->n_fields; i++)
        if (field_named(m, &m->fields[i], wanted) && has_token(field_value(m, &m->fields[i]), bytes_str(token)))
            return true;
    return false;
}

/* ---- llhttp's callbacks ---- */

static int refuse(struct http_parser *p, int status, const char *reason) {
    p->status = status;
    p->reason = reason;
    return HPE_USER;
}

static struct http_parser *parser_of(llhttp_t *l) {
    return CONTAINER_OF(l, struct http_parser, llhttp);
}

static int too_large(struct http_parser *p) {
    return refuse(p, 431, "request header fields too large");
}

static int add_text(struct http_parser *p, const char *at, size_t n, uint32_t *len) {
    if (buf_add(&p->message->text, at, n) < 0)
        return too_large(p);
    *len += (uint32_t)n;
    return 0;
}

static int on_url(llhttp_t *l, const char *at, size_t n) {
    struct http_parser *p = parser_of(l);
    return add_text(p, at, n, &p->message->target_len);
}

static int new_field(struct http_parser *p) {
    struct http_message *m = p->message;
    if (m->n_fields == MAX_FIELDS)
        return too_large(p);
    if (m->n_fields == m->cap_fields) {
        m->cap_fields = m->cap_fields ? m->cap_fields * 2 : 16;
        m->fields = xreallocarray(m->fields, m->cap_fields, sizeof(m->fields[0]));
    }
    m->fields[m->n_fields++] = (struct http_field){.name = (uint32_t)m->text.len};
    p->in_value = false;
    return 0;
}

static int on_field(llhttp_t *l, const char *at, size_t n) {
    struct http_parser *p = parser_of(l);
    struct http_message *m = p->message;
    if (!p->in_head) /* a trailer: counted by http_parse, not kept */
        return 0;
    if ((m->n_fields == 0 || p->in_value) && new_field(p) != 0)
        return HPE_USER;
    return add_text(p, at, n, &m->fields[m->n_fields - 1].name_len);
}

static int on_field_complete(llhttp_t *l) {
    struct http_parser *p = parser_of(l);
    struct http_message *m = p->message;
    if (p->in_head && m->n_fields > 0)
        m->fields[m->n_fields - 1].value = (uint32_t)m->text.len;
    p->in_value = true;
    return 0;
}

static int on_value(llhttp_t *l, const char *at, size_t n) {
    struct http_parser *p = parser_of(l);
    struct http_message *m = p->message;
    if (!p->in_head || m->n_fields == 0)
        return 0;
    return add_text(p, at, n, &m->fields[m->n_fields - 1].value_len);
}

/* "/path?query", "http://host/path", or "*" for OPTIONS. */
static bool target_is_valid(const struct http_message *m) {
    struct bytes t = bytes_of(m->text.ptr, m->target_len);
    return bytes_starts_with(t, "/") || bytes_starts_with(t, "http://") || bytes_starts_with(t, "https://") ||
           (m->llhttp_method == HTTP_OPTIONS && bytes_eq_str(t, "*"));
}

static int check_length(struct http_parser *p, const llhttp_t *l) {
    struct http_message *m = p->message;
    unsigned lengths, codings;
    http_message_field(m, "Content-Length", &lengths);
    struct bytes coding = http_message_field(m, "Transfer-Encoding", &codings);
    if (lengths + codings > 1)
        return refuse(p, 400, "the length of the body is given twice");
    if (codings && m->minor == 0)
        return refuse(p, 400, "HTTP/1.0 has no transfer codings");
    if (codings && (coding.len != 7 || strncasecmp(coding.ptr, "chunked", 7) != 0))
        return refuse(p, 501, "the only transfer coding understood is chunked");
    m->chunked = codings > 0;
    m->content_length = lengths ? l->content_length : 0;
    return 0;
}

static int on_head(llhttp_t *l) {
    struct http_parser *p = parser_of(l);
    struct http_message *m = p->message;
    unsigned hosts, expectations;
    m->llhttp_method = llhttp_get_method(l);
    m->minor = llhttp_get_http_minor(l);
    if (llhttp_get_http_major(l) != 1)
        return refuse(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    http_message_field(m, "Host", &hosts);
    if (hosts > 1 || (hosts == 0 && m->minor > 0))
        return refuse(p, 400, "a request needs one Host header");
    if (m->llhttp_method == HTTP_CONNECT)
        return refuse(p, 405, "CONNECT is not offered");
    if (!target_is_valid(m))
        return refuse(p, 400, "the request's target is neither a path nor a URL");
    if (check_length(p, l) != 0)
        return HPE_USER;
    struct bytes expect = http_message_field(m, "Expect", &expectations);
    m->expects_continue = expectations && m->minor > 0;
    if (expectations && (expect.len != 12 || strncasecmp(expect.ptr, "100-continue", 12) != 0))
        return refuse(p, 417, "unknown expectation");
    p->in_head = false;
    return m->chunked || m->content_length > 0 ? HPE_PAUSED : 0;
}

static int on_body(llhttp_t *l, const char *at, size_t n) {
    struct http_parser *p = parser_of(l);
    return buf_add(&p->message->body, at, n) < 0 ? refuse(p, 413, "the request's body is too large") : 0;
}

static int on_complete(llhttp_t *l) {
    struct http_parser *p = parser_of(l);
    p->message->keep_alive = llhttp_should_keep_alive(l);
    p->message->upgrade = llhttp_get_upgrade(l);
    p->done = true;
    return HPE_PAUSED;
}

static int on_answer_head(llhttp_t *l) {
    struct http_parser *p = parser_of(l);
    p->message->status = llhttp_get_status_code(l);
    p->in_head = false;
    return HPE_PAUSED;
}

static const llhttp_settings_t request_settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static const llhttp_settings_t answer_settings = {
    .on_header_field = on_field,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_value,
    .on_headers_complete = on_answer_head,
};

void http_parser_init(struct http_parser *p, struct http_message *m, size_t max_head) {
    *p = (struct http_parser){.message = m, .max_head = max_head, .in_head = true};
    llhttp_init(&p->llhttp, HTTP_REQUEST, &request_settings);
}

void http_parser_init_answer(struct http_parser *p, struct http_message *m, size_t max_head) {
    *p = (struct http_parser){.message = m, .max_head = max_head, .in_head = true};
    llhttp_init(&p->llhttp, HTTP_RESPONSE, &answer_settings);
}

/* Everything that is neither kept nor body is counted, so that no line, chunk extension or trailer goes on for ever. */
static bool count_head(struct http_parser *p, size_t n, size_t body_before) {
    p->seen = p->message->body.len > body_before ? 0 : p->seen + n;
    return p->seen <= p->max_head;
}

size_t http_parse(struct http_parser *p, struct bytes in, enum http_event *ev) {
    bool was_in_head = p->in_head;
    size_t body_before = p->message->body.len;
    llhttp_errno_t e = llhttp_execute(&p->llhttp, in.ptr, in.len);
    size_t used = in.len;
    if (e != HPE_OK) {
        const char *at = llhttp_get_error_pos(&p->llhttp);
        used = at >= in.ptr && at <= in.ptr + in.len ? (size_t)(at - in.ptr) : in.len;
    }
    *ev = HTTP_EV_MORE;
    if (p->status == 0 && e != HPE_OK && e != HPE_PAUSED && e != HPE_PAUSED_UPGRADE)
        refuse(p, 400, str_or(llhttp_get_error_reason(&p->llhttp), "malformed"));
    else if (p->status == 0 && !count_head(p, used, body_before))
        too_large(p);
    p->done &= p->status == 0;
    if (p->status != 0)
        *ev = HTTP_EV_BAD;
    else if (p->done)
        *ev = HTTP_EV_DONE;
    else if (was_in_head && !p->in_head)
        *ev = HTTP_EV_HEAD;
    if (*ev == HTTP_EV_HEAD)
        llhttp_resume(&p->llhttp);
    return used;
}
