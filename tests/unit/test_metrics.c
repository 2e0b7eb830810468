#include "net_fixture.h"

#include "net/metrics.h"

#include <string.h>

static void metrics_of_one_name_stand_together_under_one_heading(void **state) {
    struct metric *a = metric_get(METRIC_COUNTER, "selvage_t_total", "Things.", "kind=\"a\"");
    struct metric *other = metric_get(METRIC_GAUGE, "selvage_other", "Other.", NULL);
    struct metric *b = metric_get(METRIC_COUNTER, "selvage_t_total", "Things.", "kind=\"b\"");
    assert_ptr_equal(metric_get(METRIC_COUNTER, "selvage_t_total", "Things.", "kind=\"a\""), a);
    metric_add(a, 2);
    metric_add(b, 3);
    metric_set(other, -4);
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    assert_int_equal(metrics_write(&out), 0);
    assert_non_null(strstr(out.ptr, "# HELP selvage_t_total Things.\n# TYPE selvage_t_total counter\n"
                                    "selvage_t_total{kind=\"a\"} 2\nselvage_t_total{kind=\"b\"} 3\n"));
    assert_non_null(strstr(out.ptr, "# TYPE selvage_other gauge\nselvage_other -4\n"));
}

static void the_process_shows_itself(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    assert_int_equal(metrics_write(&out), 0);
    assert_non_null(strstr(out.ptr, "\nprocess_resident_memory_bytes "));
    assert_null(strstr(out.ptr, "\nprocess_resident_memory_bytes 0\n"));
    const char *start = strstr(out.ptr, "\nprocess_start_time_seconds ");
    assert_non_null(start);
    assert_true(strtod(start + strlen("\nprocess_start_time_seconds "), NULL) > 1.6e9);
    assert_non_null(strstr(out.ptr, "selvage_build_info{version=\""));
    _cleanup_(buf_free) struct buf small = BUF_INIT(20);
    assert_int_equal(metrics_write(&small), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_of_one_name_stand_together_under_one_heading),
        cmocka_unit_test(the_process_shows_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
