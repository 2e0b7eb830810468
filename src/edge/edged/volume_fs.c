/* Making and removing volumes in the file system: blocking, on the task pool. */
#define LOG_COMPONENT "edged"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "edge/edged/volume_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_mount_point(const char *path) {
    struct stat a, b;
    _cleanup_(free_p) char *parent = xasprintf("%s/..", path);
    return stat(path, &a) == 0 && stat(parent, &b) == 0 && a.st_dev != b.st_dev;
}

static int mount_tmpfs(const char *path, int64_t size, const char *mode, struct error *err) {
    if (is_mount_point(path))
        return 0;
    char options[96];
    int n = snprintf(options, sizeof(options), "mode=%s", mode);
    if (size > 0)
        snprintf(options + n, sizeof(options) - (size_t)n, ",size=%lld", (long long)size);
    if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        return error_set_errno(err, errno, "mount a tmpfs at %s (edgecore needs CAP_SYS_ADMIN for this volume)", path);
    return 0;
}

static int set_fs_group(const char *path, int64_t gid, mode_t mode, struct error *err) {
    if (gid < 0)
        return chmod(path, mode) == 0 ? 0 : error_set_errno(err, errno, "chmod %s", path);
    if (chown(path, (uid_t)-1, (gid_t)gid) < 0 || chmod(path, mode | 02770) < 0)
        return error_set_errno(err, errno, "give %s to group %lld", path, (long long)gid);
    return 0;
}

static int make_empty_dir(const struct planned_volume *v, int64_t gid, struct error *err) {
    struct stat st;
    bool fresh = stat(v->path, &st) < 0;
    if (dir_make(v->path, 0755, err) < 0)
        return -1;
    if (v->kind == PLAN_TMPFS) {
        fresh |= !is_mount_point(v->path);
        if (mount_tmpfs(v->path, v->size_limit, "0777", err) < 0)
            return -1;
    }
    return fresh ? set_fs_group(v->path, gid, 0777, err) : 0;
}

static int make_files(const struct planned_volume *v, int64_t gid, struct error *err) {
    if (dir_make(v->path, 0755, err) < 0 || (v->in_memory && mount_tmpfs(v->path, 0, "0755", err) < 0) ||
        set_fs_group(v->path, gid, 0755, err) < 0)
        return -1;
    if (gid < 0)
        return atomic_write(v->path, v->files, v->n_files, gid, err);
    for (size_t i = 0; i < v->n_files; i++)
        v->files[i].mode |= 0440;
    return atomic_write(v->path, v->files, v->n_files, gid, err);
}

static int check_host_path(const struct planned_volume *v, struct error *err) {
    static const struct {
        const char *type;
        mode_t mode;
        const char *word;
    } types[] = {{"Directory", S_IFDIR, "a directory"},
                 {"DirectoryOrCreate", S_IFDIR, "a directory"},
                 {"File", S_IFREG, "a file"},
                 {"FileOrCreate", S_IFREG, "a file"},
                 {"Socket", S_IFSOCK, "a socket"},
                 {"CharDevice", S_IFCHR, "a character device"},
                 {"BlockDevice", S_IFBLK, "a block device"}};
    if (!*v->host_type)
        return 0;
    struct stat st;
    bool exists = stat(v->path, &st) == 0;
    if (!exists && str_eq(v->host_type, "DirectoryOrCreate"))
        return dir_make(v->path, 0755, err);
    if (!exists && str_eq(v->host_type, "FileOrCreate")) {
        int fd = open(v->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return error_set_errno(err, errno, "create %s", v->path);
        close(fd);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_eq(v->host_type, types[i].type)) {
            if (exists && (st.st_mode & S_IFMT) == types[i].mode)
                return 0;
            return error_set(err, ERR_INVALID, "hostPath type check failed: %s is not %s", v->path, types[i].word);
        }
    return error_set(err, ERR_UNSUPPORTED, "hostPath type %s is unknown", v->host_type);
}

int volume_plan_apply(const struct volume_plan *p, struct error *err) {
    if (dir_make(p->pod_dir, 0750, err) < 0)
        return -1;
    for (size_t i = 0; i < p->count; i++) {
        const struct planned_volume *v = &p->volumes[i];
        int rc = v->kind == PLAN_HOST_PATH ? check_host_path(v, err)
                 : v->kind == PLAN_FILES   ? make_files(v, p->fs_group, err)
                                           : make_empty_dir(v, p->fs_group, err);
        if (rc < 0)
            return error_wrap(err, "volume \"%s\"", v->name);
    }
    return 0;
}

/* ---- sub paths ---- */

static int make_target(const char *target, bool dir, struct error *err) {
    _cleanup_(free_p) char *parent = xstrdup(target);
    *strrchr(parent, '/') = '\0';
    if (dir_make(parent, 0750, err) < 0)
        return -1;
    if (dir)
        return dir_make(target, 0750, err);
    int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return error_set_errno(err, errno, "create %s", target);
    close(fd);
    return 0;
}

/* mkdir -p beneath root; each step is resolved beneath it, so that no link can lead out. */
static int make_beneath(int root, const char *sub, struct error *err) {
    _cleanup_(free_p) char *path = xstrdup(sub);
    for (char *end = path;; end++) {
        end += strcspn(end, "/");
        bool last = *end == '\0';
        *end = '\0';
        char *slash = strrchr(path, '/');
        _cleanup_(free_p) char *parent = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
        _cleanup_(close_fd_p) int fd = open_beneath(root, parent, O_PATH | O_DIRECTORY, 0, err);
        if (fd < 0)
            return -1;
        if (mkdirat(fd, slash ? slash + 1 : path, 0750) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "make folder %s", path);
        if (last)
            return 0;
        *end = '/';
    }
}

int sub_path_bind(const char *volume_dir, const char *sub_path, const char *target, struct error *err) {
    if (!volume_path_valid(sub_path))
        return error_set(err, ERR_INVALID, "subPath \"%s\" is not allowed", sub_path);
    _cleanup_(close_fd_p) int root = open(volume_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_set_errno(err, errno, "open %s", volume_dir);
    struct error first = ERROR_INIT;
    _cleanup_(close_fd_p) int fd = open_beneath(root, sub_path, O_PATH, 0, &first);
    if (fd < 0 && first.code == ERR_NOT_FOUND) {
        if (make_beneath(root, sub_path, err) < 0)
            return error_wrap(err, "subPath %s", sub_path);
        fd = open_beneath(root, sub_path, O_PATH, 0, &first);
    }
    if (fd < 0)
        return error_set(err, first.code, "subPath %s: %s", sub_path, first.msg);
    struct stat st;
    if (fstat(fd, &st) < 0 || make_target(target, S_ISDIR(st.st_mode), err) < 0)
        return error_wrap(err, "subPath %s", sub_path);
    char source[32];
    snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return error_set_errno(err, errno, "bind subPath %s", sub_path);
    return 0;
}

/* ---- removal ---- */

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s) {
    char *out = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *out++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out++ = *s;
        }
    }
    *out = '\0';
}

static int mounts_beneath(const char *dir, struct strlist *out, struct error *err) {
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return error_set_errno(err, errno, "read /proc/self/mountinfo");
    char *line = NULL;
    size_t cap = 0, n = strlen(dir);
    while (getline(&line, &cap, f) > 0) {
        struct bytes fields[6];
        if (bytes_split(bytes_str(line), ' ', fields, ARRAY_LEN(fields)) < ARRAY_LEN(fields))
            continue;
        char *path = bytes_dup(fields[4]);
        unescape(path);
        if (strncmp(path, dir, n) == 0 && path[n] == '/')
            strlist_add_take(out, path);
        else
            free(path);
    }
    free(line);
    fclose(f);
    return 0;
}

int pod_dir_remove(const char *pod_dir, struct error *err) {
    struct stat st;
    if (lstat(pod_dir, &st) < 0 && errno == ENOENT)
        return 0;
    /* Mounts may be stacked: a second round finds what a first one uncovered. */
    for (int round = 0; round < 4; round++) {
        struct strlist mounts = {0};
        if (mounts_beneath(pod_dir, &mounts, err) < 0)
            return -1;
        size_t count = mounts.count;
        int last = 0;
        for (size_t i = count; i-- > 0;)
            if (umount2(mounts.items[i], UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
                last = errno;
        strlist_free(&mounts);
        if (count == 0)
            return dir_remove(pod_dir, err);
        if (last != 0)
            return error_set_errno(err, last, "unmount the volumes beneath %s", pod_dir);
    }
    return error_set(err, ERR_IO, "something keeps being mounted beneath %s", pod_dir);
}

void sub_paths_release(const char *root) {
    struct error err = ERROR_INIT;
    if (pod_dir_remove(root, &err) < 0)
        log_debug("sub paths of an earlier instance stay mounted: %s", err.msg);
}
