#include "kube/selector.h"

#include "base/str.h"

#include "json_testing.h"

static bool labels_match(const char *selector, const char *labels) {
    _cleanup_(selector_free_p) struct selector *s = NULL;
    struct error err = ERROR_INIT;
    if (selector_parse_labels(bytes_str(selector), &s, &err) < 0)
        fail_msg("%s: %s", selector, err.msg);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(labels);
    return selector_match_labels(s, yyjson_doc_get_root(doc));
}

static void every_operator_of_label_selectors_matches(void **state) {
    assert_true(labels_match("", "{}"));
    assert_true(labels_match("a=b", "{'a':'b'}"));
    assert_true(labels_match("a==b", "{'a':'b'}"));
    assert_false(labels_match("a=b", "{'a':'c'}"));
    assert_false(labels_match("a=b", "{}"));
    assert_true(labels_match("a!=b", "{'a':'c'}"));
    assert_true(labels_match("a!=b", "{}"));
    assert_true(labels_match("a in (b,c)", "{'a':'c'}"));
    assert_false(labels_match("a in (b, c)", "{'a':'d'}"));
    assert_true(labels_match("a notin (b,c)", "{}"));
    assert_false(labels_match("a notin (b,c)", "{'a':'b'}"));
    assert_true(labels_match("a", "{'a':''}"));
    assert_false(labels_match("!a", "{'a':''}"));
    assert_true(labels_match("!a", "{}"));
    assert_true(labels_match("n>3", "{'n':'10'}"));
    assert_false(labels_match("n<3", "{'n':'10'}"));
    assert_false(labels_match("n>3", "{'n':'x'}"));
    assert_true(labels_match("a=,b=1", "{'a':'','b':'1'}"));
    assert_true(
        labels_match(" app.kubernetes.io/name = web , tier in ( x , ) ", "{'app.kubernetes.io/name':'web','tier':''}"));
    assert_true(labels_match("in=in,notin", "{'in':'in','notin':''}"));
}

static void malformed_selectors_are_refused(void **state) {
    static const char *const labels[] = {"a=b,", ",",  "a in b", "a in (b", "a=b c", "=b",    "a!b",     "!a=b",
                                         "a>x",  "-a", "a=-b",   "a=(b)",   "a b",   "a/b/c", "a in ()x"};
    static const char *const fields[] = {"a", "=b", "a=b=c", "a=\\", "a=\\x", "a>b"};
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        struct selector *s = NULL;
        if (selector_parse_labels(bytes_str(labels[i]), &s, NULL) == 0)
            fail_msg("accepted: %s", labels[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct selector *s = NULL;
        if (selector_parse_fields(bytes_str(fields[i]), &s, NULL) == 0)
            fail_msg("accepted: %s", fields[i]);
    }
}

static const char *get_field(void *arg, const char *field) {
    return str_eq(field, "spec.nodeName") ? arg : "";
}

static bool fields_match(const char *selector, const char *node) {
    _cleanup_(selector_free_p) struct selector *s = NULL;
    assert_int_equal(selector_parse_fields(bytes_str(selector), &s, NULL), 0);
    return selector_match_fields(s, get_field, (void *)node);
}

static void field_selectors_compare_and_unescape(void **state) {
    assert_true(fields_match("spec.nodeName=n1", "n1"));
    assert_true(fields_match("spec.nodeName==n1,other=", "n1"));
    assert_false(fields_match("spec.nodeName!=n1", "n1"));
    assert_true(fields_match("spec.nodeName=a\\,b\\=c\\\\", "a,b=c\\"));
    assert_true(fields_match("", "n1"));
}

static void fields_and_their_equalities_can_be_listed(void **state) {
    _cleanup_(selector_free_p) struct selector *s = NULL;
    const char *equals;
    assert_int_equal(selector_parse_fields(BYTES_LIT("a=1,b!=2"), &s, NULL), 0);
    assert_string_equal(selector_field(s, 0, &equals), "a");
    assert_string_equal(equals, "1");
    assert_string_equal(selector_field(s, 1, &equals), "b");
    assert_null(equals);
    assert_null(selector_field(s, 2, &equals));
    assert_false(selector_is_empty(s));
    assert_true(selector_is_empty(NULL));
}

static bool object_matches(const char *selector, const char *labels) {
    _cleanup_(selector_free_p) struct selector *s = NULL;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(selector), *l = test_json(labels);
    assert_int_equal(selector_from_object(yyjson_doc_get_root(doc), &s, NULL), 0);
    return selector_match_labels(s, yyjson_doc_get_root(l));
}

static void label_selector_objects_match(void **state) {
    assert_true(object_matches("{}", "{'a':'b'}"));
    assert_false(object_matches("null", "{'a':'b'}"));
    assert_true(object_matches("{'matchLabels':{'a':'b'}}", "{'a':'b'}"));
    assert_false(
        object_matches("{'matchLabels':{'a':'b'},'matchExpressions':[{'key':'c','operator':'Exists'}]}", "{'a':'b'}"));
    assert_true(object_matches("{'matchExpressions':[{'key':'a','operator':'In','values':['x','b']},"
                               "{'key':'z','operator':'DoesNotExist'},{'key':'a','operator':'NotIn','values':['q']}]}",
                               "{'a':'b'}"));
    struct selector *s = NULL;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *bad = test_json("{'matchExpressions':[{'key':'a','operator':'Like'}]}");
    assert_int_equal(selector_from_object(yyjson_doc_get_root(bad), &s, NULL), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator_of_label_selectors_matches),
        cmocka_unit_test(malformed_selectors_are_refused),
        cmocka_unit_test(field_selectors_compare_and_unescape),
        cmocka_unit_test(fields_and_their_equalities_can_be_listed),
        cmocka_unit_test(label_selector_objects_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
