/* The opening handshake, both sides (wire-protocol.md 1.3). */
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/ws_internal.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

enum { KEY_BYTES = 16, MAX_ANSWER_HEAD = 16 * 1024, MAX_REQUEST = 32 * 1024, DEFAULT_CONNECT_MS = 10 * 1000 };

static void accept_key(struct bytes key, struct buf *out) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    _cleanup_(buf_free) struct buf text = BUF_INIT(256);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (buf_add_bytes(&text, key) < 0 || buf_add_str(&text, guid) < 0 ||
        EVP_Digest(text.ptr, text.len, digest, &n, EVP_sha1(), NULL) != 1 ||
        base64_encode(bytes_of(digest, n), out) < 0)
        panic("cannot make a Sec-WebSocket-Accept");
}

/* ---- server ---- */

static struct ws *refuse(struct http_request *r, int status) {
    http_add_header(r, "Sec-Websocket-Version", "13");
    http_respondf(r, status, "%s\n", http_status_text(status));
    return NULL;
}

/* Browsers say where a script came from; nothing but our own pages may open a connection. */
static bool origin_is_foreign(const struct http_request *r) {
    bool found;
    struct bytes origin = http_header(r, "Origin", &found), host = http_header(r, "Host", NULL);
    if (!found)
        return false;
    for (size_t i = 0; i + 3 <= origin.len; i++) {
        if (memcmp(origin.ptr + i, "://", 3) != 0)
            continue;
        struct bytes from = bytes_of(origin.ptr + i + 3, origin.len - i - 3), authority;
        if (bytes_cut(from, '/', &authority, NULL))
            from = authority;
        return from.len != host.len || strncasecmp(from.ptr, host.ptr, host.len) != 0;
    }
    return true;
}

static bool key_is_valid(struct bytes key) {
    _cleanup_(buf_free) struct buf raw = BUF_INIT(64);
    return key.len == 24 && base64_decode(key, &raw) == 0 && raw.len == KEY_BYTES;
}

/* The first of the client's list that is ours too. */
static const char *choose_protocol(const struct http_request *r, const char *const *ours) {
    struct bytes list = http_header(r, "Sec-WebSocket-Protocol", NULL);
    for (bool more = true; ours && more;) {
        struct bytes item, rest;
        more = bytes_cut(list, ',', &item, &rest);
        item = bytes_trim(more ? item : list);
        for (const char *const *p = ours; *p; p++)
            if (bytes_eq_str(item, *p))
                return *p;
        list = rest;
    }
    return NULL;
}

struct ws *ws_accept(struct http_request *r, const char *const *protocols, const struct ws_options *o) {
    struct bytes key = http_header(r, "Sec-WebSocket-Key", NULL);
    if (!http_wants_upgrade(r, "websocket"))
        return refuse(r, 400);
    if (http_method(r) != HTTP_M_GET)
        return refuse(r, 405);
    if (!bytes_eq_str(http_header(r, "Sec-WebSocket-Version", NULL), "13"))
        return refuse(r, 400);
    if (origin_is_foreign(r))
        return refuse(r, 403);
    if (!key_is_valid(key))
        return refuse(r, 400);
    _cleanup_(buf_free) struct buf accept = BUF_INIT(64);
    accept_key(key, &accept);
    http_add_header(r, "Sec-WebSocket-Accept", accept.ptr);
    const char *protocol = choose_protocol(r, protocols);
    if (protocol)
        http_add_header(r, "Sec-WebSocket-Protocol", protocol);
    struct stream *s = http_upgrade(r, "websocket");
    if (!s)
        return refuse(r, 400);
    struct ws *w = ws_new(true, o);
    w->stream = s;
    w->protocol = xstrdup_null(protocol);
    ws_begin(w, o->ping_every_ms);
    stream_set_handlers(s, &ws_stream_handlers, w);
    return w;
}

/* ---- client ---- */

struct ws_opening {
    struct http_parser parser;
    struct http_message answer;
    struct buf request;
    char key[32];
    int timeout_ms, ping_ms;
};

struct ws_url {
    char host[256];
    uint16_t port;
    bool tls;
    struct bytes authority, path;
};

void ws_opening_free(struct ws_opening *o) {
    if (!o)
        return;
    http_message_free(&o->answer);
    buf_free_secret(&o->request); /* may hold a bearer token */
    free(o);
}

int ws_opening_ping_ms(const struct ws_opening *o) {
    return o->ping_ms;
}

static int split_authority(struct ws_url *u, struct error *err) {
    struct bytes host = u->authority, port = BYTES_EMPTY;
    if (bytes_starts_with(host, "[")) { /* an IPv6 address */
        struct bytes after;
        if (!bytes_cut(bytes_of(host.ptr + 1, host.len - 1), ']', &host, &after))
            return error_set(err, ERR_INVALID, "no ] after the address");
        if (after.len > 0 && after.ptr[0] != ':')
            return error_set(err, ERR_INVALID, "text between ] and the port");
        if (after.len > 0)
            port = bytes_of(after.ptr + 1, after.len - 1);
    } else {
        struct bytes name;
        if (bytes_cut(u->authority, ':', &name, &port))
            host = name;
    }
    uint64_t number = u->tls ? 443 : 80;
    if (host.len == 0 || host.len >= sizeof(u->host) || memchr(host.ptr, '@', host.len))
        return error_set(err, ERR_INVALID, "no host name in it");
    if (port.ptr && (parse_u64(port, UINT16_MAX, &number) < 0 || number == 0))
        return error_set(err, ERR_INVALID, "its port is not a number from 1 to 65535");
    memcpy(u->host, host.ptr, host.len);
    u->host[host.len] = '\0';
    u->port = (uint16_t)number;
    return 0;
}

static bool has_line_break_or_blank(struct bytes s) {
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] <= ' ' || s.ptr[i] == 0x7f)
            return true;
    return false;
}

static int parse_url(const char *url, struct ws_url *u, struct error *err) {
    struct bytes rest = bytes_str(url), after;
    memset(u, 0, sizeof(*u));
    u->tls = str_starts_with(url, "wss://");
    if (!u->tls && !str_starts_with(url, "ws://"))
        return error_set(err, ERR_INVALID, "it does not begin with wss:// or ws://");
    if (has_line_break_or_blank(rest))
        return error_set(err, ERR_INVALID, "there is a blank in it");
    size_t scheme = u->tls ? 6 : 5;
    rest = bytes_of(rest.ptr + scheme, rest.len - scheme);
    u->authority = rest;
    u->path = BYTES_LIT("/");
    if (bytes_cut(rest, '/', &u->authority, &after))
        u->path = bytes_of(after.ptr - 1, after.len + 1);
    else
        u->authority = rest;
    return split_authority(u, err);
}

static int write_request(struct ws_opening *o, const struct ws_url *u, const char *const *headers, struct error *err) {
    unsigned char raw[KEY_BYTES];
    _cleanup_(buf_free) struct buf key = BUF_INIT(64);
    random_bytes(raw, sizeof(raw));
    if (base64_encode(bytes_of(raw, sizeof(raw)), &key) < 0)
        panic("cannot make a Sec-WebSocket-Key");
    memcpy(o->key, key.ptr, key.len + 1);
    buf_addf(&o->request,
             "GET %.*s HTTP/1.1\r\nHost: %.*s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
             (int)u->path.len, u->path.ptr, (int)u->authority.len, u->authority.ptr, o->key);
    for (; headers && *headers; headers++) {
        if (strpbrk(*headers, "\r\n") || !strchr(*headers, ':'))
            return error_set(err, ERR_INVALID, "\"%s\" is no header line", *headers);
        buf_addf(&o->request, "%s\r\n", *headers);
    }
    buf_add_str(&o->request, "\r\n");
    return buf_check(&o->request, err, "WebSocket request");
}

static int connect_stream(struct ws *w, struct loop *l, const struct ws_url *u, struct tls_ctx *tls,
                          struct error *err) {
    if (u->tls && !tls)
        return error_set(err, ERR_INVALID, "wss:// needs a TLS context");
    struct stream_options so = {
        .handlers = &ws_stream_handlers,
        .arg = w,
        .connect_timeout_ms = w->opening->timeout_ms,
    };
    w->stream = stream_connect(l, u->host, u->port, u->tls ? tls : NULL, NULL, &so, err);
    return w->stream ? 0 : -1;
}

struct ws *ws_connect(struct loop *l, const char *url, struct tls_ctx *tls, const char *const *headers,
                      int connect_timeout_ms, const struct ws_options *o, struct error *err) {
    struct ws_url u;
    if (parse_url(url, &u, err) < 0) {
        error_wrap(err, "WebSocket URL \"%.200s\"", url);
        return NULL;
    }
    struct ws *w = ws_new(false, o);
    struct ws_opening *opening = w->opening = NEW(struct ws_opening);
    opening->timeout_ms = connect_timeout_ms > 0 ? connect_timeout_ms : DEFAULT_CONNECT_MS;
    opening->ping_ms = o->ping_every_ms;
    buf_init(&opening->request, MAX_REQUEST);
    http_message_init(&opening->answer, MAX_ANSWER_HEAD);
    http_parser_init_answer(&opening->parser, &opening->answer, MAX_ANSWER_HEAD);
    if (write_request(opening, &u, headers, err) == 0 && connect_stream(w, l, &u, tls, err) == 0)
        return w;
    error_wrap(err, "%.200s", url);
    ws_free(w);
    return NULL;
}

void ws_opening_send(struct ws *w) {
    stream_write(w->stream, w->opening->request.ptr, w->opening->request.len);
    stream_set_timeouts(w->stream, w->opening->timeout_ms, w->opening->timeout_ms);
}

static enum error_code status_code(int status) {
    if (status == 401 || status == 403)
        return ERR_DENIED;
    if (status == 404)
        return ERR_NOT_FOUND;
    return status == 429 || status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
}

/* Printable start of the body, for the log. */
static struct bytes first_words(struct bytes body) {
    size_t n = 0;
    while (n < body.len && n < 160 && (unsigned char)body.ptr[n] >= ' ')
        n++;
    return bytes_of(body.ptr, n);
}

static int check_answer(const struct ws_opening *o, struct bytes body, struct error *err) {
    const struct http_message *m = &o->answer;
    struct bytes words = first_words(body);
    unsigned accepts, extensions;
    if (m->status != 101)
        return error_set(err, status_code(m->status), "the server answered %d %s%s%.*s", m->status,
                         http_status_text(m->status), words.len ? ": " : "", (int)words.len,
                         words.len ? words.ptr : "");
    _cleanup_(buf_free) struct buf expected = BUF_INIT(64);
    accept_key(bytes_str(o->key), &expected);
    struct bytes accept = http_message_field(m, "Sec-WebSocket-Accept", &accepts);
    http_message_field(m, "Sec-WebSocket-Extensions", &extensions);
    if (!http_message_has_token(m, "Upgrade", "websocket") || !http_message_has_token(m, "Connection", "upgrade"))
        return error_set(err, ERR_INVALID, "the server switched to another protocol than WebSocket");
    if (accepts != 1 || !bytes_eq(accept, buf_bytes(&expected)))
        return error_set(err, ERR_INVALID, "the server's Sec-WebSocket-Accept is wrong: it did not see this request");
    if (extensions > 0)
        return error_set(err, ERR_INVALID, "the server chose an extension that was not offered");
    return 0;
}

bool ws_opening_data(struct ws *w, struct bytes *in) {
    struct ws_opening *o = w->opening;
    struct error err = ERROR_INIT;
    enum http_event ev;
    size_t used = http_parse(&o->parser, *in, &ev);
    *in = bytes_of(in->ptr + used, in->len - used);
    if (ev == HTTP_EV_MORE)
        return false;
    if (ev == HTTP_EV_BAD)
        error_set(&err, ERR_INVALID, "the server's answer is not HTTP: %s", o->parser.reason);
    else if (check_answer(o, *in, &err) == 0) {
        struct bytes protocol = http_message_field(&o->answer, "Sec-WebSocket-Protocol", NULL);
        w->protocol = protocol.len ? bytes_dup(protocol) : NULL;
        return true;
    }
    error_wrap(&err, "WebSocket handshake with %s", stream_peer_addr(w->stream));
    ws_over(w, 1006, &err);
    return false;
}
