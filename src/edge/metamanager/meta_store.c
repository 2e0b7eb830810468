#define LOG_COMPONENT "metamanager"

#include "edge/metamanager/meta_store.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/metamanager/meta_types.h"
#include "kube/object.h"

#include <glob.h>

#define VALUE_MAX (32u << 20)

#define DELETED_KEPT 256 /* more than can be deleted while an answer is under way */

struct meta_store {
    struct store *db;
    char *path;
    uint64_t deleted[DELETED_KEPT]; /* hashes of the uids deleted last, in a ring: a uid never comes back */
    size_t n_deleted;
};

static const struct store_migration MIGRATIONS[] = {
    {1, "CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, type text, value text);"
        "CREATE TABLE IF NOT EXISTS meta_v2 (key text PRIMARY KEY, group_version_resource text, namespace text,"
        " name text, resource_version integer, value text);"
        "CREATE INDEX IF NOT EXISTS selvage_meta_type ON meta (type);"},
    {2, "CREATE TABLE IF NOT EXISTS device (id text PRIMARY KEY, name text, description text, state text,"
        " last_online text);"
        "CREATE TABLE IF NOT EXISTS device_attr (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, name text,"
        " description text, value text, optional numeric, attr_type text, metadata text);"
        "CREATE TABLE IF NOT EXISTS device_twin (id integer PRIMARY KEY AUTOINCREMENT, deviceid text, name text,"
        " description text, expected text, actual text, expected_meta text, actual_meta text, expected_version text,"
        " actual_version text, optional numeric, attr_type text, metadata text);"
        "CREATE TABLE IF NOT EXISTS sub_topics (topic text PRIMARY KEY);"
        "CREATE INDEX IF NOT EXISTS selvage_device_attr ON device_attr (deviceid);"
        "CREATE INDEX IF NOT EXISTS selvage_device_twin ON device_twin (deviceid, name);"},
};

static int open_file(struct meta_store *s, struct error *err) {
    struct store_options o = {
        .path = s->path, .migrations = MIGRATIONS, .n_migrations = ARRAY_LEN(MIGRATIONS), .name = "edge database"};
    return store_open(&s->db, &o, err);
}

#define SALVAGE_MAX "1000000" /* rows; a damaged tree may lead in circles */

/* One pass over a table of the attached damaged file, until the first row that cannot be read. */
static int salvage_pass(sqlite3 *db, const char *rows_sql, const char *copy_sql) {
    sqlite3_stmt *rows = NULL, *copy = NULL;
    int copied = 0;
    if (sqlite3_prepare_v2(db, rows_sql, -1, &rows, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, copy_sql, -1, &copy, NULL) == SQLITE_OK) {
        while (sqlite3_step(rows) == SQLITE_ROW) {
            sqlite3_bind_int64(copy, 1, sqlite3_column_int64(rows, 0));
            if (sqlite3_step(copy) == SQLITE_DONE)
                copied += sqlite3_changes(db);
            sqlite3_reset(copy);
        }
    }
    sqlite3_finalize(rows);
    sqlite3_finalize(copy);
    return copied;
}

/* From the front and from the back, so that a bad page in the middle costs only what is around it. */
static int salvage_tables(sqlite3 *db) {
    static const char META[] = "INSERT OR IGNORE INTO main.meta (key, type, value) "
                               "SELECT key, type, value FROM damaged.meta WHERE rowid = ?1";
    static const char META_V2[] = "INSERT OR IGNORE INTO main.meta_v2 (key, group_version_resource, namespace, name, "
                                  "resource_version, value) SELECT key, group_version_resource, namespace, name, "
                                  "resource_version, value FROM damaged.meta_v2 WHERE rowid = ?1";
    return salvage_pass(db, "SELECT rowid FROM damaged.meta ORDER BY rowid ASC LIMIT " SALVAGE_MAX, META) +
           salvage_pass(db, "SELECT rowid FROM damaged.meta ORDER BY rowid DESC LIMIT " SALVAGE_MAX, META) +
           salvage_pass(db, "SELECT rowid FROM damaged.meta_v2 ORDER BY rowid ASC LIMIT " SALVAGE_MAX, META_V2) +
           salvage_pass(db, "SELECT rowid FROM damaged.meta_v2 ORDER BY rowid DESC LIMIT " SALVAGE_MAX, META_V2);
}

/* Row by row, since a damaged page that is met undoes the transaction; written through to the disk once, at the end. */
static int salvage_file(struct meta_store *s, const char *damaged) {
    sqlite3 *db = store_db(s->db);
    sqlite3_stmt *attach = NULL;
    int copied = 0;
    (void)sqlite3_exec(db, "PRAGMA main.synchronous = OFF", NULL, NULL, NULL);
    if (sqlite3_prepare_v2(db, "ATTACH DATABASE ?1 AS damaged", -1, &attach, NULL) == SQLITE_OK) {
        sqlite3_bind_text(attach, 1, damaged, -1, SQLITE_STATIC);
        if (sqlite3_step(attach) == SQLITE_DONE)
            copied = salvage_tables(db);
    }
    sqlite3_finalize(attach);
    (void)sqlite3_exec(db, "DETACH DATABASE damaged; PRAGMA main.synchronous = FULL", NULL, NULL, NULL);
    (void)!store_checkpoint(s->db, NULL);
    return copied;
}

/* The newest file that store_set_aside has left. Owned; NULL if none. */
static char *newest_damaged(const char *path) {
    _cleanup_(free_p) char *pattern = xasprintf("%s.damaged-*", path);
    glob_t found = {0};
    char *newest = NULL;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = found.gl_pathc; i > 0 && !newest; i--)
            if (!str_ends_with(found.gl_pathv[i - 1], "-wal") && !str_ends_with(found.gl_pathv[i - 1], "-shm"))
                newest = xstrdup(found.gl_pathv[i - 1]);
    globfree(&found);
    return newest;
}

bool meta_store_is_damaged(const struct meta_store *s) {
    return store_is_damaged(s->db);
}

/* Kept where SQLite has room for it: the tables are the original's. */
bool meta_store_has_gaps(const struct meta_store *s) {
    sqlite3_stmt *st = NULL;
    bool gaps = sqlite3_prepare_v2(store_db(s->db), "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
                sqlite3_step(st) == SQLITE_ROW && sqlite3_column_int(st, 0) == 1;
    sqlite3_finalize(st);
    return gaps;
}

int meta_store_set_gaps(struct meta_store *s, bool gaps, struct error *err) {
    return store_exec(s->db, gaps ? "PRAGMA user_version = 1" : "PRAGMA user_version = 0", err);
}

int meta_store_rebuild(struct meta_store *s, struct error *err) {
    if (s->db)
        store_close(TAKE(s->db));
    if (store_set_aside(s->path, err) < 0 || open_file(s, err) < 0 || meta_store_set_gaps(s, true, err) < 0)
        return -1;
    _cleanup_(free_p) char *damaged = newest_damaged(s->path);
    int rows = damaged ? salvage_file(s, damaged) : 0;
    log_error("the edge database was damaged: set aside, and a new one made; delete the old one when it is no longer "
              "of interest file=%s kept=%s rows_saved=%d",
              s->path, str_or(damaged, ""), rows);
    return 0;
}

int meta_store_open(struct meta_store **out, const char *path, struct error *err) {
    struct meta_store *s = NEW(struct meta_store);
    struct error why = ERROR_INIT;
    s->path = xstrdup(path);
    if (open_file(s, &why) == 0) {
        *out = s;
        return 0;
    }
    if (why.code == ERR_INVALID && meta_store_rebuild(s, &why) == 0) {
        *out = s;
        return 0;
    }
    meta_store_close(s);
    return error_set(err, why.code, "%s", why.msg);
}

void meta_store_close(struct meta_store *s) {
    if (!s)
        return;
    if (s->db)
        store_close(s->db);
    free(s->path);
    free(s);
}

struct store *meta_store_db(struct meta_store *s) {
    return s->db;
}

int meta_store_begin(struct meta_store *s, struct error *err) {
    return store_begin(s->db, err);
}

int meta_store_commit(struct meta_store *s, struct error *err) {
    return store_commit(s->db, err);
}

void meta_store_rollback(struct meta_store *s) {
    store_rollback(s->db);
}

static int run_with_key(struct meta_store *s, const char *sql, struct bytes key, struct error *err) {
    sqlite3_stmt *st = store_stmt(s->db, sql, err);
    if (!st)
        return -1;
    store_bind_text(st, 1, key);
    return store_run(s->db, st, err);
}

int meta_store_get(struct meta_store *s, struct bytes key, char **value, size_t *len, struct error *err) {
    *value = NULL;
    sqlite3_stmt *st = store_stmt(s->db, "SELECT value FROM meta WHERE key = ?1", err);
    if (!st)
        return -1;
    store_bind_text(st, 1, key);
    int rc = store_step(s->db, st, err);
    if (rc == 1) {
        struct bytes v = store_column(st, 0);
        *value = xmemdup(v.ptr ? v.ptr : "", v.len);
        *len = v.len;
    }
    sqlite3_reset(st);
    return rc < 0 ? -1 : 0;
}

int meta_store_put_raw(struct meta_store *s, struct bytes key, struct bytes type, struct bytes value,
                       struct error *err) {
    sqlite3_stmt *st = store_stmt(s->db, "INSERT OR REPLACE INTO meta (key, type, value) VALUES (?1, ?2, ?3)", err);
    if (!st)
        return -1;
    store_bind_text(st, 1, key);
    store_bind_text(st, 2, type);
    store_bind_text(st, 3, value);
    return store_run(s->db, st, err);
}

int meta_store_delete_raw(struct meta_store *s, struct bytes key, struct error *err) {
    return run_with_key(s, "DELETE FROM meta WHERE key = ?1", key, err);
}

static int put_v2(struct meta_store *s, const struct resource *r, yyjson_val *object, struct bytes text,
                  struct error *err) {
    struct meta_coordinates c = {0};
    if (meta_coordinates(r, object, &c, NULL) < 0)
        return 0; /* no kind: nothing to file it under */
    sqlite3_stmt *st = store_stmt(s->db,
                                  "INSERT OR REPLACE INTO meta_v2 (key, group_version_resource, namespace, name,"
                                  " resource_version, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                                  err);
    int rc = -1;
    if (st) {
        store_bind_text(st, 1, bytes_str(c.key));
        store_bind_text(st, 2, bytes_str(c.group_version_resource));
        store_bind_text(st, 3, r->ns.len ? r->ns : BYTES_LIT(""));
        store_bind_text(st, 4, r->name);
        sqlite3_bind_int64(st, 5, (sqlite3_int64)rv_number(object_rv(object)));
        store_bind_text(st, 6, text);
        rc = store_run(s->db, st, err);
    }
    meta_coordinates_free(&c);
    return rc;
}

static void note_deleted(struct meta_store *s, const char *uid) {
    if (*uid)
        s->deleted[s->n_deleted++ % DELETED_KEPT] = str_hash(uid, strlen(uid));
}

static bool was_deleted(const struct meta_store *s, const char *uid) {
    uint64_t hash = str_hash(uid, strlen(uid));
    for (size_t i = 0; i < DELETED_KEPT && i < s->n_deleted; i++)
        if (s->deleted[i] == hash)
            return true;
    return false;
}

/* How `object` stands to what is stored under its key. A different uid is a new object of the same name, unless it was
 * made earlier than the stored one: then it is a late copy of the one before. */
static enum meta_put_result compare(yyjson_val *old, yyjson_val *object) {
    uint64_t old_rv = rv_number(object_rv(old)), rv = rv_number(object_rv(object));
    if (strcmp(object_uid(old), object_uid(object)) != 0) {
        const char *old_made = str_or(json_str(old, "metadata", "creationTimestamp"), ""),
                   *made = str_or(json_str(object, "metadata", "creationTimestamp"), "");
        return *made && *old_made && strcmp(made, old_made) < 0 ? META_STALE : META_STORED;
    }
    if (rv == 0 || old_rv == 0)
        return META_STORED;
    return rv < old_rv ? META_STALE : rv == old_rv ? META_CURRENT : META_STORED;
}

/* Does anything differ that whoever runs the object must know? */
static bool differs(yyjson_val *old, yyjson_val *object) {
    static const char *const members[] = {"deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations"};
    if (strcmp(object_uid(old), object_uid(object)) != 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        yyjson_val *a = json_get(old, "metadata", members[i]), *b = json_get(object, "metadata", members[i]);
        if ((a || b) && (!a || !b || !json_equal(a, b)))
            return true;
    }
    yyjson_val *a = json_get(old, "spec"), *b = json_get(object, "spec");
    return (a || b) && (!a || !b || !json_equal(a, b));
}

int meta_store_put(struct meta_store *s, struct bytes key, const struct resource *r, yyjson_val *object,
                   enum meta_put how, enum meta_put_result *result, bool *told, struct error *err) {
    _cleanup_(free_p) char *old_text = NULL, *text = NULL;
    size_t old_len = 0, len = 0;
    if (meta_store_get(s, key, &old_text, &old_len, err) < 0)
        return -1;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *old_doc =
        old_text ? json_parse(bytes_of(old_text, old_len), VALUE_MAX, NULL) : NULL;
    yyjson_val *old = yyjson_doc_get_root(old_doc);
    bool known = yyjson_is_obj(old);
    *result = known ? compare(old, object) : META_STORED;
    if (how == META_PUT_IF_STORED && (!known || strcmp(object_uid(old), object_uid(object)) != 0))
        *result = META_STALE;
    if (how == META_PUT_FETCHED && was_deleted(s, object_uid(object)))
        *result = META_STALE;
    if (told)
        *told = *result == META_STORED && (!known || differs(old, object));
    if (*result != META_STORED)
        return 0;
    text = meta_object_text(r->type, object, &len);
    if (meta_store_put_raw(s, key, r->type, bytes_of(text, len), err) < 0)
        return -1;
    return put_v2(s, r, object, bytes_of(text, len), err);
}

/* The patch text that was kept beside the object goes with it. */
static int delete_patch_row(struct meta_store *s, const struct resource *r, struct error *err) {
    _cleanup_(buf_free) struct buf key = BUF_INIT(4096);
    (void)buf_add_bytes(&key, r->ns.len ? r->ns : BYTES_LIT("null"));
    (void)buf_add_char(&key, '/');
    (void)buf_add_bytes(&key, r->type);
    (void)buf_add_str(&key, "patch/");
    (void)buf_add_bytes(&key, r->name);
    if (key.overflowed)
        return 0; /* longer than any row that was written */
    return meta_store_delete_raw(s, buf_bytes(&key), err);
}

int meta_store_delete(struct meta_store *s, struct bytes key, const struct resource *r, const char *uid, char **old,
                      size_t *old_len, struct error *err) {
    _cleanup_(free_p) char *text = NULL;
    size_t len = 0;
    *old = NULL;
    note_deleted(s, uid);
    if (meta_store_get(s, key, &text, &len, err) < 0)
        return -1;
    if (!text)
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_of(text, len), VALUE_MAX, NULL);
    yyjson_val *stored = yyjson_doc_get_root(doc);
    if (yyjson_is_obj(stored) && *uid && *object_uid(stored) && strcmp(object_uid(stored), uid) != 0)
        return 0;
    note_deleted(s, object_uid(stored));
    if (meta_store_delete_raw(s, key, err) < 0 || delete_patch_row(s, r, err) < 0)
        return -1;
    struct meta_coordinates c = {0};
    int rc = 0;
    if (meta_coordinates(r, stored, &c, NULL) == 0)
        rc = run_with_key(s, "DELETE FROM meta_v2 WHERE key = ?1", bytes_str(c.key), err);
    meta_coordinates_free(&c);
    if (rc == 0) {
        *old = TAKE(text);
        *old_len = len;
    }
    return rc;
}

int meta_store_list(struct meta_store *s, struct bytes type, struct buf *out, struct error *err) {
    sqlite3_stmt *st = store_stmt(s->db, "SELECT key, value FROM meta WHERE type = ?1 ORDER BY key", err);
    if (!st)
        return -1;
    store_bind_text(st, 1, type);
    (void)buf_add_char(out, '[');
    bool first = true;
    int rc;
    while ((rc = store_step(s->db, st, err)) == 1) {
        struct bytes key = store_column(st, 0), value = store_column(st, 1);
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(value, VALUE_MAX, NULL);
        if (!doc) {
            log_warn("a stored row is no JSON and is left out key=%.*s", (int)key.len, key.ptr);
            continue;
        }
        if (!first)
            (void)buf_add_char(out, ',');
        (void)buf_add_bytes(out, value);
        first = false;
    }
    sqlite3_reset(st);
    if (rc < 0)
        return -1;
    (void)buf_add_char(out, ']');
    return buf_check(out, err, "list of stored objects");
}

int meta_store_delete_tokens(struct meta_store *s, struct bytes pod_uid, struct error *err) {
    _cleanup_(buf_free) struct buf mark = BUF_INIT(4096);
    (void)buf_add_str(&mark, ", UID:");
    (void)json_append_string(&mark, pod_uid);
    (void)buf_add_char(&mark, '}');
    if (buf_check(&mark, err, "pod uid") < 0)
        return -1;
    return run_with_key(s, "DELETE FROM meta WHERE type = 'serviceaccounttoken' AND instr(key, ?1) > 0",
                        buf_bytes(&mark), err);
}
