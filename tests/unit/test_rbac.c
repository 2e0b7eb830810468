#include "apiserver/rbac.h"

#include "net/es256.h"
#include "net/tls.h"

#include "json_testing.h"

static struct recordmap roles, cluster_roles, role_bindings, cluster_role_bindings;

static void put(struct recordmap *m, const char *kind, const char *ns, const char *name, const char *rest) {
    _cleanup_(free_p) char *text =
        xasprintf("{'kind':'%s','apiVersion':'rbac.authorization.k8s.io/v1','metadata':{'name':'%s','namespace':'%s',"
                  "'resourceVersion':'1'},%s}",
                  kind, name, ns, rest);
    for (char *p = text; *p; p++)
        if (*p == '\'')
            *p = '"';
    struct error err = ERROR_INIT;
    _cleanup_(record_unref_p) struct record *r = record_new(ns, name, bytes_str(text), 1, &err);
    if (!r)
        fail_msg("%s", err.msg);
    recordmap_put(m, r);
}

static struct rbac *compile(void) {
    const struct rbac_sources from = {&roles, &cluster_roles, &role_bindings, &cluster_role_bindings};
    return rbac_compile(&from);
}

static int clear(void **state) {
    recordmap_clear(&roles);
    recordmap_clear(&cluster_roles);
    recordmap_clear(&role_bindings);
    recordmap_clear(&cluster_role_bindings);
    return 0;
}

#define TO(kind, name) "'roleRef':{'kind':'" kind "','name':'" name "'}"
#define USER(name) "'subjects':[{'kind':'User','name':'" name "'}]"

static bool may(const struct rbac *x, const char *user, const char *verb, const char *ns, const char *resource,
                const char *sub, const char *name) {
    struct identity id = {.user = (char *)user};
    struct access a = {.verb = verb, .group = "", .resource = resource, .subresource = sub, .ns = ns, .name = name};
    strlist_add(&id.groups, "team");
    bool allowed = rbac_allowed(x, &id, &a);
    strlist_free(&id.groups);
    return allowed;
}

static void a_binding_of_a_namespace_grants_in_it_only(void **state) {
    put(&cluster_roles, "ClusterRole", "", "view", "'rules':[{'verbs':['get'],'apiGroups':[''],'resources':['pods']}]");
    put(&role_bindings, "RoleBinding", "a", "b", TO("ClusterRole", "view") "," USER("u"));
    struct rbac *x = compile();
    assert_true(may(x, "u", "get", "a", "pods", "", "p"));
    assert_false(may(x, "u", "get", "b", "pods", "", "p"));
    assert_false(may(x, "u", "get", "", "pods", "", "p"));
    assert_false(may(x, "v", "get", "a", "pods", "", "p"));
    assert_false(may(x, "u", "get", "a", "pods", "log", "p"));
    assert_false(may(x, "u", "list", "a", "pods", "", ""));
    rbac_free(x);
}

static void subresources_names_and_accounts_are_matched(void **state) {
    put(&roles, "Role", "a", "r",
        "'rules':[{'verbs':['*'],'apiGroups':['*'],'resources':['*/scale','pods/log'],'resourceNames':['n']}]");
    put(&role_bindings, "RoleBinding", "a", "b",
        TO("Role", "r") ",'subjects':[{'kind':'ServiceAccount','name':'sa'},{'kind':'Group','name':'team2'}]");
    struct rbac *x = compile();
    assert_true(may(x, "system:serviceaccount:a:sa", "get", "a", "deployments", "scale", "n"));
    assert_true(may(x, "system:serviceaccount:a:sa", "get", "a", "pods", "log", "n"));
    assert_false(may(x, "system:serviceaccount:a:sa", "get", "a", "pods", "log", "m"));
    assert_false(may(x, "system:serviceaccount:a:sa", "create", "a", "pods", "log", ""));
    assert_false(may(x, "system:serviceaccount:a:sa", "get", "a", "pods", "logs", "n"));
    assert_false(may(x, "system:serviceaccount:b:sa", "get", "a", "pods", "log", "n"));
    rbac_free(x);
}

static void a_binding_to_no_role_grants_nothing(void **state) {
    put(&cluster_role_bindings, "ClusterRoleBinding", "", "b", TO("ClusterRole", "gone") "," USER("u"));
    put(&cluster_role_bindings, "ClusterRoleBinding", "", "c", TO("Role", "r") "," USER("u"));
    struct rbac *x = compile();
    assert_false(may(x, "u", "get", "a", "pods", "", "p"));
    rbac_free(x);
}

static bool covers(const struct rbac *x, const char *rules) {
    char user[] = "u";
    struct identity id = {.user = user};
    char *missing = NULL;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = test_json(rules);
    bool all = rbac_covers(x, &id, "", yyjson_doc_get_root(doc), &missing);
    assert_true(all == !missing);
    free(missing);
    return all;
}

static void a_rule_is_covered_by_several(void **state) {
    put(&cluster_roles, "ClusterRole", "", "r",
        "'rules':[{'verbs':['get','list'],'apiGroups':[''],'resources':['pods']},"
        "{'verbs':['get'],'apiGroups':[''],'resources':['secrets'],'resourceNames':['s']},"
        "{'verbs':['get'],'nonResourceURLs':['/metrics/*']}]");
    put(&cluster_role_bindings, "ClusterRoleBinding", "", "b", TO("ClusterRole", "r") "," USER("u"));
    struct rbac *x = compile();
    assert_true(covers(x, "[]"));
    assert_true(covers(x, "[{'verbs':['get'],'apiGroups':[''],'resources':['pods']}]"));
    assert_true(covers(x, "[{'verbs':['get'],'apiGroups':[''],'resources':['pods','secrets'],'resourceNames':['s']}]"));
    assert_false(covers(x, "[{'verbs':['get'],'apiGroups':[''],'resources':['secrets']}]"));
    assert_false(covers(x, "[{'verbs':['*'],'apiGroups':[''],'resources':['pods']}]"));
    assert_false(covers(x, "[{'verbs':['get'],'apiGroups':[''],'resources':['*']}]"));
    assert_false(covers(x, "[{'verbs':['get'],'apiGroups':['*'],'resources':['pods']}]"));
    assert_true(covers(x, "[{'verbs':['get'],'nonResourceURLs':['/metrics/a','/metrics/*']}]"));
    assert_false(covers(x, "[{'verbs':['get'],'nonResourceURLs':['*']}]"));
    rbac_free(x);
}

static void a_signature_is_good_for_its_text_and_key_only(void **state) {
    struct error err = ERROR_INIT;
    unsigned char sig[ES256_SIZE];
    struct es256_key *keys[2];
    for (size_t i = 0; i < 2; i++) {
        _cleanup_(buf_free) struct buf pem = BUF_INIT(4096);
        assert_int_equal(x509_new_key(&pem, &err), 0);
        keys[i] = es256_key_new(buf_bytes(&pem), &err);
        assert_non_null(keys[i]);
    }
    assert_int_equal(es256_sign(keys[0], BYTES_LIT("text"), sig, &err), 0);
    assert_true(es256_verify(keys[0], BYTES_LIT("text"), bytes_of(sig, sizeof(sig))));
    assert_false(es256_verify(keys[0], BYTES_LIT("test"), bytes_of(sig, sizeof(sig))));
    assert_false(es256_verify(keys[1], BYTES_LIT("text"), bytes_of(sig, sizeof(sig))));
    assert_false(es256_verify(keys[0], BYTES_LIT("text"), bytes_of(sig, sizeof(sig) - 1)));
    memset(sig, 0, sizeof(sig));
    assert_false(es256_verify(keys[0], BYTES_LIT("text"), bytes_of(sig, sizeof(sig))));
    memset(sig, 0xff, sizeof(sig));
    assert_false(es256_verify(keys[0], BYTES_LIT("text"), bytes_of(sig, sizeof(sig))));
    assert_null(es256_key_new(BYTES_LIT("no key"), &err));
    es256_key_free(keys[0]);
    es256_key_free(keys[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_binding_of_a_namespace_grants_in_it_only, clear),
        cmocka_unit_test_teardown(subresources_names_and_accounts_are_matched, clear),
        cmocka_unit_test_teardown(a_binding_to_no_role_grants_nothing, clear),
        cmocka_unit_test_teardown(a_rule_is_covered_by_several, clear),
        cmocka_unit_test(a_signature_is_good_for_its_text_and_key_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
