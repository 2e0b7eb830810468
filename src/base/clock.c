#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

static int64_t now_ns(clockid_t id) {
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_mono_ns(void) {
    return now_ns(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void) {
    return now_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_wall_ms(void) {
    return now_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_wall_s(void) {
    return now_ns(CLOCK_REALTIME) / NS_PER_S;
}

/* Divides rounding down, so that times before 1970 keep a fraction that counts upwards. */
static int64_t floor_div(int64_t a, int64_t b, int64_t *rest) {
    int64_t q = a / b, r = a % b;
    if (r < 0) {
        r += b;
        q--;
    }
    *rest = r;
    return q;
}

/* The year must have four digits: anything else is shown as the nearest time that RFC 3339 can write. */
static char *format(int64_t seconds, int64_t fraction, int digits, char *buf) {
    const int64_t min = INT64_C(-62135596800), max = INT64_C(253402300799);
    seconds = seconds < min ? min : seconds > max ? max : seconds;
    struct tm tm;
    time_t t = (time_t)seconds;
    gmtime_r(&t, &tm);
    size_t n = strftime(buf, RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    if (tm.tm_year + 1900 < 1000) /* %Y does not pad */
        n = (size_t)snprintf(buf, RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (digits > 0)
        n += (size_t)snprintf(buf + n, RFC3339_SIZE - n, ".%0*lld", digits, (long long)fraction);
    snprintf(buf + n, RFC3339_SIZE - n, "Z");
    return buf;
}

char *rfc3339_seconds(int64_t unix_seconds, char *buf) {
    return format(unix_seconds, 0, 0, buf);
}

char *rfc3339_micro(int64_t unix_microseconds, char *buf) {
    int64_t rest, s = floor_div(unix_microseconds, 1000000, &rest);
    return format(s, rest, 6, buf);
}

char *rfc3339_nano(int64_t unix_nanoseconds, char *buf) {
    int64_t rest, s = floor_div(unix_nanoseconds, NS_PER_S, &rest);
    return format(s, rest, 9, buf);
}

char *rfc3339_now(char *buf) {
    return rfc3339_seconds(clock_wall_s(), buf);
}

char *rfc3339_micro_now(char *buf) {
    return rfc3339_micro(now_ns(CLOCK_REALTIME) / 1000, buf);
}

/* Exactly n digits, then (if sep is not 0) the separator. */
static bool take_number(struct bytes *s, size_t n, char sep, int *out) {
    if (s->len < n + (sep ? 1 : 0))
        return false;
    int v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        v = v * 10 + (s->ptr[i] - '0');
    }
    if (sep && s->ptr[n] != sep)
        return false;
    n += sep ? 1 : 0;
    s->ptr += n;
    s->len -= n;
    *out = v;
    return true;
}

static int days_in_month(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool take_fraction(struct bytes *s, int64_t *ns) {
    *ns = 0;
    if (s->len == 0 || s->ptr[0] != '.')
        return true;
    int64_t unit = NS_PER_S;
    size_t i = 1;
    for (; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++) {
        unit /= 10; /* 0 past nanoseconds: further digits are dropped */
        *ns += (s->ptr[i] - '0') * unit;
    }
    s->ptr += i;
    s->len -= i;
    return i > 1;
}

static bool take_offset(struct bytes *s, int64_t *seconds) {
    *seconds = 0;
    if (s->len == 1 && (s->ptr[0] == 'Z' || s->ptr[0] == 'z'))
        return true;
    if (s->len != 6 || (s->ptr[0] != '+' && s->ptr[0] != '-'))
        return false;
    bool minus = s->ptr[0] == '-';
    struct bytes rest = {s->ptr + 1, 5};
    int h, m;
    if (!take_number(&rest, 2, ':', &h) || !take_number(&rest, 2, 0, &m) || h > 23 || m > 59)
        return false;
    *seconds = (h * 3600 + m * 60) * (minus ? -1 : 1);
    return true;
}

int rfc3339_parse(struct bytes s, int64_t *unix_nanoseconds) {
    int year, month, day, hour, minute, second;
    if (!take_number(&s, 4, '-', &year) || !take_number(&s, 2, '-', &month) || !take_number(&s, 2, 0, &day))
        return -1;
    if (s.len == 0 || (s.ptr[0] != 'T' && s.ptr[0] != 't'))
        return -1;
    s.ptr++;
    s.len--;
    if (!take_number(&s, 2, ':', &hour) || !take_number(&s, 2, ':', &minute) || !take_number(&s, 2, 0, &second))
        return -1;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 60)
        return -1;
    int64_t ns, offset;
    if (!take_fraction(&s, &ns) || !take_offset(&s, &offset))
        return -1;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    int64_t t = (int64_t)timegm(&tm) - offset, total;
    if (__builtin_mul_overflow(t, NS_PER_S, &total) || __builtin_add_overflow(total, ns, &total))
        return -1; /* 64 bits of nanoseconds end in the years 1677 and 2262 */
    *unix_nanoseconds = total;
    return 0;
}
