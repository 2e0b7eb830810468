/* Child processes, with the system's own small programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/child.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static struct strlist lines;
static bool exited;
static int status;
static struct child *to_free;

static int setup(void **state) {
    loop = loop_new();
    exited = false;
    status = -1;
    return 0;
}
static int teardown(void **state) {
    strlist_free(&lines);
    loop_free(loop);
    return 0;
}
static void on_line(void *arg, struct bytes line) {
    strlist_add_take(&lines, bytes_dup(line));
}
static void on_exited(void *arg, int wait_status) {
    exited = true;
    status = wait_status;
}
static void free_at_line(void *arg, struct bytes line) {
    on_line(arg, line);
    child_free(TAKE(to_free));
}
static void free_at_exit(void *arg, int wait_status) {
    on_exited(arg, wait_status);
    child_free(TAKE(to_free));
}

static void give_up(void *arg) {
    fail_msg("nothing happened for ten seconds");
}

static void wait_for_exit(void) {
    struct timer *t = timer_new(loop, give_up, NULL);
    timer_set(t, 10000);
    while (!exited)
        event_base_loop(loop_base(loop), EVLOOP_ONCE);
    timer_free(t);
}

static struct child *start(const char *const *argv, bool with_lines) {
    struct error err = ERROR_INIT;
    struct child_options o = {.argv = argv, .line = with_lines ? on_line : NULL, .exited = on_exited};
    struct child *c = child_start(loop, &o, &err);
    if (!c)
        fail_msg("%s", err.msg);
    return c;
}

static void the_lines_of_both_streams_are_told_then_the_exit(void **state) {
    const char *const argv[] = {"/bin/bash", "-c", "echo one; echo two >&2; printf three; exit 7", NULL};
    struct child *c = start(argv, true);
    wait_for_exit();
    assert_int_equal(lines.count, 3);
    assert_string_equal(lines.items[0], "one");
    assert_string_equal(lines.items[1], "two");
    assert_string_equal(lines.items[2], "three");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    child_free(c);
}

static void a_long_line_is_cut(void **state) {
    const char *const argv[] = {"/bin/bash", "-c", "printf '%09999d\\nshort\\n' 1", NULL};
    struct child *c = start(argv, true);
    wait_for_exit();
    assert_int_equal(lines.count, 2);
    assert_int_equal(strlen(lines.items[0]), 4096);
    assert_string_equal(lines.items[1], "short");
    child_free(c);
}

static void a_program_is_found_in_path(void **state) {
    const char *const argv[] = {"true", NULL};
    struct child *c = start(argv, false);
    wait_for_exit();
    assert_int_equal(status, 0);
    child_free(c);
}

static void a_program_that_cannot_be_executed_is_told_at_once(void **state) {
    const char *const missing[] = {"/no/such/program", NULL}, *const nowhere[] = {"no-such-program", NULL};
    const char *const folder[] = {"/tmp", NULL};
    struct error err = ERROR_INIT;
    assert_null(child_start(loop, &(struct child_options){.argv = missing}, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_null(child_start(loop, &(struct child_options){.argv = nowhere}, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_null(child_start(loop, &(struct child_options){.argv = folder}, &err));
}

static void stop_asks_first(void **state) {
    const char *const argv[] = {"/bin/bash", "-c",
                                "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done", NULL};
    struct child *c = start(argv, true);
    while (lines.count == 0)
        event_base_loop(loop_base(loop), EVLOOP_ONCE);
    child_stop(c, 10000);
    wait_for_exit();
    assert_string_equal(lines.items[1], "bye");
    assert_int_equal(WEXITSTATUS(status), 3);
    child_free(c);
}

static void stop_kills_what_does_not_listen(void **state) {
    const char *const argv[] = {"/bin/bash", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done", NULL};
    struct child *c = start(argv, true);
    while (lines.count == 0)
        event_base_loop(loop_base(loop), EVLOOP_ONCE);
    child_stop(c, 50);
    wait_for_exit();
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    child_free(c);
}

static void free_kills_without_a_callback(void **state) {
    const char *const argv[] = {"/bin/sleep", "1000", NULL};
    struct child *c = start(argv, false);
    pid_t pid = child_pid(c);
    child_free(c);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_false(exited);
}

static void it_may_be_freed_in_its_callbacks(void **state) {
    const char *const argv[] = {"/bin/bash", "-c", "echo one; echo two; sleep 100", NULL}, *const brief[] = {"true",
                                                                                                             NULL};
    to_free = child_start(loop, &(struct child_options){.argv = argv, .line = free_at_line, .exited = on_exited}, NULL);
    while (to_free)
        event_base_loop(loop_base(loop), EVLOOP_ONCE);
    assert_int_equal(lines.count, 1);
    assert_false(exited);
    to_free = child_start(loop, &(struct child_options){.argv = brief, .exited = free_at_exit}, NULL);
    wait_for_exit();
}

/* A helper that inherited the output must not keep the exit from being told. */
static void a_grandchild_that_holds_the_output_does_not_hold_the_exit(void **state) {
    const char *const argv[] = {"/bin/bash", "-c", "sleep 2 & echo up", NULL};
    struct child *c = start(argv, true);
    wait_for_exit();
    assert_string_equal(lines.items[0], "up");
    child_free(c);
}

static void it_inherits_no_descriptor_and_reads_nothing(void **state) {
    const char *const argv[] = {"/bin/bash", "-c", "ls /proc/self/fd | wc -l; cat; readlink /proc/self/fd/0", NULL};
    int leaked = open("/dev/zero", O_RDONLY); /* not marked close-on-exec */
    struct child *c = start(argv, true);
    wait_for_exit();
    assert_string_equal(lines.items[0], "4"); /* 0, 1, 2, and the folder being listed */
    assert_string_equal(lines.items[1], "/dev/null");
    close(leaked);
    child_free(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_lines_of_both_streams_are_told_then_the_exit),
        TEST(a_long_line_is_cut),
        TEST(a_program_is_found_in_path),
        TEST(a_program_that_cannot_be_executed_is_told_at_once),
        TEST(stop_asks_first),
        TEST(stop_kills_what_does_not_listen),
        TEST(free_kills_without_a_callback),
        TEST(it_may_be_freed_in_its_callbacks),
        TEST(a_grandchild_that_holds_the_output_does_not_hold_the_exit),
        TEST(it_inherits_no_descriptor_and_reads_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
