#include "edge/metamanager/meta_internal.h"
#include "edge_fixture.h"
#include "kube/object.h"

#include <glob.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>

struct bench {
    struct edge_fixture *f;
    struct metamanager *mm;
};

static void open_manager(struct bench *b) {
    struct error err = ERROR_INIT;
    b->mm = metamanager_new(b->f->loop, b->f->pool, b->f->bus, &b->f->config, &err);
    if (!b->mm)
        fail_msg("%s", err.msg);
    assert_int_equal(metamanager_start(b->mm, NULL), 0);
}

static int setup(void **state) {
    struct bench *b = NEW(struct bench);
    b->f = fixture_new();
    open_manager(b);
    *state = b;
    return 0;
}

static bool is_idle(void *arg) {
    return metamanager_idle(((struct bench *)arg)->mm);
}

static int teardown(void **state) {
    struct bench *b = *state;
    run_until(b->f, is_idle, b);
    pool_free(b->f->pool);
    metamanager_free(b->mm);
    fixture_free(b->f);
    free(b);
    return 0;
}

/* ---- what the cloud sends ---- */

static struct message *from_cloud(const char *operation, const char *resource, const char *content) {
    return message_new(&(struct message_fields){.source = MODULE_EDGECONTROLLER,
                                                .group = GROUP_RESOURCE,
                                                .operation = operation,
                                                .resource = resource,
                                                .resource_version = "1",
                                                .content_text = bytes_str(content)});
}

static void cloud_sends(struct bench *b, const char *operation, const char *resource, const char *content) {
    size_t before = b->f->cloud.count;
    bus_send(b->f->bus, MODULE_METAMANAGER, from_cloud(operation, resource, content));
    run_until_count(b->f, &b->f->cloud, before + 1); /* the acknowledgement */
    run_a_little(b->f);
}

static char *row(struct bench *b, const char *table, const char *key) {
    sqlite3 *db;
    sqlite3_stmt *st;
    char *value = NULL, *sql = xasprintf("SELECT value FROM %s WHERE key = ?1", table);
    assert_int_equal(sqlite3_open(b->f->config.database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    if (sqlite3_step(st) == SQLITE_ROW)
        value = xstrdup((const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    sqlite3_close(db);
    free(sql);
    return value;
}

static void assert_row(struct bench *b, const char *table, const char *key, const char *part) {
    char *value = row(b, table, key);
    assert_non_null(value);
    assert_non_null(strstr(value, part));
    free(value);
}

static void assert_no_row(struct bench *b, const char *table, const char *key) {
    char *value = row(b, table, key);
    assert_null(value);
}

#define POD(uid, rv, more)                                                                                       \
    "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"" uid "\",\"resourceVersion\":\"" rv "\"" more \
    "},\"spec\":{\"nodeName\":\"n\"}}"

static void an_object_is_stored_passed_on_and_acknowledged(void **state) {
    struct bench *b = *state;
    struct message *m = from_cloud(OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    char *id = xstrdup(m->id);
    bus_send(b->f->bus, MODULE_METAMANAGER, m);
    run_until_count(b->f, &b->f->edged, 1);
    const struct message *ack = b->f->cloud.messages[0];
    assert_string_equal(ack->operation, OP_RESPONSE);
    assert_string_equal(ack->parent_id, id);
    assert_string_equal(yyjson_get_str(ack->content), "OK");
    assert_row(b, "meta", "ns/pod/p", "\"u1\"");
    assert_row(b, "meta_v2", "/core/v1/pods/ns/p", "\"kind\":\"Pod\"");
    assert_string_equal(b->f->edged.messages[0]->operation, OP_INSERT);
    free(id);
}

static void a_duplicate_is_acknowledged_and_not_passed_on(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u1", "5", ""));
    assert_int_equal(b->f->cloud.count, 2);
    assert_int_equal(b->f->edged.count, 1);
}

static void an_older_version_does_not_replace_a_newer_one(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u1", "10", ""));
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u1", "9", ""));
    assert_int_equal(b->f->cloud.count, 2);
    assert_int_equal(b->f->edged.count, 1);
    assert_row(b, "meta", "ns/pod/p", "\"resourceVersion\":\"10\"");
}

static void a_new_object_of_the_same_name_replaces_the_old_one(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u1", "10", ""));
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u2", "7", ""));
    assert_int_equal(b->f->edged.count, 2);
    assert_row(b, "meta", "ns/pod/p", "\"u2\"");
}

static void a_late_copy_of_the_object_before_is_ignored(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u2", "20", ",\"creationTimestamp\":\"2026-01-02T00:00:00Z\""));
    cloud_sends(b, OP_UPDATE, "ns/pod/p", POD("u1", "19", ",\"creationTimestamp\":\"2026-01-01T00:00:00Z\""));
    assert_int_equal(b->f->edged.count, 1);
    assert_row(b, "meta", "ns/pod/p", "\"u2\"");
}

static void a_delete_removes_every_row_and_gives_edged_the_stored_pod(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    cloud_sends(b, OP_DELETE, "ns/pod/p", "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u1\"}}");
    assert_no_row(b, "meta", "ns/pod/p");
    assert_no_row(b, "meta_v2", "/core/v1/pods/ns/p");
    const struct message *gone = b->f->edged.messages[1];
    assert_string_equal(gone->operation, OP_DELETE);
    assert_string_equal(json_str(gone->content, "spec", "nodeName"), "n");
}

static void a_delete_of_another_uid_is_acknowledged_and_leaves_the_pod(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u2", "5", ""));
    cloud_sends(b, OP_DELETE, "ns/pod/p", "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u1\"}}");
    assert_int_equal(b->f->cloud.count, 2);
    assert_int_equal(b->f->edged.count, 1);
    assert_row(b, "meta", "ns/pod/p", "\"u2\"");
}

static void a_delete_without_content_removes_the_object(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u2", "5", ""));
    cloud_sends(b, OP_DELETE, "ns/pod/p", "null");
    assert_no_row(b, "meta", "ns/pod/p");
}

static void node_updates_are_stored_and_not_passed_on(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_UPDATE, "null/node/n",
                "{\"metadata\":{\"name\":\"n\",\"uid\":\"nu\",\"resourceVersion\":\"3\"}}");
    assert_int_equal(b->f->edged.count, 0);
    assert_row(b, "meta_v2", "/core/v1/nodes/null/n", "nu");
}

static void what_is_not_understood_is_acknowledged(void **state) {
    struct bench *b = *state;
    cloud_sends(b, "dance", "ns/thing/t", "{\"a\":1}");
    cloud_sends(b, OP_UPDATE, "nonsense", "{\"a\":1}");
    cloud_sends(b, OP_UPDATE, "ns/pod/p", "\"text\"");
    assert_int_equal(b->f->edged.count, 0);
    assert_no_row(b, "meta", "ns/pod/p");
}

/* ---- what edged asks for ---- */

struct outcome {
    struct message *answer;
    struct error err;
    bool called;
};
static void done(void *arg, struct message *answer, const struct error *err) {
    struct outcome *o = arg;
    o->called = true;
    o->answer = answer;
    if (err)
        o->err = *err;
}
static bool was_called(void *arg) {
    return ((struct outcome *)arg)->called;
}
static void outcome_free(struct outcome *o) {
    if (o->answer)
        message_free(o->answer);
}

static void edged_asks(struct bench *b, const char *operation, const char *resource, const char *content,
                       struct outcome *o) {
    struct message_fields f = {
        .source = MODULE_EDGED, .group = GROUP_META, .operation = operation, .resource = resource};
    if (content)
        f.content_text = bytes_str(content);
    *o = (struct outcome){0};
    bus_request(b->f->bus, MODULE_METAMANAGER, message_new(&f), 60000, done, o);
}

/* The cloud answers the last message that it got. */
static void cloud_answers(struct bench *b, const char *content) {
    const struct message *m = b->f->cloud.messages[b->f->cloud.count - 1];
    struct message_fields f = {.operation = OP_RESPONSE, .content_text = bytes_str(content), .resource_version = "1"};
    assert_true(bus_reply(b->f->bus, message_response(m, MODULE_EDGECONTROLLER, GROUP_RESOURCE, &f)));
}

static void stored_pods_are_listed_while_offline(void **state) {
    struct bench *b = *state;
    struct outcome o;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    cloud_sends(b, OP_INSERT, "other/pod/q", "{\"metadata\":{\"name\":\"q\",\"namespace\":\"other\",\"uid\":\"u2\"}}");
    edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_int_equal(yyjson_arr_size(o.answer->content), 2);
    outcome_free(&o);
}

static void an_empty_list_is_an_empty_array(void **state) {
    struct bench *b = *state;
    struct outcome o;
    edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_true(yyjson_is_arr(o.answer->content));
    outcome_free(&o);
}

static void a_stored_configmap_is_given_without_asking_the_cloud(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    cloud_sends(b, OP_UPDATE, "ns/configmap/c",
                "{\"metadata\":{\"name\":\"c\",\"namespace\":\"ns\",\"uid\":\"cu\",\"resourceVersion\":\"3\"}}");
    size_t sent = b->f->cloud.count;
    edged_asks(b, OP_QUERY, "ns/configmap/c", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_string_equal(object_uid(o.answer->content), "cu");
    assert_string_equal(object_kind(o.answer->content), "ConfigMap");
    assert_int_equal(b->f->cloud.count, sent);
    outcome_free(&o);
}

static void a_missing_configmap_is_fetched_stored_and_its_answer_acknowledged(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    edged_asks(b, OP_QUERY, "ns/configmap/c", NULL, &o);
    run_until_count(b->f, &b->f->cloud, 1);
    cloud_answers(b, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"ns\",\"uid\":\"cu\",\"resourceVersion\":\"3\"}}");
    run_until(b->f, was_called, &o);
    assert_string_equal(object_uid(o.answer->content), "cu");
    run_until_count(b->f, &b->f->cloud, 2);
    assert_string_equal(b->f->cloud.messages[1]->operation, OP_RESPONSE);
    assert_row(b, "meta", "ns/configmap/c", "cu");
    outcome_free(&o);
}

static void a_refused_query_is_handed_over_and_never_stored(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    edged_asks(b, OP_QUERY, "ns/secret/s", NULL, &o);
    run_until_count(b->f, &b->f->cloud, 1);
    cloud_answers(b, "{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"NotFound\",\"code\":404}}");
    run_until(b->f, was_called, &o);
    assert_string_equal(json_str(o.answer->content, "ErrStatus", "reason"), "NotFound");
    assert_no_row(b, "meta", "ns/secret/s");
    outcome_free(&o);
}

static void a_missing_secret_offline_is_an_error_and_not_an_empty_object(void **state) {
    struct bench *b = *state;
    struct outcome o;
    edged_asks(b, OP_QUERY, "ns/secret/s", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_null(o.answer);
    assert_int_equal(o.err.code, ERR_UNAVAILABLE);
}

#define PATCHED(uid, rv, more) "{\"Object\":" POD(uid, rv, more) ",\"Err\":null}"

static void a_patched_pod_replaces_the_stored_one_and_carries_its_kind(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    edged_asks(b, OP_PATCH, "ns/podpatch/p", "\"{}\"", &o);
    run_until_count(b->f, &b->f->cloud, 2);
    cloud_answers(b, PATCHED("u1", "6", ""));
    run_until(b->f, was_called, &o);
    assert_string_equal(json_str(o.answer->content, "Object", "kind"), "Pod");
    assert_row(b, "meta", "ns/pod/p", "\"resourceVersion\":\"6\"");
    run_a_little(b->f);
    assert_int_equal(b->f->edged.count, 1); /* the status alone is no news to edged */
    outcome_free(&o);
}

static void a_deletion_first_seen_in_an_answer_is_passed_to_edged(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    edged_asks(b, OP_PATCH, "ns/podpatch/p", "\"{}\"", &o);
    run_until_count(b->f, &b->f->cloud, 2);
    cloud_answers(b, PATCHED("u1", "7", ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\""));
    run_until(b->f, was_called, &o);
    run_until_count(b->f, &b->f->edged, 2);
    assert_true(object_deleting(b->f->edged.messages[1]->content));
    outcome_free(&o);
}

static void a_late_patch_answer_does_not_bring_a_deleted_pod_back(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    edged_asks(b, OP_PATCH, "ns/podpatch/p", "\"{}\"", &o);
    run_until_count(b->f, &b->f->cloud, 2);
    struct message *patch = message_copy(b->f->cloud.messages[1]);
    cloud_sends(b, OP_DELETE, "ns/pod/p", POD("u1", "6", ""));
    struct message_fields f = {.operation = OP_RESPONSE, .content_text = bytes_str(PATCHED("u1", "6", ""))};
    assert_true(bus_reply(b->f->bus, message_response(patch, MODULE_EDGECONTROLLER, GROUP_RESOURCE, &f)));
    run_until(b->f, was_called, &o);
    assert_no_row(b, "meta", "ns/pod/p");
    message_free(patch);
    outcome_free(&o);
}

#define CONFIGMAP(uid) \
    "{\"metadata\":{\"name\":\"c\",\"namespace\":\"ns\",\"uid\":\"" uid "\",\"resourceVersion\":\"3\"}}"

static void an_answer_that_came_too_late_is_kept_all_the_same(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_RESPONSE, "ns/configmap/c", CONFIGMAP("cu"));
    assert_row(b, "meta", "ns/configmap/c", "cu");
    assert_int_equal(b->f->edged.count, 0);
}

static void a_late_answer_does_not_bring_a_deleted_configmap_back(void **state) {
    struct bench *b = *state;
    cloud_sends(b, OP_UPDATE, "ns/configmap/c", CONFIGMAP("cu"));
    cloud_sends(b, OP_DELETE, "ns/configmap/c", CONFIGMAP("cu"));
    cloud_sends(b, OP_RESPONSE, "ns/configmap/c", CONFIGMAP("cu"));
    assert_no_row(b, "meta", "ns/configmap/c");
    cloud_sends(b, OP_RESPONSE, "ns/configmap/c", CONFIGMAP("new"));
    assert_row(b, "meta", "ns/configmap/c", "new");
}

static void an_answer_overtaken_by_the_deletion_is_handed_over_and_not_stored(void **state) {
    struct bench *b = *state;
    struct outcome o;
    bus_publish_connected(b->f->bus, true);
    edged_asks(b, OP_QUERY, "ns/configmap/c", NULL, &o);
    run_until_count(b->f, &b->f->cloud, 1);
    struct message *asked = message_copy(b->f->cloud.messages[0]);
    cloud_sends(b, OP_DELETE, "ns/configmap/c", CONFIGMAP("cu"));
    struct message_fields f = {.operation = OP_RESPONSE, .content_text = BYTES_LIT(CONFIGMAP("cu"))};
    assert_true(bus_reply(b->f->bus, message_response(asked, MODULE_EDGECONTROLLER, GROUP_RESOURCE, &f)));
    run_until(b->f, was_called, &o);
    assert_string_equal(object_uid(o.answer->content), "cu");
    assert_no_row(b, "meta", "ns/configmap/c");
    message_free(asked);
    outcome_free(&o);
}

static void a_patch_while_offline_fails_and_is_kept_beside_the_pod(void **state) {
    struct bench *b = *state;
    struct outcome o;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    edged_asks(b, OP_PATCH, "ns/podpatch/p", "\"{\\\"status\\\":{}}\"", &o);
    run_until(b->f, was_called, &o);
    assert_int_equal(o.err.code, ERR_UNAVAILABLE);
    run_until(b->f, is_idle, b);
    assert_row(b, "meta", "ns/podpatch/p", "{\"status\":{}}");
}

static void events_go_up_untouched(void **state) {
    struct bench *b = *state;
    struct message_fields f = {.source = MODULE_EDGED,
                               .group = GROUP_META,
                               .operation = OP_INSERT,
                               .resource = "ns/event/e",
                               .content_text = BYTES_LIT("{\"a\":1}")};
    bus_send(b->f->bus, MODULE_METAMANAGER, message_new(&f));
    run_until_count(b->f, &b->f->cloud, 1);
    assert_string_equal(b->f->cloud.messages[0]->resource, "ns/event/e");
}

static void a_token_is_found_again_by_what_was_asked_for(void **state) {
    struct bench *b = *state;
    struct outcome o;
    static const char ask[] = "{\"spec\":{\"audiences\":null,\"expirationSeconds\":3607,\"boundObjectRef\":{\"kind\":"
                              "\"Pod\",\"apiVersion\":\"v1\",\"name\":\"p\",\"uid\":\"u1\"}}}";
    bus_publish_connected(b->f->bus, true);
    edged_asks(b, OP_QUERY, "ns/serviceaccounttoken/sa", ask, &o);
    run_until_count(b->f, &b->f->cloud, 1);
    cloud_answers(b, "{\"metadata\":{\"name\":\"sa\"},\"spec\":{\"audiences\":[\"api\"],\"expirationSeconds\":3607},"
                     "\"status\":{\"token\":\"t\",\"expirationTimestamp\":\"2999-01-01T00:00:00Z\"}}");
    run_until(b->f, was_called, &o);
    outcome_free(&o);
    assert_row(b, "meta",
               "\"sa\"/\"ns\"/[]string(nil)/3607/v1.BoundObjectReference{Kind:\"Pod\", APIVersion:\"v1\", Name:\"p\", "
               "UID:\"u1\"}",
               "\"token\":\"t\"");
    bus_publish_connected(b->f->bus, false);
    edged_asks(b, OP_QUERY, "ns/serviceaccounttoken/sa", ask, &o);
    run_until(b->f, was_called, &o);
    assert_string_equal(json_str(o.answer->content, "status", "token"), "t");
    outcome_free(&o);
    edged_asks(b, OP_DELETE, "ns/serviceaccounttoken/u1", NULL, &o);
    run_until(b->f, was_called, &o);
    outcome_free(&o);
    edged_asks(b, OP_QUERY, "ns/serviceaccounttoken/sa", ask, &o);
    run_until(b->f, was_called, &o);
    assert_int_equal(o.err.code, ERR_UNAVAILABLE);
}

/* ---- the database ---- */

static void restart(struct bench *b) {
    run_until(b->f, is_idle, b);
    metamanager_free(b->mm);
    open_manager(b);
}

static void objects_are_there_after_a_restart(void **state) {
    struct bench *b = *state;
    struct outcome o;
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    restart(b);
    edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_string_equal(object_uid(yyjson_arr_get(o.answer->content, 0)), "u1");
    outcome_free(&o);
}

static void a_damaged_database_is_set_aside_and_the_node_goes_on(void **state) {
    struct bench *b = *state;
    struct outcome o;
    run_until(b->f, is_idle, b);
    metamanager_free(b->mm);
    FILE *file = fopen(b->f->config.database, "wb");
    for (int i = 0; i < 1000; i++)
        (void)fputs("this is no database", file);
    (void)fclose(file);
    char *wal = xasprintf("%s-wal", b->f->config.database);
    (void)unlink(wal);
    free(wal);
    open_manager(b);
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_int_equal(yyjson_arr_size(json_get(o.answer->content, "incomplete")), 1);
    outcome_free(&o);
}

static void pods_that_a_damaged_database_lost_are_waited_for(void **state) {
    struct bench *b = *state;
    struct outcome o;
    run_until(b->f, is_idle, b);
    metamanager_free(b->mm);
    assert_int_equal(
        file_write_atomic(b->f->config.database, BYTES_LIT("this is no database, nor was it one"), 0600, NULL), 0);
    open_manager(b);
    cloud_sends(b, OP_INSERT, "ns/pod/p", POD("u1", "5", ""));
    for (int round = 0; round < 2; round++) { /* it is not forgotten with a restart */
        edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
        run_until(b->f, was_called, &o);
        assert_int_equal(yyjson_arr_size(json_get(o.answer->content, "incomplete")), 1);
        outcome_free(&o);
        restart(b);
    }
    bus_publish_connected(b->f->bus, true);
    edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_non_null(json_get(o.answer->content, "incomplete")); /* the cloud has only just come */
    outcome_free(&o);
    b->mm->connected_ms -= 60000;
    for (int round = 0; round < 2; round++) {
        edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
        run_until(b->f, was_called, &o);
        assert_int_equal(yyjson_arr_size(o.answer->content), 1);
        outcome_free(&o);
        restart(b);
    }
}

static size_t set_aside_files(struct bench *b) {
    char *pattern = xasprintf("%s.damaged-*", b->f->config.database);
    glob_t found = {0};
    size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    free(pattern);
    return n;
}

static void what_one_object_meets_is_not_the_others_fault(void **state) {
    struct bench *b = *state;
    sqlite3 *db;
    assert_int_equal(sqlite3_open(b->f->config.database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "CREATE TRIGGER refuse BEFORE INSERT ON meta WHEN NEW.key = 'ns/configmap/bad' "
                                  "BEGIN SELECT RAISE(ABORT, 'refused'); END",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    /* The first one is a batch of its own; the others wait for it and share the next. */
    static const char *const names[] = {"ns/configmap/first", "ns/configmap/good", "ns/configmap/bad",
                                        "ns/configmap/last"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        bus_send(b->f->bus, MODULE_METAMANAGER, from_cloud(OP_UPDATE, names[i], CONFIGMAP("cu")));
    run_until_count(b->f, &b->f->cloud, 4);
    size_t refused = 0;
    for (size_t i = 0; i < 4; i++)
        refused += strcmp(b->f->cloud.messages[i]->operation, OP_ERROR) == 0;
    assert_int_equal(refused, 1);
    assert_row(b, "meta", "ns/configmap/good", "cu");
    assert_row(b, "meta", "ns/configmap/last", "cu");
    assert_no_row(b, "meta", "ns/configmap/bad");
    assert_int_equal(set_aside_files(b), 0);
}

static void a_full_disk_refuses_writes_and_nothing_else(void **state) {
    struct bench *b = *state;
    struct outcome o;
    struct rlimit before, none = {0};
    cloud_sends(b, OP_UPDATE, "ns/configmap/c", CONFIGMAP("cu"));
    run_until(b->f, is_idle, b);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    size_t answered = b->f->cloud.count;
    for (int i = 0; i < 3; i++)
        bus_send(b->f->bus, MODULE_METAMANAGER, from_cloud(OP_UPDATE, "ns/configmap/d", CONFIGMAP("du")));
    edged_asks(b, OP_QUERY, "ns/configmap/c", NULL, &o);
    run_until(b->f, was_called, &o);
    run_until_count(b->f, &b->f->cloud, answered + 3);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_string_equal(object_uid(o.answer->content), "cu");
    outcome_free(&o);
    for (size_t i = answered; i < b->f->cloud.count; i++)
        assert_string_equal(b->f->cloud.messages[i]->operation, OP_ERROR);
    cloud_sends(b, OP_UPDATE, "ns/configmap/d", CONFIGMAP("du"));
    assert_string_equal(b->f->cloud.messages[b->f->cloud.count - 1]->operation, OP_RESPONSE);
    assert_row(b, "meta", "ns/configmap/d", "du");
}

static void what_can_be_read_of_a_damaged_database_is_kept(void **state) {
    struct bench *b = *state;
    struct outcome o;
    char zeros[8192] = {0};
    for (int i = 0; i < 300; i++) {
        char *resource = xasprintf("ns/pod/p%03d", i),
             *content = xasprintf("{\"metadata\":{\"name\":\"p%03d\",\"uid\":\"u%d\"},\"x\":\"%0600d\"}", i, i, i);
        bus_send(b->f->bus, MODULE_METAMANAGER, from_cloud(OP_INSERT, resource, content));
        free(resource);
        free(content);
    }
    run_until_count(b->f, &b->f->edged, 300);
    run_until(b->f, is_idle, b);
    metamanager_free(b->mm); /* the last connection's close brings the log into the file */
    FILE *file = fopen(b->f->config.database, "r+b");
    assert_int_equal(fseek(file, 40 * 4096, SEEK_SET), 0);
    assert_int_equal(fwrite(zeros, 1, sizeof(zeros), file), sizeof(zeros));
    assert_int_equal(fclose(file), 0);
    open_manager(b);
    edged_asks(b, OP_QUERY, "default/pod", NULL, &o);
    run_until(b->f, was_called, &o);
    assert_in_range(yyjson_arr_size(json_get(o.answer->content, "incomplete")), 200, 300);
    outcome_free(&o);
}

static void two_thousand_updates_are_all_acknowledged(void **state) {
    struct bench *b = *state;
    for (int i = 0; i < 2000; i++) {
        char *resource = xasprintf("ns/configmap/c%d", i),
             *content = xasprintf("{\"metadata\":{\"name\":\"c%d\",\"namespace\":\"ns\",\"uid\":\"u%d\","
                                  "\"resourceVersion\":\"%d\"},\"data\":{\"k\":\"v\"}}",
                                  i, i, i + 1);
        bus_send(b->f->bus, MODULE_METAMANAGER, from_cloud(OP_UPDATE, resource, content));
        free(resource);
        free(content);
    }
    run_until_count(b->f, &b->f->cloud, 2000);
    run_until_count(b->f, &b->f->edged, 2000);
    assert_row(b, "meta", "ns/configmap/c1999", "\"u1999\"");
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(an_object_is_stored_passed_on_and_acknowledged),
        T(a_duplicate_is_acknowledged_and_not_passed_on),
        T(an_older_version_does_not_replace_a_newer_one),
        T(a_new_object_of_the_same_name_replaces_the_old_one),
        T(a_late_copy_of_the_object_before_is_ignored),
        T(a_delete_removes_every_row_and_gives_edged_the_stored_pod),
        T(a_delete_of_another_uid_is_acknowledged_and_leaves_the_pod),
        T(a_delete_without_content_removes_the_object),
        T(node_updates_are_stored_and_not_passed_on),
        T(what_is_not_understood_is_acknowledged),
        T(stored_pods_are_listed_while_offline),
        T(an_empty_list_is_an_empty_array),
        T(a_stored_configmap_is_given_without_asking_the_cloud),
        T(a_missing_configmap_is_fetched_stored_and_its_answer_acknowledged),
        T(a_refused_query_is_handed_over_and_never_stored),
        T(a_missing_secret_offline_is_an_error_and_not_an_empty_object),
        T(a_patched_pod_replaces_the_stored_one_and_carries_its_kind),
        T(a_deletion_first_seen_in_an_answer_is_passed_to_edged),
        T(a_late_patch_answer_does_not_bring_a_deleted_pod_back),
        T(an_answer_that_came_too_late_is_kept_all_the_same),
        T(a_late_answer_does_not_bring_a_deleted_configmap_back),
        T(an_answer_overtaken_by_the_deletion_is_handed_over_and_not_stored),
        T(a_patch_while_offline_fails_and_is_kept_beside_the_pod),
        T(events_go_up_untouched),
        T(a_token_is_found_again_by_what_was_asked_for),
        T(objects_are_there_after_a_restart),
        T(a_damaged_database_is_set_aside_and_the_node_goes_on),
        T(pods_that_a_damaged_database_lost_are_waited_for),
        T(what_one_object_meets_is_not_the_others_fault),
        T(a_full_disk_refuses_writes_and_nothing_else),
        T(what_can_be_read_of_a_damaged_database_is_kept),
        T(two_thousand_updates_are_all_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
