/* A container's environment: values, references, $(VAR) expansion. Pure. */
#pragma once

#include "edge/edged/field_ref.h"
#include "edge/edged/objects.h"

struct env_var {
    char *name, *value;
};
struct env {
    struct env_var *vars;
    size_t count, cap;
    size_t bytes; /* of all names and values */
};

void env_set(struct env *e, const char *name, const char *value); /* replaces; copies */
const char *env_get(const struct env *e, const char *name);       /* NULL if unset */
void env_free(struct env *e);

#define ENV_TOTAL_MAX (4u << 20) /* twice what Linux gives a process by default */

/* envFrom first, then env in order; later ones win. A missing required object or key is an error that reads as the
 * kubelet's: `configmap "x" not found`, `couldn't find key k in ConfigMap ns/x`. References multiply: more than
 * ENV_TOTAL_MAX is ERR_TOO_LARGE. */
int env_build(const struct field_context *c, yyjson_val *container, const struct object_set *objects, struct env *out,
              struct error *err) MUST_CHECK;
/* $(NAME) becomes the value if there is one and stays as it is otherwise; $$ is a dollar sign. Owned. */
char *env_expand(const struct env *e, const char *text);
