/* The columns of built-in kinds, and what stands in them. Private to table.c. */
#pragma once

#include "apiserver/table.h"

struct table_column {
    const char *name, *type, *format, *description;
    int priority;
};

/* Cells of one row, appended as JSON. */
struct cells {
    struct buf *out;
    bool any;
    int64_t now;
};
void cell_str(struct cells *c, const char *s); /* NULL: null */
void cell_int(struct cells *c, int64_t n);
void cell_null(struct cells *c);
/* The age of an RFC 3339 time as kubectl writes it; "<unknown>" where it is missing. */
void cell_age(struct cells *c, const char *time);

struct table_layout {
    const char *group, *plural;
    const struct table_column *columns;
    size_t n_columns;
    void (*cells)(struct cells *c, yyjson_val *o);
};
const struct table_layout *table_layout_of(const struct kind *k); /* NULL for custom kinds */
