/* The queue of one node: what is sent, when, and how often. */
#include "cloud_testing.h"

#include "cloud/cloudhub/queue.h"

static struct hub_item *object(const char *uid, const char *rv, const char *operation) {
    _cleanup_(free_p) char *content = xasprintf("{\"metadata\":{\"name\":\"x\",\"uid\":\"%s\"}}", uid);
    const struct message_fields f = {.source = MODULE_EDGECONTROLLER,
                                     .group = GROUP_RESOURCE,
                                     .operation = operation,
                                     .resource = "default/configmap/x",
                                     .resource_version = rv,
                                     .content_text = bytes_str(content)};
    struct message *m = message_new(&f);
    struct hub_item *i = NULL;
    assert_int_equal(hub_item_new(m, &i, NULL), 0);
    message_free(m);
    return i;
}

static struct hub_item *plain(const char *resource, const char *text) {
    const struct message_fields f = {.source = MODULE_EDGECONTROLLER,
                                     .group = GROUP_RESOURCE,
                                     .operation = OP_RESPONSE,
                                     .parent_id = "p",
                                     .resource = resource,
                                     .content_string = text};
    struct message *m = message_new(&f);
    struct hub_item *i = NULL;
    assert_int_equal(hub_item_new(m, &i, NULL), 0);
    message_free(m);
    return i;
}

static const struct hub_item *next(struct node_queue *q, int64_t now) {
    bool again;
    return node_queue_next(q, now, &again);
}

static void only_the_newest_waiting_version_is_sent(void **state) {
    struct node_queue *q = node_queue_new(8);
    node_queue_put(q, object("u", "5", OP_INSERT));
    node_queue_put(q, object("u", "7", OP_UPDATE));
    node_queue_put(q, object("u", "6", OP_UPDATE));
    const struct hub_item *i = next(q, 0);
    assert_int_equal(i->rv, 7);
    assert_null(next(q, 0));
    assert_int_equal(node_queue_length(q), 1);
    node_queue_free(q);
}

static void a_newer_version_waits_for_the_answer_to_the_older(void **state) {
    struct node_queue *q = node_queue_new(8);
    node_queue_put(q, object("u", "1", OP_INSERT));
    _cleanup_(free_p) char *id = xstrdup(next(q, 0)->id);
    node_queue_put(q, object("u", "2", OP_UPDATE));
    node_queue_put(q, object("u", "3", OP_UPDATE));
    assert_null(next(q, 0));
    assert_true(node_queue_ack(q, id));
    assert_int_equal(next(q, 0)->rv, 3);
    node_queue_free(q);
}

static void a_deletion_without_uid_is_void_once_the_object_is_made_anew(void **state) {
    struct node_queue *q = node_queue_new(8);
    node_queue_put(q, object("", "", OP_DELETE));
    assert_true(next(q, 0)->deletion);
    node_queue_put(q, object("new", "5", OP_INSERT));
    assert_string_equal(next(q, 0)->key, "new");
    node_queue_put(q, object("", "", OP_DELETE));
    node_queue_put(q, object("newer", "6", OP_INSERT));
    assert_string_equal(next(q, 0)->key, "newer");
    bool again;
    while (node_queue_next(q, QUEUE_RESEND_MS + 1, &again)) {
        assert_true(again);
        assert_int_equal(node_queue_length(q), 2); /* neither deletion is among them */
    }
    node_queue_free(q);
}

static void other_objects_do_not_wait(void **state) {
    struct node_queue *q = node_queue_new(8);
    node_queue_put(q, object("a", "1", OP_INSERT));
    node_queue_put(q, object("b", "1", OP_INSERT));
    node_queue_put(q, object("c", "1", OP_INSERT));
    assert_string_equal(next(q, 0)->key, "a");
    assert_string_equal(next(q, 0)->key, "b");
    assert_string_equal(next(q, 0)->key, "c");
    assert_int_equal(node_queue_in_flight(q), 3);
    node_queue_free(q);
}

static void no_more_than_the_window_is_on_its_way(void **state) {
    struct node_queue *q = node_queue_new(2);
    node_queue_put(q, object("a", "1", OP_INSERT));
    node_queue_put(q, object("b", "1", OP_INSERT));
    node_queue_put(q, object("c", "1", OP_INSERT));
    _cleanup_(free_p) char *id = xstrdup(next(q, 0)->id);
    assert_non_null(next(q, 0));
    assert_null(next(q, 0));
    assert_true(node_queue_ack(q, id));
    assert_string_equal(next(q, 0)->key, "c");
    node_queue_free(q);
}

static void an_unanswered_message_is_repeated_and_then_goes_to_the_end_of_the_line(void **state) {
    struct node_queue *q = node_queue_new(1);
    bool again;
    node_queue_put(q, object("slow", "1", OP_INSERT));
    node_queue_put(q, object("other", "1", OP_INSERT));
    _cleanup_(free_p) char *id = xstrdup(next(q, 0)->id);
    for (int n = 1; n < QUEUE_TRANSMISSIONS; n++) {
        assert_null(node_queue_next(q, n * QUEUE_RESEND_MS - 1, &again));
        const struct hub_item *i = node_queue_next(q, n * QUEUE_RESEND_MS, &again);
        assert_string_equal(i->id, id);
        assert_true(again);
    }
    const struct hub_item *i = node_queue_next(q, QUEUE_TRANSMISSIONS * QUEUE_RESEND_MS, &again);
    assert_string_equal(i->key, "other");
    assert_false(again);
    assert_int_equal(node_queue_length(q), 2);
    assert_true(node_queue_ack(q, id)); /* late, but it counts */
    assert_int_equal(node_queue_length(q), 1);
    node_queue_free(q);
}

static void the_time_of_the_next_repetition_is_known(void **state) {
    struct node_queue *q = node_queue_new(8);
    assert_true(node_queue_due(q) == INT64_MAX);
    node_queue_put(q, object("a", "1", OP_INSERT));
    assert_true(node_queue_due(q) == INT64_MAX);
    (void)next(q, 1000);
    assert_int_equal(node_queue_due(q), 1000 + QUEUE_RESEND_MS);
    node_queue_free(q);
}

static void a_deletion_replaces_what_waits_and_nothing_comes_after_it(void **state) {
    struct node_queue *q = node_queue_new(8);
    node_queue_put(q, object("u", "9", OP_UPDATE));
    node_queue_put(q, object("u", "4", OP_DELETE));
    node_queue_put(q, object("u", "10", OP_UPDATE));
    assert_true(next(q, 0)->deletion);
    assert_null(next(q, 0));
    node_queue_free(q);
}

static void an_unknown_or_second_acknowledgement_is_harmless(void **state) {
    struct node_queue *q = node_queue_new(8);
    node_queue_put(q, object("u", "1", OP_INSERT));
    _cleanup_(free_p) char *id = xstrdup(next(q, 0)->id);
    assert_false(node_queue_ack(q, "no such message"));
    assert_false(node_queue_ack(q, ""));
    assert_true(node_queue_ack(q, id));
    assert_false(node_queue_ack(q, id));
    assert_int_equal(node_queue_length(q), 0);
    node_queue_free(q);
}

static void what_was_on_its_way_waits_again_in_its_order_after_a_disconnect(void **state) {
    struct node_queue *q = node_queue_new(2);
    node_queue_put(q, object("a", "1", OP_INSERT));
    node_queue_put(q, object("b", "1", OP_INSERT));
    node_queue_put(q, object("c", "1", OP_INSERT));
    (void)next(q, 0);
    (void)next(q, 0);
    node_queue_put(q, object("a", "2", OP_UPDATE));
    node_queue_rewind(q);
    assert_int_equal(node_queue_in_flight(q), 0);
    const struct hub_item *i = next(q, 0);
    assert_string_equal(i->key, "a");
    assert_int_equal(i->rv, 2);
    assert_string_equal(next(q, 0)->key, "b");
    node_queue_free(q);
}

static void answers_do_not_outlive_the_session(void **state) {
    struct node_queue *q = node_queue_new(8);
    const struct message_fields f = {.source = MODULE_EDGECONTROLLER,
                                     .group = GROUP_RESOURCE,
                                     .operation = OP_RESPONSE,
                                     .parent_id = "p",
                                     .resource = "default/secret/s",
                                     .resource_version = "3",
                                     .content_text = BYTES_LIT("{\"metadata\":{\"uid\":\"s\"}}")};
    struct message *m = message_new(&f);
    struct hub_item *i = NULL;
    assert_int_equal(hub_item_new(m, &i, NULL), 0);
    message_free(m);
    assert_true(i->needs_ack);
    node_queue_put(q, i);
    node_queue_put(q, plain("default/lease/x", "OK"));
    node_queue_put(q, object("a", "1", OP_INSERT));
    node_queue_rewind(q);
    assert_int_equal(node_queue_length(q), 1);
    assert_string_equal(next(q, 0)->key, "a");
    node_queue_free(q);
}

static void messages_without_acknowledgement_go_once_in_order_and_are_bounded(void **state) {
    struct node_queue *q = node_queue_new(1);
    node_queue_put(q, object("a", "1", OP_INSERT));
    (void)next(q, 0);
    for (int n = 0; n < QUEUE_MAX_UNTRACKED + 10; n++)
        node_queue_put(q, plain("default/lease/x", "OK"));
    size_t sent = 0;
    while (next(q, 1))
        sent++;
    assert_int_equal(sent, QUEUE_MAX_UNTRACKED);
    node_queue_free(q);
}

static void a_repetition_is_the_same_bytes(void **state) {
    struct node_queue *q = node_queue_new(1);
    node_queue_put(q, object("a", "1", OP_INSERT));
    const struct hub_item *i = next(q, 0);
    _cleanup_(free_p) char *first = xstrndup(i->text, i->len);
    i = next(q, QUEUE_RESEND_MS);
    assert_int_equal(i->len, strlen(first));
    assert_memory_equal(i->text, first, i->len);
    node_queue_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_newest_waiting_version_is_sent),
        cmocka_unit_test(a_newer_version_waits_for_the_answer_to_the_older),
        cmocka_unit_test(a_deletion_without_uid_is_void_once_the_object_is_made_anew),
        cmocka_unit_test(other_objects_do_not_wait),
        cmocka_unit_test(no_more_than_the_window_is_on_its_way),
        cmocka_unit_test(an_unanswered_message_is_repeated_and_then_goes_to_the_end_of_the_line),
        cmocka_unit_test(the_time_of_the_next_repetition_is_known),
        cmocka_unit_test(a_deletion_replaces_what_waits_and_nothing_comes_after_it),
        cmocka_unit_test(an_unknown_or_second_acknowledgement_is_harmless),
        cmocka_unit_test(what_was_on_its_way_waits_again_in_its_order_after_a_disconnect),
        cmocka_unit_test(answers_do_not_outlive_the_session),
        cmocka_unit_test(messages_without_acknowledgement_go_once_in_order_and_are_bounded),
        cmocka_unit_test(a_repetition_is_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
