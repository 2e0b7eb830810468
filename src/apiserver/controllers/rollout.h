/* How a Deployment divides its replicas among its ReplicaSets (embedded-api.md 6.3). Decisions only: no state, no I/O.
 */
#pragma once

#include "base/json.h"

#include <stdint.h>

struct rollout_set {
    int64_t want, available;       /* spec.replicas, status.availableReplicas */
    int64_t desired, max_replicas; /* its annotations: what the Deployment wanted when it was scaled; 0: unknown */
    int64_t created_s;
    bool is_new;
    int64_t next; /* result: what spec.replicas should become */
};
struct rollout {
    int64_t replicas, surge, unavailable;
    bool recreate, paused;
    bool old_pods; /* some pod of an old ReplicaSet still exists */
};
/* surge and unavailable from spec.strategy: rounded up and down; not both 0. */
void rollout_limits(struct rollout *r, yyjson_val *spec);
/* Fills next of each; sets are in order of creation, at most one is new. */
void rollout_divide(const struct rollout *r, struct rollout_set *sets, size_t n);
/* What a ReplicaSet that is made now starts with; sets: those that there are. */
int64_t rollout_first(const struct rollout *r, const struct rollout_set *sets, size_t n);
