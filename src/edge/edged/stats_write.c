/* The texts that stats are told in. */
#include "base/clock.h"
#include "base/json.h"
#include "edge/edged/stats_collect.h"

#include <inttypes.h>

/* ---- Summary ---- */

struct writer {
    yyjson_mut_doc *d;
    char now[RFC3339_SIZE];
    bool cpu_only;
};

static void set_known(struct writer *w, yyjson_mut_val *o, const char *key, int64_t value) {
    if (value >= 0)
        json_set_int(w->d, o, key, value);
}

static void set_time(struct writer *w, yyjson_mut_val *o, const char *key, int64_t s) {
    char text[RFC3339_SIZE];
    if (s > 0)
        json_set_str(w->d, o, key, rfc3339_seconds(s, text));
}

static yyjson_mut_val *timed(struct writer *w, yyjson_mut_val *parent, const char *key) {
    yyjson_mut_val *o = json_ensure_obj(w->d, parent, key);
    json_set_str(w->d, o, "time", w->now);
    return o;
}

static void add_use(struct writer *w, yyjson_mut_val *o, const struct cpu_memory *u, int64_t available) {
    yyjson_mut_val *cpu = timed(w, o, "cpu");
    set_known(w, cpu, "usageNanoCores", u->cpu_rate);
    set_known(w, cpu, "usageCoreNanoSeconds", u->cpu_ns);
    yyjson_mut_val *memory = timed(w, o, "memory");
    set_known(w, memory, "availableBytes", available);
    set_known(w, memory, "usageBytes", u->usage);
    set_known(w, memory, "workingSetBytes", u->working_set);
    set_known(w, memory, "rssBytes", u->rss);
}

static void add_fs(struct writer *w, yyjson_mut_val *parent, const char *key, const struct fs_usage *fs, int64_t used) {
    yyjson_mut_val *o = timed(w, parent, key);
    if (fs->capacity > 0) {
        json_set_int(w->d, o, "availableBytes", fs->available);
        json_set_int(w->d, o, "capacityBytes", fs->capacity);
    }
    set_known(w, o, "usedBytes", used);
    if (fs->inodes > 0) {
        json_set_int(w->d, o, "inodesFree", fs->inodes_free);
        json_set_int(w->d, o, "inodes", fs->inodes);
    }
}

static void add_container(struct writer *w, yyjson_mut_val *list, const struct node_stats *n,
                          const struct container_stats *c) {
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(w->d, list);
    json_set_str(w->d, o, "name", c->name);
    set_time(w, o, "startTime", c->started_s);
    add_use(w, o, &c->use, -1);
    if (w->cpu_only)
        return;
    add_fs(w, o, "rootfs", &n->image_fs, c->layer);
    add_fs(w, o, "logs", &n->fs, c->logs);
}

static void add_pod(struct writer *w, yyjson_mut_val *list, const struct node_stats *n, const struct pod_stats *p) {
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(w->d, list), *ref = json_ensure_obj(w->d, o, "podRef");
    json_set_str(w->d, ref, "name", p->name);
    json_set_str(w->d, ref, "namespace", p->ns);
    json_set_str(w->d, ref, "uid", p->uid);
    set_time(w, o, "startTime", p->started_s);
    yyjson_mut_val *containers = json_ensure_arr(w->d, o, "containers");
    for (size_t i = 0; i < p->n_containers; i++)
        add_container(w, containers, n, &p->containers[i]);
    add_use(w, o, &p->use, -1);
    if (w->cpu_only)
        return;
    add_fs(w, o, "ephemeral-storage", &n->fs, p->disk);
    json_set_int(w->d, json_ensure_obj(w->d, o, "process_stats"), "process_count", p->pids);
}

static void add_node(struct writer *w, yyjson_mut_val *root, const struct node_stats *n) {
    yyjson_mut_val *o = json_ensure_obj(w->d, root, "node");
    json_set_str(w->d, o, "nodeName", n->name);
    set_time(w, o, "startTime", n->booted_s);
    add_use(w, o, &n->use, n->memory_available);
    if (w->cpu_only)
        return;
    if (n->interface[0]) {
        yyjson_mut_val *network = timed(w, o, "network");
        json_set_str(w->d, network, "name", n->interface);
        json_set_int(w->d, network, "rxBytes", n->rx_bytes);
        json_set_int(w->d, network, "txBytes", n->tx_bytes);
    }
    add_fs(w, o, "fs", &n->fs, n->fs.used);
    add_fs(w, json_ensure_obj(w->d, o, "runtime"), "imageFs", &n->image_fs, n->image_fs.used);
    yyjson_mut_val *rlimit = timed(w, o, "rlimit");
    json_set_int(w->d, rlimit, "maxpid", n->pids_max);
    json_set_int(w->d, rlimit, "curproc", n->pids);
}

void stats_write_summary(const struct node_stats *n, bool cpu_only, struct buf *out) {
    struct writer w = {.d = yyjson_mut_doc_new(NULL), .cpu_only = cpu_only};
    rfc3339_seconds(n->now_ns / 1000000000, w.now);
    yyjson_mut_val *root = yyjson_mut_obj(w.d);
    yyjson_mut_doc_set_root(w.d, root);
    add_node(&w, root, n);
    yyjson_mut_val *pods = json_ensure_arr(w.d, root, "pods");
    for (size_t i = 0; i < n->n_pods; i++)
        add_pod(&w, pods, n, &n->pods[i]);
    /* In lines, as the kubelet's: KubeEdge's tunnel cuts a long line short (streams.md 2.1). */
    yyjson_doc *doc = yyjson_mut_doc_imut_copy(w.d, NULL);
    size_t len;
    _cleanup_(free_p) char *text = json_write_pretty(yyjson_doc_get_root(doc), &len);
    (void)buf_add(out, text, len);
    yyjson_doc_free(doc);
    yyjson_mut_doc_free(w.d);
}

/* ---- /metrics/resource ---- */

enum figure { FIGURE_CPU, FIGURE_MEMORY, FIGURE_START };

/* Names of nodes, pods, namespaces and containers are DNS names: they need no escapes. */
static void add_sample(struct buf *out, const struct node_stats *n, const char *metric, enum figure f,
                       const char *labels, const struct cpu_memory *u, int64_t started_s) {
    int64_t at_ms = n->now_ns / 1000000;
    if (f == FIGURE_CPU && u->cpu_ns >= 0)
        buf_addf(out, "%s%s %" PRId64 ".%09" PRId64 " %" PRId64 "\n", metric, labels, u->cpu_ns / 1000000000,
                 u->cpu_ns % 1000000000, at_ms);
    else if (f == FIGURE_MEMORY && u->working_set >= 0)
        buf_addf(out, "%s%s %" PRId64 " %" PRId64 "\n", metric, labels, u->working_set, at_ms);
    else if (f == FIGURE_START && started_s > 0)
        buf_addf(out, "%s%s %" PRId64 "\n", metric, labels, started_s);
}

static const struct {
    const char *suffix, *type, *help;
} figures[] = {
    [FIGURE_CPU] = {"cpu_usage_seconds_total", "counter", "CPU time consumed, in core-seconds"},
    [FIGURE_MEMORY] = {"memory_working_set_bytes", "gauge", "Working set, in bytes"},
    [FIGURE_START] = {"start_time_seconds", "gauge", "Start time since the Unix epoch, in seconds"},
};

static void begin_metric(struct buf *out, const char *prefix, enum figure f, char *name, size_t size) {
    snprintf(name, size, "%s_%s", prefix, figures[f].suffix);
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, figures[f].help, name, figures[f].type);
}

void stats_write_resource(const struct node_stats *n, struct buf *out) {
    char metric[64];
    for (enum figure f = FIGURE_CPU; f <= FIGURE_START; f++) {
        begin_metric(out, "container", f, metric, sizeof(metric));
        for (size_t i = 0; i < n->n_pods; i++)
            for (size_t k = 0; k < n->pods[i].n_containers; k++) {
                const struct container_stats *c = &n->pods[i].containers[k];
                _cleanup_(free_p) char *labels = xasprintf("{container=\"%s\",namespace=\"%s\",pod=\"%s\"}", c->name,
                                                           n->pods[i].ns, n->pods[i].name);
                add_sample(out, n, metric, f, labels, &c->use, c->started_s);
            }
    }
    for (enum figure f = FIGURE_CPU; f <= FIGURE_MEMORY; f++) {
        begin_metric(out, "node", f, metric, sizeof(metric));
        add_sample(out, n, metric, f, "", &n->use, 0);
        begin_metric(out, "pod", f, metric, sizeof(metric));
        for (size_t i = 0; i < n->n_pods; i++) {
            _cleanup_(free_p) char *labels = xasprintf("{namespace=\"%s\",pod=\"%s\"}", n->pods[i].ns, n->pods[i].name);
            add_sample(out, n, metric, f, labels, &n->pods[i].use, 0);
        }
    }
    buf_add_str(out,
                "# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n"
                "# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
}
