/* A pod's status as the kubelet writes it (resource-sync.md 7.6), from what is known of it. Pure. */
#pragma once

#include "edge/edged/pod.h"
#include "edge/edged/runtime_view.h"

enum container_role {
    ROLE_INIT,
    ROLE_SIDECAR,
    ROLE_MAIN,
    ROLE_EPHEMERAL /* joined a running pod to look into it: counts for nothing */
};

/* One container of the spec and what became of it. Borrowed. */
struct container_view {
    yyjson_val *spec;
    enum container_role role;
    const struct rt_container *current; /* newest instance, NULL: none */
    const struct rt_container *last;    /* the one before it, NULL: none */
    const char *waiting_reason;         /* why nothing runs: "CrashLoopBackOff", ...; NULL: nothing special */
    const char *waiting_message;
    bool started, ready; /* of a running one: startup and readiness probes, hooks */
};

struct status_input {
    const struct pod *pod;
    yyjson_val *old_status;   /* what the API server is known to have; may be NULL */
    const char *runtime_name; /* "containerd" */
    const struct pod_node *node;
    const struct strlist *pod_ips;
    bool sandbox_ready;
    const struct container_view *views; /* but the ephemeral ones */
    size_t n_views;
    const struct container_view *ephemeral;
    size_t n_ephemeral;
    bool ended;                /* nothing runs any more and nothing will be started */
    const char *failed_reason; /* the pod was ended for this ("DeadlineExceeded"); NULL: not */
    const char *failed_message;
    int64_t start_s, now_s; /* when first seen; wall clock */
};

/* "Pending", "Running", "Succeeded", "Failed". */
const char *pod_phase(const struct status_input *in);
/* A new document whose root is the status; old_status's foreign conditions and unknown members are kept. */
yyjson_mut_doc *pod_status_build(const struct status_input *in);
bool phase_is_final(const char *phase);
