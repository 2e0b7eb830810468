#include "edge/edged/cgroups.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CGROUP_MOUNT "/sys/fs/cgroup"
#define STAT_MAX (64u << 10)

static const char *const qos_folders[] = {"", "burstable", "besteffort"};

/* v1 controllers that hold limits of ours; the others are made by the runtime beneath the same path, and removed by us
 * with the pod. */
static const char *const v1_limited[] = {"cpu", "memory", "pids"};

void cgroups_init(struct cgroups *c, bool per_qos, const char *root, bool systemd_driver) {
    *c = (struct cgroups){.enabled = per_qos, .systemd = systemd_driver, .mount = xstrdup(CGROUP_MOUNT)};
    c->root = xstrdup(str_or(root, ""));
    for (size_t n = strlen(c->root); n > 0 && c->root[n - 1] == '/'; n--)
        c->root[n - 1] = '\0';
    c->v2 = access(CGROUP_MOUNT "/cgroup.controllers", F_OK) == 0;
}

void cgroups_free(struct cgroups *c) {
    free(c->root);
    free(c->mount);
    *c = (struct cgroups){0};
}

/* systemd writes a dash in a slice's name as a level: the UID's dashes become underscores. */
static char *slice_uid(const char *uid) {
    char *s = xstrdup(uid);
    for (char *p = s; *p; p++)
        if (*p == '-')
            *p = '_';
    return s;
}

char *cgroup_parent(const struct cgroups *c, enum pod_qos qos, const char *uid) {
    if (!c->enabled)
        return NULL;
    const char *folder = qos_folders[qos];
    if (c->systemd) {
        _cleanup_(free_p) char *id = slice_uid(uid);
        return xasprintf("kubepods%s%s-pod%s.slice", *folder ? "-" : "", folder, id);
    }
    return xasprintf("%s/kubepods/%s%spod%s", c->root, folder, *folder ? "/" : "", uid);
}

/* Path beneath a hierarchy's mount, with a leading slash. Owned. */
static char *relative_path(const struct cgroups *c, enum pod_qos qos, const char *uid) {
    const char *folder = qos_folders[qos];
    if (!c->systemd)
        return xasprintf("%s/kubepods/%s%spod%s", c->root, folder, *folder ? "/" : "", uid);
    _cleanup_(free_p) char *slice = cgroup_parent(c, qos, uid);
    if (!*folder)
        return xasprintf("%s/kubepods.slice/%s", c->root, slice);
    return xasprintf("%s/kubepods.slice/kubepods-%s.slice/%s", c->root, folder, slice);
}

static int write_value(const char *dir, const char *file, const char *value, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", dir, file);
    _cleanup_(close_fd_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    if (write(fd, value, strlen(value)) < 0)
        return error_set_errno(err, errno, "write %s to %s", value, path);
    return 0;
}

static int write_number(const char *dir, const char *file, int64_t value, struct error *err) {
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    return write_value(dir, file, text, err);
}

static int make_path(const char *path, struct error *err) {
    struct error e = ERROR_INIT;
    if (dir_make(path, 0755, &e) == 0)
        return 0;
    return error_set(
        err, e.code,
        "cgroup: %s; edgecore must run as root and be allowed to write there (or set cgroupsPerQOS: false)", e.msg);
}

static int set_v1(const struct cgroups *c, const char *controller, const char *rel, const struct linux_resources *r,
                  struct error *err) {
    _cleanup_(free_p) char *top = xasprintf("%s/%s", c->mount, controller);
    if (access(top, F_OK) < 0)
        return 0; /* the machine does not have this controller */
    _cleanup_(free_p) char *dir = xasprintf("%s%s", top, rel);
    if (make_path(dir, err) < 0)
        return -1;
    if (str_eq(controller, "cpu")) {
        if (write_number(dir, "cpu.shares", r->cpu_shares, err) < 0)
            return -1;
        if (r->cpu_quota_us > 0)
            return write_number(dir, "cpu.cfs_period_us", r->cpu_period_us, err) < 0 ||
                           write_number(dir, "cpu.cfs_quota_us", r->cpu_quota_us, err) < 0
                       ? -1
                       : 0;
        return 0;
    }
    if (str_eq(controller, "memory"))
        return r->memory_bytes > 0 ? write_number(dir, "memory.limit_in_bytes", r->memory_bytes, err) : 0;
    return r->pids > 0 ? write_number(dir, "pids.max", r->pids, err) : 0;
}

/* Each level must hand its controllers down before the next can use them. */
static int delegate_v2(const struct cgroups *c, const char *rel, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s%s", c->mount, rel);
    static const char *const controllers[] = {"+cpu", "+memory", "+pids"};
    for (char *end = path + strlen(c->mount);; end++) {
        end = strchr(end, '/');
        if (!end)
            return 0;
        *end = '\0';
        if (make_path(path, err) < 0)
            return -1;
        for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
            if (write_value(path, "cgroup.subtree_control", controllers[i], NULL) < 0)
                continue; /* not there, or a level that is not ours: its limits are refused below if they matter */
        *end = '/';
    }
}

static int set_v2(const struct cgroups *c, const char *rel, const struct linux_resources *r, struct error *err) {
    _cleanup_(free_p) char *dir = xasprintf("%s%s", c->mount, rel);
    if (delegate_v2(c, rel, err) < 0 || make_path(dir, err) < 0)
        return -1;
    char text[64];
    if (write_number(dir, "cpu.weight", (int64_t)cpu_weight_of(r->cpu_shares), err) < 0)
        return -1;
    if (r->cpu_quota_us > 0) {
        snprintf(text, sizeof(text), "%lld %lld", (long long)r->cpu_quota_us, (long long)r->cpu_period_us);
        if (write_value(dir, "cpu.max", text, err) < 0)
            return -1;
    }
    if (r->memory_bytes > 0 && write_number(dir, "memory.max", r->memory_bytes, err) < 0)
        return -1;
    return r->pids > 0 ? write_number(dir, "pids.max", r->pids, err) : 0;
}

int cgroup_pod_create(const struct cgroups *c, enum pod_qos qos, const char *uid, const struct linux_resources *r,
                      struct error *err) {
    if (!c->enabled || c->systemd)
        return 0;
    _cleanup_(free_p) char *rel = relative_path(c, qos, uid);
    if (c->v2)
        return set_v2(c, rel, r, err);
    for (size_t i = 0; i < ARRAY_LEN(v1_limited); i++)
        if (set_v1(c, v1_limited[i], rel, r, err) < 0)
            return -1;
    /* Best effort as a whole yields to everybody else. */
    if (qos == QOS_BEST_EFFORT) {
        _cleanup_(free_p) char *dir = xasprintf("%s/cpu%s/kubepods/besteffort", c->mount, c->root);
        (void)write_number(dir, "cpu.shares", 2, NULL);
    }
    return 0;
}

/* ---- usage ---- */

static int64_t read_count(const char *dir, const char *file) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", dir, file);
    _cleanup_(buf_free) struct buf text = BUF_INIT(64);
    int64_t n;
    if (file_read(path, &text, NULL) < 0 || parse_i64(bytes_trim(buf_bytes(&text)), 0, INT64_MAX, &n) < 0)
        return 0;
    return n;
}

/* "inactive_file 123" in a memory.stat, say. */
static int64_t read_stat(const char *dir, const char *file, const char *name) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", dir, file);
    _cleanup_(buf_free) struct buf text = BUF_INIT(STAT_MAX);
    if (file_read(path, &text, NULL) < 0)
        return 0;
    struct bytes rest = buf_bytes(&text), line, key, value;
    int64_t n;
    while (bytes_cut(rest, '\n', &line, &rest))
        if (bytes_cut(line, ' ', &key, &value) && bytes_eq_str(key, name))
            return parse_i64(value, 0, INT64_MAX, &n) == 0 ? n : 0;
    return 0;
}

/* The pod's folder beneath a v1 controller, or the only one of v2. Owned. */
static char *pod_folder(const struct cgroups *c, const char *controller, enum pod_qos qos, const char *uid) {
    _cleanup_(free_p) char *rel = relative_path(c, qos, uid);
    return c->v2 ? xasprintf("%s%s", c->mount, rel) : xasprintf("%s/%s%s", c->mount, controller, rel);
}

int64_t cgroup_pod_cpu_ns(const struct cgroups *c, enum pod_qos qos, const char *uid) {
    _cleanup_(free_p) char *dir = pod_folder(c, "cpuacct", qos, uid);
    if (access(dir, F_OK) < 0)
        return -1;
    return c->v2 ? read_stat(dir, "cpu.stat", "usage_usec") * 1000 : read_count(dir, "cpuacct.usage");
}

int64_t cgroup_pod_memory(const struct cgroups *c, enum pod_qos qos, const char *uid) {
    _cleanup_(free_p) char *dir = pod_folder(c, "memory", qos, uid);
    int64_t used = read_count(dir, c->v2 ? "memory.current" : "memory.usage_in_bytes");
    int64_t idle = read_stat(dir, "memory.stat", c->v2 ? "inactive_file" : "total_inactive_file");
    return idle < used ? used - idle : 0;
}

int64_t cgroup_pod_pids(const struct cgroups *c, enum pod_qos qos, const char *uid) {
    _cleanup_(free_p) char *dir = pod_folder(c, "pids", qos, uid);
    return read_count(dir, "pids.current");
}

/* ---- removal ---- */

/* Removes a cgroup and what a runtime left beneath it; only empty ones go. */
static int remove_tree(const char *path, int depth, struct error *err) {
    DIR *d = depth < 8 ? opendir(path) : NULL;
    if (!d)
        return errno == ENOENT ? 0 : error_set_errno(err, errno, "open cgroup %s", path);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.')
            continue;
        _cleanup_(free_p) char *sub = xasprintf("%s/%s", path, e->d_name);
        if (remove_tree(sub, depth + 1, err) < 0) {
            closedir(d);
            return -1;
        }
    }
    closedir(d);
    if (rmdir(path) < 0 && errno != ENOENT) {
        if (errno == EBUSY)
            return error_set(err, ERR_UNAVAILABLE, "cgroup %s still has processes", path);
        return error_set_errno(err, errno, "remove cgroup %s", path);
    }
    return 0;
}

int cgroup_pod_remove(const struct cgroups *c, enum pod_qos qos, const char *uid, struct error *err) {
    if (!c->enabled || c->systemd) /* an empty slice is systemd's to take away */
        return 0;
    _cleanup_(free_p) char *rel = relative_path(c, qos, uid);
    if (c->v2) {
        _cleanup_(free_p) char *path = xasprintf("%s%s", c->mount, rel);
        return remove_tree(path, 0, err);
    }
    DIR *d = opendir(c->mount);
    if (!d)
        return error_set_errno(err, errno, "open %s", c->mount);
    int rc = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || e->d_type == DT_LNK) /* cpuacct -> cpu,cpuacct */
            continue;
        _cleanup_(free_p) char *path = xasprintf("%s/%s%s", c->mount, e->d_name, rel);
        if (access(path, F_OK) == 0 && remove_tree(path, 0, err) < 0)
            rc = -1;
    }
    closedir(d);
    return rc;
}
