#include "base/yaml_scalar.h"

#include "base/mem.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>

static bool one_of(struct bytes s, const char *const *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bytes_eq_str(s, words[i]))
            return true;
    return false;
}

/* Unsigned digits in base 2, 8, 10 or 16. */
static bool parse_base(struct bytes s, unsigned base, uint64_t *out) {
    uint64_t v = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                            : 99;
        if (d >= base || __builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    *out = v;
    return true;
}

static bool resolve_int(struct bytes s, int64_t *out) {
    bool minus = s.len > 0 && s.ptr[0] == '-';
    if (s.len > 0 && (minus || s.ptr[0] == '+')) {
        s.ptr++;
        s.len--;
    }
    unsigned base = 10, skip = 0;
    if (s.len > 2 && s.ptr[0] == '0' && (s.ptr[1] == 'x' || s.ptr[1] == 'o' || s.ptr[1] == 'b')) {
        base = s.ptr[1] == 'x' ? 16 : s.ptr[1] == 'o' ? 8 : 2;
        skip = 2;
    } else if (s.len > 1 && s.ptr[0] == '0') {
        base = 8;
        skip = 1;
    }
    uint64_t v;
    if (!parse_base((struct bytes){s.ptr + skip, s.len - skip}, base, &v) || v > (uint64_t)INT64_MAX + minus)
        return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* [-+]? (\.[0-9]+ | [0-9]+(\.[0-9]*)?) ([eE][-+]?[0-9]+)? */
static bool is_float(struct bytes s) {
    size_t i = 0, whole, fraction = 0;
    if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+'))
        i++;
    for (whole = i; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9';)
        i++;
    whole = i - whole;
    if (i < s.len && s.ptr[i] == '.') {
        for (i++; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
            fraction++;
    }
    if (whole + fraction == 0)
        return false;
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        i++;
        if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+'))
            i++;
        size_t exponent = i;
        while (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9')
            i++;
        if (i == exponent)
            return false;
    }
    return i == s.len;
}

struct yaml_scalar yaml_scalar_resolve(struct bytes s) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const yes[] = {"true", "True", "TRUE"}, *const no[] = {"false", "False", "FALSE"};
    struct yaml_scalar v = {.type = YAML_SCALAR_STRING};
    if (one_of(s, nulls, ARRAY_LEN(nulls))) {
        v.type = YAML_SCALAR_NULL;
    } else if (one_of(s, yes, ARRAY_LEN(yes)) || one_of(s, no, ARRAY_LEN(no))) {
        v.type = YAML_SCALAR_BOOL;
        v.boolean = one_of(s, yes, ARRAY_LEN(yes));
    } else if (resolve_int(s, &v.integer)) {
        v.type = YAML_SCALAR_INT;
    } else if (s.len < 64 && is_float(s)) {
        char text[64];
        memcpy(text, s.ptr, s.len);
        text[s.len] = 0;
        v.real = strtod(text, NULL);
        if (isfinite(v.real)) /* JSON has no other */
            v.type = YAML_SCALAR_FLOAT;
    }
    return v;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool yaml_scalar_plain(struct bytes s) {
    static const char *const words[] = {"y",  "Y",  "yes", "Yes", "YES", "n",   "N",   "no",
                                        "No", "NO", "on",  "On",  "ON",  "off", "Off", "OFF"};
    if (s.len == 0 || s.len > 200 || one_of(s, words, ARRAY_LEN(words)) ||
        yaml_scalar_resolve(s).type != YAML_SCALAR_STRING)
        return false;
    bool past_hex = false; /* dates, sexagesimals, and numbers with '_' have no such letter */
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool digit = c >= '0' && c <= '9', last = i + 1 == s.len;
        if (!is_letter(c) && !digit && (i == 0 || last || c != ' ') && (last || i == 0 || c != ':') && c != '/' &&
            c != '_' && (i == 0 || c != '-') && (i == 0 || c != '.') && (i == 0 || c != '+') && (i == 0 || c != '='))
            return false;
        if (c == ':' && s.ptr[i + 1] == ' ')
            return false;
        past_hex = past_hex || (c >= 'g' && c <= 'z' && c != 'o' && c != 'x') || (c >= 'G' && c <= 'Z');
    }
    return past_hex || is_letter(s.ptr[0]) || s.ptr[0] == '/';
}
