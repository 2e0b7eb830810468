#define LOG_COMPONENT "edged"
#include "edge/edged/edged.h"

#include "base/log.h"
#include "edge/edged/eviction.h"
#include "edge/edged/log_rotation.h"
#include "edge/edged/node_agent.h"
#include "edge/edged/pods.h"
#include "edge/edged/server.h"
#include "edge/edged/static_pods.h"
#include "edge/edged/stats.h"

#define PROBE_MS 5000
#define PROBE_DOWN_MS 1000
#define PROBE_TIMEOUT_MS 5000

struct edged {
    struct loop *loop;
    struct bus *bus;
    const struct edge_config *config;
    struct cri *cri;
    struct cri_events *events;
    struct pods *pods;
    struct pod_source *source;
    struct node_agent *node;
    struct static_pods *static_pods;
    struct log_rotation *logs;
    struct image_gc *image_gc;
    struct eviction *eviction;
    struct timer *probe;
    bool up;            /* the runtime answers */
    bool systemd;       /* cgroup driver */
    char *version;      /* "containerd://1.7.24" */
    char *runtime_name; /* "containerd" */
    char *not_ready;    /* why the runtime or its network is not ready; NULL: it is */
};

static void on_message(void *arg, struct message *m) {
    struct edged *e = arg;
    pod_source_message(e->source, m);
    message_free(m);
}

/* ---- probing the runtime ---- */

const char *edged_not_ready(const struct edged *e) {
    if (e->not_ready)
        return e->not_ready;
    if (!e->up)
        return "the container runtime has not answered yet";
    return e->pods->set_read ? NULL : "the stored pods have not been read yet";
}

static void tell_node(struct edged *e) {
    const char *why = edged_not_ready(e);
    node_agent_set_runtime(e->node, &(struct node_runtime){.version = e->version ? e->version : "", .not_ready = why});
    pods_set_node(e->pods, node_agent_ip(e->node), node_agent_allocatable_cpu_milli(e->node),
                  node_agent_allocatable_memory(e->node));
}

static void set_not_ready(struct edged *e, const char *why) {
    free(e->not_ready);
    e->not_ready = xstrdup_null(why);
    tell_node(e);
}

static void runtime_down(struct edged *e, const struct error *err) {
    char why[640];
    snprintf(why, sizeof(why), "container runtime is down: %s", error_text(err));
    if (e->up)
        pods_runtime_down(e->pods);
    e->up = false;
    set_not_ready(e, why);
    timer_set(e->probe, PROBE_DOWN_MS);
}

static void on_status(void *arg, int status, const void *reply, const struct error *err) {
    struct edged *e = arg;
    const Cri__StatusResponse *r = reply;
    if (!r) {
        runtime_down(e, err);
        return;
    }
    const Cri__RuntimeCondition *bad = NULL;
    for (size_t i = 0; r->status && i < r->status->n_conditions && !bad; i++)
        if (!r->status->conditions[i]->status && (str_eq(r->status->conditions[i]->type, "RuntimeReady") ||
                                                  str_eq(r->status->conditions[i]->type, "NetworkReady")))
            bad = r->status->conditions[i];
    char why[640];
    if (bad) {
        bool network = str_eq(bad->type, "NetworkReady");
        snprintf(why, sizeof(why), "container runtime %s not ready: %s=false reason:%s message:%s",
                 network ? "network" : "", bad->type, str_or(bad->reason, ""), str_or(bad->message, ""));
    }
    set_not_ready(e, bad ? why : NULL);
    timer_set(e->probe, bad ? PROBE_DOWN_MS : PROBE_MS);
}

static void probe_status(struct edged *e) {
    Cri__StatusRequest q = CRI__STATUS_REQUEST__INIT;
    cri_call(e->cri, CRI_STATUS, &q, PROBE_TIMEOUT_MS, on_status, e);
}

static void runtime_up(struct edged *e) {
    e->up = true;
    log_info("container runtime: %s, cgroup driver %s", e->version, e->systemd ? "systemd" : "cgroupfs");
    pods_runtime_up(e->pods, e->runtime_name, e->systemd);
    cri_events_start(e->events, str_eq(e->runtime_name, "containerd"));
    probe_status(e);
}

static void on_runtime_config(void *arg, int status, const void *reply, const struct error *err) {
    struct edged *e = arg;
    const Cri__RuntimeConfigResponse *r = reply;
    e->systemd = str_eq(e->config->edged.cgroup_driver, "systemd");
    if (r && r->linux)
        e->systemd = r->linux->cgroup_driver == CRI__CGROUP_DRIVER__SYSTEMD;
    else if (status != CRI_STATUS_UNIMPLEMENTED && status != CRI_STATUS_OK)
        log_debug("the runtime does not tell its cgroup driver: %s", error_text(err));
    runtime_up(e);
}

static void on_version(void *arg, int status, const void *reply, const struct error *err) {
    struct edged *e = arg;
    const Cri__VersionResponse *r = reply;
    if (!r) {
        runtime_down(e, err);
        return;
    }
    free(e->version);
    free(e->runtime_name);
    e->runtime_name = xstrdup(str_or(r->runtime_name, "unknown"));
    e->version = xasprintf("%s://%s", e->runtime_name,
                           r->runtime_version && r->runtime_version[0] == 'v' ? r->runtime_version + 1
                                                                              : str_or(r->runtime_version, ""));
    Cri__RuntimeConfigRequest q = CRI__RUNTIME_CONFIG_REQUEST__INIT;
    cri_call(e->cri, CRI_RUNTIME_CONFIG, &q, PROBE_TIMEOUT_MS, on_runtime_config, e);
}

static void probe(void *arg) {
    struct edged *e = arg;
    if (e->up) {
        probe_status(e);
        return;
    }
    Cri__VersionRequest q = CRI__VERSION_REQUEST__INIT;
    cri_call(e->cri, CRI_VERSION, &q, PROBE_TIMEOUT_MS, on_version, e);
}

/* ---- housekeeping ---- */

static void on_pressure(void *arg) {
    struct edged *e = arg;
    bool under[N_PRESSURES];
    for (int k = 0; k < N_PRESSURES; k++)
        under[k] = eviction_pressure(e->eviction, (enum pressure_kind)k);
    node_agent_set_pressure(e->node, under);
}

static int housekeeping_new(struct edged *e, struct error *err) {
    e->logs = log_rotation_new(e->pods, err);
    e->image_gc = image_gc_new(e->pods);
    e->pods->stats = stats_new(e->pods, e->image_gc);
    e->eviction = e->logs ? eviction_new(e->pods, e->image_gc, on_pressure, e, err) : NULL;
    e->pods->eviction = e->eviction;
    return e->eviction ? 0 : -1;
}

/* ---- life ---- */

static const char *node_uid(void *arg) {
    return node_agent_uid(((struct edged *)arg)->node);
}

struct edged *edged_new(struct loop *l, struct pool *p, struct bus *b, const struct edge_config *c, struct error *err) {
    struct edged *e = NEW(struct edged);
    *e = (struct edged){.loop = l, .bus = b, .config = c};
    e->cri =
        cri_new(l, c->edged.runtime_endpoint, c->edged.image_endpoint, (int)c->edged.runtime_request_timeout_ms, err);
    if (e->cri)
        e->pods = pods_new(l, p, b, &c->edged, e->cri, err);
    if (!e->pods || housekeeping_new(e, err) < 0) {
        edged_free(e);
        return NULL;
    }
    e->events = cri_events_new(l, e->cri, pods_runtime_event, pods_events_state, e->pods);
    e->source = pod_source_new(e->pods);
    e->node = node_agent_new(l, p, b, c);
    e->static_pods = e->pods->static_pods = static_pods_new(e->pods, node_uid, e);
    e->probe = timer_new(l, probe, e);
    return e;
}

static void on_set_read(void *arg) {
    tell_node(arg);
}

static void on_static_pods(void *arg) {
    pod_source_start(((struct edged *)arg)->source);
}

int edged_start(struct edged *e, struct error *err) {
    e->pods->on_set_read = on_set_read;
    e->pods->on_set_read_arg = e;
    bus_register(e->bus, MODULE_EDGED, on_message, e);
    node_agent_start(e->node);
    static_pods_start(e->static_pods, on_static_pods, e); /* before any pod may be taken for unknown */
    timer_set(e->probe, 0);
    return 0;
}

struct stats *edged_stats(const struct edged *e) {
    return e->pods->stats;
}

struct kubelet edged_kubelet(struct edged *e) {
    return (struct kubelet){.open = server_open, .arg = e->pods};
}

void edged_stop(struct edged *e) {
    bus_unregister(e->bus, MODULE_EDGED);
    timer_stop(e->probe);
}

void edged_free(struct edged *e) {
    if (!e)
        return;
    cri_events_free(e->events);
    cri_free(e->cri);
    pod_source_free(e->source);
    static_pods_free(e->static_pods);
    if (e->pods)
        stats_free(e->pods->stats);
    eviction_free(e->eviction);
    image_gc_free(e->image_gc);
    log_rotation_free(e->logs);
    pods_free(e->pods);
    node_agent_free(e->node);
    timer_free(e->probe);
    free(e->version);
    free(e->runtime_name);
    free(e->not_ready);
    free(e);
}
