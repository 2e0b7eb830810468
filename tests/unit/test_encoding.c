#include "base/mem.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef int codec_fn(struct bytes in, struct buf *out);

static int decode_path(struct bytes in, struct buf *out) {
    return percent_decode(in, false, out);
}

static void assert_gives(codec_fn *fn, struct bytes in, const char *expected) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1000);
    assert_int_equal(fn(in, &out), 0);
    assert_true(bytes_eq_str(buf_bytes(&out), expected));
}

static void assert_none(codec_fn *fn, const char *in) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1000);
    buf_add_str(&out, "kept");
    assert_int_equal(fn(bytes_str(in), &out), -1);
    assert_string_equal(out.ptr, "kept");
    assert_int_equal(out.len, 4);
}

static void base64_round_trips_every_length(void **state) {
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        assert_gives(base64_encode, bytes_str(pairs[i][0]), pairs[i][1]);
        assert_gives(base64_decode, bytes_str(pairs[i][1]), pairs[i][0]);
    }
    assert_gives(base64_encode, bytes_of("\x7b\x00\xff\x80\x7d", 5), "ewD/gH0=");
    assert_gives(base64url_encode, bytes_of("\xfb\xff", 2), "-_8");
    assert_gives(base64url_decode, BYTES_LIT("-_8"), "\xfb\xff");
}

static void base64_skips_line_breaks_but_nothing_else(void **state) {
    assert_gives(base64_decode, BYTES_LIT("Zm9v\r\nYmFy\n"), "foobar");
    static const char *const bad[] = {
        "Zg", "Zg=", "Zg===", "Z", "Zm 9v", "Zm9v=", "=Zm9v", "Zh==", "Zm9=", "-_8=", "Zg==Zg==", "===="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_none(base64_decode, bad[i]);
    static const char *const bad_url[] = {"Zg==", "Z", "+/8", "Zh", "Zm9v\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad_url); i++)
        assert_none(base64url_decode, bad_url[i]);
}

static void hex_round_trips(void **state) {
    assert_gives(hex_encode, BYTES_LIT("\x01\xab"), "01ab");
    assert_gives(hex_decode, BYTES_LIT("01aB"), "\x01\xab");
    assert_none(hex_decode, "1");
    assert_none(hex_decode, "0g");
}

static void percent_escapes_are_decoded_or_refused(void **state) {
    assert_gives(decode_path, BYTES_LIT("a%2Fb+c%c3%A9"), "a/b+c\xc3\xa9");
    assert_none(decode_path, "a%");
    assert_none(decode_path, "a%2");
    assert_none(decode_path, "a%zz");
    assert_none(decode_path, "a%00b");
    assert_gives(percent_encode, BYTES_LIT("a b/~-._Z"), "a%20b%2F~-._Z");
}

static void the_last_escape_may_stand_at_the_end(void **state) {
    assert_gives(decode_path, BYTES_LIT("%41"), "A");
}

static void query_parameters_are_found_by_name(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(100);
    struct bytes q = BYTES_LIT("watch=true&labelSelector=a%3Db+c&%77=1&empty&watch=false");
    assert_true(query_get(q, "labelSelector", &out));
    assert_string_equal(out.ptr, "a=b c");
    buf_clear(&out);
    assert_true(query_get(q, "watch", &out));
    assert_string_equal(out.ptr, "true");
    buf_clear(&out);
    assert_true(query_get(q, "w", &out));
    buf_clear(&out);
    assert_true(query_get(q, "empty", &out));
    assert_int_equal(out.len, 0);
    assert_false(query_get(q, "labelSel", &out));
    assert_false(query_get(BYTES_EMPTY, "x", &out));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_round_trips_every_length),
        cmocka_unit_test(base64_skips_line_breaks_but_nothing_else),
        cmocka_unit_test(hex_round_trips),
        cmocka_unit_test(percent_escapes_are_decoded_or_refused),
        cmocka_unit_test(the_last_escape_may_stand_at_the_end),
        cmocka_unit_test(query_parameters_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
