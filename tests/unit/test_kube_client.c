/* The REST client against a scripted server: answers, retries, credentials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "kube/client.h"
#include "script_server.h"

#define WAIT 10000
#define JSON "Content-Type: application/json\r\n"

static struct loop *loop;
static struct ss_server server;
static struct kube_client *client;
static struct buf seen;
static unsigned fail_first; /* so many requests are answered with fail_status */
static int fail_status;
static bool cut_first;
static char token_file[64];

static void handle(struct ss_conn *c, struct bytes head, const char *method, const char *target, struct bytes body) {
    buf_clear(&seen);
    buf_add_bytes(&seen, head);
    buf_add_bytes(&seen, body);
    if (fail_first > 0) {
        fail_first--;
        if (cut_first)
            ss_cut(c);
        else
            ss_answer(c, fail_status, JSON "Retry-After: 0\r\n",
                      "{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"not now\"}");
    } else if (strstr(target, "missing")) {
        ss_answer(c, 404, JSON,
                  "{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"pods \\\"missing\\\" not found\","
                  "\"reason\":\"NotFound\",\"code\":404}");
    } else if (strstr(target, "garbage")) {
        ss_answer(c, 200, JSON, "{\"a\":");
    } else if (strstr(target, "healthz")) {
        ss_answer(c, 200, "Content-Type: text/plain\r\n", "ok");
    } else {
        ss_answer(c, 200, JSON, "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\"}}");
    }
}

static void write_token(const char *text) {
    assert_int_equal(file_write_atomic(token_file, bytes_str(text), 0600, NULL), 0);
}

static int setup(void **state) {
    loop = loop_new();
    server = (struct ss_server){.loop = loop, .handle = handle};
    ss_start(&server, NULL);
    seen = BUF_INIT(1024 * 1024);
    fail_first = 0;
    cut_first = false;
    snprintf(token_file, sizeof token_file, "/tmp/selvage-token-%d", (int)getpid());
    write_token(" first\n");
    struct kube_config c = {.token_file = token_file};
    c.server = xasprintf("http://127.0.0.1:%u", server.port);
    client = kube_client_new(loop, &c, "test", NULL);
    free(c.server);
    return client ? 0 : -1;
}

static int teardown(void **state) {
    kube_client_free(TAKE(client));
    ss_stop(&server);
    loop_free(loop);
    buf_free(&seen);
    unlink(token_file);
    return 0;
}

struct outcome {
    bool done;
    int status;
    struct error error;
    char name[64];
    yyjson_doc *kept;
    bool keep;
};

static void on_done(void *arg, struct kube_result *r) {
    struct outcome *o = arg;
    assert_false(o->done);
    o->done = true;
    o->status = r->status;
    o->error = r->error;
    snprintf(o->name, sizeof o->name, "%s", r->body ? str_or(json_str(r->body, "metadata", "name"), "") : "");
    if (o->keep)
        o->kept = TAKE(r->doc);
}

static struct outcome ask(const char *verb, const char *path, int timeout_ms) {
    struct outcome o = {0};
    struct kube_request r = {.verb = verb, .path = path, .timeout_ms = timeout_ms, .done = on_done, .arg = &o};
    if (!str_eq(verb, "GET"))
        r.body = BYTES_LIT("{\"spec\":1}");
    kube_call(client, &r);
    assert_false(o.done);
    assert_true(run_until(loop, &o.done, WAIT));
    return o;
}

static void an_object_is_answered(void **state) {
    struct outcome o = ask("GET", "/api/v1/namespaces/default/pods/web", 0);
    assert_int_equal(o.status, 200);
    assert_int_equal(o.error.code, ERR_NONE);
    assert_string_equal(o.name, "web");
    assert_non_null(strstr(seen.ptr, "Accept: application/json;managedFields=none, application/json\r\n"));
    assert_non_null(strstr(seen.ptr, "Authorization: Bearer first\r\n"));
    assert_null(strstr(seen.ptr, "Impersonate"));
}

static void the_answer_may_be_kept(void **state) {
    struct outcome o = {.keep = true};
    kube_call(client, &(struct kube_request){.verb = "GET", .path = "/x", .done = on_done, .arg = &o});
    assert_true(run_until(loop, &o.done, WAIT));
    assert_string_equal(json_str(yyjson_doc_get_root(o.kept), "kind"), "Pod");
    yyjson_doc_free(o.kept);
}

static void a_status_becomes_an_error(void **state) {
    struct outcome o = ask("GET", "/api/v1/namespaces/default/pods/missing", 0);
    assert_int_equal(o.status, 404);
    assert_int_equal(o.error.code, ERR_NOT_FOUND);
    assert_non_null(strstr(o.error.msg, "pods \"missing\" not found"));
}

static void an_answer_that_is_no_json_is_an_error(void **state) {
    assert_int_equal(ask("GET", "/garbage", 0).error.code, ERR_INVALID);
    assert_int_equal(ask("GET", "/healthz", 0).error.code, ERR_NONE);
}

static void reads_are_tried_again(void **state) {
    static const int passing[] = {429, 502, 503, 504};
    for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
        fail_first = 2;
        fail_status = passing[i];
        assert_int_equal(ask("GET", "/x", 0).status, 200);
    }
    fail_first = 1;
    cut_first = true;
    assert_int_equal(ask("GET", "/x", 0).status, 200);
}

static void writes_are_tried_again_only_if_nothing_was_done(void **state) {
    fail_first = 1;
    fail_status = 429;
    assert_int_equal(ask("POST", "/x", 0).status, 200);
    fail_first = 1;
    fail_status = 503;
    assert_int_equal(ask("POST", "/x", 0).status, 503);
    fail_first = 1;
    cut_first = true;
    unsigned before = server.requests;
    struct outcome o = ask("PATCH", "/x", 0);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.error.code, ERR_UNAVAILABLE);
    assert_int_equal(server.requests, before + 1);
}

static void start_server(void *arg) {
    ss_start(&server, NULL);
}

static void a_write_waits_for_a_server_that_is_not_there_yet(void **state) {
    struct timer *t = timer_new(loop, start_server, NULL);
    ss_stop(&server);
    timer_set(t, 200);
    assert_int_equal(ask("POST", "/x", 0).status, 200);
    timer_free(t);
}

static void without_a_server_the_deadline_says_why(void **state) {
    ss_stop(&server);
    struct outcome o = ask("GET", "/api/v1/pods?x=secret", 300);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.error.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(o.error.msg, "Connection refused"));
    assert_null(strstr(o.error.msg, "secret"));
}

static void a_node_may_be_spoken_for(void **state) {
    struct outcome o = {0};
    struct kube_request r = {.verb = "PATCH",
                             .path = "/x",
                             .content_type = KUBE_MERGE_PATCH,
                             .body = BYTES_LIT("{}"),
                             .as_node = "edge-1",
                             .done = on_done,
                             .arg = &o};
    kube_call(client, &r);
    assert_true(run_until(loop, &o.done, WAIT));
    assert_non_null(strstr(seen.ptr, "Impersonate-User: system:node:edge-1\r\n"));
    assert_non_null(strstr(seen.ptr, "Impersonate-Group: system:nodes\r\n"));
    assert_non_null(strstr(seen.ptr, "Content-Type: application/merge-patch+json\r\n"));
}

static void a_name_cannot_add_headers(void **state) {
    struct outcome o = {0};
    struct kube_request r = {
        .verb = "GET", .path = "/x", .as_node = "a\r\nImpersonate-Group: system:masters", .done = on_done, .arg = &o};
    kube_call(client, &r);
    assert_false(o.done);
    assert_true(run_until(loop, &o.done, WAIT));
    assert_int_equal(o.error.code, ERR_INVALID);
    assert_int_equal(server.requests, 0);
}

static void a_refused_token_is_read_again(void **state) {
    fail_first = 1;
    fail_status = 401;
    assert_int_equal(ask("GET", "/x", 0).error.code, ERR_DENIED);
    write_token("second");
    assert_int_equal(ask("GET", "/x", 0).status, 200);
    assert_non_null(strstr(seen.ptr, "Authorization: Bearer second\r\n"));
}

static void free_client(void *arg, struct kube_result *r) {
    kube_client_free(TAKE(client));
    *(bool *)arg = true;
}

static void the_client_may_be_freed_in_a_callback(void **state) {
    struct outcome other = {0};
    bool freed = false;
    kube_call(client, &(struct kube_request){.verb = "GET", .path = "/x", .done = free_client, .arg = &freed});
    kube_call(client, &(struct kube_request){.verb = "GET", .path = "/y", .done = on_done, .arg = &other});
    assert_true(run_until(loop, &freed, WAIT));
    run_for(loop, 20);
    assert_false(other.done);
}

static void a_cancelled_call_tells_nothing(void **state) {
    struct outcome o = {0};
    struct kube_request r = {.verb = "GET", .path = "/x", .done = on_done, .arg = &o};
    kube_call_cancel(kube_call(client, &r));
    ss_stop(&server);
    struct kube_call *waiting = kube_call(client, &r);
    run_for(loop, 50);
    kube_call_cancel(waiting); /* between two attempts */
    run_for(loop, 50);
    assert_false(o.done);
}

static void paths_are_built_and_escaped(void **state) {
    static const struct {
        const char *part[6], *path;
    } cases[] = {
        {{"", "v1", NULL, "nodes", NULL, NULL}, "/api/v1/nodes"},
        {{NULL, "v1", "default", "pods", "web", "status"}, "/api/v1/namespaces/default/pods/web/status"},
        {{"apps", "v1", "", "deployments", "", ""}, "/apis/apps/v1/deployments"},
        {{"", "v1", "a/b", "pods", "../x?y", NULL}, "/api/v1/namespaces/a%2Fb/pods/..%2Fx%3Fy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const *p = cases[i].part;
        char *path = kube_path(p[0], p[1], p[2], p[3], p[4], p[5]);
        assert_string_equal(path, cases[i].path);
        free(path);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_object_is_answered),
        TEST(the_answer_may_be_kept),
        TEST(a_status_becomes_an_error),
        TEST(an_answer_that_is_no_json_is_an_error),
        TEST(reads_are_tried_again),
        TEST(writes_are_tried_again_only_if_nothing_was_done),
        TEST(a_write_waits_for_a_server_that_is_not_there_yet),
        TEST(without_a_server_the_deadline_says_why),
        TEST(a_node_may_be_spoken_for),
        TEST(a_name_cannot_add_headers),
        TEST(a_refused_token_is_read_again),
        TEST(the_client_may_be_freed_in_a_callback),
        TEST(a_cancelled_call_tells_nothing),
        TEST(paths_are_built_and_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
