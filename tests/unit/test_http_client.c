/* The HTTP client against a server that is scripted byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/http_client.h"
#include "script_server.h"

#define WAIT 10000

static struct loop *loop;
static struct http_client *client;
static struct ss_server server;
static char url[128];

struct outcome {
    bool done;
    struct http_result r;
    char body[4096], type[128];
    int started;
    unsigned pieces, dones;
    bool stop; /* data returns false */
};

static struct buf seen; /* what the server was sent */

static void on_done(void *arg, const struct http_result *r) {
    struct outcome *o = arg;
    o->done = true;
    o->dones++;
    o->r = *r;
    snprintf(o->body, sizeof o->body, "%.*s", (int)r->body.len, r->body.ptr ? r->body.ptr : "");
    snprintf(o->type, sizeof o->type, "%.*s", (int)r->content_type.len, r->content_type.ptr ? r->content_type.ptr : "");
}
static void on_started(void *arg, int status) {
    struct outcome *o = arg;
    assert_int_equal(o->started, 0);
    o->started = status;
}
static bool on_data(void *arg, struct bytes piece) {
    struct outcome *o = arg;
    o->pieces++;
    strncat(o->body, piece.ptr, piece.len);
    return !o->stop;
}

static void handle(struct ss_conn *c, struct bytes head, const char *method, const char *target, struct bytes body) {
    buf_clear(&seen);
    buf_add_bytes(&seen, head);
    buf_add_bytes(&seen, body);
    if (str_eq(target, "/hello"))
        ss_answer(c, 200, "Content-Type: text/plain\r\n", "hello");
    else if (str_eq(target, "/busy"))
        ss_answer(c, 429, "Retry-After: 7\r\n", "later");
    else if (str_eq(target, "/large"))
        ss_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n%099999d", 7);
    else if (str_eq(target, "/half"))
        ss_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), ss_cut(c);
    else if (str_eq(target, "/cut"))
        ss_cut(c);
    else if (str_eq(target, "/moved"))
        ss_answer(c, 302, "Location: /hello\r\n", "");
    else if (str_eq(target, "/stream"))
        ss_printf(c, "HTTP/1.1 100 Continue\r\n\r\n"), ss_begin_chunks(c, ""), ss_chunk(c, "one "), ss_chunk(c, "two");
    else if (str_eq(target, "/ended"))
        ss_begin_chunks(c, "Trailer: X\r\n"), ss_chunk(c, "all"), ss_printf(c, "0\r\nX: y\r\n\r\n");
    else if (str_eq(target, "/headers"))
        for (int i = 0; i < 100 && c->stream; i++)
            ss_printf(c, "%s%01000d\r\n", i == 0 ? "HTTP/1.1 200 OK\r\nX: " : "X: ", i);
}

static int setup_with(const struct http_client_options *o) {
    loop = loop_new();
    server = (struct ss_server){.loop = loop, .handle = handle, .tls = server.tls};
    ss_start(&server, NULL);
    seen = BUF_INIT(1024 * 1024);
    client = http_client_new(loop, o, NULL);
    return client ? 0 : -1;
}

static int setup(void **state) {
    return setup_with(&(struct http_client_options){.user_agent = "test/1"});
}

static int teardown(void **state) {
    http_client_free(client);
    ss_stop(&server);
    loop_free(loop);
    buf_free(&seen);
    return 0;
}

static const char *at(const char *path) {
    snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", server.tls ? "https" : "http", server.port, path);
    return url;
}

static struct outcome get(const char *path) {
    struct outcome out = {0};
    struct http_call_options o = {.method = "GET", .url = at(path), .done = on_done, .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_false(out.done);
    assert_true(run_until(loop, &out.done, WAIT));
    return out;
}

static void an_answer_is_given_whole(void **state) {
    struct outcome o = get("/hello");
    assert_int_equal(o.r.status, 200);
    assert_string_equal(o.body, "hello");
    assert_string_equal(o.type, "text/plain");
    assert_int_equal(o.r.retry_after_s, -1);
    assert_non_null(strstr(seen.ptr, "User-Agent: test/1\r\n"));
    assert_null(strstr(seen.ptr, "Accept-Encoding"));
}

static void connections_are_used_again(void **state) {
    for (int i = 0; i < 5; i++)
        get("/hello");
    assert_int_equal(server.connections, 1);
    assert_int_equal(server.requests, 5);
}

static void a_get_may_have_a_body(void **state) {
    struct outcome out = {0};
    const char *const headers[] = {"NodeName: edge-1", NULL};
    struct http_call_options o = {.method = "GET",
                                  .url = at("/hello"),
                                  .headers = headers,
                                  .body = BYTES_LIT("\x30\x82"
                                                    "request"),
                                  .done = on_done,
                                  .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &out.done, WAIT));
    assert_int_equal(strncmp(seen.ptr, "GET /hello HTTP/1.1\r\n", 21), 0);
    assert_non_null(strstr(seen.ptr, "NodeName: edge-1\r\n"));
    assert_null(strstr(seen.ptr, "Content-Type"));
    assert_non_null(strstr(seen.ptr, "\r\n\r\n\x30\x82request"));
}

static void other_methods_go_out_as_they_are(void **state) {
    static const char *const methods[] = {"PATCH", "DELETE", "PUT", "POST"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct outcome out = {0};
        struct http_call_options o = {.method = methods[i],
                                      .url = at("/hello"),
                                      .body = i ? BYTES_EMPTY : BYTES_LIT("{}"),
                                      .done = on_done,
                                      .arg = &out};
        assert_non_null(http_call(client, &o, NULL));
        assert_true(run_until(loop, &out.done, WAIT));
        assert_int_equal(out.r.status, 200);
        assert_int_equal(strncmp(seen.ptr, methods[i], strlen(methods[i])), 0);
    }
}

static void retry_after_is_told(void **state) {
    struct outcome o = get("/busy");
    assert_int_equal(o.r.status, 429);
    assert_int_equal(o.r.retry_after_s, 7);
    assert_int_equal(o.r.error.code, ERR_NONE);
}

static void redirects_are_not_followed(void **state) {
    assert_int_equal(get("/moved").r.status, 302);
}

static void an_answer_over_the_limit_is_refused(void **state) {
    struct outcome out = {0};
    struct http_call_options o = {.method = "GET", .url = at("/large"), .max_body = 5000, .done = on_done, .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &out.done, WAIT));
    assert_int_equal(out.r.status, 0);
    assert_int_equal(out.r.error.code, ERR_TOO_LARGE);
}

static void a_header_over_the_limit_is_refused(void **state) {
    assert_int_equal(get("/headers").r.error.code, ERR_TOO_LARGE);
}

static void a_cut_answer_is_a_failure(void **state) {
    struct outcome o = get("/half");
    assert_int_equal(o.r.status, 0);
    assert_int_equal(o.r.error.code, ERR_UNAVAILABLE);
    assert_false(o.r.not_sent);
    o = get("/cut");
    assert_int_equal(o.r.error.code, ERR_UNAVAILABLE);
    assert_false(o.r.not_sent);
}

static void a_write_on_a_dead_connection_is_not_sent_twice(void **state) {
    static const char *const methods[] = {"PATCH", "POST"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct outcome out = {0};
        get("/hello"); /* a connection that is used again */
        unsigned before = server.requests;
        struct http_call_options o = {
            .method = methods[i], .url = at("/cut"), .body = BYTES_LIT("{}"), .done = on_done, .arg = &out};
        assert_non_null(http_call(client, &o, NULL));
        assert_true(run_until(loop, &out.done, WAIT));
        assert_int_equal(out.r.error.code, ERR_UNAVAILABLE);
        assert_false(out.r.not_sent);
        assert_int_equal(server.requests, before + 1);
    }
}

static void a_closed_port_is_told_as_not_sent(void **state) {
    ss_stop(&server);
    struct outcome o = get("/hello");
    assert_int_equal(o.r.error.code, ERR_UNAVAILABLE);
    assert_true(o.r.not_sent);
    assert_non_null(strstr(o.r.error.msg, "cannot connect: Connection refused"));
}

static struct http_call *stream(struct outcome *out, const char *path, int idle_ms) {
    struct http_call_options o = {.method = "GET",
                                  .url = at(path),
                                  .timeout_ms = -1,
                                  .idle_timeout_ms = idle_ms,
                                  .data = on_data,
                                  .started = on_started,
                                  .done = on_done,
                                  .arg = out};
    struct http_call *call = http_call(client, &o, NULL);
    assert_non_null(call);
    return call;
}

static void a_stream_is_told_piece_by_piece_until_its_end(void **state) {
    struct outcome out = {0};
    stream(&out, "/ended", 0);
    assert_true(run_until(loop, &out.done, WAIT));
    assert_int_equal(out.started, 200);
    assert_int_equal(out.r.status, 200);
}

static void a_silent_stream_times_out(void **state) {
    struct outcome out = {0};
    stream(&out, "/stream", 100);
    assert_true(run_until(loop, &out.done, WAIT));
    assert_string_equal(out.body, "");
    assert_int_equal(out.started, 200);
    assert_true(out.pieces > 0);
    assert_int_equal(out.r.error.code, ERR_TIMEOUT);
}

static void a_server_that_never_answers_times_out(void **state) {
    struct outcome out = {0};
    struct http_call_options o = {
        .method = "GET", .url = at("/silent"), .timeout_ms = 100, .done = on_done, .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &out.done, WAIT));
    assert_int_equal(out.r.error.code, ERR_TIMEOUT);
}

static void the_body_of_a_failed_stream_is_collected(void **state) {
    struct outcome out = {0};
    stream(&out, "/busy", 0);
    assert_true(run_until(loop, &out.done, WAIT));
    assert_int_equal(out.pieces, 0);
    assert_string_equal(out.body, "later");
}

static void a_reader_may_stop_a_stream(void **state) {
    struct outcome out = {.stop = true};
    stream(&out, "/stream", 0);
    assert_true(run_until(loop, &out.done, WAIT));
    assert_int_equal(out.pieces, 1);
    assert_int_equal(out.r.error.code, ERR_CANCELLED);
}

static struct http_call *to_cancel;
static struct outcome cancelled;
static bool freed;

static bool cancel_in_data(void *arg, struct bytes piece) {
    http_call_cancel(to_cancel);
    cancelled.pieces++;
    return true;
}
static bool free_in_data(void *arg, struct bytes piece) {
    http_client_free(TAKE(client));
    freed = true;
    return true;
}
static void free_in_done(void *arg, const struct http_result *r) {
    http_client_free(TAKE(client));
    freed = true;
}
static void call_in_done(void *arg, const struct http_result *r) {
    struct http_call_options o = {.method = "GET", .url = url, .done = on_done, .arg = arg};
    assert_non_null(http_call(client, &o, NULL));
}

static void a_call_may_be_cancelled_in_its_own_callback(void **state) {
    struct http_call_options o = {
        .method = "GET", .url = at("/stream"), .data = cancel_in_data, .done = on_done, .arg = &cancelled};
    to_cancel = http_call(client, &o, NULL);
    assert_string_equal(get("/hello").body, "hello");
    run_for(loop, 50);
    assert_int_equal(cancelled.pieces, 1);
    assert_int_equal(cancelled.dones, 0);
}

static void a_call_may_be_cancelled_before_it_began(void **state) {
    struct outcome out = {0};
    http_call_cancel(stream(&out, "/stream", 10));
    run_for(loop, 50);
    assert_int_equal(out.dones + out.pieces, 0);
    assert_int_equal(server.requests, 0);
}

static void the_client_may_be_freed_in_a_callback(void **state) {
    struct outcome out = {0};
    freed = false;
    struct http_call_options o = {
        .method = "GET", .url = at("/stream"), .data = free_in_data, .done = on_done, .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &freed, WAIT));
    assert_int_equal(out.dones, 0);
    client = http_client_new(loop, &(struct http_client_options){0}, NULL);
    freed = false;
    o = (struct http_call_options){.method = "GET", .url = at("/hello"), .done = free_in_done};
    assert_non_null(http_call(client, &o, NULL));
    o.done = on_done;
    o.arg = &out;
    o.url = at("/silent");
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &freed, WAIT));
    assert_int_equal(out.dones, 0);
}

static void a_call_may_be_started_in_a_callback(void **state) {
    struct outcome out = {0};
    struct http_call_options o = {.method = "GET", .url = at("/hello"), .done = call_in_done, .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &out.done, WAIT));
    assert_string_equal(out.body, "hello");
}

static void calls_beyond_the_connections_wait(void **state) {
    struct outcome out[20] = {0};
    for (size_t i = 0; i < ARRAY_LEN(out); i++) {
        struct http_call_options o = {.method = "GET", .url = at("/hello"), .done = on_done, .arg = &out[i]};
        assert_non_null(http_call(client, &o, NULL));
    }
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        assert_true(run_until(loop, &out[i].done, WAIT));
    assert_true(server.connections <= 8);
    assert_int_equal(server.requests, 20);
}

static void what_would_break_the_request_is_refused(void **state) {
    const char *const headers[] = {"X: a\r\nAuthorization: b", NULL};
    struct error err = ERROR_INIT;
    struct http_call_options o = {.method = "GET", .url = at("/hello"), .headers = headers};
    assert_null(http_call(client, &o, &err));
    assert_int_equal(err.code, ERR_INVALID);
    o = (struct http_call_options){.method = "GET /", .url = url};
    assert_null(http_call(client, &o, &err));
    o = (struct http_call_options){.method = "GET", .url = "http://x/a b"};
    assert_null(http_call(client, &o, &err));
    o = (struct http_call_options){.method = "GET", .url = "file:///etc/passwd"};
    assert_null(http_call(client, &o, &err));
}

static void a_unix_socket_is_a_server_too(void **state) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/selvage-http-%d.sock", (int)getpid());
    struct ss_server local = {.loop = loop, .handle = handle};
    struct outcome out = {0};
    ss_start(&local, path);
    struct http_call_options o = {
        .method = "GET", .url = "http://localhost/hello", .unix_socket = path, .done = on_done, .arg = &out};
    assert_non_null(http_call(client, &o, NULL));
    assert_true(run_until(loop, &out.done, WAIT));
    assert_string_equal(out.body, "hello");
    ss_stop(&local);
    unlink(path);
}

/* ---- TLS ---- */

struct identity {
    struct buf ca_key, ca, key, cert;
};

static void make_identity(struct identity *id, const char *san) {
    const char *const sans[] = {san, NULL};
    id->ca_key = id->ca = id->key = id->cert = BUF_INIT(65536);
    assert_int_equal(x509_new_key(&id->ca_key, NULL), 0);
    assert_int_equal(x509_new_ca("test", buf_bytes(&id->ca_key), &id->ca, NULL), 0);
    assert_int_equal(x509_new_key(&id->key, NULL), 0);
    struct x509_sign s = {.ca_cert_pem = buf_bytes(&id->ca),
                          .ca_key_pem = buf_bytes(&id->ca_key),
                          .lifetime_s = 3600,
                          .server_auth = true,
                          .client_auth = true,
                          .sans = sans};
    assert_int_equal(
        x509_sign_key(&s, buf_bytes(&id->key), &(struct x509_subject){.common_name = "x"}, &id->cert, NULL), 0);
}

static void free_identity(struct identity *id) {
    buf_free(&id->ca_key);
    buf_free(&id->ca);
    buf_free(&id->key);
    buf_free(&id->cert);
}

/* Asks a TLS server with the given identities; the result's status. */
static struct outcome ask_tls(const struct identity *theirs, const struct identity *ours, bool show_cert,
                              bool insecure) {
    struct tls_server_options so = {.cert_pem = buf_bytes(&theirs->cert),
                                    .key_pem = buf_bytes(&theirs->key),
                                    .client_ca_pem = buf_bytes(&theirs->ca),
                                    .require_client_cert = !insecure};
    struct error err = ERROR_INIT;
    server.tls = tls_server_ctx(&so, &err);
    assert_non_null(server.tls);
    struct http_client_options co = {.tls = {.ca_pem = buf_bytes(&ours->ca), .insecure_bootstrap = insecure}};
    if (show_cert) {
        co.tls.cert_pem = buf_bytes(&ours->cert);
        co.tls.key_pem = buf_bytes(&ours->key);
    }
    assert_int_equal(setup_with(&co), 0);
    struct outcome o = get("/hello");
    teardown(NULL);
    tls_ctx_free(TAKE(server.tls));
    return o;
}

static void both_sides_prove_who_they_are(void **state) {
    struct identity id;
    make_identity(&id, "127.0.0.1");
    struct outcome o = ask_tls(&id, &id, true, false);
    assert_int_equal(o.r.status, 200);
    assert_string_equal(o.body, "hello");
    assert_int_equal(ask_tls(&id, &id, false, false).r.status, 0);
    free_identity(&id);
}

static void a_server_of_another_ca_or_name_is_refused(void **state) {
    struct identity id, stranger, misnamed;
    make_identity(&id, "127.0.0.1");
    make_identity(&stranger, "127.0.0.1");
    make_identity(&misnamed, "10.1.2.3");
    struct outcome o = ask_tls(&stranger, &id, true, false);
    assert_int_equal(o.r.error.code, ERR_DENIED);
    o = ask_tls(&misnamed, &misnamed, true, false);
    assert_int_equal(o.r.error.code, ERR_DENIED);
    assert_int_equal(ask_tls(&stranger, &id, false, true).r.status, 200); /* fetching /ca.crt: checked by its hash */
    free_identity(&id);
    free_identity(&stranger);
    free_identity(&misnamed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_given_whole),
        TEST(connections_are_used_again),
        TEST(a_get_may_have_a_body),
        TEST(other_methods_go_out_as_they_are),
        TEST(retry_after_is_told),
        TEST(redirects_are_not_followed),
        TEST(an_answer_over_the_limit_is_refused),
        TEST(a_header_over_the_limit_is_refused),
        TEST(a_cut_answer_is_a_failure),
        TEST(a_write_on_a_dead_connection_is_not_sent_twice),
        TEST(a_closed_port_is_told_as_not_sent),
        TEST(a_stream_is_told_piece_by_piece_until_its_end),
        TEST(a_silent_stream_times_out),
        TEST(a_server_that_never_answers_times_out),
        TEST(the_body_of_a_failed_stream_is_collected),
        TEST(a_reader_may_stop_a_stream),
        TEST(a_call_may_be_cancelled_in_its_own_callback),
        TEST(a_call_may_be_cancelled_before_it_began),
        TEST(the_client_may_be_freed_in_a_callback),
        TEST(a_call_may_be_started_in_a_callback),
        TEST(calls_beyond_the_connections_wait),
        TEST(what_would_break_the_request_is_refused),
        TEST(a_unix_socket_is_a_server_too),
        cmocka_unit_test(both_sides_prove_who_they_are),
        cmocka_unit_test(a_server_of_another_ca_or_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
