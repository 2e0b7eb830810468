#include "edge/edged/resources.h"

#include "kube/quantity.h"

#define CPU_MILLI_MAX 1000000000 /* a million cores: what follows must not overflow */
#define SHARES_PER_CPU 1024
#define SHARES_MIN 2
#define SHARES_MAX 262144
#define QUOTA_MIN_US 1000
#define OOM_GUARANTEED (-997)
#define OOM_BEST_EFFORT 1000
#define SYSTEM_CRITICAL_PRIORITY 2000000000

int64_t cpu_shares_of(int64_t milli) {
    if (milli <= 0)
        return SHARES_MIN;
    int64_t shares = milli * SHARES_PER_CPU / 1000;
    return shares < SHARES_MIN ? SHARES_MIN : shares > SHARES_MAX ? SHARES_MAX : shares;
}

int64_t cpu_quota_of(int64_t milli, int64_t period_us) {
    if (milli <= 0)
        return 0;
    if (milli > CPU_MILLI_MAX)
        milli = CPU_MILLI_MAX;
    int64_t quota = milli * period_us / 1000;
    return quota < QUOTA_MIN_US ? QUOTA_MIN_US : quota;
}

uint64_t cpu_weight_of(int64_t shares) {
    if (shares < SHARES_MIN)
        shares = SHARES_MIN;
    return 1 + (uint64_t)(shares - 2) * 9999 / 262142;
}

static int64_t amount(yyjson_val *container, const char *list, const char *resource) {
    yyjson_val *v = json_get(container, "resources", list, resource);
    struct quantity q;
    char number[32];
    struct bytes text = bytes_str(yyjson_get_str(v));
    if (yyjson_is_int(v)) {
        snprintf(number, sizeof(number), "%lld", (long long)yyjson_get_sint(v));
        text = bytes_str(number);
    }
    if (text.len == 0 || quantity_parse(text, &q, NULL) < 0)
        return -1;
    int64_t n = str_eq(resource, "cpu") ? quantity_milli(q) : quantity_value(q);
    return n < 0 ? -1 : n > INT64_MAX / 1000000 ? INT64_MAX / 1000000 : n;
}

int64_t container_limit(yyjson_val *container, const char *resource) {
    return amount(container, "limits", resource);
}

int64_t container_request(yyjson_val *container, const char *resource) {
    int64_t n = amount(container, "requests", resource);
    return n >= 0 ? n : container_limit(container, resource);
}

const char *pod_qos_name(enum pod_qos q) {
    static const char *const names[] = {"Guaranteed", "Burstable", "BestEffort"};
    return names[q];
}

static void qos_of_list(yyjson_val *list, bool *any, bool *guaranteed) {
    static const char *const resources[] = {"cpu", "memory"};
    size_t i, max;
    yyjson_val *c;
    yyjson_arr_foreach (list, i, max, c) {
        for (size_t r = 0; r < ARRAY_LEN(resources); r++) {
            int64_t request = container_request(c, resources[r]), limit = container_limit(c, resources[r]);
            if (request > 0 || limit > 0)
                *any = true;
            if (limit <= 0 || request != limit)
                *guaranteed = false;
        }
    }
}

enum pod_qos pod_qos(const struct pod *p) {
    bool any = false, guaranteed = true;
    qos_of_list(yyjson_obj_get(p->spec, "containers"), &any, &guaranteed);
    qos_of_list(yyjson_obj_get(p->spec, "initContainers"), &any, &guaranteed);
    return !any ? QOS_BEST_EFFORT : guaranteed ? QOS_GUARANTEED : QOS_BURSTABLE;
}

static int64_t oom_score(const struct pod *p, yyjson_val *container, int64_t node_memory) {
    if (json_int_or(yyjson_obj_get(p->spec, "priority"), 0) >= SYSTEM_CRITICAL_PRIORITY)
        return OOM_GUARANTEED;
    switch (pod_qos(p)) {
    case QOS_GUARANTEED:
        return OOM_GUARANTEED;
    case QOS_BEST_EFFORT:
        return OOM_BEST_EFFORT;
    case QOS_BURSTABLE:
        break;
    }
    int64_t request = container_request(container, "memory");
    if (request < 0)
        request = 0;
    int64_t score = node_memory > 0 ? 1000 - (int64_t)((__int128)1000 * request / node_memory) : 999;
    if (score < 1000 + OOM_GUARANTEED)
        return 1000 + OOM_GUARANTEED;
    return score >= OOM_BEST_EFFORT ? OOM_BEST_EFFORT - 1 : score;
}

void container_resources(const struct pod *p, yyjson_val *c, const struct resource_policy *policy,
                         struct linux_resources *out) {
    int64_t cpu_limit = container_limit(c, "cpu"), memory = container_limit(c, "memory");
    *out = (struct linux_resources){
        .cpu_shares = cpu_shares_of(container_request(c, "cpu")),
        .cpu_period_us = policy->cpu_period_us,
        .cpu_quota_us = policy->cpu_quota ? cpu_quota_of(cpu_limit, policy->cpu_period_us) : 0,
        .memory_bytes = memory > 0 ? memory : 0,
        .oom_score_adj = oom_score(p, c, policy->node_memory_bytes),
    };
}

/* The pod needs at least what its containers need together, or what the hungriest init container needs. */
static int64_t pod_sum(const struct pod *p, const char *resource, int64_t (*of)(yyjson_val *, const char *),
                       bool *everyone) {
    int64_t sum = 0, sidecars = 0, peak = 0;
    size_t i, max;
    yyjson_val *c;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "containers"), i, max, c) {
        int64_t n = of(c, resource);
        *everyone &= n > 0;
        sum += n > 0 ? n : 0;
    }
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "initContainers"), i, max, c) {
        int64_t n = of(c, resource);
        *everyone &= n > 0;
        n = n > 0 ? n : 0;
        if (container_is_sidecar(c))
            sidecars += n;
        else if (sidecars + n > peak)
            peak = sidecars + n;
    }
    sum += sidecars;
    return sum > peak ? sum : peak;
}

void pod_resources(const struct pod *p, const struct resource_policy *policy, struct linux_resources *out) {
    bool all_requests = true, all_cpu = true, all_memory = true;
    int64_t request = pod_sum(p, "cpu", container_request, &all_requests);
    int64_t cpu = pod_sum(p, "cpu", container_limit, &all_cpu);
    int64_t memory = pod_sum(p, "memory", container_limit, &all_memory);
    *out = (struct linux_resources){
        .cpu_shares = cpu_shares_of(request),
        .cpu_period_us = policy->cpu_period_us,
        .cpu_quota_us = policy->cpu_quota && all_cpu ? cpu_quota_of(cpu, policy->cpu_period_us) : 0,
        .memory_bytes = all_memory ? memory : 0,
        .pids = policy->pids_limit > 0 ? policy->pids_limit : 0,
    };
}
