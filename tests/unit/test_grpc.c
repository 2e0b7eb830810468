/* The gRPC channel over a unix socket: connecting, deadlines, connecting again. The protocol itself: test_grpc_wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "grpc_test_server.h"
#include "net/grpc.h"
#include "net/stream.h"

#include <event2/event.h>
#include <unistd.h>

#define MAX_CONNECTIONS 8

struct conn {
    struct ts_server server;
    struct stream *stream;
};

static struct loop *loop;
static struct listener *listener;
static struct conn conns[MAX_CONNECTIONS];
static unsigned n_conns;
static unsigned refuse, goaway_after; /* for the next connection */
static bool silent;                   /* accept and say nothing */
static struct grpc_channel *channel;
static char path[64], target[80];

/* ---- the server's socket ---- */

static void conn_flush(struct conn *c) {
    const uint8_t *out;
    ssize_t n;
    while (c->stream && (n = nghttp2_session_mem_send(c->server.session, &out)) > 0)
        stream_write(c->stream, out, (size_t)n);
}
static size_t conn_data(void *arg, struct bytes in) {
    struct conn *c = arg;
    if (silent)
        return in.len;
    assert_true(nghttp2_session_mem_recv(c->server.session, (const uint8_t *)in.ptr, in.len) >= 0);
    conn_flush(c);
    return in.len;
}
static void conn_closed(void *arg, const struct error *why) {
    struct conn *c = arg;
    stream_free(TAKE(c->stream));
}
static void conn_drained(void *arg) {
    conn_flush(arg);
}
static const struct stream_handlers conn_handlers = {.data = conn_data, .drained = conn_drained, .closed = conn_closed};

static void on_accept(void *arg, struct stream *s) {
    assert_true(n_conns < MAX_CONNECTIONS);
    struct conn *c = &conns[n_conns++];
    ts_init(&c->server);
    c->server.refuse = refuse;
    c->server.goaway_after = goaway_after;
    c->stream = s;
    stream_set_handlers(s, &conn_handlers, c);
    if (!silent)
        conn_flush(c);
}
static void server_start(void) {
    struct listener_options o = {.unix_path = path, .unix_mode = 0600, .accepted = on_accept};
    listener = listener_new(loop, &o, NULL);
    assert_non_null(listener);
}
static void server_stop(void) {
    if (listener)
        listener_free(TAKE(listener));
    unlink(path);
    for (unsigned i = 0; i < n_conns; i++)
        stream_free(TAKE(conns[i].stream));
}

static int setup(void **state) {
    static unsigned number;
    loop = loop_new();
    snprintf(path, sizeof path, "/tmp/selvage-grpc-%d-%u.sock", (int)getpid(), number++);
    snprintf(target, sizeof target, "unix://%s", path);
    refuse = goaway_after = 0;
    silent = false;
    server_start();
    channel = grpc_channel_new(loop, target, NULL);
    return channel ? 0 : -1;
}
static int teardown(void **state) {
    grpc_channel_free(TAKE(channel));
    server_stop();
    for (unsigned i = 0; i < n_conns; i++)
        ts_free(&conns[i].server);
    n_conns = 0;
    loop_free(loop);
    return 0;
}

/* ---- the client's side ---- */

struct outcome {
    bool ended, got; /* got: a message */
    int status;
    unsigned messages;
    size_t length; /* of the last version */
    struct error err;
    struct grpc_call *call;
    bool cancel_at_message, free_at_message;
};

static void on_done(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct outcome *o = arg;
    assert_false(o->ended);
    o->ended = true;
    o->status = status;
    if (err)
        o->err = *err;
    if (reply)
        o->length = strlen(((const Cri__VersionResponse *)reply)->version);
}
static void on_message(void *arg, const ProtobufCMessage *m) {
    struct outcome *o = arg;
    o->length = strlen(((const Cri__VersionResponse *)m)->version);
    o->messages++;
    o->got = true;
    if (o->cancel_at_message)
        grpc_call_cancel(TAKE(o->call));
    if (o->free_at_message)
        grpc_channel_free(TAKE(channel));
}

static void call(struct outcome *o, const char *method, int timeout_ms, bool streaming) {
    Cri__VersionRequest request = CRI__VERSION_REQUEST__INIT;
    request.version = (char *)"v1";
    struct grpc_call_options options = {.method = method,
                                        .request = &request.base,
                                        .response_type = &cri__version_response__descriptor,
                                        .timeout_ms = timeout_ms,
                                        .done = on_done,
                                        .message = streaming ? on_message : NULL,
                                        .arg = o};
    o->call = grpc_call(channel, &options);
    assert_non_null(o->call);
    assert_false(o->ended);
}

static void stop_waiting(void *arg) {
    fail_msg("nothing happened for ten seconds");
}
static void wait_until(const bool *flag) {
    struct timer *t = timer_new(loop, stop_waiting, NULL);
    timer_set(t, 10000);
    while (!*flag)
        event_base_loop(loop_base(loop), EVLOOP_ONCE);
    timer_free(t);
}
static void set_true(void *arg) {
    *(bool *)arg = true;
}
static void run_for(int64_t ms) {
    bool over = false;
    struct timer *t = timer_new(loop, set_true, &over);
    timer_set(t, ms);
    wait_until(&over);
    timer_free(t);
    for (int i = 0; i < 50; i++) /* however busy the machine is, what has been set going gets its turns */
        event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
}

static struct outcome ask(const char *method) {
    struct outcome o = {0};
    call(&o, method, 5000, false);
    wait_until(&o.ended);
    return o;
}

static void a_call_connects_and_is_answered(void **state) {
    struct outcome o = ask("/t.S/Echo");
    assert_int_equal(o.status, GRPC_OK);
    assert_int_equal(o.length, 2);
    assert_int_equal(ask("/t.S/Echo").status, GRPC_OK);
    assert_int_equal(n_conns, 1);
}

static void many_calls_share_a_connection(void **state) {
    struct outcome o[200] = {0};
    for (size_t i = 0; i < ARRAY_LEN(o); i++)
        call(&o[i], "/t.S/Echo", 5000, false);
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        wait_until(&o[i].ended);
        assert_int_equal(o[i].status, GRPC_OK);
    }
    assert_int_equal(n_conns, 1);
}

static void the_text_of_a_failure_is_the_servers(void **state) {
    struct outcome o = ask("/t.S/Fail");
    assert_int_equal(o.status, GRPC_NOT_FOUND);
    assert_int_equal(o.err.code, ERR_NOT_FOUND);
    assert_int_equal(strncmp(o.err.msg, "no such thing", 13), 0);
}

static void a_large_answer_arrives(void **state) {
    assert_int_equal(ask("/t.S/Large").length, 3 * 1024 * 1024);
}

static void an_answer_that_is_no_such_message_is_a_failure(void **state) {
    assert_int_equal(ask("/t.S/Garbage").status, GRPC_INTERNAL);
    assert_int_equal(ask("/t.S/Two").status, GRPC_INTERNAL);
    struct outcome o = ask("/t.S/Nothing");
    assert_int_equal(o.status, GRPC_INTERNAL);
    assert_non_null(strstr(o.err.msg, "/t.S/Nothing"));
}

static void a_stream_tells_each_message_then_its_end(void **state) {
    struct outcome o = {0};
    call(&o, "/t.S/Stream", -1, true);
    wait_until(&o.ended);
    assert_int_equal(o.messages, 3);
    assert_int_equal(o.length, 2);
    assert_int_equal(o.status, GRPC_OK);
    assert_string_equal(conns[0].server.streams->timeout, "");
}

static void a_call_without_an_answer_ends_at_its_deadline(void **state) {
    struct outcome o = {0};
    call(&o, "/t.S/Hang", 100, false);
    wait_until(&o.ended);
    assert_int_equal(o.status, GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(o.err.code, ERR_TIMEOUT);
    run_for(20);
    assert_int_equal(conns[0].server.resets, 1);
    assert_int_equal(ask("/t.S/Echo").status, GRPC_OK);
}

static void without_a_server_the_deadline_says_why(void **state) {
    struct outcome o = {0};
    server_stop();
    call(&o, "/t.S/Echo", 150, false);
    wait_until(&o.ended);
    assert_int_equal(o.status, GRPC_UNAVAILABLE);
    assert_int_equal(o.err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(o.err.msg, target));
    assert_non_null(strstr(o.err.msg, "No such file"));
}

static void a_call_waits_for_a_server_that_comes_later(void **state) {
    struct outcome o = {0};
    server_stop();
    call(&o, "/t.S/Echo", 5000, false);
    run_for(120);
    assert_false(o.ended);
    server_start();
    wait_until(&o.ended);
    assert_int_equal(o.status, GRPC_OK);
}

static bool up;
static unsigned ups, downs;
static void on_state(void *arg, bool connected, const struct error *why) {
    up = connected;
    if (connected)
        ups++;
    else
        downs++;
    assert_int_equal(connected, why == NULL);
}

static void a_lost_connection_ends_its_calls_and_is_made_again(void **state) {
    struct outcome o = {0};
    ups = downs = 0;
    up = false;
    grpc_channel_on_state(channel, on_state, NULL);
    call(&o, "/t.S/Hang", 5000, false);
    wait_until(&up);
    assert_int_equal(ups, 1);
    server_stop();
    wait_until(&o.ended);
    assert_int_equal(o.status, GRPC_UNAVAILABLE);
    assert_int_equal(downs, 1);
    server_start();
    assert_int_equal(ask("/t.S/Echo").status, GRPC_OK);
    assert_int_equal(ups, 2);
    assert_int_equal(downs, 1);
}

static void a_refused_call_is_sent_again(void **state) {
    refuse = 2;
    assert_int_equal(ask("/t.S/Echo").status, GRPC_OK);
}

static void a_call_that_is_always_refused_ends(void **state) {
    refuse = 1000;
    assert_int_equal(ask("/t.S/Echo").status, GRPC_UNAVAILABLE);
}

static void after_goaway_calls_go_to_a_new_connection_and_old_ones_go_on(void **state) {
    struct outcome endless = {0};
    goaway_after = 2;
    call(&endless, "/t.S/Endless", -1, true);
    assert_int_equal(ask("/t.S/Echo").status, GRPC_OK);
    assert_int_equal(ask("/t.S/Echo").status, GRPC_OK);
    assert_int_equal(n_conns, 2);
    assert_false(endless.ended);
    assert_int_equal(endless.messages, 3);
    assert_non_null(conns[0].stream);
    grpc_call_cancel(endless.call);
    run_for(50);
    assert_null(conns[0].stream); /* its last call is gone, so is the old connection */
}

static void a_server_that_does_not_speak_is_given_up(void **state) {
    struct outcome o = {0};
    silent = true;
    call(&o, "/t.S/Echo", 200, false);
    wait_until(&o.ended);
    assert_int_equal(o.status, GRPC_UNAVAILABLE);
}

static void a_call_may_be_cancelled_in_its_message(void **state) {
    struct outcome o = {.cancel_at_message = true};
    call(&o, "/t.S/Burst", 5000, true);
    wait_until(&o.got);
    run_for(50);
    assert_int_equal(o.messages, 1);
    assert_false(o.ended);
}

static void the_channel_may_be_freed_in_a_callback(void **state) {
    struct outcome o = {.free_at_message = true}, other = {0};
    call(&other, "/t.S/Hang", 5000, false);
    call(&o, "/t.S/Burst", 5000, true);
    wait_until(&o.got);
    run_for(50);
    assert_null(channel);
    assert_int_equal(o.messages, 1);
    assert_false(o.ended || other.ended);
}

static void a_target_that_makes_no_sense_is_refused(void **state) {
    static const char *const bad[] = {"",       "localhost", "localhost:", ":1", "localhost:99999", "unix:relative",
                                      "unix://"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        assert_null(grpc_channel_new(loop, bad[i], &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_call_connects_and_is_answered),
        TEST(many_calls_share_a_connection),
        TEST(the_text_of_a_failure_is_the_servers),
        TEST(a_large_answer_arrives),
        TEST(an_answer_that_is_no_such_message_is_a_failure),
        TEST(a_stream_tells_each_message_then_its_end),
        TEST(a_call_without_an_answer_ends_at_its_deadline),
        TEST(without_a_server_the_deadline_says_why),
        TEST(a_call_waits_for_a_server_that_comes_later),
        TEST(a_lost_connection_ends_its_calls_and_is_made_again),
        TEST(a_refused_call_is_sent_again),
        TEST(a_call_that_is_always_refused_ends),
        TEST(after_goaway_calls_go_to_a_new_connection_and_old_ones_go_on),
        TEST(a_server_that_does_not_speak_is_given_up),
        TEST(a_call_may_be_cancelled_in_its_message),
        TEST(the_channel_may_be_freed_in_a_callback),
        TEST(a_target_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
