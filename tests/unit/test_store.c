#include "base/file.h"
#include "base/mem.h"
#include "store/store.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[80];

static int make_dir(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/selvage-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/edge.db", dir);
    return 0;
}

static int remove_dir(void **state) {
    return dir_remove(dir, NULL);
}

static const struct store_migration steps[] = {
    {1, "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)"},
    {2, "ALTER TABLE meta ADD COLUMN type TEXT; CREATE INDEX meta_type ON meta(type)"},
};

static int try_open(struct store **s, size_t n_steps, struct error *err) {
    return store_open(
        s, &(struct store_options){.path = path, .migrations = steps, .n_migrations = n_steps, .name = "edge database"},
        err);
}

static struct store *opened(void) {
    struct store *s = NULL;
    struct error err = ERROR_INIT;
    if (try_open(&s, 2, &err) < 0)
        fail_msg("%s", err.msg);
    return s;
}

static int put(struct store *s, const char *key, struct bytes value, struct error *err) {
    sqlite3_stmt *st = store_stmt(s, "INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)", err);
    if (!st)
        return -1;
    store_bind_text(st, 1, bytes_str(key));
    store_bind_text(st, 2, value);
    return store_run(s, st, err);
}

static int count(struct store *s) {
    sqlite3_stmt *st = store_stmt(s, "SELECT count(*) FROM meta", NULL);
    assert_non_null(st);
    assert_int_equal(store_step(s, st, NULL), 1);
    int n = sqlite3_column_int(st, 0);
    sqlite3_reset(st);
    return n;
}

/* Runs fn in a child process: SIGKILL and limits hit only it. Returns the wait status. */
static int in_child(void (*fn)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        fn();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
}

static void a_new_file_is_private_durable_and_migrated(void **state) {
    struct store *s = opened();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    sqlite3_stmt *q = store_stmt(s, "PRAGMA synchronous", NULL);
    assert_int_equal(store_step(s, q, NULL), 1);
    assert_int_equal(sqlite3_column_int(q, 0), 2);
    q = store_stmt(s, "PRAGMA journal_mode", NULL);
    assert_int_equal(store_step(s, q, NULL), 1);
    assert_true(bytes_eq_str(store_column(q, 0), "wal"));
    sqlite3_reset(q);
    q = store_stmt(s, "SELECT max(version) FROM selvage_schema", NULL);
    assert_int_equal(store_step(s, q, NULL), 1);
    assert_int_equal(sqlite3_column_int(q, 0), 2);
    store_close(s);
}

static void values_come_back_as_they_were_bound(void **state) {
    struct store *s = opened();
    assert_int_equal(put(s, "k", bytes_of("a\0b", 3), NULL), 0);
    assert_int_equal(put(s, "empty", BYTES_EMPTY, NULL), 0);
    store_close(s);
    s = opened();
    sqlite3_stmt *st = store_stmt(s, "SELECT value FROM meta WHERE key = ?", NULL);
    store_bind_text(st, 1, BYTES_LIT("k"));
    assert_int_equal(store_step(s, st, NULL), 1);
    assert_true(bytes_eq(store_column(st, 0), bytes_of("a\0b", 3)));
    assert_int_equal(store_step(s, st, NULL), 0);
    assert_ptr_equal(store_stmt(s, "SELECT value FROM meta WHERE key = ?", NULL), st);
    store_close(s);
}

static void an_old_schema_is_brought_forward_with_its_rows(void **state) {
    struct store *s = NULL;
    assert_int_equal(try_open(&s, 1, NULL), 0);
    assert_int_equal(put(s, "old", BYTES_LIT("v"), NULL), 0);
    store_close(s);
    s = opened();
    assert_int_equal(count(s), 1);
    assert_int_equal(store_exec(s, "UPDATE meta SET type = 'pod'", NULL), 0);
    store_close(s);
}

static void a_failed_migration_leaves_the_old_schema(void **state) {
    struct store *s = NULL;
    assert_int_equal(try_open(&s, 1, NULL), 0);
    store_close(s);
    static const struct store_migration broken[] = {{1, "SELECT 1"}, {2, "CREATE TABLE t(a); nonsense"}};
    struct error err = ERROR_INIT;
    struct store_options o = {.path = path, .migrations = broken, .n_migrations = 2, .name = "edge database"};
    assert_int_equal(store_open(&s, &o, &err), -1);
    assert_non_null(strstr(err.msg, "version 2"));
    s = opened();
    assert_int_equal(store_exec(s, "CREATE TABLE t(a)", &err), 0);
    store_close(s);
}

static void a_newer_schema_is_refused_and_left_alone(void **state) {
    struct store *s = opened();
    store_close(s);
    struct error err = ERROR_INIT;
    assert_int_equal(try_open(&s, 1, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "schema version 2"));
    s = opened();
    store_close(s);
}

static void a_file_of_the_original_keeps_its_tables(void **state) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE device(id TEXT); INSERT INTO device VALUES('d1')", 0, 0, 0), 0);
    sqlite3_close(db);
    struct store *s = opened();
    assert_int_equal(store_exec(s, "DELETE FROM device WHERE id = 'd1'", NULL), 0);
    assert_int_equal(sqlite3_changes(store_db(s)), 1);
    store_close(s);
}

static void a_damaged_file_is_refused_and_set_aside(void **state) {
    struct store *s = opened();
    for (int i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(put(s, key, BYTES_LIT("some value that fills pages"), NULL), 0);
    }
    assert_int_equal(store_checkpoint(s, NULL), 0);
    store_close(s);
    int fd = open(path, O_WRONLY);
    static const char junk[4096] = {0x5a};
    for (off_t at = 4096; at < 16384; at += 4096)
        assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
    close(fd);
    struct error err = ERROR_INIT;
    assert_int_equal(try_open(&s, 2, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "damaged"));
    assert_int_equal(store_set_aside(path, &err), 0);
    assert_int_equal(access(path, F_OK), -1);
    s = opened();
    assert_int_equal(count(s), 0);
    store_close(s);
}

static void a_file_that_is_no_database_is_refused(void **state) {
    assert_int_equal(file_write_atomic(path,
                                       BYTES_LIT("this is not a database, but it is long enough to be looked at"
                                                 ".............................................................."),
                                       0600, NULL),
                     0);
    struct store *s = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(try_open(&s, 2, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void what_was_rolled_back_is_not_there(void **state) {
    struct store *s = opened();
    assert_int_equal(store_begin(s, NULL), 0);
    assert_int_equal(put(s, "a", BYTES_LIT("1"), NULL), 0);
    store_rollback(s);
    assert_int_equal(count(s), 0);
    assert_int_equal(store_begin(s, NULL), 0);
    assert_int_equal(put(s, "b", BYTES_LIT("1"), NULL), 0);
    assert_int_equal(store_commit(s, NULL), 0);
    assert_int_equal(count(s), 1);
    store_close(s);
}

static void a_broken_rule_is_told_as_such(void **state) {
    struct store *s = opened();
    struct error err = ERROR_INIT;
    assert_int_equal(store_exec(s, "INSERT INTO meta(key) VALUES ('a')", &err), 0);
    assert_int_equal(store_exec(s, "INSERT INTO meta(key) VALUES ('a')", &err), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_null(store_stmt(s, "SELECT nonsense FROM nowhere", &err));
    assert_int_equal(err.code, ERR_INTERNAL);
    store_close(s);
}

static void commit_some_then_die_inside_a_transaction(void) {
    struct store *s = opened();
    if (store_begin(s, NULL) < 0 || put(s, "kept", BYTES_LIT("1"), NULL) < 0 || store_commit(s, NULL) < 0)
        _exit(1);
    if (store_begin(s, NULL) < 0)
        _exit(1);
    char big[100000];
    memset(big, 'x', sizeof(big));
    for (int i = 0; i < 50; i++) { /* more than the page cache holds: some of it reaches the file */
        char key[16];
        snprintf(key, sizeof(key), "lost%d", i);
        if (put(s, key, bytes_of(big, sizeof(big)), NULL) < 0)
            _exit(1);
    }
    kill(getpid(), SIGKILL);
}

static void kill_9_inside_a_transaction_keeps_what_was_committed_and_nothing_else(void **state) {
    int status = in_child(commit_some_then_die_inside_a_transaction);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct store *s = opened();
    assert_int_equal(count(s), 1);
    store_close(s);
}

/* Fills what room there is; exit status 0: it ended as expected, and all that was committed before is readable. */
static void fill(const char *expected) {
    struct store *s = opened();
    char big[20000];
    memset(big, 'x', sizeof(big));
    struct error err = ERROR_INIT;
    int committed = 0, rc = 0;
    for (; committed < 1000 && rc == 0; committed += rc == 0) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", committed);
        if (store_begin(s, &err) < 0) {
            rc = -1;
            break;
        }
        rc = put(s, key, bytes_of(big, sizeof(big)), &err);
        if (rc == 0)
            rc = store_commit(s, &err);
        else
            store_rollback(s);
    }
    if (rc == 0 || err.code != ERR_IO || !strstr(err.msg, expected)) {
        fprintf(stderr, "after %d: %s\n", committed, err.msg);
        _exit(2);
    }
    if (committed == 0 || count(s) != committed)
        _exit(3);
    store_close(s);
}

static void fill_small_disk(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=1m") < 0)
        _exit(77); /* not allowed here */
    fill("disk full");
}

static void fill_up_to_file_limit(void) {
    struct rlimit limit = {400000, 400000};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
        _exit(4);
    fill("write refused");
}

static void a_full_disk_fails_the_commit_and_loses_nothing_before_it(void **state) {
    int status = in_child(fill_small_disk);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != 77)
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_file_at_its_size_limit_fails_the_commit_and_loses_nothing_before_it(void **state) {
    int status = in_child(fill_up_to_file_limit);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct store *s = opened();
    assert_true(count(s) > 0);
    store_close(s);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
int main(void) {
    const struct CMUnitTest tests[] = {
        IN_DIR(a_new_file_is_private_durable_and_migrated),
        IN_DIR(values_come_back_as_they_were_bound),
        IN_DIR(an_old_schema_is_brought_forward_with_its_rows),
        IN_DIR(a_failed_migration_leaves_the_old_schema),
        IN_DIR(a_newer_schema_is_refused_and_left_alone),
        IN_DIR(a_file_of_the_original_keeps_its_tables),
        IN_DIR(a_damaged_file_is_refused_and_set_aside),
        IN_DIR(a_file_that_is_no_database_is_refused),
        IN_DIR(what_was_rolled_back_is_not_there),
        IN_DIR(a_broken_rule_is_told_as_such),
        IN_DIR(kill_9_inside_a_transaction_keeps_what_was_committed_and_nothing_else),
        IN_DIR(a_full_disk_fails_the_commit_and_loses_nothing_before_it),
        IN_DIR(a_file_at_its_size_limit_fails_the_commit_and_loses_nothing_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
