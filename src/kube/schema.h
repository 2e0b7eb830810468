/* Kinds as data: the fields of every built-in type, generated at build time from src/kube/schema/fields.tsv.
 *
 * One table drives protobuf decoding, unknown-field checks, strategic merge, server-side apply, defaulting and OpenAPI.
 * It holds offsets instead of pointers (65 KB in all, no relocations); read it through the functions below. */
#pragma once

#include "base/json.h"

#include <stdint.h>

enum field_type {
    FT_STRING,
    FT_BOOL,
    FT_INT32,
    FT_INT64,
    FT_DOUBLE,
    FT_BYTES,
    FT_MESSAGE,
    FT_QUANTITY,
    FT_INT_OR_STRING,
    FT_TIME,
    FT_MICRO_TIME,
    FT_RAW,     /* RawExtension, FieldsV1, JSON: embedded JSON */
    FT_STRINGS, /* a list of strings that protobuf wraps in a message: ExtraValue, Verbs */
    /* Members of a JSON schema that may be a schema or something simpler. */
    FT_SCHEMA_OR_ARRAY,
    FT_SCHEMA_OR_BOOL,
    FT_SCHEMA_OR_STRINGS,
};
enum field_shape { FS_ONE, FS_LIST, FS_MAP };
enum patch_strategy { PATCH_MERGE = 1, PATCH_REPLACE = 2, PATCH_RETAIN_KEYS = 4 };
/* How server-side apply sees a list, map or struct. LIST_UNSET: lists are atomic, the others as their type says. */
enum list_type { LIST_UNSET, LIST_ATOMIC, LIST_MAP, LIST_SET, LIST_GRANULAR };

struct schema_field {
    unsigned type : 5;      /* enum field_type */
    unsigned shape : 2;     /* enum field_shape */
    unsigned list_type : 3; /* enum list_type */
    unsigned strategy : 3;  /* enum patch_strategy, ored */
    bool inlined : 1;       /* its members stand in the parent in JSON; it has no name */
    bool optional : 1;      /* left out of JSON when empty */
    bool pointer : 1;       /* zero differs from absent */
    unsigned name_len : 8;
    uint16_t number; /* protobuf; 0: not on the wire */
    uint16_t json_name, message, merge_key, list_map_keys, default_value, enum_values;
};
struct schema_type {
    uint16_t group, version, name; /* group "" is core; "meta.k8s.io"/"v1" for metav1 */
    uint16_t first_field, n_fields;
    bool atomic; /* server-side apply replaces it as a whole */
};
extern const char schema_strings[];
extern const struct schema_field schema_fields[];
extern const struct schema_type schema_types[];
extern const size_t schema_n_types;

static inline const char *schema_type_name(const struct schema_type *t) {
    return schema_strings + t->name;
}
static inline const char *schema_type_group(const struct schema_type *t) {
    return schema_strings + t->group;
}
static inline const struct schema_field *schema_field_at(const struct schema_type *t, size_t i) { /* i < n_fields */
    return &schema_fields[t->first_field + i];
}
static inline const char *schema_field_name(const struct schema_field *f) {
    return schema_strings + f->json_name;
}
/* The type of FT_MESSAGE and of the schema unions, NULL for the others. */
static inline const struct schema_type *schema_field_message(const struct schema_field *f) {
    return f->type == FT_MESSAGE || f->type >= FT_SCHEMA_OR_ARRAY ? &schema_types[f->message] : NULL;
}
static inline const char *schema_field_merge_key(const struct schema_field *f) { /* "" if none */
    return schema_strings + f->merge_key;
}
static inline const char *schema_field_list_map_keys(const struct schema_field *f) { /* comma-separated; "" if none */
    return schema_strings + f->list_map_keys;
}
static inline const char *schema_field_default(const struct schema_field *f) { /* JSON text; "" if none */
    return schema_strings + f->default_value;
}

static inline const char *schema_field_enum(const struct schema_field *f) { /* divided by blanks; "" if open */
    return schema_strings + f->enum_values;
}

const struct schema_type *schema_find(const char *group, const char *version, const char *name); /* NULL if unknown */
/* Field by JSON name, looking through inlined members. NULL if unknown. */
const struct schema_field *schema_field(const struct schema_type *t, struct bytes json_name);

/* Is this a Kubernetes protobuf body? (6b 38 73 00 in front) */
bool schema_is_protobuf(struct bytes body);
/* A Kubernetes protobuf body (embedded-api.md 1.7: magic, then Unknown{typeMeta, raw,...}) to JSON, apiVersion and kind
 * included. ERR_UNSUPPORTED for a kind that is not in the table, ERR_INVALID for damaged bytes. */
int schema_decode_protobuf(struct bytes body, yyjson_mut_doc **out, struct error *err) MUST_CHECK;

/* Copies src, dropping unknown and null members and checking JSON types: ERR_INVALID with the path for a wrong type.
 * Quantities and times get their canonical text. Of duplicate members the last one counts, as it does for Go.
 * `unknown` (may be NULL) receives 'unknown field "spec.foo"' and 'duplicate field "spec.containers[0].name"', at most
 * SCHEMA_MAX_UNKNOWN. */
#define SCHEMA_MAX_UNKNOWN 100
struct strlist;
yyjson_mut_val *schema_prune(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *src, struct strlist *unknown,
                             struct error *err) MUST_CHECK;
