/* Where a walk through an object stands in its schema: shared by applying and making strategic merge patches. */
#pragma once

#include "kube/schema.h"

struct schema_node {
    const struct schema_type *type;       /* of an object or of a list's elements; NULL: not known */
    const struct schema_field *values_of; /* inside a map: the field that describes its values */
    const struct schema_field *field;     /* how this was reached; NULL: not a field */
};

static inline struct schema_node schema_node_child(struct schema_node parent, struct bytes name) {
    if (parent.values_of)
        return (struct schema_node){.type = schema_field_message(parent.values_of)};
    const struct schema_field *f = parent.type ? schema_field(parent.type, name) : NULL;
    if (!f)
        return (struct schema_node){0};
    if (f->shape == FS_MAP)
        return (struct schema_node){.values_of = f, .field = f};
    return (struct schema_node){.type = schema_field_message(f), .field = f};
}

static inline bool schema_node_merges(struct schema_node n) { /* a list whose elements are merged */
    return n.field && n.field->shape == FS_LIST && (n.field->strategy & PATCH_MERGE);
}

/* Its merge key; "" where elements are scalars. */
static inline const char *schema_node_merge_key(struct schema_node n) {
    return schema_field_merge_key(n.field);
}
