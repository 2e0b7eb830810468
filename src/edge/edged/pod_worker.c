#define LOG_COMPONENT "edged"
#include "edge/edged/pod_worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "edge/edged/eviction.h"
#include "kube/object.h"

#define MAX_EPHEMERAL 8

static void on_timer(void *arg) {
    struct pod_worker *w = arg;
    w->wake_ms = 0;
    worker_sync(w);
}

struct pod_worker *worker_new(struct pods *ps, const char *uid, const char *ns, const char *name) {
    struct pod_worker *w = NEW(struct pod_worker);
    w->pods = ps;
    w->uid = xstrdup(uid);
    w->ns = xstrdup(ns);
    w->name = xstrdup(name);
    w->dir = xasprintf("%s/pods/%s", ps->root, uid);
    w->timer = timer_new(ps->loop, on_timer, w);
    w->stage = STAGE_STOP; /* an unknown pod, until worker_set_pod */
    w->grace_s = 30;
    w->start_s = clock_wall_s();
    return w;
}

static void container_clear(struct worker_container *c) {
    worker_probes_stop(c);
    hook_cancel(c->hook);
    if (c->config)
        CRI_FREE(c->config);
    char *const strings[] = {c->name, c->image_ref, c->image_user, c->new_id, c->waiting_reason, c->waiting_message};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
}

void worker_free(struct pod_worker *w) {
    for (size_t i = 0; i < w->n_containers; i++)
        container_clear(&w->containers[i]);
    free(w->containers);
    object_fetch_cancel(w->fetch);
    object_set_free(w->objects);
    if (w->sandbox_config)
        CRI_FREE(w->sandbox_config);
    rt_pod_free(&w->rt);
    pod_free(w->pod);
    timer_free(w->timer);
    char *const strings[] = {w->uid,           w->ns,           w->name,           w->dir,
                             w->sandbox_error, w->volume_error, w->failed_message, w->unsupported};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
    free(w);
}

void worker_wake(struct pod_worker *w, int64_t in_ms) {
    int64_t at = clock_mono_ms() + (in_ms > 0 ? in_ms : 0);
    if (w->wake_ms && w->wake_ms <= at)
        return;
    w->wake_ms = at;
    timer_set(w->timer, in_ms);
}

void worker_op_begin(struct pod_worker *w) {
    w->ops++;
}

void worker_op_end(struct pod_worker *w) {
    w->ops--;
    w->last_op_ms = clock_mono_ms();
    worker_wake(w, 0);
}

void worker_event(struct pod_worker *w, const struct worker_container *c, bool warning, const char *reason,
                  const char *fmt, ...) {
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    event_record(w->pods->events, w->pod, c ? c->name : NULL, c && c->role != ROLE_MAIN, warning, reason, message);
}

struct worker_container *worker_container_named(struct pod_worker *w, const char *name) {
    for (size_t i = 0; i < w->n_containers; i++)
        if (str_eq(w->containers[i].name, name))
            return &w->containers[i];
    return NULL;
}

const struct rt_container *worker_current(const struct worker_container *c) {
    return rt_newest(&c->worker->rt, c->name, NULL);
}

bool worker_container_running(const struct worker_container *c) {
    const struct rt_container *r = worker_current(c);
    return r && r->state == RT_RUNNING;
}

bool worker_container_lacks(const struct worker_container *c) {
    if (c->role == ROLE_EPHEMERAL)
        return !worker_current(c);
    return c->role != ROLE_INIT && !worker_container_running(c);
}

void worker_set_waiting(struct worker_container *c, const char *reason, const char *message) {
    free(c->waiting_reason);
    free(c->waiting_message);
    c->waiting_reason = xstrdup_null(reason);
    c->waiting_message = xstrdup_null(message);
}

/* ---- taking in a pod ---- */

static void add_container(struct pod_worker *w, yyjson_val *spec, enum container_role role) {
    struct worker_container *c = &w->containers[w->n_containers++];
    *c = (struct worker_container){.worker = w,
                                   .spec = spec,
                                   .name = xstrdup(json_str(spec, "name")),
                                   .role = role,
                                   .image_uid = -1,
                                   .kill_grace_s = -1,
                                   .started = true,
                                   .ready = true};
}

/* Ephemeral containers are added to running pods; there is room for some. */
static void add_ephemeral(struct pod_worker *w) {
    size_t i, max;
    yyjson_val *spec;
    yyjson_arr_foreach (yyjson_obj_get(w->pod->spec, "ephemeralContainers"), i, max, spec) {
        if (worker_container_named(w, json_str(spec, "name")))
            continue;
        if (w->n_containers == w->max_containers) {
            worker_event(w, NULL, true, "Failed", "Ephemeral container %s is refused: a pod can have %d on this node",
                         json_str(spec, "name"), MAX_EPHEMERAL);
            return;
        }
        add_container(w, spec, ROLE_EPHEMERAL);
    }
}

static void first_pod(struct pod_worker *w) {
    size_t n = yyjson_arr_size(yyjson_obj_get(w->pod->spec, "initContainers")) +
               yyjson_arr_size(yyjson_obj_get(w->pod->spec, "containers"));
    w->max_containers = n + MAX_EPHEMERAL;
    w->containers = xcalloc(w->max_containers, sizeof(*w->containers));
    size_t i, max;
    yyjson_val *spec;
    yyjson_arr_foreach (yyjson_obj_get(w->pod->spec, "initContainers"), i, max, spec)
        add_container(w, spec, container_is_sidecar(spec) ? ROLE_SIDECAR : ROLE_INIT);
    yyjson_arr_foreach (yyjson_obj_get(w->pod->spec, "containers"), i, max, spec)
        add_container(w, spec, ROLE_MAIN);
    add_ephemeral(w);
    w->qos = pod_qos(w->pod);
    w->stage = STAGE_RUN;
    w->cleaned = false;
    w->refresh_wanted = pod_has_refreshed_volumes(w->pod); /* it may have changed while we were not there */
    w->was_final = phase_is_final(json_str(w->pod->obj, "status", "phase"));
    const char *started = json_str(w->pod->obj, "status", "startTime");
    int64_t ns;
    if (started && rfc3339_parse(bytes_str(started), &ns) == 0)
        w->start_s = ns / 1000000000;
    struct error err = ERROR_INIT;
    if (pod_check_supported(w->pod, &err) < 0) {
        log_warn("pod not started: %s pod=%s/%s", err.msg, w->ns, w->name);
        w->unsupported = xstrdup(err.msg);
    }
}

/* A container whose image was changed in a running pod is replaced. */
static void rebind(struct pod_worker *w) {
    for (size_t i = 0; i < w->n_containers; i++) {
        struct worker_container *c = &w->containers[i];
        yyjson_val *spec = pod_container(w->pod, c->name);
        if (spec)
            c->spec = spec;
        const struct rt_container *r = worker_current(c);
        if (r && r->state == RT_RUNNING && r->hash != 0 && r->hash != container_hash(c->spec) && c->role != ROLE_INIT)
            c->kill_reason = "definition changed, will be restarted";
        if (!c->image_busy)
            c->image_ready = false;
    }
}

void worker_set_pod(struct pod_worker *w, struct pod *p) {
    struct pod *old = w->pod;
    w->pod = p;
    if (!old) {
        first_pod(w);
    } else {
        /* A container list of another length would be another pod; such an update is no legal one. */
        rebind(w);
        add_ephemeral(w);
        bool labels = !json_equal(object_labels(old->obj), object_labels(p->obj)) ||
                      !json_equal(object_annotations(old->obj), object_annotations(p->obj));
        if (labels && w->stage == STAGE_RUN)
            worker_refresh(w);
        pod_free(old);
    }
    if (pod_deleting(p)) {
        int64_t grace = pod_grace_seconds(p);
        if (w->deleting && w->stage == STAGE_STOP && grace < w->grace_s)
            for (size_t i = 0; i < w->n_containers; i++) /* less patience than before: say so to the runtime */
                w->containers[i].stop_sent = false;
        w->deleting = true;
        w->grace_s = grace;
    }
    worker_wake(w, 0);
}

void worker_refresh(struct pod_worker *w) {
    if (w->stage != STAGE_RUN)
        return;
    w->refresh_wanted = true;
    w->refresh_not_before_ms = 0;
    for (size_t i = 0; i < w->n_containers; i++)
        if (str_eq(w->containers[i].waiting_reason, "CreateContainerConfigError"))
            w->containers[i].not_before_ms = 0;
    worker_wake(w, 0);
}

void worker_stop(struct pod_worker *w, const char *failed_reason, const char *failed_message) {
    if (w->stage != STAGE_RUN)
        return;
    w->stage = STAGE_STOP;
    w->stop_begun_ms = clock_mono_ms();
    if (failed_reason && !w->failed_reason) {
        w->failed_reason = failed_reason;
        w->failed_message = xstrdup(failed_message);
    }
    if (!w->deleting && w->pod)
        w->grace_s = pod_grace_seconds(w->pod);
    object_fetch_cancel(w->fetch);
    if (w->fetch)
        w->refresh_busy = false;
    w->fetch = NULL;
}

/* ---- what should run ---- */

enum want { WANT_NOTHING, WANT_WAIT, WANT_START };

/* In the sandbox that counts? An instance of an earlier one is history. */
static bool in_sandbox(const struct rt_container *r, const struct rt_sandbox *s) {
    return r && s && str_eq(r->sandbox_id, s->id);
}

static bool any_main_in(struct pod_worker *w, const struct rt_sandbox *s) {
    for (size_t i = 0; i < w->n_containers; i++)
        if (w->containers[i].role == ROLE_MAIN && in_sandbox(worker_current(&w->containers[i]), s))
            return true;
    return false;
}

static bool policy_restarts(const struct worker_container *c, const struct rt_container *ended) {
    const char *policy = pod_restart_policy(c->worker->pod);
    if (c->role == ROLE_EPHEMERAL)
        return false;
    if (c->role == ROLE_SIDECAR)
        return true;
    if (c->role == ROLE_INIT)
        return ended->exit_code != 0 && !str_eq(policy, "Never");
    return str_eq(policy, "Always") || (str_eq(policy, "OnFailure") && ended->exit_code != 0);
}

/* Should this container be started now, as far as its own history says? Sets the waiting reason while it backs off. */
static enum want container_want(struct worker_container *c, const struct rt_sandbox *s) {
    struct pod_worker *w = c->worker;
    const struct rt_container *r = worker_current(c);
    int64_t now = clock_mono_ms();
    if (r && (r->state == RT_RUNNING || (c->role == ROLE_EPHEMERAL && r->state == RT_EXITED)))
        return WANT_NOTHING;
    if (r && r->state == RT_EXITED && in_sandbox(r, s) && !policy_restarts(c, r))
        return WANT_NOTHING;
    if (r && r->state != RT_CREATED && r->finished_ns > 0) {
        int64_t failed = now - (clock_wall_ms() - r->finished_ns / 1000000);
        int64_t left = in_sandbox(r, s) ? crash_backoff_remaining(&c->crash, failed, now) : 0;
        if (left > 0) {
            char message[512];
            snprintf(message, sizeof(message), "back-off %llds restarting failed container=%s pod=%s_%s(%s)",
                     (long long)c->crash.delay_ms / 1000, c->name, w->name, w->ns, w->uid);
            if (!str_eq(c->waiting_reason, "CrashLoopBackOff"))
                worker_event(w, c, true, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", c->name,
                             w->name, w->ns, w->uid);
            worker_set_waiting(c, "CrashLoopBackOff", message);
            worker_wake(w, left);
            return WANT_WAIT;
        }
    }
    if (c->not_before_ms > now) {
        worker_wake(w, c->not_before_ms - now);
        return WANT_WAIT;
    }
    return WANT_START;
}

static bool init_done(const struct worker_container *c, const struct rt_sandbox *s) {
    const struct rt_container *r = worker_current(c);
    if (!in_sandbox(r, s))
        return false;
    if (c->role == ROLE_SIDECAR)
        return r->state == RT_RUNNING && c->started && !c->busy;
    return r->state == RT_EXITED && r->exit_code == 0;
}

/* An init container that failed under restartPolicy Never, or mains that are all through. */
static bool pod_is_through(struct pod_worker *w) {
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    bool never = str_eq(pod_restart_policy(w->pod), "Never");
    for (size_t i = 0; i < w->n_containers; i++) {
        struct worker_container *c = &w->containers[i];
        const struct rt_container *r = worker_current(c);
        if (c->role == ROLE_INIT && never && r && r->state == RT_EXITED && r->exit_code != 0)
            return true;
        if (c->role != ROLE_MAIN)
            continue;
        bool ended = r && r->state == RT_EXITED && !c->busy && (in_sandbox(r, s) || !s || !s->ready);
        if (!ended || policy_restarts(c, r))
            return false;
    }
    return true;
}

/* Containers to start now, in order; the images of all others are fetched meanwhile. */
static void sync_containers(struct pod_worker *w, const struct rt_sandbox *s) {
    bool initialized = any_main_in(w, s), blocked = false;
    for (size_t i = 0; i < w->n_containers; i++) {
        struct worker_container *c = &w->containers[i];
        if (c->busy) {
            /* A container with a postStart hook holds back those behind it, as everywhere. */
            blocked |= c->role < ROLE_MAIN || yyjson_obj_get(yyjson_obj_get(c->spec, "lifecycle"), "postStart");
            continue;
        }
        if (c->kill_reason && worker_container_running(c)) {
            worker_kill_container(c, c->kill_grace_s >= 0 ? c->kill_grace_s : pod_grace_seconds(w->pod),
                                  c->kill_reason);
            continue;
        }
        c->kill_reason = NULL;
        c->kill_grace_s = -1;
        if (c->role == ROLE_INIT && (initialized || init_done(c, s)))
            continue;
        if (container_want(c, s) == WANT_START) {
            worker_ensure_image(c);
            if (!blocked || c->role == ROLE_EPHEMERAL)
                worker_start_container(c);
        }
        if (c->role < ROLE_MAIN && !initialized && !init_done(c, s))
            blocked = true;
    }
}

static bool deadline_passed(struct pod_worker *w) {
    int64_t seconds = json_int_or(yyjson_obj_get(w->pod->spec, "activeDeadlineSeconds"), 0);
    if (seconds <= 0)
        return false;
    int64_t left = w->start_s + seconds - clock_wall_s();
    if (left > 0)
        worker_wake(w, left * 1000 + 50);
    return left <= 0;
}

/* Everything started: what was fetched for it (Secrets among it) need not be kept in memory. */
static void drop_objects_if_idle(struct pod_worker *w) {
    if (w->refresh_busy || !w->objects)
        return;
    for (size_t i = 0; i < w->n_containers; i++) {
        struct worker_container *c = &w->containers[i];
        if (c->busy || c->image_busy || worker_container_lacks(c))
            return;
    }
    object_set_free(w->objects);
    w->objects = NULL;
}

/* A pod that never ran here may have to stay away from a node that is short of something. */
static bool admitted(struct pod_worker *w) {
    if (w->admitted)
        return true;
    _cleanup_(free_p) char *why = w->rt.sandboxes ? NULL : eviction_refuses(w->pods->eviction, w->pod, w->qos);
    w->admitted = !why;
    if (why) {
        worker_event(w, NULL, true, "Evicted", "%s", why);
        worker_stop(w, "Evicted", why);
    }
    return !why;
}

static void sync_run(struct pod_worker *w) {
    if (w->unsupported) {
        for (size_t i = 0; i < w->n_containers; i++)
            worker_set_waiting(&w->containers[i], "CreateContainerConfigError", w->unsupported);
        return;
    }
    if (!admitted(w))
        return;
    worker_ensure_sandbox(w);
    if (w->token_renew_at && clock_wall_s() >= w->token_renew_at) {
        w->token_renew_at = 0;
        w->refresh_wanted = true;
    } else if (w->token_renew_at) {
        worker_wake(w, (w->token_renew_at - clock_wall_s()) * 1000);
    }
    worker_ensure_refreshed(w);
    sync_containers(w, rt_current_sandbox(&w->rt));
    drop_objects_if_idle(w);
    worker_collect_garbage(w);
}

void worker_sync(struct pod_worker *w) {
    struct pods *ps = w->pods;
    if (!ps->listed)
        return; /* what runs already is not known yet */
    if (!w->pod && !ps->set_complete)
        return; /* perhaps its pod is among the stored ones */
    if (w->removed && w->stage == STAGE_RUN)
        worker_stop(w, NULL, NULL);
    if (w->stage == STAGE_RUN && w->deleting)
        worker_stop(w, NULL, NULL);
    if (w->stage == STAGE_RUN && (w->was_final || pod_is_through(w)))
        worker_stop(w, NULL, NULL);
    if (w->stage == STAGE_RUN && deadline_passed(w)) {
        worker_event(w, NULL, false, "DeadlineExceeded",
                     "Pod was active on the node longer than the specified deadline");
        worker_stop(w, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
    }
    if (w->stage == STAGE_RUN)
        sync_run(w);
    if (w->stage != STAGE_RUN)
        worker_sync_stop(w);
    for (size_t i = 0; i < w->n_containers; i++)
        worker_probes_sync(&w->containers[i]);
    worker_publish(w);
    if (w->stage == STAGE_ENDED && w->ops == 0 && !w->rt.sandboxes && (w->removed || !w->pod))
        pods_forget(ps, w);
}
