#include "kube/quantity.h"

#include "json_testing.h"

static void canonical(const char *in, const char *expected) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(200);
    struct error err = ERROR_INIT;
    if (quantity_canonical(bytes_str(in), &out, &err) < 0)
        fail_msg("%s: %s", in, err.msg);
    assert_string_equal(out.ptr, expected);
}

static int64_t value(const char *in) {
    struct quantity q;
    assert_int_equal(quantity_parse(bytes_str(in), &q, NULL), 0);
    return quantity_value(q);
}

static int64_t milli(const char *in) {
    struct quantity q;
    assert_int_equal(quantity_parse(bytes_str(in), &q, NULL), 0);
    return quantity_milli(q);
}

static void texts_become_canonical_in_the_form_they_were_written(void **state) {
    canonical("0", "0");
    canonical("1000m", "1");
    canonical("0.1", "100m");
    canonical("1.5", "1500m");
    canonical("2048Ki", "2Mi");
    canonical("1.5Gi", "1536Mi");
    canonical("0.5Gi", "512Mi");
    canonical("1000Ki", "1000Ki");
    canonical("1024", "1024");
    canonical("100000", "100k");
    canonical("1e3", "1e3");
    canonical("1000e0", "1e3");
    canonical("-500m", "-500m");
    canonical("+3", "3");
    canonical("12E", "9223372036854775807"); /* saturates */
    canonical("5E", "5E");
    canonical("0.000000001", "1n");
    canonical(".5", "500m");
    canonical("5.", "5");
}

static void what_is_no_quantity_is_refused(void **state) {
    static const char *const bad[] = {"",    "-",    ".",    "1x",  "1 Mi", "1.2.3", "Mi",     "1e",
                                      "1e+", "1Kib", "0x10", "1mi", " 1",   "e3",    "1e99999"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct quantity q;
        if (quantity_parse(bytes_str(bad[i]), &q, NULL) == 0)
            fail_msg("accepted: \"%s\"", bad[i]);
    }
}

static void values_round_up(void **state) {
    assert_int_equal(value("1"), 1);
    assert_int_equal(value("100m"), 1);
    assert_int_equal(value("1.0001"), 2);
    assert_int_equal(value("64Mi"), 64 * 1024 * 1024);
    assert_int_equal(value("1n"), 1);
    assert_int_equal(value("-1.5"), -2);
    assert_int_equal(milli("0.0001"), 1);
    assert_int_equal(milli("2"), 2000);
    assert_int_equal(milli("250m"), 250);
    assert_int_equal(value("8Ei"), INT64_MAX);
    assert_int_equal(milli("9223372036854775807"), INT64_MAX);
    assert_int_equal(value("0.00000000000000000000000000000000000001"), 1);
}

static void sums_and_comparisons_are_exact(void **state) {
    struct quantity a, b;
    assert_int_equal(quantity_parse(BYTES_LIT("100m"), &a, NULL), 0);
    assert_int_equal(quantity_parse(BYTES_LIT("0.2"), &b, NULL), 0);
    assert_true(quantity_cmp(a, b) < 0);
    assert_int_equal(quantity_milli(quantity_add(a, b)), 300);
    assert_int_equal(quantity_milli(quantity_sub(a, b)), -100);
    assert_int_equal(quantity_cmp(quantity_add(a, a), b), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_canonical_in_the_form_they_were_written),
        cmocka_unit_test(what_is_no_quantity_is_refused),
        cmocka_unit_test(values_round_up),
        cmocka_unit_test(sums_and_comparisons_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
