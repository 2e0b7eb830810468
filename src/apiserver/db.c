#define LOG_COMPONENT "apiserver"
#include "apiserver/db.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/metrics.h"
#include "store/store.h"

#include <pthread.h>

#define BATCH_MAX 256
#define COMPACT_SLICE 500

struct db {
    struct db_options o;
    struct store *store;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct db_write *head, **tail; /* under lock */
    uint64_t compact_to;           /* under lock */
    bool stop;                     /* under lock */
    uint64_t compacted;            /* writer thread, after start */
    uint64_t min_epoch;            /* writer thread: older writes fail untried */
    struct error last_failure;     /* writer thread: why they do */
    struct log_once trouble;
    struct metric *commits, *writes, *failures;
};

static const struct store_migration migrations[] = {
    {1, "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
        "CREATE TABLE resource (id INTEGER PRIMARY KEY, grp TEXT NOT NULL, plural TEXT NOT NULL, UNIQUE (grp, plural));"
        "CREATE TABLE obj (res INTEGER NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL, rev INTEGER NOT NULL,"
        " value BLOB NOT NULL, PRIMARY KEY (res, ns, name)) WITHOUT ROWID;"
        "CREATE TABLE log (rev INTEGER PRIMARY KEY, res INTEGER NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,"
        " old_rev INTEGER, old BLOB);"},
    /* By row number, so that a kilobyte or three of text lie in one page, among others; as part of the key's tree, each
     * text took a page of its own. */
    {2, "ALTER TABLE obj RENAME TO obj_1;"
        "CREATE TABLE obj (id INTEGER PRIMARY KEY, res INTEGER NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,"
        " rev INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (res, ns, name));"
        "INSERT INTO obj (res, ns, name, rev, value) SELECT res, ns, name, rev, value FROM obj_1;"
        "DROP TABLE obj_1;"},
};

/* A page that many writes change is copied from the WAL into the file once per checkpoint: so not too often. */
static const char checkpoint_pragmas[] = "PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=16777216";

/* ---- loading ---- */

static const char *column_text(sqlite3_stmt *st, int i) {
    const unsigned char *t = sqlite3_column_text(st, i);
    return t ? (const char *)t : "";
}

static int load_resources(struct db *db, struct error *err) {
    sqlite3_stmt *st = store_stmt(db->store, "SELECT id, grp, plural FROM resource ORDER BY id", err);
    int rc = st ? 1 : -1;
    while (rc > 0 && (rc = store_step(db->store, st, err)) > 0)
        db->o.loader->resource(db->o.loader->arg, sqlite3_column_int64(st, 0), column_text(st, 1), column_text(st, 2));
    return rc;
}

static int load_objects(struct db *db, struct error *err) {
    sqlite3_stmt *st = store_stmt(db->store, "SELECT res, ns, name, rev, value FROM obj", err);
    int rc = st ? 1 : -1;
    while (rc > 0 && (rc = store_step(db->store, st, err)) > 0)
        if (db->o.loader->object(db->o.loader->arg, sqlite3_column_int64(st, 0), column_text(st, 1), column_text(st, 2),
                                 (uint64_t)sqlite3_column_int64(st, 3), store_column(st, 4), err) < 0)
            return -1;
    return rc;
}

static int load_changes(struct db *db, struct error *err) {
    sqlite3_stmt *st = store_stmt(db->store, "SELECT res, ns, name, rev, old, old_rev FROM log ORDER BY rev DESC", err);
    int rc = st ? 1 : -1;
    while (rc > 0 && (rc = store_step(db->store, st, err)) > 0)
        if (db->o.loader->change(db->o.loader->arg, sqlite3_column_int64(st, 0), column_text(st, 1), column_text(st, 2),
                                 (uint64_t)sqlite3_column_int64(st, 3), store_column(st, 4),
                                 (uint64_t)sqlite3_column_int64(st, 5), err) < 0)
            return -1;
    return rc;
}

static int load_meta(struct db *db, struct error *err) {
    sqlite3_stmt *st = store_stmt(db->store, "SELECT value FROM meta WHERE key = 'compacted'", err);
    if (!st)
        return -1;
    int rc = store_step(db->store, st, err);
    if (rc > 0)
        db->compacted = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    return rc < 0 ? -1 : 0;
}

static int load(struct db *db, struct error *err) {
    if (load_meta(db, err) < 0 || load_resources(db, err) < 0 || load_objects(db, err) < 0 || load_changes(db, err) < 0)
        return error_wrap(err, "load %s", db->o.path);
    return 0;
}

/* ---- writing, on the writer thread ---- */

static int write_resource(struct db *db, const struct db_write *w, struct error *err) {
    sqlite3_stmt *st = store_stmt(db->store, "INSERT OR IGNORE INTO resource (id, grp, plural) VALUES (?, ?, ?)", err);
    if (!st)
        return -1;
    sqlite3_bind_int64(st, 1, w->resource);
    store_bind_text(st, 2, bytes_str(w->group));
    store_bind_text(st, 3, bytes_str(w->plural));
    return store_run(db->store, st, err);
}

static int write_log(struct db *db, const struct db_write *w, const struct record *key, struct error *err) {
    sqlite3_stmt *st =
        store_stmt(db->store, "INSERT INTO log (rev, res, ns, name, old_rev, old) VALUES (?, ?, ?, ?, ?, ?)", err);
    if (!st)
        return -1;
    sqlite3_bind_int64(st, 1, (int64_t)w->rev);
    sqlite3_bind_int64(st, 2, w->resource);
    store_bind_text(st, 3, bytes_str(key->ns));
    store_bind_text(st, 4, bytes_str(key->name));
    if (w->old) {
        sqlite3_bind_int64(st, 5, (int64_t)w->old->rev);
        store_bind_blob(st, 6, record_stored(w->old));
    }
    return store_run(db->store, st, err);
}

static int write_object(struct db *db, const struct db_write *w, const struct record *key, struct error *err) {
    const char *sql = w->new_ ? "INSERT INTO obj (res, ns, name, rev, value) VALUES (?1, ?2, ?3, ?4, ?5)"
                                " ON CONFLICT (res, ns, name) DO UPDATE SET rev = ?4, value = ?5"
                              : "DELETE FROM obj WHERE res = ? AND ns = ? AND name = ?";
    sqlite3_stmt *st = store_stmt(db->store, sql, err);
    if (!st)
        return -1;
    sqlite3_bind_int64(st, 1, w->resource);
    store_bind_text(st, 2, bytes_str(key->ns));
    store_bind_text(st, 3, bytes_str(key->name));
    if (w->new_) {
        sqlite3_bind_int64(st, 4, (int64_t)w->rev);
        store_bind_blob(st, 5, record_stored(w->new_));
    }
    return store_run(db->store, st, err);
}

static int write_one(struct db *db, const struct db_write *w, struct error *err) {
    if (w->barrier)
        return 0;
    const struct record *key = w->new_ ? w->new_ : w->old;
    if (w->new_resource && write_resource(db, w, err) < 0)
        return -1;
    if (write_object(db, w, key, err) < 0 || write_log(db, w, key, err) < 0)
        return error_wrap(err, "store %s %s/%s", w->plural, key->ns, key->name);
    return 0;
}

static bool nothing_to_write(const struct db_write *batch) {
    for (; batch; batch = batch->next)
        if (!batch->barrier)
            return false;
    return true;
}

static int commit_batch(struct db *db, struct db_write *batch, struct error *err) {
    if (nothing_to_write(batch))
        return 0;
    if (store_begin(db->store, err) < 0)
        return -1;
    for (struct db_write *w = batch; w; w = w->next) {
        if (write_one(db, w, err) < 0) {
            store_rollback(db->store);
            return -1;
        }
        metric_add(db->writes, !w->barrier);
    }
    if (store_commit(db->store, err) < 0) {
        store_rollback(db->store);
        return error_wrap(err, "commit");
    }
    metric_add(db->commits, 1);
    return 0;
}

struct outcome {
    struct db *db;
    struct db_write *batch;
    struct error failed;
};

static void tell(void *arg) {
    struct outcome *o = arg;
    o->db->o.committed(o->db->o.arg, o->batch, o->failed.code ? &o->failed : NULL);
    free(o);
}

static void post_outcome(struct db *db, struct db_write *batch, const struct error *failed) {
    struct outcome *o = NEW(struct outcome);
    o->db = db;
    o->batch = batch;
    if (failed)
        o->failed = *failed;
    loop_post_full(db->o.loop, tell, free, o); /* a dropped batch is the storage's to free, see storage_close */
}

/* Runs one batch whose writes are all of the same epoch class: either all doomed or none. */
static void run_batch(struct db *db, struct db_write *batch) {
    if (batch->epoch < db->min_epoch) {
        post_outcome(db, batch, &db->last_failure);
        return;
    }
    struct error err = ERROR_INIT;
    if (commit_batch(db, batch, &err) == 0) {
        log_once_recovered(&db->trouble, LOG_COMPONENT, "the database can be written again");
        post_outcome(db, batch, NULL);
        return;
    }
    metric_add(db->failures, 1);
    log_once_failed(&db->trouble, LOG_COMPONENT,
                    "the database cannot be written: writes are refused until it can; free space or check the disk: %s",
                    error_text(&err));
    db->min_epoch = batch->epoch + 1;
    db->last_failure = err;
    post_outcome(db, batch, &err);
}

/* Cuts at most BATCH_MAX writes that share the first one's fate off the front of the queue. Called with the lock held.
 */
static struct db_write *take_batch(struct db *db) {
    struct db_write *batch = db->head, *last = batch;
    if (!batch)
        return NULL;
    bool doomed = batch->epoch < db->min_epoch;
    for (unsigned n = 1; n < BATCH_MAX && last->next && (last->next->epoch < db->min_epoch) == doomed; n++)
        last = last->next;
    db->head = last->next;
    if (!db->head)
        db->tail = &db->head;
    last->next = NULL;
    return batch;
}

static int compact_slice(struct db *db, uint64_t to, struct error *err) {
    if (store_begin(db->store, err) < 0)
        return -1;
    sqlite3_stmt *st = store_stmt(db->store, "DELETE FROM log WHERE rev <= ?", err);
    if (st)
        sqlite3_bind_int64(st, 1, (int64_t)to);
    if (!st || store_run(db->store, st, err) < 0)
        goto fail;
    st = store_stmt(db->store, "INSERT OR REPLACE INTO meta (key, value) VALUES ('compacted', ?)", err);
    if (st)
        sqlite3_bind_int64(st, 1, (int64_t)to);
    if (!st || store_run(db->store, st, err) < 0 || store_commit(db->store, err) < 0)
        goto fail;
    db->compacted = to;
    return 0;
fail:
    store_rollback(db->store);
    return -1;
}

/* One slice towards `to`. On failure it is tried again with the next request to compact. */
static void compact(struct db *db, uint64_t to) {
    struct error err = ERROR_INIT;
    uint64_t next = db->compacted + COMPACT_SLICE < to ? db->compacted + COMPACT_SLICE : to;
    if (compact_slice(db, next, &err) == 0)
        return;
    log_warn("compacting the history failed, will be tried again: %s", error_text(&err));
    pthread_mutex_lock(&db->lock);
    db->compact_to = 0;
    pthread_mutex_unlock(&db->lock);
}

static void *writer(void *arg) {
    struct db *db = arg;
    pthread_setname_np(pthread_self(), "api-writer");
    pthread_mutex_lock(&db->lock);
    for (;;) {
        struct db_write *batch = take_batch(db);
        uint64_t to = db->compact_to;
        if (!batch && to <= db->compacted) {
            if (db->stop)
                break;
            pthread_cond_wait(&db->wake, &db->lock);
            continue;
        }
        bool stopping = db->stop;
        pthread_mutex_unlock(&db->lock);
        if (batch)
            run_batch(db, batch);
        if (to > db->compacted && !stopping)
            compact(db, to);
        pthread_mutex_lock(&db->lock);
        if (db->stop && !db->head)
            break;
    }
    pthread_mutex_unlock(&db->lock);
    return NULL;
}

int db_open_store(struct store **out, const char *path, struct error *err) {
    const struct store_options o = {.path = path,
                                    .migrations = migrations,
                                    .n_migrations = ARRAY_LEN(migrations),
                                    .name = "API server database",
                                    .cache_kib = 4096};
    return store_open(out, &o, err);
}

int db_open(struct db **out, const struct db_options *o, struct error *err) {
    struct db *db = NEW(struct db);
    db->o = *o;
    db->tail = &db->head;
    db->commits = metric_get(METRIC_COUNTER, "apiserver_storage_commits_total", "Transactions committed.", NULL);
    db->writes = metric_get(METRIC_COUNTER, "apiserver_storage_writes_total", "Object changes written.", NULL);
    db->failures = metric_get(METRIC_COUNTER, "apiserver_storage_failures_total", "Transactions that failed.", NULL);
    if (db_open_store(&db->store, o->path, err) < 0) {
        free(db);
        return -1;
    }
    if (store_exec(db->store, checkpoint_pragmas, err) < 0 || load(db, err) < 0) {
        store_close(db->store);
        free(db);
        return -1;
    }
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->wake, NULL);
    if (pthread_create(&db->thread, NULL, writer, db) != 0)
        panic("apiserver: cannot start the writer thread");
    *out = db;
    return 0;
}

uint64_t db_compacted(const struct db *db) {
    return db->compacted;
}

void db_submit(struct db *db, struct db_write *w) {
    w->next = NULL;
    pthread_mutex_lock(&db->lock);
    bool was_empty = !db->head;
    *db->tail = w;
    db->tail = &w->next;
    pthread_mutex_unlock(&db->lock);
    if (was_empty)
        pthread_cond_signal(&db->wake);
}

void db_compact(struct db *db, uint64_t rev) {
    pthread_mutex_lock(&db->lock);
    db->compact_to = rev;
    pthread_mutex_unlock(&db->lock);
    pthread_cond_signal(&db->wake);
}

void db_close(struct db *db) {
    if (!db)
        return;
    pthread_mutex_lock(&db->lock);
    db->stop = true;
    pthread_mutex_unlock(&db->lock);
    pthread_cond_signal(&db->wake);
    pthread_join(db->thread, NULL);
    store_close(db->store);
    pthread_mutex_destroy(&db->lock);
    pthread_cond_destroy(&db->wake);
    free(db);
}
