#include "base/str.h"

#include "base/mem.h"

#include <stdlib.h>

bool str_starts_with(const char *s, const char *prefix) {
    return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends_with(const char *s, const char *suffix) {
    return s && bytes_ends_with(bytes_str(s), suffix);
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool str_case_eq(const char *a, const char *b) {
    if (!a || !b)
        return a == b;
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

uint64_t str_hash(const void *p, size_t n) {
    const unsigned char *at = p;
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < n; i++)
        h = (h ^ at[i]) * UINT64_C(1099511628211);
    return h;
}

int parse_u64(struct bytes s, uint64_t max, uint64_t *out) {
    if (s.len == 0)
        return -1;
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return -1;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s.ptr[i] - '0'), &v))
            return -1;
    }
    if (v > max)
        return -1;
    *out = v;
    return 0;
}

int parse_i64(struct bytes s, int64_t min, int64_t max, int64_t *out) {
    bool minus = s.len > 0 && s.ptr[0] == '-';
    if (minus) {
        s.ptr++;
        s.len--;
    }
    uint64_t magnitude;
    if (parse_u64(s, minus ? (uint64_t)INT64_MAX + 1 : INT64_MAX, &magnitude) < 0)
        return -1;
    int64_t v = minus ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    if (v < min || v > max)
        return -1;
    *out = v;
    return 0;
}

int parse_bool(struct bytes s, bool *out) {
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (bytes_eq_str(s, yes[i]) || bytes_eq_str(s, no[i])) {
            *out = bytes_eq_str(s, yes[i]);
            return 0;
        }
    }
    return -1;
}

/* Takes the unit off the front of s: its length in nanoseconds, or 0. */
static int64_t take_unit(struct bytes *s) {
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {
        {"ns", 1},
        {"us", 1000},
        {"\xc2\xb5s", 1000}, /* both of Unicode's micro signs */
        {"\xce\xbcs", 1000},
        {"ms", 1000000},
        {"s", INT64_C(1000000000)},
        {"m", INT64_C(60000000000)},
        {"h", INT64_C(3600000000000)},
    };
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (!bytes_starts_with(*s, units[i].name))
            continue;
        size_t n = strlen(units[i].name);
        s->ptr += n;
        s->len -= n;
        return units[i].ns;
    }
    return 0;
}

static size_t count_digits(struct bytes s, size_t from) {
    size_t i = from;
    while (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9')
        i++;
    return i - from;
}

/* One "<number><unit>" off the front of s. The fraction is worked out digit by digit, exact to the nanosecond. */
static int take_duration_part(struct bytes *s, int64_t *ns) {
    size_t whole = count_digits(*s, 0), fraction = 0, used = whole;
    if (used < s->len && s->ptr[used] == '.') {
        fraction = count_digits(*s, used + 1);
        used += 1 + fraction;
    }
    int64_t value = 0;
    if (whole + fraction == 0 || (whole > 0 && parse_i64((struct bytes){s->ptr, whole}, 0, INT64_MAX, &value) < 0))
        return -1;
    const char *digits = s->ptr + whole + 1;
    s->ptr += used;
    s->len -= used;
    int64_t unit = take_unit(s);
    if (unit == 0 || __builtin_mul_overflow(value, unit, &value))
        return -1;
    double weight = (double)unit, part = 0;
    for (size_t i = 0; i < fraction && i < 18; i++) {
        weight /= 10;
        part += (digits[i] - '0') * weight;
    }
    return __builtin_add_overflow(value, (int64_t)(part + 1e-6), ns) ? -1 : 0;
}

int parse_duration(struct bytes s, int64_t *nanoseconds) {
    bool minus = s.len > 0 && s.ptr[0] == '-';
    if (s.len > 0 && (minus || s.ptr[0] == '+')) {
        s.ptr++;
        s.len--;
    }
    if (s.len == 0)
        return -1;
    int64_t total = 0;
    if (bytes_eq_str(s, "0"))
        s.len = 0;
    while (s.len > 0) {
        int64_t part;
        if (take_duration_part(&s, &part) < 0 || __builtin_add_overflow(total, part, &total))
            return -1;
    }
    *nanoseconds = minus ? -total : total;
    return 0;
}

size_t bytes_split(struct bytes s, char sep, struct bytes *parts, size_t max) {
    size_t n = 0;
    struct bytes part, rest = s;
    bool more;
    do {
        more = bytes_cut(rest, sep, &part, &rest);
        if (n < max)
            parts[n] = part;
        n++;
    } while (more);
    return n;
}

bool bytes_cut(struct bytes s, char sep, struct bytes *before, struct bytes *after) {
    const char *at = s.len ? memchr(s.ptr, sep, s.len) : NULL;
    size_t n = at ? (size_t)(at - s.ptr) : s.len;
    if (before)
        *before = (struct bytes){s.ptr, n};
    if (after)
        *after = at ? (struct bytes){at + 1, s.len - n - 1} : BYTES_EMPTY;
    return at != NULL;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct bytes bytes_trim(struct bytes s) {
    while (s.len > 0 && is_space(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

void strlist_add_take(struct strlist *l, char *s) {
    if (l->count == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 8;
        l->items = xreallocarray(l->items, l->cap, sizeof(*l->items));
    }
    l->items[l->count++] = s;
}

void strlist_add(struct strlist *l, const char *s) {
    strlist_add_take(l, xstrdup(s));
}

bool strlist_has(const struct strlist *l, const char *s) {
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i], s) == 0)
            return true;
    return false;
}

bool strlist_remove(struct strlist *l, const char *s) {
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->items[i], s) != 0)
            continue;
        free(l->items[i]);
        l->count--;
        memmove(l->items + i, l->items + i + 1, (l->count - i) * sizeof(*l->items));
        return true;
    }
    return false;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strlist_sort(struct strlist *l) {
    if (l->count > 1)
        qsort(l->items, l->count, sizeof(*l->items), compare);
}

void strlist_free(struct strlist *l) {
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct strlist){0};
}
