#include "base/bytes.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

bool bytes_starts_with(struct bytes a, const char *prefix) {
    size_t n = strlen(prefix);
    return a.len >= n && (n == 0 || memcmp(a.ptr, prefix, n) == 0);
}

bool bytes_ends_with(struct bytes a, const char *suffix) {
    size_t n = strlen(suffix);
    return a.len >= n && (n == 0 || memcmp(a.ptr + a.len - n, suffix, n) == 0);
}

char *bytes_dup(struct bytes b) {
    return xmemdup(b.ptr, b.len);
}

void buf_init(struct buf *b, size_t max) {
    *b = BUF_INIT(max);
}

void buf_free(struct buf *b) {
    free(b->ptr);
    *b = BUF_INIT(b->max);
}

void buf_free_secret(struct buf *b) {
    if (b->ptr)
        explicit_bzero(b->ptr, b->cap);
    buf_free(b);
}

void buf_clear(struct buf *b) {
    b->len = 0;
    b->overflowed = false;
    if (b->ptr)
        b->ptr[0] = 0;
}

/* Room for n more bytes and the NUL. Grows by doubling, never far past the maximum. */
char *buf_reserve(struct buf *b, size_t n) {
    if (n > b->max || b->len > b->max - n) {
        b->overflowed = true;
        return NULL;
    }
    size_t need = b->len + n + 1;
    if (need > b->cap) {
        size_t cap = b->cap < 64 ? 64 : b->cap;
        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        if (cap > b->max && b->max + 1 >= need)
            cap = b->max + 1;
        b->ptr = xrealloc(b->ptr, cap);
        b->cap = cap;
    }
    return b->ptr + b->len;
}

void buf_commit(struct buf *b, size_t n) {
    if (n >= b->cap - b->len)
        panic("buf_commit of %zu bytes without room", n);
    b->len += n;
    b->ptr[b->len] = 0;
}

int buf_add(struct buf *b, const void *p, size_t n) {
    char *at = buf_reserve(b, n);
    if (!at)
        return -1;
    if (n > 0)
        memcpy(at, p, n);
    buf_commit(b, n);
    return 0;
}

int buf_add_str(struct buf *b, const char *s) {
    return s ? buf_add(b, s, strlen(s)) : 0;
}

int buf_add_bytes(struct buf *b, struct bytes s) {
    return buf_add(b, s.ptr, s.len);
}

int buf_add_char(struct buf *b, char c) {
    return buf_add(b, &c, 1);
}

int buf_addf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    int rc = -1;
    if (n >= 0 && (size_t)n < sizeof(small)) {
        rc = buf_add(b, small, (size_t)n);
    } else if (n >= 0) {
        char *at = buf_reserve(b, (size_t)n);
        if (at) {
            vsnprintf(at, (size_t)n + 1, fmt, again);
            buf_commit(b, (size_t)n);
            rc = 0;
        }
    } else {
        b->overflowed = true;
    }
    va_end(again);
    return rc;
}

void buf_drop_front(struct buf *b, size_t n) {
    if (n > b->len)
        panic("buf_drop_front of %zu bytes out of %zu", n, b->len);
    if (n == 0)
        return;
    memmove(b->ptr, b->ptr + n, b->len - n + 1);
    b->len -= n;
}

char *buf_take(struct buf *b, size_t *len) {
    if (len)
        *len = b->len;
    char *s = b->ptr ? b->ptr : xstrdup("");
    *b = BUF_INIT(b->max);
    return s;
}

int buf_check(const struct buf *b, struct error *err, const char *what) {
    if (b->overflowed)
        return error_set(err, ERR_TOO_LARGE, "%s is larger than the limit of %zu bytes", what, b->max);
    return 0;
}
