#include "edge/edged/pod_usage.h"

#include "base/file.h"
#include "edge/edged/runtime_view.h"
#include "kube/quantity.h"

static bool on_disk(yyjson_val *volume) {
    yyjson_val *e = yyjson_obj_get(volume, "emptyDir");
    return yyjson_is_obj(e) && str_empty(json_str(e, "medium"));
}

struct pod_usage *pod_usage_new(const struct pod *p, enum pod_qos qos, const char *dir, const char *log_dir) {
    struct pod_usage *u = NEW(struct pod_usage);
    u->uid = xstrdup(p->uid);
    u->dir = xstrdup(dir);
    u->log_dir = xstrdup(log_dir);
    u->qos = qos;
    yyjson_val *containers = yyjson_obj_get(p->spec, "containers"), *volumes = yyjson_obj_get(p->spec, "volumes"), *v;
    size_t i, max;
    u->containers = xcalloc(yyjson_arr_size(containers) + 1, sizeof(*u->containers));
    yyjson_arr_foreach (containers, i, max, v)
        u->containers[u->n_containers++].name = xstrdup(json_str(v, "name"));
    u->empty_dirs = xcalloc(yyjson_arr_size(volumes) + 1, sizeof(*u->empty_dirs));
    yyjson_arr_foreach (volumes, i, max, v) {
        if (on_disk(v))
            u->empty_dirs[u->n_empty_dirs++].name = xstrdup(json_str(v, "name"));
    }
    return u;
}

void pod_usage_free(struct pod_usage *u) {
    if (!u)
        return;
    for (size_t i = 0; i < u->n_containers; i++)
        free(u->containers[i].name);
    for (size_t i = 0; i < u->n_empty_dirs; i++)
        free(u->empty_dirs[i].name);
    free(u->containers);
    free(u->empty_dirs);
    free(u->uid);
    free(u->dir);
    free(u->log_dir);
    free(u);
}

void pod_usage_add_layers(struct pod_usage *u, const Cri__ListContainerStatsResponse *r) {
    for (size_t i = 0; i < r->n_stats; i++) {
        const Cri__ContainerStats *s = r->stats[i];
        if (!s->attributes || !s->writable_layer || !s->writable_layer->used_bytes)
            continue;
        const Cri__ContainerAttributes *a = s->attributes;
        if (!str_eq(cri_pair_get(a->labels, a->n_labels, LABEL_POD_UID), u->uid))
            continue;
        const char *name = cri_pair_get(a->labels, a->n_labels, LABEL_CONTAINER_NAME);
        uint64_t used = s->writable_layer->used_bytes->value;
        for (size_t k = 0; k < u->n_containers; k++)
            if (str_eq(u->containers[k].name, name))
                u->containers[k].layer = used > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)used;
    }
}

void pod_usage_read(struct pod_usage *u, const struct cgroups *c, bool with_disk) {
    u->memory = cgroup_pod_memory(c, u->qos, u->uid);
    u->pids = cgroup_pod_pids(c, u->qos, u->uid);
    for (size_t i = 0; with_disk && i < u->n_containers; i++) {
        _cleanup_(free_p) char *logs = xasprintf("%s/%s", u->log_dir, u->containers[i].name);
        u->containers[i].logs = dir_usage(logs);
    }
    for (size_t i = 0; with_disk && i < u->n_empty_dirs; i++) {
        _cleanup_(free_p) char *dir = xasprintf("%s/volumes/kubernetes.io~empty-dir/%s", u->dir, u->empty_dirs[i].name);
        u->empty_dirs[i].used = dir_usage(dir);
    }
}

int64_t pod_usage_disk(const struct pod_usage *u) {
    int64_t sum = 0;
    for (size_t i = 0; i < u->n_containers; i++)
        sum += u->containers[i].layer + u->containers[i].logs;
    for (size_t i = 0; i < u->n_empty_dirs; i++)
        sum += u->empty_dirs[i].used;
    return sum;
}

/* ---- limits ---- */

static int64_t size_limit(yyjson_val *volume, const char **text) {
    struct quantity q;
    *text = json_str(volume, "emptyDir", "sizeLimit");
    if (!on_disk(volume) || !*text || quantity_parse(bytes_str(*text), &q, NULL) < 0)
        return 0;
    return quantity_value(q);
}

bool pod_has_local_limits(const struct pod *p) {
    size_t i, max;
    yyjson_val *v;
    const char *text;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "volumes"), i, max, v) {
        if (size_limit(v, &text) > 0)
            return true;
    }
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "containers"), i, max, v) {
        if (container_limit(v, "ephemeral-storage") > 0)
            return true;
    }
    return false;
}

static const struct empty_dir_usage *empty_dir_named(const struct pod_usage *u, const char *name) {
    for (size_t i = 0; i < u->n_empty_dirs; i++)
        if (str_eq(u->empty_dirs[i].name, name))
            return &u->empty_dirs[i];
    return NULL;
}

char *pod_local_limit_exceeded(const struct pod *p, const struct pod_usage *u) {
    size_t i, max;
    yyjson_val *v;
    const char *text;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "volumes"), i, max, v) {
        int64_t limit = size_limit(v, &text);
        const struct empty_dir_usage *e = empty_dir_named(u, json_str(v, "name"));
        if (limit > 0 && e && e->used > limit)
            return xasprintf("Usage of EmptyDir volume \"%s\" exceeds the limit \"%s\". ", e->name, text);
    }
    int64_t total = 0;
    bool all = true;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "containers"), i, max, v) {
        int64_t limit = container_limit(v, "ephemeral-storage");
        all &= limit > 0;
        if (limit <= 0 || i >= u->n_containers)
            continue;
        total = limit > INT64_MAX - total ? INT64_MAX : total + limit;
        if (u->containers[i].layer + u->containers[i].logs > limit)
            return xasprintf("Container %s exceeded its local ephemeral storage limit \"%s\". ", u->containers[i].name,
                             str_or(json_str(v, "resources", "limits", "ephemeral-storage"), ""));
    }
    if (all && total > 0 && pod_usage_disk(u) > total)
        return xasprintf("Pod ephemeral local storage usage exceeds the total limit of containers %lld. ",
                         (long long)total);
    return NULL;
}
