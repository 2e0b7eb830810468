#include "kube/patch.h"

#include "base/str.h"

#include "json_testing.h"

typedef yyjson_mut_val *(*patch_fn)(yyjson_mut_doc *, yyjson_val *, yyjson_val *, struct error *);

static void check(patch_fn fn, const char *target, const char *patch, const char *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *t = test_json(target), *p = test_json(patch);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    yyjson_mut_val *v = fn(d, yyjson_doc_get_root(t), yyjson_doc_get_root(p), &err);
    if (!v)
        fail_msg("%s: %s", patch, err.msg);
    assert_json(v, expected);
}

static void refused(patch_fn fn, const char *target, const char *patch, enum error_code code) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *t = test_json(target), *p = test_json(patch);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    if (fn(d, yyjson_doc_get_root(t), yyjson_doc_get_root(p), &err))
        fail_msg("accepted: %s", patch);
    if (err.code != code)
        fail_msg("%s: %s", patch, err.msg);
}

/* ---- JSON patch ------------------------------------------------------------------------------------------------- */

static void json_patch_does_all_six_operations(void **state) {
    check(patch_json, "{'a':{'b':1}}", "[{'op':'add','path':'/a/c','value':[1]}]", "{'a':{'b':1,'c':[1]}}");
    check(patch_json, "{'a':[1,2]}", "[{'op':'add','path':'/a/1','value':9},{'op':'add','path':'/a/-','value':3}]",
          "{'a':[1,9,2,3]}");
    check(patch_json, "{'a':1,'b':2}", "[{'op':'remove','path':'/a'}]", "{'b':2}");
    check(patch_json, "{'a':[1,2]}", "[{'op':'replace','path':'/a/0','value':7}]", "{'a':[7,2]}");
    check(patch_json, "{'a':{'x':1}}", "[{'op':'move','from':'/a','path':'/b'}]", "{'b':{'x':1}}");
    check(patch_json, "{'a':{'x':1}}", "[{'op':'copy','from':'/a','path':'/b'},{'op':'add','path':'/b/y','value':2}]",
          "{'a':{'x':1},'b':{'x':1,'y':2}}");
    check(patch_json, "{'a':{'x':[1,2.0]}}", "[{'op':'test','path':'/a','value':{'x':[1,2]}}]", "{'a':{'x':[1,2]}}");
    check(patch_json, "{'a':1}", "[{'op':'replace','path':'','value':{'z':1}}]", "{'z':1}");
    check(patch_json, "{'a/b':1,'m~n':2,'':3}",
          "[{'op':'remove','path':'/a~1b'},{'op':'remove','path':'/m~0n'},{'op':'remove','path':'/'}]", "{}");
    check(patch_json, "{'a':1}", "[{'op':'move','from':'/a','path':'/a'}]", "{'a':1}");
}

static void a_json_patch_that_does_not_apply_is_invalid(void **state) {
    refused(patch_json, "{}", "[{'op':'add','path':'/data/d','value':1}]", ERR_INVALID);
    refused(patch_json, "{'a':1}", "[{'op':'test','path':'/a','value':2}]", ERR_INVALID);
    refused(patch_json, "{'a':1}", "[{'op':'test','path':'/b','value':2}]", ERR_INVALID);
    refused(patch_json, "{'a':1}", "[{'op':'remove','path':'/b'}]", ERR_INVALID);
    refused(patch_json, "{'a':1}", "[{'op':'replace','path':'/b','value':1}]", ERR_INVALID);
    refused(patch_json, "{'a':[1]}", "[{'op':'add','path':'/a/2','value':1}]", ERR_INVALID);
    refused(patch_json, "{'a':[1]}", "[{'op':'remove','path':'/a/-'}]", ERR_INVALID);
    refused(patch_json, "{'a':[1,2]}", "[{'op':'remove','path':'/a/01'}]", ERR_INVALID);
    refused(patch_json, "{'a':{}}", "[{'op':'move','from':'/a','path':'/a/b'}]", ERR_INVALID);
    refused(patch_json, "{'a':1}", "[{'op':'add','path':'/a/b','value':1}]", ERR_INVALID);
    refused(patch_json, "{'a':1}", "[{'op':'remove','path':''}]", ERR_INVALID);
}

static void a_malformed_json_patch_is_told_from_one_that_does_not_apply(void **state) {
    refused(patch_json, "{}", "{'op':'add'}", ERR_UNSUPPORTED);
    refused(patch_json, "{}", "[{'op':'add','path':'/a'}]", ERR_UNSUPPORTED);
    refused(patch_json, "{}", "[{'op':'add','path':'a','value':1}]", ERR_UNSUPPORTED);
    refused(patch_json, "{}", "[{'op':'frob','path':'/a','value':1}]", ERR_UNSUPPORTED);
    refused(patch_json, "{}", "[{'op':'copy','path':'/a'}]", ERR_UNSUPPORTED);
    refused(patch_json, "{}", "[1]", ERR_UNSUPPORTED);
}

static void copies_that_double_an_object_are_stopped(void **state) {
    _cleanup_(buf_free) struct buf patch = BUF_INIT(1 << 20);
    buf_add_str(&patch, "[{'op':'add','path':'/a','value':'");
    for (int i = 0; i < 1000; i++)
        buf_add_char(&patch, 'x');
    buf_add_str(&patch, "'}");
    for (int i = 0; i < 40; i++)
        buf_addf(&patch, ",{'op':'copy','from':'','path':'/b%d'}", i);
    buf_add_str(&patch, "]");
    refused(patch_json, "{}", patch.ptr, ERR_TOO_LARGE);
}

static void a_json_patch_cannot_make_an_object_too_deep(void **state) {
    _cleanup_(buf_free) struct buf patch = BUF_INIT(1 << 20), path = BUF_INIT(1 << 16);
    buf_add_str(&patch, "[{'op':'add','path':'/a','value':{}}");
    buf_add_str(&path, "/a");
    for (int i = 0; i < 200; i++) {
        buf_add_str(&path, "/a");
        buf_addf(&patch, ",{'op':'add','path':'%s','value':{}}", path.ptr);
    }
    buf_add_str(&patch, "]");
    refused(patch_json, "{}", patch.ptr, ERR_TOO_LARGE);
}

static void too_many_operations_are_refused(void **state) {
    _cleanup_(buf_free) struct buf patch = BUF_INIT(1 << 20);
    buf_add_char(&patch, '[');
    for (int i = 0; i <= PATCH_MAX_OPERATIONS; i++)
        buf_addf(&patch, "%s{'op':'add','path':'/a','value':1}", i ? "," : "");
    buf_add_char(&patch, ']');
    refused(patch_json, "{}", patch.ptr, ERR_TOO_LARGE);
}

/* ---- merge patch ------------------------------------------------------------------------------------------------ */

static void a_merge_patch_merges_objects_removes_nulls_and_replaces_lists(void **state) {
    check(patch_merge, "{'a':'b'}", "{'a':'c'}", "{'a':'c'}");
    check(patch_merge, "{'a':'b','b':'c'}", "{'a':null}", "{'b':'c'}");
    check(patch_merge, "{'a':['b']}", "{'a':['c','d']}", "{'a':['c','d']}");
    check(patch_merge, "{'a':{'b':'c'}}", "{'a':{'b':'d','c':null}}", "{'a':{'b':'d'}}");
    check(patch_merge, "{'a':[{'b':'c'}]}", "{'a':[1]}", "{'a':[1]}");
    check(patch_merge, "{'e':null}", "{'a':1}", "{'e':null,'a':1}");
    check(patch_merge, "{'a':'foo'}", "{'a':{'b':{'c':null}}}", "{'a':{'b':{}}}");
    check(patch_merge, "{'a':1}", "{}", "{'a':1}");
    refused(patch_merge, "{}", "[]", ERR_UNSUPPORTED);
    refused(patch_merge, "{}", "'x'", ERR_UNSUPPORTED);
}

/* ---- strategic merge -------------------------------------------------------------------------------------------- */

static yyjson_mut_val *patch_pod(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) {
    return patch_strategic(d, schema_find("", "v1", "Pod"), target, patch, err);
}
static yyjson_mut_val *patch_node(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) {
    return patch_strategic(d, schema_find("", "v1", "Node"), target, patch, err);
}
static yyjson_mut_val *patch_deployment(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) {
    return patch_strategic(d, schema_find("apps", "v1", "Deployment"), target, patch, err);
}

static void strategic_merge_merges_lists_by_their_keys(void **state) {
    check(patch_pod, "{'spec':{'containers':[{'name':'a','image':'x'},{'name':'b','image':'y'}]}}",
          "{'spec':{'containers':[{'name':'b','image':'z'},{'name':'c','image':'w'}]}}",
          "{'spec':{'containers':[{'name':'a','image':'x'},{'name':'b','image':'z'},{'name':'c','image':'w'}]}}");
    check(patch_pod,
          "{'spec':{'containers':[{'name':'a','env':[{'name':'X','value':'1'}],'ports':[{'containerPort':80}],"
          "'volumeMounts':[{'mountPath':'/a','name':'v'}]}]}}",
          "{'spec':{'containers':[{'name':'a','env':[{'name':'Y','value':'2'},{'name':'X','value':null}],"
          "'ports':[{'containerPort':80,'name':'web'}],'volumeMounts':[{'mountPath':'/a','readOnly':true}]}]}}",
          "{'spec':{'containers':[{'name':'a','env':[{'name':'X'},{'name':'Y','value':'2'}],"
          "'ports':[{'containerPort':80,'name':'web'}],"
          "'volumeMounts':[{'mountPath':'/a','name':'v','readOnly':true}]}]}}");
}

static void lists_without_a_key_are_replaced(void **state) {
    check(patch_pod, "{'spec':{'tolerations':[{'key':'a'}],'containers':[{'name':'a','args':['x','y']}]}}",
          "{'spec':{'tolerations':[{'key':'b'}],'containers':[{'name':'a','args':['z']}]}}",
          "{'spec':{'tolerations':[{'key':'b'}],'containers':[{'name':'a','args':['z']}]}}");
    check(patch_node, "{'spec':{'taints':[{'key':'a'},{'key':'b'}]}}", "{'spec':{'taints':[{'key':'c'}]}}",
          "{'spec':{'taints':[{'key':'c'}]}}");
}

static void scalar_lists_with_merge_become_sets(void **state) {
    check(patch_pod, "{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'finalizers':['b','c']}}",
          "{'metadata':{'finalizers':['a','b','c']}}");
    check(patch_pod, "{'metadata':{'finalizers':['a','b','c']}}",
          "{'metadata':{'$deleteFromPrimitiveList/finalizers':['b'],'$setElementOrder/finalizers':['c','a']}}",
          "{'metadata':{'finalizers':['c','a']}}");
}

static void patch_directives_delete_and_replace(void **state) {
    check(patch_pod, "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
          "{'spec':{'containers':[{'$patch':'delete','name':'a'}]}}", "{'spec':{'containers':[{'name':'b'}]}}");
    check(patch_pod, "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
          "{'spec':{'containers':[{'name':'c'},{'$patch':'replace'}]}}", "{'spec':{'containers':[{'name':'c'}]}}");
    check(patch_pod, "{'metadata':{'labels':{'a':'1','b':'2'}}}",
          "{'metadata':{'labels':{'$patch':'replace','c':'3'}}}", "{'metadata':{'labels':{'c':'3'}}}");
    check(patch_pod, "{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{'labels':{'$patch':'delete'}}}",
          "{'metadata':{'labels':{}}}");
    check(patch_pod, "{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{'labels':null}}", "{'metadata':{}}");
    check(patch_pod, "{}", "{'spec':{'containers':[{'$patch':'delete','name':'a'},{'name':'b','image':null}]}}",
          "{'spec':{'containers':[{'name':'b'}]}}");
}

static void set_element_order_sorts_and_keeps_server_elements_in_place(void **state) {
    check(patch_pod, "{'spec':{'containers':[{'name':'a'},{'name':'b'},{'name':'c'}]}}",
          "{'spec':{'$setElementOrder/containers':[{'name':'c'},{'name':'a'},{'name':'b'}]}}",
          "{'spec':{'containers':[{'name':'c'},{'name':'a'},{'name':'b'}]}}");
    check(patch_pod, "{'spec':{'containers':[{'name':'a'},{'name':'server'},{'name':'b'}]}}",
          "{'spec':{'$setElementOrder/containers':[{'name':'a'},{'name':'new'},{'name':'b'}],"
          "'containers':[{'name':'new'}]}}",
          "{'spec':{'containers':[{'name':'a'},{'name':'new'},{'name':'server'},{'name':'b'}]}}");
}

static void retain_keys_drops_what_is_not_named(void **state) {
    check(patch_deployment, "{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}",
          "{'spec':{'strategy':{'$retainKeys':['type'],'type':'Recreate'}}}",
          "{'spec':{'strategy':{'type':'Recreate'}}}");
    check(patch_pod, "{'spec':{'volumes':[{'name':'v','emptyDir':{}}]}}",
          "{'spec':{'volumes':[{'name':'v','$retainKeys':['name','hostPath'],'hostPath':{'path':'/x'}}]}}",
          "{'spec':{'volumes':[{'name':'v','hostPath':{'path':'/x'}}]}}");
    refused(patch_deployment, "{'spec':{'strategy':{}}}",
            "{'spec':{'strategy':{'$retainKeys':['type'],'rollingUpdate':{}}}}", ERR_INVALID);
}

static void malformed_strategic_patches_are_refused(void **state) {
    refused(patch_pod, "{}", "[]", ERR_UNSUPPORTED);
    refused(patch_pod, "{'spec':{'containers':[]}}", "{'spec':{'containers':[{'image':'x'}]}}", ERR_INVALID);
    refused(patch_pod, "{'spec':{'containers':[]}}", "{'spec':{'containers':['x']}}", ERR_INVALID);
    refused(patch_pod, "{}", "{'metadata':{'$patch':'merge'}}", ERR_INVALID);
    refused(patch_pod, "{}", "{'metadata':{'$patch':1}}", ERR_INVALID);
    refused(patch_pod, "{'metadata':{'finalizers':['a']}}", "{'metadata':{'finalizers':[['a']]}}", ERR_INVALID);
    refused(patch_pod, "{'spec':{'containers':[{'name':'a'}]}}", "{'spec':{'$setElementOrder/containers':{}}}",
            ERR_UNSUPPORTED);
    refused(patch_pod, "{'spec':{}}", "{'spec':{'$retainKeys':1}}", ERR_UNSUPPORTED);
}

static void node_status_merges_conditions_by_type_and_replaces_addresses_when_told(void **state) {
    check(patch_node,
          "{'status':{'conditions':[{'type':'MemoryPressure','status':'False','lastHeartbeatTime':'1'},"
          "{'type':'Ready','status':'True','lastHeartbeatTime':'1'}],"
          "'addresses':[{'type':'InternalIP','address':'192.0.2.5'},{'type':'Hostname','address':'edge-1'}]}}",
          "{'status':{'$setElementOrder/conditions':[{'type':'MemoryPressure'},{'type':'Ready'}],"
          "'conditions':[{'lastHeartbeatTime':'2','type':'MemoryPressure'},{'lastHeartbeatTime':'2','type':'Ready'}],"
          "'addresses':[{'address':'192.0.2.6','type':'InternalIP'},{'address':'edge-1','type':'Hostname'},"
          "{'$patch':'replace'}],'capacity':{'cpu':'2'}}}",
          "{'status':{'conditions':[{'type':'MemoryPressure','status':'False','lastHeartbeatTime':'2'},"
          "{'type':'Ready','status':'True','lastHeartbeatTime':'2'}],'capacity':{'cpu':'2'},"
          "'addresses':[{'address':'192.0.2.6','type':'InternalIP'},{'address':'edge-1','type':'Hostname'}]}}");
}

/* ---- making them ------------------------------------------------------------------------------------------------ */

/* What the patch is, and that it does turn one into the other. */
static void diff(const char *type, const char *from, const char *to, const char *expected) {
    const struct schema_type *t = schema_find("", "v1", type);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *a = test_json(from), *b = test_json(to);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    yyjson_mut_val *patch;
    assert_int_equal(patch_diff_strategic(d, t, yyjson_doc_get_root(a), yyjson_doc_get_root(b), &patch, &err), 0);
    if (!expected) {
        assert_null(patch);
        return;
    }
    assert_json(patch, expected);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *p = yyjson_mut_val_imut_copy(patch, NULL);
    yyjson_mut_val *result = patch_strategic(d, t, yyjson_doc_get_root(a), yyjson_doc_get_root(p), &err);
    assert_json(result, to);
}

static void a_heartbeat_is_the_patch_that_a_kubelet_sends(void **state) {
    diff("Node",
         "{'status':{'conditions':[{'type':'MemoryPressure','status':'False','lastHeartbeatTime':'2026-01-02T03:04:05Z'"
         "},"
         "{'type':'Ready','status':'True','lastHeartbeatTime':'2026-01-02T03:04:05Z'}]}}",
         "{'status':{'conditions':[{'type':'MemoryPressure','status':'False','lastHeartbeatTime':'2026-01-02T03:09:05Z'"
         "},"
         "{'type':'Ready','status':'True','lastHeartbeatTime':'2026-01-02T03:09:05Z'}]}}",
         "{'status':{'$setElementOrder/conditions':[{'type':'MemoryPressure'},{'type':'Ready'}],"
         "'conditions':[{'lastHeartbeatTime':'2026-01-02T03:09:05Z','type':'MemoryPressure'},"
         "{'lastHeartbeatTime':'2026-01-02T03:09:05Z','type':'Ready'}]}}");
}

static void addresses_of_one_type_are_sent_whole(void **state) {
    diff(
        "Node",
        "{'status':{'addresses':[{'type':'InternalIP','address':'192.0.2.5'},{'type':'InternalIP','address':'2001::1'}]"
        "}}",
        "{'status':{'addresses':[{'type':'InternalIP','address':'192.0.2.6'},{'type':'InternalIP','address':'2001::1'}]"
        "}}",
        "{'status':{'addresses':[{'type':'InternalIP','address':'192.0.2.6'},{'type':'InternalIP','address':'2001::1'},"
        "{'$patch':'replace'}]}}");
}

static void a_pod_status_is_the_patch_that_a_kubelet_sends(void **state) {
    diff("Pod", "{'metadata':{'uid':'u1'},'status':{'phase':'Pending','qosClass':'BestEffort'}}",
         "{'metadata':{'uid':'u1'},'status':{'phase':'Running','qosClass':'BestEffort','hostIP':'192.0.2.5',"
         "'hostIPs':[{'ip':'192.0.2.5'}],'containerStatuses':[{'name':'c','ready':true}]}}",
         "{'status':{'phase':'Running','hostIP':'192.0.2.5','hostIPs':[{'ip':'192.0.2.5'}],"
         "'containerStatuses':[{'name':'c','ready':true}]}}");
    diff(
        "Pod",
        "{'status':{'conditions':[{'type':'Initialized','status':'True'},{'type':'Ready','status':'True'},"
        "{'type':'ContainersReady','status':'True'}],'containerStatuses':[{'name':'c','ready':true}]}}",
        "{'status':{'conditions':[{'type':'Initialized','status':'True'},{'type':'Ready','status':'False'},"
        "{'type':'ContainersReady','status':'False'}],'containerStatuses':[{'name':'c','ready':false}]}}",
        "{'status':{'$setElementOrder/conditions':[{'type':'Initialized'},{'type':'Ready'},{'type':'ContainersReady'}],"
        "'conditions':[{'status':'False','type':'Ready'},{'status':'False','type':'ContainersReady'}],"
        "'containerStatuses':[{'name':'c','ready':false}]}}");
}

static void equal_objects_need_no_patch(void **state) {
    diff("Pod", "{'a':{'b':[1,{'c':null}]},'d':1}", "{'d':1.0,'a':{'b':[1,{'c':null}]}}", NULL);
    diff("Pod", "{'a':null}", "{}", NULL);
}

static void removals_orders_and_retained_keys_are_in_the_patch(void **state) {
    diff("Pod", "{'metadata':{'labels':{'a':'1','b':'2'}}}", "{'metadata':{'labels':{'a':'1'}}}",
         "{'metadata':{'labels':{'b':null}}}");
    diff("Pod", "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}", "{'spec':{'containers':[{'name':'b'}]}}",
         "{'spec':{'$setElementOrder/containers':[{'name':'b'}],'containers':[{'name':'a','$patch':'delete'}]}}");
    diff("Pod", "{'spec':{'containers':[{'name':'a'},{'name':'b'}]}}",
         "{'spec':{'containers':[{'name':'b'},{'name':'a'}]}}",
         "{'spec':{'$setElementOrder/containers':[{'name':'b'},{'name':'a'}]}}");
    diff("Pod", "{'spec':{'volumes':[{'name':'v','emptyDir':{}}]}}",
         "{'spec':{'volumes':[{'name':'v','hostPath':{'path':'/x'}}]}}",
         "{'spec':{'$setElementOrder/volumes':[{'name':'v'}],'volumes':[{'name':'v','emptyDir':null,"
         "'hostPath':{'path':'/x'},'$retainKeys':['hostPath','name']}]}}");
    diff("Pod", "{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'finalizers':['c','a']}}",
         "{'metadata':{'$setElementOrder/finalizers':['c','a'],'$deleteFromPrimitiveList/finalizers':['b'],"
         "'finalizers':['c']}}");
    diff("Pod", "{'spec':{'tolerations':[{'key':'a'}],'nodeName':'n'}}", "{'spec':{'tolerations':[]}}",
         "{'spec':{'tolerations':[],'nodeName':null}}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_patch_does_all_six_operations),
        cmocka_unit_test(a_json_patch_that_does_not_apply_is_invalid),
        cmocka_unit_test(a_malformed_json_patch_is_told_from_one_that_does_not_apply),
        cmocka_unit_test(copies_that_double_an_object_are_stopped),
        cmocka_unit_test(a_json_patch_cannot_make_an_object_too_deep),
        cmocka_unit_test(too_many_operations_are_refused),
        cmocka_unit_test(a_merge_patch_merges_objects_removes_nulls_and_replaces_lists),
        cmocka_unit_test(strategic_merge_merges_lists_by_their_keys),
        cmocka_unit_test(lists_without_a_key_are_replaced),
        cmocka_unit_test(scalar_lists_with_merge_become_sets),
        cmocka_unit_test(patch_directives_delete_and_replace),
        cmocka_unit_test(set_element_order_sorts_and_keeps_server_elements_in_place),
        cmocka_unit_test(retain_keys_drops_what_is_not_named),
        cmocka_unit_test(malformed_strategic_patches_are_refused),
        cmocka_unit_test(node_status_merges_conditions_by_type_and_replaces_addresses_when_told),
        cmocka_unit_test(a_heartbeat_is_the_patch_that_a_kubelet_sends),
        cmocka_unit_test(addresses_of_one_type_are_sent_whole),
        cmocka_unit_test(a_pod_status_is_the_patch_that_a_kubelet_sends),
        cmocka_unit_test(equal_objects_need_no_patch),
        cmocka_unit_test(removals_orders_and_retained_keys_are_in_the_patch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
