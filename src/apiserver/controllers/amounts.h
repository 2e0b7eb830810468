/* Amounts of resources by name: what pods ask for and nodes have. cpu in thousandths, everything else in units; a pod
 * counts as one of "pods". */
#pragma once

#include "base/json.h"

#include <stdint.h>

struct amount {
    char *name;
    int64_t value;
};
struct amounts { /* zeroed is empty */
    struct amount *items;
    size_t count;
};
void amounts_free(struct amounts *a);
int64_t amounts_get(const struct amounts *a, const char *name, int64_t fallback);
/* Adds `value` of `name`; saturates. */
void amounts_put(struct amounts *a, const char *name, int64_t value);
/* Adds all of b, sign times. */
void amounts_add(struct amounts *a, const struct amounts *b, int sign);
/* From {"cpu":"100m",...}; what is no quantity is left out. */
void amounts_read(struct amounts *a, yyjson_val *map);
/* What a pod asks for: the sum of its containers and sidecars or the largest init container, with the overhead. */
void amounts_of_pod(struct amounts *a, yyjson_val *spec);
