/* What server-side apply needs to know of a value's schema (embedded-api.md 4.6): is it replaced as a whole, or merged
 * by members, by keys, by values? The answer comes from the table of built-in types, or from the structural schema of a
 * custom kind, read in place. Pure; a topology borrows what it was made of. */
#pragma once

#include "kube/schema.h"

enum topology_kind {
    TOPOLOGY_ATOMIC, /* scalars, and what is replaced as a whole */
    TOPOLOGY_STRUCT, /* members that the schema names */
    TOPOLOGY_MAP,    /* members of any name: each is an entry of its own */
    TOPOLOGY_LIST_MAP,
    TOPOLOGY_SET,
};

struct topology {
    const struct schema_type *type;   /* built-in: the struct whose members follow */
    const struct schema_field *field; /* built-in: how this was reached; NULL at the root */
    bool element;                     /* built-in: an element of field's list or map, not the list or map itself */
    yyjson_val *custom;               /* a structural schema; all empty: not described (maps granular, lists atomic) */
};

struct topology topology_builtin(const struct schema_type *t);
struct topology topology_custom(yyjson_val *structural_schema); /* may be NULL */

/* A value that is not what the schema says is atomic. */
enum topology_kind topology_kind(const struct topology *t, yyjson_val *value);
struct topology topology_member(const struct topology *t, struct bytes name);
/* Is the member one that the schema names? Others are entries, as those of maps. */
bool topology_names(const struct topology *t, struct bytes name);
struct topology topology_element(const struct topology *t); /* of a list */

/* The keys of a TOPOLOGY_LIST_MAP by name, in alphabetical order. */
#define TOPOLOGY_MAX_KEYS 8
size_t topology_keys(const struct topology *list, struct bytes keys[TOPOLOGY_MAX_KEYS]);
/* What an element's missing key counts as: JSON text, owned; NULL: no default. */
char *topology_key_default(const struct topology *list, struct bytes key);
