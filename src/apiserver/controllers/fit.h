/* May a pod go to a node? The scheduler's filters (embedded-api.md 6.1). No state, no I/O. */
#pragma once

#include "base/json.h"

#define FIT_REASON_SIZE 256

/* Writes why not into reason (FIT_REASON_SIZE bytes) and returns false, or returns true. node needs metadata {name,
 * labels}, spec {taints, unschedulable}; ready: its Ready condition is True. */
bool fit_node(yyjson_val *pod, yyjson_val *node, bool ready, char *reason);
/* A requirement of the pod that no scheduler of this server honours: it has to wait rather than be placed at random.
 * NULL if there is none. */
const char *fit_unsupported(yyjson_val *pod);
/* Does one of the tolerations (a list, may be NULL) tolerate the taint? */
bool fit_tolerates(yyjson_val *tolerations, const char *key, const char *value, const char *effect);
bool fit_tolerates_one(yyjson_val *toleration, const char *key, const char *value, const char *effect);
/* nodeSelector and required node affinity only. */
bool fit_selected(yyjson_val *pod, yyjson_val *node);
/* May a pod that is there stay: are all NoExecute taints tolerated? */
bool fit_stays(yyjson_val *pod, yyjson_val *node);
/* The weights of the preferred node affinity terms that the node meets. */
int64_t fit_preference(yyjson_val *pod, yyjson_val *node);
/* How many of the node's PreferNoSchedule taints are not tolerated. */
int64_t fit_unwelcome(yyjson_val *pod, yyjson_val *node);
