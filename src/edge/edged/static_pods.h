/* Static pods: described by files on the node, run without the cloud, and shown there by mirror pods (resource-sync.md
 * 7.7). The folder is looked at when it changes, and every fileCheckFrequency. Loop thread. */
#pragma once

#include "edge/edged/pods.h"

struct static_pods;
/* node_uid: of the Node object, "" while it is not known; a mirror names it as its owner. */
struct static_pods *static_pods_new(struct pods *ps, const char *(*node_uid)(void *arg), void *arg);
void static_pods_free(struct static_pods *s); /* after the pool; NULL is fine */
/* Reads the folder; first(arg) is called once, when that was done for the first time. */
void static_pods_start(struct static_pods *s, void (*first)(void *arg), void *arg);
/* The cloud has (insert, update), or has no more, this mirror pod of the node. */
void static_pods_mirror(struct static_pods *s, yyjson_val *mirror, bool gone);
