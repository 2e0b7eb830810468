/* base64, hexadecimal, percent encoding, query strings. */
#include "base/str.h"

#include "base/mem.h"

static const char base64_standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int encode_base64(struct bytes in, const char *alphabet, bool pad, struct buf *out) {
    if (in.len > SIZE_MAX / 2) {
        out->overflowed = true;
        return -1;
    }
    size_t n = in.len / 3 * 4, rest = in.len % 3;
    n += rest == 0 ? 0 : pad ? 4 : rest + 1;
    char *p = buf_reserve(out, n);
    if (!p)
        return -1;
    const unsigned char *s = (const unsigned char *)in.ptr;
    size_t i = 0;
    for (; i + 3 <= in.len; i += 3) {
        unsigned v = (unsigned)s[i] << 16 | (unsigned)s[i + 1] << 8 | s[i + 2];
        *p++ = alphabet[v >> 18];
        *p++ = alphabet[v >> 12 & 63];
        *p++ = alphabet[v >> 6 & 63];
        *p++ = alphabet[v & 63];
    }
    if (rest > 0) {
        unsigned v = (unsigned)s[i] << 16 | (rest == 2 ? (unsigned)s[i + 1] << 8 : 0);
        *p++ = alphabet[v >> 18];
        *p++ = alphabet[v >> 12 & 63];
        if (rest == 2)
            *p++ = alphabet[v >> 6 & 63];
        for (size_t k = rest; pad && k < 3; k++)
            *p++ = '=';
    }
    buf_commit(out, n);
    return 0;
}

static int base64_digit(char c, bool url) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    if (c == (url ? '_' : '/'))
        return 63;
    return -1;
}

/* Bits left over at the end must be zero, so that each text has one meaning and each value one text. */
static int decode_base64(struct bytes in, bool url, struct buf *out) {
    size_t before = out->len, digits = 0, padding = 0;
    unsigned v = 0;
    char *p = buf_reserve(out, in.len / 4 * 3 + 3);
    if (!p)
        return -1;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (!url && (c == '\n' || c == '\r'))
            continue;
        if (!url && c == '=') {
            padding++;
            continue;
        }
        int d = base64_digit(c, url);
        if (d < 0 || padding > 0)
            goto bad;
        v = (v << 6 | (unsigned)d) & 0xffffff;
        if (++digits % 4 == 0) {
            *p++ = (char)(v >> 16);
            *p++ = (char)(v >> 8);
            *p++ = (char)v;
        }
    }
    size_t rest = digits % 4;
    if (rest == 1 || padding > 2 || (!url && (digits + padding) % 4 != 0))
        goto bad;
    if (rest == 2 ? (v & 15) : rest == 3 ? (v & 3) : 0)
        goto bad;
    if (rest == 2) {
        *p++ = (char)(v >> 4);
    } else if (rest == 3) {
        *p++ = (char)(v >> 10);
        *p++ = (char)(v >> 2);
    }
    buf_commit(out, digits / 4 * 3 + (rest ? rest - 1 : 0));
    return 0;
bad:
    out->ptr[before] = 0;
    return -1;
}

int base64_encode(struct bytes in, struct buf *out) {
    return encode_base64(in, base64_standard, true, out);
}

int base64_decode(struct bytes in, struct buf *out) {
    return decode_base64(in, false, out);
}

int base64url_encode(struct bytes in, struct buf *out) {
    return encode_base64(in, base64_url, false, out);
}

int base64url_decode(struct bytes in, struct buf *out) {
    return decode_base64(in, true, out);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_encode(struct bytes in, struct buf *out) {
    static const char digits[] = "0123456789abcdef";
    if (in.len > SIZE_MAX / 2) {
        out->overflowed = true;
        return -1;
    }
    char *p = buf_reserve(out, in.len * 2);
    if (!p)
        return -1;
    for (size_t i = 0; i < in.len; i++) {
        *p++ = digits[(unsigned char)in.ptr[i] >> 4];
        *p++ = digits[(unsigned char)in.ptr[i] & 15];
    }
    buf_commit(out, in.len * 2);
    return 0;
}

int hex_decode(struct bytes in, struct buf *out) {
    if (in.len % 2)
        return -1;
    for (size_t i = 0; i < in.len; i++)
        if (hex_digit(in.ptr[i]) < 0)
            return -1;
    char *p = buf_reserve(out, in.len / 2);
    if (!p)
        return -1;
    for (size_t i = 0; i < in.len; i += 2)
        *p++ = (char)(hex_digit(in.ptr[i]) << 4 | hex_digit(in.ptr[i + 1]));
    buf_commit(out, in.len / 2);
    return 0;
}

int percent_decode(struct bytes in, bool plus_is_space, struct buf *out) {
    char *p = buf_reserve(out, in.len), *start = p;
    if (!p)
        return -1;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int high = in.len - i > 2 ? hex_digit(in.ptr[i + 1]) : -1;
            int low = in.len - i > 2 ? hex_digit(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                goto bad;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == 0)
            goto bad;
        *p++ = c;
    }
    buf_commit(out, (size_t)(p - start));
    return 0;
bad:
    *start = 0;
    return -1;
}

int percent_encode(struct bytes in, struct buf *out) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        bool plain = base64_digit(c, true) >= 0 || c == '.' || c == '~'; /* A-Z a-z 0-9 - _ */
        char escaped[3] = {'%', digits[(unsigned char)c >> 4], digits[(unsigned char)c & 15]};
        if (plain ? buf_add_char(out, c) < 0 : buf_add(out, escaped, sizeof(escaped)) < 0)
            return -1;
    }
    return 0;
}

bool query_get(struct bytes query, const char *name, struct buf *out) {
    _cleanup_(buf_free) struct buf key = BUF_INIT(query.len);
    struct bytes pair;
    bool more;
    do {
        more = bytes_cut(query, '&', &pair, &query);
        struct bytes raw_key, raw_value;
        bytes_cut(pair, '=', &raw_key, &raw_value);
        buf_clear(&key);
        if (percent_decode(raw_key, true, &key) == 0 && bytes_eq_str(buf_bytes(&key), name))
            return percent_decode(raw_value, true, out) == 0;
    } while (more);
    return false;
}
