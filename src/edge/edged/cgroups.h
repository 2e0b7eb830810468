/* The pods' cgroups: kubepods, kubepods/burstable, kubepods/besteffort, then pod<uid> (resource-sync.md 7.7), for the
 * cgroupfs and systemd drivers, cgroup v1 and v2. Functions that touch the file system block: task pool only. */
#pragma once

#include "edge/edged/resources.h"

struct cgroups {
    bool enabled; /* cgroupsPerQOS */
    bool systemd, v2;
    char *root;  /* cgroupRoot, without a final slash; "" is the top */
    char *mount; /* "/sys/fs/cgroup" */
};

/* Looks at the mounts. */
void cgroups_init(struct cgroups *c, bool per_qos, const char *root, bool systemd_driver);
void cgroups_free(struct cgroups *c);

/* The parent to hand to the runtime: "/kubepods/burstable/pod<uid>" or "kubepods-burstable-pod<uid>.slice". Owned;
 * NULL when not enabled. Pure. */
char *cgroup_parent(const struct cgroups *c, enum pod_qos qos, const char *uid);
/* Makes the pod's cgroup and writes its limits. With the systemd driver the slice is systemd's to make. */
int cgroup_pod_create(const struct cgroups *c, enum pod_qos qos, const char *uid, const struct linux_resources *r,
                      struct error *err) MUST_CHECK;
/* Nanoseconds of CPU that it used; -1 where unknown. */
int64_t cgroup_pod_cpu_ns(const struct cgroups *c, enum pod_qos qos, const char *uid);
/* Its working set in bytes (what is used, less what the kernel can drop at once), and its processes. 0 where unknown.
 */
int64_t cgroup_pod_memory(const struct cgroups *c, enum pod_qos qos, const char *uid);
int64_t cgroup_pod_pids(const struct cgroups *c, enum pod_qos qos, const char *uid);
/* Removes it from every hierarchy; missing is fine. ERR_UNAVAILABLE while processes are left in it. */
int cgroup_pod_remove(const struct cgroups *c, enum pod_qos qos, const char *uid, struct error *err) MUST_CHECK;
