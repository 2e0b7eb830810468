/* Allocation and scope-bound clean-up.
 *
 * A failed small allocation aborts with a message (crash-only: state is on disk, the supervisor restarts us). Sizes
 * that come from outside are checked against a limit BEFORE they get here. */
#pragma once

#include "base/attrs.h"

#include <stdarg.h>
#include <stdlib.h>

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull)); /* overflow-checked */
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
void *xreallocarray(void *p, size_t count, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull)); /* s must not be NULL */
char *xstrdup_null(const char *s);                                     /* NULL gives NULL */
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
void *xmemdup(const void *p, size_t n) __attribute__((malloc, returns_nonnull)); /* adds a NUL after it */
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((malloc, returns_nonnull));
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0), malloc, returns_nonnull));

#define NEW(type) ((type *)xcalloc(1, sizeof(type)))

/* Writes a message to stderr and aborts: for broken invariants. */
NORETURN void panic(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* `_cleanup_(buf_free) struct buf b = ...;` calls buf_free(&b) at the end of the scope. */
#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* Moves ownership out of a variable: yields its value and leaves NULL behind. */
#define TAKE(p)                    \
    __extension__({                \
        __typeof__(p) take_ = (p); \
        (p) = NULL;                \
        take_;                     \
    })

/* Defines fn##_p(type **), for _cleanup_ on pointers: DEFINE_CLEANUP(struct thing, thing_free) gives thing_free_p. */
#define DEFINE_CLEANUP(type, fn)                 \
    static inline UNUSED void fn##_p(type **p) { \
        if (*p)                                  \
            fn(*p);                              \
        *p = NULL;                               \
    }

/* `_cleanup_(free_p) char *s = ...;` */
static inline void free_p(void *p) {
    free(*(void **)p);
}
/* `_cleanup_(close_fd_p) int fd = -1;` keeps errno. */
void close_fd_p(int *fd);
