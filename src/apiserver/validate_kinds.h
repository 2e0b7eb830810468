/* Rules of single kinds. Private to validate.c. */
#pragma once

#include "apiserver/field_errors.h"

void validate_pod(yyjson_val *o, struct field_errors *e);
void validate_pod_update(yyjson_val *o, yyjson_val *old, struct field_errors *e);
void validate_node(yyjson_val *o, struct field_errors *e);
void validate_data_keys(yyjson_val *o, struct field_errors *e); /* ConfigMap, Secret */
void validate_secret(yyjson_val *o, struct field_errors *e);
void validate_data_update(yyjson_val *o, yyjson_val *old, struct field_errors *e); /* immutable: true */
void validate_lease(yyjson_val *o, struct field_errors *e);
void validate_event(const struct kind *k, yyjson_val *o, struct field_errors *e);
void validate_crd(yyjson_val *o, struct field_errors *e, struct strlist *warnings);

/* validate_access.c: RBAC. */
void validate_role(const struct kind *k, yyjson_val *o, struct field_errors *e);
void validate_binding(const struct kind *k, yyjson_val *o, struct field_errors *e);
/* Deployments, ReplicaSets, DaemonSets, Jobs, Services, EndpointSlices, disruption budgets; nothing for others. */
void validate_workload(const struct kind *k, yyjson_val *o, struct field_errors *e);
void validate_workload_update(const struct kind *k, yyjson_val *o, yyjson_val *old, struct field_errors *e);

/* The spec of a pod or of a template, at the path. */
void validate_pod_spec(yyjson_val *spec, const char *path, struct field_errors *e);
/* Member a, or a.b, is as it was. */
void validate_immutable(yyjson_val *o, yyjson_val *old, const char *a, const char *b, struct field_errors *e);

/* a and b are equal, or both absent. */
bool same_value(yyjson_val *a, yyjson_val *b);
/* Of all built-in kinds, after their own rules: validate_schema.c. */
void validate_schema(const struct kind *k, yyjson_val *o, struct field_errors *e);
