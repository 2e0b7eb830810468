#include "edge/edged/log_files.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define COPY_BYTES (64u << 10)
#define STAMP_LENGTH 15 /* "20260102-150405" */
#define ROTATED_MAX 4096

int64_t log_size(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
}

/* "20260102-150405", or that and ".gz". */
static bool is_rotated_suffix(const char *s) {
    for (size_t i = 0; i < STAMP_LENGTH; i++)
        if (i == 8 ? s[i] != '-' : s[i] < '0' || s[i] > '9')
            return false;
    return s[STAMP_LENGTH] == 0 || str_eq(s + STAMP_LENGTH, ".gz");
}

static int copy_compressed(int from, gzFile to, const char *path, struct error *err) {
    _cleanup_(free_p) char *chunk = xmalloc(COPY_BYTES);
    for (;;) {
        ssize_t n = read(from, chunk, COPY_BYTES);
        if (n < 0)
            return error_set_errno(err, errno, "read log %s", path);
        if (n == 0)
            return 0;
        if (gzwrite(to, chunk, (unsigned)n) != (int)n)
            return error_set_errno(err, errno ? errno : EIO, "compress log %s", path);
    }
}

/* dir/name becomes dir/name.gz. A crash leaves a .tmp, which the next rotation takes away. */
static int compress_log(int dir, const char *name, struct error *err) {
    _cleanup_(free_p) char *tmp = xasprintf("%s.tmp", name), *gz = xasprintf("%s.gz", name);
    _cleanup_(close_fd_p) int from = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0)
        return error_set_errno(err, errno, "open log %s", name);
    int to = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (to < 0)
        return error_set_errno(err, errno, "create %s", tmp);
    gzFile z = gzdopen(to, "wb");
    if (!z) {
        close(to);
        return error_set(err, ERR_INTERNAL, "compress log %s: no memory", name);
    }
    int rc = copy_compressed(from, z, name, err);
    if (gzclose(z) != Z_OK && rc == 0)
        rc = error_set(err, ERR_IO, "compress log %s: the file could not be completed", name);
    if (rc == 0 && renameat(dir, tmp, dir, gz) < 0)
        rc = error_set_errno(err, errno, "rename %s", tmp);
    if (rc == 0)
        (void)unlinkat(dir, name, 0);
    else
        (void)unlinkat(dir, tmp, 0);
    return rc;
}

/* Suffixes of the files that were moved away earlier, sorted, which is oldest first; what a crash left is removed. */
static int list_rotated(int dir, const char *base, struct strlist *out, struct error *err) {
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        if (again >= 0)
            close(again);
        return error_set_errno(err, errno, "read the folder of log %s", base);
    }
    size_t n = strlen(base);
    for (struct dirent *e; (e = readdir(d)) && out->count < ROTATED_MAX;) {
        if (strncmp(e->d_name, base, n) != 0 || e->d_name[n] != '.')
            continue;
        if (str_ends_with(e->d_name, ".tmp"))
            (void)unlinkat(dir, e->d_name, 0);
        else if (is_rotated_suffix(e->d_name + n + 1))
            strlist_add(out, e->d_name);
    }
    closedir(d);
    strlist_sort(out);
    return 0;
}

/* Of those moved away earlier `keep` stay, compressed. A name and the same name with .gz are one log: the compressed
 * one is whole, since it got its name last. */
static int tidy(int dir, const char *base, int64_t keep, struct error *err) {
    struct strlist old = {0};
    if (list_rotated(dir, base, &old, err) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; i < old.count && rc == 0; i++) {
        const char *name = old.items[i];
        const char *next = i + 1 < old.count ? old.items[i + 1] : "";
        bool done = str_ends_with(name, ".gz");
        if ((int64_t)(old.count - i) > keep || (!done && str_starts_with(next, name))) {
            if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
                rc = error_set_errno(err, errno, "remove log %s", name);
        } else if (!done) {
            rc = compress_log(dir, name, err);
        }
    }
    strlist_free(&old);
    return rc;
}

int log_rotate(const char *path, const char *stamp, int64_t max_files, char **moved, struct error *err) {
    *moved = NULL;
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return error_set(err, ERR_INVALID, "log path %s is not absolute", path);
    _cleanup_(free_p) char *folder = xstrndup(path, (size_t)(slash - path));
    _cleanup_(close_fd_p) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_set_errno(err, errno, "open %s", folder);
    /* Two of max_files are the one that is moved now and the one that follows it. */
    if (tidy(dir, slash + 1, max_files - 2, err) < 0)
        return -1;
    _cleanup_(free_p) char *to = xasprintf("%s.%s", path, stamp), *gz = xasprintf("%s.gz", to);
    if (access(gz, F_OK) == 0)
        return 0;
    if (renameat2(AT_FDCWD, path, AT_FDCWD, to, RENAME_NOREPLACE) < 0)
        return errno == EEXIST ? 0 : error_set_errno(err, errno, "rename log %s", path);
    *moved = TAKE(to);
    return 0;
}
