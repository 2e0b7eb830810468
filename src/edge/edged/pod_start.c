/* Starting: sandbox, volumes, images, containers. Each step ends in worker_op_end, which makes the worker look again.
 */
#define REFRESH_REST_MAX_MS 5000
#define LOG_COMPONENT "edged"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "edge/edged/pod_worker.h"

#define SANDBOX_TIMEOUT_MS (4 * 60 * 1000)
#define RETRY_MS 2000
#define CONFIG_RETRY_MS 5000
#define CREATE_RETRY_MS 10000

const struct strlist *worker_ips(const struct pod_worker *w) {
    static const struct strlist none;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    if (w->pod && pod_host_network(w->pod))
        return &w->pods->node.host_ips;
    return s ? &s->ips : &none;
}

void worker_pod_context(struct pod_worker *w, struct pod_config_context *out) {
    struct pods *ps = w->pods;
    *out = (struct pod_config_context){
        .field = {.pod = w->pod, .node = &ps->node, .pod_ips = worker_ips(w)},
        .dns = &ps->dns,
        .resources = &ps->resources,
        .pod_dir = w->dir,
        .logs_dir = ps->config->pod_logs_dir,
        .seccomp_default = ps->config->seccomp_default,
        .cgroup_v2 = ps->cgroups.v2,
    };
}

/* ---- the sandbox ---- */

struct sandbox_files { /* what the pool makes before the sandbox */
    struct pod_worker *w;
    const struct cgroups *cgroups;
    enum pod_qos qos;
    char *uid, *log_dir;
    struct linux_resources resources;
    struct error err;
};

static void sandbox_failed(struct pod_worker *w, const struct error *err) {
    int64_t now = clock_mono_ms();
    crash_backoff_next(&w->sandbox_backoff, now);
    /* The first tries come quickly: a network plugin that is still starting is the usual reason. */
    w->sandbox_not_before_ms =
        now + (w->sandbox_backoff.delay_ms <= CRASH_BACKOFF_FIRST_MS ? RETRY_MS : w->sandbox_backoff.delay_ms);
    if (!str_eq(w->sandbox_error, err->msg))
        log_warn("pod sandbox not made: %s pod=%s/%s", err->msg, w->ns, w->name);
    free(w->sandbox_error);
    w->sandbox_error = xstrdup(err->msg);
    worker_event(w, NULL, true, "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", err->msg);
    w->sandbox_busy = false;
    worker_op_end(w);
}

static void on_sandbox_status(void *arg, int status, const void *reply, const struct error *err) {
    struct pod_worker *w = arg;
    const Cri__PodSandboxStatusResponse *r = reply;
    if (r && r->status)
        rt_sandbox_status(&w->rt, r->status);
    else
        log_warn("status of the new sandbox: %s pod=%s/%s", error_text(err), w->ns, w->name);
    w->sandbox_busy = false;
    worker_op_end(w);
}

static void on_sandbox_run(void *arg, int status, const void *reply, const struct error *err) {
    struct pod_worker *w = arg;
    const Cri__RunPodSandboxResponse *r = reply;
    if (!r) {
        sandbox_failed(w, err);
        return;
    }
    free(TAKE(w->sandbox_error));
    struct rt_sandbox *s = rt_sandbox_ensure(&w->rt, r->pod_sandbox_id);
    for (size_t i = 0; i < w->n_containers; i++)
        w->containers[i].not_before_ms = 0; /* what failed in an earlier sandbox may go well in this one */
    s->attempt = w->sandbox_config->metadata->attempt;
    s->created_ns = clock_wall_ms() * 1000000;
    Cri__PodSandboxStatusRequest q = CRI__POD_SANDBOX_STATUS_REQUEST__INIT;
    q.pod_sandbox_id = s->id;
    cri_call(w->pods->cri, CRI_SANDBOX_STATUS, &q, 0, on_sandbox_status, w);
}

static void sandbox_files_make(void *arg) {
    struct sandbox_files *f = arg;
    if (cgroup_pod_create(f->cgroups, f->qos, f->uid, &f->resources, &f->err) < 0)
        return;
    (void)!dir_make(f->log_dir, 0755, &f->err);
}

static void sandbox_files_made(void *arg) {
    struct sandbox_files *f = arg;
    struct pod_worker *w = f->w;
    if (f->err.code) {
        sandbox_failed(w, &f->err);
    } else {
        Cri__RunPodSandboxRequest r = CRI__RUN_POD_SANDBOX_REQUEST__INIT;
        r.config = w->sandbox_config;
        cri_call(w->pods->cri, CRI_RUN_SANDBOX, &r, SANDBOX_TIMEOUT_MS, on_sandbox_run, w);
    }
    free(f->uid);
    free(f->log_dir);
    free(f);
}

static int build_sandbox_config(struct pod_worker *w, uint32_t attempt, struct error *err) {
    struct pod_config_context c;
    worker_pod_context(w, &c);
    _cleanup_(free_p) char *parent = cgroup_parent(&w->pods->cgroups, w->qos, w->uid);
    c.cgroup_parent = parent;
    if (w->sandbox_config)
        CRI_FREE(w->sandbox_config);
    w->sandbox_config = sandbox_config(&c, attempt, err);
    return w->sandbox_config ? 0 : -1;
}

static void make_sandbox(struct pod_worker *w, uint32_t attempt) {
    struct error err = ERROR_INIT;
    w->sandbox_busy = true;
    worker_op_begin(w);
    if (build_sandbox_config(w, attempt, &err) < 0) {
        sandbox_failed(w, &err);
        return;
    }
    struct sandbox_files *f = NEW(struct sandbox_files);
    f->w = w;
    f->cgroups = &w->pods->cgroups;
    f->qos = w->qos;
    f->uid = xstrdup(w->uid);
    f->log_dir = xstrdup(w->sandbox_config->log_directory);
    pod_resources(w->pod, &w->pods->resources, &f->resources);
    pool_submit(w->pods->pool, w->pods->loop, sandbox_files_make, sandbox_files_made, f);
}

static void on_old_sandbox_stopped(void *arg, int status, const void *reply, const struct error *err) {
    struct pod_worker *w = arg;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    if (err && status != CRI_STATUS_NOT_FOUND)
        log_debug("stop of a dead sandbox: %s", error_text(err));
    make_sandbox(w, s ? s->attempt + 1 : 0);
    worker_op_end(w);
}

void worker_ensure_sandbox(struct pod_worker *w) {
    struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    int64_t now = clock_mono_ms();
    if (w->sandbox_busy || (s && s->ready))
        return;
    if (w->sandbox_not_before_ms > now) {
        worker_wake(w, w->sandbox_not_before_ms - now);
        return;
    }
    for (size_t i = 0; i < w->n_containers; i++)
        if (w->containers[i].busy)
            return; /* started into the sandbox that died: it will fail, then we come back */
    if (!s) {
        make_sandbox(w, 0);
        return;
    }
    /* The old one is dead (a reboot, a crash of its process): its network is released before there is a new one. */
    log_info("sandbox is dead, making a new one pod=%s/%s", w->ns, w->name);
    worker_event(w, NULL, false, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    Cri__StopPodSandboxRequest r = CRI__STOP_POD_SANDBOX_REQUEST__INIT;
    r.pod_sandbox_id = s->id;
    w->sandbox_busy = true;
    worker_op_begin(w);
    cri_call(w->pods->cri, CRI_STOP_SANDBOX, &r, SANDBOX_TIMEOUT_MS, on_old_sandbox_stopped, w);
}

/* ---- objects and volumes ---- */

struct volume_job {
    struct pod_worker *w;
    struct volume_plan *plan;
    struct error err;
};

static void refresh_failed(struct pod_worker *w, const struct error *err) {
    if (!str_eq(w->volume_error, err->msg)) {
        log_warn("volumes not ready: %s pod=%s/%s", err->msg, w->ns, w->name);
        worker_event(w, NULL, true, "FailedMount", "MountVolume.SetUp failed for %s", err->msg);
    }
    free(w->volume_error);
    w->volume_error = xstrdup(err->msg);
    w->refresh_not_before_ms = clock_mono_ms() + CONFIG_RETRY_MS;
    w->refresh_wanted = true;
}

static void volumes_make(void *arg) {
    struct volume_job *j = arg;
    (void)!volume_plan_apply(j->plan, &j->err);
}

static void volumes_made(void *arg) {
    struct volume_job *j = arg;
    struct pod_worker *w = j->w;
    w->refresh_busy = false;
    if (j->err.code) {
        refresh_failed(w, &j->err);
    } else {
        /* Objects that change all the time may cost a fifth of our time, not all of it. A small set is done in a
         * millisecond, and the rest is as short. */
        int64_t now = clock_mono_ms(), rest = 4 * (now - w->refresh_started_ms);
        w->refresh_rest_until_ms = now + (rest < REFRESH_REST_MAX_MS ? rest : REFRESH_REST_MAX_MS);
        w->volumes_ready = true;
        w->token_renew_at = volume_plan_renew_at(j->plan);
        free(TAKE(w->volume_error));
    }
    volume_plan_free(j->plan);
    free(j);
    worker_op_end(w);
}

static void objects_fetched(void *arg) {
    struct pod_worker *w = arg;
    struct error err = ERROR_INIT;
    w->fetch = NULL;
    struct field_context c = {.pod = w->pod, .node = &w->pods->node, .pod_ips = worker_ips(w)};
    struct volume_plan *plan = volume_plan_new(&c, w->objects, w->dir, &err);
    if (!plan) {
        w->refresh_busy = false;
        refresh_failed(w, &err);
        worker_wake(w, 0);
        return;
    }
    struct volume_job *j = NEW(struct volume_job);
    *j = (struct volume_job){.w = w, .plan = plan};
    worker_op_begin(w);
    pool_submit(w->pods->pool, w->pods->loop, volumes_make, volumes_made, j);
}

static bool something_to_start(struct pod_worker *w) {
    for (size_t i = 0; i < w->n_containers; i++)
        if (worker_container_lacks(&w->containers[i]))
            return true;
    return false;
}

void worker_ensure_refreshed(struct pod_worker *w) {
    int64_t now = clock_mono_ms();
    bool first = !w->objects && something_to_start(w);
    if (w->refresh_busy || (!first && !w->refresh_wanted))
        return;
    int64_t not_before =
        w->refresh_rest_until_ms > w->refresh_not_before_ms ? w->refresh_rest_until_ms : w->refresh_not_before_ms;
    if (not_before > now) {
        worker_wake(w, not_before - now);
        return;
    }
    for (size_t i = 0; i < w->n_containers; i++)
        if (w->containers[i].image_busy)
            return; /* it may hold credentials of the set */
    w->refresh_wanted = false;
    w->refresh_busy = true;
    w->refresh_started_ms = now;
    object_set_free(w->objects);
    w->objects = object_set_of_pod(w->pod);
    if (HASH_COUNT(w->objects->items) == 0)
        objects_fetched(w);
    else
        w->fetch = object_fetch_start(w->pods->bus, w->pod, w->objects, objects_fetched, w);
}

/* ---- images ---- */

static void on_pulling(void *arg) {
    struct worker_container *c = arg;
    worker_event(c->worker, c, false, "Pulling", "Pulling image \"%s\"", json_str(c->spec, "image"));
}

static void image_failed(struct worker_container *c, const struct image_result *r) {
    int64_t now = clock_mono_ms();
    log_warn("%s pod=%s/%s container=%s", r->message, c->worker->ns, c->worker->name, c->name);
    worker_event(c->worker, c, true, "Failed", "%s", r->message);
    worker_set_waiting(c, r->reason, r->message);
    if (str_eq(r->reason, "ErrImagePull")) {
        crash_backoff_next(&c->pull, now);
        c->pull_failed_ms = now;
    } else {
        c->not_before_ms = now + CREATE_RETRY_MS;
        worker_wake(c->worker, CREATE_RETRY_MS);
    }
}

static void on_image(void *arg, const struct image_result *r) {
    struct worker_container *c = arg;
    const char *image = str_or(json_str(c->spec, "image"), "");
    c->image_busy = false;
    if (!r->image_ref) {
        image_failed(c, r);
        worker_op_end(c->worker);
        return;
    }
    c->image_ready = true;
    c->pull_failed_ms = 0;
    free(c->image_ref);
    free(c->image_user);
    c->image_ref = xstrdup(r->image_ref);
    c->image_user = xstrdup(str_or(r->username, ""));
    c->image_uid = r->uid;
    if (str_eq(c->waiting_reason, "ErrImagePull") || str_eq(c->waiting_reason, "ImagePullBackOff"))
        worker_set_waiting(c, NULL, NULL);
    if (r->pulled)
        worker_event(c->worker, c, false, "Pulled", "Successfully pulled image \"%s\" in %lldms", image,
                     (long long)r->pull_ms);
    else
        worker_event(c->worker, c, false, "Pulled", "Container image \"%s\" already present on machine", image);
    worker_op_end(c->worker);
}

void worker_ensure_image(struct worker_container *c) {
    struct pod_worker *w = c->worker;
    const char *image = str_or(json_str(c->spec, "image"), "");
    if (c->image_busy || c->image_ready)
        return;
    if (yyjson_arr_size(yyjson_obj_get(w->pod->spec, "imagePullSecrets")) > 0 && (!w->objects || w->refresh_busy))
        return; /* credentials first */
    int64_t now = clock_mono_ms();
    int64_t left = c->pull_failed_ms ? crash_backoff_remaining(&c->pull, c->pull_failed_ms, now) : 0;
    if (left > 0) {
        char message[600];
        snprintf(message, sizeof(message), "Back-off pulling image \"%s\"", image);
        if (!str_eq(c->waiting_reason, "ImagePullBackOff") && left < c->pull.delay_ms - 500) {
            worker_event(w, c, false, "BackOff", "%s", message);
            worker_set_waiting(c, "ImagePullBackOff", message);
        }
        worker_wake(w, str_eq(c->waiting_reason, "ImagePullBackOff") ? left : 1000);
        return;
    }
    c->image_busy = true;
    worker_op_begin(w);
    images_ensure(w->pods->images, &(struct image_request){.image = image,
                                                           .policy = image_pull_policy(c->spec),
                                                           .credentials = image_credentials(w->pod, w->objects, image),
                                                           .pulling = on_pulling,
                                                           .done = on_image,
                                                           .arg = c});
}
