#include "mapper/modbus/point.h"

#include "base/attrs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- settings ---- */

static int parse_register(const struct mapper_settings *s, enum point_register *out, struct error *err) {
    static const char *const names[] = {[POINT_COIL] = "CoilRegister",
                                        [POINT_DISCRETE_INPUT] = "DiscreteInputRegister",
                                        [POINT_INPUT] = "InputRegister",
                                        [POINT_HOLDING] = "HoldingRegister"};
    const char *name = mapper_setting(s, "register");
    for (size_t i = 0; name && i < ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0) {
            *out = (enum point_register)i;
            return 0;
        }
    }
    return mapper_error(err,
                        "register is \"%.64s\": it must be CoilRegister, DiscreteInputRegister, InputRegister or "
                        "HoldingRegister",
                        name ? name : "");
}

static bool is(const char *text, const char *a, const char *b) {
    return strcasecmp(text, a) == 0 || strcasecmp(text, b) == 0;
}

/* One register of a float is a scaled whole number, as meters have it; two or four are IEEE. */
static int parse_form(const struct mapper_settings *s, enum mapper_type type, struct point *p, struct error *err) {
    static const char *const defaults[] = {"int", "float", "double", "string", "bool", "string", "string"};
    const char *data_type = mapper_setting(s, "dataType");
    if (!data_type)
        data_type = defaults[type];
    bool fraction = is(data_type, "float", "double");
    if (point_is_bit(p))
        p->form = POINT_BIT;
    else if (is(data_type, "bool", "boolean"))
        p->form = POINT_BIT;
    else if (is(data_type, "string", "bytes"))
        p->form = POINT_TEXT;
    else if (is(data_type, "int", "integer") || (fraction && p->count == 1))
        p->form = POINT_INTEGER;
    else if (fraction)
        p->form = POINT_IEEE;
    else
        return mapper_error(err, "dataType is \"%.32s\": it must be int, float, double, string, bytes or bool",
                            data_type);
    if ((p->form == POINT_INTEGER && p->count != 1 && p->count != 2 && p->count != 4) ||
        (p->form == POINT_IEEE && p->count != 2 && p->count != 4))
        return mapper_error(err, "limit is %d: a value of type %s has 1, 2 or 4 registers", p->count, data_type);
    return 0;
}

int point_parse(const struct mapper_settings *s, enum mapper_type type, struct point *out, struct error *err) {
    int64_t offset, limit;
    *out = (struct point){.scale = 1};
    if (parse_register(s, &out->where, err) < 0)
        return -1;
    if (!mapper_setting(s, "offset"))
        return mapper_error(err, "offset is missing: it is the zero-based address");
    if (mapper_setting_int(s, "offset", 0, 65535, 0, &offset, err) < 0 ||
        mapper_setting_int(s, "limit", 1, POINT_WORDS_MAX, 1, &limit, err) < 0 ||
        mapper_setting_double(s, "scale", 1, &out->scale, err) < 0 ||
        mapper_setting_bool(s, "isSwap", false, &out->swap_bytes, err) < 0 ||
        mapper_setting_bool(s, "isRegisterSwap", false, &out->swap_registers, err) < 0 ||
        mapper_setting_bool(s, "isSigned", false, &out->is_signed, err) < 0)
        return -1;
    if (out->scale == 0)
        out->scale = 1;
    if (offset + limit > 65536)
        return mapper_error(err, "offset %d and limit %d together pass the last register", (int)offset, (int)limit);
    out->offset = (int)offset;
    out->count = point_is_bit(out) ? 1 : (int)limit;
    return parse_form(s, type, out, err);
}

/* ---- registers ---- */

static uint16_t swapped(uint16_t w) {
    return (uint16_t)(w << 8 | w >> 8);
}

/* Big-endian order of both, after the swaps; the same both ways. */
static void reorder(const struct point *p, const uint16_t *in, uint16_t *out) {
    for (int i = 0; i < p->count; i++) {
        uint16_t w = in[p->swap_registers ? p->count - 1 - i : i];
        out[i] = p->swap_bytes ? swapped(w) : w;
    }
}

static const char *from_number(double v, struct mapper_value *out) {
    if (!isfinite(v))
        return "the registers hold no number";
    switch (out->type) {
    case MAPPER_INT:
        if (fabs(v) >= 9.2e18)
            return "the number is too large for an INT";
        out->i = (int64_t)v;
        return NULL;
    case MAPPER_FLOAT:
    case MAPPER_DOUBLE:
        /* 615 x 0.1 is meant to be 61.5 */
        out->d = fabs(v) < 1e9 ? round(v * 1e6) / 1e6 : v;
        return NULL;
    case MAPPER_BOOLEAN:
        out->b = v != 0;
        return NULL;
    default:
        (void)snprintf(out->text, sizeof out->text, "%.15g", v);
        return NULL;
    }
}

static const char *decode_integer(const struct point *p, const uint16_t *w, struct mapper_value *out) {
    uint64_t raw = 0;
    int bits = p->count * 16;
    for (int i = 0; i < p->count; i++)
        raw = raw << 16 | w[i];
    bool negative = p->is_signed && bits < 64 && (raw >> (bits - 1) & 1);
    if (negative)
        raw |= UINT64_MAX << bits;
    bool as_signed = p->is_signed;
    if (out->type == MAPPER_INT && p->scale == 1) { /* exact */
        if (!as_signed && raw > INT64_MAX)
            return "the number is too large for an INT";
        out->i = (int64_t)raw;
        return NULL;
    }
    return from_number((as_signed ? (double)(int64_t)raw : (double)raw) * p->scale, out);
}

static const char *decode_ieee(const struct point *p, const uint16_t *w, struct mapper_value *out) {
    uint64_t raw = 0;
    float f;
    double d;
    for (int i = 0; i < p->count; i++)
        raw = raw << 16 | w[i];
    if (p->count == 2) {
        uint32_t low = (uint32_t)raw;
        memcpy(&f, &low, sizeof f);
        d = (double)f;
    } else {
        memcpy(&d, &raw, sizeof d);
    }
    if (out->type == MAPPER_FLOAT || out->type == MAPPER_DOUBLE) {
        out->d = d * p->scale; /* as it is: no rounding of what has its own precision */
        return isfinite(out->d) ? NULL : "the registers hold no number";
    }
    return from_number(d * p->scale, out);
}

const char *point_decode(const struct point *p, const uint16_t *words, struct mapper_value *out) {
    uint16_t w[POINT_WORDS_MAX];
    size_t n = 0;
    reorder(p, words, w);
    switch (p->form) {
    case POINT_INTEGER:
        return decode_integer(p, w, out);
    case POINT_IEEE:
        return decode_ieee(p, w, out);
    case POINT_BIT:
        return from_number(w[0] != 0, out);
    case POINT_TEXT:
        break;
    }
    if (out->type != MAPPER_STRING && out->type != MAPPER_BYTES)
        return "dataType is a text, but the model's type is not";
    for (int i = 0; i < p->count * 2; i++) {
        unsigned char c = (unsigned char)(i % 2 ? w[i / 2] & 0xff : w[i / 2] >> 8);
        if (c == 0)
            break;
        out->text[n++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    out->text[n] = 0;
    return NULL;
}

const char *point_decode_bit(const struct point *p, const uint8_t *bits, struct mapper_value *out) {
    return from_number(bits[0] != 0, out);
}

/* ---- writing ---- */

static int to_number(const struct mapper_value *v, double *out, struct error *err) {
    char *end = NULL;
    switch (v->type) {
    case MAPPER_INT:
        *out = (double)v->i;
        return 0;
    case MAPPER_FLOAT:
    case MAPPER_DOUBLE:
        *out = v->d;
        return 0;
    case MAPPER_BOOLEAN:
        *out = v->b;
        return 0;
    default:
        *out = strtod(v->text, &end);
        return *v->text && !*end && isfinite(*out) ? 0 : mapper_error(err, "\"%.32s\" is no number", v->text);
    }
}

static int encode_integer(const struct point *p, double n, uint64_t *raw, struct error *err) {
    int bits = p->count * 16;
    double most = ldexp(1, p->is_signed ? bits - 1 : bits), least = p->is_signed ? -most : 0;
    n = round(n / p->scale);
    if (!(n >= least && n < most))
        return mapper_error(err, "the value does not fit into %d register%s", p->count, p->count == 1 ? "" : "s");
    *raw = n < 0 ? (uint64_t)(int64_t)n : (uint64_t)n;
    return 0;
}

int point_encode(const struct point *p, const struct mapper_value *v, uint16_t *words, struct error *err) {
    uint16_t w[POINT_WORDS_MAX] = {0};
    uint64_t raw = 0;
    double n;
    if (p->form == POINT_TEXT) {
        size_t len = strlen(v->text);
        if (len > (size_t)p->count * 2)
            return mapper_error(err, "a text of %zu bytes does not fit into %d registers", len, p->count);
        for (size_t i = 0; i < len; i++)
            w[i / 2] = (uint16_t)(w[i / 2] | (unsigned char)v->text[i] << (i % 2 ? 0 : 8));
        reorder(p, w, words);
        return 0;
    }
    if (to_number(v, &n, err) < 0)
        return -1;
    if (p->form == POINT_IEEE && p->count == 2) {
        float f = (float)(n / p->scale);
        uint32_t low;
        memcpy(&low, &f, sizeof low);
        raw = low;
    } else if (p->form == POINT_IEEE) {
        n /= p->scale;
        memcpy(&raw, &n, sizeof raw);
    } else if (encode_integer(p, n, &raw, err) < 0) {
        return -1;
    }
    for (int i = p->count - 1; i >= 0 && i >= p->count - 4; i--, raw >>= 16)
        w[i] = (uint16_t)raw;
    reorder(p, w, words);
    return 0;
}

int point_encode_bit(const struct mapper_value *v, bool *on, struct error *err) {
    double n;
    if (to_number(v, &n, err) < 0)
        return -1;
    if (n != 0 && n != 1)
        return mapper_error(err, "a coil is 0 or 1");
    *on = n == 1;
    return 0;
}

/* ---- batches ---- */

static int compare(const struct point *a, const struct point *b) {
    return a->where != b->where ? (int)a->where - (int)b->where : a->offset - b->offset;
}

static int by_address(const void *a, const void *b, void *points) {
    const struct point **p = points;
    return compare(p[*(const size_t *)a], p[*(const size_t *)b]);
}

size_t point_batches(const struct point **points, size_t *order, size_t n, int gap, struct point_batch *out) {
    size_t batches = 0;
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, by_address, points);
    for (size_t i = 0; i < n; i++) {
        const struct point *p = points[order[i]];
        struct point_batch *b = batches ? &out[batches - 1] : NULL;
        int max = point_is_bit(p) ? POINT_BITS_MAX : POINT_WORDS_MAX, end = p->offset + p->count;
        if (b && points[order[b->first]]->where == p->where && p->offset <= b->offset + b->count + gap &&
            end - b->offset <= max) {
            b->n++;
            if (end - b->offset > b->count)
                b->count = end - b->offset;
        } else {
            out[batches++] = (struct point_batch){i, 1, p->offset, p->count};
        }
    }
    return batches;
}
