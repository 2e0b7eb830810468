/* A point: where a property stands in a Modbus device, and how its registers become a value (devices.md 6.1). Sans-IO.
 */
#pragma once

#include "mapper/libmapper/mapper.h"

enum point_register { POINT_COIL, POINT_DISCRETE_INPUT, POINT_INPUT, POINT_HOLDING };
#define POINT_WORDS_MAX 120 /* registers of one point, and of one request */
#define POINT_BITS_MAX 1900 /* coils of one request */

enum point_form { POINT_INTEGER, POINT_IEEE, POINT_TEXT, POINT_BIT };

struct point {
    enum point_register where;
    enum point_form form;
    int offset, count; /* of registers, or of coils */
    double scale;
    bool swap_bytes, swap_registers, is_signed;
};

/* Of a property's settings; the model's type says what the value is to become. */
int point_parse(const struct mapper_settings *s, enum mapper_type type, struct point *out, struct error *err);
static inline bool point_is_bit(const struct point *p) {
    return p->where == POINT_COIL || p->where == POINT_DISCRETE_INPUT;
}

/* count registers into out, whose type is set. NULL, or why not: a literal. */
const char *point_decode(const struct point *p, const uint16_t *words, struct mapper_value *out);
const char *point_decode_bit(const struct point *p, const uint8_t *bits, struct mapper_value *out);
/* The count registers that stand for the value. */
int point_encode(const struct point *p, const struct mapper_value *v, uint16_t *words, struct error *err);
int point_encode_bit(const struct mapper_value *v, bool *on, struct error *err);

/* Points that are read by one request: readings[first..first+n) in order of (register, offset). */
struct point_batch {
    size_t first, n;
    int offset, count;
};
/* Sorts the points (an array of pointers) and cuts them into batches; gap: registers that may be read in vain between
 * two points. out has room for n batches; gives how many there are. */
size_t point_batches(const struct point **points, size_t *order, size_t n, int gap, struct point_batch *out);
