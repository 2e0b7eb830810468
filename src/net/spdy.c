#include "net/spdy.h"

#include "base/mem.h"

#include <zlib.h>

enum {
    SYN_STREAM = 1,
    SYN_REPLY = 2,
    RST_STREAM = 3,
    PING = 6,
    GOAWAY = 7,
    FLAG_FIN = 1,
    HEAD = 8,
    CONTROL_KEPT = 8,        /* bytes of a control frame that anybody looks at */
    CONTROL_MAX = 256 << 10, /* Go's own peer never comes near */
};

/* Names and values that headers are likely to have, from the SPDY/3 draft: each with its length in front, then a text.
 */
static const char *const WORDS[] = {"options",
                                    "head",
                                    "post",
                                    "put",
                                    "delete",
                                    "trace",
                                    "accept",
                                    "accept-charset",
                                    "accept-encoding",
                                    "accept-language",
                                    "accept-ranges",
                                    "age",
                                    "allow",
                                    "authorization",
                                    "cache-control",
                                    "connection",
                                    "content-base",
                                    "content-encoding",
                                    "content-language",
                                    "content-length",
                                    "content-location",
                                    "content-md5",
                                    "content-range",
                                    "content-type",
                                    "date",
                                    "etag",
                                    "expect",
                                    "expires",
                                    "from",
                                    "host",
                                    "if-match",
                                    "if-modified-since",
                                    "if-none-match",
                                    "if-range",
                                    "if-unmodified-since",
                                    "last-modified",
                                    "location",
                                    "max-forwards",
                                    "pragma",
                                    "proxy-authenticate",
                                    "proxy-authorization",
                                    "range",
                                    "referer",
                                    "retry-after",
                                    "server",
                                    "te",
                                    "trailer",
                                    "transfer-encoding",
                                    "upgrade",
                                    "user-agent",
                                    "vary",
                                    "via",
                                    "warning",
                                    "www-authenticate",
                                    "method",
                                    "get",
                                    "status",
                                    "200 OK",
                                    "version",
                                    "HTTP/1.1",
                                    "url",
                                    "public",
                                    "set-cookie",
                                    "keep-alive",
                                    "origin"};
static const char TAIL[] =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, "
    "GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/"
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

struct spdy {
    z_stream deflate;
    unsigned char head[HEAD + CONTROL_KEPT];
    size_t head_len;
    uint32_t left; /* of the frame's body */
    bool in_data;
    uint32_t id;
    bool fin;
};

static void put_u32(struct buf *out, uint32_t v) {
    const char bytes[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    buf_add(out, bytes, sizeof(bytes));
}

static void put_text(struct buf *out, const char *text) {
    put_u32(out, (uint32_t)strlen(text));
    buf_add_str(out, text);
}

struct spdy *spdy_new(void) {
    struct spdy *s = NEW(struct spdy);
    _cleanup_(buf_free) struct buf dictionary = BUF_INIT(2048);
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        put_text(&dictionary, WORDS[i]);
    buf_add_str(&dictionary, TAIL);
    if (deflateInit2(&s->deflate, Z_BEST_COMPRESSION, Z_DEFLATED, 11, 4, Z_DEFAULT_STRATEGY) != Z_OK ||
        deflateSetDictionary(&s->deflate, (const Bytef *)dictionary.ptr, (uInt)dictionary.len) != Z_OK)
        panic("zlib does not start");
    return s;
}

void spdy_free(struct spdy *s) {
    if (!s)
        return;
    deflateEnd(&s->deflate);
    free(s);
}

/* ---- writing ---- */

static void put_head(struct buf *out, unsigned type, size_t len) {
    put_u32(out, 0x80030000u | type);
    put_u32(out, (uint32_t)len);
}

int spdy_open(struct spdy *s, uint32_t id, const char *name, const char *value, struct buf *out) {
    unsigned char packed[512];
    _cleanup_(buf_free) struct buf block = BUF_INIT(256);
    put_u32(&block, 1);
    put_text(&block, name);
    put_text(&block, value);
    s->deflate.next_in = (Bytef *)block.ptr;
    s->deflate.avail_in = (uInt)block.len;
    s->deflate.next_out = packed;
    s->deflate.avail_out = sizeof(packed);
    if (block.overflowed || deflate(&s->deflate, Z_SYNC_FLUSH) != Z_OK || s->deflate.avail_out == 0)
        return -1;
    size_t n = sizeof(packed) - s->deflate.avail_out;
    put_head(out, SYN_STREAM, 10 + n);
    put_u32(out, id);
    put_u32(out, 0);
    buf_add(out, "\0\0", 2);
    return buf_add(out, packed, n);
}

int spdy_data(uint32_t id, bool fin, struct bytes data, struct buf *out) {
    put_u32(out, id);
    put_u32(out, (uint32_t)data.len | (fin ? FLAG_FIN << 24 : 0));
    return buf_add_bytes(out, data);
}

int spdy_ping(uint32_t id, struct buf *out) {
    put_head(out, PING, 4);
    put_u32(out, id);
    return out->overflowed ? -1 : 0;
}

/* ---- reading ---- */

static uint32_t get_u32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool take_head(struct spdy *s, struct bytes *in, size_t wanted) {
    size_t n = wanted - s->head_len < in->len ? wanted - s->head_len : in->len;
    memcpy(s->head + s->head_len, in->ptr, n);
    s->head_len += n;
    *in = bytes_of(in->ptr + n, in->len - n);
    return s->head_len == wanted;
}

static struct spdy_event take_data(struct spdy *s, struct bytes *in) {
    size_t n = s->left < in->len ? s->left : in->len;
    struct spdy_event ev = {.kind = SPDY_DATA, .id = s->id, .data = bytes_of(in->ptr, n)};
    *in = bytes_of(in->ptr + n, in->len - n);
    s->left -= (uint32_t)n;
    s->in_data = s->left > 0;
    ev.fin = s->fin && s->left == 0;
    return ev;
}

static struct spdy_event control_event(const struct spdy *s) {
    struct spdy_event ev = {.kind = SPDY_MORE, .id = get_u32(s->head + HEAD) & 0x7fffffff};
    switch (get_u32(s->head) & 0xffff) {
    case SYN_REPLY:
        ev.kind = SPDY_REPLY;
        ev.fin = s->head[4] & FLAG_FIN;
        break;
    case RST_STREAM:
        ev.kind = SPDY_RESET;
        break;
    case PING:
        ev.kind = SPDY_PINGED;
        ev.id = get_u32(s->head + HEAD);
        break;
    case GOAWAY:
        ev.kind = SPDY_GOAWAY;
        break;
    default: /* settings, windows, headers: nothing that we need */
        break;
    }
    return ev;
}

/* A control frame whose head is there: its first four bytes, then the rest is passed over. */
static struct spdy_event take_control(struct spdy *s, struct bytes *in) {
    uint32_t len = get_u32(s->head + 4) & 0xffffff;
    if (s->head[0] != 0x80 || s->head[1] != 3 || len < 4 || len > CONTROL_MAX)
        return (struct spdy_event){.kind = SPDY_BAD};
    if (!take_head(s, in, HEAD + 4))
        return (struct spdy_event){.kind = SPDY_MORE};
    s->left = len - 4;
    s->head_len = 0;
    return control_event(s);
}

struct spdy_event spdy_read(struct spdy *s, struct bytes *in) {
    for (;;) {
        if (s->in_data && in->len > 0)
            return take_data(s, in);
        size_t skipped = !s->in_data && s->head_len == 0 && s->left < in->len ? s->left : in->len;
        if (!s->in_data && s->head_len == 0 && s->left > 0) {
            *in = bytes_of(in->ptr + skipped, in->len - skipped);
            s->left -= (uint32_t)skipped;
        }
        if (in->len == 0 || (s->head_len < HEAD && !take_head(s, in, HEAD)))
            return (struct spdy_event){.kind = SPDY_MORE};
        if (s->head[0] & 0x80) {
            struct spdy_event ev = take_control(s, in);
            if (ev.kind != SPDY_MORE || s->head_len > 0)
                return ev;
            continue;
        }
        s->id = get_u32(s->head);
        s->fin = s->head[4] & FLAG_FIN;
        s->left = get_u32(s->head + 4) & 0xffffff;
        s->head_len = 0;
        s->in_data = s->left > 0;
        if (!s->in_data)
            return (struct spdy_event){.kind = SPDY_DATA, .id = s->id, .fin = s->fin};
    }
}
