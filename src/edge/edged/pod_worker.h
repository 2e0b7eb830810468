/* One pod being brought to, and kept in, the state that is wanted. Private to the pod_*.c files.
 *
 * Level-triggered: worker_sync looks at what is wanted and what the runtime has, starts what is missing, and returns;
 * whatever ends (a CRI call, a pool task, a timer, an event) makes it look again. Nothing is remembered that the
 * runtime does not also know, so edgecore may die at any moment. */
#pragma once

#include "edge/edged/crash_backoff.h"
#include "edge/edged/pod_status.h"
#include "edge/edged/pods.h"
#include "edge/edged/volumes.h"

#include <uthash.h>

struct hook;

enum worker_stage {
    STAGE_RUN,   /* sandbox, volumes and containers are wanted */
    STAGE_STOP,  /* containers are being stopped */
    STAGE_CLEAN, /* sandboxes, volumes, cgroup are being taken away */
    STAGE_ENDED, /* nothing is left but dead containers for their logs */
};

struct worker_container {
    struct pod_worker *worker;
    yyjson_val *spec;
    char *name;
    enum container_role role;

    bool busy; /* between the first step of a start and its last, hooks included */
    bool image_busy, image_ready;
    char *image_ref, *image_user;
    int64_t image_uid;
    Cri__ContainerConfig *config; /* while busy */
    char *new_id;                 /* while busy: what was created */
    int64_t restarts;             /* while busy: of the new instance */

    bool stop_sent;
    int64_t stop_deadline_ms;
    const char *kill_reason; /* why a running one must go ("definition changed"); NULL: it may run */
    int64_t kill_grace_s;    /* of a probe; -1: the pod's own */
    bool hook_failed;
    struct hook *hook;

    struct crash_backoff crash, pull;
    int64_t pull_failed_ms; /* 0: the last pull did not fail */
    int64_t not_before_ms;  /* no step of a start before */
    char *waiting_reason, *waiting_message;
    bool started, ready; /* what probes say of the running instance */
    struct prober *prober;
};

struct pod_worker {
    struct pods *pods;
    char *uid, *ns, *name, *dir;
    struct pod *pod; /* NULL: found in the runtime, but unknown */
    struct rt_pod rt;
    struct worker_container
        *containers; /* init, main, ephemeral; never moves, so that calls under way can point here */
    size_t n_containers, max_containers;
    enum worker_stage stage;
    enum pod_qos qos;

    unsigned ops;       /* what is under way and will come back to us */
    int64_t last_op_ms; /* when the last of them came back */
    struct timer *timer;
    int64_t wake_ms; /* when the timer goes off; 0: not set */

    bool sandbox_busy;
    Cri__PodSandboxConfig *sandbox_config; /* of the current sandbox, as far as we made it */
    struct crash_backoff sandbox_backoff;
    int64_t sandbox_not_before_ms;
    char *sandbox_error;

    struct object_set *objects; /* what the pod refers to; kept while something is being started */
    struct object_fetch *fetch;
    bool refresh_busy, volumes_ready, refresh_wanted;
    int64_t refresh_not_before_ms;                     /* after a failure */
    int64_t refresh_started_ms, refresh_rest_until_ms; /* a set that is large may not keep us busy: see volumes_made */
    int64_t token_renew_at;
    char *volume_error;

    bool admitted; /* it was looked at once whether the node can take it */
    bool deleting; /* the API wants it gone */
    bool removed;  /* the API has no such pod any more */
    bool cleaned;  /* volumes and cgroup are gone */
    bool clean_busy;
    bool logs_kept; /* cleaned, but for the logs */
    int64_t grace_s, stop_begun_ms;
    const char *failed_reason;
    char *failed_message;
    char *unsupported;
    bool was_final; /* the API had a final phase already when we first saw it */
    int64_t start_s;
    UT_hash_handle hh;
};

/* pod_worker.c */
struct pod_worker *worker_new(struct pods *ps, const char *uid, const char *ns, const char *name);
void worker_free(struct pod_worker *w);
void worker_set_pod(struct pod_worker *w, struct pod *p); /* takes p */
void worker_sync(struct pod_worker *w);
void worker_wake(struct pod_worker *w, int64_t in_ms); /* look again, at the latest in so many ms */
void worker_op_begin(struct pod_worker *w);
void worker_op_end(struct pod_worker *w); /* wakes the worker */
void worker_stop(struct pod_worker *w, const char *failed_reason, const char *failed_message);
void worker_refresh(struct pod_worker *w); /* a ConfigMap, a Secret, labels changed: volumes again */
struct worker_container *worker_container_named(struct pod_worker *w, const char *name);
void worker_set_waiting(struct worker_container *c, const char *reason, const char *message);
bool worker_container_running(const struct worker_container *c);
bool worker_container_lacks(
    const struct worker_container *c); /* it does not run, and may have to (init containers: no) */
const struct rt_container *worker_current(const struct worker_container *c);
void worker_event(struct pod_worker *w, const struct worker_container *c, bool warning, const char *reason,
                  const char *fmt, ...) PRINTF_LIKE(5, 6);

/* pod_start.c: sandbox, volumes, images, containers */
void worker_ensure_sandbox(struct pod_worker *w);
void worker_ensure_refreshed(struct pod_worker *w);
void worker_ensure_image(struct worker_container *c);
void worker_start_container(struct worker_container *c);
void worker_pod_context(struct pod_worker *w, struct pod_config_context *out);
const struct strlist *worker_ips(const struct pod_worker *w);

/* pod_launch.c: worker_start_container, and */
void worker_abandon_post_start(struct worker_container *c); /* the pod is ending: its hook is not waited for */

/* pod_stop.c */
void worker_sync_stop(struct pod_worker *w);
void worker_kill_container(struct worker_container *c, int64_t grace_s, const char *why);
void worker_collect_garbage(struct pod_worker *w); /* superseded dead containers and sandboxes */

/* pod_report.c */
void worker_publish(struct pod_worker *w);

/* pod_hooks.c: what lifecycle hooks and probes do. done is called once, from the loop; the hook is gone then. */
typedef void hook_done(struct worker_container *c, const struct error *err, void *arg);
struct hook *hook_run(struct worker_container *c, yyjson_val *handler, const char *container_id, int64_t timeout_ms,
                      hook_done *done, void *arg);
/* For httpGet: what may not stand in a URL is escaped in the path and refused in the host (NULL). Owned. */
char *hook_url(const char *scheme, const char *host, int64_t port, const char *path);
void hook_cancel(struct hook *h); /* no callback afterwards; NULL is fine */

/* pod_probes.c: begins and ends the probing of a container as it starts and stops. */
void worker_probes_sync(struct worker_container *c);
void worker_probes_stop(struct worker_container *c);
