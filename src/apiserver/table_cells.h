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
void cell_bool(struct cells *c, bool value);
/* The age of an RFC 3339 time as kubectl writes it; "<unknown>" where it is missing. */
void cell_age(struct cells *c, const char *time);

struct table_layout {
    const char *group, *plural;
    const struct table_column *columns;
    size_t n_columns;
    void (*cells)(struct cells *c, yyjson_val *o);
};
const struct table_layout *table_layout_of(const struct kind *k); /* NULL for custom kinds */

/* table_workloads.c: the layouts of what runs pods, and of Services. */
extern const struct table_layout workload_layouts[];
extern const size_t workload_layouts_count;

/* "a=b,c in (d,e)" of a LabelSelector, for people and for Scale's status. */
void table_selector_text(yyjson_val *selector, struct buf *out);

#define TABLE_NAME \
    { "Name", "string", "name", "Name must be unique within a namespace.", 0 }
#define TABLE_AGE \
    { "Age", "string", "", "Time since creation.", 0 }
#define TABLE_LAYOUT(group, plural, name) \
    { group, plural, name##_columns, ARRAY_LEN(name##_columns), name##_cells }
