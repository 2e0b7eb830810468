/* Ending: containers, sandboxes, volumes, cgroup; and what is left of earlier instances. */
#define LOG_COMPONENT "edged"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "edge/edged/pod_worker.h"

#define STOP_MARGIN_MS 30000
#define SANDBOX_TIMEOUT_MS (4 * 60 * 1000)
#define RETRY_MS 2000
#define MIN_GRACE_AFTER_HOOK_S 2

/* ---- one container ---- */

static void on_stop_done(void *arg, int status, const void *reply, const struct error *err) {
    struct worker_container *c = arg;
    struct pod_worker *w = c->worker;
    const struct rt_container *r = worker_current(c);
    if (!reply && status != CRI_STATUS_NOT_FOUND) {
        log_warn("container not stopped: %s pod=%s/%s container=%s", error_text(err), w->ns, w->name, c->name);
        c->stop_sent = false;
        c->not_before_ms = clock_mono_ms() + RETRY_MS;
    }
    if (r)
        pods_query_container(w->pods, w, r->id);
    worker_op_end(w);
}

static void send_stop(struct worker_container *c, int64_t seconds) {
    const struct rt_container *r = worker_current(c);
    if (!r || r->state != RT_RUNNING)
        return;
    Cri__StopContainerRequest q = CRI__STOP_CONTAINER_REQUEST__INIT;
    q.container_id = r->id;
    q.timeout = seconds;
    worker_op_begin(c->worker);
    cri_call(c->worker->pods->cri, CRI_STOP_CONTAINER, &q,
             (int)(seconds * 1000 > 86400000 ? 86400000 : seconds * 1000) + STOP_MARGIN_MS, on_stop_done, c);
}

static void on_pre_stop(struct worker_container *c, const struct error *err, void *arg) {
    struct pod_worker *w = c->worker;
    c->hook = NULL;
    if (err) {
        log_warn("preStop hook failed: %s pod=%s/%s container=%s", err->msg, w->ns, w->name, c->name);
        worker_event(w, c, true, "FailedPreStopHook", "PreStopHook failed: %s", err->msg);
    }
    int64_t left = (c->stop_deadline_ms - clock_mono_ms() + 999) / 1000;
    send_stop(c, left > MIN_GRACE_AFTER_HOOK_S ? left : MIN_GRACE_AFTER_HOOK_S);
    worker_op_end(w);
}

void worker_kill_container(struct worker_container *c, int64_t grace_s, const char *why) {
    struct pod_worker *w = c->worker;
    const struct rt_container *r = worker_current(c);
    int64_t now = clock_mono_ms();
    if (c->stop_sent || !r || r->state != RT_RUNNING)
        return;
    if (c->not_before_ms > now) {
        worker_wake(w, c->not_before_ms - now);
        return;
    }
    bool again = c->stop_deadline_ms != 0; /* a shorter grace than before: the hook had its chance */
    c->stop_sent = true;
    c->stop_deadline_ms = now + grace_s * 1000;
    worker_event(w, c, false, "Killing", why ? "Container %s %s" : "Stopping container %s", c->name, why);
    yyjson_val *hook = json_get(c->spec, "lifecycle", "preStop");
    if (yyjson_is_obj(hook) && grace_s > 0 && !again) {
        worker_op_begin(w);
        c->hook = hook_run(c, hook, r->id, grace_s * 1000, on_pre_stop, NULL);
        return;
    }
    send_stop(c, grace_s);
}

/* ---- containers of a pod that we know nothing else of ---- */

static void on_unknown_stopped(void *arg, int status, const void *reply, const struct error *err) {
    struct pod_worker *w = arg;
    pods_relist_soon(w->pods, 0);
    worker_op_end(w);
}

/* True while some run. */
static bool stop_unknown(struct pod_worker *w) {
    bool some = false;
    for (struct rt_container *r = w->rt.containers; r; r = r->next) {
        if (r->state != RT_RUNNING || worker_container_named(w, r->name))
            continue;
        some = true;
        if (w->ops > 0)
            continue;
        Cri__StopContainerRequest q = CRI__STOP_CONTAINER_REQUEST__INIT;
        q.container_id = r->id;
        q.timeout = r->grace_s;
        worker_op_begin(w);
        cri_call(w->pods->cri, CRI_STOP_CONTAINER, &q, (int)r->grace_s * 1000 + STOP_MARGIN_MS, on_unknown_stopped, w);
        r->state = RT_UNKNOWN; /* asked once per listing */
        r->detailed = false;
    }
    return some;
}

/* ---- sandboxes ---- */

struct sandbox_call {
    struct pod_worker *w;
    char *id;
};

static void on_sandbox_removed(void *arg, int status, const void *reply, const struct error *err) {
    struct sandbox_call *s = arg;
    struct pod_worker *w = s->w;
    if (reply || status == CRI_STATUS_NOT_FOUND) {
        rt_sandbox_drop(&w->rt, s->id);
    } else {
        log_warn("sandbox not removed: %s pod=%s/%s", error_text(err), w->ns, w->name);
        w->sandbox_not_before_ms = clock_mono_ms() + RETRY_MS;
    }
    w->sandbox_busy = false;
    free(s->id);
    free(s);
    worker_op_end(w);
}

static void remove_sandbox(struct pod_worker *w, const struct rt_sandbox *sandbox) {
    struct sandbox_call *s = NEW(struct sandbox_call);
    s->w = w;
    s->id = xstrdup(sandbox->id);
    Cri__RemovePodSandboxRequest q = CRI__REMOVE_POD_SANDBOX_REQUEST__INIT;
    q.pod_sandbox_id = s->id;
    w->sandbox_busy = true;
    worker_op_begin(w);
    cri_call(w->pods->cri, CRI_REMOVE_SANDBOX, &q, SANDBOX_TIMEOUT_MS, on_sandbox_removed, s);
}

static void on_sandbox_stopped(void *arg, int status, const void *reply, const struct error *err) {
    struct sandbox_call *s = arg;
    struct pod_worker *w = s->w;
    struct rt_sandbox *sandbox = rt_sandbox_find(&w->rt, s->id);
    if (!reply && status == CRI_STATUS_NOT_FOUND) {
        rt_sandbox_drop(&w->rt, s->id);
    } else if (reply && sandbox) {
        sandbox->ready = false;
        sandbox->stopped = true;
    } else if (!reply) {
        log_warn("sandbox not stopped: %s pod=%s/%s", error_text(err), w->ns, w->name);
        w->sandbox_not_before_ms = clock_mono_ms() + RETRY_MS;
    }
    w->sandbox_busy = false;
    free(s->id);
    free(s);
    worker_op_end(w);
}

static void stop_sandbox(struct pod_worker *w, const struct rt_sandbox *sandbox) {
    struct sandbox_call *s = NEW(struct sandbox_call);
    s->w = w;
    s->id = xstrdup(sandbox->id);
    Cri__StopPodSandboxRequest q = CRI__STOP_POD_SANDBOX_REQUEST__INIT;
    q.pod_sandbox_id = s->id;
    w->sandbox_busy = true;
    worker_op_begin(w);
    cri_call(w->pods->cri, CRI_STOP_SANDBOX, &q, SANDBOX_TIMEOUT_MS, on_sandbox_stopped, s);
}

/* One step for the next sandbox; true when all are stopped. */
static bool sandboxes_stopped(struct pod_worker *w) {
    int64_t now = clock_mono_ms();
    for (struct rt_sandbox *s = w->rt.sandboxes; s; s = s->next) {
        if (s->stopped)
            continue;
        if (w->sandbox_not_before_ms > now)
            worker_wake(w, w->sandbox_not_before_ms - now);
        else if (!w->sandbox_busy)
            stop_sandbox(w, s);
        return false;
    }
    return true;
}

static bool sandboxes_removed(struct pod_worker *w) {
    int64_t now = clock_mono_ms();
    if (!w->rt.sandboxes)
        return !w->sandbox_busy;
    if (w->sandbox_not_before_ms > now)
        worker_wake(w, w->sandbox_not_before_ms - now);
    else if (!w->sandbox_busy)
        remove_sandbox(w, w->rt.sandboxes);
    return false;
}

/* ---- volumes, cgroup, folders ---- */

struct clean_job {
    struct pod_worker *w;
    const struct cgroups *cgroups;
    enum pod_qos qos;
    char *dir, *uid, *logs;
    struct error err;
};

static void clean(void *arg) {
    struct clean_job *j = arg;
    if (pod_dir_remove(j->dir, &j->err) < 0)
        return;
    static const enum pod_qos all[] = {QOS_GUARANTEED, QOS_BURSTABLE, QOS_BEST_EFFORT};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (cgroup_pod_remove(j->cgroups, all[i], j->uid, &j->err) < 0)
            return;
    if (j->logs)
        (void)!dir_remove(j->logs, NULL);
}

static void cleaned(void *arg) {
    struct clean_job *j = arg;
    struct pod_worker *w = j->w;
    w->clean_busy = false;
    if (j->err.code) {
        log_warn("cannot clean up yet: %s pod=%s/%s", j->err.msg, w->ns, w->name);
        w->refresh_not_before_ms = clock_mono_ms() + RETRY_MS;
    } else {
        w->cleaned = true;
    }
    free(j->dir);
    free(j->uid);
    free(j->logs);
    free(j);
    worker_op_end(w);
}

static void start_clean(struct pod_worker *w) {
    int64_t now = clock_mono_ms();
    if (w->refresh_not_before_ms > now) {
        worker_wake(w, w->refresh_not_before_ms - now);
        return;
    }
    struct clean_job *j = NEW(struct clean_job);
    j->w = w;
    j->cgroups = &w->pods->cgroups;
    j->qos = w->qos;
    j->dir = xstrdup(w->dir);
    j->uid = xstrdup(w->uid);
    /* Logs of a pod that only ended stay for whoever asks for them. */
    w->logs_kept = !(w->deleting || w->removed || !w->pod);
    if (!w->logs_kept)
        j->logs = xasprintf("%s/%s_%s_%s", w->pods->config->pod_logs_dir, w->ns, w->name, w->uid);
    w->clean_busy = true;
    worker_op_begin(w);
    pool_submit(w->pods->pool, w->pods->loop, clean, cleaned, j);
}

/* ---- the whole ---- */

/* True when nothing runs. Sidecars go last, in reverse order. */
static bool containers_stopped(struct pod_worker *w) {
    bool mains = false;
    for (size_t i = 0; i < w->n_containers; i++) {
        struct worker_container *c = &w->containers[i];
        if (c->busy && !c->stop_sent)
            mains = true; /* a start that is under way comes to an end first */
        if (c->role == ROLE_SIDECAR || !worker_container_running(c))
            continue;
        mains = true;
        if (c->busy && c->hook)
            worker_abandon_post_start(c);
        if (!c->busy)
            worker_kill_container(c, w->grace_s, NULL);
    }
    if (stop_unknown(w) || mains)
        return false;
    for (size_t i = w->n_containers; i-- > 0;) {
        struct worker_container *c = &w->containers[i];
        if (!worker_container_running(c))
            continue;
        int64_t left = w->grace_s - (clock_mono_ms() - w->stop_begun_ms) / 1000;
        worker_kill_container(c, left > MIN_GRACE_AFTER_HOOK_S ? left : MIN_GRACE_AFTER_HOOK_S, NULL);
        return false;
    }
    return true;
}

/* The last word on every container is known: exit codes are not lost by removing it too soon. */
static bool details_known(struct pod_worker *w) {
    for (size_t i = 0; i < w->n_containers; i++) {
        const struct rt_container *r = worker_current(&w->containers[i]);
        if (r && !r->detailed) {
            pods_query_container(w->pods, w, r->id);
            return false;
        }
    }
    return true;
}

void worker_sync_stop(struct pod_worker *w) {
    if (w->stage == STAGE_STOP && containers_stopped(w) && details_known(w))
        w->stage = STAGE_CLEAN;
    if (w->stage == STAGE_CLEAN && !w->refresh_busy && sandboxes_stopped(w)) {
        if (!w->cleaned && !w->clean_busy)
            start_clean(w);
        if (w->cleaned)
            w->stage = STAGE_ENDED;
    }
    if (w->stage == STAGE_ENDED && (w->deleting || w->removed || !w->pod)) {
        if (w->logs_kept && !w->clean_busy)
            start_clean(w);
        (void)sandboxes_removed(w);
    }
}

/* ---- what earlier instances left ---- */

static void on_container_removed(void *arg, int status, const void *reply, const struct error *err) {
    struct pod_worker *w = arg;
    if (err && status != CRI_STATUS_NOT_FOUND)
        log_debug("dead container not removed: %s", error_text(err));
    worker_op_end(w);
}

/* Dead instances of a container beyond those that are kept for their logs. */
static struct rt_container *superseded(struct pod_worker *w, const char *name) {
    const struct rt_container *at = rt_newest(&w->rt, name, NULL);
    int64_t keep = w->pods->config->gc_per_container;
    int64_t old_enough = (clock_wall_ms() - w->pods->config->gc_min_age_ms) * 1000000;
    for (struct rt_container *r; at && (r = rt_newest(&w->rt, name, at)); at = r)
        if (--keep < 0 && r->state == RT_EXITED && r->created_ns < old_enough)
            return r;
    return NULL;
}

static bool sandbox_is_empty(const struct pod_worker *w, const struct rt_sandbox *s) {
    for (const struct rt_container *r = w->rt.containers; r; r = r->next)
        if (str_eq(r->sandbox_id, s->id))
            return false;
    return true;
}

void worker_collect_garbage(struct pod_worker *w) {
    for (size_t i = 0; i < w->n_containers; i++) {
        struct rt_container *r = superseded(w, w->containers[i].name);
        if (!r || w->containers[i].busy)
            continue;
        Cri__RemoveContainerRequest q = CRI__REMOVE_CONTAINER_REQUEST__INIT;
        q.container_id = r->id;
        worker_op_begin(w);
        cri_call(w->pods->cri, CRI_REMOVE_CONTAINER, &q, 0, on_container_removed, w);
        rt_container_drop(&w->rt, r->id); /* a listing brings it back if that failed */
    }
    const struct rt_sandbox *current = rt_current_sandbox(&w->rt);
    for (struct rt_sandbox *s = w->rt.sandboxes; s; s = s->next)
        if (s != current && !w->sandbox_busy && current && current->ready && sandbox_is_empty(w, s)) {
            remove_sandbox(w, s);
            return;
        }
}
