/* The storage below the API server: order, revisions, history, restarts, failures. */
#include "apiserver/storage.h"

#include "base/file.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
    char dir[64], path[96];
    struct loop *loop;
    struct storage *s;
    struct resource *things;
    unsigned done, failed;
    char seen[4096]; /* the changes told, as "+a:1 ~a:2 -a:3 " */
};

static void note(void *arg, const struct change *c) {
    struct fixture *f = arg;
    size_t len = strlen(f->seen);
    snprintf(f->seen + len, sizeof(f->seen) - len, "%c%s:%" PRIu64 " ",
             !c->old   ? '+'
             : c->new_ ? '~'
                       : '-',
             c->new_ ? c->new_->name : c->old->name, c->rev);
}

static bool note_history(void *arg, const struct change *c) {
    note(arg, c);
    return true;
}

static void open_storage(struct fixture *f, size_t max_changes) {
    struct error err = ERROR_INIT;
    f->loop = loop_new();
    const struct storage_options o = {.loop = f->loop,
                                      .path = f->path,
                                      .min_changes = max_changes,
                                      .max_changes = max_changes,
                                      .max_age_ms = 3600000};
    assert_int_equal(storage_open(&f->s, &o, &err), 0);
    f->things = storage_resource(f->s, "x.io", "things");
    f->seen[0] = 0;
    storage_on_change(f->s, note, f);
}

static void close_storage(struct fixture *f) {
    storage_close(f->s);
    loop_free(f->loop);
}

static int setup(void **state) {
    struct fixture *f = NEW(struct fixture);
    strcpy(f->dir, "/tmp/selvage-storage-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/api.db", f->dir);
    open_storage(f, 1000);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    close_storage(f);
    assert_int_equal(dir_remove(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void reopen(struct fixture *f, size_t max_changes) {
    close_storage(f);
    open_storage(f, max_changes);
}

static void finished(void *arg, const struct error *failed) {
    struct fixture *f = arg;
    f->done++;
    f->failed += failed != NULL;
}

static void stop_loop(void *arg, const struct error *failed) {
    loop_stop(arg);
}

/* Until everything submitted so far is on disk. */
static void settle(struct fixture *f) {
    storage_barrier(f->s, stop_loop, f->loop);
    loop_run(f->loop);
}

static struct record *make(struct fixture *f, const char *name, const char *value) {
    char text[512];
    snprintf(text, sizeof(text),
             "{\"kind\":\"Thing\",\"apiVersion\":\"x.io/v1\",\"metadata\":{\"name\":\"%s\",\"uid\":\"u\","
             "\"resourceVersion\":\"0\"},\"value\":\"%s\"}",
             name, value);
    return record_new("ns", name, bytes_str(text), storage_next_revision(f->s), NULL);
}

static void put(struct fixture *f, const char *name, const char *value) {
    struct record *r = make(f, name, value);
    assert_non_null(r);
    storage_put(f->s, f->things, r, finished, f);
    record_unref(r);
}

static void drop(struct fixture *f, const char *name) {
    storage_delete(f->s, f->things, "ns", name, finished, f);
}

static void readers_see_nothing_before_the_commit(void **state) {
    struct fixture *f = *state;
    put(f, "a", "1");
    assert_null(storage_get(f->things, "ns", "a"));
    assert_non_null(storage_latest(f->s, f->things, "ns", "a"));
    assert_int_equal(f->done, 0);
    settle(f);
    assert_non_null(storage_get(f->things, "ns", "a"));
    assert_int_equal(f->done, 1);
    assert_int_equal(storage_revision(f->s), 1);
}

static void changes_are_told_in_order_with_old_and_new(void **state) {
    struct fixture *f = *state;
    put(f, "b", "1");
    put(f, "a", "1");
    put(f, "b", "2");
    drop(f, "b");
    put(f, "b", "3");
    settle(f);
    assert_string_equal(f->seen, "+b:1 +a:2 ~b:3 -b:4 +b:5 ");
}

static void objects_are_listed_by_namespace_and_name(void **state) {
    struct fixture *f = *state;
    char expected[8192] = "", got[8192] = "";
    for (unsigned i = 0; i < 700; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%03u", (i * 389) % 700);
        put(f, name, "x");
    }
    settle(f);
    for (unsigned i = 0; i < 700; i += 2) {
        char name[16];
        snprintf(name, sizeof(name), "n%03u", i);
        drop(f, name);
    }
    settle(f);
    size_t n;
    struct record **all = recordmap_snapshot(&f->things->objects, "ns", &n);
    for (size_t i = 0; i < n; i++)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ", all[i]->name);
    recordmap_free_snapshot(all, n);
    for (unsigned i = 1; i < 700; i += 2)
        snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "n%03u ", i);
    assert_string_equal(got, expected);
    assert_null(recordmap_snapshot(&f->things->objects, "nr", &n));
    assert_null(recordmap_snapshot(&f->things->objects, "nt", &n));
}

static void the_resource_version_is_in_the_text(void **state) {
    struct fixture *f = *state;
    put(f, "a", "1");
    put(f, "a", "2");
    settle(f);
    struct record *r = storage_get(f->things, "ns", "a");
    assert_non_null(strstr(r->text, "\"resourceVersion\":\"2\""));
    _cleanup_(buf_free) struct buf out = BUF_INIT(1024);
    record_append(&out, r, 12345);
    assert_non_null(strstr(out.ptr, "\"resourceVersion\":\"12345\"},\"value\":\"2\"}"));
}

static void a_restart_brings_back_objects_revisions_and_history(void **state) {
    struct fixture *f = *state;
    put(f, "a", "1");
    put(f, "b", "1");
    put(f, "a", "2");
    drop(f, "b");
    settle(f);
    reopen(f, 1000);
    assert_int_equal(storage_revision(f->s), 4);
    assert_int_equal(storage_next_revision(f->s), 5);
    assert_non_null(storage_get(f->things, "ns", "a"));
    assert_null(storage_get(f->things, "ns", "b"));
    storage_history(f->s, 1, note_history, f);
    assert_string_equal(f->seen, "+b:2 ~a:3 -b:4 ");
}

static void the_past_is_what_the_changes_since_then_replaced(void **state) {
    struct fixture *f = *state;
    put(f, "b", "1");
    put(f, "d", "1");
    settle(f);
    put(f, "a", "1"); /* 3 */
    put(f, "b", "2");
    put(f, "b", "3");
    drop(f, "d");
    put(f, "e", "1");
    drop(f, "e");
    settle(f);
    static const char *const then[] = {"", "b", "bd", "abd", "abd", "abd", "ab", "abe", "ab"};
    static const uint64_t b_rev[] = {0, 1, 1, 1, 4, 5, 5, 5, 5};
    for (uint64_t rev = 0; rev <= 8; rev++) {
        size_t n;
        struct record **records = storage_snapshot(f->s, f->things, "ns", rev, &n);
        assert_int_equal(n, strlen(then[rev]));
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(records[i]->name[0], then[rev][i]);
            if (records[i]->name[0] == 'b')
                assert_int_equal(records[i]->rev, b_rev[rev]);
        }
        recordmap_free_snapshot(records, n);
    }
}

static void a_database_of_the_first_schema_is_brought_up_to_date(void **state) {
    struct fixture *f = *state;
    close_storage(f);
    unlink(f->path);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            "CREATE TABLE selvage_schema (version INTEGER NOT NULL); INSERT INTO selvage_schema VALUES (1);"
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
            "CREATE TABLE resource (id INTEGER PRIMARY KEY, grp TEXT NOT NULL, plural TEXT NOT NULL,"
            " UNIQUE (grp, plural));"
            "CREATE TABLE obj (res INTEGER NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL, rev INTEGER NOT NULL,"
            " value BLOB NOT NULL, PRIMARY KEY (res, ns, name)) WITHOUT ROWID;"
            "CREATE TABLE log (rev INTEGER PRIMARY KEY, res INTEGER NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,"
            " old_rev INTEGER, old BLOB);"
            "INSERT INTO resource VALUES (1, 'x.io', 'things');"
            "INSERT INTO obj VALUES (1, 'ns', 'a', 7, '{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"7\"}}');"
            "INSERT INTO log VALUES (7, 1, 'ns', 'a', NULL, NULL);",
            NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    open_storage(f, 1000);
    assert_int_equal(storage_revision(f->s), 7);
    assert_non_null(storage_get(f->things, "ns", "a"));
    put(f, "a", "2");
    settle(f);
    reopen(f, 1000);
    assert_int_equal(storage_get(f->things, "ns", "a")->rev, 8);
}

static void the_last_deletion_keeps_its_revision_over_a_restart(void **state) {
    struct fixture *f = *state;
    put(f, "a", "1");
    drop(f, "a");
    settle(f);
    storage_compact(f->s);
    reopen(f, 1);
    assert_int_equal(storage_revision(f->s), 2);
    put(f, "a", "2");
    settle(f);
    assert_string_equal(f->seen, "+a:3 ");
}

static void history_out_of_the_window_is_forgotten_for_good(void **state) {
    struct fixture *f = *state;
    reopen(f, 10);
    for (unsigned i = 0; i < 30; i++) {
        put(f, "a", i % 2 ? "x" : "y");
        settle(f);
    }
    assert_int_equal(storage_compacted(f->s), 20);
    settle(f);
    reopen(f, 1000);
    assert_int_equal(storage_compacted(f->s), 20);
    storage_history(f->s, 28, note_history, f);
    assert_string_equal(f->seen, "~a:29 ~a:30 ");
}

/* A second connection that holds the write lock makes commits fail, as a full disk would. */
static sqlite3 *lock_database(struct fixture *f) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

static void a_failed_commit_undoes_all_that_was_decided_on_it(void **state) {
    struct fixture *f = *state;
    put(f, "a", "1");
    settle(f);
    sqlite3 *lock = lock_database(f);
    put(f, "a", "2");
    put(f, "b", "1");
    drop(f, "a");
    settle(f);
    assert_int_equal(f->done, 4);
    assert_int_equal(f->failed, 3);
    assert_non_null(storage_trouble(f->s));
    assert_string_equal(f->seen, "+a:1 ");
    assert_non_null(storage_latest(f->s, f->things, "ns", "a"));
    assert_null(storage_latest(f->s, f->things, "ns", "b"));
    assert_int_equal(storage_revision(f->s), 1);
    sqlite3_close(lock);
    put(f, "a", "3");
    settle(f);
    assert_int_equal(f->failed, 3);
    assert_string_equal(f->seen, "+a:1 ~a:5 "); /* 2, 3 and 4 are not used again */
    assert_null(storage_trouble(f->s));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers_see_nothing_before_the_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(changes_are_told_in_order_with_old_and_new, setup, teardown),
        cmocka_unit_test_setup_teardown(objects_are_listed_by_namespace_and_name, setup, teardown),
        cmocka_unit_test_setup_teardown(the_resource_version_is_in_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_brings_back_objects_revisions_and_history, setup, teardown),
        cmocka_unit_test_setup_teardown(the_past_is_what_the_changes_since_then_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_database_of_the_first_schema_is_brought_up_to_date, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_deletion_keeps_its_revision_over_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(history_out_of_the_window_is_forgotten_for_good, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_commit_undoes_all_that_was_decided_on_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
