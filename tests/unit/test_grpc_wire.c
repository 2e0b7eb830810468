/* The gRPC protocol without sockets: our client's side against a server on nghttp2, bytes carried over by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "grpc_test_server.h"
#include "net/grpc.h"
#include "net/grpc_wire.h"

struct outcome {
    struct grpc_exchange x;
    unsigned messages;
    size_t bytes;
    int status; /* -1: not ended */
    char text[512];
    bool untouched;
    bool cancel_at_message;
};

struct fixture {
    struct grpc_wire *wire;
    struct ts_server server;
    bool settled, going_away;
    struct buf request;
};

static struct fixture f;

static void on_settled(void *arg) {
    f.settled = true;
}
static void on_going_away(void *arg) {
    f.going_away = true;
}
static void on_message(void *arg, struct grpc_exchange *x, struct bytes message) {
    struct outcome *o = CONTAINER_OF(x, struct outcome, x);
    o->messages++;
    o->bytes += message.len;
    if (o->cancel_at_message) {
        grpc_wire_cancel(f.wire, x);
        grpc_exchange_clear(x);
    }
}
static void on_ended(void *arg, struct grpc_exchange *x, int status, const char *text, bool untouched) {
    struct outcome *o = CONTAINER_OF(x, struct outcome, x);
    assert_int_equal(o->status, -1);
    o->status = status;
    o->untouched = untouched;
    snprintf(o->text, sizeof o->text, "%s", text);
    grpc_exchange_clear(x);
}
static const struct grpc_wire_handlers handlers = {on_settled, on_going_away, on_message, on_ended};

static int setup(void **state) {
    f = (struct fixture){.request = BUF_INIT(1024)};
    f.wire = grpc_wire_new("localhost", &handlers, NULL);
    ts_init(&f.server);
    ts_add_version(&f.request, 3);
    return 0;
}

static int teardown(void **state) {
    grpc_wire_free(f.wire);
    ts_free(&f.server);
    buf_free(&f.request);
    return 0;
}

/* Carries bytes both ways until nobody has any; step: at most so many bytes at once. */
static void carry(size_t step) {
    for (bool more = true; more;) {
        struct bytes out;
        const uint8_t *back;
        more = false;
        assert_int_equal(grpc_wire_output(f.wire, &out, NULL), 0);
        if (out.len > 0) {
            assert_int_equal(nghttp2_session_mem_recv(f.server.session, (const uint8_t *)out.ptr, out.len), out.len);
            more = true;
        }
        ssize_t n = nghttp2_session_mem_send(f.server.session, &back);
        for (size_t at = 0; n > 0 && at < (size_t)n; at += step) {
            size_t len = (size_t)n - at < step ? (size_t)n - at : step;
            assert_int_equal(grpc_wire_receive(f.wire, bytes_of(back + at, len), NULL), 0);
            more = true;
        }
    }
}

static void start(struct outcome *o, const char *method, size_t max_message) {
    *o = (struct outcome){.status = -1};
    o->x.method = method;
    o->x.request = buf_bytes(&f.request);
    o->x.timeout_ms = 1500;
    o->x.max_message = max_message;
    assert_int_equal(grpc_wire_start(f.wire, &o->x), 0);
}

static void run(struct outcome *o, const char *method) {
    start(o, method, 8 * 1024 * 1024);
    carry(SIZE_MAX);
}

static void a_call_is_answered(void **state) {
    struct outcome o;
    run(&o, "/t.S/Echo");
    assert_true(f.settled);
    assert_int_equal(o.status, GRPC_OK);
    assert_int_equal(o.messages, 1);
    assert_int_equal(o.bytes, f.request.len - GRPC_PREFIX_SIZE);
    assert_string_equal(f.server.streams->timeout, "1500m");
}

static void an_answer_may_come_byte_by_byte(void **state) {
    struct outcome o;
    start(&o, "/t.S/Stream", 1024);
    carry(1);
    assert_int_equal(o.status, GRPC_OK);
    assert_int_equal(o.messages, 3);
}

static void a_failure_without_a_body_carries_status_and_text(void **state) {
    struct outcome o;
    run(&o, "/t.S/Fail");
    assert_int_equal(o.status, GRPC_NOT_FOUND);
    assert_string_equal(o.text, "no such thing: \xc3\xa9 \xc3\xa9 %zz 100%");
    assert_false(o.untouched);
}

static void a_status_may_come_after_the_headers(void **state) {
    struct outcome o;
    run(&o, "/t.S/Late");
    assert_int_equal(o.status, GRPC_FAILED_PRECONDITION);
}

static void a_status_that_is_no_number_is_unknown(void **state) {
    struct outcome o;
    run(&o, "/t.S/Odd");
    assert_int_equal(o.status, GRPC_UNKNOWN);
}

static void a_large_answer_passes_flow_control(void **state) {
    struct outcome o;
    run(&o, "/t.S/Large");
    assert_int_equal(o.status, GRPC_OK);
    assert_true(o.bytes > 3 * 1024 * 1024);
}

static void a_message_over_the_limit_is_refused_before_it_is_read(void **state) {
    struct outcome o;
    run(&o, "/t.S/Huge");
    assert_int_equal(o.status, GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(o.messages, 0);
    assert_int_equal(f.server.resets, 1);
}

static void a_cut_message_is_refused(void **state) {
    struct outcome o;
    run(&o, "/t.S/Cut");
    assert_int_equal(o.status, GRPC_INTERNAL);
    assert_int_equal(o.messages, 0);
}

static void a_compressed_message_is_refused(void **state) {
    struct outcome o;
    run(&o, "/t.S/Compressed");
    assert_int_equal(o.status, GRPC_INTERNAL);
}

static void an_answer_without_a_status_is_a_failure(void **state) {
    struct outcome o;
    run(&o, "/t.S/NoStatus");
    assert_int_equal(o.status, GRPC_INTERNAL);
}

static void a_page_of_a_web_server_is_a_failure(void **state) {
    struct outcome o;
    run(&o, "/t.S/Html");
    assert_int_equal(o.status, GRPC_UNKNOWN);
    assert_int_equal(o.messages, 0);
    run(&o, "/t.S/Http503");
    assert_int_equal(o.status, GRPC_UNAVAILABLE);
}

static void a_refused_stream_is_told_as_untouched(void **state) {
    struct outcome o;
    f.server.refuse = 1;
    run(&o, "/t.S/Echo");
    assert_int_equal(o.status, GRPC_UNAVAILABLE);
    assert_true(o.untouched);
    run(&o, "/t.S/Echo");
    assert_int_equal(o.status, GRPC_OK);
}

static void goaway_ends_what_the_server_has_not_looked_at(void **state) {
    struct outcome first, second, third;
    f.server.goaway_after = 1;
    carry(SIZE_MAX);
    start(&first, "/t.S/Echo", 1024);
    carry(SIZE_MAX);
    assert_int_equal(first.status, GRPC_OK);
    assert_true(f.going_away);
    start(&second, "/t.S/Echo", 1024);
    start(&third, "/t.S/Echo", 1024);
    grpc_wire_cancel(f.wire, &third.x);
    carry(SIZE_MAX);
    assert_int_equal(second.status, GRPC_UNAVAILABLE);
    assert_true(second.untouched);
    assert_int_equal(third.status, -1);
    assert_int_equal(f.server.calls, 1);
    grpc_exchange_clear(&third.x);
}

static void a_call_may_be_cancelled_inside_its_message(void **state) {
    struct outcome o;
    start(&o, "/t.S/Stream", 1024);
    o.cancel_at_message = true;
    carry(SIZE_MAX);
    assert_int_equal(o.messages, 1);
    assert_int_equal(o.status, -1);
}

static void a_cancelled_call_is_reset_at_the_server(void **state) {
    struct outcome o;
    run(&o, "/t.S/Hang");
    assert_int_equal(o.status, -1);
    grpc_wire_cancel(f.wire, &o.x);
    carry(SIZE_MAX);
    assert_int_equal(f.server.resets, 1);
    assert_int_equal(o.status, -1);
    grpc_exchange_clear(&o.x);
}

static void a_request_cancelled_before_it_left_never_leaves(void **state) {
    struct outcome o;
    carry(SIZE_MAX);
    start(&o, "/t.S/Echo", 1024);
    grpc_wire_cancel(f.wire, &o.x);
    carry(SIZE_MAX);
    assert_int_equal(f.server.calls, 0);
    assert_int_equal(o.status, -1);
    grpc_exchange_clear(&o.x);
}

static void what_is_not_http2_ends_the_connection(void **state) {
    struct bytes out;
    int rc = grpc_wire_receive(f.wire, BYTES_LIT("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), NULL);
    while (rc == 0 && grpc_wire_output(f.wire, &out, NULL) == 0 && out.len > 0)
        ;
    assert_true(rc < 0 || grpc_wire_finished(f.wire));
    assert_false(f.settled);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_call_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_may_come_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_without_a_body_carries_status_and_text, setup, teardown),
        cmocka_unit_test_setup_teardown(a_status_may_come_after_the_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_status_that_is_no_number_is_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_answer_passes_flow_control, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_over_the_limit_is_refused_before_it_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_message_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_compressed_message_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_without_a_status_is_a_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_of_a_web_server_is_a_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_stream_is_told_as_untouched, setup, teardown),
        cmocka_unit_test_setup_teardown(goaway_ends_what_the_server_has_not_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_may_be_cancelled_inside_its_message, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_call_is_reset_at_the_server, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_cancelled_before_it_left_never_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_http2_ends_the_connection, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
