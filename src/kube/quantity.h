/* Kubernetes quantities: "100m", "1.5", "64Mi", "1e3". Exact within int64 of nano-units; larger values saturate. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

struct quantity {
    __int128 nano; /* value x 10^9 */
};
int quantity_parse(struct bytes text, struct quantity *out, struct error *err) MUST_CHECK;
int64_t quantity_value(struct quantity q); /* rounded up to integers, as Quantity.Value() */
int64_t quantity_milli(struct quantity q); /* rounded up to thousandths, as MilliValue() */
int quantity_cmp(struct quantity a, struct quantity b);
struct quantity quantity_add(struct quantity a, struct quantity b);
struct quantity quantity_sub(struct quantity a, struct quantity b);
/* Canonical text: binary (1024-based suffixes) or decimal form. */
int quantity_format(struct quantity q, bool binary, struct buf *out);
