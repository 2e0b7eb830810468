#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/edged/cri_log.h"
#include "edge/edged/log_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define T "2026-01-02T03:04:0"

static char folder[64], path[96];

static int make_folder(void **state) {
    snprintf(folder, sizeof(folder), "/tmp/log_readerXXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/0.log", folder);
    return 0;
}

static int remove_folder(void **state) {
    return dir_remove(folder, NULL);
}

static void append(const char *text) {
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static enum log_state read_all(struct log_reader *r, struct buf *out) {
    enum log_state state = LOG_MORE;
    while (state == LOG_MORE) {
        _cleanup_(buf_free) struct buf piece = BUF_INIT(LOG_PIECE);
        assert_int_equal(log_reader_next(r, &piece, &state, NULL), 0);
        buf_add_bytes(out, buf_bytes(&piece));
    }
    return state;
}

static void check(const char *query, const char *want) {
    struct log_options o;
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    assert_int_equal(log_options_read(bytes_str(query), clock_wall_ms() * 1000000, &o, NULL), 0);
    struct log_reader *r = log_reader_new(path, &o);
    read_all(r, &out);
    assert_string_equal(out.ptr ? out.ptr : "", want);
    log_reader_free(r);
}

static void write_three(void) {
    unlink(path);
    append(T "1.5Z stdout F one\n" T "2.5Z stderr F two\n" T "3.5Z stdout F three\n");
}

static void lines_are_read_as_asked(void **state) {
    write_three();
    check("", "one\ntwo\nthree\n");
    check("tailLines=2", "two\nthree\n");
    check("tailLines=0", "");
    check("tailLines=9", "one\ntwo\nthree\n");
    check("timestamps=true&tailLines=1", T "3.5Z three\n");
    check("limitBytes=5", "one\nt");
    check("sinceTime=2026-01-02T03:04:02.5Z", "two\nthree\n");
    check("sinceSeconds=10", "");
}

static void parts_of_a_line_are_joined_under_one_timestamp(void **state) {
    unlink(path);
    append(T "1Z stdout P on\n" T "2Z stdout F e\n" T "3Z stdout F two\n");
    check("", "one\ntwo\n");
    check("timestamps=true", T "1Z one\n" T "3Z two\n");
}

static void what_is_no_log_line_is_left_out(void **state) {
    unlink(path);
    append("rubbish\n\n" T "1Z stdout F good\n" T "2Z nowhere F x\n" T "3Z stdout F half");
    check("", "good\n");
}

static void a_follower_goes_on_in_the_file_that_follows_a_rotation(void **state) {
    struct log_options o = {.follow = true, .tail = -1, .limit = -1};
    char moved[128];
    _cleanup_(buf_free) struct buf out = BUF_INIT(1000);
    write_three();
    struct log_reader *r = log_reader_new(path, &o);
    assert_int_equal(read_all(r, &out), LOG_END);
    append(T "4Z stdout F four\n");
    snprintf(moved, sizeof(moved), "%s.old", path);
    assert_int_equal(rename(path, moved), 0);
    append(T "5Z stdout F five\n");
    assert_int_equal(read_all(r, &out), LOG_END);
    assert_string_equal(out.ptr, "one\ntwo\nthree\nfour\nfive\n");
    log_reader_free(r);
}

static void a_missing_log_is_an_error(void **state) {
    struct log_options o = {.tail = -1, .limit = -1};
    _cleanup_(buf_free) struct buf out = BUF_INIT(LOG_PIECE);
    struct error err = ERROR_INIT;
    enum log_state s;
    struct log_reader *r = log_reader_new("/nonexistent/0.log", &o);
    assert_int_equal(log_reader_next(r, &out, &s, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    log_reader_free(r);
}

static void a_line_longer_than_anything_is_passed_over(void **state) {
    unlink(path);
    char *wide = xmalloc(3 * LOG_PIECE + 1);
    memset(wide, 'x', 3 * LOG_PIECE);
    wide[3 * LOG_PIECE] = 0;
    append(T "1Z stdout F one\n" T "2Z stdout F ");
    append(wide);
    append("\n" T "3Z stdout F three\n");
    free(wide);
    check("", "one\nthree\n");
}

static void options_that_are_none_are_refused(void **state) {
    static const char *const bad[] = {"tailLines=x",
                                      "tailLines=-1",
                                      "limitBytes=0",
                                      "sinceSeconds=0",
                                      "sinceTime=today",
                                      "follow=perhaps",
                                      "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct log_options o;
        assert_int_equal(log_options_read(bytes_str(bad[i]), clock_wall_ms() * 1000000, &o, NULL), -1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_as_asked),
        cmocka_unit_test(parts_of_a_line_are_joined_under_one_timestamp),
        cmocka_unit_test(what_is_no_log_line_is_left_out),
        cmocka_unit_test(a_follower_goes_on_in_the_file_that_follows_a_rotation),
        cmocka_unit_test(a_missing_log_is_an_error),
        cmocka_unit_test(a_line_longer_than_anything_is_passed_over),
        cmocka_unit_test(options_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
