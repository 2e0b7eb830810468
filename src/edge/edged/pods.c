#define LOG_COMPONENT "edged"
#include "edge/edged/pods.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "edge/edged/pod_worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define RESOLV_CONF_MAX (1u << 20)
#define TERMINATION_MESSAGE_MAX 4096
#define LOG_TAIL_MAX 2048

static void rebuild_status(void *arg, const char *uid) {
    struct pod_worker *w = pods_worker(arg, uid);
    if (w)
        worker_wake(w, 0);
}

static void read_resolv_conf(struct pods *ps) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(RESOLV_CONF_MAX);
    struct error err = ERROR_INIT;
    const char *path = ps->config->resolv_conf;
    if (!str_empty(path) && file_read(path, &text, &err) < 0)
        log_warn("the pods' DNS settings: %s", err.msg);
    resolv_conf_parse(buf_bytes(&text), &ps->dns);
}

static int make_root(struct pods *ps, struct error *err) {
    const char *root = str_or(ps->config->root_directory, "/var/lib/kubelet");
    _cleanup_(free_p) char *pods_dir = xasprintf("%s/pods", root);
    if (dir_make(pods_dir, 0750, err) < 0)
        return error_wrap(err, "modules.edged.rootDirectory");
    ps->root = realpath(root, NULL); /* mounts are listed by their real paths */
    if (!ps->root)
        return error_set_errno(err, errno, "modules.edged.rootDirectory %s", root);
    return 0;
}

struct pods *pods_new(struct loop *l, struct pool *p, struct bus *b, const struct edged_config *c, struct cri *cri,
                      struct error *err) {
    struct pods *ps = NEW(struct pods);
    *ps = (struct pods){.loop = l, .pool = p, .bus = b, .config = c, .cri = cri, .runtime_name = xstrdup("")};
    if (make_root(ps, err) < 0) {
        free(ps->runtime_name);
        free(ps);
        return NULL;
    }
    ps->images = images_new(l, cri, c->serialize_image_pulls, c->max_parallel_image_pulls);
    ps->status = status_sync_new(l, b, rebuild_status, ps);
    ps->events = event_recorder_new(b, c->node_name, c->report_event);
    ps->began_ns = clock_wall_ms() * 1000000;
    ps->node.node_name = c->node_name;
    ps->node.cpu_milli = sysconf(_SC_NPROCESSORS_ONLN) * 1000;
    ps->node.memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    ps->dns.cluster_dns = &c->cluster_dns;
    ps->dns.cluster_domain = c->cluster_domain;
    read_resolv_conf(ps);
    ps->resources = (struct resource_policy){.cpu_quota = c->cpu_cfs_quota,
                                             .cpu_period_us = c->cpu_cfs_quota_period_ms * 1000,
                                             .node_memory_bytes = ps->node.memory,
                                             .pids_limit = c->pod_pids_limit};
    relist_init(ps);
    return ps;
}

void pods_free(struct pods *ps) {
    if (!ps)
        return;
    relist_free(ps);
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp) {
        HASH_DEL(ps->workers, w);
        worker_free(w);
    }
    status_sync_free(ps->status);
    event_recorder_free(ps->events);
    images_free(ps->images);
    if (ps->http)
        http_client_free(ps->http);
    if (ps->https)
        http_client_free(ps->https);
    dns_settings_free(&ps->dns);
    strlist_free(&ps->node.host_ips);
    cgroups_free(&ps->cgroups);
    free(ps->runtime_name);
    free(ps->root);
    free(ps);
}

void pods_runtime_up(struct pods *ps, const char *name, bool systemd_cgroups) {
    free(ps->runtime_name);
    ps->runtime_name = xstrdup(name);
    cgroups_free(&ps->cgroups);
    cgroups_init(&ps->cgroups, ps->config->cgroups_per_qos, ps->config->cgroup_root, systemd_cgroups);
    ps->relist_busy = false;
    pods_relist_soon(ps, 0);
}

void pods_runtime_down(struct pods *ps) {
    ps->events_connected = false;
}

void pods_set_node(struct pods *ps, const char *ip, int64_t cpu_milli, int64_t memory) {
    bool changed = !str_empty(ip) && (ps->node.host_ips.count != 1 || !str_eq(ps->node.host_ips.items[0], ip));
    if (cpu_milli > 0)
        ps->node.cpu_milli = cpu_milli;
    if (memory > 0)
        ps->node.memory = memory;
    if (!changed)
        return;
    strlist_free(&ps->node.host_ips);
    strlist_add(&ps->node.host_ips, ip);
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp)
        worker_wake(w, 0);
}

/* ---- workers ---- */

struct pod_worker *pods_worker(struct pods *ps, const char *uid) {
    struct pod_worker *w;
    HASH_FIND_STR(ps->workers, uid, w);
    return w;
}

struct pod_worker *pods_worker_ensure(struct pods *ps, const char *uid, const char *ns, const char *name) {
    struct pod_worker *w = pods_worker(ps, uid);
    if (!w) {
        w = worker_new(ps, uid, ns, name);
        HASH_ADD_KEYPTR(hh, ps->workers, w->uid, strlen(w->uid), w);
    }
    return w;
}

void pods_forget(struct pods *ps, struct pod_worker *w) {
    log_info("pod is gone pod=%s/%s uid=%s", w->ns, w->name, w->uid);
    status_sync_forget(ps->status, w->uid);
    HASH_DEL(ps->workers, w);
    worker_free(w);
}

void pods_update(struct pods *ps, struct pod *p) {
    struct pod_worker *w = pods_worker_ensure(ps, p->uid, p->ns, p->name);
    if (!w->pod)
        log_info("pod is to run here pod=%s/%s uid=%s", p->ns, p->name, p->uid);
    status_sync_known(ps->status, p);
    w->removed = false;
    worker_set_pod(w, p);
}

void pods_remove(struct pods *ps, const char *uid) {
    struct pod_worker *w = pods_worker(ps, uid);
    if (!w)
        return;
    w->removed = true;
    worker_wake(w, 0);
}

static void set_complete(struct pods *ps, const struct strlist *uids) {
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp) {
        if (w->pod && !w->pod->is_static && !strlist_has(uids, w->uid))
            w->removed = true;
        worker_wake(w, 0);
    }
    bool first = !ps->set_complete;
    ps->set_complete = true;
    if (first)
        pods_remove_orphans(ps);
}

void pods_set_read(struct pods *ps, const struct strlist *uids, bool complete) {
    bool first = !ps->set_read;
    ps->set_read = true;
    if (complete)
        set_complete(ps, uids);
    if (first && ps->on_set_read)
        ps->on_set_read(ps->on_set_read_arg);
}

void pods_object_changed(struct pods *ps, const char *kind, const char *ns, const char *name) {
    enum object_kind k = str_eq(kind, "secret") ? OBJ_SECRET : OBJ_CONFIGMAP;
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp) {
        if (w->pod && str_eq(w->ns, ns) && pod_refers_to(w->pod, k, name))
            worker_refresh(w);
    }
}

/* ---- folders and cgroups that belong to nobody ---- */

struct orphan_job {
    struct pods *pods;
    const struct cgroups *cgroups;
    char *pods_dir;
    struct strlist known;
};

static void remove_orphans(void *arg) {
    struct orphan_job *j = arg;
    DIR *d = opendir(j->pods_dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strlist_has(&j->known, e->d_name))
            continue;
        _cleanup_(free_p) char *dir = xasprintf("%s/%s", j->pods_dir, e->d_name);
        struct error err = ERROR_INIT;
        if (pod_dir_remove(dir, &err) < 0)
            log_warn("folder of an unknown pod not removed: %s", err.msg);
        else
            log_info("removed the folder of an unknown pod uid=%s", e->d_name);
    }
    if (d)
        closedir(d);
}

static void orphans_removed(void *arg) {
    struct orphan_job *j = arg;
    strlist_free(&j->known);
    free(j->pods_dir);
    free(j);
}

void pods_remove_orphans(struct pods *ps) {
    struct orphan_job *j = NEW(struct orphan_job);
    j->pods = ps;
    j->pods_dir = xasprintf("%s/pods", ps->root);
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp)
        strlist_add(&j->known, w->uid);
    pool_submit(ps->pool, ps->loop, remove_orphans, orphans_removed, j);
}

/* ---- last words ---- */

/* The text of the last lines of a CRI log ("<time> <stream> <P|F> <text>"). */
static void log_tail(const char *path, struct buf *out) {
    _cleanup_(close_fd_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char raw[LOG_TAIL_MAX * 2];
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (end <= 0)
        return;
    off_t from = end > (off_t)sizeof(raw) ? end - (off_t)sizeof(raw) : 0;
    ssize_t n = pread(fd, raw, sizeof(raw), from);
    struct bytes rest = bytes_of(raw, n > 0 ? (size_t)n : 0), line, parts[4];
    if (from > 0)
        bytes_cut(rest, '\n', NULL, &rest);
    while (bytes_cut(rest, '\n', &line, &rest)) {
        if (bytes_split(line, ' ', parts, 4) < 4)
            continue;
        size_t skip = (size_t)(parts[3].ptr - line.ptr);
        buf_add(out, line.ptr + skip, line.len - skip);
        buf_add_char(out, '\n');
    }
    if (out->len > LOG_TAIL_MAX)
        buf_drop_front(out, out->len - LOG_TAIL_MAX);
}

void termination_message_read(struct pods *ps, const struct pod_worker *w, struct rt_container *c) {
    _cleanup_(free_p) char *path = xasprintf("%s/containers/%s/%lld", w->dir, c->name, (long long)c->restarts);
    _cleanup_(buf_free) struct buf text = BUF_INIT(LOG_TAIL_MAX * 2 + 256);
    _cleanup_(close_fd_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char raw[TERMINATION_MESSAGE_MAX];
    ssize_t n = fd < 0 ? 0 : read(fd, raw, sizeof(raw));
    if (n > 0) {
        free(c->message);
        c->message = xstrndup(raw, (size_t)n);
    } else if (c->term_policy_logs && c->exit_code != 0 && !str_empty(c->log_path)) {
        log_tail(c->log_path, &text);
        if (text.len > 0) {
            free(c->message);
            c->message = buf_take(&text, NULL);
        }
    }
}
