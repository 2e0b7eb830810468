#include "base/file.h"

#include "base/id.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TREE_MAX_DEPTH 256

int file_read_at(int dirfd, const char *path, struct buf *out, struct error *err) {
    _cleanup_(close_fd_p) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        return error_set_errno(err, EISDIR, "read %s", path);
    for (;;) {
        /* one byte over the limit tells a file that just fits from one that does not */
        size_t room = out->max - out->len, want = room < 16384 ? room : 16384;
        char beyond, *at = want ? buf_reserve(out, want) : &beyond;
        if (!at)
            return buf_check(out, err, path);
        ssize_t n = read(fd, at, want ? want : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "read %s", path);
        if (n == 0)
            return 0;
        if (want == 0)
            return error_set(err, ERR_TOO_LARGE, "%s is larger than the limit of %zu bytes", path, out->max);
        buf_commit(out, (size_t)n);
    }
}

int file_read(const char *path, struct buf *out, struct error *err) {
    return file_read_at(AT_FDCWD, path, out, err);
}

static int write_all(int fd, struct bytes data) {
    while (data.len > 0) {
        ssize_t n = write(fd, data.ptr, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data.ptr += n;
        data.len -= (size_t)n;
    }
    return 0;
}

static int sync_folder(const char *path, struct error *err) {
    const char *slash = strrchr(path, '/');
    _cleanup_(free_p) char *dir = !slash          ? xstrdup(".")
                                  : slash == path ? xstrdup("/")
                                                  : xstrndup(path, (size_t)(slash - path));
    _cleanup_(close_fd_p) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(err, errno, "sync folder %s", dir);
    return 0;
}

static int write_temporary(const char *temporary, struct bytes data, mode_t mode, struct error *err) {
    _cleanup_(close_fd_p) int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return error_set_errno(err, errno, "create %s", temporary);
    if (fchmod(fd, mode) < 0 || write_all(fd, data) < 0 || fsync(fd) < 0)
        return error_set_errno(err, errno, "write %s", temporary);
    int closing = fd;
    fd = -1;
    if (close(closing) < 0)
        return error_set_errno(err, errno, "write %s", temporary);
    return 0;
}

int file_write_atomic(const char *path, struct bytes data, mode_t mode, struct error *err) {
    char suffix[9];
    random_name_suffix(suffix, sizeof(suffix) - 1);
    _cleanup_(free_p) char *temporary = xasprintf("%s.tmp-%s", path, suffix);
    if (write_temporary(temporary, data, mode, err) < 0) {
        unlink(temporary);
        return -1;
    }
    if (rename(temporary, path) < 0) {
        error_set_errno(err, errno, "rename %s to %s", temporary, path);
        unlink(temporary);
        return -1;
    }
    return sync_folder(path, err);
}

int dir_make(const char *path, mode_t mode, struct error *err) {
    _cleanup_(free_p) char *p = xstrdup(path);
    for (char *at = p + 1; p[0]; at++) {
        if (*at != '/' && *at != 0)
            continue;
        char saved = *at;
        *at = 0;
        struct stat st;
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "make folder %s", p);
        if (stat(p, &st) < 0)
            return error_set_errno(err, errno, "make folder %s", p);
        if (!S_ISDIR(st.st_mode))
            return error_set(err, ERR_EXISTS, "make folder %s: a file of that name exists", p);
        *at = saved;
        if (saved == 0)
            return 0;
    }
    return error_set(err, ERR_INVALID, "make folder: the path is empty");
}

static int remove_entry(int dirfd, const char *name, dev_t device, unsigned depth, struct error *err);

/* Empties the folder behind fd, which is consumed. */
static int remove_content(int fd, dev_t device, unsigned depth, struct error *err) {
    DIR *d = fdopendir(fd);
    if (!d) {
        int saved = errno;
        close(fd);
        return error_set_errno(err, saved, "read folder");
    }
    int rc = 0;
    struct dirent *e;
    while (rc == 0 && (errno = 0, e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        rc = remove_entry(fd, e->d_name, device, depth, err);
    }
    if (rc == 0 && errno != 0)
        rc = error_set_errno(err, errno, "read folder");
    closedir(d);
    return rc;
}

static int remove_entry(int dirfd, const char *name, dev_t device, unsigned depth, struct error *err) {
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return error_set_errno(err, errno, "remove %s", name);
    if (depth >= TREE_MAX_DEPTH)
        return error_set(err, ERR_TOO_LARGE, "remove %s: folders are nested deeper than %d", name, TREE_MAX_DEPTH);
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "remove %s", name);
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_dev != device) {
        close(fd);
        return error_set(err, ERR_DENIED, "remove %s: another filesystem is mounted there", name);
    }
    if (remove_content(fd, device, depth + 1, err) < 0)
        return error_wrap(err, "%s", name);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove folder %s", name);
    return 0;
}

int dir_remove(const char *path, struct error *err) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_set_errno(err, errno, "remove %s", path);
    return remove_entry(AT_FDCWD, path, st.st_dev, 0, err);
}

int64_t dir_usage(const char *path) {
    char *const roots[] = {(char *)(uintptr_t)path, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
    int64_t sum = 0;
    for (FTSENT *e; walk && (e = fts_read(walk));)
        if (e->fts_info != FTS_DP && e->fts_info != FTS_NS && e->fts_info != FTS_ERR && e->fts_info != FTS_DNR)
            sum += (int64_t)e->fts_statp->st_blocks * 512;
    if (walk)
        fts_close(walk);
    return sum;
}

int open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct error *err) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd;
    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    if (fd < 0 && errno == EXDEV)
        return error_set(err, ERR_DENIED, "open %s: it leads out of its folder", path);
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    return (int)fd;
}
