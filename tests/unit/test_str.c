#include "base/mem.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void numbers_are_whole_and_within_bounds(void **state) {
    int64_t v;
    assert_int_equal(parse_i64(BYTES_LIT("-9223372036854775808"), INT64_MIN, INT64_MAX, &v), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(parse_i64(BYTES_LIT("9223372036854775807"), INT64_MIN, INT64_MAX, &v), 0);
    assert_true(v == INT64_MAX);
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "0x10",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999",
                                      "--1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(parse_i64(bytes_str(bad[i]), INT64_MIN, INT64_MAX, &v), -1);
    assert_int_equal(parse_i64(BYTES_LIT("65536"), 1, 65535, &v), -1);
    assert_int_equal(parse_i64(BYTES_LIT("0"), 1, 65535, &v), -1);
    uint64_t u;
    assert_int_equal(parse_u64(BYTES_LIT("18446744073709551615"), UINT64_MAX, &u), 0);
    assert_int_equal(parse_u64(BYTES_LIT("18446744073709551616"), UINT64_MAX, &u), -1);
    assert_int_equal(parse_u64(BYTES_LIT("-1"), UINT64_MAX, &u), -1);
}

static void durations_are_read_as_go_does(void **state) {
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"1m30s", 90000000000},
        {"300ms", 300000000},
        {"1.5h", 5400000000000},
        {"-2s", -2000000000},
        {"+2s", 2000000000},
        {"1h1m1s1ms1us1ns", 3661001001001},
        {".5s", 500000000},
        {"1.s", 1000000000},
        {"0.123456789s", 123456789},
        {"1\xc2\xb5s", 1000},
        {"2562047h", 9223369200000000000},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        int64_t ns = -1;
        assert_int_equal(parse_duration(bytes_str(good[i].text), &ns), 0);
        assert_true(ns == good[i].ns);
    }
    static const char *const bad[] = {
        "", "-", "1", "s", ".s", "1d", "1 s", "1s ", "2562048h", "1..5s", "9999999999999999999s", "00"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t ns;
        assert_int_equal(parse_duration(bytes_str(bad[i]), &ns), -1);
    }
}

static void booleans_are_read_as_go_does(void **state) {
    bool b = false;
    assert_int_equal(parse_bool(BYTES_LIT("true"), &b), 0);
    assert_true(b);
    assert_int_equal(parse_bool(BYTES_LIT("F"), &b), 0);
    assert_false(b);
    assert_int_equal(parse_bool(BYTES_LIT("yes"), &b), -1);
    assert_int_equal(parse_bool(BYTES_EMPTY, &b), -1);
}

static void splitting_counts_all_parts(void **state) {
    struct bytes parts[2];
    assert_int_equal(bytes_split(BYTES_LIT("a//b"), '/', parts, 2), 3);
    assert_true(bytes_eq_str(parts[0], "a"));
    assert_int_equal(parts[1].len, 0);
    assert_int_equal(bytes_split(BYTES_EMPTY, '/', parts, 2), 1);
    assert_int_equal(parts[0].len, 0);
    struct bytes before, after;
    assert_true(bytes_cut(BYTES_LIT("k=v=w"), '=', &before, &after));
    assert_true(bytes_eq_str(before, "k") && bytes_eq_str(after, "v=w"));
    assert_false(bytes_cut(BYTES_LIT("kv"), '=', &before, &after));
    assert_true(bytes_eq_str(before, "kv") && after.len == 0);
    assert_true(bytes_eq_str(bytes_trim(BYTES_LIT(" \t a b\r\n")), "a b"));
}

static void lists_own_their_strings(void **state) {
    _cleanup_(strlist_free) struct strlist l = {0};
    for (int i = 9; i >= 0; i--)
        strlist_add_take(&l, xasprintf("n%d", i));
    strlist_sort(&l);
    assert_string_equal(l.items[0], "n0");
    assert_true(strlist_remove(&l, "n3"));
    assert_false(strlist_remove(&l, "n3"));
    assert_false(strlist_has(&l, "n3"));
    assert_int_equal(l.count, 9);
    assert_string_equal(l.items[3], "n4");
}

static void comparisons_know_null(void **state) {
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq(NULL, ""));
    assert_true(str_case_eq("Abc", "aBC"));
    assert_false(str_case_eq("ab", "abc"));
    assert_false(str_case_eq("a", NULL));
    assert_true(str_starts_with("node/x", "node/"));
    assert_true(str_ends_with("a.b", ".b"));
    assert_string_equal(str_or("", "-"), "-");
}

static void kubernetes_names_are_told_from_others(void **state) {
    char long_label[65] = {0};
    memset(long_label, 'a', 64);
    assert_true(dns_label_valid(BYTES_LIT("a-1")));
    assert_false(dns_label_valid(BYTES_LIT("A")));
    assert_false(dns_label_valid(BYTES_LIT("-a")));
    assert_false(dns_label_valid(BYTES_LIT("a-")));
    assert_false(dns_label_valid(BYTES_LIT("a.b")));
    assert_false(dns_label_valid(bytes_str(long_label)));
    assert_true(dns_subdomain_valid(bytes_str(long_label)));
    assert_true(dns_subdomain_valid(BYTES_LIT("edge-1.example.com")));
    assert_false(dns_subdomain_valid(BYTES_LIT("a..b")));
    assert_false(dns_subdomain_valid(BYTES_LIT(".a")));
    assert_false(dns_subdomain_valid(BYTES_EMPTY));
    assert_false(dns_subdomain_valid(BYTES_LIT("../etc")));
    assert_true(qualified_name_valid(BYTES_LIT("node-role.kubernetes.io/edge")));
    assert_true(qualified_name_valid(BYTES_LIT("App_1.x")));
    assert_false(qualified_name_valid(BYTES_LIT("/x")));
    assert_false(qualified_name_valid(BYTES_LIT("a/b/c")));
    assert_false(qualified_name_valid(BYTES_LIT("x/")));
    assert_true(label_value_valid(BYTES_EMPTY));
    assert_true(label_value_valid(BYTES_LIT("V1.0_x")));
    assert_false(label_value_valid(BYTES_LIT("-v")));
    assert_false(label_value_valid(BYTES_LIT("a b")));
}

static void only_well_formed_utf8_is_valid(void **state) {
    assert_true(utf8_valid(BYTES_LIT("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
    static const char *const bad[] = {
        "\x80",     "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xe2\x82", "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(utf8_valid(bytes_str(bad[i])));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_whole_and_within_bounds),
        cmocka_unit_test(durations_are_read_as_go_does),
        cmocka_unit_test(booleans_are_read_as_go_does),
        cmocka_unit_test(splitting_counts_all_parts),
        cmocka_unit_test(lists_own_their_strings),
        cmocka_unit_test(comparisons_know_null),
        cmocka_unit_test(kubernetes_names_are_told_from_others),
        cmocka_unit_test(only_well_formed_utf8_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
