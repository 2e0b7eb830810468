/* The downward API: what fieldRef and resourceFieldRef yield, for env and volumes. Pure. */
#pragma once

#include "edge/edged/pod.h"

struct field_context {
    const struct pod *pod;
    const struct pod_node *node;
    const struct strlist *pod_ips; /* may be empty: not known yet */
};

/* "metadata.name", "metadata.labels['x']", "metadata.labels" (all, as key="value" lines), "status.podIP", ...
 * ERR_UNSUPPORTED for a path that is not offered. */
int field_ref_value(const struct field_context *c, const char *path, struct buf *out, struct error *err) MUST_CHECK;
/* {"resource":"limits.cpu","divisor":"1m","containerName":...}: rounded up; without a limit, the node's amount. */
int resource_ref_value(const struct field_context *c, yyjson_val *container, yyjson_val *ref, struct buf *out,
                       struct error *err) MUST_CHECK;
/* The container of that name, among init containers too; NULL if there is none. */
yyjson_val *pod_container(const struct pod *p, const char *name);
