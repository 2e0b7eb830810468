#define LOG_COMPONENT "apiserver"
#include "apiserver/backup.h"

#include "apiserver/db.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_MAX (256u << 10)
/* Revisions that may have been handed out after the backup was taken: at 5,000 writes a second, 23 days' worth. */
#define REVISION_JUMP UINT64_C(10000000000)

DEFINE_CLEANUP(struct store, store_close)

int data_dir_lock(const char *dir, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int why = errno;
    close(fd);
    if (why == EWOULDBLOCK)
        return error_set(err, ERR_EXISTS, "another cloudcore runs on the data folder %s", dir);
    return error_set_errno(err, why, "lock %s", path);
}

static int sync_path(const char *path, struct error *err) {
    _cleanup_(close_fd_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? error_set_errno(err, errno, "sync %s", path) : 0;
}

static int sync_folder_of(const char *file, struct error *err) {
    _cleanup_(free_p) char *dir = xstrdup(file);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    return sync_path(slash ? dir : ".", err);
}

/* ---- the files of pki/ ---- */

static int keep_key(struct store *s, const char *folder, const char *name, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", folder, name);
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(KEY_FILE_MAX);
    sqlite3_stmt *st = store_stmt(s, "INSERT INTO backup_file (name, content) VALUES (?, ?)", err);
    if (!st || file_read(path, &text, err) < 0)
        return -1;
    store_bind_text(st, 1, bytes_str(name));
    store_bind_blob(st, 2, buf_bytes(&text));
    return store_run(s, st, err);
}

static int keep_keys(struct store *s, const char *dir, struct error *err) {
    _cleanup_(free_p) char *folder = xasprintf("%s/pki", dir);
    DIR *d = opendir(folder);
    if (!d)
        return error_set_errno(err, errno, "open %s", folder);
    int rc = store_exec(s, "CREATE TABLE backup_file (name TEXT PRIMARY KEY, content BLOB NOT NULL)", err);
    for (struct dirent *e; rc == 0 && (e = readdir(d));)
        if (e->d_type == DT_REG)
            rc = keep_key(s, folder, e->d_name, err);
    closedir(d);
    return rc;
}

static int put_keys_back(struct store *s, const char *folder, struct error *err) {
    if (dir_make(folder, 0700, err) < 0)
        return -1;
    sqlite3_stmt *st = store_stmt(s, "SELECT name, content FROM backup_file", err);
    int rc = st ? 1 : -1;
    while (rc > 0 && (rc = store_step(s, st, err)) > 0) {
        _cleanup_(free_p) char *name = bytes_dup(store_column(st, 0));
        if (*name == '.' || strchr(name, '/'))
            return error_set(err, ERR_INVALID, "the backup names a file %s", name);
        _cleanup_(free_p) char *path = xasprintf("%s/%s", folder, name);
        if (file_write_atomic(path, store_column(st, 1), 0600, err) < 0)
            return -1;
    }
    return rc < 0 ? -1 : store_exec(s, "DROP TABLE backup_file", err);
}

/* ---- revisions ---- */

static int last_revision(struct store *s, uint64_t *rev, struct error *err) {
    sqlite3_stmt *st = store_stmt(s,
                                  "SELECT max(ifnull((SELECT max(rev) FROM obj), 0), ifnull((SELECT max(rev) FROM log),"
                                  " 0), ifnull((SELECT value FROM meta WHERE key = 'compacted'), 0))",
                                  err);
    int rc = st ? store_step(s, st, err) : -1;
    if (rc < 0)
        return -1;
    *rev = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    return 0;
}

/* The history ends here, and goes on at rev. */
static int begin_anew(struct store *s, uint64_t rev, struct error *err) {
    sqlite3_stmt *st = NULL;
    if (store_exec(s, "DELETE FROM log", err) < 0 ||
        !(st = store_stmt(s, "INSERT OR REPLACE INTO meta (key, value) VALUES ('compacted', ?)", err)))
        return -1;
    sqlite3_bind_int64(st, 1, (int64_t)rev);
    return store_run(s, st, err);
}

/* ---- backup ---- */

static int copy_database(const char *dir, const char *to, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/api.db", dir);
    if (access(path, R_OK | W_OK) < 0)
        return error_set_errno(err, errno, "no database of an API server: %s", path);
    _cleanup_(store_close_p) struct store *s = NULL;
    if (db_open_store(&s, path, err) < 0)
        return -1;
    sqlite3_stmt *st = store_stmt(s, "VACUUM INTO ?", err);
    if (!st)
        return -1;
    store_bind_text(st, 1, bytes_str(to));
    return store_run(s, st, err);
}

static int finish_copy(const char *dir, const char *copy, uint64_t *revision, struct error *err) {
    _cleanup_(store_close_p) struct store *s = NULL;
    if (db_open_store(&s, copy, err) < 0 || keep_keys(s, dir, err) < 0 || last_revision(s, revision, err) < 0)
        return -1;
    return store_exec(s, "PRAGMA journal_mode=DELETE", err); /* one file */
}

int apiserver_backup(const char *dir, const char *file, uint64_t *revision, struct error *err) {
    if (access(file, F_OK) == 0)
        return error_set(err, ERR_EXISTS, "%s is there already", file);
    _cleanup_(free_p) char *copy = xasprintf("%s.unfinished-%d", file, (int)getpid());
    mode_t before = umask(077);
    int rc = copy_database(dir, copy, err);
    umask(before);
    if (rc == 0 && (rc = finish_copy(dir, copy, revision, err)) == 0 && (rc = sync_path(copy, err)) == 0 &&
        rename(copy, file) < 0)
        rc = error_set_errno(err, errno, "make %s", file);
    if (rc < 0) {
        unlink(copy);
        return error_wrap(err, "back up %s", dir);
    }
    return sync_folder_of(file, err);
}

/* ---- restore ---- */

static int copy_file(const char *from, const char *to, struct error *err) {
    struct stat st;
    _cleanup_(close_fd_p) int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0 || fstat(in, &st) < 0)
        return error_set_errno(err, errno, "open %s", from);
    _cleanup_(close_fd_p) int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        return error_set_errno(err, errno, "make %s", to);
    for (off_t left = st.st_size; left > 0;) {
        ssize_t n = sendfile(out, in, NULL, left < 1 << 30 ? (size_t)left : 1 << 30);
        if (n <= 0)
            return error_set_errno(err, n < 0 ? errno : EIO, "copy %s to %s", from, to);
        left -= n;
    }
    return 0;
}

/* The copy becomes what the server is to find; its keys go to keys. */
static int prepare(const char *copy, const char *keys, uint64_t seen, uint64_t *revision, struct error *err) {
    _cleanup_(store_close_p) struct store *s = NULL;
    if (db_open_store(&s, copy, err) < 0 || last_revision(s, revision, err) < 0)
        return -1;
    if (seen > *revision)
        *revision = seen;
    *revision += REVISION_JUMP;
    if (put_keys_back(s, keys, err) < 0)
        return error_wrap(err, "not a backup that this program has made");
    return begin_anew(s, *revision, err);
}

static int set_aside(const char *path, const char *stamp, struct error *err) {
    _cleanup_(free_p) char *to = xasprintf("%s.before-restore-%s", path, stamp);
    if (rename(path, to) < 0 && errno != ENOENT)
        return error_set_errno(err, errno, "set aside %s", path);
    return 0;
}

/* The revision that clients of the present database may have seen; 0 if there is none to be read. */
static uint64_t present_revision(const char *path) {
    struct error err = ERROR_INIT;
    _cleanup_(store_close_p) struct store *s = NULL;
    uint64_t rev = 0;
    if (access(path, F_OK) == 0 && (db_open_store(&s, path, &err) < 0 || last_revision(s, &rev, &err) < 0))
        log_warn("the present database cannot be read, and is set aside: %s", error_text(&err));
    return rev;
}

static int exchange(const char *dir, const char *db, const char *copy, const char *keys, struct error *err) {
    char stamp[RFC3339_SIZE];
    rfc3339_now(stamp);
    static const char *const parts[] = {"", "-wal", "-shm"};
    _cleanup_(free_p) char *pki = xasprintf("%s/pki", dir);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        _cleanup_(free_p) char *part = xasprintf("%s%s", db, parts[i]);
        if (set_aside(part, stamp, err) < 0)
            return -1;
    }
    if (set_aside(pki, stamp, err) < 0)
        return -1;
    if (rename(keys, pki) < 0 || rename(copy, db) < 0)
        return error_set_errno(err, errno, "put the restored files in place in %s", dir);
    return sync_path(dir, err);
}

int apiserver_restore(const char *dir, const char *file, uint64_t *revision, struct error *err) {
    if (dir_make(dir, 0700, err) < 0)
        return -1;
    _cleanup_(close_fd_p) int lock = data_dir_lock(dir, err);
    if (lock < 0)
        return error_wrap(err, "restore");
    _cleanup_(free_p) char *db = xasprintf("%s/api.db", dir);
    _cleanup_(free_p) char *copy = xasprintf("%s/api.db.restoring", dir);
    _cleanup_(free_p) char *keys = xasprintf("%s/pki.restoring", dir);
    int rc = dir_remove(keys, err);
    if (rc == 0 && (rc = copy_file(file, copy, err)) == 0)
        rc = prepare(copy, keys, present_revision(db), revision, err);
    if (rc == 0)
        rc = exchange(dir, db, copy, keys, err);
    if (rc < 0) {
        unlink(copy);
        if (dir_remove(keys, NULL) < 0)
            log_warn("keys of the backup are left in %s", keys);
        return error_wrap(err, "restore %s into %s", file, dir);
    }
    return 0;
}
