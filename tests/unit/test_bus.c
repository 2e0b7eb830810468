#include "edge_fixture.h"

static int setup(void **state) {
    *state = fixture_new();
    return 0;
}
static int teardown(void **state) {
    struct edge_fixture *f = *state;
    pool_free(f->pool);
    fixture_free(f);
    return 0;
}

struct outcome {
    int calls;
    enum error_code code;
    char content[64];
};
static void done(void *arg, struct message *answer, const struct error *err) {
    struct outcome *o = arg;
    o->calls++;
    o->code = answer ? ERR_NONE : err->code;
    if (answer) {
        (void)snprintf(o->content, sizeof(o->content), "%s", yyjson_get_str(answer->content));
        message_free(answer);
    }
}
static bool was_called(void *arg) {
    return ((struct outcome *)arg)->calls > 0;
}
static struct message *ask(const char *resource) {
    return message_new(&(struct message_fields){.source = MODULE_EDGED, .operation = OP_QUERY, .resource = resource});
}

static void messages_arrive_in_order_and_not_from_inside_send(void **state) {
    struct edge_fixture *f = *state;
    bus_send(f->bus, MODULE_EDGED, ask("a/pod/1"));
    bus_send(f->bus, MODULE_EDGED, ask("a/pod/2"));
    assert_int_equal(f->edged.count, 0);
    run_until_count(f, &f->edged, 2);
    assert_string_equal(f->edged.messages[0]->resource, "a/pod/1");
    assert_string_equal(f->edged.messages[1]->resource, "a/pod/2");
}

static void an_answer_reaches_who_asked(void **state) {
    struct edge_fixture *f = *state;
    struct outcome o = {0};
    struct message *m = ask("a/pod/1");
    struct message *answer = message_response(m, "x", "y", &(struct message_fields){.content_string = "OK"});
    bus_request(f->bus, MODULE_EDGED, m, 10000, done, &o);
    run_until_count(f, &f->edged, 1);
    assert_true(bus_reply(f->bus, answer));
    assert_int_equal(o.calls, 1);
    assert_string_equal(o.content, "OK");
}

static void an_answer_that_nobody_waits_for_stays_with_the_caller(void **state) {
    struct edge_fixture *f = *state;
    struct message *m = ask("a/pod/1");
    struct message *answer = message_response(m, "x", "y", &(struct message_fields){.content_string = "OK"});
    assert_false(bus_reply(f->bus, answer));
    message_free(answer);
    message_free(m);
}

static void a_silent_component_is_a_timeout(void **state) {
    struct edge_fixture *f = *state;
    struct outcome o = {0};
    bus_request(f->bus, MODULE_EDGED, ask("a/pod/1"), 1, done, &o);
    run_until(f, was_called, &o);
    assert_int_equal(o.code, ERR_TIMEOUT);
}

static void a_component_that_is_not_there_is_told_at_once(void **state) {
    struct edge_fixture *f = *state;
    struct outcome o = {0};
    bus_request(f->bus, "nobody", ask("a/pod/1"), 3600 * 1000, done, &o);
    run_until(f, was_called, &o);
    assert_int_equal(o.code, ERR_UNAVAILABLE);
}

static void requests_to_a_broken_link_fail_and_others_do_not(void **state) {
    struct edge_fixture *f = *state;
    struct outcome broken = {0}, other = {0};
    struct error err = {.code = ERR_UNAVAILABLE, .msg = "cut"};
    bus_request(f->bus, MODULE_WEBSOCKET, ask("a/pod/1"), 3600 * 1000, done, &broken);
    struct bus_request *r = bus_request(f->bus, MODULE_EDGED, ask("a/pod/2"), 3600 * 1000, done, &other);
    bus_fail_requests(f->bus, MODULE_WEBSOCKET, &err);
    assert_int_equal(broken.calls, 0);
    run_until(f, was_called, &broken);
    assert_int_equal(broken.code, ERR_UNAVAILABLE);
    assert_int_equal(other.calls, 0);
    bus_request_cancel(r);
}

static void note_state(void *arg, bool on) {
    int *seen = arg;
    *seen = *seen * 10 + (on ? 2 : 1);
}

static void subscribers_hear_the_state_and_then_changes_only(void **state) {
    struct edge_fixture *f = *state;
    int seen = 0;
    bus_on_connected(f->bus, note_state, &seen);
    bus_publish_connected(f->bus, true);
    bus_publish_connected(f->bus, true);
    bus_publish_connected(f->bus, false);
    assert_int_equal(seen, 121);
    bus_off_connected(f->bus, note_state, &seen);
    bus_publish_connected(f->bus, true);
    assert_int_equal(seen, 121);
}

static void reading_goes_on_when_the_last_pause_ends(void **state) {
    struct edge_fixture *f = *state;
    int seen = 0;
    bus_on_downstream(f->bus, note_state, &seen);
    bus_pause_downstream(f->bus);
    bus_pause_downstream(f->bus);
    bus_resume_downstream(f->bus);
    assert_int_equal(seen, 12);
    bus_resume_downstream(f->bus);
    assert_int_equal(seen, 121);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive_in_order_and_not_from_inside_send, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_reaches_who_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_that_nobody_waits_for_stays_with_the_caller, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_component_is_a_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(a_component_that_is_not_there_is_told_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(requests_to_a_broken_link_fail_and_others_do_not, setup, teardown),
        cmocka_unit_test_setup_teardown(subscribers_hear_the_state_and_then_changes_only, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_goes_on_when_the_last_pause_ends, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
