#include "apiserver/crd.h"
#include "apiserver/defaults.h"
#include "apiserver/validate.h"

#include "base/str.h"

#include "json_testing.h"

static struct kinds *ks;

static const struct kind *kind_named(const char *name) {
    for (size_t i = 0; i < kinds_count(ks); i++)
        if (str_eq(kinds_at(ks, i)->kind, name))
            return kinds_at(ks, i);
    fail_msg("no kind %s", name);
    return NULL;
}

/* Decoded and defaulted, as a create does. */
static yyjson_doc *prepare(const char *kind, const char *text, bool create) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = test_json(text);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct error err = ERROR_INIT;
    yyjson_mut_val *o = kind_decode(kind_named(kind), d, yyjson_doc_get_root(body), NULL, &err);
    if (!o)
        fail_msg("%s: %s", text, err.msg);
    defaults_apply(kind_named(kind), d, o);
    if (create)
        defaults_create(kind_named(kind), d, o);
    return yyjson_mut_val_imut_copy(o, NULL);
}

static void becomes(const char *kind, const char *text, const char *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = prepare(kind, text, true);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(doc, NULL);
    assert_json(yyjson_mut_doc_get_root(d), expected);
}

static void compare(const struct field_errors *e, const char *const *expected, const char *text) {
    size_t n = 0;
    while (expected[n])
        n++;
    for (size_t i = 0; i < e->count; i++) {
        _cleanup_(free_p) char *got = xasprintf("%s %s", field_error_reason(e->items[i].type), e->items[i].field);
        if (i >= n || !str_eq(got, expected[i]))
            fail_msg("%s\ngot %s (%s), expected %s", text, got, e->items[i].message, i < n ? expected[i] : "nothing");
    }
    if (e->count != n)
        fail_msg("%s\nexpected %s too", text, expected[e->count]);
}

/* Which errors creating it has. */
#define ERRORS(kind, text, ...) errors_of((kind), (text), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})
static void errors_of(const char *kind, const char *text, const char *const *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = prepare(kind, text, true);
    _cleanup_(field_errors_free) struct field_errors e = {0};
    validate_create(kind_named(kind), yyjson_doc_get_root(doc), &e, NULL);
    compare(&e, expected, text);
}
#define UPDATE_ERRORS(kind, old, new, ...) \
    update_errors((kind), (old), (new), (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})
static void update_errors(const char *kind, const char *old, const char *new, const char *const *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *a = prepare(kind, old, false), *b = prepare(kind, new, false);
    _cleanup_(field_errors_free) struct field_errors e = {0};
    validate_update(kind_named(kind), "", yyjson_doc_get_root(b), yyjson_doc_get_root(a), &e, NULL);
    compare(&e, expected, new);
}

#define META "'metadata':{'name':'x','namespace':'d'}"

static void a_minimal_pod_gets_every_default(void **state) {
    becomes("Pod",
            "{" META ",'spec':{'containers':[{'name':'a','image':'nginx','ports':[{'containerPort':80}],"
            "'livenessProbe':{'httpGet':{'port':80}},'resources':{'limits':{'cpu':'1'}}}],"
            "'volumes':[{'name':'v'},{'name':'s','secret':{'secretName':'q'}},{'name':'h','hostPath':{'path':'/x'}}]}}",
            "{'kind':'Pod','apiVersion':'v1'," META
            ",'spec':{'containers':[{'name':'a','image':'nginx','ports':[{'containerPort':80,'protocol':'TCP'}],"
            "'livenessProbe':{'httpGet':{'port':80,'path':'/','scheme':'HTTP'},'timeoutSeconds':1,'periodSeconds':10,"
            "'successThreshold':1,'failureThreshold':3},'resources':{'limits':{'cpu':'1'},'requests':{'cpu':'1'}},"
            "'terminationMessagePath':'/dev/"
            "termination-log','terminationMessagePolicy':'File','imagePullPolicy':'Always'}],"
            "'volumes':[{'name':'v','emptyDir':{}},{'name':'s','secret':{'secretName':'q','defaultMode':420}},"
            "{'name':'h','hostPath':{'path':'/x','type':''}}],'restartPolicy':'Always','dnsPolicy':'ClusterFirst',"
            "'terminationGracePeriodSeconds':30,'schedulerName':'default-scheduler','securityContext':{},"
            "'enableServiceLinks':true,'serviceAccountName':'default','serviceAccount':'default','priority':0,"
            "'preemptionPolicy':'PreemptLowerPriority'},'status':{'phase':'Pending','qosClass':'Burstable'}}");
}

static const char *pull_policy(const char *image) {
    static char policy[32];
    _cleanup_(free_p) char *text = xasprintf("{" META ",'spec':{'containers':[{'name':'a','image':'%s'}]}}", image);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = prepare("Pod", text, true);
    yyjson_val *c = yyjson_arr_get_first(json_get(yyjson_doc_get_root(doc), "spec", "containers"));
    snprintf(policy, sizeof policy, "%s", json_str(c, "imagePullPolicy"));
    return policy;
}

static void the_tag_decides_the_pull_policy(void **state) {
    assert_string_equal(pull_policy("nginx"), "Always");
    assert_string_equal(pull_policy("nginx:latest"), "Always");
    assert_string_equal(pull_policy("nginx:1.2"), "IfNotPresent");
    assert_string_equal(pull_policy("host:5000/nginx"), "Always");
    assert_string_equal(pull_policy("host:5000/nginx:1"), "IfNotPresent");
    assert_string_equal(pull_policy("nginx@sha256:aa"), "IfNotPresent");
}

static void defaulting_twice_changes_nothing(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *once =
        prepare("Pod", "{" META ",'spec':{'containers':[{'name':'a','image':'x'}],'volumes':[{'name':'v'}]}}", false);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(once, NULL);
    defaults_apply(kind_named("Pod"), d, yyjson_mut_doc_get_root(d));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *twice = yyjson_mut_doc_imut_copy(d, NULL);
    assert_true(json_equal(yyjson_doc_get_root(once), yyjson_doc_get_root(twice)));
}

static void namespaces_and_secrets_start_as_they_should(void **state) {
    becomes(
        "Namespace", "{'metadata':{'name':'n'}}",
        "{'kind':'Namespace','apiVersion':'v1','metadata':{'name':'n','labels':{'kubernetes.io/metadata.name':'n'}},"
        "'spec':{'finalizers':['kubernetes']},'status':{'phase':'Active'}}");
    becomes("Secret", "{" META ",'stringData':{'a':'hi'},'data':{'a':'eA==','b':'eA=='}}",
            "{'kind':'Secret','apiVersion':'v1'," META ",'type':'Opaque','data':{'a':'aGk=','b':'eA=='}}");
}

static void names_labels_and_owners_are_checked(void **state) {
    ERRORS("ConfigMap", "{" META "}");
    ERRORS("ConfigMap", "{'metadata':{'name':'A_b','namespace':'d'}}", "FieldValueInvalid metadata.name");
    ERRORS("ConfigMap", "{'metadata':{'namespace':'d'}}", "FieldValueRequired metadata.name");
    ERRORS("Namespace", "{'metadata':{'name':'a.b'}}", "FieldValueInvalid metadata.name");
    ERRORS("ConfigMap",
           "{'metadata':{'name':'a','namespace':'d','labels':{'k':'"
           "0123456789012345678901234567890123456789012345678901234567890123'}}}",
           "FieldValueInvalid metadata.labels");
    ERRORS("ConfigMap",
           "{'metadata':{'name':'a','namespace':'d','ownerReferences':["
           "{'apiVersion':'v1','kind':'Pod','name':'a','uid':'1','controller':true},"
           "{'apiVersion':'v1','kind':'Pod','name':'b','uid':'2','controller':true},{'kind':'Pod'}]}}",
           "FieldValueRequired metadata.ownerReferences[2].apiVersion",
           "FieldValueRequired metadata.ownerReferences[2].name", "FieldValueRequired metadata.ownerReferences[2].uid",
           "FieldValueInvalid metadata.ownerReferences");
}

static void pods_are_refused_with_the_path_of_the_mistake(void **state) {
    ERRORS("Pod", "{" META ",'spec':{'containers':[{'name':'a','image':'x'}]}}");
    ERRORS("Pod", "{" META ",'spec':{}}", "FieldValueRequired spec.containers");
    ERRORS("Pod",
           "{" META ",'spec':{'restartPolicy':'Sometimes','containers':[{'name':'a','image':' x','volumeMounts':["
           "{'name':'v','mountPath':'/a'}],'resources':{'limits':{'cpu':'1'},'requests':{'cpu':'2'}},"
           "'ports':[{'containerPort':0}],'env':[{'value':'1'}]},{'name':'a','image':''}]}}",
           "FieldValueInvalid spec.containers[0].image", "FieldValueInvalid spec.containers[0].ports[0].containerPort",
           "FieldValueRequired spec.containers[0].env[0].name",
           "FieldValueNotFound spec.containers[0].volumeMounts[0].name",
           "FieldValueInvalid spec.containers[0].resources.requests", "FieldValueDuplicate spec.containers[1].name",
           "FieldValueRequired spec.containers[1].image", "FieldValueNotSupported spec.restartPolicy");
    ERRORS("Pod",
           "{" META ",'spec':{'volumes':[{'name':'v','emptyDir':{},'hostPath':{'path':'/x'}},{'name':'v'}],"
           "'containers':[{'name':'a','image':'x','livenessProbe':{}}],'tolerations':[{'operator':'Like'}]}}",
           "FieldValueForbidden spec.volumes[0]", "FieldValueDuplicate spec.volumes[1].name",
           "FieldValueRequired spec.containers[0].livenessProbe", "FieldValueNotSupported spec.tolerations[0].operator",
           "FieldValueInvalid spec.tolerations[0].operator");
}

#define POD(rest) "{" META ",'spec':{'containers':[{'name':'a','image':'x:1'}]" rest "}}"

static void only_a_few_fields_of_a_pod_may_change(void **state) {
    UPDATE_ERRORS("Pod", POD(""), "{" META ",'spec':{'containers':[{'name':'a','image':'y:2'}]}}");
    UPDATE_ERRORS("Pod", POD(""), POD(",'tolerations':[{'key':'k','operator':'Exists'}]"));
    UPDATE_ERRORS("Pod", POD(",'tolerations':[{'key':'k','operator':'Exists'}]"), POD(""), "FieldValueForbidden spec");
    UPDATE_ERRORS("Pod", POD(""), POD(",'activeDeadlineSeconds':5"));
    UPDATE_ERRORS("Pod", POD(",'activeDeadlineSeconds':5"), POD(",'activeDeadlineSeconds':6"),
                  "FieldValueForbidden spec");
    UPDATE_ERRORS("Pod", POD(""), POD(",'nodeSelector':{'a':'b'}"), "FieldValueForbidden spec");
}

static void frozen_data_and_types_cannot_change(void **state) {
    UPDATE_ERRORS("ConfigMap", "{" META ",'data':{'a':'1'},'immutable':true}",
                  "{'metadata':{'name':'x','namespace':'d','labels':{'l':'1'}},'data':{'a':'1'},'immutable':true}");
    UPDATE_ERRORS("ConfigMap", "{" META ",'data':{'a':'1'},'immutable':true}", "{" META ",'data':{'a':'2'}}",
                  "FieldValueForbidden immutable", "FieldValueForbidden data");
    UPDATE_ERRORS("Secret", "{" META ",'type':'a/b'}", "{" META ",'type':'c/d'}", "FieldValueInvalid type");
    UPDATE_ERRORS("ConfigMap",
                  "{'metadata':{'name':'x','namespace':'d','finalizers':['a/b'],'deletionTimestamp':"
                  "'2026-01-02T03:04:05Z'}}",
                  "{'metadata':{'name':'x','namespace':'d','finalizers':['a/b','c/d'],'deletionTimestamp':"
                  "'2026-01-02T03:04:05Z'}}",
                  "FieldValueForbidden metadata.finalizers");
}

static void secrets_leases_nodes_and_events_are_checked(void **state) {
    ERRORS("Secret", "{" META ",'type':'kubernetes.io/tls','data':{'tls.crt':''}}", "FieldValueRequired data[tls.key]");
    ERRORS("Secret", "{" META ",'data':{'..a':'','b c':''}}", "FieldValueInvalid data[..a]",
           "FieldValueInvalid data[b c]");
    ERRORS("Lease", "{" META ",'spec':{'leaseDurationSeconds':0}}", "FieldValueInvalid spec.leaseDurationSeconds");
    ERRORS("Node",
           "{'metadata':{'name':'n'},'spec':{'taints':[{'key':'a','effect':'NoSchedule'},{'key':'a',"
           "'effect':'NoSchedule'},{'key':'b','effect':'X'}]},'status':{'capacity':{'cpu':'-1'}}}",
           "FieldValueDuplicate spec.taints[1]", "FieldValueInvalid status.allocatable.cpu",
           "FieldValueInvalid status.capacity.cpu", "FieldValueNotSupported spec.taints[2].effect");
    ERRORS("Event", "{" META ",'involvedObject':{'namespace':'other'}}", "FieldValueInvalid involvedObject.namespace");
    ERRORS("Event", "{" META ",'involvedObject':{'namespace':'d'}}");
}

static void too_much_data_is_refused(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(4 << 20);
    buf_add_str(&text, "{" META ",'data':{'k':'");
    for (int i = 0; i < 1024 * 1024 + 1; i++)
        buf_add_char(&text, 'x');
    buf_add_str(&text, "'}}");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = prepare("ConfigMap", text.ptr, true);
    _cleanup_(field_errors_free) struct field_errors e = {0};
    validate_create(kind_named("ConfigMap"), yyjson_doc_get_root(doc), &e, NULL);
    assert_int_equal(e.count, 1);
    assert_int_equal(e.items[0].type, FIELD_TOO_LONG);
}

/* ---- CustomResourceDefinitions ---------------------------------------------------------------------------------- */

#define CRD(schema)                                                                                         \
    "{'metadata':{'name':'widgets.example.io'},'spec':{'group':'example.io','scope':'Namespaced','names':{" \
    "'plural':'widgets','kind':'Widget'},'versions':[{'name':'v1','served':true,'storage':true,'schema':{"  \
    "'openAPIV3Schema':" schema "}}]}}"
#define SCHEMA "spec.versions[0].schema.openAPIV3Schema"

static void only_structural_schemas_are_accepted(void **state) {
    ERRORS("CustomResourceDefinition", CRD("{'type':'object','properties':{'spec':{'type':'object'}}}"));
    ERRORS("CustomResourceDefinition", CRD("{'properties':{'spec':{}}}"), "FieldValueInvalid " SCHEMA ".type",
           "FieldValueRequired " SCHEMA ".type", "FieldValueRequired " SCHEMA ".properties[spec].type");
    ERRORS("CustomResourceDefinition",
           CRD("{'type':'object','properties':{'a':{'type':'array'},'b':{'type':'object','additionalProperties':false},"
               "'c':{'type':'frob'},'d':{'$ref':'x','type':'string'},'e':{'type':'integer','default':'x'}}}"),
           "FieldValueRequired " SCHEMA ".properties[a].items",
           "FieldValueForbidden " SCHEMA ".properties[b].additionalProperties",
           "FieldValueNotSupported " SCHEMA ".properties[c].type", "FieldValueForbidden " SCHEMA ".properties[d].$ref",
           "FieldValueTypeInvalid " SCHEMA ".properties[e].default");
    ERRORS("CustomResourceDefinition", CRD("{'type':'object','properties':{'p':{'x-kubernetes-int-or-string':true}}}"));
}

static void a_crd_must_name_itself_and_one_storage_version(void **state) {
    ERRORS("CustomResourceDefinition",
           "{'metadata':{'name':'x'},'spec':{'group':'io','scope':'World','names':{'plural':'Ws','kind':'W'},'versions'"
           ":[]}}",
           "FieldValueInvalid spec.group", "FieldValueNotSupported spec.scope", "FieldValueInvalid spec.names.plural",
           "FieldValueInvalid metadata.name", "FieldValueRequired spec.versions");
}

static void custom_objects_are_defaulted_and_validated(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *crd = test_json(CRD(
        "{'type':'object','required':['spec'],'properties':{'spec':{'type':'object','required':['name'],'properties':{"
        "'name':{'type':'string','minLength':2,'pattern':'^[a-z]\\\\d+$'},'mode':{'type':'string','enum':['a','b'],"
        "'default':'a'},'n':{'type':'integer','minimum':1,'maximum':5},'port':{'x-kubernetes-int-or-string':true,"
        "'anyOf':[{'type':'integer'},{'type':'string'}]},'list':{'type':'array','maxItems':2,"
        "'x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['k'],'items':{'type':'object','properties':{"
        "'k':{'type':'string'},'v':{'type':'integer','default':7}}}},'m':{'type':'object',"
        "'additionalProperties':{'type':'integer'}},'when':{'type':'string','format':'date-time'}}}}}"));
    assert_int_equal(kinds_put_crd(ks, yyjson_doc_get_root(crd), NULL), 0);
    becomes("Widget", "{" META ",'spec':{'name':'a1','list':[{'k':'x'}]}}",
            "{'kind':'Widget','apiVersion':'example.io/v1'," META
            ",'spec':{'name':'a1','mode':'a','list':[{'k':'x','v':7}]}}");
    ERRORS("Widget", "{" META ",'spec':{'name':'a1','n':5,'port':'http','m':{'a':1}}}");
    ERRORS("Widget", "{" META ",'spec':{'name':'a1','port':80}}");
    ERRORS("Widget", "{" META "}", "FieldValueRequired spec");
    ERRORS("Widget",
           "{" META ",'spec':{'name':'a','mode':'c','n':6,'port':true,'list':[{'k':'x'},{'k':'x'},{'k':'y'}],"
           "'m':{'a':'1'},'when':'today'}}",
           "FieldValueInvalid spec.name", "FieldValueInvalid spec.name", "FieldValueNotSupported spec.mode",
           "FieldValueInvalid spec.n", "FieldValueTypeInvalid spec.port", "FieldValueTooMany spec.list",
           "FieldValueDuplicate spec.list[1]", "FieldValueTypeInvalid spec.m.a", "FieldValueInvalid spec.when");
    ERRORS("Widget", "{" META ",'spec':'x'}", "FieldValueTypeInvalid spec");
    kinds_remove_crd(ks, "widgets.example.io");
}

static void a_pattern_that_is_none_is_refused(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = prepare(
        "CustomResourceDefinition", CRD("{'type':'object','properties':{'a':{'type':'string','pattern':'(a'}}}"), true);
    _cleanup_(field_errors_free) struct field_errors e = {0};
    validate_create(kind_named("CustomResourceDefinition"), yyjson_doc_get_root(doc), &e, NULL);
    assert_int_equal(e.count, 1);
    assert_non_null(strstr(e.items[0].field, ".pattern"));
}

static void patterns_that_are_not_offered_are_told_about(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc =
        prepare("CustomResourceDefinition",
                CRD("{'type':'object','properties':{'a':{'type':'string','pattern':'(a)\\\\1'}}}"), true);
    _cleanup_(field_errors_free) struct field_errors e = {0};
    _cleanup_(strlist_free) struct strlist warnings = {0};
    validate_create(kind_named("CustomResourceDefinition"), yyjson_doc_get_root(doc), &e, &warnings);
    assert_int_equal(e.count, 0);
    assert_int_equal(warnings.count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_pod_gets_every_default),
        cmocka_unit_test(the_tag_decides_the_pull_policy),
        cmocka_unit_test(defaulting_twice_changes_nothing),
        cmocka_unit_test(namespaces_and_secrets_start_as_they_should),
        cmocka_unit_test(names_labels_and_owners_are_checked),
        cmocka_unit_test(pods_are_refused_with_the_path_of_the_mistake),
        cmocka_unit_test(only_a_few_fields_of_a_pod_may_change),
        cmocka_unit_test(frozen_data_and_types_cannot_change),
        cmocka_unit_test(secrets_leases_nodes_and_events_are_checked),
        cmocka_unit_test(too_much_data_is_refused),
        cmocka_unit_test(only_structural_schemas_are_accepted),
        cmocka_unit_test(a_crd_must_name_itself_and_one_storage_version),
        cmocka_unit_test(custom_objects_are_defaulted_and_validated),
        cmocka_unit_test(patterns_that_are_not_offered_are_told_about),
        cmocka_unit_test(a_pattern_that_is_none_is_refused),
    };
    ks = kinds_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kinds_free(ks);
    return failed;
}
