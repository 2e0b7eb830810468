#pragma once

#include "apiserver/controllers/children.h"

/* What a DaemonSet does on one node. Decided for all nodes together, since only so many may be without a working pod
 * (embedded-api.md 6.4). */
struct daemon_node {
    const char *name;
    bool fits;            /* the pod should run here */
    bool stays;           /* a pod that is here may stay, though none would be sent here */
    bool online;          /* a node that is silent neither counts nor is it touched */
    struct pod_view *pod; /* the oldest one that is neither deleting nor finished; NULL */
    bool updated, available;
    bool leaving; /* a pod is being deleted or has just failed */
    /* results */
    bool create, remove;
};
/* Fills create and remove. rolling: old pods are replaced, as far as max_unavailable allows. */
void daemonset_decide(struct daemon_node *nodes, size_t n, bool rolling, int64_t max_unavailable);
