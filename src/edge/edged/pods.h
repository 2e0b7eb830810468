/* All pods of the node: the workers, what they share, and what the runtime is asked for all of them. */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"
#include "edge/edged/cgroups.h"
#include "edge/edged/cri.h"
#include "edge/edged/events.h"
#include "edge/edged/images.h"
#include "edge/edged/pod.h"
#include "edge/edged/pod_config.h"
#include "edge/edged/runtime_view.h"
#include "edge/edged/status_sync.h"
#include "net/http_client.h"
#include "net/pool.h"

struct pod_worker;
struct rt_query;
struct eviction;
struct static_pods;
struct stats;

struct pods {
    struct loop *loop;
    struct pool *pool;
    struct bus *bus;
    const struct edged_config *config;
    struct cri *cri;
    struct images *images;
    struct status_sync *status;
    struct event_recorder *events;
    const struct eviction *eviction; /* who may start under pressure; NULL: everybody */
    struct static_pods *static_pods;
    struct stats *stats;
    struct http_client *http, *https; /* for hooks and probes; made when first needed */
    struct pod_node node;
    struct dns_settings dns;
    struct resource_policy resources;
    struct cgroups cgroups;
    char *runtime_name; /* "containerd", "cri-o" */
    char *root;         /* rootDirectory, resolved */
    int64_t began_ns;   /* wall clock: containers that are older were taken over */

    struct pod_worker *workers; /* by UID */
    bool set_read;              /* the stored pods have been taken in */
    bool set_complete;          /* and none can be missing: strangers may be removed */
    void (*on_set_read)(void *arg);
    void *on_set_read_arg;
    bool listed; /* the runtime was listed at least once since it answered */

    /* relist.c */
    struct timer *relist_timer;
    bool relist_busy, events_connected;
    int64_t relist_begun_ms;
    struct rt_query *queries;
};

struct pods *pods_new(struct loop *l, struct pool *p, struct bus *b, const struct edged_config *c, struct cri *cri,
                      struct error *err) MUST_CHECK;
void pods_free(struct pods *ps);
/* The runtime answered: name and cgroup driver are known. Begins (or begins again) to list and to run. */
void pods_runtime_up(struct pods *ps, const char *name, bool systemd_cgroups);
void pods_runtime_down(struct pods *ps);
void pods_set_node(struct pods *ps, const char *ip, int64_t cpu_milli, int64_t memory);

/* ---- from the pod source ---- */
void pods_update(struct pods *ps, struct pod *p); /* insert or update; takes p */
void pods_remove(struct pods *ps, const char *uid);
/* The stored pods have been taken in. complete: all others are strangers. */
void pods_set_read(struct pods *ps, const struct strlist *uids, bool complete);
void pods_object_changed(struct pods *ps, const char *kind, const char *ns, const char *name);
struct pod_source;
struct pod_source *pod_source_new(struct pods *ps);
void pod_source_start(struct pod_source *s);                      /* asks for the stored pods until they are there */
void pod_source_message(struct pod_source *s, struct message *m); /* borrowed */
void pod_source_free(struct pod_source *s);

/* ---- for workers ---- */
struct pod_worker *pods_worker(struct pods *ps, const char *uid);
struct pod_worker *pods_worker_ensure(struct pods *ps, const char *uid, const char *ns, const char *name);
void pods_forget(struct pods *ps, struct pod_worker *w); /* frees it */
/* Asks the runtime for one container's (or sandbox's) state and lets its worker look again. */
void pods_query_container(struct pods *ps, struct pod_worker *w, const char *id);
void pods_query_sandbox(struct pods *ps, struct pod_worker *w, const char *id);
void pods_relist_soon(struct pods *ps, int64_t ms);
void pods_runtime_event(void *pods, const char *id);
void pods_events_state(void *pods, bool connected);
void relist_init(struct pods *ps);
void relist_free(struct pods *ps);
/* Folders and cgroups of pods that nobody knows: removed on the pool. */
void pods_remove_orphans(struct pods *ps);
/* Termination message of an ended container. Reads at most a few KiB. */
void termination_message_read(struct pods *ps, const struct pod_worker *w, struct rt_container *c);
