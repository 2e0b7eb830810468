#include "base/mem.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void panic(const char *fmt, ...) {
    char line[512];
    int n = snprintf(line, sizeof(line), "panic: ");
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (m > 0)
        n += m;
    if ((size_t)n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n) < 0) {
        /* nothing left to tell it to */
    }
    abort();
}

static void *check(void *p, size_t size) {
    if (!p)
        panic("out of memory allocating %zu bytes", size);
    return p;
}

void *xmalloc(size_t size) {
    return check(malloc(size ? size : 1), size);
}

void *xcalloc(size_t count, size_t size) {
    if (count == 0 || size == 0)
        count = size = 1;
    return check(calloc(count, size), size);
}

void *xrealloc(void *p, size_t size) {
    return check(realloc(p, size ? size : 1), size);
}

void *xreallocarray(void *p, size_t count, size_t size) {
    if (count == 0 || size == 0)
        count = size = 1;
    return check(reallocarray(p, count, size), size);
}

char *xstrdup(const char *s) {
    return xmemdup(s, strlen(s));
}

char *xstrdup_null(const char *s) {
    return s ? xstrdup(s) : NULL;
}

char *xstrndup(const char *s, size_t n) {
    return xmemdup(s, strnlen(s, n));
}

void *xmemdup(const void *p, size_t n) {
    if (n == SIZE_MAX)
        panic("out of memory allocating %zu bytes", n);
    char *copy = xmalloc(n + 1);
    if (n > 0)
        memcpy(copy, p, n);
    copy[n] = 0;
    return copy;
}

char *xvasprintf(const char *fmt, va_list ap) {
    char *s = NULL;
    if (vasprintf(&s, fmt, ap) < 0)
        panic("out of memory formatting text");
    return s;
}

char *xasprintf(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *s = xvasprintf(fmt, ap);
    va_end(ap);
    return s;
}

void close_fd_p(int *fd) {
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}
