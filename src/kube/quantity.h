/* Kubernetes quantities: "100m", "1.5", "64Mi", "1e3". Counted in nano-units; finer fractions round away from zero,
 * values beyond 2^63-1 saturate, as they do for Kubernetes. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

struct quantity {
    __int128 nano; /* value x 10^9 */
};
int quantity_parse(struct bytes text, struct quantity *out, struct error *err) MUST_CHECK;
int64_t quantity_value(struct quantity q); /* rounded up to integers, as Quantity.Value() */
int64_t quantity_milli(struct quantity q); /* rounded up to thousandths, as MilliValue(); saturates */
int quantity_cmp(struct quantity a, struct quantity b);
struct quantity quantity_add(struct quantity a, struct quantity b);
struct quantity quantity_sub(struct quantity a, struct quantity b);
/* Canonical text: binary (1024-based suffixes) or decimal form. */
int quantity_format(struct quantity q, bool binary, struct buf *out);
/* The canonical text of a quantity's text, in the form it was written in: "1000m" is "1", "2048Ki" is "2Mi", "1000e0"
 * is "1e3". */
int quantity_canonical(struct bytes text, struct buf *out, struct error *err) MUST_CHECK;
