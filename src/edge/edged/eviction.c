#define LOG_COMPONENT "edged"
#include "edge/edged/eviction.h"

#include "base/clock.h"
#include "base/log.h"
#include "edge/edged/node_facts.h"
#include "edge/edged/pod_worker.h"
#include "kube/quantity.h"

#include <sys/statvfs.h>

#define TICK_MAX_MS 10000
#define LIMITS_EVERY 6 /* ticks between looks at the pods' own storage limits: that walks folders */
#define CRITICAL_PRIORITY 2000000000
#define HARD_GRACE_S 1

struct eviction {
    struct pods *pods;
    struct image_gc *images;
    struct timer *timer;
    struct pressure pressure;
    void (*changed)(void *arg);
    void *arg;
    unsigned ticks;

    /* of the look under way */
    char *imagefs; /* path */
    struct signal_reading readings[N_SIGNALS];
    const struct pressure_threshold *acting; /* NULL: only limits are looked at */
    bool with_disk;
    bool images_tried; /* unused images went already, under this pressure */
    struct pod_usage **usages;
    size_t n_usages;
};

/* ---- who goes first ---- */

static bool goes_before(const struct eviction_candidate *a, const struct eviction_candidate *b) {
    bool a_over = a->usage > a->request, b_over = b->usage > b->request;
    if (a_over != b_over)
        return a_over;
    if (a->priority != b->priority)
        return a->priority < b->priority;
    return a->usage - a->request > b->usage - b->request;
}

const struct eviction_candidate *eviction_first(const struct eviction_candidate *list, size_t n) {
    const struct eviction_candidate *first = NULL;
    for (size_t i = 0; i < n; i++)
        if (!first || goes_before(&list[i], first))
            first = &list[i];
    return first;
}

static int64_t priority_of(const struct pod *p) {
    return json_int_or(yyjson_obj_get(p->spec, "priority"), 0);
}

bool pod_is_critical(const struct pod *p) {
    return p->is_static || priority_of(p) >= CRITICAL_PRIORITY;
}

static int64_t requested(const struct pod *p, const char *resource) {
    int64_t sum = 0;
    size_t i, max;
    yyjson_val *c;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "containers"), i, max, c) {
        int64_t r = container_request(c, resource);
        if (r > 0)
            sum = r > INT64_MAX - sum ? INT64_MAX : sum + r;
    }
    return sum;
}

/* ---- ending a pod ---- */

static void evict(struct pod_worker *w, const char *message, int64_t max_grace_s) {
    log_warn("pod is evicted pod=%s/%s: %s", w->ns, w->name, message);
    worker_event(w, NULL, true, "Evicted", "%s", message);
    worker_stop(w, "Evicted", message);
    if (w->grace_s > max_grace_s)
        w->grace_s = max_grace_s;
    worker_wake(w, 0);
}

static struct pod_worker *evictable(const struct eviction *e, const char *uid) {
    struct pod_worker *w = pods_worker(e->pods, uid);
    return w && w->pod && w->stage == STAGE_RUN && !w->deleting && !pod_is_critical(w->pod) ? w : NULL;
}

static void evict_first(struct eviction *e) {
    const struct pressure_threshold *t = e->acting;
    const struct signal_reading *r = &e->readings[t->signal];
    const char *resource = pressure_resource(t->signal);
    struct eviction_candidate *list = xcalloc(e->n_usages + 1, sizeof(*list));
    size_t n = 0;
    for (size_t i = 0; i < e->n_usages; i++) {
        const struct pod_usage *u = e->usages[i];
        const struct pod_worker *w = evictable(e, u->uid);
        if (!w)
            continue;
        enum pressure_kind k = pressure_kind_of(t->signal);
        list[n++] = (struct eviction_candidate){.uid = u->uid,
                                                .priority = priority_of(w->pod),
                                                .usage = k == PRESSURE_MEMORY ? u->memory
                                                         : k == PRESSURE_DISK ? pod_usage_disk(u)
                                                                              : u->pids,
                                                .request = k == PRESSURE_PIDS ? 0 : requested(w->pod, resource)};
    }
    const struct eviction_candidate *first = eviction_first(list, n);
    if (first) {
        char message[512];
        snprintf(message, sizeof(message),
                 "The node was low on resource: %s. Threshold quantity: %lld, available: %lld. The pod was using %lld, "
                 "request is %lld. ",
                 resource, (long long)pressure_threshold_value(t, r->capacity), (long long)r->available,
                 (long long)first->usage, (long long)first->request);
        evict(pods_worker(e->pods, first->uid), message,
              t->hard ? HARD_GRACE_S : e->pods->config->eviction_max_grace_s);
    } else {
        log_warn("the node is short of %s, and no pod can be evicted available=%lld", resource,
                 (long long)r->available);
    }
    free(list);
}

static void check_limits(struct eviction *e) {
    for (size_t i = 0; i < e->n_usages; i++) {
        struct pod_worker *w = evictable(e, e->usages[i]->uid);
        _cleanup_(free_p) char *message = w ? pod_local_limit_exceeded(w->pod, e->usages[i]) : NULL;
        if (message)
            evict(w, message, HARD_GRACE_S);
    }
}

/* ---- a look ---- */

static void look_over(struct eviction *e) {
    for (size_t i = 0; i < e->n_usages; i++)
        pod_usage_free(e->usages[i]);
    free(TAKE(e->usages));
    e->n_usages = 0;
    int64_t ms = e->pods->config->status_update_ms;
    timer_set(e->timer, ms > 0 && ms < TICK_MAX_MS ? ms : TICK_MAX_MS);
}

static void read_usages(void *arg) {
    struct eviction *e = arg;
    for (size_t i = 0; i < e->n_usages; i++)
        pod_usage_read(e->usages[i], &e->pods->cgroups, e->with_disk);
}

static void usages_read(void *arg) {
    struct eviction *e = arg;
    if (e->acting)
        evict_first(e);
    else
        check_limits(e);
    look_over(e);
}

static void on_layers(void *arg, int status, const void *reply, const struct error *err) {
    struct eviction *e = arg;
    for (size_t i = 0; reply && i < e->n_usages; i++)
        pod_usage_add_layers(e->usages[i], reply);
    pool_submit(e->pods->pool, e->pods->loop, read_usages, usages_read, e);
}

/* Measures the pods that may have to go: all of them, or those with limits of their own. */
static void measure_pods(struct eviction *e) {
    struct pods *ps = e->pods;
    e->with_disk = !e->acting || pressure_kind_of(e->acting->signal) == PRESSURE_DISK;
    e->usages = xcalloc(HASH_COUNT(ps->workers) + 1, sizeof(struct pod_usage *));
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp) {
        if (!evictable(e, w->uid) || (!e->acting && !pod_has_local_limits(w->pod)))
            continue;
        _cleanup_(free_p) char *logs = pod_log_dir(ps->config->pod_logs_dir, w->pod);
        e->usages[e->n_usages++] = pod_usage_new(w->pod, w->qos, w->dir, logs);
    }
    if (e->n_usages == 0 && !e->acting) {
        look_over(e);
    } else if (e->with_disk) {
        Cri__ListContainerStatsRequest q = CRI__LIST_CONTAINER_STATS_REQUEST__INIT;
        cri_call(ps->cri, CRI_LIST_CONTAINER_STATS, &q, 0, on_layers, e);
    } else {
        pool_submit(ps->pool, ps->loop, read_usages, usages_read, e);
    }
}

static void on_reclaimed(void *arg, int64_t freed) {
    struct eviction *e = arg;
    e->images_tried = true;
    look_over(e); /* the next look tells whether that was enough */
}

static void fs_reading(const char *path, struct signal_reading *bytes, struct signal_reading *inodes) {
    struct statvfs st;
    if (!path || statvfs(path, &st) < 0)
        return;
    *bytes = (struct signal_reading){(int64_t)(st.f_bavail * st.f_frsize), (int64_t)(st.f_blocks * st.f_frsize)};
    *inodes = (struct signal_reading){(int64_t)st.f_favail, (int64_t)st.f_files};
}

static void read_node(void *arg) {
    struct eviction *e = arg;
    struct node_facts f = {0};
    node_amounts_read(e->pods->config, &f);
    memset(e->readings, 0, sizeof(e->readings));
    e->readings[SIGNAL_MEMORY] = (struct signal_reading){f.memory_available, f.memory};
    e->readings[SIGNAL_NODEFS] = (struct signal_reading){f.disk_available, f.disk};
    e->readings[SIGNAL_NODEFS_INODES] = (struct signal_reading){f.inodes_free, f.inodes};
    e->readings[SIGNAL_PIDS] = (struct signal_reading){f.pids_max - f.pids_running, f.pids_max};
    fs_reading(e->imagefs, &e->readings[SIGNAL_IMAGEFS], &e->readings[SIGNAL_IMAGEFS_INODES]);
}

static void node_read(void *arg) {
    struct eviction *e = arg;
    bool before[N_PRESSURES];
    memcpy(before, e->pressure.under, sizeof(before));
    e->acting = pressure_observe(&e->pressure, e->readings, clock_mono_ms());
    if (memcmp(before, e->pressure.under, sizeof(before)) != 0) {
        for (int k = 0; k < N_PRESSURES; k++)
            if (before[k] != e->pressure.under[k])
                log_warn("node condition %s is now %s", pressure_condition((enum pressure_kind)k),
                         e->pressure.under[k] ? "True" : "False");
        e->changed(e->arg);
    }
    bool disk = e->acting && pressure_kind_of(e->acting->signal) == PRESSURE_DISK;
    if (!disk)
        e->images_tried = false;
    if (disk && !e->images_tried)
        image_gc_reclaim(e->images, on_reclaimed, e);
    else if (e->acting || ++e->ticks % LIMITS_EVERY == 0)
        measure_pods(e);
    else
        look_over(e);
}

static void look(void *arg) {
    struct eviction *e = arg;
    if (!e->pods->listed) { /* what runs is not known yet */
        look_over(e);
        return;
    }
    free(e->imagefs);
    e->imagefs = xstrdup_null(image_gc_mountpoint(e->images));
    pool_submit(e->pods->pool, e->pods->loop, read_node, node_read, e);
}

/* ---- admission ---- */

static bool tolerates(const struct pod *p, const char *taint) {
    size_t i, max;
    yyjson_val *t;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "tolerations"), i, max, t) {
        const char *key = json_str(t, "key"), *effect = json_str(t, "effect");
        bool any = str_empty(key) && str_eq(json_str(t, "operator"), "Exists");
        if ((any || str_eq(key, taint)) && (str_empty(effect) || str_eq(effect, "NoSchedule")))
            return true;
    }
    return false;
}

char *eviction_refuses(const struct eviction *e, const struct pod *p, enum pod_qos qos) {
    if (!e || pod_is_critical(p))
        return NULL;
    const bool *under = e->pressure.under;
    const char *condition = NULL;
    if (under[PRESSURE_DISK])
        condition = pressure_condition(PRESSURE_DISK);
    else if (under[PRESSURE_PIDS])
        condition = pressure_condition(PRESSURE_PIDS);
    else if (under[PRESSURE_MEMORY] && qos == QOS_BEST_EFFORT && !tolerates(p, "node.kubernetes.io/memory-pressure"))
        condition = pressure_condition(PRESSURE_MEMORY);
    return condition ? xasprintf("The node had condition: [%s]. ", condition) : NULL;
}

bool eviction_pressure(const struct eviction *e, enum pressure_kind k) {
    return e->pressure.under[k];
}

/* ---- life ---- */

struct eviction *eviction_new(struct pods *ps, struct image_gc *images, void (*changed)(void *arg), void *arg,
                              struct error *err) {
    struct eviction *e = NEW(struct eviction);
    *e = (struct eviction){.pods = ps, .images = images, .changed = changed, .arg = arg};
    if (pressure_init(&e->pressure, ps->config, err) < 0) {
        free(e);
        return NULL;
    }
    e->timer = timer_new(ps->loop, look, e);
    look_over(e);
    return e;
}

void eviction_free(struct eviction *e) {
    if (!e)
        return;
    look_over(e);
    timer_free(e->timer);
    free(e->imagefs);
    free(e);
}
