/* One container's start: configuration, its files on the pool, create, start, postStart. */
#define LOG_COMPONENT "edged"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "edge/edged/pod_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_RETRY_MS 5000
#define CREATE_RETRY_MS 10000
#define HOSTS_FILE_MAX (1u << 20)
#define POST_START_TIMEOUT_MS (5 * 60 * 1000)

/* What the pool makes before a container is created. Owns copies only. */
struct launch_files {
    struct worker_container *c;
    char *container_dir, *term_log, *log_dir, *hosts_path, *sub_path_root;
    char *hosts; /* content of /etc/hosts; for the host's network, what comes after the host's own */
    bool host_network;
    struct strlist volume_dirs, sub_paths, targets; /* sub path mounts, side by side */
    struct error err;
};

static void files_free(struct launch_files *f) {
    free(f->container_dir);
    free(f->term_log);
    free(f->log_dir);
    free(f->hosts_path);
    free(f->sub_path_root);
    free(f->hosts);
    strlist_free(&f->volume_dirs);
    strlist_free(&f->sub_paths);
    strlist_free(&f->targets);
    free(f);
}

static void launch_end(struct worker_container *c) {
    if (c->config)
        CRI_FREE(TAKE(c->config));
    free(TAKE(c->new_id));
    c->busy = false;
    c->image_ready = false; /* looked at again before the next start */
    worker_op_end(c->worker);
}

static void launch_failed(struct worker_container *c, const char *reason, const struct error *err, int64_t retry_ms) {
    struct pod_worker *w = c->worker;
    if (!str_eq(c->waiting_reason, reason) || !str_eq(c->waiting_message, err->msg)) {
        log_warn("container not started: %s: %s pod=%s/%s container=%s", reason, err->msg, w->ns, w->name, c->name);
        worker_event(w, c, true, "Failed", "Error: %s", err->msg);
    }
    worker_set_waiting(c, reason, err->msg);
    c->not_before_ms = clock_mono_ms() + retry_ms;
    launch_end(c);
}

/* ---- running at last ---- */

static void on_post_start(struct worker_container *c, const struct error *err, void *arg) {
    struct pod_worker *w = c->worker;
    c->hook = NULL;
    if (err) {
        log_warn("postStart hook failed: %s pod=%s/%s container=%s", err->msg, w->ns, w->name, c->name);
        worker_event(w, c, true, "FailedPostStartHook", "PostStartHook failed: %s", err->msg);
        c->kill_reason = "FailedPostStartHook";
    }
    launch_end(c);
}

void worker_abandon_post_start(struct worker_container *c) {
    hook_cancel(TAKE(c->hook));
    launch_end(c);
}

static void on_started_status(void *arg, int status, const void *reply, const struct error *err) {
    struct worker_container *c = arg;
    struct pod_worker *w = c->worker;
    const Cri__ContainerStatusResponse *r = reply;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    if (r && r->status)
        rt_container_status(&w->rt, s ? s->id : NULL, r->status);
    else
        pods_relist_soon(w->pods, 100);
    worker_set_waiting(c, NULL, NULL);
    yyjson_val *hook = json_get(c->spec, "lifecycle", "postStart");
    if (yyjson_is_obj(hook) && worker_container_running(c))
        c->hook = hook_run(c, hook, c->new_id, POST_START_TIMEOUT_MS, on_post_start, NULL);
    else
        launch_end(c);
}

static void ask_status(struct worker_container *c, cri_done *done) {
    Cri__ContainerStatusRequest q = CRI__CONTAINER_STATUS_REQUEST__INIT;
    q.container_id = c->new_id;
    cri_call(c->worker->pods->cri, CRI_CONTAINER_STATUS, &q, 0, done, c);
}

static void on_failed_status(void *arg, int status, const void *reply, const struct error *err) {
    struct worker_container *c = arg;
    struct pod_worker *w = c->worker;
    const Cri__ContainerStatusResponse *r = reply;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    if (r && r->status)
        rt_container_status(&w->rt, s ? s->id : NULL, r->status);
    launch_end(c);
}

static void on_started(void *arg, int status, const void *reply, const struct error *err) {
    struct worker_container *c = arg;
    struct pod_worker *w = c->worker;
    if (reply) {
        worker_event(w, c, false, "Started", "Started container %s", c->name);
        ask_status(c, on_started_status);
        return;
    }
    log_warn("container not started: %s pod=%s/%s container=%s", error_text(err), w->ns, w->name, c->name);
    worker_event(w, c, true, "Failed", "Error: %s", error_text(err));
    worker_set_waiting(c, "RunContainerError", error_text(err));
    c->not_before_ms = clock_mono_ms() + CREATE_RETRY_MS;
    ask_status(c, on_failed_status);
}

static void start_created(struct worker_container *c) {
    Cri__StartContainerRequest q = CRI__START_CONTAINER_REQUEST__INIT;
    q.container_id = c->new_id;
    cri_call(c->worker->pods->cri, CRI_START_CONTAINER, &q, 0, on_started, c);
}

/* After a failure: perhaps the sandbox died unnoticed. If so, there will be a new one. */
static void ask_sandbox(struct pod_worker *w) {
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    if (s)
        pods_query_sandbox(w->pods, w, s->id);
}

/* Known from now on, so that the event of an early exit finds it. */
static void note_created(struct worker_container *c) {
    const struct rt_sandbox *s = rt_current_sandbox(&c->worker->rt);
    struct rt_container *n = rt_container_ensure(&c->worker->rt, c->new_id);
    free(n->name);
    free(n->sandbox_id);
    n->name = xstrdup(c->name);
    n->sandbox_id = xstrdup(s ? s->id : "");
    n->restarts = c->restarts;
    n->created_ns = clock_wall_ms() * 1000000;
}

static void on_created(void *arg, int status, const void *reply, const struct error *err) {
    struct worker_container *c = arg;
    struct pod_worker *w = c->worker;
    const Cri__CreateContainerResponse *r = reply;
    if (!r) {
        ask_sandbox(w);
        launch_failed(c, "CreateContainerError", err, CREATE_RETRY_MS);
        return;
    }
    const struct rt_container *old = worker_current(c);
    if (old && old->state == RT_EXITED) /* the next restart waits longer */
        crash_backoff_next(&c->crash, clock_mono_ms() - (clock_wall_ms() - old->finished_ns / 1000000));
    worker_event(w, c, false, "Created", "Created container: %s", c->name);
    c->new_id = xstrdup(r->container_id);
    note_created(c);
    start_created(c);
}

/* ---- files ---- */

static int append_host_file(struct launch_files *f, struct buf *out) {
    _cleanup_(buf_free) struct buf host = BUF_INIT(HOSTS_FILE_MAX);
    if (f->host_network && file_read("/etc/hosts", &host, NULL) == 0)
        buf_add_bytes(out, buf_bytes(&host));
    return buf_add_str(out, f->hosts);
}

/* Written in place: the file is mounted into the pod's containers by its inode. */
static int write_hosts(struct launch_files *f) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(HOSTS_FILE_MAX * 2), old = BUF_INIT(HOSTS_FILE_MAX * 2);
    if (append_host_file(f, &text) < 0)
        return error_set(&f->err, ERR_TOO_LARGE, "the hosts file is too large");
    if (file_read(f->hosts_path, &old, NULL) == 0 && bytes_eq(buf_bytes(&old), buf_bytes(&text)))
        return 0;
    _cleanup_(close_fd_p) int fd = open(f->hosts_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 || write(fd, text.ptr, text.len) != (ssize_t)text.len)
        return error_set_errno(&f->err, errno, "write %s", f->hosts_path);
    return 0;
}

static void files_make(void *arg) {
    struct launch_files *f = arg;
    if (dir_make(f->container_dir, 0750, &f->err) < 0 || dir_make(f->log_dir, 0755, &f->err) < 0 || write_hosts(f) < 0)
        return;
    int fd = open(f->term_log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0 || fchmod(fd, 0666) < 0) /* whoever the container runs as may write its last words */
        error_set_errno(&f->err, errno, "create %s", f->term_log);
    if (fd >= 0)
        close(fd);
    if (f->targets.count > 0)
        sub_paths_release(f->sub_path_root);
    for (size_t i = 0; i < f->targets.count && !f->err.code; i++)
        (void)!sub_path_bind(f->volume_dirs.items[i], f->sub_paths.items[i], f->targets.items[i], &f->err);
}

static void files_made(void *arg) {
    struct launch_files *f = arg;
    struct worker_container *c = f->c;
    struct error err = f->err;
    files_free(f);
    if (err.code) {
        launch_failed(c, "CreateContainerConfigError", &err, CONFIG_RETRY_MS);
        return;
    }
    struct pod_worker *w = c->worker;
    struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    if (!s || !s->ready || !w->sandbox_config || w->stage != STAGE_RUN) {
        launch_end(c); /* overtaken; the worker decides anew */
        return;
    }
    Cri__CreateContainerRequest q = CRI__CREATE_CONTAINER_REQUEST__INIT;
    q.pod_sandbox_id = s->id;
    q.config = c->config;
    q.sandbox_config = w->sandbox_config;
    cri_call(w->pods->cri, CRI_CREATE_CONTAINER, &q, 0, on_created, c);
}

static void plan_sub_paths(struct launch_files *f, const struct pod_config_context *ctx, const char *dir) {
    struct worker_container *c = f->c;
    struct pod_worker *w = c->worker;
    _cleanup_(env_free) struct env env = {0};
    if (env_build(&ctx->field, c->spec, w->objects, &env, NULL) < 0)
        return; /* container_config has passed with the same input */
    size_t i, max;
    yyjson_val *m;
    yyjson_arr_foreach (yyjson_obj_get(c->spec, "volumeMounts"), i, max, m) {
        char *sub = mount_sub_path(m, &env);
        char *host = volume_host_path(w->pod, w->dir, json_str(m, "name"));
        if (sub && host) {
            strlist_add_take(&f->sub_paths, sub);
            strlist_add_take(&f->volume_dirs, host);
            strlist_add_take(&f->targets, xasprintf("%s/%zu", dir, i));
        } else {
            free(sub);
            free(host);
        }
    }
}

static struct launch_files *files_plan(struct worker_container *c, const struct pod_config_context *ctx,
                                       const char *term_log, const char *sub_dir) {
    struct pod_worker *w = c->worker;
    struct launch_files *f = NEW(struct launch_files);
    _cleanup_(buf_free) struct buf hosts = BUF_INIT(HOSTS_FILE_MAX);
    pod_hosts_file(ctx, BYTES_EMPTY, &hosts);
    f->c = c;
    f->container_dir = xasprintf("%s/containers/%s", w->dir, c->name);
    f->term_log = xstrdup(term_log);
    _cleanup_(free_p) char *pod_logs = pod_log_dir(ctx->logs_dir, w->pod);
    f->log_dir = xasprintf("%s/%s", pod_logs, c->name);
    f->hosts_path = xasprintf("%s/etc-hosts", w->dir);
    f->sub_path_root = xasprintf("%s/volume-subpaths/%s", w->dir, c->name);
    f->hosts = buf_take(&hosts, NULL);
    f->host_network = pod_host_network(w->pod);
    plan_sub_paths(f, ctx, sub_dir);
    return f;
}

/* ---- the start ---- */

static int build_config(struct worker_container *c, const struct pod_config_context *ctx, const char *term_log,
                        const char *sub_dir, struct error *err) {
    struct image_facts image = {.image_ref = c->image_ref, .uid = c->image_uid, .username = c->image_user};
    struct worker_container *target = worker_container_named(c->worker, json_str(c->spec, "targetContainerName"));
    const struct rt_container *seen = target ? worker_current(target) : NULL;
    struct container_config_input in = {.container = c->spec,
                                        .target_id = seen && seen->state == RT_RUNNING ? seen->id : NULL,
                                        .objects = c->worker->objects,
                                        .image = &image,
                                        .restarts = c->restarts,
                                        .term_log = term_log,
                                        .sub_path_dir = sub_dir};
    c->config = container_config(ctx, &in, err);
    return c->config ? 0 : -1;
}

/* The sandbox's configuration goes with every container; after a restart of edgecore it is made again from the pod. */
static int need_sandbox_config(struct pod_worker *w, const struct pod_config_context *ctx, struct error *err) {
    if (w->sandbox_config)
        return 0;
    struct pod_config_context with_parent = *ctx;
    _cleanup_(free_p) char *parent = cgroup_parent(&w->pods->cgroups, w->qos, w->uid);
    with_parent.cgroup_parent = parent;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    w->sandbox_config = sandbox_config(&with_parent, s ? s->attempt : 0, err);
    return w->sandbox_config ? 0 : -1;
}

static bool ready_to_start(const struct worker_container *c) {
    const struct pod_worker *w = c->worker;
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    return s && s->ready && s->detailed && !w->sandbox_busy && w->volumes_ready && w->objects && !w->refresh_busy &&
           c->image_ready && !c->busy;
}

void worker_start_container(struct worker_container *c) {
    struct pod_worker *w = c->worker;
    const struct rt_container *old = worker_current(c);
    if (!ready_to_start(c))
        return;
    c->busy = true;
    c->stop_sent = false;
    c->stop_deadline_ms = 0;
    c->hook_failed = false;
    c->started = c->ready = true;
    worker_op_begin(w);
    if (old && old->state == RT_CREATED) { /* made by us before a crash: it only has to be started */
        c->new_id = xstrdup(old->id);
        start_created(c);
        return;
    }
    struct error err = ERROR_INIT;
    struct pod_config_context ctx;
    worker_pod_context(w, &ctx);
    c->restarts = old ? old->restarts + 1 : 0;
    _cleanup_(free_p) char *term = xasprintf("%s/containers/%s/%lld", w->dir, c->name, (long long)c->restarts);
    _cleanup_(free_p) char *subs = xasprintf("%s/volume-subpaths/%s/%lld", w->dir, c->name, (long long)c->restarts);
    if (need_sandbox_config(w, &ctx, &err) < 0 || build_config(c, &ctx, term, subs, &err) < 0) {
        launch_failed(c, "CreateContainerConfigError", &err, CONFIG_RETRY_MS);
        w->refresh_wanted = true; /* what was missing may be there the next time */
        w->refresh_not_before_ms = clock_mono_ms() + CONFIG_RETRY_MS - 100;
        return;
    }
    struct launch_files *f = files_plan(c, &ctx, term, subs);
    pool_submit(w->pods->pool, w->pods->loop, files_make, files_made, f);
}
