#define LOG_COMPONENT "edged"
#include "edge/edged/log_rotation.h"

#include "base/clock.h"
#include "base/log.h"
#include "edge/edged/log_files.h"
#include "edge/edged/pod_worker.h"
#include "kube/quantity.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

/* One container's log, while it is looked at. */
struct watched_log {
    struct log_rotation *rotation;
    char *container_id, *path;
    char *moved; /* where it went; NULL: it was small enough */
    struct error err;
};

struct log_rotation {
    struct pods *pods;
    struct timer *timer;
    int64_t max_bytes;
    struct watched_log *logs; /* of the pass under way */
    size_t n_logs, reopening;
};

static void pass_over(struct log_rotation *r) {
    for (size_t i = 0; i < r->n_logs; i++) {
        free(r->logs[i].container_id);
        free(r->logs[i].path);
        free(r->logs[i].moved);
    }
    free(r->logs);
    r->logs = NULL;
    r->n_logs = 0;
    timer_set(r->timer, r->pods->config->log_monitor_ms);
}

/* ---- on the pool ---- */

static void rotate_large(void *arg) {
    struct log_rotation *r = arg;
    time_t now = (time_t)clock_wall_s();
    struct tm tm;
    char stamp[32];
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
    for (size_t i = 0; i < r->n_logs; i++) {
        struct watched_log *l = &r->logs[i];
        if (log_size(l->path) > r->max_bytes &&
            log_rotate(l->path, stamp, r->pods->config->log_max_files, &l->moved, &l->err) < 0)
            log_warn("log not rotated: %s", l->err.msg);
    }
}

/* ---- on the loop ---- */

static void on_reopened(void *arg, int status, const void *reply, const struct error *err) {
    struct watched_log *l = arg;
    struct log_rotation *r = l->rotation;
    /* The runtime goes on writing to the moved file: it gets its name back, unless there is a new one after all. */
    if (!reply && renameat2(AT_FDCWD, l->moved, AT_FDCWD, l->path, RENAME_NOREPLACE) == 0)
        log_warn("log not rotated: the runtime does not open a new one: %s file=%s", error_text(err), l->path);
    if (--r->reopening == 0)
        pass_over(r);
}

static void rotated(void *arg) {
    struct log_rotation *r = arg;
    for (size_t i = 0; i < r->n_logs; i++)
        r->reopening += r->logs[i].moved != NULL;
    if (r->reopening == 0) {
        pass_over(r);
        return;
    }
    for (size_t i = 0; i < r->n_logs; i++) {
        if (!r->logs[i].moved)
            continue;
        Cri__ReopenContainerLogRequest q = CRI__REOPEN_CONTAINER_LOG_REQUEST__INIT;
        q.container_id = r->logs[i].container_id;
        cri_call(r->pods->cri, CRI_REOPEN_LOG, &q, 0, on_reopened, &r->logs[i]);
    }
}

static void begin_pass(void *arg) {
    struct log_rotation *r = arg;
    size_t n = 0;
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, r->pods->workers, w, tmp)
        for (const struct rt_container *c = w->rt.containers; c; c = c->next)
            n += c->state == RT_RUNNING && !str_empty(c->log_path);
    if (n == 0) {
        pass_over(r);
        return;
    }
    r->logs = xcalloc(n, sizeof(*r->logs));
    HASH_ITER (hh, r->pods->workers, w, tmp)
        for (const struct rt_container *c = w->rt.containers; c; c = c->next)
            if (c->state == RT_RUNNING && !str_empty(c->log_path))
                r->logs[r->n_logs++] = (struct watched_log){
                    .rotation = r, .container_id = xstrdup(c->id), .path = xstrdup(c->log_path), .err = ERROR_INIT};
    pool_submit(r->pods->pool, r->pods->loop, rotate_large, rotated, r);
}

struct log_rotation *log_rotation_new(struct pods *ps, struct error *err) {
    struct quantity size;
    if (quantity_parse(bytes_str(str_or(ps->config->log_max_size, "10Mi")), &size, err) < 0) {
        (void)error_wrap(err, "modules.edged.tailoredKubeletConfig.containerLogMaxSize");
        return NULL;
    }
    struct log_rotation *r = NEW(struct log_rotation);
    r->pods = ps;
    r->max_bytes = quantity_value(size);
    r->timer = timer_new(ps->loop, begin_pass, r);
    if (r->max_bytes >= 0)
        timer_set(r->timer, ps->config->log_monitor_ms);
    return r;
}

void log_rotation_free(struct log_rotation *r) {
    if (!r)
        return;
    pass_over(r);
    timer_free(r->timer);
    free(r);
}
