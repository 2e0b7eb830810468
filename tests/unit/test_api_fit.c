/* The scheduler's filters. */
#include "apiserver/controllers/fit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static bool fits(const char *pod_spec, const char *node_text, bool ready, char *reason) {
    char pod_text[2048];
    snprintf(pod_text, sizeof(pod_text), "{\"spec\":%s}", pod_spec);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *pod = json_parse(bytes_str(pod_text), 4096, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *node = json_parse(bytes_str(node_text), 4096, NULL);
    assert_non_null(pod);
    assert_non_null(node);
    return fit_node(yyjson_doc_get_root(pod), yyjson_doc_get_root(node), ready, reason);
}

static const char node[] = "{\"metadata\":{\"name\":\"n1\",\"labels\":{\"zone\":\"a\",\"cpus\":\"4\"}},\"spec\":{}}";
static const char tainted[] = "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"taints\":[{\"key\":\"k\",\"value\":\"v\","
                              "\"effect\":\"NoSchedule\"},{\"key\":\"soft\",\"effect\":\"PreferNoSchedule\"}]}}";

static void the_node_selector_must_match(void **state) {
    char why[FIT_REASON_SIZE];
    assert_true(fits("{}", node, true, why));
    assert_true(fits("{\"nodeSelector\":{\"zone\":\"a\"}}", node, true, why));
    assert_false(fits("{\"nodeSelector\":{\"zone\":\"b\"}}", node, true, why));
    assert_string_equal(why, "node(s) didn't match Pod's node affinity/selector");
}

#define AFFINITY(terms)                                                                                           \
    "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":" \
    "[" terms "]}}}}"
#define EXPRESSION(key, op, values) \
    "{\"matchExpressions\":[{\"key\":\"" key "\",\"operator\":\"" op "\",\"values\":[" values "]}]}"

static void required_node_affinity_knows_all_operators(void **state) {
    char why[FIT_REASON_SIZE];
    assert_true(fits(AFFINITY(EXPRESSION("zone", "In", "\"a\",\"b\"")), node, true, why));
    assert_false(fits(AFFINITY(EXPRESSION("zone", "NotIn", "\"a\"")), node, true, why));
    assert_true(fits(AFFINITY(EXPRESSION("gpu", "NotIn", "\"a\"")), node, true, why));
    assert_false(fits(AFFINITY(EXPRESSION("gpu", "Exists", "")), node, true, why));
    assert_true(fits(AFFINITY(EXPRESSION("gpu", "DoesNotExist", "")), node, true, why));
    assert_true(fits(AFFINITY(EXPRESSION("cpus", "Gt", "\"3\"")), node, true, why));
    assert_false(fits(AFFINITY(EXPRESSION("cpus", "Lt", "\"4\"")), node, true, why));
    assert_true(fits(AFFINITY(EXPRESSION("gpu", "Exists", "") "," EXPRESSION("zone", "Exists", "")), node, true, why));
    assert_false(fits(AFFINITY("{}"), node, true, why));
}

static void taints_need_a_toleration(void **state) {
    char why[FIT_REASON_SIZE];
    assert_false(fits("{}", tainted, true, why));
    assert_string_equal(why, "node(s) had untolerated taint {k: v}");
    assert_true(fits("{\"tolerations\":[{\"key\":\"k\",\"value\":\"v\"}]}", tainted, true, why));
    assert_true(fits("{\"tolerations\":[{\"operator\":\"Exists\"}]}", tainted, true, why));
    assert_false(fits("{\"tolerations\":[{\"key\":\"k\",\"value\":\"w\"}]}", tainted, true, why));
    assert_false(fits("{\"tolerations\":[{\"key\":\"k\",\"operator\":\"Exists\",\"effect\":\"NoExecute\"}]}", tainted,
                      true, why));
}

static void only_ready_and_schedulable_nodes_take_pods(void **state) {
    char why[FIT_REASON_SIZE];
    assert_false(fits("{}", node, false, why));
    assert_string_equal(why, "node(s) were not ready");
    assert_false(fits("{}", "{\"metadata\":{},\"spec\":{\"unschedulable\":true}}", true, why));
    assert_string_equal(why, "node(s) were unschedulable");
}

static void what_is_not_honoured_is_said(void **state) {
    static const char anti[] = "{\"spec\":{\"affinity\":{\"podAntiAffinity\":{"
                               "\"requiredDuringSchedulingIgnoredDuringExecution\":[{\"topologyKey\":\"x\"}]}}}}";
    _cleanup_(yyjson_doc_free_p) yyjson_doc *pod = json_parse(bytes_str(anti), 4096, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *plain = json_parse(bytes_str("{\"spec\":{}}"), 4096, NULL);
    assert_non_null(fit_unsupported(yyjson_doc_get_root(pod)));
    assert_null(fit_unsupported(yyjson_doc_get_root(plain)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_node_selector_must_match), cmocka_unit_test(required_node_affinity_knows_all_operators),
        cmocka_unit_test(taints_need_a_toleration),     cmocka_unit_test(only_ready_and_schedulable_nodes_take_pods),
        cmocka_unit_test(what_is_not_honoured_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
