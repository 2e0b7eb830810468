/* Which node has which pods, and which ConfigMaps, Secrets, ServiceAccounts and PersistentVolumeClaims these use
 * (resource-sync.md 1.2). Sans-IO; filled from the pod and node reflectors. It decides where objects are sent, and what
 * a node may touch.
 *
 * Uses are counted per pod: when the last pod that uses an object is gone from a node, the node gets no more of it. */
#pragma once

#include "base/json.h"

enum location_kind { LOCATION_CONFIGMAP, LOCATION_SECRET, LOCATION_SERVICEACCOUNT, LOCATION_CLAIM };

struct location;
struct location *location_new(void);
void location_free(struct location *l);

/* A pod as it is now: its node is spec.nodeName (none: like location_remove_pod). */
void location_set_pod(struct location *l, yyjson_val *pod);
void location_remove_pod(struct location *l, const char *ns, const char *name);

/* The node of a pod, NULL if the pod is unknown. *uid (may be NULL) is its uid. */
const char *location_pod_node(const struct location *l, const char *ns, const char *name, const char **uid);
/* Does a pod on that node use the object? */
bool location_uses(const struct location *l, const char *node, enum location_kind kind, const char *ns,
                   const char *name);

/* fn is called for each node that uses the object. */
void location_each_node(const struct location *l, enum location_kind kind, const char *ns, const char *name,
                        void (*fn)(void *arg, const char *node), void *arg);
void location_each_pod(const struct location *l, const char *node,
                       void (*fn)(void *arg, const char *ns, const char *name), void *arg);
void location_each_use(const struct location *l, const char *node, enum location_kind kind,
                       void (*fn)(void *arg, const char *ns, const char *name), void *arg);
