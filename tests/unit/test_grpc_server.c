/* The gRPC server and the gRPC channel, against each other over a unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "dmi.pb-c.h"
#include "net/grpc_server.h"

#include <string.h>
#include <unistd.h>

static struct loop *loop;
static struct grpc_server *server;
static struct grpc_channel *channel;
static struct timer *deadline;
static char path[64];
static struct grpc_request *held;
static int status;
static char text[600];
static unsigned done_calls;

static void handle_register(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__RegisterDeviceRequest *q = (const Dmi__RegisterDeviceRequest *)m;
    Dmi__RegisterDeviceResponse a = DMI__REGISTER_DEVICE_RESPONSE__INIT;
    if (!q->device) {
        grpc_reply_error(r, GRPC_INVALID_ARGUMENT, "no device: 100 %% of it is missing, \xc3\xa9");
        return;
    }
    a.devicename = q->device->name;
    grpc_reply(r, &a.base);
}

static void handle_get(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    held = r;
    loop_stop(loop);
}

static void handle_update(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    Dmi__UpdateDeviceResponse a = DMI__UPDATE_DEVICE_RESPONSE__INIT;
    grpc_reply(r, &a.base);
}

static const struct grpc_method methods[] = {
    {"/t.S/Register", &dmi__register_device_request__descriptor, handle_register},
    {"/t.S/Get", &dmi__get_device_request__descriptor, handle_get},
    {"/t.S/Update", &dmi__update_device_request__descriptor, handle_update},
};

static void on_deadline(void *arg) {
    fail_msg("no answer");
}

static void start(void) {
    const struct grpc_server_options o = {
        .unix_path = path, .unix_mode = 0600, .methods = methods, .n_methods = ARRAY_LEN(methods), .max_message = 4096};
    server = grpc_server_new(loop, &o, NULL);
    assert_non_null(server);
}

static int setup(void **state) {
    char target[80];
    loop = loop_new();
    (void)snprintf(path, sizeof path, "/tmp/grpc-server-%d.sock", getpid());
    (void)snprintf(target, sizeof target, "unix://%s", path);
    start();
    channel = grpc_channel_new(loop, target, NULL);
    deadline = timer_new(loop, on_deadline, NULL);
    timer_set(deadline, 60000);
    held = NULL;
    done_calls = 0;
    return 0;
}

static int teardown(void **state) {
    grpc_channel_free(channel);
    grpc_server_free(server);
    timer_free(deadline);
    loop_free(loop);
    return 0;
}

static void on_done(void *arg, int got, const ProtobufCMessage *reply, const struct error *err) {
    status = got;
    text[0] = 0;
    done_calls++;
    if (err)
        (void)snprintf(text, sizeof text, "%s", error_text(err));
    else if (reply->descriptor == &dmi__register_device_response__descriptor)
        (void)snprintf(text, sizeof text, "%s", ((const Dmi__RegisterDeviceResponse *)reply)->devicename);
    loop_stop(loop);
}

static void call(const char *method, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *answer) {
    const struct grpc_call_options o = {
        .method = method, .request = request, .response_type = answer, .timeout_ms = 30000, .done = on_done};
    grpc_call(channel, &o);
}

static void register_device(const char *name) {
    Dmi__Device d = DMI__DEVICE__INIT;
    Dmi__RegisterDeviceRequest q = DMI__REGISTER_DEVICE_REQUEST__INIT;
    d.name = (char *)name;
    q.device = name ? &d : NULL;
    call("/t.S/Register", &q.base, &dmi__register_device_response__descriptor);
    loop_run(loop);
}

static void a_call_is_answered(void **state) {
    register_device("meter");
    assert_int_equal(status, GRPC_OK);
    assert_string_equal(text, "meter");
}

static void an_empty_answer_is_an_answer(void **state) {
    Dmi__UpdateDeviceRequest q = DMI__UPDATE_DEVICE_REQUEST__INIT;
    call("/t.S/Update", &q.base, &dmi__update_device_response__descriptor);
    loop_run(loop);
    assert_int_equal(status, GRPC_OK);
}

static void a_refusal_carries_its_text(void **state) {
    register_device(NULL);
    assert_int_equal(status, GRPC_INVALID_ARGUMENT);
    assert_non_null(strstr(text, "no device: 100 % of it is missing, \xc3\xa9"));
}

static void an_unknown_method_is_unimplemented(void **state) {
    Dmi__GetDeviceRequest q = DMI__GET_DEVICE_REQUEST__INIT;
    call("/t.S/Nothing", &q.base, &dmi__get_device_response__descriptor);
    loop_run(loop);
    assert_int_equal(status, GRPC_UNIMPLEMENTED);
}

static void a_request_that_is_too_large_is_refused(void **state) {
    _cleanup_(free_p) char *name = xcalloc(1, 10001);
    memset(name, 'x', 10000);
    register_device(name);
    assert_int_equal(status, GRPC_RESOURCE_EXHAUSTED);
    register_device("small");
    assert_int_equal(status, GRPC_OK);
}

static void an_answer_may_come_later_or_when_nobody_waits(void **state) {
    Dmi__GetDeviceRequest q = DMI__GET_DEVICE_REQUEST__INIT;
    Dmi__GetDeviceResponse a = DMI__GET_DEVICE_RESPONSE__INIT;
    call("/t.S/Get", &q.base, &dmi__get_device_response__descriptor);
    loop_run(loop);
    assert_non_null(held);
    grpc_reply(TAKE(held), &a.base);
    loop_run(loop);
    assert_int_equal(status, GRPC_OK);

    call("/t.S/Get", &q.base, &dmi__get_device_response__descriptor);
    loop_run(loop);
    struct grpc_request *late = TAKE(held);
    grpc_server_free(TAKE(server));
    grpc_reply(late, &a.base); /* to nobody */
    loop_run(loop);
    assert_int_equal(status, GRPC_UNAVAILABLE);
}

static void a_hundred_calls_at_once_are_answered(void **state) {
    Dmi__UpdateDeviceRequest q = DMI__UPDATE_DEVICE_REQUEST__INIT;
    for (int i = 0; i < 100; i++)
        call("/t.S/Update", &q.base, &dmi__update_device_response__descriptor);
    while (done_calls < 100)
        loop_run(loop);
    assert_int_equal(status, GRPC_OK);
}

static void a_server_that_comes_back_is_found(void **state) {
    register_device("one");
    grpc_server_free(TAKE(server));
    start();
    do { /* a call that went out on the old connection fails with it */
        register_device("two");
    } while (status == GRPC_UNAVAILABLE);
    assert_string_equal(text, "two");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_call_is_answered),
        TEST(an_empty_answer_is_an_answer),
        TEST(a_refusal_carries_its_text),
        TEST(an_unknown_method_is_unimplemented),
        TEST(a_request_that_is_too_large_is_refused),
        TEST(an_answer_may_come_later_or_when_nobody_waits),
        TEST(a_hundred_calls_at_once_are_answered),
        TEST(a_server_that_comes_back_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
