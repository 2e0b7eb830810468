#include "store/store.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Statements are few and written in the code, so the cache is a list and never evicts. */
struct cached {
    char *sql;
    sqlite3_stmt *st;
    struct cached *next;
};
struct store {
    sqlite3 *db;
    char *name;
    struct cached *statements;
    bool damaged;
};

static int refused(struct store *s, int rc, const char *doing, struct error *err) {
    const char *why = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
    int system_errno = s->db ? sqlite3_system_errno(s->db) : 0;
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return error_set(err, ERR_IO, "%s: %s: disk full", s->name, doing);
    case SQLITE_IOERR:
        if (system_errno == ENOSPC || system_errno == EDQUOT)
            return error_set(err, ERR_IO, "%s: %s: disk full", s->name, doing);
        if (rc == SQLITE_IOERR_WRITE)
            return error_set(err, ERR_IO, "%s: %s: write refused (quota, file size limit, or the device)", s->name,
                             doing);
        return error_set(err, ERR_IO, "%s: %s: %s", s->name, doing, why);
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return error_set(err, ERR_IO, "%s: %s: %s", s->name, doing, why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, ERR_UNAVAILABLE, "%s: %s: another process uses it", s->name, doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        s->damaged = true;
        return error_set(err, ERR_INVALID, "%s: %s: the file is damaged (%s)", s->name, doing, why);
    case SQLITE_CONSTRAINT:
        return error_set(err, ERR_EXISTS, "%s: %s: %s", s->name, doing, why);
    case SQLITE_TOOBIG:
        return error_set(err, ERR_TOO_LARGE, "%s: %s: %s", s->name, doing, why);
    default:
        return error_set(err, ERR_INTERNAL, "%s: %s: %s", s->name, doing, why);
    }
}

int store_exec(struct store *s, const char *sql, struct error *err) {
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : refused(s, rc, "run statement", err);
}

int store_begin(struct store *s, struct error *err) {
    sqlite3_stmt *st = store_stmt(s, "BEGIN IMMEDIATE", err);
    return st ? store_run(s, st, err) : -1;
}

int store_commit(struct store *s, struct error *err) {
    sqlite3_stmt *st = store_stmt(s, "COMMIT", err);
    if (st && store_run(s, st, err) == 0)
        return 0;
    store_rollback(s); /* a transaction whose commit failed is over for the caller */
    return -1;
}

void store_rollback(struct store *s) {
    for (struct cached *c = s->statements; c; c = c->next)
        sqlite3_reset(c->st);
    if (!sqlite3_get_autocommit(s->db)) /* some errors have rolled back already */
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

sqlite3_stmt *store_stmt(struct store *s, const char *sql, struct error *err) {
    for (struct cached *c = s->statements; c; c = c->next) {
        if (c->sql != sql && strcmp(c->sql, sql) != 0)
            continue;
        sqlite3_reset(c->st);
        sqlite3_clear_bindings(c->st);
        return c->st;
    }
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK || !st) {
        refused(s, rc == SQLITE_OK ? SQLITE_MISUSE : rc, "prepare statement", err);
        return NULL;
    }
    struct cached *c = NEW(struct cached);
    *c = (struct cached){.sql = xstrdup(sql), .st = st, .next = s->statements};
    s->statements = c;
    return st;
}

void store_bind_text(sqlite3_stmt *st, int index, struct bytes text) {
    /* a NULL pointer would bind SQL's NULL */
    if (sqlite3_bind_text64(st, index, text.ptr ? text.ptr : "", text.len, SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK)
        panic("binding parameter %d of: %s", index, sqlite3_sql(st));
}

void store_bind_blob(sqlite3_stmt *st, int index, struct bytes blob) {
    if (sqlite3_bind_blob64(st, index, blob.ptr ? blob.ptr : "", blob.len, SQLITE_STATIC) != SQLITE_OK)
        panic("binding parameter %d of: %s", index, sqlite3_sql(st));
}

int store_step(struct store *s, sqlite3_stmt *st, struct error *err) {
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    refused(s, rc, "run statement", err);
    sqlite3_reset(st);
    return -1;
}

int store_run(struct store *s, sqlite3_stmt *st, struct error *err) {
    int rc;
    do
        rc = store_step(s, st, err);
    while (rc > 0);
    sqlite3_reset(st);
    return rc;
}

struct bytes store_column(sqlite3_stmt *st, int column) {
    const void *p = sqlite3_column_blob(st, column);
    return bytes_of(p, (size_t)sqlite3_column_bytes(st, column));
}

int store_checkpoint(struct store *s, struct error *err) {
    int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return rc == SQLITE_OK ? 0 : refused(s, rc, "checkpoint", err);
}

bool store_is_damaged(const struct store *s) {
    return s->damaged;
}

sqlite3 *store_db(struct store *s) {
    return s->db;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int run_pragmas(struct store *s, size_t cache_kib, struct error *err) {
    char sql[256];
    snprintf(sql, sizeof(sql),
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; "
             "PRAGMA cache_size=-%zu; PRAGMA journal_size_limit=4194304; PRAGMA temp_store=MEMORY",
             cache_kib ? cache_kib : 512);
    return store_exec(s, sql, err);
}

static int schema_version(struct store *s, int *version, struct error *err) {
    if (store_exec(s, "CREATE TABLE IF NOT EXISTS selvage_schema (version INTEGER NOT NULL)", err) < 0)
        return -1;
    sqlite3_stmt *st = store_stmt(s, "SELECT max(version) FROM selvage_schema", err);
    if (!st || store_step(s, st, err) < 0)
        return -1;
    *version = sqlite3_column_int(st, 0); /* 0 where the table is empty */
    sqlite3_reset(st);
    return 0;
}

static int apply(struct store *s, const struct store_migration *m, struct error *err) {
    sqlite3_stmt *st = NULL;
    if (store_exec(s, m->sql, err) < 0 || !(st = store_stmt(s, "INSERT INTO selvage_schema(version) VALUES (?)", err)))
        return -1;
    sqlite3_bind_int(st, 1, m->version);
    return store_run(s, st, err);
}

/* All missing steps in one transaction: a crash leaves the old schema or the new one. */
static int migrate(struct store *s, const struct store_options *o, struct error *err) {
    int have = 0, newest = o->n_migrations ? o->migrations[o->n_migrations - 1].version : 0;
    if (store_begin(s, err) < 0)
        return -1;
    if (schema_version(s, &have, err) < 0)
        goto failed;
    if (have > newest) {
        error_set(err, ERR_UNSUPPORTED,
                  "%s: %s has schema version %d, this program knows up to %d: run the newer program again, or move the "
                  "file away",
                  s->name, o->path, have, newest);
        goto failed;
    }
    for (size_t i = 0; i < o->n_migrations; i++) {
        if (o->migrations[i].version <= have)
            continue;
        if (apply(s, &o->migrations[i], err) < 0) {
            error_wrap(err, "bring the schema to version %d", o->migrations[i].version);
            goto failed;
        }
    }
    return store_commit(s, err);
failed:
    store_rollback(s);
    return -1;
}

/* SQLite would create the file with the umask's mode; the WAL takes its mode from the file. */
static int create_private(const char *path, struct error *err) {
    _cleanup_(close_fd_p) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? error_set_errno(err, errno, "open %s", path) : 0;
}

/* Reads through the tables' pages before anything is built on them. Quick enough for the small files that we keep. */
static int check_pages(struct store *s, struct error *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    int result = 0;
    if (rc != SQLITE_ROW)
        result = refused(s, rc, "check the file", err);
    else if (!bytes_eq_str(store_column(st, 0), "ok"))
        result = error_set(err, ERR_INVALID, "%s: the file is damaged (%s)", s->name,
                           (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    return result;
}

int store_open(struct store **out, const struct store_options *o, struct error *err) {
    if (create_private(o->path, err) < 0)
        return error_wrap(err, "%s", o->name);
    struct store *s = NEW(struct store);
    s->name = xstrdup(o->name);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(o->path, &s->db, flags, NULL);
    if (rc != SQLITE_OK) {
        refused(s, rc, "open", err);
        goto failed;
    }
    sqlite3_busy_timeout(s->db, 2000);
    if (run_pragmas(s, o->cache_kib, err) < 0 || check_pages(s, err) < 0 || migrate(s, o, err) < 0)
        goto failed;
    *out = s;
    return 0;
failed:
    store_close(s);
    return error_wrap(err, "open %s", o->path);
}

void store_close(struct store *s) {
    if (!s)
        return;
    for (struct cached *c = s->statements, *next; c; c = next) {
        next = c->next;
        sqlite3_finalize(c->st);
        free(c->sql);
        free(c);
    }
    sqlite3_close(s->db);
    free(s->name);
    free(s);
}

int store_set_aside(const char *path, struct error *err) {
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char stamp[RFC3339_SIZE];
    rfc3339_now(stamp);
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        _cleanup_(free_p) char *from = xasprintf("%s%s", path, suffixes[i]);
        _cleanup_(free_p) char *to = xasprintf("%s.damaged-%s%s", path, stamp, suffixes[i]);
        if (rename(from, to) < 0 && errno != ENOENT)
            return error_set_errno(err, errno, "set aside %s", from);
    }
    return 0;
}
