#include "edge/edged/atomic_writer.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DATA_LINK "..data"
#define DATA_TMP "..data_tmp"
#define VOLUME_FILE_MAX (8u << 20)
#define TREE_DEPTH_MAX 64

bool volume_path_valid(const char *path) {
    if (str_empty(path) || path[0] == '/' || strlen(path) > 1000 || str_starts_with(path, ".."))
        return false;
    for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && memcmp(part, "..", 2) == 0) || n > 255)
            return false;
    }
    return true;
}

/* Regular files beneath path, counted; a tree that is too deep counts as unequal to anything. */
static size_t count_files(const char *path, int depth) {
    DIR *d = depth < TREE_DEPTH_MAX ? opendir(path) : NULL;
    if (!d)
        return 0;
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        _cleanup_(free_p) char *sub = xasprintf("%s/%s", path, e->d_name);
        struct stat st;
        if (lstat(sub, &st) == 0)
            n += S_ISDIR(st.st_mode) ? count_files(sub, depth + 1) : 1;
    }
    closedir(d);
    return n;
}

static bool is_current(const char *dir, const struct volume_file *files, size_t n) {
    _cleanup_(free_p) char *root = xasprintf("%s/" DATA_LINK, dir);
    if (access(root, F_OK) != 0 || count_files(root, 0) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        _cleanup_(free_p) char *path = xasprintf("%s/%s", root, files[i].path);
        _cleanup_(buf_free) struct buf b = BUF_INIT(VOLUME_FILE_MAX);
        struct stat st;
        if (stat(path, &st) != 0 || (st.st_mode & 0777) != files[i].mode || file_read(path, &b, NULL) < 0 ||
            !bytes_eq(buf_bytes(&b), bytes_of(files[i].data, files[i].len)))
            return false;
    }
    return true;
}

static int set_group(const char *path, int64_t gid, mode_t mode, struct error *err) {
    if (gid >= 0 && lchown(path, (uid_t)-1, (gid_t)gid) < 0)
        return error_set_errno(err, errno, "change the group of %s", path);
    if (chmod(path, mode) < 0)
        return error_set_errno(err, errno, "chmod %s", path);
    return 0;
}

static int write_one(const char *root, const struct volume_file *f, int64_t gid, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", root, f->path);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "make folder %s", path);
        int rc = set_group(path, gid, gid >= 0 ? 02755 : 0755, err);
        *slash = '/';
        if (rc < 0)
            return -1;
    }
    _cleanup_(close_fd_p) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "create %s", path);
    for (size_t off = 0; off < f->len;) {
        ssize_t n = write(fd, f->data + off, f->len - off);
        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "write %s", path);
        off += n > 0 ? (size_t)n : 0;
    }
    return set_group(path, gid, f->mode, err);
}

static bool top_is_wanted(const char *name, const struct volume_file *files, size_t n) {
    size_t len = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (strncmp(files[i].path, name, len) == 0 && (files[i].path[len] == '/' || files[i].path[len] == '\0'))
            return true;
    return false;
}

/* After the swap: links at the top for what is new, none for what is gone, and old folders away. */
static int tidy_top(const char *dir, const char *current, const struct volume_file *files, size_t n,
                    struct error *err) {
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(files[i].path, "/");
        _cleanup_(free_p) char *link = xasprintf("%s/%.*s", dir, (int)len, files[i].path);
        _cleanup_(free_p) char *target = xasprintf(DATA_LINK "/%.*s", (int)len, files[i].path);
        if (symlink(target, link) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "link %s", link);
    }
    DIR *d = opendir(dir);
    if (!d)
        return error_set_errno(err, errno, "read folder %s", dir);
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        const char *name = e->d_name;
        if (str_eq(name, ".") || str_eq(name, "..") || str_eq(name, DATA_LINK) || str_eq(name, current))
            continue;
        _cleanup_(free_p) char *path = xasprintf("%s/%s", dir, name);
        if (str_starts_with(name, ".."))
            rc = dir_remove(path, err);
        else if (!top_is_wanted(name, files, n) && unlink(path) < 0 && errno != ENOENT)
            rc = error_set_errno(err, errno, "remove %s", path);
    }
    closedir(d);
    return rc;
}

static void new_folder_name(char out[64]) {
    time_t now = (time_t)clock_wall_s();
    struct tm tm;
    gmtime_r(&now, &tm);
    char stamp[32];
    strftime(stamp, sizeof(stamp), "%Y_%m_%d_%H_%M_%S", &tm);
    snprintf(out, 64, "..%s.%010llu", stamp, (unsigned long long)random_below(10000000000ULL));
}

int atomic_write(const char *dir, const struct volume_file *files, size_t n, int64_t gid, struct error *err) {
    if (is_current(dir, files, n))
        return 0;
    char name[64];
    new_folder_name(name);
    _cleanup_(free_p) char *root = xasprintf("%s/%s", dir, name);
    _cleanup_(free_p) char *tmp = xasprintf("%s/" DATA_TMP, dir);
    _cleanup_(free_p) char *data = xasprintf("%s/" DATA_LINK, dir);
    if (mkdir(root, 0755) < 0)
        return error_set_errno(err, errno, "make folder %s", root);
    int rc = set_group(root, gid, gid >= 0 ? 02755 : 0755, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = write_one(root, &files[i], gid, err);
    if (rc == 0) {
        (void)unlink(tmp);
        if (symlink(name, tmp) < 0 || rename(tmp, data) < 0)
            rc = error_set_errno(err, errno, "swap %s", data);
    }
    if (rc < 0) {
        (void)!dir_remove(root, NULL);
        return -1;
    }
    return tidy_top(dir, name, files, n, err);
}
