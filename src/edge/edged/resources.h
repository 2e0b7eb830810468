/* CPU and memory: from requests and limits to QoS class and to the numbers that Linux takes. Pure functions. */
#pragma once

#include "edge/edged/pod.h"

enum pod_qos { QOS_GUARANTEED, QOS_BURSTABLE, QOS_BEST_EFFORT };
enum pod_qos pod_qos(const struct pod *p);
const char *pod_qos_name(enum pod_qos q); /* "Guaranteed", ... as in the status */

struct resource_policy {
    bool cpu_quota;            /* cpuCFSQuota */
    int64_t cpu_period_us;     /* cpuCFSQuotaPeriod: 100000 */
    int64_t node_memory_bytes; /* for the OOM score */
    int64_t pids_limit;        /* podPidsLimit; <= 0: none */
};

struct linux_resources {
    int64_t cpu_shares, cpu_quota_us, cpu_period_us; /* quota 0: none */
    int64_t memory_bytes;                            /* limit; 0: none */
    int64_t oom_score_adj, pids;                     /* pids 0: none */
};

int64_t cpu_shares_of(int64_t milli);
int64_t cpu_quota_of(int64_t milli, int64_t period_us);
uint64_t cpu_weight_of(int64_t shares); /* cgroup v2's cpu.weight */

/* Amount of resource ("cpu": thousandths; else units) in the container's limits or requests; a missing request is the
 * limit, as the API server defaults it. -1 where neither is set. */
int64_t container_request(yyjson_val *container, const char *resource);
int64_t container_limit(yyjson_val *container, const char *resource);

void container_resources(const struct pod *p, yyjson_val *container, const struct resource_policy *policy,
                         struct linux_resources *out);
/* Of the pod's own cgroup: sums; limits only where every container has one. */
void pod_resources(const struct pod *p, const struct resource_policy *policy, struct linux_resources *out);
