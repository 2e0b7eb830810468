#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void the_caller_adds_what_it_was_doing(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(error_set(&err, ERR_NOT_FOUND, "image %s", "busybox"), -1);
    assert_int_equal(error_wrap(&err, "pod %s/%s", "default", "web"), -1);
    assert_string_equal(err.msg, "pod default/web: image busybox");
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void the_message_itself_may_be_an_argument(void **state) {
    struct error err = ERROR_INIT;
    error_set(&err, ERR_IO, "inner");
    error_set(&err, ERR_INVALID, "outer (%s)", err.msg);
    assert_string_equal(err.msg, "outer (inner)");
}

static void no_error_to_fill_is_fine(void **state) {
    assert_int_equal(error_set(NULL, ERR_IO, "x"), -1);
    assert_int_equal(error_wrap(NULL, "x"), -1);
    assert_int_equal(error_set_errno(NULL, ENOENT, "x"), -1);
    assert_string_equal(error_text(NULL), "unknown error");
}

static void errno_gives_the_code_and_the_reason(void **state) {
    struct error err = ERROR_INIT;
    error_set_errno(&err, ENOENT, "open %s", "/x");
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.msg, "open /x: No such file or directory");
    error_set_errno(&err, ENOSPC, "write");
    assert_int_equal(err.code, ERR_IO);
    error_set_errno(&err, EACCES, "open");
    assert_int_equal(err.code, ERR_DENIED);
}

static void a_long_message_is_cut_between_characters(void **state) {
    struct error err = ERROR_INIT;
    for (size_t pad = 0; pad < 4; pad++) {
        char text[1200];
        memset(text, 'a', pad);
        for (size_t i = 0; i < 300; i++)
            memcpy(text + pad + i * 3, "\xe2\x82\xac", 4);
        error_set(&err, ERR_INVALID, "%s", text);
        size_t n = strlen(err.msg);
        assert_true(n > sizeof(err.msg) - 4);
        assert_int_equal((n - pad) % 3, 0);
    }
}

static void every_code_has_a_name(void **state) {
    for (int c = ERR_NONE; c <= ERR_INTERNAL; c++)
        assert_true(strlen(error_code_name((enum error_code)c)) > 1);
    assert_string_equal(error_code_name(ERR_NOT_FOUND), "NotFound");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_caller_adds_what_it_was_doing),
        cmocka_unit_test(the_message_itself_may_be_an_argument),
        cmocka_unit_test(no_error_to_fill_is_fine),
        cmocka_unit_test(errno_gives_the_code_and_the_reason),
        cmocka_unit_test(a_long_message_is_cut_between_characters),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
