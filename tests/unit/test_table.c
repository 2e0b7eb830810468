#include "apiserver/json_path.h"
#include "apiserver/table.h"

#include "base/clock.h"
#include "base/str.h"

#include "json_testing.h"

#define NOW 1767323045 /* 2026-01-02T03:04:05Z */

static struct kinds *ks;

/* The cells of a row, as JSON. */
static void row(const char *group, const char *plural, const char *object, const char *expected) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(object);
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    const struct kind *k = kinds_find(ks, bytes_str(group), BYTES_LIT("v1"), bytes_str(plural));
    struct table_meta meta = {.resource_version = "7"};
    table_begin(&out, k, &meta, true);
    table_row(&out, k, yyjson_doc_get_root(doc), TABLE_NONE, NOW, true);
    table_end(&out);
    struct error err = ERROR_INIT;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *table = json_parse(buf_bytes(&out), out.len, &err);
    if (!table)
        fail_msg("%s: %s", err.msg, out.ptr);
    yyjson_val *root = yyjson_doc_get_root(table), *first = yyjson_arr_get_first(json_get(root, "rows"));
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    assert_json(yyjson_val_mut_copy(d, json_get(first, "cells")), expected);
    assert_int_equal(yyjson_arr_size(json_get(first, "cells")), yyjson_arr_size(json_get(root, "columnDefinitions")));
    assert_string_equal(json_str(root, "metadata", "resourceVersion"), "7");
}

static void ages_read_as_kubectl_writes_them(void **state) {
    static const struct {
        int64_t seconds;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {119, "119s"},
        {120, "2m"},
        {135, "2m15s"},
        {600, "10m"},
        {3 * 3600 - 1, "179m"},
        {3 * 3600, "3h"},
        {3 * 3600 + 300, "3h5m"},
        {8 * 3600, "8h"},
        {48 * 3600, "2d"},
        {49 * 3600, "2d1h"},
        {8 * 86400, "8d"},
        {730 * 86400LL, "2y"},
        {800 * 86400LL, "2y70d"},
        {8 * 365 * 86400LL, "8y"},
        {-5, "<invalid>"},
        {-1, "0s"},
    };
    char text[TABLE_DURATION_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(table_duration(cases[i].seconds, text), cases[i].text);
}

#define META "'metadata':{'name':'p','creationTimestamp':'2026-01-02T03:02:05Z'}"

static void pods_show_what_their_containers_do(void **state) {
    row("", "pods", "{" META ",'spec':{'containers':[{'name':'a'}]},'status':{'phase':'Pending'}}",
        "['p','0/1','Pending','0','2m','<none>','<none>','<none>','<none>']");
    row("", "pods",
        "{" META ",'spec':{'nodeName':'n','containers':[{'name':'a'}]},'status':{'phase':'Running','podIP':'10.0.0.1',"
        "'containerStatuses':[{'name':'a','ready':true,'restartCount':2,'state':{'running':{}},"
        "'lastState':{'terminated':{'finishedAt':'2026-01-02T03:03:05Z'}}}]}}",
        "['p','1/1','Running','2 (60s ago)','2m','10.0.0.1','n','<none>','<none>']");
    row("", "pods",
        "{" META ",'spec':{'containers':[{'name':'a'}]},'status':{'phase':'Running','containerStatuses':[{'name':'a',"
        "'ready':false,'restartCount':3,'state':{'waiting':{'reason':'CrashLoopBackOff'}}}]}}",
        "['p','0/1','CrashLoopBackOff','3','2m','<none>','<none>','<none>','<none>']");
    row("", "pods",
        "{" META ",'spec':{'initContainers':[{'name':'i'},{'name':'j'}],'containers':[{'name':'a'}]},'status':{"
        "'phase':'Pending','initContainerStatuses':[{'name':'i','state':{'terminated':{'exitCode':0}}},"
        "{'name':'j','state':{'running':{}}}]}}",
        "['p','0/1','Init:1/2','0','2m','<none>','<none>','<none>','<none>']");
    row("", "pods",
        "{'metadata':{'name':'p','deletionTimestamp':'2026-01-02T03:04:05Z'},'spec':{'containers':[{'name':'a'}]},"
        "'status':{'phase':'Running'}}",
        "['p','0/1','Terminating','0','<unknown>','<none>','<none>','<none>','<none>']");
    row("", "pods",
        "{" META ",'spec':{'containers':[{'name':'a'}]},'status':{'phase':'Failed','containerStatuses':[{'name':'a',"
        "'state':{'terminated':{'exitCode':3}}}]}}",
        "['p','0/1','ExitCode:3','0','2m','<none>','<none>','<none>','<none>']");
}

static void nodes_show_status_roles_and_addresses(void **state) {
    row("", "nodes",
        "{'metadata':{'name':'e','creationTimestamp':'2026-01-02T03:02:05Z','labels':{'node-role.kubernetes.io/"
        "edge':'',"
        "'node-role.kubernetes.io/agent':''}},'spec':{'unschedulable':true},'status':{'conditions':[{'type':'Ready',"
        "'status':'True'}],'addresses':[{'type':'InternalIP','address':'192.0.2.5'}],'nodeInfo':{'kubeletVersion':'v1'}"
        "}}",
        "['e','Ready,SchedulingDisabled','agent,edge','2m','v1','192.0.2.5','<none>','<unknown>','<unknown>',"
        "'<unknown>']");
    row("", "nodes", "{'metadata':{'name':'e'}}",
        "['e','Unknown','<none>','<unknown>','','<none>','<none>','<unknown>','<unknown>','<unknown>']");
}

static void the_other_kinds_have_their_columns(void **state) {
    row("", "namespaces", "{" META ",'status':{'phase':'Active'}}", "['p','Active','2m']");
    row("", "configmaps", "{" META ",'data':{'a':'1'},'binaryData':{'b':''}}", "['p',2,'2m']");
    row("", "secrets", "{" META ",'type':'Opaque','data':{'a':''}}", "['p','Opaque',1,'2m']");
    row("", "serviceaccounts", "{" META "}", "['p','2m']");
    row("coordination.k8s.io", "leases", "{" META ",'spec':{'holderIdentity':'h'}}", "['p','h','2m']");
    row("apiextensions.k8s.io", "customresourcedefinitions", "{" META "}", "['p','2026-01-02T03:02:05Z']");
    row("", "events",
        "{" META ",'type':'Normal','reason':'Started','message':'hello\\n','involvedObject':{'kind':'Pod','name':'x'},"
        "'source':{'component':'kubelet','host':'e'},'firstTimestamp':'2026-01-02T03:00:05Z',"
        "'lastTimestamp':'2026-01-02T03:04:00Z','count':4}",
        "['5s','Normal','Started','pod/x','','kubelet, e','hello','4m',4,'p']");
    row("events.k8s.io", "events",
        "{" META
        ",'type':'Normal','note':'n','regarding':{'kind':'Pod','name':'x'},'eventTime':'2026-01-02T03:04:00.5Z',"
        "'reportingController':'c'}",
        "['5s','Normal','','pod/x','','c','n','5s',1,'p']");
}

static void custom_kinds_show_their_printer_columns(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *crd = test_json(
        "{'metadata':{'name':'widgets.example.io'},'spec':{'group':'example.io','scope':'Namespaced','names':{"
        "'plural':'widgets','kind':'Widget'},'versions':[{'name':'v1','served':true,'storage':true,'schema':{"
        "'openAPIV3Schema':{'type':'object','x-kubernetes-preserve-unknown-fields':true}},'additionalPrinterColumns':["
        "{'name':'Size','type':'integer','jsonPath':'.spec.size'},"
        "{'name':'Ready','type':'string','jsonPath':'.status.conditions[?(@.type==\\'Ready\\')].status'},"
        "{'name':'Obj','type':'string','jsonPath':'.spec.o','priority':1},"
        "{'name':'When','type':'date','jsonPath':'.metadata.creationTimestamp'}]}]}}");
    assert_int_equal(kinds_put_crd(ks, yyjson_doc_get_root(crd), NULL), 0);
    row("example.io", "widgets",
        "{" META ",'spec':{'size':3,'o':{'a':1}},'status':{'conditions':[{'type':'X','status':'no'},{'type':'Ready',"
        "'status':'True'}]}}",
        "['p',3,'True','{\\'a\\':1}','2m']");
    row("example.io", "widgets", "{'metadata':{'name':'p'},'spec':{'size':'big'}}", "['p',null,null,null,null]");
}

static void rows_carry_metadata_or_objects_as_asked(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc =
        test_json("{'kind':'Pod','metadata':{'name':'p','labels':{'a':'b'}},'status':{'phase':'Succeeded'}}");
    const struct kind *k = kinds_find(ks, BYTES_EMPTY, BYTES_LIT("v1"), BYTES_LIT("pods"));
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    table_row(&out, k, yyjson_doc_get_root(doc), TABLE_METADATA, NOW, true);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *parsed = json_parse(buf_bytes(&out), out.len, NULL);
    yyjson_val *r = yyjson_doc_get_root(parsed);
    assert_string_equal(json_str(r, "object", "kind"), "PartialObjectMetadata");
    assert_string_equal(json_str(r, "object", "metadata", "labels", "a"), "b");
    assert_string_equal(json_str(yyjson_arr_get_first(json_get(r, "conditions")), "type"), "Completed");
    enum table_include include;
    assert_int_equal(table_include_parse(BYTES_LIT("Object"), &include, NULL), 0);
    assert_int_equal(include, TABLE_OBJECT);
    assert_int_equal(table_include_parse(BYTES_LIT("Everything"), &include, NULL), -1);
}

static void json_paths_that_lead_nowhere_give_nothing(void **state) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json("{'a':{'b.c':[1,{'d':2}]},'l':[{'x':1},{'x':2}]}");
    yyjson_val *o = yyjson_doc_get_root(doc);
    assert_int_equal(json_int_or(json_path_first(o, ".a['b.c'][1].d"), 0), 2);
    assert_int_equal(json_int_or(json_path_first(o, "$.a.b\\.c[0]"), 0), 1);
    assert_int_equal(json_int_or(json_path_first(o, ".l[*].x"), 0), 1);
    assert_int_equal(json_int_or(json_path_first(o, ".l[-1].x"), 0), 2);
    static const char *const nowhere[] = {".z",         ".a.b",       "a",   ".a[", ".l[9]",
                                          ".l[?(@.x)]", ".l[?(@.x==", "..a", ".a.", ".l[]"};
    for (size_t i = 0; i < ARRAY_LEN(nowhere); i++)
        assert_null(json_path_first(o, nowhere[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_read_as_kubectl_writes_them),
        cmocka_unit_test(pods_show_what_their_containers_do),
        cmocka_unit_test(nodes_show_status_roles_and_addresses),
        cmocka_unit_test(the_other_kinds_have_their_columns),
        cmocka_unit_test(custom_kinds_show_their_printer_columns),
        cmocka_unit_test(rows_carry_metadata_or_objects_as_asked),
        cmocka_unit_test(json_paths_that_lead_nowhere_give_nothing),
    };
    ks = kinds_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kinds_free(ks);
    return failed;
}
