/* Borrowed bytes and owned, bounded buffers. */
#pragma once

#include "base/attrs.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Borrowed: whoever hands it out keeps it alive. Not NUL-terminated. {NULL, 0} is empty. */
struct bytes {
    const char *ptr;
    size_t len;
};

#define BYTES_EMPTY ((struct bytes){NULL, 0})
#define BYTES_LIT(s) ((struct bytes){(s), sizeof(s) - 1})

static inline struct bytes bytes_of(const void *ptr, size_t len) {
    return (struct bytes){(const char *)ptr, len};
}
static inline struct bytes bytes_str(const char *s) { /* NULL gives empty */
    return (struct bytes){s, s ? strlen(s) : 0};
}
static inline bool bytes_eq(struct bytes a, struct bytes b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool bytes_eq_str(struct bytes a, const char *s) {
    return bytes_eq(a, bytes_str(s));
}
bool bytes_starts_with(struct bytes a, const char *prefix);
bool bytes_ends_with(struct bytes a, const char *suffix);
char *bytes_dup(struct bytes b); /* a NUL-terminated copy; caller frees */

/* Owned, growing, and bounded: created with a maximum that it refuses to pass. Always NUL-terminated one past the end
 * once something was added, so ptr is usable as a C string. A zeroed struct buf is not valid: use buf_init. */
struct buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max;
    bool overflowed; /* an append was refused; sticky until buf_clear */
};

#define BUF_INIT(maximum) ((struct buf){.max = (maximum)})

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);  /* frees the memory; the struct can be used again */
void buf_clear(struct buf *b); /* length 0, memory kept */
/* Appends return 0, or -1 with ERR_TOO_LARGE when the maximum would be passed: then nothing was added, and overflowed
 * is set, so a chain of appends may be checked once at its end. */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_add_str(struct buf *b, const char *s);
int buf_add_bytes(struct buf *b, struct bytes s);
int buf_add_char(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for n more bytes at the end, NULL when over the maximum; the caller then sets len with buf_commit. */
char *buf_reserve(struct buf *b, size_t n) MUST_CHECK;
void buf_commit(struct buf *b, size_t n);
void buf_drop_front(struct buf *b, size_t n);
/* The content as an owned C string ("" rather than NULL); the buffer is empty afterwards. Length into *len if not NULL.
 */
char *buf_take(struct buf *b, size_t *len);
int buf_check(const struct buf *b, struct error *err, const char *what) MUST_CHECK; /* ERR_TOO_LARGE if overflowed */
/* Wipes before freeing: for keys and tokens. */
void buf_free_secret(struct buf *b);

static inline struct bytes buf_bytes(const struct buf *b) {
    return (struct bytes){b->ptr, b->len};
}
