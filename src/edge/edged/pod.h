/* A pod as the API describes it, checked once so that its names are safe in paths; and what the node adds to it. */
#pragma once

#include "base/json.h"
#include "base/str.h"

struct pod {
    char *uid, *ns, *name;
    yyjson_doc *doc; /* owned; holds the rest */
    yyjson_val *obj, *spec;
    bool is_static; /* from a file of the node; false from pod_new */
};

/* Copies the object. ERR_INVALID names the member that cannot be: uid, names, missing containers. */
struct pod *pod_new(yyjson_val *obj, struct error *err) MUST_CHECK;
void pod_free(struct pod *p);
DEFINE_CLEANUP(struct pod, pod_free)

/* Effective grace period in seconds: deletionGracePeriodSeconds, else the spec's, else 30. Never negative. */
int64_t pod_grace_seconds(const struct pod *p);
bool pod_deleting(const struct pod *p);
const char *pod_restart_policy(const struct pod *p);
bool pod_host_network(const struct pod *p);
/* An init container that keeps running beside the others (restartPolicy: Always). */
bool container_is_sidecar(yyjson_val *init_container);
/* The container's identity over restarts of edgecore: a hash over name and image, as kubelets have it. */
uint64_t container_hash(yyjson_val *container);

/* First part of the pod that is not offered here, in words that name the field ("spec.runtimeClassName"): 0, or -1 with
 * ERR_UNSUPPORTED. Nothing is ignored silently. */
int pod_check_supported(const struct pod *p, struct error *err) MUST_CHECK;

/* What the node knows: for the downward API and the status. Borrowed by whoever is handed it. */
struct pod_node {
    const char *node_name;
    struct strlist host_ips;
    int64_t cpu_milli, memory, storage; /* of the machine; bytes */
};
