#define LOG_COMPONENT "hub"
#include "base/log.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int saved_stderr, read_end;
static char text[8192];

static int start_catching(void **state) {
    int fds[2];
    if (pipe(fds) < 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    read_end = fds[0];
    return 0;
}

/* What was logged since the test began. */
static const char *caught(void) {
    dup2(saved_stderr, STDERR_FILENO);
    size_t n = 0;
    for (ssize_t got; n < sizeof(text) - 1 && (got = read(read_end, text + n, sizeof(text) - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = 0;
    return text;
}

static int stop_catching(void **state) {
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(read_end);
    log_set_level(LOG_INFO);
    return 0;
}

static size_t lines_of(const char *s) {
    size_t n = 0;
    for (; *s; s++)
        n += *s == '\n';
    return n;
}

static void a_line_has_time_level_component_and_message(void **state) {
    log_info("node connected node=%s", "edge-1");
    const char *line = caught();
    assert_int_equal(lines_of(line), 1);
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[23], 'Z');
    assert_string_equal(line + 24, " info  hub: node connected node=edge-1\n");
}

static void levels_below_are_silent(void **state) {
    log_debug("no");
    log_set_level(LOG_ERROR);
    log_warn("no");
    log_error("yes");
    assert_int_equal(lines_of(caught()), 1);
    assert_non_null(strstr(text, " error hub: yes\n"));
}

static void a_message_cannot_forge_a_line(void **state) {
    log_info("a\nb\r\x1b[31mc");
    assert_non_null(strstr(caught(), "hub: a b  [31mc\n"));
    assert_int_equal(lines_of(text), 1);
}

static void a_long_message_is_cut_and_still_a_line(void **state) {
    _cleanup_(free_p) char *s = xcalloc(1, 5001);
    memset(s, 'x', 5000);
    log_info("%s", s);
    assert_int_equal(lines_of(caught()), 1);
    assert_true(strlen(text) < 2049);
    assert_non_null(strstr(text, "...\n"));
}

static void a_condition_is_told_once_per_change(void **state) {
    struct log_once o = {0};
    log_once_recovered(&o, "hub", "never was bad");
    for (int i = 0; i < 5; i++)
        log_once_failed(&o, "hub", "connect: refused");
    log_once_failed(&o, "hub", "connect: timeout");
    log_once_recovered(&o, "hub", "connected");
    log_once_recovered(&o, "hub", "connected");
    log_once_failed(&o, "hub", "connect: timeout");
    assert_int_equal(lines_of(caught()), 4);
}

static void reasons_that_alternate_are_told_once_each(void **state) {
    struct log_once o = {0};
    for (int i = 0; i < 1000; i++)
        log_once_failed(&o, "hub", "connect: %s", i % 2 ? "refused" : i % 3 ? "reset" : "closed");
    log_once_recovered(&o, "hub", "connected");
    assert_int_equal(lines_of(caught()), 4);
}

static void reasons_without_end_are_bounded(void **state) {
    struct log_once o = {0};
    for (int i = 0; i < 1000; i++)
        log_once_failed(&o, "hub", "connect from port %d: refused", 30000 + i);
    assert_int_equal(lines_of(caught()), LOG_ONCE_REASONS);
}

static void a_changed_reason_is_told_after_an_interval_that_doubles(void **state) {
    struct log_once o = {0};
    unsigned minutes = 60 * 24 * 14;
    for (unsigned i = 0; i < minutes; i++) {
        log_once_failed(&o, "hub", "connect: refused");
        log_once_failed(&o, "hub", "connect: reset");
        o.told_at_ms -= 60000; /* a minute goes by */
    }
    size_t n = lines_of(caught());
    assert_in_range(n, 4, 16); /* in two weeks */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_has_time_level_component_and_message, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(levels_below_are_silent, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(a_message_cannot_forge_a_line, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(a_long_message_is_cut_and_still_a_line, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(a_condition_is_told_once_per_change, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(reasons_that_alternate_are_told_once_each, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(reasons_without_end_are_bounded, start_catching, stop_catching),
        cmocka_unit_test_setup_teardown(a_changed_reason_is_told_after_an_interval_that_doubles, start_catching,
                                        stop_catching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
