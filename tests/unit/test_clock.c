#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void times_are_written_as_rfc_3339(void **state) {
    char text[RFC3339_SIZE];
    assert_string_equal(rfc3339_seconds(0, text), "1970-01-01T00:00:00Z");
    assert_string_equal(rfc3339_seconds(1700000000, text), "2023-11-14T22:13:20Z");
    assert_string_equal(rfc3339_micro(1700000000000042, text), "2023-11-14T22:13:20.000042Z");
    assert_string_equal(rfc3339_nano(1700000000000000042, text), "2023-11-14T22:13:20.000000042Z");
    assert_string_equal(rfc3339_micro(-1, text), "1969-12-31T23:59:59.999999Z");
    assert_string_equal(rfc3339_seconds(INT64_MAX, text), "9999-12-31T23:59:59Z");
    assert_string_equal(rfc3339_seconds(INT64_MIN, text), "0001-01-01T00:00:00Z");
}

static void fractions_and_offsets_are_read(void **state) {
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2023-11-14T22:13:20.5Z", 1700000000500000000},
        {"2023-11-14t22:13:20.1234567891z", 1700000000123456789},
        {"2023-11-15T00:13:20+02:00", 1700000000000000000},
        {"2023-11-14T16:43:20-05:30", 1700000000000000000},
        {"2024-02-29T00:00:00Z", 1709164800000000000},
        {"1969-12-31T23:59:59.999999999Z", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        int64_t ns = 1;
        assert_int_equal(rfc3339_parse(bytes_str(good[i].text), &ns), 0);
        assert_true(ns == good[i].ns);
    }
}

static void what_is_not_a_time_is_refused(void **state) {
    static const char *const bad[] = {
        "",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-11-14 22:13:20Z",
        "2023-02-29T00:00:00Z",
        "2023-13-01T00:00:00Z",
        "2023-00-01T00:00:00Z",
        "2023-11-14T24:00:00Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20+2:00",
        "2023-11-14T22:13:20Zx",
        "9999-12-31T23:59:59Z",
        "+023-11-14T22:13:20Z",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t ns;
        assert_int_equal(rfc3339_parse(bytes_str(bad[i]), &ns), -1);
    }
}

static void what_is_written_is_read_back(void **state) {
    char text[RFC3339_SIZE];
    int64_t ns = clock_wall_ms() * 1000000 + 123456, back = 0;
    assert_int_equal(rfc3339_parse(bytes_str(rfc3339_nano(ns, text)), &back), 0);
    assert_true(back == ns);
    assert_true(clock_mono_ms() <= clock_mono_ns() / 1000000);
}

static void ids_are_random_and_well_formed(void **state) {
    char a[UUID_SIZE], b[UUID_SIZE];
    uuid_v4(a);
    uuid_v4(b);
    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), 36);
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    char suffix[6];
    random_name_suffix(suffix, 5);
    assert_int_equal(strlen(suffix), 5);
    assert_true(dns_label_valid(bytes_str(suffix)));
}

static void random_numbers_stay_within_their_bounds(void **state) {
    for (int i = 0; i < 1000; i++) {
        assert_true(random_below(7) < 7);
        int64_t v = random_jitter(1000, 10);
        assert_true(v >= 900 && v <= 1100);
    }
    assert_int_equal(random_below(1), 0);
    assert_int_equal(random_jitter(0, 10), 0);
    assert_int_equal(random_jitter(5, 0), 5);
    assert_true(random_jitter(INT64_MAX, 100) >= 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_written_as_rfc_3339),  cmocka_unit_test(fractions_and_offsets_are_read),
        cmocka_unit_test(what_is_not_a_time_is_refused),  cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(ids_are_random_and_well_formed), cmocka_unit_test(random_numbers_stay_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
