/* What a pod uses of its node: memory and processes from its cgroup, disk from its folders and its containers' writable
 * layers. */
#pragma once

#include "edge/edged/cgroups.h"
#include "edge/edged/cri.h"
#include "edge/edged/pod.h"

struct container_usage {
    char *name;
    int64_t layer, logs; /* bytes on disk */
};
struct empty_dir_usage {
    char *name;
    int64_t used; /* bytes on disk; of those on disk only */
};

struct pod_usage {
    char *uid, *dir, *log_dir;
    enum pod_qos qos;
    int64_t memory; /* bytes: the working set */
    int64_t pids;
    struct container_usage *containers;
    size_t n_containers;
    struct empty_dir_usage *empty_dirs;
    size_t n_empty_dirs;
};

/* Empty, to be filled. dir: <root>/pods/<uid>; log_dir: of the pod. Both copied. */
struct pod_usage *pod_usage_new(const struct pod *p, enum pod_qos qos, const char *dir, const char *log_dir);
void pod_usage_free(struct pod_usage *u); /* NULL is fine */
/* The pod's containers' writable layers, from the runtime's figures of all containers. */
void pod_usage_add_layers(struct pod_usage *u, const Cri__ListContainerStatsResponse *r);
/* The rest. Blocks: task pool only. with_disk: folders are walked, too. */
void pod_usage_read(struct pod_usage *u, const struct cgroups *c, bool with_disk);
int64_t pod_usage_disk(const struct pod_usage *u);

/* The first local storage limit that the pod is over, in the kubelet's words; NULL: none. Owned. */
char *pod_local_limit_exceeded(const struct pod *p, const struct pod_usage *u);
bool pod_has_local_limits(const struct pod *p);
