/* Measuring: the runtime's figures of containers, the cgroups' of pods, the kernel's of the node. */
#include "edge/edged/stats.h"

#include "base/clock.h"
#include "edge/edged/node_facts.h"
#include "edge/edged/pod_usage.h"
#include "edge/edged/pod_worker.h"
#include "edge/edged/stats_collect.h"

#include <utlist.h>

#define FRESH_MS 1000     /* a measurement serves whoever asks so soon after it */
#define FIRST_RATE_MS 100 /* without an earlier one a second one follows, for the rates */
#define TEXT_MAX (16u << 20)
#define FORGET_AFTER 8 /* measurements in which something did not occur */

/* What something had used when it was last measured. */
struct earlier {
    int64_t cpu_ns, at_ns;
    unsigned round;
    UT_hash_handle hh;
    char key[];
};

struct stats_request {
    struct stats *stats;
    enum stats_form form;
    void (*done)(void *arg, struct bytes text);
    void *arg;
    struct stats_request *prev, *next;
};

struct stats {
    struct pods *pods;
    struct image_gc *images;
    struct timer *timer;
    struct stats_request *requests;
    struct earlier *earlier;
    unsigned round;
    int64_t measured_ms; /* 0: never */
    bool busy, again;

    /* of the measurement under way, and the last one */
    struct node_stats node;
    struct pod_usage **usages; /* beside node.pods */
    struct node_facts facts;
    char *image_path;
    bool with_disk;
};

static void begin(void *arg);

/* ---- results ---- */

static void drop_results(struct stats *s) {
    for (size_t i = 0; i < s->node.n_pods; i++) {
        struct pod_stats *p = &s->node.pods[i];
        for (size_t k = 0; k < p->n_containers; k++) {
            free(p->containers[k].name);
            free(p->containers[k].id);
        }
        free(p->containers);
        free(p->uid);
        free(p->ns);
        free(p->name);
        pod_usage_free(s->usages[i]);
    }
    free(TAKE(s->node.pods));
    free(TAKE(s->usages));
    free(TAKE(s->image_path));
    s->node.n_pods = 0;
}

static void rate(struct stats *s, const char *key, struct cpu_memory *u) {
    struct earlier *e;
    int64_t now = clock_mono_ns();
    u->cpu_rate = -1;
    HASH_FIND_STR(s->earlier, key, e);
    if (!e) {
        e = xcalloc(1, sizeof(*e) + strlen(key) + 1);
        memcpy(e->key, key, strlen(key) + 1);
        HASH_ADD_STR(s->earlier, key, e);
    } else if (u->cpu_ns >= e->cpu_ns && now > e->at_ns) {
        u->cpu_rate = (int64_t)((double)(u->cpu_ns - e->cpu_ns) * 1e9 / (double)(now - e->at_ns));
    }
    *e = (struct earlier){.cpu_ns = u->cpu_ns, .at_ns = now, .round = s->round, .hh = e->hh};
}

static void rates(struct stats *s) {
    struct earlier *e, *tmp;
    s->round++;
    rate(s, "node", &s->node.use);
    for (size_t i = 0; i < s->node.n_pods; i++) {
        struct pod_stats *p = &s->node.pods[i];
        rate(s, p->uid, &p->use);
        for (size_t k = 0; k < p->n_containers; k++)
            rate(s, p->containers[k].id, &p->containers[k].use);
    }
    HASH_ITER (hh, s->earlier, e, tmp) {
        if (s->round - e->round < FORGET_AFTER)
            continue;
        HASH_DEL(s->earlier, e);
        free(e);
    }
}

static void answer_all(struct stats *s) {
    struct stats_request *r, *tmp, *list = TAKE(s->requests);
    DL_FOREACH_SAFE (list, r, tmp) {
        _cleanup_(buf_free) struct buf text = BUF_INIT(TEXT_MAX);
        if (r->form == STATS_RESOURCE)
            stats_write_resource(&s->node, &text);
        else
            stats_write_summary(&s->node, r->form == STATS_SUMMARY_CPU_ONLY, &text);
        DL_DELETE(list, r);
        r->done(r->arg, buf_bytes(&text));
        free(r);
    }
}

/* ---- on the pool ---- */

static void measure(void *arg) {
    struct stats *s = arg;
    struct node_stats *n = &s->node;
    const struct cgroups *c = &s->pods->cgroups;
    node_amounts_read(s->pods->config, &s->facts);
    node_use_read(n);
    fs_usage_read(s->pods->root, &n->fs);
    if (s->image_path)
        fs_usage_read(s->image_path, &n->image_fs);
    n->pids = s->facts.pids_running;
    n->pids_max = s->facts.pids_max;
    for (size_t i = 0; i < n->n_pods; i++) {
        pod_usage_read(s->usages[i], c, s->with_disk);
        n->pods[i].use.cpu_ns = cgroup_pod_cpu_ns(c, s->usages[i]->qos, s->usages[i]->uid);
    }
}

static void measured(void *arg) {
    struct stats *s = arg;
    for (size_t i = 0; i < s->node.n_pods; i++) {
        struct pod_stats *p = &s->node.pods[i];
        const struct pod_usage *u = s->usages[i];
        p->use.working_set = u->memory;
        p->use.usage = p->use.rss = -1;
        p->pids = u->pids;
        p->disk = s->with_disk ? pod_usage_disk(u) : -1;
        for (size_t k = 0; k < p->n_containers; k++) {
            p->containers[k].logs = p->containers[k].layer = -1;
            for (size_t j = 0; j < u->n_containers; j++)
                if (str_eq(u->containers[j].name, p->containers[k].name)) {
                    p->containers[k].layer = u->containers[j].layer;
                    p->containers[k].logs = s->with_disk ? u->containers[j].logs : -1;
                }
        }
    }
    rates(s);
    s->measured_ms = clock_mono_ms();
    s->busy = false;
    if (s->node.use.cpu_rate < 0 && !s->again) {
        s->again = true;
        timer_set(s->timer, FIRST_RATE_MS);
        return;
    }
    s->again = false;
    answer_all(s);
}

/* ---- on the loop ---- */

static int64_t known(const Cri__UInt64Value *v) {
    return v && v->value <= INT64_MAX ? (int64_t)v->value : -1;
}

static void add_container(struct pod_stats *p, const Cri__ContainerStats *s, const char *name,
                          const struct rt_container *r) {
    struct container_stats *c = &p->containers[p->n_containers++];
    *c = (struct container_stats){.name = xstrdup(name),
                                  .id = xstrdup(s->attributes->id),
                                  .started_s = r ? r->started_ns / 1000000000 : 0,
                                  .use = {.cpu_ns = s->cpu ? known(s->cpu->usage_core_nano_seconds) : -1,
                                          .working_set = s->memory ? known(s->memory->working_set_bytes) : -1,
                                          .usage = s->memory ? known(s->memory->usage_bytes) : -1,
                                          .rss = s->memory ? known(s->memory->rss_bytes) : -1}};
}

/* The pod's own figures of its containers; each at most once. */
static void take_containers(struct pod_stats *p, struct pod_worker *w, const Cri__ListContainerStatsResponse *r) {
    p->containers = xcalloc(w->n_containers + 1, sizeof(*p->containers));
    for (size_t i = 0; i < r->n_stats && p->n_containers < w->n_containers; i++) {
        const Cri__ContainerStats *s = r->stats[i];
        const Cri__ContainerAttributes *a = s->attributes;
        if (!a || str_empty(a->id) || !str_eq(cri_pair_get(a->labels, a->n_labels, LABEL_POD_UID), w->uid))
            continue;
        const char *name = cri_pair_get(a->labels, a->n_labels, LABEL_CONTAINER_NAME);
        const struct rt_container *rc = rt_container_find(&w->rt, a->id);
        if (!str_empty(name) && rc && rc->state == RT_RUNNING)
            add_container(p, s, name, rc);
    }
}

static void on_containers(void *arg, int status, const void *reply, const struct error *err) {
    static const Cri__ListContainerStatsResponse none = CRI__LIST_CONTAINER_STATS_RESPONSE__INIT;
    struct stats *s = arg;
    struct pods *ps = s->pods;
    const Cri__ListContainerStatsResponse *r = reply ? reply : &none;
    drop_results(s);
    s->node.pods = xcalloc(HASH_COUNT(ps->workers) + 1, sizeof(*s->node.pods));
    s->usages = xcalloc(HASH_COUNT(ps->workers) + 1, sizeof(struct pod_usage *));
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp) {
        if (!w->pod || w->stage != STAGE_RUN)
            continue;
        struct pod_stats *p = &s->node.pods[s->node.n_pods];
        *p = (struct pod_stats){
            .uid = xstrdup(w->uid), .ns = xstrdup(w->ns), .name = xstrdup(w->name), .started_s = w->start_s};
        take_containers(p, w, r);
        _cleanup_(free_p) char *logs = pod_log_dir(ps->config->pod_logs_dir, w->pod);
        s->usages[s->node.n_pods] = pod_usage_new(w->pod, w->qos, w->dir, logs);
        pod_usage_add_layers(s->usages[s->node.n_pods++], r);
    }
    s->node.name = ps->config->node_name;
    s->node.now_ns = clock_wall_ms() * 1000000;
    s->image_path = xstrdup_null(image_gc_mountpoint(s->images));
    s->with_disk = false;
    struct stats_request *q;
    DL_FOREACH (s->requests, q)
        s->with_disk |= q->form == STATS_SUMMARY;
    pool_submit(ps->pool, ps->loop, measure, measured, s);
}

static void begin(void *arg) {
    struct stats *s = arg;
    bool fresh = s->measured_ms && clock_mono_ms() - s->measured_ms < FRESH_MS;
    if (s->busy)
        return;
    if (fresh && !s->again) {
        answer_all(s);
        return;
    }
    s->busy = true;
    Cri__ListContainerStatsRequest q = CRI__LIST_CONTAINER_STATS_REQUEST__INIT;
    cri_call(s->pods->cri, CRI_LIST_CONTAINER_STATS, &q, 0, on_containers, s);
}

struct stats_request *stats_ask(struct stats *s, enum stats_form form, void (*done)(void *arg, struct bytes text),
                                void *arg) {
    struct stats_request *r = NEW(struct stats_request);
    *r = (struct stats_request){.stats = s, .form = form, .done = done, .arg = arg};
    if (form == STATS_SUMMARY && !s->with_disk)
        s->measured_ms = 0; /* what was measured last lacks the disks */
    DL_APPEND(s->requests, r);
    if (!s->busy && !s->again)
        timer_set(s->timer, 0);
    return r;
}

void stats_cancel(struct stats_request *r) {
    if (!r)
        return;
    DL_DELETE(r->stats->requests, r);
    free(r);
}

struct stats *stats_new(struct pods *ps, struct image_gc *images) {
    struct stats *s = NEW(struct stats);
    s->pods = ps;
    s->images = images;
    s->timer = timer_new(ps->loop, begin, s);
    return s;
}

void stats_free(struct stats *s) {
    if (!s)
        return;
    while (s->requests)
        stats_cancel(s->requests);
    struct earlier *e, *tmp;
    HASH_ITER (hh, s->earlier, e, tmp) {
        HASH_DEL(s->earlier, e);
        free(e);
    }
    drop_results(s);
    timer_free(s->timer);
    free(s);
}
