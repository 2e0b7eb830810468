/* Objects on their way down, patches on their way up, and the shapes of answers. */
#include "cloud/edgecontroller/internal.h"

#include "cloud_testing.h"

static bool changed(const char *a, const char *b) {
    yyjson_doc *x = json_of(a), *y = json_of(b);
    bool r = object_changed(yyjson_doc_get_root(x), yyjson_doc_get_root(y));
    yyjson_doc_free(x);
    yyjson_doc_free(y);
    return r;
}

static void status_reports_are_no_change(void **state) {
    assert_false(
        changed("{'metadata':{'name':'x','resourceVersion':'1'},'spec':{'a':1},'status':{}}",
                "{'metadata':{'resourceVersion':'2','generation':3,'managedFields':[],'name':'x'},'spec':{'a':1},"
                "'status':{'phase':'Running'}}"));
}

static void spec_and_metadata_are(void **state) {
    assert_true(changed("{'metadata':{'name':'x'},'spec':{'a':1}}", "{'metadata':{'name':'x'},'spec':{'a':2}}"));
    assert_true(changed("{'metadata':{'name':'x'}}", "{'metadata':{'name':'x'},'spec':{}}"));
    assert_true(changed("{'metadata':{'name':'x'}}", "{'metadata':{'name':'x','labels':{}}}"));
    assert_true(
        changed("{'metadata':{'name':'x','labels':{'a':'b'}}}", "{'metadata':{'name':'x','labels':{'a':'c'}}}"));
    assert_true(changed("{'metadata':{'name':'x','deletionTimestamp':'t'}}", "{'metadata':{'name':'x'}}"));
}

static void a_status_patch_cannot_reach_beyond_the_status(void **state) {
    size_t len;
    yyjson_doc *d = json_of("{'metadata':{'uid':'u','labels':{'a':'b'},'annotations':{'n':'1'},'finalizers':null},"
                            "'spec':{'nodeName':'other'},'$patch':'replace','status':{'phase':'Running'}}");
    _cleanup_(free_p) char *pod = status_patch_for_api(yyjson_doc_get_root(d), false, NULL, &len);
    assert_string_equal(pod, "{\"metadata\":{\"uid\":\"u\"},\"status\":{\"phase\":\"Running\"}}");
    _cleanup_(free_p) char *node = status_patch_for_api(yyjson_doc_get_root(d), true, NULL, &len);
    assert_non_null(strstr(node, "annotations"));
    assert_null(strstr(node, "labels"));
    _cleanup_(free_p) char *claimed = status_patch_for_api(yyjson_doc_get_root(d), false, "known", &len);
    assert_string_equal(claimed, pod);
    yyjson_doc_free(d);
    d = json_of("{'status':{'phase':'Running'}}");
    _cleanup_(free_p) char *meant = status_patch_for_api(yyjson_doc_get_root(d), false, "known", &len);
    assert_string_equal(meant, "{\"metadata\":{\"uid\":\"known\"},\"status\":{\"phase\":\"Running\"}}");
    yyjson_doc_free(d);
    yyjson_doc *text = json_of("'not an object'");
    assert_null(status_patch_for_api(yyjson_doc_get_root(text), true, NULL, &len));
    yyjson_doc_free(text);
}

static void a_node_registers_under_its_own_name_with_labels_apart(void **state) {
    size_t len;
    _cleanup_(free_p) char *labels = NULL;
    yyjson_doc *d = json_of("{'metadata':{'name':'other','uid':'x','labels':{'kubernetes.io/os':'linux','room':'3',"
                            "'node-role.kubernetes.io/edge':'','node-restriction.kubernetes.io/safe':'yes',"
                            "'node-role.kubernetes.io/control-plane':''}},'spec':{},'status':{}}");
    _cleanup_(free_p) char *text = node_for_api(yyjson_doc_get_root(d), "edge-1", "10.0.0.1", true, &len, &labels);
    yyjson_doc_free(d);
    d = yyjson_read(text, len, 0);
    yyjson_val *n = yyjson_doc_get_root(d);
    assert_string_equal(object_name(n), "edge-1");
    assert_string_equal(object_annotation(n, "cloudcore"), "10.0.0.1");
    assert_string_equal(object_label(n, "room"), "3");
    assert_null(object_label(n, "kubernetes.io/os"));
    assert_null(json_get(n, "metadata", "uid"));
    assert_null(strstr(labels, "node-restriction"));
    assert_null(strstr(labels, "control-plane"));
    assert_non_null(strstr(labels, "node-role.kubernetes.io/edge"));
    assert_non_null(strstr(labels, "kubernetes.io/os"));
    yyjson_doc_free(d);
}

static void a_node_update_is_labels_and_annotations(void **state) {
    size_t len;
    yyjson_doc *d = json_of("{'metadata':{'name':'n','labels':{'a':'b','node-restriction.kubernetes.io/x':'y'},"
                            "'annotations':{'k':'v'},'finalizers':[]},'spec':{'taints':[]}}");
    _cleanup_(free_p) char *text = node_metadata_patch(yyjson_doc_get_root(d), &len);
    assert_string_equal(text, "{\"metadata\":{\"labels\":{\"a\":\"b\"},\"annotations\":{\"k\":\"v\"}}}");
    yyjson_doc_free(d);
}

static void managed_fields_stay_in_the_cloud(void **state) {
    size_t len;
    yyjson_doc *d = json_of("{'metadata':{'name':'n','managedFields':[{'manager':'x'}]},'data':{'a':'b'}}");
    _cleanup_(free_p) char *text = object_for_edge(yyjson_doc_get_root(d), &len);
    assert_string_equal(text, "{\"metadata\":{\"name\":\"n\"},\"data\":{\"a\":\"b\"}}");
    yyjson_doc_free(d);
}

static void answers_have_the_shapes_of_the_wire(void **state) {
    size_t len;
    yyjson_doc *d = json_of("{'a':1}");
    _cleanup_(free_p) char *object = answer_success(ANSWER_OBJECT, yyjson_doc_get_root(d), &len);
    assert_string_equal(object, "{\"a\":1}");
    _cleanup_(free_p) char *pair = answer_success(ANSWER_PAIR, yyjson_doc_get_root(d), &len);
    assert_string_equal(pair, "{\"Object\":{\"a\":1},\"Err\":null}");
    _cleanup_(free_p) char *ok = answer_success(ANSWER_OK, NULL, &len);
    assert_string_equal(ok, "\"OK\"");
    yyjson_doc_free(d);
}

static void failures_are_told_as_a_status(void **state) {
    size_t len;
    struct error err = ERROR_INIT;
    error_set(&err, ERR_DENIED, "not yours");
    _cleanup_(free_p) char *own = answer_failure(ANSWER_OBJECT, NULL, &err, "secrets", "s", &len);
    yyjson_doc *d = yyjson_read(own, len, 0);
    yyjson_val *s = json_get(yyjson_doc_get_root(d), "ErrStatus");
    assert_string_equal(json_str(s, "reason"), "Forbidden");
    assert_int_equal(json_int_or(json_get(s, "code"), 0), 403);
    assert_string_equal(json_str(s, "message"), "not yours");
    assert_true(yyjson_is_obj(json_get(s, "metadata")));
    assert_string_equal(json_str(s, "details", "name"), "s");
    yyjson_doc_free(d);

    yyjson_doc *status =
        json_of("{'kind':'Status','metadata':{'x':1},'status':'Failure','message':'m','reason':'Conflict',"
                "'code':409}");
    _cleanup_(free_p) char *pair = answer_failure(ANSWER_PAIR, yyjson_doc_get_root(status), &err, "pods", "p", &len);
    yyjson_doc_free(status);
    d = yyjson_read(pair, len, 0);
    s = json_get(yyjson_doc_get_root(d), "Err", "ErrStatus");
    assert_string_equal(json_str(s, "reason"), "Conflict");
    assert_int_equal(yyjson_obj_size(json_get(s, "metadata")), 0);
    assert_true(yyjson_is_obj(json_get(yyjson_doc_get_root(d), "Object")));
    yyjson_doc_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_reports_are_no_change),
        cmocka_unit_test(spec_and_metadata_are),
        cmocka_unit_test(a_status_patch_cannot_reach_beyond_the_status),
        cmocka_unit_test(a_node_registers_under_its_own_name_with_labels_apart),
        cmocka_unit_test(a_node_update_is_labels_and_annotations),
        cmocka_unit_test(managed_fields_stay_in_the_cloud),
        cmocka_unit_test(answers_have_the_shapes_of_the_wire),
        cmocka_unit_test(failures_are_told_as_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
