#include "base/bytes.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void a_buffer_is_a_c_string(void **state) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(100);
    assert_int_equal(buf_add_str(&b, "ab"), 0);
    assert_int_equal(buf_add_char(&b, 'c'), 0);
    assert_int_equal(buf_addf(&b, "%d-%s", 7, "x"), 0);
    assert_string_equal(b.ptr, "abc7-x");
    assert_int_equal(b.len, 6);
}

static void what_would_pass_the_maximum_is_not_added(void **state) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(8);
    assert_int_equal(buf_add_str(&b, "12345678"), 0);
    assert_int_equal(buf_add_char(&b, '9'), -1);
    assert_string_equal(b.ptr, "12345678");
    assert_int_equal(buf_addf(&b, "%s", "x"), -1);
    struct error err = ERROR_INIT;
    assert_int_equal(buf_check(&b, &err, "answer"), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_string_equal(err.msg, "answer is larger than the limit of 8 bytes");
    buf_clear(&b);
    assert_int_equal(buf_check(&b, &err, "answer"), 0);
    assert_int_equal(buf_add_str(&b, "ok"), 0);
}

static void sizes_near_the_end_of_the_number_range_are_refused(void **state) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(SIZE_MAX / 4);
    assert_int_equal(buf_add_str(&b, "x"), 0);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_null(buf_reserve(&b, SIZE_MAX / 4));
}

static void long_formatted_text_is_kept_whole(void **state) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(5000);
    assert_int_equal(buf_addf(&b, "%01000d", 1), 0);
    assert_int_equal(b.len, 1000);
    assert_int_equal(b.ptr[999], '1');
}

static void the_front_can_be_dropped(void **state) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(100);
    buf_add_str(&b, "headbody");
    buf_drop_front(&b, 4);
    assert_string_equal(b.ptr, "body");
    buf_drop_front(&b, 4);
    assert_int_equal(b.len, 0);
    buf_drop_front(&b, 0);
}

static void the_content_can_be_taken(void **state) {
    struct buf b = BUF_INIT(100);
    size_t n;
    char *empty = buf_take(&b, &n);
    assert_string_equal(empty, "");
    assert_int_equal(n, 0);
    free(empty);
    buf_add_str(&b, "x");
    char *text = buf_take(&b, &n);
    assert_string_equal(text, "x");
    assert_int_equal(b.len, 0);
    free(text);
}

static void ends_are_compared_within_bounds(void **state) {
    assert_true(bytes_starts_with(BYTES_LIT("node/x"), "node/"));
    assert_false(bytes_starts_with(BYTES_LIT("no"), "node/"));
    assert_true(bytes_ends_with(BYTES_LIT("a.yaml"), ".yaml"));
    assert_false(bytes_ends_with(BYTES_EMPTY, "x"));
    assert_true(bytes_starts_with(BYTES_EMPTY, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_is_a_c_string),
        cmocka_unit_test(what_would_pass_the_maximum_is_not_added),
        cmocka_unit_test(sizes_near_the_end_of_the_number_range_are_refused),
        cmocka_unit_test(long_formatted_text_is_kept_whole),
        cmocka_unit_test(the_front_can_be_dropped),
        cmocka_unit_test(the_content_can_be_taken),
        cmocka_unit_test(ends_are_compared_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
