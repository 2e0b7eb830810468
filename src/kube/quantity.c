#include "kube/quantity.h"

#define NANO ((__int128)1000000000)
#define QUANTITY_MAX (NANO * INT64_MAX)
#define QUANTITY_MAX_TEXT 128

enum form { FORM_DECIMAL, FORM_BINARY, FORM_EXPONENT };

static const struct {
    char suffix[3];
    int exponent;
} decimal_suffixes[] = {{"n", -9}, {"u", -6}, {"m", -3}, {"", 0},   {"k", 3},
                        {"M", 6},  {"G", 9},  {"T", 12}, {"P", 15}, {"E", 18}};
static const char binary_suffixes[][3] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};

/* What stands behind the digits: a factor of 2^shift or 10^exponent. */
static int parse_suffix(struct bytes s, enum form *form, unsigned *shift, int *exponent) {
    *shift = 0;
    *exponent = 0;
    *form = FORM_DECIMAL;
    for (size_t i = 0; i < ARRAY_LEN(decimal_suffixes); i++) {
        if (bytes_eq_str(s, decimal_suffixes[i].suffix)) {
            *exponent = decimal_suffixes[i].exponent;
            return 0;
        }
    }
    *form = FORM_BINARY;
    for (unsigned i = 1; i < ARRAY_LEN(binary_suffixes); i++) {
        if (bytes_eq_str(s, binary_suffixes[i])) {
            *shift = i * 10;
            return 0;
        }
    }
    *form = FORM_EXPONENT;
    if (s.len < 2 || (s.ptr[0] != 'e' && s.ptr[0] != 'E'))
        return -1;
    bool negative = s.ptr[1] == '-';
    size_t i = s.ptr[1] == '-' || s.ptr[1] == '+' ? 2 : 1;
    if (i == s.len || s.len - i > 3)
        return -1;
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return -1;
        *exponent = *exponent * 10 + (s.ptr[i] - '0');
    }
    if (negative)
        *exponent = -*exponent;
    return 0;
}

/* value x 10^exponent, rounded away from zero, at most QUANTITY_MAX. value is not negative. */
static __int128 scale10(__int128 value, int exponent) {
    for (; exponent > 0 && value < QUANTITY_MAX; exponent--)
        value *= 10;
    bool rest = false;
    for (; exponent < 0 && value > 0; exponent++) {
        rest = rest || value % 10 != 0;
        value /= 10;
    }
    value += rest;
    return value > QUANTITY_MAX ? QUANTITY_MAX : value;
}

static int parse_form(struct bytes text, struct quantity *out, enum form *form, struct error *err) {
    size_t i = 0, digits = 0;
    int exponent, fraction = 0;
    unsigned shift;
    bool negative = text.len > 0 && text.ptr[0] == '-', point = false, beyond = false, rest = false;
    __int128 mantissa = 0;
    if (text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+'))
        i = 1;
    for (; i < text.len && text.len <= QUANTITY_MAX_TEXT; i++) {
        char c = text.ptr[i];
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        digits++;
        if (mantissa < QUANTITY_MAX / 10) { /* the mantissa holds 27 digits */
            mantissa = mantissa * 10 + (c - '0');
            fraction += point;
        } else { /* of what follows only the magnitude counts */
            beyond = beyond || !point;
            rest = rest || c != '0';
        }
    }
    struct bytes suffix = i < text.len ? bytes_of(text.ptr + i, text.len - i) : BYTES_EMPTY;
    if (digits == 0 || text.len > QUANTITY_MAX_TEXT || parse_suffix(suffix, form, &shift, &exponent) < 0)
        return error_set(err, ERR_INVALID, "\"%.*s\" is not a quantity (such as 100m, 1.5 or 64Mi)",
                         (int)(text.len < 60 ? text.len : 60), text.ptr ? text.ptr : "");
    __int128 value;
    if (beyond) {
        value = QUANTITY_MAX;
    } else {
        /* Before the shift the value is at most 2^63 x 10^9, so under 2^93: 35 bits are free. Larger shifts saturate
         * unless the value is small. */
        value = scale10(mantissa + (rest ? 1 : 0), 9 - fraction + exponent);
        value = shift > 0 && value > (QUANTITY_MAX >> shift) ? QUANTITY_MAX : value << shift;
    }
    out->nano = negative ? -value : value;
    return 0;
}

int quantity_parse(struct bytes text, struct quantity *out, struct error *err) {
    enum form form;
    return parse_form(text, out, &form, err);
}

static int64_t divide_up(__int128 nano, int64_t unit) {
    __int128 whole = nano / unit;
    if (nano % unit > 0)
        whole++;
    else if (nano % unit < 0) /* away from zero */
        whole--;
    return whole > INT64_MAX ? INT64_MAX : whole < -(__int128)INT64_MAX ? -INT64_MAX : (int64_t)whole;
}

int64_t quantity_value(struct quantity q) {
    return divide_up(q.nano, 1000000000);
}

int64_t quantity_milli(struct quantity q) {
    return divide_up(q.nano, 1000000);
}

int quantity_cmp(struct quantity a, struct quantity b) {
    return (a.nano > b.nano) - (a.nano < b.nano);
}

static struct quantity clamp(__int128 nano) {
    return (struct quantity){nano > QUANTITY_MAX ? QUANTITY_MAX : nano < -QUANTITY_MAX ? -QUANTITY_MAX : nano};
}

struct quantity quantity_add(struct quantity a, struct quantity b) {
    return clamp(a.nano + b.nano);
}

struct quantity quantity_sub(struct quantity a, struct quantity b) {
    return clamp(a.nano - b.nano);
}

static int format_binary(__int128 nano, struct buf *out) {
    int64_t value = divide_up(nano, 1000000000);
    size_t i = 0;
    for (; value % 1024 == 0 && i + 1 < ARRAY_LEN(binary_suffixes); i++)
        value /= 1024;
    return buf_addf(out, "%lld%s", (long long)value, binary_suffixes[i]);
}

static int format_decimal(__int128 nano, bool exponent_form, struct buf *out) {
    size_t i = 0; /* nano */
    while (nano % 1000 == 0 && i + 1 < ARRAY_LEN(decimal_suffixes)) {
        nano /= 1000;
        i++;
    }
    char digits[48], *p = digits + sizeof digits;
    bool negative = nano < 0;
    unsigned __int128 rest = (unsigned __int128)(negative ? -nano : nano);
    *--p = '\0';
    do {
        *--p = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest > 0);
    if (negative)
        *--p = '-';
    if (exponent_form && decimal_suffixes[i].exponent != 0)
        return buf_addf(out, "%se%d", p, decimal_suffixes[i].exponent);
    return buf_addf(out, "%s%s", p, decimal_suffixes[i].suffix);
}

static int format(struct quantity q, enum form form, struct buf *out) {
    if (q.nano == 0)
        return buf_add_char(out, '0');
    /* As Kubernetes: small values have no binary form, nor have fractions. */
    if (form == FORM_BINARY && (q.nano <= -1024 * NANO || q.nano >= 1024 * NANO))
        return format_binary(q.nano, out);
    return format_decimal(q.nano, form == FORM_EXPONENT, out);
}

int quantity_format(struct quantity q, bool binary, struct buf *out) {
    return format(q, binary ? FORM_BINARY : FORM_DECIMAL, out);
}

int quantity_canonical(struct bytes text, struct buf *out, struct error *err) {
    struct quantity q;
    enum form form;
    if (parse_form(text, &q, &form, err) < 0)
        return -1;
    if (format(q, form, out) < 0)
        return error_set(err, ERR_TOO_LARGE, "quantity is too long");
    return 0;
}
