#include "kube/schema.h"

#include "base/str.h"

#include "json_testing.h"

static const struct schema_type *pod(void) {
    return schema_find("", "v1", "Pod");
}

static void types_and_fields_are_found_by_name(void **state) {
    assert_non_null(pod());
    assert_null(schema_find("apps", "v1", "Pod"));
    assert_null(schema_find("", "v2", "Pod"));
    assert_non_null(schema_find("events.k8s.io", "v1", "Event"));
    assert_non_null(schema_find("", "v1", "Event"));
    assert_ptr_not_equal(schema_find("events.k8s.io", "v1", "Event"), schema_find("", "v1", "Event"));
    const struct schema_type *spec = schema_find("", "v1", "PodSpec");
    const struct schema_field *containers = schema_field(spec, BYTES_LIT("containers"));
    assert_string_equal(schema_field_merge_key(containers), "name");
    assert_string_equal(schema_type_name(schema_field_message(containers)), "Container");
    assert_int_equal(containers->shape, FS_LIST);
}

/* What the kinds of the register, of whatever stage, are made of. */
static void every_kind_in_scope_has_a_schema(void **state) {
    static const struct {
        const char *group, *kinds;
    } scope[] = {
        {"", "Namespace Node Pod Binding ConfigMap Secret ServiceAccount Event Service Endpoints PersistentVolume "
             "PersistentVolumeClaim ResourceQuota LimitRange ReplicationController"},
        {"apps", "Deployment ReplicaSet DaemonSet StatefulSet ControllerRevision"},
        {"batch", "Job CronJob"},
        {"coordination.k8s.io", "Lease"},
        {"discovery.k8s.io", "EndpointSlice"},
        {"policy", "PodDisruptionBudget Eviction"},
        {"rbac.authorization.k8s.io", "Role RoleBinding ClusterRole ClusterRoleBinding"},
        {"certificates.k8s.io", "CertificateSigningRequest"},
        {"authentication.k8s.io", "TokenReview TokenRequest SelfSubjectReview"},
        {"authorization.k8s.io", "SubjectAccessReview LocalSubjectAccessReview SelfSubjectRulesReview"},
        {"admissionregistration.k8s.io", "MutatingWebhookConfiguration ValidatingWebhookConfiguration"},
        {"scheduling.k8s.io", "PriorityClass"},
        {"storage.k8s.io", "StorageClass CSINode CSIDriver VolumeAttachment"},
        {"networking.k8s.io", "NetworkPolicy Ingress"},
        {"node.k8s.io", "RuntimeClass"},
        {"autoscaling", "Scale"},
    };
    for (size_t i = 0; i < ARRAY_LEN(scope); i++) {
        struct bytes kinds[32];
        size_t n = bytes_split(bytes_str(scope[i].kinds), ' ', kinds, ARRAY_LEN(kinds));
        for (size_t k = 0; k < n; k++) {
            _cleanup_(free_p) char *name = bytes_dup(kinds[k]);
            const struct schema_type *t = schema_find(scope[i].group, "v1", name);
            if (!t || !schema_field(t, BYTES_LIT("metadata")))
                fail_msg("%s/v1 %s", scope[i].group, name);
        }
    }
}

static void types_that_are_applied_as_a_whole_are_marked(void **state) {
    assert_true(schema_find("meta.k8s.io", "v1", "LabelSelector")->atomic);
    assert_true(schema_find("", "v1", "ObjectReference")->atomic);
    assert_false(schema_find("", "v1", "PodSpec")->atomic);
    const struct schema_type *spec = schema_find("", "v1", "PodSpec");
    assert_int_equal(schema_field(spec, BYTES_LIT("nodeSelector"))->list_type, LIST_ATOMIC);
    spec = schema_find("", "v1", "PersistentVolumeSpec"); /* the exception */
    assert_int_equal(schema_field(spec, BYTES_LIT("claimRef"))->list_type, LIST_GRANULAR);
}

static void inlined_members_stand_in_their_parent(void **state) {
    const struct schema_field *f = schema_field(schema_find("", "v1", "Volume"), BYTES_LIT("emptyDir"));
    assert_non_null(f);
    assert_string_equal(schema_type_name(schema_field_message(f)), "EmptyDirVolumeSource");
    assert_non_null(schema_field(schema_find("", "v1", "ConfigMapKeySelector"), BYTES_LIT("name")));
    assert_non_null(schema_field(pod(), BYTES_LIT("apiVersion")));
    assert_null(schema_field(pod(), BYTES_LIT("")));
}

static yyjson_mut_val *prune(yyjson_mut_doc *d, const struct schema_type *t, const char *text, struct strlist *unknown,
                             struct error *err) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(text);
    return schema_prune(d, t, yyjson_doc_get_root(doc), unknown, err);
}

static void unknown_and_duplicate_fields_are_dropped_and_named(void **state) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(strlist_free) struct strlist unknown = {0};
    struct error err = ERROR_INIT;
    yyjson_mut_val *v =
        prune(d, pod(),
              "{'kind':'Pod','spec':{'foo':1,'containers':[{'name':'a'},{'bar':{},'name':'b','name':'c'}]},"
              "'metadata':{'labels':{'x':'1','x':'2'},'annotations':null}}",
              &unknown, &err);
    assert_json(v, "{'kind':'Pod','spec':{'containers':[{'name':'a'},{'name':'c'}]},'metadata':{'labels':{'x':'2'}}}");
    assert_int_equal(unknown.count, 4);
    assert_string_equal(unknown.items[0], "unknown field \"spec.foo\"");
    assert_string_equal(unknown.items[1], "unknown field \"spec.containers[1].bar\"");
    assert_string_equal(unknown.items[2], "duplicate field \"spec.containers[1].name\"");
    assert_string_equal(unknown.items[3], "duplicate field \"metadata.labels.x\"");
}

static void values_of_the_wrong_type_are_refused_with_their_path(void **state) {
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"{'spec':{'containers':[{'ports':[{'containerPort':'80'}]}]}}",
         "spec.containers[0].ports[0].containerPort: expected an integer, got string"},
        {"{'spec':{'containers':{}}}", "spec.containers: expected a list, got object"},
        {"{'spec':{'hostNetwork':'yes'}}", "spec.hostNetwork: expected a boolean, got string"},
        {"{'spec':{'priority':2147483648}}", "spec.priority: expected an integer of 32 bits, got uint"},
        {"{'spec':{'containers':[{'resources':{'limits':{'cpu':'lots'}}}]}}",
         "spec.containers[0].resources.limits.cpu: expected a quantity such as 100m or 64Mi, got \"lots\""},
        {"{'metadata':{'labels':{'a':1}}}", "metadata.labels.a: expected a string, got uint"},
        {"{'metadata':{'creationTimestamp':'yesterday'}}",
         "metadata.creationTimestamp: expected a time such as 2026-01-02T03:04:05Z, got \"yesterday\""},
        {"[]", "body: expected an object, got array"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        struct error err = ERROR_INIT;
        assert_null(prune(d, pod(), cases[i].json, NULL, &err));
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, cases[i].message);
    }
}

static void quantities_and_times_become_canonical(void **state) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    yyjson_mut_val *v = prune(d, pod(),
                              "{'metadata':{'creationTimestamp':'2026-01-02T05:04:05.9+02:00'},'spec':{'containers':["
                              "{'name':'a','resources':{'limits':{'cpu':0.5,'memory':'1024Mi'}},"
                              "'livenessProbe':{'httpGet':{'port':'web'}},'readinessProbe':{'httpGet':{'port':80}}}]}}",
                              NULL, &err);
    assert_json(v, "{'metadata':{'creationTimestamp':'2026-01-02T03:04:05Z'},'spec':{'containers':["
                   "{'name':'a','resources':{'limits':{'cpu':'500m','memory':'1Gi'}},"
                   "'livenessProbe':{'httpGet':{'port':'web'}},'readinessProbe':{'httpGet':{'port':80}}}]}}");
    v = prune(d, schema_find("coordination.k8s.io", "v1", "Lease"),
              "{'spec':{'renewTime':'2026-01-02T03:04:05.678901Z','leaseDurationSeconds':40}}", NULL, &err);
    assert_json(v, "{'spec':{'renewTime':'2026-01-02T03:04:05.678901Z','leaseDurationSeconds':40}}");
}

static void schemas_in_a_crd_keep_their_unions(void **state) {
    static const char crd[] =
        "{'spec':{'versions':[{'name':'v1','served':true,'storage':true,'schema':{'openAPIV3Schema':{'type':'object',"
        "'properties':{'a':{'type':'array','items':{'type':'string'},'default':[1,{'x':null}]},"
        "'b':{'additionalProperties':true},'c':{'additionalProperties':{'type':'integer'},'enum':['x',1]},"
        "'d':{'x-kubernetes-validations':[{'rule':'self'}],'maximum':1.5}}}}}]}}";
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(strlist_free) struct strlist unknown = {0};
    struct error err = ERROR_INIT;
    yyjson_mut_val *v =
        prune(d, schema_find("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), crd, &unknown, &err);
    assert_json(v, crd);
    assert_int_equal(unknown.count, 0);
}

static void a_large_map_is_pruned_without_quadratic_work(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64 << 20);
    buf_add_str(&text, "{'data':{");
    for (int i = 0; i < 200000; i++)
        buf_addf(&text, "%s'k%d':'v'", i ? "," : "", i);
    buf_add_str(&text, "}}");
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    yyjson_mut_val *v = prune(d, schema_find("", "v1", "ConfigMap"), text.ptr, NULL, &err);
    assert_int_equal(yyjson_mut_obj_size(yyjson_mut_obj_get(v, "data")), 200000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_and_fields_are_found_by_name),
        cmocka_unit_test(every_kind_in_scope_has_a_schema),
        cmocka_unit_test(types_that_are_applied_as_a_whole_are_marked),
        cmocka_unit_test(inlined_members_stand_in_their_parent),
        cmocka_unit_test(unknown_and_duplicate_fields_are_dropped_and_named),
        cmocka_unit_test(values_of_the_wrong_type_are_refused_with_their_path),
        cmocka_unit_test(quantities_and_times_become_canonical),
        cmocka_unit_test(schemas_in_a_crd_keep_their_unions),
        cmocka_unit_test(a_large_map_is_pruned_without_quadratic_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
