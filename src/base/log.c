#include "base/log.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int current_level = LOG_INFO;

void log_set_level(enum log_level level) {
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_level(void) {
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

/* A message that came from outside must not be able to forge a second line. */
static void blank_controls(char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            s[i] = ' ';
}

static void write_line(enum log_level level, const char *component, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void write_line(enum log_level level, const char *component, const char *fmt, va_list ap) {
    static const char *const names[] = {"error", "warn ", "info ", "debug"};
    int saved = errno;
    char line[2048];
    char stamp[RFC3339_SIZE];
    int64_t ms = clock_wall_ms();
    rfc3339_seconds(ms / 1000, stamp);
    stamp[strlen(stamp) - 1] = 0; /* the Z comes after the milliseconds */
    int head = snprintf(line, sizeof(line), "%s.%03dZ %s %s%s", stamp, (int)(ms % 1000), names[level],
                        component ? component : "", component ? ": " : "");
    if (head < 0 || (size_t)head >= sizeof(line) - 1)
        return;
    size_t n = (size_t)head;
    int body = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
    if (body > 0)
        n += (size_t)body;
    if (n > sizeof(line) - 2) {
        n = sizeof(line) - 2;
        memcpy(line + n - 3, "...", 3);
    }
    blank_controls(line + head, n - (size_t)head);
    line[n++] = '\n';
    ssize_t w;
    do
        w = write(STDERR_FILENO, line, n);
    while (w < 0 && errno == EINTR);
    errno = saved;
}

void log_write(enum log_level level, const char *component, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    write_line(level, component, fmt, ap);
    va_end(ap);
}

#define FIRST_INTERVAL_MS 60000

/* Whether this reason gets a line; if so it is remembered. */
static bool worth_telling(struct log_once *o, uint64_t reason) {
    int64_t now = clock_mono_ms();
    if (o->told && reason == o->last)
        return false;
    bool known = o->told >= LOG_ONCE_REASONS;
    for (unsigned i = 0; i < o->told && !known; i++)
        known = o->reasons[i] == reason;
    if (known) {
        if (now - o->told_at_ms < o->interval_ms)
            return false;
        o->interval_ms *= 2;
    } else {
        o->reasons[o->told++] = reason;
        o->interval_ms = FIRST_INTERVAL_MS;
    }
    o->last = reason;
    o->told_at_ms = now;
    return true;
}

void log_once_failed(struct log_once *o, const char *component, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (worth_telling(o, str_hash(text, strlen(text))) && LOG_WARN <= log_level())
        log_write(LOG_WARN, component, "%s", text);
}

void log_once_recovered(struct log_once *o, const char *component, const char *fmt, ...) {
    if (!o->told)
        return;
    *o = (struct log_once){0};
    if (LOG_INFO > log_level())
        return;
    va_list ap;
    va_start(ap, fmt);
    write_line(LOG_INFO, component, fmt, ap);
    va_end(ap);
}
