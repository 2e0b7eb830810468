/* URLs and Accept headers of the API server. */
#include "apiserver/negotiate.h"
#include "apiserver/path.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void expect_path(const char *path, const char *group, const char *version, const char *ns, const char *resource,
                        const char *name, const char *subresource) {
    struct api_path p;
    struct error err = ERROR_INIT;
    assert_int_equal(api_path_parse(bytes_str(path), &p, &err), 0);
    assert_string_equal(p.group, group);
    assert_string_equal(p.version, version);
    assert_string_equal(p.ns, ns);
    assert_string_equal(p.resource, resource);
    assert_string_equal(p.name, name);
    assert_string_equal(p.subresource, subresource);
    api_path_free(&p);
}

static void paths_name_what_they_name(void **state) {
    expect_path("/api/v1/pods", "", "v1", "", "pods", "", "");
    expect_path("/api/v1/pods/", "", "v1", "", "pods", "", "");
    expect_path("/api/v1/nodes/n1/status", "", "v1", "", "nodes", "n1", "status");
    expect_path("/api/v1/namespaces/x/pods/p", "", "v1", "x", "pods", "p", "");
    expect_path("/api/v1/namespaces/x/pods/p/binding", "", "v1", "x", "pods", "p", "binding");
    expect_path("/apis/apps/v1/namespaces/x/deployments", "apps", "v1", "x", "deployments", "", "");
    expect_path("/api/v1/namespaces", "", "v1", "", "namespaces", "", "");
    expect_path("/api/v1/namespaces/x", "", "v1", "", "namespaces", "x", "");
}

static void status_and_finalize_belong_to_the_namespace_itself(void **state) {
    expect_path("/api/v1/namespaces/x/status", "", "v1", "", "namespaces", "x", "status");
    expect_path("/api/v1/namespaces/x/finalize", "", "v1", "", "namespaces", "x", "finalize");
    expect_path("/api/v1/namespaces/x/statuses", "", "v1", "x", "statuses", "", "");
}

static void segments_are_decoded_once(void **state) {
    expect_path("/api/v1/namespaces/x/configmaps/a%2Eb", "", "v1", "x", "configmaps", "a.b", "");
}

static void expect_error(const char *path, enum error_code code) {
    struct api_path p;
    struct error err = ERROR_INIT;
    assert_int_equal(api_path_parse(bytes_str(path), &p, &err), -1);
    assert_int_equal(err.code, code);
}

static void malformed_paths_are_refused(void **state) {
    expect_error("/api/v1/pods/a%2fb", ERR_INVALID);
    expect_error("/api/v1/pods/%zz", ERR_INVALID);
    expect_error("/api/v1/pods/..", ERR_INVALID);
    expect_error("/api/v1/pods/%2e%2e", ERR_INVALID);
    expect_error("/api/v1//x", ERR_INVALID);
    expect_error("/api/v1", ERR_NOT_FOUND);
    expect_error("/apis/apps/v1", ERR_NOT_FOUND);
    expect_error("/healthz", ERR_NOT_FOUND);
    expect_error("", ERR_NOT_FOUND);
}

static void flags_are_true_unless_they_say_otherwise(void **state) {
    assert_true(query_flag(bytes_str("watch=true"), "watch"));
    assert_true(query_flag(bytes_str("a=b&watch="), "watch"));
    assert_true(query_flag(bytes_str("watch"), "watch"));
    assert_true(query_flag(bytes_str("watch=1&x"), "watch"));
    assert_false(query_flag(bytes_str("watch=0"), "watch"));
    assert_false(query_flag(bytes_str("watch=false"), "watch"));
    assert_false(query_flag(bytes_str("unwatch=1"), "watch"));
    assert_false(query_flag(bytes_str(""), "watch"));
}

static void expect_form(const char *accept, unsigned allowed, int form) {
    enum answer_form got = FORM_JSON;
    int rc = negotiate(bytes_str(accept), allowed, &got);
    if (form < 0) {
        assert_int_equal(rc, -1);
        return;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(got, form);
}

#define OBJECT (FORM_BIT(FORM_JSON) | FORM_BIT(FORM_TABLE) | FORM_BIT(FORM_PARTIAL))

static void the_first_clause_that_can_be_met_wins(void **state) {
    expect_form("", OBJECT, FORM_JSON);
    expect_form("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", OBJECT, FORM_TABLE);
    expect_form("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", FORM_BIT(FORM_JSON), FORM_JSON);
    expect_form("application/vnd.kubernetes.protobuf,application/json", OBJECT, FORM_JSON);
    expect_form("application/vnd.kubernetes.protobuf, */*", OBJECT, FORM_JSON);
    expect_form("application/vnd.kubernetes.protobuf", OBJECT, -1);
    expect_form("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", OBJECT, -1);
    expect_form("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,"
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                OBJECT, FORM_PARTIAL);
}

static void quality_counts_before_order(void **state) {
    expect_form("application/json;q=0.5, application/json;as=Table;g=meta.k8s.io;v=v1;q=0.9", OBJECT, FORM_TABLE);
    expect_form("application/json;q=0", OBJECT, -1);
}

static void unknown_parameters_change_nothing(void **state) {
    unsigned allowed = FORM_BIT(FORM_JSON) | FORM_BIT(FORM_DISCOVERY_V2);
    expect_form("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,application/json",
                allowed, FORM_DISCOVERY_V2);
}

static void content_types_tolerate_parameters(void **state) {
    assert_int_equal(body_type_of(bytes_str("application/json; charset=utf-8")), BODY_JSON);
    assert_int_equal(body_type_of(BYTES_EMPTY), BODY_JSON);
    assert_int_equal(body_type_of(bytes_str("application/apply-patch+yaml")), BODY_APPLY_PATCH);
    assert_int_equal(body_type_of(bytes_str("application/strategic-merge-patch+json")), BODY_STRATEGIC_PATCH);
    assert_int_equal(body_type_of(bytes_str("text/html")), BODY_OTHER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_name_what_they_name),
        cmocka_unit_test(status_and_finalize_belong_to_the_namespace_itself),
        cmocka_unit_test(segments_are_decoded_once),
        cmocka_unit_test(malformed_paths_are_refused),
        cmocka_unit_test(flags_are_true_unless_they_say_otherwise),
        cmocka_unit_test(the_first_clause_that_can_be_met_wins),
        cmocka_unit_test(quality_counts_before_order),
        cmocka_unit_test(unknown_parameters_change_nothing),
        cmocka_unit_test(content_types_tolerate_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
