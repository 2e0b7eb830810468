/* What an update makes of a twin, and what is told of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "edge/devicetwin/twin.h"

static struct twin_device *device;
static struct buf result, document;
static bool changed;
static struct error err;

static int setup(void **state) {
    device = twin_device_new(BYTES_LIT("default/meter"));
    result = BUF_INIT(TWIN_JSON_MAX);
    document = BUF_INIT(TWIN_JSON_MAX);
    return 0;
}

static int teardown(void **state) {
    twin_device_free(device);
    buf_free(&result);
    buf_free(&document);
    return 0;
}

static int update(enum twin_origin origin, const char *text) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_str(text), 65536, NULL);
    assert_non_null(doc);
    buf_clear(&result);
    buf_clear(&document);
    err = (struct error)ERROR_INIT;
    return twin_update(device, yyjson_doc_get_root(doc), origin, 1000, &result, &document, &changed, &err);
}

static void a_new_twin_is_shown_whole_and_without_a_last_state(void **state) {
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"1\"}}}}"), 0);
    assert_true(changed);
    assert_string_equal(result.ptr, "{\"t\":{\"actual\":{\"value\":\"1\",\"metadata\":{\"timestamp\":1000}},"
                                    "\"optional\":true,\"metadata\":{\"type\":\"string\"}}}");
    assert_non_null(strstr(document.ptr, "{\"t\":{\"last\":null,\"current\":{"));
}

static void each_report_raises_the_version_of_its_part(void **state) {
    struct buf out = BUF_INIT(4096);
    for (int i = 0; i < 3; i++)
        assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"1\"}}}}"), 0);
    assert_true(twin_write_report(device, &out));
    assert_non_null(strstr(out.ptr, "\"actual_version\":{\"cloud\":0,\"edge\":3}"));
    assert_null(strstr(out.ptr, "expected_version"));
    buf_free(&out);
}

static void one_bad_twin_spoils_the_whole_request(void **state) {
    static const char *const bad[] = {
        "{\"twin\":{\"a\":{\"actual\":{\"value\":\"1\"}},\"b c\":{\"actual\":{\"value\":\"1\"}}}}",
        "{\"twin\":{\"a\":{\"actual\":{\"value\":\"two words\"}}}}",
        "{\"twin\":{\"a\":{\"actual\":{\"value\":\"x\"},\"metadata\":{\"type\":\"int\"}}}}",
        "{\"twin\":{\"a\":{\"actual\":{}}}}",
        "{\"twin\":{\"a\":{\"actual\":{\"value\":\"1\"},\"metadata\":{\"type\":\"colour\"}}}}",
        "{\"twin\":{\"a\":7}}",
        "{\"twin\":[]}",
        "{}",
        "{\"timestamp\":1.5,\"twin\":{\"a\":{\"actual\":{\"value\":\"1\"}}}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(update(TWIN_FROM_MQTT, bad[i]), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(device->twins);
    }
}

static void a_mapper_may_report_any_text_and_its_type_and_time(void **state) {
    assert_int_equal(update(TWIN_FROM_MAPPER, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"two words\",\"metadata\":{"
                                              "\"timestamp\":77}},\"metadata\":{\"type\":\"double\"}}}}"),
                     0);
    assert_non_null(strstr(result.ptr, "\"timestamp\":77"));
    assert_non_null(strstr(result.ptr, "\"type\":\"double\""));
}

static void member_names_count_in_any_case(void **state) {
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"TWIN\":{\"t\":{\"Actual\":{\"VALUE\":\"1\"}}}}"), 0);
    assert_string_equal(twin_find(device, "t")->actual.value, "1");
}

static void a_difference_is_a_delta(void **state) {
    struct buf delta = BUF_INIT(4096), twins = BUF_INIT(4096);
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"expected\":{\"value\":\"2\"}},"
                                            "\"u\":{\"actual\":{\"value\":\"1\"}}}}"),
                     0);
    assert_true(twin_write_delta(device, &delta, &twins));
    assert_string_equal(delta.ptr, "{\"t\":\"2\"}");
    assert_null(strstr(twins.ptr, "\"u\""));
    buf_clear(&delta);
    buf_clear(&twins);
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"2\"}}}}"), 0);
    assert_false(twin_write_delta(device, &delta, &twins));
    buf_free(&delta);
    buf_free(&twins);
}

static void a_deleted_twin_is_told_once_and_then_forgotten(void **state) {
    struct buf out = BUF_INIT(4096);
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"1\"}}}}"), 0);
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":null}}"), 0);
    assert_string_equal(result.ptr, "{\"t\":null}");
    assert_true(twin_write_report(device, &out));
    assert_non_null(strstr(out.ptr, "{\"t\":{\"expected\":{},\"actual\":{}"));
    twin_find(device, "t")->dirty = false; /* stored */
    twin_report_done(device, true);
    assert_null(twin_find(device, "t"));
    buf_free(&out);
}

static void what_changes_while_a_report_is_on_its_way_goes_with_the_next(void **state) {
    struct buf out = BUF_INIT(4096);
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"1\"}}}}"), 0);
    assert_true(twin_write_report(device, &out));
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"2\"}}}}"), 0);
    twin_report_done(device, true);
    assert_true(twin_has_report(device));
    buf_clear(&out);
    assert_true(twin_write_report(device, &out));
    twin_report_done(device, false); /* lost */
    assert_true(twin_has_report(device));
    buf_free(&out);
}

static void the_cloud_wins_only_with_a_newer_version(void **state) {
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"expected\":{\"value\":\"1\"}}}}"), 0);
    assert_int_equal(update(TWIN_FROM_CLOUD, "{\"twin\":{\"t\":{\"expected\":{\"value\":\"9\"},\"expected_version\":{"
                                             "\"cloud\":1,\"edge\":0}}}}"),
                     0);
    assert_string_equal(twin_find(device, "t")->expected.value, "1");
    assert_int_equal(update(TWIN_FROM_CLOUD, "{\"twin\":{\"t\":{\"expected\":{\"value\":\"9\"},\"expected_version\":{"
                                             "\"cloud\":1,\"edge\":1}}}}"),
                     0);
    assert_string_equal(twin_find(device, "t")->expected.value, "9");
}

static void a_row_reads_back_as_it_was_written(void **state) {
    struct buf row = BUF_INIT(4096);
    assert_int_equal(update(TWIN_FROM_MQTT, "{\"twin\":{\"t\":{\"actual\":{\"value\":\"1\"},\"optional\":false,"
                                            "\"metadata\":{\"type\":\"int\"}}}}"),
                     0);
    twin_write_row(device, twin_find(device, "t"), &row);
    struct twin_device *other = twin_device_new(BYTES_LIT("default/meter"));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(buf_bytes(&row), 65536, NULL);
    twin_read_row(other, yyjson_doc_get_root(doc));
    const struct twin *t = twin_find(other, "t");
    assert_non_null(t);
    assert_string_equal(t->actual.value, "1");
    assert_int_equal(t->actual.edge, 1);
    assert_null(t->expected.value);
    assert_false(t->optional);
    assert_string_equal(t->type, "int");
    twin_device_free(other);
    buf_free(&row);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_new_twin_is_shown_whole_and_without_a_last_state),
        TEST(each_report_raises_the_version_of_its_part),
        TEST(one_bad_twin_spoils_the_whole_request),
        TEST(a_mapper_may_report_any_text_and_its_type_and_time),
        TEST(member_names_count_in_any_case),
        TEST(a_difference_is_a_delta),
        TEST(a_deleted_twin_is_told_once_and_then_forgotten),
        TEST(what_changes_while_a_report_is_on_its_way_goes_with_the_next),
        TEST(the_cloud_wins_only_with_a_newer_version),
        TEST(a_row_reads_back_as_it_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
