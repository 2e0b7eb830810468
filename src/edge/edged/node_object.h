/* The Node object and its status as this machine reports them, and the patches between what the cloud has and what it
 * should have. Sans-IO. */
#pragma once

#include "base/json.h"
#include "edge/edge_config.h"
#include "edge/edged/node_facts.h"
#include "edge/edged/pressure.h"

/* What the object is made of. */
struct node_view {
    const struct edged_config *config;
    struct node_facts facts;
    char *runtime_version; /* owned */
    char *not_ready;       /* owned; NULL: ready */
    bool pressure[N_PRESSURES];
};
void node_view_free(struct node_view *v);

struct node_resources {
    int64_t cpu_milli, memory, disk, pods;
};
struct node_resources node_capacity(const struct node_view *v);
/* Less what is reserved, and what eviction keeps free. */
struct node_resources node_allocatable(const struct node_view *v);

/* The whole Node, for registration. now: RFC 3339, for heartbeats. Owned. */
yyjson_doc *node_object(const struct node_view *v, const char *now);

/* The strategic merge patch that brings the status of `stored` (what the cloud is known to have) up to date, owned.
 * *changed: more than heartbeats differs. whole: every condition in full, for a cloud that may have marked the node
 * unknown meanwhile. NULL on failure. */
char *node_status_patch(const struct node_view *v, yyjson_val *stored, const char *now, bool whole, bool *changed,
                        struct error *err);

/* The Node to send as `update` because labels that it should have are missing or differ; NULL if none. Owned. */
char *node_label_update(const struct node_view *v, yyjson_val *stored);
