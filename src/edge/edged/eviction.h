/* Keeps the node usable when memory, disk or processes run out: node conditions, admission, and ending the pods that
 * are over their requests, one at a time, as a kubelet does. Also ends pods that are over a local storage limit. */
#pragma once

#include "edge/edged/image_gc.h"
#include "edge/edged/pod_usage.h"
#include "edge/edged/pods.h"
#include "edge/edged/pressure.h"

struct eviction;
/* changed: eviction_pressure says something new. Looks every ten seconds, or every nodeStatusUpdateFrequency if that is
 * shorter. */
struct eviction *eviction_new(struct pods *ps, struct image_gc *images, void (*changed)(void *arg), void *arg,
                              struct error *err) MUST_CHECK;
void eviction_free(struct eviction *e); /* after pool and CRI; NULL is fine */
bool eviction_pressure(const struct eviction *e, enum pressure_kind k);
/* May a pod that never ran here start under the present pressure? Else why not, owned. NULL: it may. e NULL: it may. */
char *eviction_refuses(const struct eviction *e, const struct pod *p, enum pod_qos qos);

/* ---- who goes first: pure ---- */

struct eviction_candidate {
    const char *uid;
    int64_t priority, usage, request; /* of what is short */
};
/* The first to go: over its request before all within, then the lower priority, then the further above its request. */
const struct eviction_candidate *eviction_first(const struct eviction_candidate *list, size_t n);
/* Never evicted: static pods, and system-critical priorities. */
bool pod_is_critical(const struct pod *p);
