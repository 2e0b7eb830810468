/* Registers to values and back, and which registers are read together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attrs.h"
#include "base/error.h"
#include "mapper/modbus/point.h"

#include <string.h>

static void expect_text(const struct point *p, enum mapper_type type, const uint16_t *words, const char *text) {
    struct mapper_value v = {.type = type};
    char got[MAPPER_TEXT_MAX];
    assert_null(point_decode(p, words, &v));
    mapper_value_text(&v, got);
    assert_string_equal(got, text);
}

static void registers_become_the_values_that_they_stand_for(void **state) {
    static const uint16_t w[] = {0x4248, 0xF5C3, 0xFFFE, 615, 0x4142, 0x4300, 0, 0};
    const struct point ieee = {.form = POINT_IEEE, .count = 2, .scale = 1},
                       swapped = {.form = POINT_IEEE, .count = 2, .scale = 1, .swap_registers = true},
                       negative = {.form = POINT_INTEGER, .count = 1, .scale = 1, .is_signed = true},
                       plain = {.form = POINT_INTEGER, .count = 1, .scale = 1},
                       tenths = {.form = POINT_INTEGER, .count = 1, .scale = 0.1},
                       bytes = {.form = POINT_INTEGER, .count = 1, .scale = 1, .swap_bytes = true},
                       text = {.form = POINT_TEXT, .count = 2, .scale = 1};
    const uint16_t turned[] = {w[1], w[0]};
    expect_text(&ieee, MAPPER_FLOAT, w, "50.24");
    expect_text(&swapped, MAPPER_FLOAT, turned, "50.24");
    expect_text(&negative, MAPPER_INT, w + 2, "-2");
    expect_text(&plain, MAPPER_INT, w + 2, "65534");
    expect_text(&tenths, MAPPER_FLOAT, w + 3, "61.5");
    expect_text(&bytes, MAPPER_INT, w + 2, "65279");
    expect_text(&text, MAPPER_STRING, w + 4, "ABC");
}

static void a_value_that_was_written_reads_back(void **state) {
    static const int counts[] = {1, 2, 4};
    for (unsigned i = 0; i < 24; i++) {
        const struct point p = {.form = i < 12 || i % 3 == 0 ? POINT_INTEGER : POINT_IEEE,
                                .count = counts[i % 3],
                                .scale = 1,
                                .swap_bytes = i / 3 % 2,
                                .swap_registers = i / 6 % 2};
        struct mapper_value v = {.type = MAPPER_DOUBLE, .d = 1234}, back = {.type = MAPPER_DOUBLE};
        uint16_t words[POINT_WORDS_MAX];
        assert_int_equal(point_encode(&p, &v, words, NULL), 0);
        assert_null(point_decode(&p, words, &back));
        assert_true(back.d > 1233.99 && back.d < 1234.01);
    }
}

static void a_value_that_does_not_fit_is_refused(void **state) {
    const struct point p = {.form = POINT_INTEGER, .count = 1, .scale = 1};
    struct mapper_value v = {.type = MAPPER_INT, .i = 65536};
    uint16_t words[POINT_WORDS_MAX];
    struct error err = ERROR_INIT;
    bool on;
    assert_int_equal(point_encode(&p, &v, words, &err), -1);
    v.i = -1;
    assert_int_equal(point_encode(&p, &v, words, &err), -1);
    assert_int_equal(point_encode_bit(&v, &on, &err), -1);
}

static void neighbours_are_read_with_one_request(void **state) {
    const struct point a = {.where = POINT_HOLDING, .offset = 10, .count = 2},
                       b = {.where = POINT_HOLDING, .offset = 12, .count = 1},
                       far = {.where = POINT_HOLDING, .offset = 200, .count = 1},
                       coil = {.where = POINT_COIL, .offset = 12, .count = 1},
                       near = {.where = POINT_HOLDING, .offset = 16, .count = 1};
    const struct point *points[] = {&far, &b, &coil, &a, &near};
    struct point_batch batches[5];
    size_t order[5];
    assert_int_equal(point_batches(points, order, 5, 8, batches), 3); /* the coil, 10 to 16, 200 */
    assert_int_equal(batches[1].offset, 10);
    assert_int_equal(batches[1].count, 7);
    assert_int_equal(batches[1].n, 3);
    assert_int_equal(point_batches(points, order, 5, 0, batches), 4);
}

static void a_request_never_passes_what_a_device_answers(void **state) {
    struct point points[400];
    const struct point *p[400];
    struct point_batch batches[400];
    size_t order[400], n, seen = 0;
    for (int i = 0; i < 400; i++) {
        points[i] = (struct point){.where = POINT_HOLDING, .offset = i, .count = 1};
        p[i] = &points[i];
    }
    n = point_batches(p, order, 400, 8, batches);
    for (size_t i = 0; i < n; i++) {
        assert_true(batches[i].count <= POINT_WORDS_MAX);
        seen += batches[i].n;
    }
    assert_int_equal(seen, 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_become_the_values_that_they_stand_for),
        cmocka_unit_test(a_value_that_was_written_reads_back),
        cmocka_unit_test(a_value_that_does_not_fit_is_refused),
        cmocka_unit_test(neighbours_are_read_with_one_request),
        cmocka_unit_test(a_request_never_passes_what_a_device_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
