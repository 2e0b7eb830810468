#include "edge/edged/crash_backoff.h"

static bool quiet_long_enough(const struct crash_backoff *b, int64_t failed_ms) {
    return failed_ms - b->last_update_ms > 2 * CRASH_BACKOFF_MAX_MS;
}

int64_t crash_backoff_remaining(const struct crash_backoff *b, int64_t failed_ms, int64_t now_ms) {
    if (b->delay_ms == 0 || quiet_long_enough(b, failed_ms))
        return 0;
    int64_t left = failed_ms + b->delay_ms - now_ms;
    return left > 0 ? left : 0;
}

void crash_backoff_next(struct crash_backoff *b, int64_t failed_ms) {
    if (b->delay_ms == 0 || quiet_long_enough(b, failed_ms))
        b->delay_ms = CRASH_BACKOFF_FIRST_MS;
    else if (b->delay_ms < CRASH_BACKOFF_MAX_MS)
        b->delay_ms = b->delay_ms * 2 > CRASH_BACKOFF_MAX_MS ? CRASH_BACKOFF_MAX_MS : b->delay_ms * 2;
    b->last_update_ms = failed_ms;
}
