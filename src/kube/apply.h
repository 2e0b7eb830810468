/* Server-side apply (embedded-api.md 4.6): what an applier says laid over what there is. Sans-IO. */
#pragma once

#include "kube/ownership.h"

struct apply_conflict {
    uint32_t node;   /* of the live tree */
    uint64_t owners; /* who else has it */
};
struct apply {
    const struct field_tree *live;
    const struct ownership *owned; /* of live */
    const struct field_tree *config;
    int applier; /* its number in owned, -1: it has applied nothing so far */
};

/* What others own and the config would change. Owned array; NULL and 0 where there is no conflict. */
struct apply_conflict *apply_conflicts(const struct apply *a, size_t *count);
/* The live object with the config's values, without what the applier has given up and nobody else owns. Lists keep the
 * applier's order, with the others' elements where they were. */
yyjson_mut_val *apply_merge(const struct apply *a, yyjson_mut_doc *d);
