#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/edged/log_files.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct folder {
    char dir[64];
    char *log;
};

static int make(void **state) {
    struct folder *f = NEW(struct folder);
    snprintf(f->dir, sizeof(f->dir), "/tmp/selvage-logs-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->log = xasprintf("%s/0.log", f->dir);
    *state = f;
    return 0;
}

static int drop(void **state) {
    struct folder *f = *state;
    assert_int_equal(dir_remove(f->dir, NULL), 0);
    free(f->log);
    free(f);
    return 0;
}

static void put(const struct folder *f, const char *name, const char *text) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", f->dir, name);
    assert_int_equal(file_write_atomic(path, bytes_str(text), 0640, NULL), 0);
}

/* The names in the folder, sorted, joined by spaces. */
static char *names(const struct folder *f) {
    struct strlist l = {0};
    DIR *d = opendir(f->dir);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            strlist_add(&l, e->d_name);
    closedir(d);
    strlist_sort(&l);
    struct buf out = BUF_INIT(4096);
    for (size_t i = 0; i < l.count; i++)
        buf_addf(&out, "%s%s", i ? " " : "", l.items[i]);
    strlist_free(&l);
    return buf_take(&out, NULL);
}

static void rotate(const struct folder *f, const char *stamp, int64_t max_files) {
    struct error err = ERROR_INIT;
    char *moved = NULL;
    if (log_rotate(f->log, stamp, max_files, &moved, &err) < 0)
        fail_msg("%s", err.msg);
    assert_non_null(moved);
    free(moved);
}

static void expect(const struct folder *f, const char *want) {
    char *have = names(f);
    assert_string_equal(have, want);
    free(have);
}

static void a_log_is_moved_compressed_next_time_and_at_last_removed(void **state) {
    struct folder *f = *state;
    put(f, "0.log", "one\n");
    assert_int_equal(log_size(f->log), 4);
    rotate(f, "20260101-000001", 4);
    expect(f, "0.log.20260101-000001");
    put(f, "0.log", "two\n");
    rotate(f, "20260101-000002", 4);
    expect(f, "0.log.20260101-000001.gz 0.log.20260101-000002");
    put(f, "0.log", "three\n");
    rotate(f, "20260101-000003", 4);
    put(f, "0.log", "four\n");
    rotate(f, "20260101-000004", 4);
    put(f, "0.log", "five\n"); /* what the runtime opens: four files now */
    expect(f, "0.log 0.log.20260101-000002.gz 0.log.20260101-000003.gz 0.log.20260101-000004");
}

static void other_files_beside_it_are_left_alone(void **state) {
    struct folder *f = *state;
    put(f, "0.log", "x\n");
    put(f, "1.log.20260101-000001", "another instance\n");
    put(f, "0.log.notes", "a person's\n");
    rotate(f, "20260101-000002", 2);
    expect(f, "0.log.20260101-000002 0.log.notes 1.log.20260101-000001");
}

static void what_a_crash_left_is_tidied(void **state) {
    struct folder *f = *state;
    put(f, "0.log", "x\n");
    put(f, "0.log.20260101-000001.tmp", "half");
    put(f, "0.log.20260101-000001", "whole\n");
    put(f, "0.log.20260101-000001.gz", "compressed, but the old one was not yet removed");
    rotate(f, "20260101-000002", 5);
    expect(f, "0.log.20260101-000001.gz 0.log.20260101-000002");
}

static void a_second_rotation_within_a_second_waits(void **state) {
    struct folder *f = *state;
    char *moved = NULL;
    put(f, "0.log", "x\n");
    rotate(f, "20260101-000001", 5);
    put(f, "0.log", "y\n");
    assert_int_equal(log_rotate(f->log, "20260101-000001", 5, &moved, NULL), 0);
    assert_null(moved);
    expect(f, "0.log 0.log.20260101-000001.gz");
    rotate(f, "20260101-000002", 5);
    expect(f, "0.log.20260101-000001.gz 0.log.20260101-000002");
}

static void a_link_is_no_log(void **state) {
    struct folder *f = *state;
    assert_int_equal(symlink("/etc/passwd", f->log), 0);
    assert_int_equal(log_size(f->log), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_log_is_moved_compressed_next_time_and_at_last_removed, make, drop),
        cmocka_unit_test_setup_teardown(other_files_beside_it_are_left_alone, make, drop),
        cmocka_unit_test_setup_teardown(what_a_crash_left_is_tidied, make, drop),
        cmocka_unit_test_setup_teardown(a_second_rotation_within_a_second_waits, make, drop),
        cmocka_unit_test_setup_teardown(a_link_is_no_log, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
