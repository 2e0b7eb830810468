/* Which messages have to be acknowledged, row by row of wire-protocol.md 5.4. */
#include "cloud_testing.h"

#include "cloud/cloudhub/item.h"

#define OBJECT "{'metadata':{'name':'x','uid':'u'}}"

static bool needs_ack(const char *source, const char *group, const char *operation, const char *resource,
                      const char *content) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *d = json_of(content);
    const struct message_fields f = {.source = source,
                                     .group = group,
                                     .operation = operation,
                                     .resource = resource,
                                     .resource_version = "1",
                                     .content = yyjson_doc_get_root(d)};
    struct message *m = message_new(&f);
    bool r = hub_needs_ack(m);
    message_free(m);
    return r;
}

static bool edge(const char *operation, const char *resource, const char *content) {
    return needs_ack(MODULE_EDGECONTROLLER, GROUP_RESOURCE, operation, resource, content);
}

static void objects_are_acknowledged(void **state) {
    assert_true(edge(OP_INSERT, "default/pod/web", OBJECT));
    assert_true(edge(OP_DELETE, "default/pod/web", OBJECT));
    assert_true(edge(OP_UPDATE, "default/configmap/c", OBJECT));
    assert_true(edge(OP_UPDATE, "null/node/n", OBJECT));
    assert_true(needs_ack("devicecontroller", GROUP_RESOURCE, OP_INSERT, "default/device/d", OBJECT));
}

static void answers_with_objects_are_acknowledged_where_the_original_does(void **state) {
    assert_true(edge(OP_RESPONSE, "default/secret/s", OBJECT));
    assert_true(edge(OP_RESPONSE, "default/configmap/s", OBJECT));
    assert_true(edge(OP_RESPONSE, "null/persistentvolume/s", OBJECT));
}

static void plain_answers_are_not(void **state) {
    assert_false(edge(OP_RESPONSE, "default/secret/s", "{'ErrStatus':{'code':404}}"));
    assert_false(edge(OP_RESPONSE, "null/node/n", "'OK'"));
    assert_false(edge(OP_RESPONSE, "null/node/n", OBJECT));
    assert_false(edge(OP_RESPONSE, "kube-node-lease/lease/n", "{'Object':{},'Err':null}"));
    assert_false(edge(OP_RESPONSE, "default/podpatch/p", "{'Object':{},'Err':null}"));
    assert_false(edge(OP_RESPONSE, "null/nodepatch/n", "{'Object':{},'Err':null}"));
    assert_false(edge(OP_RESPONSE, "default/pod/p", "{'Object':{},'Err':null}"));
    assert_false(edge(OP_RESPONSE, "default/serviceaccounttoken/default", OBJECT));
    assert_false(edge(OP_RESPONSE, "default/certificatesigningrequest/c", OBJECT));
}

static void messages_of_other_kinds_are_not(void **state) {
    assert_false(needs_ack("devicecontroller", GROUP_TWIN, OP_UPDATE, "membership", OBJECT));
    assert_false(needs_ack("devicecontroller", GROUP_TWIN, OP_RESPONSE, "twin", "'OK'"));
    assert_false(needs_ack("cloudhub", GROUP_RESOURCE, OP_RESPONSE, "k8s/ca.crt", "'pem'"));
    assert_false(needs_ack("cloudhub", GROUP_RESOURCE, "createvolume", "default/volume/v", "'x'"));
    assert_false(
        needs_ack("dynamiccontroller", GROUP_RESOURCE, "applicationResponse", "ignore/Application/ignore", OBJECT));
    assert_false(needs_ack("router_eventbus", GROUP_USER, "publish", "a/topic", "'x'"));
    assert_false(needs_ack("taskmanager", "taskmanager", "upgrade", "upgrade/1/node/n", OBJECT));
}

static void an_object_with_an_unlucky_name_is_delivered_reliably(void **state) {
    assert_true(edge(OP_UPDATE, "default/configmap/membership-db", OBJECT));
    assert_true(edge(OP_INSERT, "my-podlist/pod/web", OBJECT));
    assert_true(edge(OP_UPDATE, "default/secret/serviceaccounttoken", OBJECT));
}

static int item(const char *operation, const char *rv, const char *content, struct hub_item **out, struct error *err) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *d = json_of(content);
    const struct message_fields f = {.source = MODULE_EDGECONTROLLER,
                                     .group = GROUP_RESOURCE,
                                     .operation = operation,
                                     .resource = "default/pod/x",
                                     .resource_version = rv,
                                     .content = yyjson_doc_get_root(d)};
    struct message *m = message_new(&f);
    int rc = hub_item_new(m, out, err);
    message_free(m);
    return rc;
}

static void what_could_never_be_tracked_is_refused(void **state) {
    struct hub_item *i = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(item(OP_UPDATE, "", OBJECT, &i, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(item(OP_UPDATE, "1", "{'metadata':{'name':'x'}}", &i, &err), -1);
    assert_null(i);
}

static void deletions_without_uid_do_not_share_a_place(void **state) {
    struct hub_item *i = NULL;
    assert_int_equal(item(OP_DELETE, "", "{'metadata':{'name':'x'}}", &i, NULL), 0);
    assert_string_equal(i->key, "default/pod/x");
    assert_true(i->deletion);
    hub_item_free(i);
}

static void a_resource_version_that_is_no_number_counts_as_zero(void **state) {
    struct hub_item *i = NULL;
    assert_int_equal(item(OP_UPDATE, "abc", OBJECT, &i, NULL), 0);
    assert_int_equal(i->rv, 0);
    hub_item_free(i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_acknowledged),
        cmocka_unit_test(answers_with_objects_are_acknowledged_where_the_original_does),
        cmocka_unit_test(plain_answers_are_not),
        cmocka_unit_test(messages_of_other_kinds_are_not),
        cmocka_unit_test(an_object_with_an_unlucky_name_is_delivered_reliably),
        cmocka_unit_test(what_could_never_be_tracked_is_refused),
        cmocka_unit_test(deletions_without_uid_do_not_share_a_place),
        cmocka_unit_test(a_resource_version_that_is_no_number_counts_as_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
