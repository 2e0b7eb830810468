#include "edge/metamanager/meta_local.h"

#include "base/mem.h"
#include "base/str.h"

#define TEXT_MAX (256u << 20)

static bool is_twin(const struct message *m) {
    return str_eq(m->resource, "devicetwin");
}

static bool is_topic(const struct message *m) {
    return str_eq(m->resource, "sub_topics");
}

static bool is_mapper(const struct message *m) {
    return str_eq(m->operation, OP_INSERT) && strstr(m->resource, "/devicemapper/");
}

bool meta_is_local(const struct message *m) {
    return is_twin(m) || is_topic(m) || is_mapper(m);
}

bool meta_local_writes(const struct message *m) {
    return !str_eq(m->operation, OP_QUERY);
}

/* ---- reading ---- */

/* The rows as objects named after the columns. */
static int add_rows(struct store *db, const char *sql, struct buf *out, struct error *err) {
    sqlite3_stmt *st = store_stmt(db, sql, err);
    const char *comma = "";
    int rc;
    if (!st)
        return -1;
    (void)buf_add_char(out, '[');
    while ((rc = store_step(db, st, err)) == 1) {
        (void)buf_addf(out, "%s{", comma);
        for (int i = 0; i < sqlite3_column_count(st); i++) {
            (void)buf_addf(out, "%s\"%s\":", i ? "," : "", sqlite3_column_name(st, i));
            if (sqlite3_column_type(st, i) == SQLITE_INTEGER)
                (void)buf_addf(out, "%lld", (long long)sqlite3_column_int64(st, i));
            else
                (void)json_append_string(out, store_column(st, i));
        }
        (void)buf_add_char(out, '}');
        comma = ",";
    }
    sqlite3_reset(st);
    (void)buf_add_char(out, ']');
    return rc < 0 ? -1 : buf_check(out, err, "stored rows");
}

static int read_twins(struct job *j, struct store *db, struct error *err) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(TEXT_MAX);
    (void)buf_add_str(&out, "{\"devices\":");
    if (add_rows(db, "SELECT id, name, description, state, last_online FROM device", &out, err) < 0)
        return -1;
    (void)buf_add_str(&out, ",\"twins\":");
    if (add_rows(db,
                 "SELECT deviceid, name, expected, actual, expected_meta, actual_meta, expected_version,"
                 " actual_version, optional, attr_type, metadata FROM device_twin ORDER BY id",
                 &out, err) < 0)
        return -1;
    (void)buf_add_char(&out, '}');
    if (buf_check(&out, err, "stored twins") < 0)
        return -1;
    j->text = buf_take(&out, &j->text_len);
    return 0;
}

static int read_topics(struct job *j, struct store *db, struct error *err) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(TEXT_MAX);
    sqlite3_stmt *st = store_stmt(db, "SELECT topic FROM sub_topics ORDER BY topic", err);
    int rc;
    if (!st)
        return -1;
    (void)buf_add_char(&out, '[');
    while ((rc = store_step(db, st, err)) == 1) {
        if (out.len > 1)
            (void)buf_add_char(&out, ',');
        (void)json_append_string(&out, store_column(st, 0));
    }
    sqlite3_reset(st);
    (void)buf_add_char(&out, ']');
    if (rc < 0 || buf_check(&out, err, "stored topics") < 0)
        return -1;
    j->text = buf_take(&out, &j->text_len);
    return 0;
}

/* ---- writing ---- */

static void bind_member(sqlite3_stmt *st, int index, yyjson_val *row, const char *name) {
    store_bind_text(st, index, bytes_str(str_or(json_str(row, name), "")));
}

static int run_with_id(struct store *db, const char *sql, const char *id, struct error *err) {
    sqlite3_stmt *st = store_stmt(db, sql, err);
    if (!st)
        return -1;
    store_bind_text(st, 1, bytes_str(id));
    return store_run(db, st, err);
}

static int put_device(struct store *db, yyjson_val *row, struct error *err) {
    static const char *const columns[] = {"id", "name", "description", "state", "last_online"};
    sqlite3_stmt *st = store_stmt(db,
                                  "INSERT OR REPLACE INTO device (id, name, description, state, last_online)"
                                  " VALUES (?1, ?2, ?3, ?4, ?5)",
                                  err);
    if (!st)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        bind_member(st, (int)i + 1, row, columns[i]);
    return store_run(db, st, err);
}

static int run_twin(struct store *db, const char *sql, yyjson_val *row, struct error *err) {
    static const char *const columns[] = {"deviceid",      "name",        "expected",         "actual",
                                          "expected_meta", "actual_meta", "expected_version", "actual_version",
                                          "attr_type",     "metadata"};
    sqlite3_stmt *st = store_stmt(db, sql, err);
    if (!st)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        bind_member(st, (int)i + 1, row, columns[i]);
    sqlite3_bind_int64(st, (int)ARRAY_LEN(columns) + 1, json_int_or(json_get(row, "optional"), 1));
    return store_run(db, st, err);
}

/* No unique index stands over (deviceid, name): the table may be the original's, with rows of its own making. */
static int put_twin(struct store *db, yyjson_val *row, struct error *err) {
    if (str_eq(json_str(row, "attr_type"), "deleted")) {
        sqlite3_stmt *st = store_stmt(db, "DELETE FROM device_twin WHERE deviceid = ?1 AND name = ?2", err);
        if (!st)
            return -1;
        bind_member(st, 1, row, "deviceid");
        bind_member(st, 2, row, "name");
        return store_run(db, st, err);
    }
    if (run_twin(db,
                 "UPDATE device_twin SET expected = ?3, actual = ?4, expected_meta = ?5, actual_meta = ?6,"
                 " expected_version = ?7, actual_version = ?8, attr_type = ?9, metadata = ?10, optional = ?11"
                 " WHERE deviceid = ?1 AND name = ?2",
                 row, err) < 0)
        return -1;
    if (sqlite3_changes(store_db(db)) > 0)
        return 0;
    return run_twin(db,
                    "INSERT INTO device_twin (deviceid, name, expected, actual, expected_meta, actual_meta,"
                    " expected_version, actual_version, attr_type, metadata, optional, description)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, '')",
                    row, err);
}

/* Its row in `meta` as well: where the deletion itself never came, the next start would find it there. */
static int remove_object(struct meta_store *s, const char *id, struct error *err) {
    struct resource r = {.type = BYTES_LIT("device")};
    _cleanup_(free_p) char *old = NULL;
    size_t len;
    if (!bytes_cut(bytes_str(id), '/', &r.ns, &r.name))
        return 0;
    _cleanup_(free_p) char *key = xasprintf("%.*s/device/%.*s", (int)r.ns.len, r.ns.ptr, (int)r.name.len, r.name.ptr);
    return meta_store_delete(s, bytes_str(key), &r, "", &old, &len, err);
}

static int remove_device(struct store *db, const char *id, struct error *err) {
    if (run_with_id(db, "DELETE FROM device WHERE id = ?1", id, err) < 0 ||
        run_with_id(db, "DELETE FROM device_attr WHERE deviceid = ?1", id, err) < 0)
        return -1;
    return run_with_id(db, "DELETE FROM device_twin WHERE deviceid = ?1", id, err);
}

static int write_twins(struct job *j, struct meta_store *s, struct error *err) {
    struct store *db = meta_store_db(s);
    yyjson_val *content = j->message->content, *v;
    size_t i, max;
    yyjson_arr_foreach (json_get(content, "removed"), i, max, v) {
        const char *id = str_or(yyjson_get_str(v), "");
        if (remove_device(db, id, err) < 0 || remove_object(s, id, err) < 0)
            return -1;
    }
    yyjson_arr_foreach (json_get(content, "devices"), i, max, v) {
        if (put_device(db, v, err) < 0)
            return -1;
    }
    yyjson_arr_foreach (json_get(content, "twins"), i, max, v) {
        if (put_twin(db, v, err) < 0)
            return -1;
    }
    return 0;
}

static int write_topic(struct job *j, struct store *db, struct error *err) {
    bool remove = str_eq(j->message->operation, OP_DELETE);
    const char *topic = yyjson_get_str(j->message->content);
    if (str_empty(topic))
        return 0;
    return run_with_id(db,
                       remove ? "DELETE FROM sub_topics WHERE topic = ?1"
                              : "INSERT OR REPLACE INTO sub_topics (topic) VALUES (?1)",
                       topic, err);
}

static int write_mapper(struct job *j, struct meta_store *s, struct error *err) {
    size_t len;
    _cleanup_(free_p) char *text = message_content_text(j->message, &len);
    return meta_store_put_raw(s, bytes_str(j->message->resource), BYTES_LIT("devicemapper"), bytes_of(text, len), err);
}

int meta_local_apply(struct job *j, struct meta_store *s, struct error *err) {
    struct store *db = meta_store_db(s);
    int rc;
    if (!meta_local_writes(j->message))
        return is_twin(j->message) ? read_twins(j, db, err) : read_topics(j, db, err);
    if (is_twin(j->message))
        rc = write_twins(j, s, err);
    else
        rc = is_topic(j->message) ? write_topic(j, db, err) : write_mapper(j, s, err);
    if (rc == 0) {
        j->text = xstrdup("\"OK\"");
        j->text_len = strlen(j->text);
    }
    return rc;
}
