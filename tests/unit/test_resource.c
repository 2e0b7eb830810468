#include "base/mem.h"
#include "wire/resource.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void segments_are_namespace_type_and_name(void **state) {
    struct resource r;
    assert_int_equal(resource_parse(BYTES_LIT("default/pod/web-1"), &r, NULL), 0);
    assert_true(bytes_eq_str(r.ns, "default"));
    assert_true(bytes_eq_str(r.type, "pod"));
    assert_true(bytes_eq_str(r.name, "web-1"));
    assert_int_equal(resource_parse(BYTES_LIT("default/podlist"), &r, NULL), 0);
    assert_int_equal(r.name.len, 0);
}

static void the_namespace_null_is_cluster_scope(void **state) {
    struct resource r;
    assert_int_equal(resource_parse(BYTES_LIT("null/node/edge-1"), &r, NULL), 0);
    assert_int_equal(r.ns.len, 0);
}

static void anything_but_two_or_three_full_segments_is_refused(void **state) {
    static const char *const bad[] = {"", "/", "a", "a/", "/b", "a//c", "a/b/", "a/b/c/d", "//"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct resource r;
        struct error err = ERROR_INIT;
        assert_int_equal(resource_parse(bytes_str(bad[i]), &r, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void the_cloud_s_form_gives_node_and_rest(void **state) {
    struct bytes node, rest;
    assert_true(resource_split_node(BYTES_LIT("node/edge-1/default/pod/web"), &node, &rest));
    assert_true(bytes_eq_str(node, "edge-1"));
    assert_true(bytes_eq_str(rest, "default/pod/web"));
    assert_true(resource_split_node(BYTES_LIT("node/edge-1/a//b"), &node, &rest));
    assert_true(bytes_eq_str(rest, "a//b"));
    static const char *const other[] = {"",        "node",      "node/",          "node/edge-1", "node/edge-1/",
                                        "node//x", "nodes/a/b", "default/pod/web"};
    for (size_t i = 0; i < ARRAY_LEN(other); i++)
        assert_false(resource_split_node(bytes_str(other[i]), &node, &rest));
}

static void what_is_formatted_reads_back(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(100);
    assert_int_equal(resource_format(&out, "default", "pod", "web"), 0);
    assert_string_equal(out.ptr, "default/pod/web");
    buf_clear(&out);
    assert_int_equal(resource_format(&out, "", "node", NULL), 0);
    assert_string_equal(out.ptr, "null/node");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_namespace_type_and_name),
        cmocka_unit_test(the_namespace_null_is_cluster_scope),
        cmocka_unit_test(anything_but_two_or_three_full_segments_is_refused),
        cmocka_unit_test(the_cloud_s_form_gives_node_and_rest),
        cmocka_unit_test(what_is_formatted_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
