/* Time. Durations and timers use the monotonic clock, in milliseconds (or nanoseconds where said so). The wall clock is
 * only for what is printed, stored for people, or signed. */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);
int64_t clock_wall_ms(void); /* milliseconds since the Unix epoch */
int64_t clock_wall_s(void);

#define RFC3339_SIZE 40
/* "2026-01-02T03:04:05Z" / with six digits of microseconds "2026-01-02T03:04:05.678901Z" (Kubernetes MicroTime) /
 * with nanoseconds (CRI logs). buf has RFC3339_SIZE bytes; returns buf. */
char *rfc3339_seconds(int64_t unix_seconds, char *buf);
char *rfc3339_micro(int64_t unix_microseconds, char *buf);
char *rfc3339_nano(int64_t unix_nanoseconds, char *buf);
char *rfc3339_now(char *buf);       /* seconds */
char *rfc3339_micro_now(char *buf); /* microseconds */
/* Accepts fractions and offsets. Result in nanoseconds since the epoch; -1 if it isn't RFC 3339. */
int rfc3339_parse(struct bytes s, int64_t *unix_nanoseconds) MUST_CHECK;
