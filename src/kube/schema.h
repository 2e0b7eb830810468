/* Kinds as data: the fields of every built-in type, generated at build time from src/kube/schema/kubernetes-fields.tsv.
 *
 * One table drives protobuf decoding, unknown-field checks, strategic merge, server-side apply, defaulting and OpenAPI.
 */
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
    FT_RAW, /* RawExtension, FieldsV1, JSON: embedded JSON */
};
enum field_shape { FS_ONE, FS_LIST, FS_MAP };

struct schema_type;
struct schema_field {
    const char *json_name;
    uint32_t number; /* protobuf */
    enum field_type type;
    enum field_shape shape;
    bool inlined, optional, pointer;
    const struct schema_type *message; /* FT_MESSAGE */
    const char *patch_strategy;        /* "merge", "replace", "retainKeys", "merge,retainKeys" or NULL */
    const char *patch_merge_key;       /* or NULL */
    const char *list_type;             /* "map", "set", "atomic" or NULL */
    const char *list_map_keys;         /* comma-separated, or NULL */
    const char *default_value;         /* JSON text, or NULL */
};
struct schema_type {
    const char *group, *version, *name; /* group "" is core; "meta.k8s.io"/"v1" for metav1 */
    const struct schema_field *fields;
    size_t n_fields;
};

const struct schema_type *schema_find(const char *group, const char *version, const char *name); /* NULL if unknown */
/* Field by JSON name, looking through inlined members. NULL if unknown. */
const struct schema_field *schema_field(const struct schema_type *t, struct bytes json_name);

/* A Kubernetes protobuf body (embedded-api.md 1.7: 6b 38 73 00, Unknown{typeMeta, raw,...}) to JSON, apiVersion and
 * kind included. ERR_UNSUPPORTED for a kind that is not in the table. */
int schema_decode_protobuf(struct bytes body, yyjson_mut_doc **out, struct error *err) MUST_CHECK;

/* Paths of members that the type does not have ("spec.foo", "spec.containers[0].bar"), at most max, appended to out as
 * owned strings; duplicates members too. Returns how many. */
struct strlist;
size_t schema_unknown_fields(const struct schema_type *t, yyjson_val *object, struct strlist *out, size_t max);
/* Copies src, dropping unknown members and (recursively) checking JSON types: ERR_INVALID with the path for a wrong
 * type. */
yyjson_mut_val *schema_prune(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *src,
                             struct error *err) MUST_CHECK;
