/* What a plain YAML scalar means. Private to the YAML reader and writer. */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum yaml_scalar_type {
    YAML_SCALAR_STRING,
    YAML_SCALAR_NULL,
    YAML_SCALAR_BOOL,
    YAML_SCALAR_INT,
    YAML_SCALAR_FLOAT,
};
struct yaml_scalar {
    enum yaml_scalar_type type;
    bool boolean;
    int64_t integer;
    double real;
};

/* The core schema, and as Go's readers a leading zero for octal ("0644"). */
struct yaml_scalar yaml_scalar_resolve(struct bytes text);
/* Whether s can be written without quotes, and is then read as the same string by YAML 1.1 and 1.2 readers. */
bool yaml_scalar_plain(struct bytes s);
