/* What a resource type of the wire ("pod", "configmap") is in Kubernetes, and the row keys made of it
 * (resource-sync.md 5.2, 5.3). Sans-IO. */
#pragma once

#include "base/json.h"
#include "wire/resource.h"

struct meta_type {
    const char *type, *plural, *group, *version, *kind; /* group "" is core */
};
/* NULL for types that are not built in. */
const struct meta_type *meta_type_find(struct bytes type);

/* Kubernetes coordinates of one object. The strings are owned. */
struct meta_coordinates {
    char *key;                    /* /core/v1/pods/ns/p */
    char *group_version_resource; /* "/v1, Resource=pods" */
};
/* By the object's own apiVersion and kind, else by the type. ERR_NOT_FOUND where neither tells. */
int meta_coordinates(const struct resource *r, yyjson_val *object, struct meta_coordinates *out,
                     struct error *err) MUST_CHECK;
void meta_coordinates_free(struct meta_coordinates *c);

/* The object as text, with kind and apiVersion filled in by its type where they are missing. Owned. */
char *meta_object_text(struct bytes type, yyjson_val *object, size_t *len);

/* Row key of a service account token, made of the request's own spec. Owned. */
char *meta_token_key(const struct resource *r, yyjson_val *token_request);

/* May a stored token still be handed out? Both times in Unix seconds. */
bool meta_token_fresh(yyjson_val *token_request, int64_t now);
