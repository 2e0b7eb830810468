#include "edge/edged/node_object.h"

#include "base/mem.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/patch.h"
#include "kube/quantity.h"

#include <stdio.h>

/* The kubelet that our behaviour follows, and the KubeEdge release that our wire does. */
#define KUBELET_VERSION "v1.32.10-kubeedge-v1.23.0-selvage-" SELVAGE_VERSION

void node_view_free(struct node_view *v) {
    free(v->runtime_version);
    free(v->not_ready);
    *v = (struct node_view){0};
}

/* ---- resources ---- */

static int64_t amount(const struct strlist *map, const char *key, bool milli) {
    const char *text = config_map_get(map, key);
    struct quantity q;
    if (!text || quantity_parse(bytes_str(text), &q, NULL) < 0)
        return 0;
    return milli ? quantity_milli(q) : quantity_value(q);
}

/* An eviction threshold: a quantity, or a percentage of the whole. */
static int64_t threshold(const struct node_view *v, const char *signal, int64_t whole) {
    const char *text = config_map_get(&v->config->eviction_hard, signal);
    int64_t percent;
    if (!text)
        return 0;
    struct bytes b = bytes_str(text);
    if (!bytes_ends_with(b, "%"))
        return amount(&v->config->eviction_hard, signal, false);
    return parse_i64(bytes_of(b.ptr, b.len - 1), 0, 100, &percent) == 0 ? whole / 100 * percent : 0;
}

static int64_t hugepage_bytes(const struct node_view *v) {
    int64_t sum = 0;
    for (size_t i = 0; i < v->facts.n_hugepages; i++)
        sum += v->facts.hugepages[i].size_kib * 1024 * v->facts.hugepages[i].pages;
    return sum;
}

struct node_resources node_capacity(const struct node_view *v) {
    const struct edged_config *c = v->config;
    struct node_resources r = {
        .cpu_milli = v->facts.cpus * 1000, .memory = v->facts.memory, .disk = v->facts.disk, .pods = c->max_pods};
    if (c->pods_per_core > 0 && c->pods_per_core * v->facts.cpus < r.pods)
        r.pods = c->pods_per_core * v->facts.cpus;
    return r;
}

static int64_t at_least_0(int64_t n) {
    return n < 0 ? 0 : n;
}

struct node_resources node_allocatable(const struct node_view *v) {
    const struct edged_config *c = v->config;
    struct node_resources r = node_capacity(v);
    r.cpu_milli =
        at_least_0(r.cpu_milli - amount(&c->system_reserved, "cpu", true) - amount(&c->kube_reserved, "cpu", true));
    r.memory = at_least_0(r.memory - amount(&c->system_reserved, "memory", false) -
                          amount(&c->kube_reserved, "memory", false) -
                          threshold(v, "memory.available", v->facts.memory) - hugepage_bytes(v));
    r.disk = at_least_0(r.disk - amount(&c->system_reserved, "ephemeral-storage", false) -
                        amount(&c->kube_reserved, "ephemeral-storage", false) -
                        threshold(v, "nodefs.available", v->facts.disk));
    return r;
}

static void set_quantity(yyjson_mut_doc *d, yyjson_mut_val *o, const char *key, int64_t value, int64_t per_unit,
                         bool binary) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64);
    struct quantity q = {.nano = (__int128)value * (1000000000 / per_unit)};
    if (quantity_format(q, binary, &text) == 0)
        json_set_str(d, o, key, text.ptr);
}

static yyjson_mut_val *resources(const struct node_view *v, yyjson_mut_doc *d, const struct node_resources *r) {
    yyjson_mut_val *o = yyjson_mut_obj(d);
    set_quantity(d, o, "cpu", r->cpu_milli, 1000, false);
    set_quantity(d, o, "ephemeral-storage", r->disk, 1, true);
    for (size_t i = 0; i < v->facts.n_hugepages; i++) {
        _cleanup_(buf_free) struct buf key = BUF_INIT(64);
        int64_t size = v->facts.hugepages[i].size_kib * 1024;
        (void)buf_add_str(&key, "hugepages-");
        if (quantity_format((struct quantity){.nano = (__int128)size * 1000000000}, true, &key) == 0)
            set_quantity(d, o, key.ptr, size * v->facts.hugepages[i].pages, 1, true);
    }
    set_quantity(d, o, "memory", r->memory, 1, true);
    set_quantity(d, o, "pods", r->pods, 1, false);
    return o;
}

/* ---- status ---- */

static yyjson_val *stored_condition(yyjson_val *stored, const char *type) {
    yyjson_val *c;
    size_t i, n;
    yyjson_arr_foreach (json_get(stored, "status", "conditions"), i, n, c) {
        if (str_eq(json_str(c, "type"), type))
            return c;
    }
    return NULL;
}

struct condition {
    const char *type, *status, *reason, *message;
};

static void add_condition(yyjson_mut_doc *d, yyjson_mut_val *list, const struct condition *c, yyjson_val *stored,
                          const char *now) {
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d, list);
    yyjson_val *before = stored_condition(stored, c->type);
    const char *since = str_eq(json_str(before, "status"), c->status) ? json_str(before, "lastTransitionTime") : NULL;
    json_set_str(d, o, "type", c->type);
    json_set_str(d, o, "status", c->status);
    json_set_str(d, o, "lastHeartbeatTime", now);
    json_set_str(d, o, "lastTransitionTime", str_or(since, now));
    json_set_str(d, o, "reason", c->reason);
    json_set_str(d, o, "message", c->message);
}

static yyjson_mut_val *conditions(const struct node_view *v, yyjson_mut_doc *d, yyjson_val *stored, const char *now) {
    yyjson_mut_val *list = yyjson_mut_arr(d);
    add_condition(d, list,
                  v->pressure[PRESSURE_MEMORY]
                      ? &(struct condition){"MemoryPressure", "True", "KubeletHasInsufficientMemory",
                                            "kubelet has insufficient memory available"}
                      : &(struct condition){"MemoryPressure", "False", "KubeletHasSufficientMemory",
                                            "kubelet has sufficient memory available"},
                  stored, now);
    add_condition(
        d, list,
        v->pressure[PRESSURE_DISK]
            ? &(struct condition){"DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure"}
            : &(struct condition){"DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
        stored, now);
    add_condition(d, list,
                  v->pressure[PRESSURE_PIDS] ? &(struct condition){"PIDPressure", "True", "KubeletHasInsufficientPID",
                                                                   "kubelet has insufficient PID available"}
                                             : &(struct condition){"PIDPressure", "False", "KubeletHasSufficientPID",
                                                                   "kubelet has sufficient PID available"},
                  stored, now);
    add_condition(d, list,
                  v->not_ready ? &(struct condition){"Ready", "False", "KubeletNotReady", v->not_ready}
                               : &(struct condition){"Ready", "True", "EdgeReady", "edge is posting ready status"},
                  stored, now);
    return list;
}

static yyjson_mut_val *addresses(const struct node_view *v, yyjson_mut_doc *d) {
    yyjson_mut_val *list = yyjson_mut_arr(d), *o;
    if (*v->facts.ip) {
        o = yyjson_mut_arr_add_obj(d, list);
        json_set_str(d, o, "type", "InternalIP");
        json_set_str(d, o, "address", v->facts.ip);
    }
    o = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, o, "type", "Hostname");
    json_set_str(d, o, "address", v->config->node_name);
    return list;
}

static yyjson_mut_val *node_info(const struct node_view *v, yyjson_mut_doc *d) {
    const struct node_facts *f = &v->facts;
    yyjson_mut_val *o = yyjson_mut_obj(d);
    json_set_str(d, o, "machineID", f->machine_id);
    json_set_str(d, o, "systemUUID", f->system_uuid);
    json_set_str(d, o, "bootID", f->boot_id);
    json_set_str(d, o, "kernelVersion", f->kernel);
    json_set_str(d, o, "osImage", f->os_image);
    json_set_str(d, o, "containerRuntimeVersion", str_or(v->runtime_version, ""));
    json_set_str(d, o, "kubeletVersion", KUBELET_VERSION);
    json_set_str(d, o, "kubeProxyVersion", "");
    json_set_str(d, o, "operatingSystem", "linux");
    json_set_str(d, o, "architecture", f->architecture ? f->architecture : "unknown");
    return o;
}

/* The members of the status that are ours. */
static yyjson_mut_val *status(const struct node_view *v, yyjson_mut_doc *d, yyjson_val *stored, const char *now) {
    struct node_resources capacity = node_capacity(v), allocatable = node_allocatable(v);
    yyjson_mut_val *o = yyjson_mut_obj(d);
    json_set(d, o, "capacity", resources(v, d, &capacity));
    json_set(d, o, "allocatable", resources(v, d, &allocatable));
    json_set(d, o, "conditions", conditions(v, d, stored, now));
    json_set(d, o, "addresses", addresses(v, d));
    json_set(d, o, "nodeInfo", node_info(v, d));
    return o;
}

/* ---- registration ---- */

static yyjson_mut_val *labels(const struct node_view *v, yyjson_mut_doc *d) {
    yyjson_mut_val *o = yyjson_mut_obj(d);
    const char *arch = v->facts.architecture ? v->facts.architecture : "unknown";
    json_set_str(d, o, "beta.kubernetes.io/arch", arch);
    json_set_str(d, o, "beta.kubernetes.io/os", "linux");
    json_set_str(d, o, "kubernetes.io/arch", arch);
    json_set_str(d, o, "kubernetes.io/hostname", v->config->node_name);
    json_set_str(d, o, "kubernetes.io/os", "linux");
    json_set_str(d, o, "node-role.kubernetes.io/agent", "");
    json_set_str(d, o, "node-role.kubernetes.io/edge", "");
    for (size_t i = 0; i < v->config->labels.count; i++) {
        struct bytes key, value;
        if (!bytes_cut(bytes_str(v->config->labels.items[i]), '=', &key, &value))
            continue;
        _cleanup_(free_p) char *k = bytes_dup(key), *val = bytes_dup(value);
        json_set_str(d, o, k, val);
    }
    return o;
}

static void add_taints(const struct node_view *v, yyjson_mut_doc *d, yyjson_mut_val *spec) {
    const char *text = v->config->register_taints;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *taints = str_empty(text) ? NULL : json_parse(bytes_str(text), 65536, NULL);
    yyjson_mut_val *list = yyjson_is_arr(yyjson_doc_get_root(taints))
                               ? yyjson_val_mut_copy(d, yyjson_doc_get_root(taints))
                               : yyjson_mut_arr(d);
    if (!v->config->register_schedulable) {
        json_set_bool(d, spec, "unschedulable", true);
        yyjson_mut_val *t = yyjson_mut_arr_add_obj(d, list);
        json_set_str(d, t, "key", "node.kubernetes.io/unschedulable");
        json_set_str(d, t, "effect", "NoSchedule");
    }
    if (yyjson_mut_arr_size(list) > 0)
        json_set(d, spec, "taints", list);
}

static yyjson_mut_val *named_node(const struct node_view *v, yyjson_mut_doc *d) {
    yyjson_mut_val *node = yyjson_mut_obj(d), *meta;
    json_set_str(d, node, "kind", "Node");
    json_set_str(d, node, "apiVersion", "v1");
    meta = json_ensure_obj(d, node, "metadata");
    json_set_str(d, meta, "name", v->config->node_name);
    return node;
}

yyjson_doc *node_object(const struct node_view *v, const char *now) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *node = named_node(v, d), *meta = json_ensure_obj(d, node, "metadata"),
                   *spec = json_ensure_obj(d, node, "spec"), *st;
    json_set(d, meta, "labels", labels(v, d));
    if (v->config->controller_attach_detach)
        json_set_str(d, json_ensure_obj(d, meta, "annotations"),
                     "volumes.kubernetes.io/controller-managed-attach-detach", "true");
    add_taints(v, d, spec);
    st = status(v, d, NULL, now);
    json_set_int(d, json_ensure_obj(d, json_ensure_obj(d, st, "daemonEndpoints"), "kubeletEndpoint"), "Port",
                 v->config->read_only_port);
    json_set(d, node, "status", st);
    yyjson_mut_doc_set_root(d, node);
    return yyjson_mut_doc_imut_copy(d, NULL);
}

char *node_label_update(const struct node_view *v, yyjson_val *stored) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *wanted = labels(v, d), *key, *value;
    size_t i, n;
    bool differ = false;
    yyjson_mut_obj_foreach (wanted, i, n, key, value) {
        if (!str_eq(object_label(stored, yyjson_mut_get_str(key)), yyjson_mut_get_str(value)))
            differ = true;
    }
    if (!differ)
        return NULL;
    yyjson_mut_val *node = named_node(v, d);
    json_set(d, json_ensure_obj(d, node, "metadata"), "labels", wanted);
    return json_write_mut(node, NULL);
}

/* ---- patches ---- */

/* The stored status, cut down to what is ours: members and conditions of others must not appear as removed. */
static yyjson_mut_val *stored_status(yyjson_mut_doc *d, yyjson_val *stored, bool with_conditions) {
    static const char *const members[] = {"capacity", "allocatable", "addresses", "nodeInfo"};
    static const char *const types[] = {"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"};
    yyjson_mut_val *o = yyjson_mut_obj(d);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        yyjson_val *m = json_get(stored, "status", members[i]);
        if (m)
            json_set(d, o, members[i], yyjson_val_mut_copy(d, m));
    }
    if (!with_conditions)
        return o;
    yyjson_mut_val *list = json_ensure_arr(d, o, "conditions");
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        yyjson_val *c = stored_condition(stored, types[i]);
        if (c)
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d, c));
    }
    return o;
}

static yyjson_doc *frozen(yyjson_mut_doc *d, yyjson_mut_val *status_value) {
    yyjson_mut_val *node = yyjson_mut_obj(d);
    json_set(d, node, "status", status_value);
    yyjson_mut_doc_set_root(d, node);
    return yyjson_mut_doc_imut_copy(d, NULL);
}

static void set_heartbeats(yyjson_mut_doc *d, yyjson_mut_val *status_value, const char *now) {
    yyjson_mut_val *c;
    size_t i, n;
    yyjson_mut_arr_foreach (yyjson_mut_obj_get(status_value, "conditions"), i, n, c) {
        json_set_str(d, c, "lastHeartbeatTime", now);
    }
}

static int diff(yyjson_mut_doc *d, yyjson_doc *from, yyjson_doc *to, yyjson_mut_val **out, struct error *err) {
    return patch_diff_strategic(d, schema_find("", "v1", "Node"), yyjson_doc_get_root(from), yyjson_doc_get_root(to),
                                out, err);
}

char *node_status_patch(const struct node_view *v, yyjson_val *stored, const char *now, bool whole, bool *changed,
                        struct error *err) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *to = frozen(d, status(v, d, stored, now));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *from = frozen(d, stored_status(d, stored, !whole));
    yyjson_mut_val *same_time = stored_status(d, stored, true), *patch = NULL, *beyond = NULL;
    set_heartbeats(d, same_time, now);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *still = frozen(d, same_time);
    if (diff(d, still, to, &beyond, err) < 0 || diff(d, from, to, &patch, err) < 0)
        return NULL;
    *changed = beyond != NULL || whole;
    return patch ? json_write_mut(patch, NULL) : xstrdup("{}");
}
