/* What a node may do: its own things, and what its pods use; nothing of another node's. */
#include "cloud_testing.h"

#include "cloud/edgecontroller/authorize.h"
#include "net/tls.h"

#define POD_A                                                                                                          \
    "{'metadata':{'name':'web','namespace':'default','uid':'ua'},'spec':{'nodeName':'a','serviceAccountName':'sa',"    \
    "'volumes':[{'name':'v','configMap':{'name':'cm'}},{'name':'p','projected':{'sources':[{'secret':{'name':'ps'}}]}" \
    "},"                                                                                                               \
    "{'name':'c','persistentVolumeClaim':{'claimName':'claim'}}],"                                                     \
    "'imagePullSecrets':[{'name':'pull'}],"                                                                            \
    "'initContainers':[{'name':'i','envFrom':[{'secretRef':{'name':'init'}}]}],"                                       \
    "'containers':[{'name':'m','env':[{'name':'E','valueFrom':{'secretKeyRef':{'name':'env','key':'k'}}}]}]}}"
#define POD_B "{'metadata':{'name':'db','namespace':'default','uid':'ub'},'spec':{'nodeName':'b','containers':[]}}"

static struct location *fleet(void) {
    struct location *l = location_new();
    yyjson_doc *a = json_of(POD_A), *b = json_of(POD_B);
    location_set_pod(l, yyjson_doc_get_root(a));
    location_set_pod(l, yyjson_doc_get_root(b));
    yyjson_doc_free(a);
    yyjson_doc_free(b);
    return l;
}

static enum verdict ask(const char *node, const char *operation, const char *ns, const char *type, const char *name,
                        const char *content) {
    struct location *l = fleet();
    yyjson_doc *d = json_of(content ? content : "null");
    const struct edge_request r = {node, ns, type, name, operation, yyjson_doc_get_root(d)};
    struct error why = ERROR_INIT;
    enum verdict v = authorize(l, &r, &why);
    assert_true(v != VERDICT_DENY || why.code == ERR_DENIED);
    yyjson_doc_free(d);
    location_free(l);
    return v;
}

static void a_node_may_speak_for_itself_only(void **state) {
    static const char *const things[][2] = {
        {"node", OP_INSERT},     {"node", OP_UPDATE},       {"node", OP_QUERY},
        {"nodepatch", OP_PATCH}, {"nodestatus", OP_UPDATE}, {"nodestatus", OP_INSERT},
    };
    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        assert_int_equal(ask("a", things[i][1], "", things[i][0], "a", NULL), VERDICT_ALLOW);
        assert_int_equal(ask("a", things[i][1], "", things[i][0], "b", NULL), VERDICT_DENY);
    }
    assert_int_equal(ask("a", OP_DELETE, "", "node", "a", NULL), VERDICT_DENY);
}

static void a_lease_is_that_of_the_node(void **state) {
    assert_int_equal(ask("a", OP_UPDATE, "kube-node-lease", "lease", "a", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_UPDATE, "kube-node-lease", "lease", "b", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_UPDATE, "kube-system", "lease", "a", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "kube-node-lease", "lease", "a", "{'metadata':{'name':'b'}}"), VERDICT_DENY);
}

static void pods_of_another_node_are_out_of_reach(void **state) {
    assert_int_equal(ask("a", OP_PATCH, "default", "podpatch", "web", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("b", OP_PATCH, "default", "podpatch", "web", NULL), VERDICT_DENY);
    assert_int_equal(ask("b", OP_DELETE, "default", "pod", "web", NULL), VERDICT_DENY);
    assert_int_equal(ask("b", OP_UPDATE, "default", "podstatus", "web", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_PATCH, "default", "podpatch", "unknown", NULL), VERDICT_LOOK);
}

static void what_the_pods_use_may_be_read(void **state) {
    assert_int_equal(ask("a", OP_QUERY, "default", "configmap", "cm", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_QUERY, "default", "secret", "ps", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_QUERY, "default", "secret", "pull", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_QUERY, "default", "secret", "init", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_QUERY, "default", "secret", "env", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_QUERY, "default", "persistentvolumeclaim", "claim", NULL), VERDICT_ALLOW);
    assert_int_equal(ask("b", OP_QUERY, "default", "secret", "env", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_QUERY, "other", "secret", "env", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_QUERY, "default", "secret", "cm", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_UPDATE, "default", "secret", "env", NULL), VERDICT_DENY);
}

static void a_token_is_for_a_pod_of_the_node(void **state) {
    static const char bound[] = "{'spec':{'boundObjectRef':{'kind':'Pod','name':'web','uid':'ua'}}}";
    assert_int_equal(ask("a", OP_QUERY, "default", "serviceaccounttoken", "sa", bound), VERDICT_ALLOW);
    assert_int_equal(ask("b", OP_QUERY, "default", "serviceaccounttoken", "sa", bound), VERDICT_DENY);
    assert_int_equal(ask("a", OP_QUERY, "default", "serviceaccounttoken", "admin", bound), VERDICT_DENY);
    assert_int_equal(ask("a", OP_QUERY, "default", "serviceaccounttoken", "sa", "{'spec':{}}"), VERDICT_DENY);
    assert_int_equal(ask("a", OP_QUERY, "default", "serviceaccounttoken", "sa",
                         "{'spec':{'boundObjectRef':{'kind':'Pod','name':'web','uid':'old'}}}"),
                     VERDICT_DENY);
}

static void a_mirror_pod_reaches_for_nothing(void **state) {
#define MIRROR "'metadata':{'name':'m','namespace':'default','annotations':{'kubernetes.io/config.mirror':'h'}}"
    assert_int_equal(ask("a", OP_INSERT, "default", "pod", "m", "{" MIRROR ",'spec':{'nodeName':'a'}}"), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_INSERT, "default", "pod", "m", "{" MIRROR ",'spec':{'nodeName':'b'}}"), VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "pod", "x", "{" MIRROR ",'spec':{'nodeName':'a'}}"), VERDICT_DENY);
    assert_int_equal(
        ask("a", OP_INSERT, "default", "pod", "m", "{" MIRROR ",'spec':{'nodeName':'a','serviceAccountName':'admin'}}"),
        VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "pod", "m",
                         "{" MIRROR ",'spec':{'nodeName':'a','volumes':[{'secret':{'secretName':'s'}}]}}"),
                     VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "pod", "m", "{'metadata':{'name':'m'},'spec':{'nodeName':'a'}}"),
                     VERDICT_DENY);
}

static void a_mirror_pod_gives_no_service_account(void **state) {
    assert_int_equal(
        ask("a", OP_INSERT, "default", "pod", "m", "{" MIRROR ",'spec':{'nodeName':'a','serviceAccount':'admin'}}"),
        VERDICT_DENY);
    struct location *l = location_new();
    yyjson_doc *d = json_of("{" MIRROR ",'spec':{'nodeName':'a'}}");
    location_set_pod(l, yyjson_doc_get_root(d));
    assert_string_equal(location_pod_node(l, "default", "m", NULL), "a");
    assert_false(location_uses(l, "a", LOCATION_SERVICEACCOUNT, "default", "default"));
    yyjson_doc_free(d);
    location_free(l);
}

static void what_is_judged_cannot_be_read_in_two_ways(void **state) {
    assert_int_equal(ask("a", OP_QUERY, "default", "serviceaccounttoken", "sa",
                         "{'spec':{'boundObjectRef':{'kind':'Pod','name':'web','uid':'ua'},"
                         "'boundObjectRef':{'kind':'Pod','name':'db','uid':'ub'}}}"),
                     VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "", "node", "a", "{'metadata':{'name':'a'},'metadata':{'name':'b'}}"),
                     VERDICT_DENY);
}

static void names_that_change_the_path_are_denied(void **state) {
    static const char own[] = "{'source':{'host':'a'},'involvedObject':{'kind':'Node','name':'a'}}";
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", own), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_INSERT, "..", "event", "e", own), VERDICT_DENY);
    assert_int_equal(ask("a", OP_UPDATE, "default", "event", "..", own), VERDICT_DENY);
    assert_int_equal(ask("a", OP_DELETE, "default", "pod", "..", NULL), VERDICT_DENY);
}

static char *csr_content(const char *pem) {
    _cleanup_(buf_free) struct buf b64 = BUF_INIT(64 << 10);
    base64_encode(bytes_str(pem), &b64);
    return xasprintf("{'metadata':{'name':'c'},'spec':{'signerName':'kubernetes.io/kubelet-serving','request':'%s'}}",
                     b64.ptr);
}

static char *request_of(const char *node) {
    struct error err = ERROR_INIT;
    struct x509_subject subject = {.organization = "system:nodes"};
    snprintf(subject.common_name, sizeof(subject.common_name), "system:node:%s", node);
    _cleanup_(buf_free) struct buf key = BUF_INIT(64 << 10), der = BUF_INIT(64 << 10), pem = BUF_INIT(64 << 10);
    if (x509_new_key(&key, &err) < 0 || x509_new_csr(buf_bytes(&key), &subject, &der, &err) < 0)
        fail_msg("%s", err.msg);
    buf_add_str(&pem, "-----BEGIN CERTIFICATE REQUEST-----\n");
    base64_encode(buf_bytes(&der), &pem);
    buf_add_str(&pem, "\n-----END CERTIFICATE REQUEST-----\n");
    return buf_take(&pem, NULL);
}

static void a_certificate_request_hides_no_other(void **state) {
    _cleanup_(free_p) char *own = request_of("a"), *foreign = request_of("b");
    _cleanup_(free_p) char *both = xasprintf("x%s%s", own, foreign), *after = xasprintf("%s%s", own, foreign);
    const struct {
        const char *pem;
        enum verdict verdict;
    } cases[] = {{own, VERDICT_ALLOW}, {foreign, VERDICT_DENY}, {both, VERDICT_DENY}, {after, VERDICT_DENY}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(free_p) char *content = csr_content(cases[i].pem);
        assert_int_equal(ask("a", OP_INSERT, "", "certificatesigningrequest", "c", content), cases[i].verdict);
    }
}

static void an_event_is_not_patched_into_one_about_another(void **state) {
#define PATCHED(patch) \
    "{'event':{'source':{'host':'a'},'involvedObject':{'kind':'Node','name':'a'}},'patchData':" patch "}"
    assert_int_equal(ask("a", OP_PATCH, "default", "event", "e", PATCHED("'{\\'count\\':2}'")), VERDICT_LOOK);
    assert_int_equal(
        ask("a", OP_PATCH, "default", "event", "e", PATCHED("'{\\'involvedObject\\':{\\'name\\':\\'b\\'}}'")),
        VERDICT_DENY);
    assert_int_equal(ask("a", OP_PATCH, "default", "event", "e", PATCHED("'{\\'$patch\\':\\'replace\\'}'")),
                     VERDICT_DENY);
    assert_int_equal(ask("a", OP_PATCH, "default", "event", "e", PATCHED("null")), VERDICT_DENY);
}

static void events_are_the_nodes_own(void **state) {
#define ABOUT(host, kind, name) \
    "{'source':{'host':'" host "'},'involvedObject':{'kind':'" kind "','namespace':'default','name':'" name "'}}"
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", ABOUT("a", "Pod", "web")), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", ABOUT("a", "Node", "a")), VERDICT_ALLOW);
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", ABOUT("b", "Pod", "web")), VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", ABOUT("a", "Pod", "db")), VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", ABOUT("a", "Node", "b")), VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "event", "e", ABOUT("a", "Secret", "s")), VERDICT_DENY);
    assert_int_equal(ask("a", OP_UPDATE, "default", "event", "e", ABOUT("a", "Pod", "web")), VERDICT_LOOK);
    assert_int_equal(
        ask("a", OP_PATCH, "default", "event", "e", "{'event':" ABOUT("a", "Pod", "web") ",'patchData':'{}'}"),
        VERDICT_LOOK);
}

static void everything_else_is_denied(void **state) {
    assert_int_equal(ask("a", OP_QUERY, "default", "deployment", "d", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", "", "", "", "", NULL), VERDICT_DENY);
    assert_int_equal(ask("a", OP_INSERT, "default", "certificatesigningrequest", "c", "{'spec':{}}"), VERDICT_DENY);
    assert_int_equal(ask("a", "insert update", "", "node", "a", NULL), VERDICT_DENY);
}

static void objects_that_were_looked_up_must_be_the_nodes(void **state) {
    struct location *l = fleet();
    static const struct {
        const char *type, *object;
        bool of_a;
    } rows[] = {
        {"podpatch", "{'spec':{'nodeName':'a'}}", true},
        {"podpatch", "{'spec':{'nodeName':'b'}}", false},
        {"pod", "{'spec':{}}", false},
        {"volumeattachment", "{'spec':{'nodeName':'b'}}", false},
        {"persistentvolume", "{'spec':{'claimRef':{'namespace':'default','name':'claim'}}}", true},
        {"persistentvolume", "{'spec':{'claimRef':{'namespace':'default','name':'other'}}}", false},
        {"persistentvolume", "{'spec':{}}", false},
        {"event", "{'source':{'host':'a'}}", true},
        {"event", "{'reportingInstance':'b'}", false},
        {"certificatesigningrequest", "{'spec':{'request':'AAAA'}}", false},
        {"secret", "{}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        yyjson_doc *d = json_of(rows[i].object);
        const struct edge_request r = {"a", "default", rows[i].type, "x", OP_QUERY, NULL};
        assert_int_equal(belongs_to_node(l, &r, yyjson_doc_get_root(d)), rows[i].of_a);
        yyjson_doc_free(d);
    }
    location_free(l);
}

static void modules_of_the_cloud_are_known(void **state) {
    assert_true(is_cloud_module("edgecontroller"));
    assert_true(is_cloud_module("cloudhub"));
    assert_false(is_cloud_module("edged"));
    assert_false(is_cloud_module(""));
}

/* ---- the location cache ---- */

static void count(void *arg, const char *node) {
    strlist_add(arg, node);
}

static void an_object_goes_to_nodes_whose_pods_use_it_and_no_longer(void **state) {
    struct location *l = fleet();
    struct strlist nodes = {0};
    yyjson_doc *second =
        json_of("{'metadata':{'name':'web2','namespace':'default'},'spec':{'nodeName':'b','containers':"
                "[{'envFrom':[{'configMapRef':{'name':'cm'}}]}]}}");
    location_set_pod(l, yyjson_doc_get_root(second));
    location_each_node(l, LOCATION_CONFIGMAP, "default", "cm", count, &nodes);
    strlist_sort(&nodes);
    assert_int_equal(nodes.count, 2);
    assert_string_equal(nodes.items[0], "a");
    strlist_free(&nodes);
    location_remove_pod(l, "default", "web");
    location_each_node(l, LOCATION_CONFIGMAP, "default", "cm", count, &nodes);
    assert_int_equal(nodes.count, 1);
    assert_string_equal(nodes.items[0], "b");
    strlist_free(&nodes);
    location_remove_pod(l, "default", "web2");
    location_each_node(l, LOCATION_CONFIGMAP, "default", "cm", count, &nodes);
    assert_int_equal(nodes.count, 0);
    yyjson_doc_free(second);
    location_free(l);
}

static void a_pod_that_changes_changes_its_uses(void **state) {
    struct location *l = fleet();
    yyjson_doc *d = json_of("{'metadata':{'name':'web','namespace':'default','uid':'ua'},'spec':{'nodeName':'a'}}");
    location_set_pod(l, yyjson_doc_get_root(d));
    assert_false(location_uses(l, "a", LOCATION_CONFIGMAP, "default", "cm"));
    assert_true(location_uses(l, "a", LOCATION_SERVICEACCOUNT, "default", "default"));
    assert_string_equal(location_pod_node(l, "default", "web", NULL), "a");
    yyjson_doc_free(d);
    location_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_may_speak_for_itself_only),
        cmocka_unit_test(a_lease_is_that_of_the_node),
        cmocka_unit_test(pods_of_another_node_are_out_of_reach),
        cmocka_unit_test(what_the_pods_use_may_be_read),
        cmocka_unit_test(a_token_is_for_a_pod_of_the_node),
        cmocka_unit_test(a_mirror_pod_reaches_for_nothing),
        cmocka_unit_test(a_mirror_pod_gives_no_service_account),
        cmocka_unit_test(what_is_judged_cannot_be_read_in_two_ways),
        cmocka_unit_test(names_that_change_the_path_are_denied),
        cmocka_unit_test(a_certificate_request_hides_no_other),
        cmocka_unit_test(an_event_is_not_patched_into_one_about_another),
        cmocka_unit_test(events_are_the_nodes_own),
        cmocka_unit_test(everything_else_is_denied),
        cmocka_unit_test(objects_that_were_looked_up_must_be_the_nodes),
        cmocka_unit_test(modules_of_the_cloud_are_known),
        cmocka_unit_test(an_object_goes_to_nodes_whose_pods_use_it_and_no_longer),
        cmocka_unit_test(a_pod_that_changes_changes_its_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
