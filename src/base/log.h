/* Logging: one line per event to stderr,
 *
 *     2026-11-22T20:01:02.345Z info  cloudhub: node connected node=edge-1 addr=10.0.0.7
 *
 * A message in words, then key=value fields; values with blanks are quoted. An error says what to do next. Never log
 * keys, tokens, Secret data, or whole messages. Safe from any thread: a line is one write(2). */
#pragma once

#include "base/attrs.h"
#include "base/error.h"

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The component's name, put before the message: `#define LOG_COMPONENT "cloudhub"` before the first include. */
#ifndef LOG_COMPONENT
#define LOG_COMPONENT NULL
#endif

void log_set_level(enum log_level level); /* default LOG_INFO */
enum log_level log_level(void);
void log_write(enum log_level level, const char *component, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_at(level, ...)                                  \
    do {                                                    \
        if ((level) <= log_level())                         \
            log_write((level), LOG_COMPONENT, __VA_ARGS__); \
    } while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* Logs a condition once per change of state: a retry loop prints one line when it begins to fail, and one when it works
 * again. In between, the first few reasons are told as they come, each once; after that a reason that differs from the
 * last one told waits for an interval that doubles with each such line, from a minute on. So reasons that alternate
 * print twenty lines in a year, and what was told last is still what holds. Keep one struct log_once per condition. */
#define LOG_ONCE_REASONS 4
struct log_once {
    unsigned told;                      /* lines since it began to fail; 0: it does not */
    uint64_t reasons[LOG_ONCE_REASONS]; /* hashes of the first ones told */
    uint64_t last;
    int64_t told_at_ms, interval_ms;
};
void log_once_failed(struct log_once *o, const char *component, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Prints only if the condition had failed before. */
void log_once_recovered(struct log_once *o, const char *component, const char *fmt, ...) PRINTF_LIKE(3, 4);
