#include "base/json.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static yyjson_doc *parsed(const char *text) {
    struct error err = ERROR_INIT;
    yyjson_doc *doc = json_parse(bytes_str(text), 10000, &err);
    if (!doc)
        fail_msg("%s", err.msg);
    return doc;
}

static void exactly_one_value_is_read(void **state) {
    static const char *const bad[] = {"",    " ",  "{",   "{}{}",        "[1,]", "{\"a\":}",
                                      "nul", "01", "'a'", "\"\\ud800\"", "NaN"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        assert_null(json_parse(bytes_str(bad[i]), 100, &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
    yyjson_doc *doc = json_parse_first(BYTES_LIT("{\"a\":1} garbage"), 100, NULL);
    assert_non_null(doc);
    yyjson_doc_free(doc);
}

static void size_and_depth_are_limited(void **state) {
    struct error err = ERROR_INIT;
    assert_null(json_parse(BYTES_LIT("[1234567]"), 8, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    char text[2 * (JSON_MAX_DEPTH + 1) + 1];
    memset(text, '[', JSON_MAX_DEPTH + 1);
    memset(text + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
    struct bytes deep = bytes_of(text, 2 * (JSON_MAX_DEPTH + 1));
    assert_null(json_parse(deep, 10000, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    yyjson_doc *doc = json_parse(bytes_of(deep.ptr + 1, deep.len - 2), 10000, &err);
    assert_non_null(doc);
    yyjson_doc_free(doc);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *strings = parsed("[\"[[[[\\\"[[[\", \"]\"]");
    assert_int_equal(yyjson_arr_size(yyjson_doc_get_root(strings)), 2);
}

static void paths_lead_to_members_or_nothing(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = parsed("{\"metadata\":{\"name\":\"x\",\"n\":-3},\"list\":[1]}");
    yyjson_val *root = yyjson_doc_get_root(doc);
    assert_string_equal(json_str(root, "metadata", "name"), "x");
    assert_null(json_str(root, "metadata", "name", "more"));
    assert_null(json_str(root, "nothing", "name"));
    assert_null(json_get(root, "list", "0"));
    assert_null(json_str(NULL, "a"));
    assert_int_equal(json_int_or(json_get(root, "metadata", "n"), 7), -3);
    assert_int_equal(json_int_or(json_get(root, "metadata", "name"), 7), 7);
    assert_true(json_bool_or(NULL, true));
}

static void integers_of_64_bits_stay_what_they_are(void **state) {
    const char *text = "[9223372036854775807,-9223372036854775808,18446744073709551615]";
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = parsed(text);
    _cleanup_(free_p) char *out = json_write(yyjson_doc_get_root(doc), NULL);
    assert_string_equal(out, text);
}

static void equality_ignores_order_of_members_and_kind_of_number(void **state) {
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"{\"a\":1,\"b\":[1,2]}", "{\"b\":[1,2],\"a\":1}", true},
        {"1", "1.0", true},
        {"[1,2]", "[2,1]", false},
        {"{\"a\":null}", "{}", false},
        {"{\"a\":null}", "{\"b\":null}", false},
        {"-1", "18446744073709551615", false},
        {"9007199254740993", "9007199254740992", false},
        {"\"a\\u0000b\"", "\"a\\u0000c\"", false},
        {"\"1\"", "1", false},
        {"true", "false", false},
        {"[]", "{}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *a = parsed(cases[i].a), *b = parsed(cases[i].b);
        assert_int_equal(json_equal(yyjson_doc_get_root(a), yyjson_doc_get_root(b)), cases[i].equal);
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *x = yyjson_doc_mut_copy(a, NULL);
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *y = yyjson_doc_mut_copy(b, NULL);
        assert_int_equal(json_mut_equal(yyjson_mut_doc_get_root(x), yyjson_mut_doc_get_root(y)), cases[i].equal);
    }
}

static void setting_replaces_all_of_that_name(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = parsed("{\"a\":1,\"b\":2,\"a\":3}");
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(doc, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(d);
    json_set_str(d, root, "a", "x");
    json_set_int(d, json_ensure_obj(d, root, "b"), "n", 5);
    yyjson_mut_arr_add_bool(d, json_ensure_arr(d, root, "c"), true);
    json_set_bool(d, root, "gone", true);
    json_remove(root, "gone");
    _cleanup_(free_p) char *out = json_write_mut(root, NULL);
    assert_string_equal(out, "{\"a\":\"x\",\"b\":{\"n\":5},\"c\":[true]}");
    assert_int_equal(yyjson_mut_get_sint(json_mut_get(root, "b", "n")), 5);
}

static void bytes_that_are_no_text_do_not_spoil_the_document(void **state) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    json_set_str(d, root, "message",
                 "a\xff"
                 "b\xc3\xa9\xc3");
    _cleanup_(free_p) char *out = json_write_mut(root, NULL);
    assert_string_equal(out, "{\"message\":\"a\xef\xbf\xbd"
                             "b\xc3\xa9\xef\xbf\xbd\"}");
    yyjson_doc_free(parsed(out));
}

static void members_of_the_same_name_are_noticed(void **state) {
    static const struct {
        const char *text;
        bool repeated;
    } cases[] = {
        {"{}", false},
        {"[{\"a\":1},{\"a\":1}]", false},
        {"{\"a\":{\"b\":1},\"b\":{\"a\":1}}", false},
        {"{\"a\":1,\"b\":2,\"a\":3}", true},
        {"{\"x\":[{\"y\":{\"a\":1,\"\\u0061\":2}}]}", true},
        {"\"a\"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = parsed(cases[i].text);
        assert_int_equal(json_has_duplicates(yyjson_doc_get_root(doc)), cases[i].repeated);
    }
}

static void strings_are_escaped_and_bad_utf8_replaced(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(100);
    assert_int_equal(json_append_string(&out, BYTES_LIT("a\"\\\n\x01\xc3\xa9\xff/")), 0);
    assert_string_equal(out.ptr, "\"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd/\"");
    _cleanup_(buf_free) struct buf small = BUF_INIT(3);
    assert_int_equal(json_append_string(&small, BYTES_LIT("abc")), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_one_value_is_read),
        cmocka_unit_test(size_and_depth_are_limited),
        cmocka_unit_test(paths_lead_to_members_or_nothing),
        cmocka_unit_test(integers_of_64_bits_stay_what_they_are),
        cmocka_unit_test(equality_ignores_order_of_members_and_kind_of_number),
        cmocka_unit_test(setting_replaces_all_of_that_name),
        cmocka_unit_test(bytes_that_are_no_text_do_not_spoil_the_document),
        cmocka_unit_test(members_of_the_same_name_are_noticed),
        cmocka_unit_test(strings_are_escaped_and_bad_utf8_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
