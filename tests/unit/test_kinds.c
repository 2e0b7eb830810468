#include "apiserver/discovery.h"
#include "apiserver/openapi.h"

#include "base/clock.h"
#include "base/str.h"

#include "json_testing.h"

static const char widgets[] =
    "{'kind':'CustomResourceDefinition','apiVersion':'apiextensions.k8s.io/"
    "v1','metadata':{'name':'widgets.example.io'},"
    "'spec':{'group':'example.io','scope':'Namespaced','names':{'plural':'widgets','kind':'Widget','shortNames':['wd']}"
    ","
    "'versions':[{'name':'v1beta1','served':true,'storage':false,'schema':{'openAPIV3Schema':{'type':'object'}}},"
    "{'name':'v1','served':true,'storage':true,'subresources':{'status':{}},'schema':{'openAPIV3Schema':{"
    "'type':'object','properties':{'spec':{'type':'object','properties':{'size':{'type':'integer'},"
    "'free':{'type':'object','x-kubernetes-preserve-unknown-fields':true},"
    "'list':{'type':'array','items':{'type':'object','properties':{'a':{'type':'string'}}}}}},"
    "'status':{'type':'object'}}}}},"
    "{'name':'v2alpha1','served':false,'storage':false,'schema':{'openAPIV3Schema':{'type':'object'}}}]}}";

static int put(struct kinds *ks, const char *crd, struct error *err) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(crd);
    return kinds_put_crd(ks, yyjson_doc_get_root(doc), err);
}

static const struct kind *find(struct kinds *ks, const char *group, const char *version, const char *plural) {
    return kinds_find(ks, bytes_str(group), bytes_str(version), bytes_str(plural));
}

static void document(struct kinds *ks, const char *path, enum discovery_format format, yyjson_doc **out) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    if (discovery_document(ks, bytes_str(path), format, &text, &err) < 0)
        fail_msg("%s: %s", path, err.msg);
    *out = json_parse(buf_bytes(&text), text.len, &err);
    if (!*out)
        fail_msg("%s: %s", path, err.msg);
}

static void built_in_kinds_are_found_by_path_and_by_kind(void **state) {
    struct kinds *ks = kinds_new();
    const struct kind *pods = find(ks, "", "v1", "pods");
    assert_non_null(pods);
    assert_ptr_equal(kinds_find_kind(ks, BYTES_EMPTY, BYTES_LIT("v1"), BYTES_LIT("Pod")), pods);
    assert_true(pods->graceful_delete);
    assert_non_null(kind_subresource(pods, BYTES_LIT("binding")));
    assert_non_null(kind_subresource(pods, BYTES_LIT("exec")));
    assert_null(kind_subresource(pods, BYTES_LIT("proxy"))); /* not offered */
    assert_null(find(ks, "apps", "v1", "statefulsets"));
    assert_true(find(ks, "coordination.k8s.io", "v1", "leases")->create_on_update);
    assert_false(find(ks, "coordination.k8s.io", "v1", "leases")->unconditional_update);
    _cleanup_(free_p) char *name = kind_resource_name(find(ks, "coordination.k8s.io", "v1", "leases"));
    assert_string_equal(name, "leases.coordination.k8s.io");
    kinds_free(ks);
}

static void a_crd_adds_its_served_versions_and_takes_them_away(void **state) {
    struct kinds *ks = kinds_new();
    struct error err = ERROR_INIT;
    uint64_t before = kinds_generation(ks);
    size_t count = kinds_count(ks);
    assert_int_equal(put(ks, widgets, &err), 0);
    assert_int_equal(kinds_count(ks), count + 2);
    assert_true(kinds_generation(ks) > before);
    const struct kind *k = find(ks, "example.io", "v1", "widgets");
    assert_non_null(k);
    assert_string_equal(k->singular, "widget");
    assert_string_equal(k->list_kind, "WidgetList");
    assert_true(k->has_status);
    assert_int_equal(k->generation, GENERATION_NOT_STATUS);
    assert_non_null(find(ks, "example.io", "v1beta1", "widgets"));
    assert_false(find(ks, "example.io", "v1beta1", "widgets")->has_status);
    assert_null(find(ks, "example.io", "v2alpha1", "widgets"));
    assert_string_equal(find(ks, "example.io", "v1beta1", "widgets")->storage_version, "v1");
    kind_ref(k); /* a request under way */
    kinds_remove_crd(ks, "widgets.example.io");
    assert_null(find(ks, "example.io", "v1", "widgets"));
    assert_string_equal(k->kind, "Widget");
    kind_unref(k);
    assert_int_equal(kinds_count(ks), count);
    kinds_free(ks);
}

static void names_of_another_crd_are_not_accepted(void **state) {
    struct kinds *ks = kinds_new();
    struct error err = ERROR_INIT;
    static const char other[] =
        "{'metadata':{'name':'gadgets.example.io'},'spec':{'group':'example.io','scope':'Cluster','names':{"
        "'plural':'gadgets','kind':'Gadget','shortNames':['wd']},'versions':[{'name':'v1','served':true,'storage':true,"
        "'schema':{'openAPIV3Schema':{'type':'object'}}}]}}";
    assert_int_equal(put(ks, widgets, &err), 0);
    assert_int_equal(put(ks, other, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *crd = test_json(other);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    assert_json(kinds_crd_status(ks, d, yyjson_doc_get_root(crd), 1767323045),
                "{'conditions':[{'type':'NamesAccepted','status':'False','lastTransitionTime':'2026-01-02T03:04:05Z',"
                "'reason':'ShortNamesConflict','message':'\\'wd\\' is already in use'},{'type':'Established',"
                "'status':'False','lastTransitionTime':'2026-01-02T03:04:05Z','reason':'NotAccepted',"
                "'message':'not all names are accepted'}],'acceptedNames':{},'storedVersions':['v1']}");
    kinds_free(ks);
}

static void custom_objects_lose_what_the_schema_does_not_know(void **state) {
    struct kinds *ks = kinds_new();
    struct error err = ERROR_INIT;
    assert_int_equal(put(ks, widgets, &err), 0);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body =
        test_json("{'metadata':{'name':'w','managedFields':[]},'spec':{'size':1,'color':'red','free':{'x':{'y':1}},"
                  "'list':[{'a':'1','b':'2'}]},'extra':1}");
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(strlist_free) struct strlist unknown = {0};
    yyjson_mut_val *v =
        kind_decode(find(ks, "example.io", "v1", "widgets"), d, yyjson_doc_get_root(body), &unknown, &err);
    assert_json(v, "{'kind':'Widget','apiVersion':'example.io/v1','metadata':{'name':'w'},"
                   "'spec':{'size':1,'free':{'x':{'y':1}},'list':[{'a':'1'}]}}");
    assert_int_equal(unknown.count, 3);
    assert_string_equal(unknown.items[0], "unknown field \"spec.color\"");
    assert_string_equal(unknown.items[1], "unknown field \"spec.list[0].b\"");
    assert_string_equal(unknown.items[2], "unknown field \"extra\"");
    kinds_free(ks);
}

static void both_groups_show_the_same_event(void **state) {
    struct kinds *ks = kinds_new();
    const struct kind *k = find(ks, "events.k8s.io", "v1", "events");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc =
        test_json("{'apiVersion':'events.k8s.io/v1','kind':'Event','note':'n','regarding':{'name':'p'},"
                  "'reportingController':'c','type':'Normal'}");
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(doc, NULL);
    yyjson_mut_val *o = yyjson_mut_doc_get_root(d);
    assert_true(kind_needs_conversion(k));
    kind_to_stored(k, d, o);
    assert_json(o, "{'apiVersion':'v1','kind':'Event','message':'n','involvedObject':{'name':'p'},"
                   "'reportingComponent':'c','type':'Normal'}");
    kind_from_stored(k, d, o);
    assert_json(o, "{'apiVersion':'events.k8s.io/v1','kind':'Event','note':'n','regarding':{'name':'p'},"
                   "'reportingController':'c','type':'Normal'}");
    kinds_free(ks);
}

static void field_selectors_see_absent_booleans_as_false(void **state) {
    struct kinds *ks = kinds_new();
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(
        "{'metadata':{'name':'p','namespace':'d'},'spec':{'nodeName':'n1'},'status':{'podIPs':[{'ip':'1.2.3.4'}]}}");
    struct kind_fields f = {.kind = find(ks, "", "v1", "pods"), .object = yyjson_doc_get_root(doc)};
    assert_true(kind_field_supported(f.kind, "spec.nodeName"));
    assert_false(kind_field_supported(f.kind, "spec.containers"));
    assert_string_equal(kind_fields_get(&f, "spec.nodeName"), "n1");
    assert_string_equal(kind_fields_get(&f, "spec.host"), "n1");
    assert_string_equal(kind_fields_get(&f, "spec.hostNetwork"), "false");
    assert_string_equal(kind_fields_get(&f, "status.podIPs"), "1.2.3.4");
    assert_string_equal(kind_fields_get(&f, "status.phase"), "");
    kinds_free(ks);
}

static void all_forms_of_discovery_list_the_same_resources(void **state) {
    struct kinds *ks = kinds_new();
    struct error err = ERROR_INIT;
    assert_int_equal(put(ks, widgets, &err), 0);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *api = NULL, *apis = NULL, *core = NULL, *list = NULL, *group = NULL,
                                            *custom = NULL;
    document(ks, "/api", DISCOVERY_V2, &api);
    document(ks, "/apis", DISCOVERY_V2, &apis);
    document(ks, "/api/v1", DISCOVERY_PLAIN, &core);
    document(ks, "/apis", DISCOVERY_PLAIN, &list);
    document(ks, "/apis/example.io", DISCOVERY_PLAIN, &group);
    document(ks, "/apis/example.io/v1", DISCOVERY_PLAIN, &custom);
    yyjson_val *item = yyjson_arr_get_first(json_get(yyjson_doc_get_root(api), "items"));
    assert_string_equal(json_str(item, "metadata", "name"), "");
    yyjson_val *version = yyjson_arr_get_first(json_get(item, "versions"));
    size_t resources = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(yyjson_doc_get_root(core), "resources"));
    for (yyjson_val *r; (r = yyjson_arr_iter_next(&it));)
        resources += strchr(json_str(r, "name"), '/') == NULL;
    assert_int_equal(yyjson_arr_size(json_get(version, "resources")), resources);
    yyjson_val *groups = json_get(yyjson_doc_get_root(apis), "items");
    assert_int_equal(yyjson_arr_size(groups), yyjson_arr_size(json_get(yyjson_doc_get_root(list), "groups")));
    yyjson_val *last = yyjson_arr_get_last(groups); /* CRDs come last, their best version first */
    assert_string_equal(json_str(last, "metadata", "name"), "example.io");
    assert_int_equal(yyjson_arr_size(json_get(last, "versions")), 2);
    assert_string_equal(json_str(yyjson_arr_get_first(json_get(last, "versions")), "version"), "v1");
    assert_string_equal(json_str(yyjson_doc_get_root(group), "preferredVersion", "groupVersion"), "example.io/v1");
    assert_int_equal(yyjson_arr_size(json_get(yyjson_doc_get_root(custom), "resources")), 2); /* and its status */
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    assert_int_equal(discovery_document(ks, BYTES_LIT("/apis/nope.io/v1"), DISCOVERY_PLAIN, &out, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    kinds_free(ks);
}

static void unknown_accept_parameters_change_nothing(void **state) {
    enum discovery_format f = DISCOVERY_PLAIN;
    assert_true(discovery_format_of_accept(
        BYTES_LIT("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer"), &f));
    assert_int_equal(f, DISCOVERY_V2);
    assert_true(discovery_format_of_accept(
        BYTES_LIT("application/json; as=APIGroupDiscoveryList; v=v2beta1; g=apidiscovery.k8s.io"), &f));
    assert_int_equal(f, DISCOVERY_V2BETA1);
    assert_false(discovery_format_of_accept(BYTES_LIT("application/json"), &f));
}

static void openapi_names_a_patch_for_every_kind(void **state) {
    struct kinds *ks = kinds_new();
    struct error err = ERROR_INIT;
    assert_int_equal(put(ks, widgets, &err), 0);
    for (size_t i = 0; i < kinds_count(ks); i++) {
        const struct kind *k = kinds_at(ks, i);
        _cleanup_(buf_free) struct buf text = BUF_INIT(8 << 20);
        _cleanup_(free_p) char *path = *k->group ? xasprintf("/openapi/v3/apis/%s/%s", k->group, k->version)
                                                 : xasprintf("/openapi/v3/api/%s", k->version);
        assert_int_equal(openapi_v3(ks, bytes_str(path), &text, &err), 0);
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(buf_bytes(&text), text.len, &err);
        if (!doc)
            fail_msg("%s: %s", path, err.msg);
        size_t found = 0;
        yyjson_obj_iter it = yyjson_obj_iter_with(json_get(yyjson_doc_get_root(doc), "paths"));
        for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
            found += str_eq(json_str(yyjson_obj_iter_get_val(key), "patch", "x-kubernetes-group-version-kind", "kind"),
                            k->kind);
        assert_int_equal(found, 1);
        size_t schemas = 0;
        it = yyjson_obj_iter_with(json_get(yyjson_doc_get_root(doc), "components", "schemas"));
        for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
            yyjson_val *gvk = json_get(yyjson_obj_iter_get_val(key), "x-kubernetes-group-version-kind");
            schemas += str_eq(json_str(yyjson_arr_get_first(gvk), "kind"), k->kind);
        }
        assert_int_equal(schemas, 1);
    }
    _cleanup_(buf_free) struct buf v2 = BUF_INIT(32 << 20);
    openapi_v2(ks, &v2);
    assert_false(v2.overflowed);
    assert_memory_equal(v2.ptr,
                        "\x0a\x03"
                        "2.0",
                        5);
    assert_non_null(memmem(v2.ptr, v2.len, "#/definitions/io.k8s.api.core.v1.PodSpec", 40));
    kinds_free(ks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_kinds_are_found_by_path_and_by_kind),
        cmocka_unit_test(a_crd_adds_its_served_versions_and_takes_them_away),
        cmocka_unit_test(names_of_another_crd_are_not_accepted),
        cmocka_unit_test(custom_objects_lose_what_the_schema_does_not_know),
        cmocka_unit_test(both_groups_show_the_same_event),
        cmocka_unit_test(field_selectors_see_absent_booleans_as_false),
        cmocka_unit_test(all_forms_of_discovery_list_the_same_resources),
        cmocka_unit_test(unknown_accept_parameters_change_nothing),
        cmocka_unit_test(openapi_names_a_patch_for_every_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
