/* The kubelet's backoff for restarts and image pulls: 10 s doubling to 300 s, forgotten after 10 quiet minutes. Pure;
 * times are milliseconds of one clock. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CRASH_BACKOFF_FIRST_MS 10000
#define CRASH_BACKOFF_MAX_MS 300000

struct crash_backoff {
    int64_t delay_ms;       /* 0: no failure yet */
    int64_t last_update_ms; /* when delay_ms was set */
};

/* Milliseconds to wait before the next try, counted from a failure at failed_ms; 0: may be tried now. */
int64_t crash_backoff_remaining(const struct crash_backoff *b, int64_t failed_ms, int64_t now_ms);
/* Called when a try begins after a failure at failed_ms: the next failure waits longer. */
void crash_backoff_next(struct crash_backoff *b, int64_t failed_ms);
