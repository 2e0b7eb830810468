#include "net_fixture.h"

#include "net/http_server.h"

#include <string.h>

struct world {
    struct loop *loop;
    struct http_server *server;
    struct stream *client;
    struct buf got;
    bool closed;
    size_t stop_at;        /* the loop stops when so much has come, or when the connection ends */
    const char *stop_text; /* or when this has come */
    struct http_request *kept;
    unsigned handled, lost, drained, upgraded;
    struct timer *timer;
    struct stream *taken;
    struct buf taken_got;
    size_t streamed;
};

static struct world *world; /* handlers get the server's arg; this is for brevity */

static void echo(void *arg, struct http_request *r) {
    world->handled++;
    struct bytes path = http_path(r), query = http_query(r), body = http_body(r);
    http_respondf(r, 200, "%s %.*s?%.*s [%.*s]", http_method_name(r), (int)path.len, path.ptr, (int)query.len,
                  query.len ? query.ptr : "", (int)body.len, body.len ? body.ptr : "");
}

static void show_header(void *arg, struct http_request *r) {
    bool found;
    struct bytes v = http_header(r, "x-THING", &found);
    http_add_header(r, "X-Answer", "yes");
    http_respondf(r, 201, "%s %.*s", found ? "found" : "absent", (int)v.len, v.len ? v.ptr : "");
}

static void on_lost(void *arg) {
    struct world *w = arg;
    w->lost++;
    http_abort(w->kept); /* harmless here */
    http_respond(w->kept, 200, NULL, BYTES_EMPTY);
    w->kept = NULL;
    loop_stop(w->loop);
}

static void keep(void *arg, struct http_request *r) {
    world->handled++;
    world->kept = r;
    http_on_close(r, on_lost, world);
    loop_stop(world->loop);
}

static void keep_carelessly(void *arg, struct http_request *r) {
    world->kept = r;
    loop_stop(world->loop);
}

static void chunks(void *arg, struct http_request *r) {
    http_start(r, 200, "text/plain", -1);
    http_write(r, BYTES_LIT("first "));
    http_write(r, BYTES_LIT("second"));
    http_end(r);
}

static void promised(void *arg, struct http_request *r) {
    http_start(r, 200, NULL, 10);
    http_write(r, BYTES_LIT("short"));
    http_end(r);
}

static void stream_more(void *arg) {
    struct world *w = arg;
    static char piece[64 * 1024];
    w->drained++;
    while (w->streamed < (8u << 20)) {
        w->streamed += sizeof(piece);
        if (http_write(w->kept, bytes_of(piece, sizeof(piece))))
            return;
    }
    http_end(TAKE(w->kept));
}

static void big_stream(void *arg, struct http_request *r) {
    world->kept = r;
    http_start(r, 200, NULL, 8 << 20);
    http_on_drained(r, stream_more, world);
    stream_more(world);
}

static size_t taken_data(void *arg, struct bytes in) {
    struct world *w = arg;
    assert_int_equal(buf_add_bytes(&w->taken_got, in), 0);
    loop_stop(w->loop);
    return in.len;
}
static void taken_closed(void *arg, const struct error *why) {
}
static const struct stream_handlers taken_handlers = {.data = taken_data, .closed = taken_closed};

static void upgrade(void *arg, struct http_request *r) {
    struct stream *s = http_upgrade(r, "raw");
    if (!s) {
        http_respondf(r, 400, "no upgrade");
        return;
    }
    world->taken = s;
    stream_set_handlers(s, &taken_handlers, world);
}

static void abort_it(void *arg, struct http_request *r) {
    http_abort(r);
}

static const struct http_route routes[] = {
    {1u << HTTP_M_GET | 1u << HTTP_M_HEAD | 1u << HTTP_M_POST, "/echo", HTTP_AUTH_NONE, 100, echo},
    {1u << HTTP_M_GET, "/header", HTTP_AUTH_NONE, 0, show_header},
    {1u << HTTP_M_GET, "/keep", HTTP_AUTH_NONE, 0, keep},
    {1u << HTTP_M_GET, "/careless", HTTP_AUTH_NONE, 0, keep_carelessly},
    {1u << HTTP_M_GET | 1u << HTTP_M_HEAD, "/chunks", HTTP_AUTH_NONE, 0, chunks},
    {1u << HTTP_M_GET, "/promised", HTTP_AUTH_NONE, 0, promised},
    {1u << HTTP_M_GET, "/big", HTTP_AUTH_NONE, 0, big_stream},
    {1u << HTTP_M_GET, "/upgrade", HTTP_AUTH_NONE, 0, upgrade},
    {1u << HTTP_M_GET, "/abort", HTTP_AUTH_NONE, 0, abort_it},
    {1u << HTTP_M_GET, "/secret", HTTP_AUTH_CLIENT_CERT, 0, echo},
    {0, "/any/*", HTTP_AUTH_NONE, 1 << 20, echo},
};

static size_t client_data(void *arg, struct bytes in) {
    struct world *w = arg;
    assert_int_equal(buf_add_bytes(&w->got, in), 0);
    if ((w->stop_at && w->got.len >= w->stop_at) || (w->stop_text && strstr(w->got.ptr, w->stop_text)))
        loop_stop(w->loop);
    return in.len;
}

static void client_closed(void *arg, const struct error *why) {
    struct world *w = arg;
    w->closed = true;
    loop_stop(w->loop);
}

static const struct stream_handlers client_handlers = {.data = client_data, .closed = client_closed};

static void world_init_with(struct world *w, struct http_server_options o) {
    memset(w, 0, sizeof(*w));
    struct error err = ERROR_INIT;
    world = w;
    w->loop = loop_new();
    buf_init(&w->got, 64 << 20);
    buf_init(&w->taken_got, 1 << 20);
    o.routes = routes;
    o.n_routes = ARRAY_LEN(routes);
    o.arg = w;
    o.listen.address = "127.0.0.1";
    w->server = http_server_new(w->loop, &o, &err);
    if (!w->server)
        fail_msg("%s", err.msg);
}

static void world_init(struct world *w) {
    world_init_with(w, (struct http_server_options){0});
}

static void client_connect(struct world *w) {
    struct stream_options o = {.handlers = &client_handlers, .arg = w};
    stream_free(w->client);
    buf_clear(&w->got);
    w->closed = false;
    w->client = stream_connect(w->loop, "127.0.0.1", http_server_port(w->server), NULL, NULL, &o, NULL);
    assert_non_null(w->client);
}

static void client_send(struct world *w, const char *text) {
    stream_write(w->client, text, strlen(text));
}

static void world_free(struct world *w) {
    stream_free(w->client);
    stream_free(w->taken);
    http_server_free(w->server);
    loop_free(w->loop);
    buf_free(&w->got);
    buf_free(&w->taken_got);
}

/* Sends the text on a new connection and returns all that comes until the server closes. */
static const char *talk(struct world *w, const char *text) {
    client_connect(w);
    client_send(w, text);
    w->stop_at = 0;
    w->stop_text = NULL;
    run_loop(w->loop);
    assert_true(w->closed);
    return w->got.ptr ? w->got.ptr : "";
}

static void expect_status(struct world *w, const char *request, int status) {
    char start[32];
    snprintf(start, sizeof(start), "HTTP/1.1 %d ", status);
    const char *answer = talk(w, request);
    if (strncmp(answer, start, strlen(start)) != 0)
        fail_msg("%s was answered with: %.60s", request, answer);
}

static void expect_body(struct world *w, const char *request, const char *body) {
    const char *answer = talk(w, request);
    const char *end = strstr(answer, "\r\n\r\n");
    assert_non_null(end);
    assert_string_equal(end + 4, body);
}

#define H "Host: x\r\n"
#define HC H "Connection: close\r\n"

static void a_get_is_answered(void **state) {
    struct world w;
    world_init(&w);
    const char *answer = talk(&w, "GET /echo?a=b%20c HTTP/1.1\r\n" HC "\r\n");
    assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(answer, "\r\nDate: "));
    assert_non_null(strstr(answer, "\r\nContent-Length: "));
    assert_non_null(strstr(answer, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\nGET /echo?a=b%20c []"));
    world_free(&w);
}

static void bodies_arrive_whole_in_both_forms(void **state) {
    struct world w;
    world_init(&w);
    expect_body(&w, "POST /echo HTTP/1.1\r\n" HC "Content-Length: 5\r\n\r\nhello", "POST /echo? [hello]");
    expect_body(&w,
                "POST /echo HTTP/1.1\r\n" HC
                "Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
                "POST /echo? [hello]");
    expect_body(&w, "GET /echo HTTP/1.1\r\n" HC "Content-Length: 2\r\n\r\nhi", "GET /echo? [hi]");
    world_free(&w);
}

static void headers_are_found_by_any_case(void **state) {
    struct world w;
    world_init(&w);
    expect_body(&w, "GET /header HTTP/1.1\r\n" HC "X-Thing:   one  \r\nx-thing: two\r\n\r\n", "found one");
    expect_body(&w, "GET /header HTTP/1.1\r\n" HC "X-Thing:\r\nOther: z\r\n\r\n", "found ");
    expect_body(&w, "GET /header HTTP/1.1\r\n" HC "\r\n", "absent ");
    assert_non_null(strstr(w.got.ptr, "HTTP/1.1 201 Created\r\n"));
    assert_non_null(strstr(w.got.ptr, "\r\nX-Answer: yes\r\n"));
    world_free(&w);
}

static void a_request_cut_anywhere_is_the_same(void **state) {
    const char *request = "POST /echo HTTP/1.1\r\n" HC "X-Thing: v\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "5\r\nhello\r\n0\r\n\r\n";
    struct world w;
    world_init(&w);
    client_connect(&w);
    for (const char *p = request; *p; p++) {
        stream_write(w.client, p, 1);
        settle(w.loop, 1);
    }
    if (!w.closed)
        run_loop(w.loop);
    assert_non_null(strstr(w.got.ptr, "[hello]"));
    world_free(&w);
}

static void a_connection_serves_many_requests(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    for (int i = 0; i < 3; i++) {
        buf_clear(&w.got);
        w.stop_text = "[]";
        client_send(&w, "GET /echo HTTP/1.1\r\n" H "\r\n");
        run_loop(w.loop);
        assert_false(w.closed);
        assert_null(strstr(w.got.ptr, "Connection:"));
    }
    assert_int_equal(w.handled, 3);
    world_free(&w);
}

static void pipelined_requests_are_answered_in_order(void **state) {
    struct world w;
    world_init(&w);
    const char *answer =
        talk(&w, "GET /any/1 HTTP/1.1\r\n" H "\r\nPOST /any/2 HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx"
                 "GET /nowhere HTTP/1.1\r\n" H "\r\nGET /any/3 HTTP/1.1\r\n" HC "\r\n");
    const char *one = strstr(answer, "/any/1"), *two = strstr(answer, "/any/2"), *three = strstr(answer, "/any/3");
    assert_true(one && two && three && one < two && two < three);
    assert_non_null(strstr(answer, " 404 "));
    world_free(&w);
}

static void a_pipelined_request_waits_for_a_slow_answer(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /keep HTTP/1.1\r\n" H "\r\nGET /echo HTTP/1.1\r\n" HC "\r\n");
    run_loop(w.loop);
    settle(w.loop, 20);
    assert_int_equal(w.handled, 1);
    http_respondf(w.kept, 200, "slow");
    run_loop(w.loop);
    assert_true(w.closed);
    assert_int_equal(w.handled, 2);
    assert_int_equal(w.lost, 0);
    assert_true(strstr(w.got.ptr, "slow") < strstr(w.got.ptr, "/echo"));
    world_free(&w);
}

static void head_has_the_length_and_no_body(void **state) {
    struct world w;
    world_init(&w);
    const char *answer = talk(&w, "HEAD /echo HTTP/1.1\r\n" HC "\r\n");
    assert_non_null(strstr(answer, "\r\nContent-Length: 14\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
    answer = talk(&w, "HEAD /chunks HTTP/1.1\r\n" HC "\r\n");
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
    world_free(&w);
}

static void streamed_answers_are_chunked(void **state) {
    struct world w;
    world_init(&w);
    expect_body(&w, "GET /chunks HTTP/1.1\r\n" HC "\r\n", "6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n");
    expect_body(&w, "GET /chunks HTTP/1.0\r\n\r\n", "first second");
    world_free(&w);
}

static void an_answer_that_falls_short_breaks_off(void **state) {
    struct world w;
    world_init(&w);
    talk(&w, "GET /promised HTTP/1.1\r\n" H "\r\n");
    assert_true(w.closed); /* not kept alive: the peer sees that it is not whole */
    world_free(&w);
}

static void a_slow_reader_holds_the_writer_back(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /big HTTP/1.1\r\n" HC "\r\n");
    settle(w.loop, 1); /* connect */
    stream_pause(w.client);
    settle(w.loop, 150);
    assert_true(w.streamed < (8u << 20));
    stream_resume(w.client);
    run_loop(w.loop);
    assert_true(w.closed);
    assert_true(w.got.len > (8u << 20));
    assert_true(w.drained > 1);
    world_free(&w);
}

static void an_expectation_is_answered_with_continue(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    w.stop_text = "100 Continue\r\n\r\n";
    client_send(&w, "POST /echo HTTP/1.1\r\n" HC "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    run_loop(w.loop);
    w.stop_text = NULL;
    client_send(&w, "ok");
    run_loop(w.loop);
    assert_non_null(strstr(w.got.ptr, "[ok]"));
    /* One that will be refused is refused at once. */
    const char *answer = talk(&w, "POST /echo HTTP/1.1\r\n" H "Content-Length: 101\r\nExpect: 100-continue\r\n\r\n");
    assert_null(strstr(answer, "100 Continue"));
    assert_non_null(strstr(answer, "HTTP/1.1 413 "));
    expect_status(&w, "POST /echo HTTP/1.1\r\n" H "Content-Length: 1\r\nExpect: a-pony\r\n\r\n", 417);
    world_free(&w);
}

static void what_is_too_large_is_refused(void **state) {
    struct world w;
    world_init_with(&w, (struct http_server_options){.max_header_bytes = 2000});
    expect_status(&w, "POST /echo HTTP/1.1\r\n" H "Content-Length: 101\r\n\r\n", 413);
    expect_status(&w, "POST /echo HTTP/1.1\r\n" H "Content-Length: 99999999999999999999999\r\n\r\n", 400);
    expect_status(&w, "GET /header HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx", 413);
    char big[4096];
    memset(big, 'a', sizeof(big));
    snprintf(big, sizeof(big), "GET /echo HTTP/1.1\r\n" H "X: %2500d\r\n\r\n", 1);
    expect_status(&w, big, 431);
    int n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n65\r\n");
    memset(big + n, 'b', 200);
    big[n + 200] = '\0';
    expect_status(&w, big, 413);
    n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;");
    memset(big + n, 'e', 3000);
    big[n + 3000] = '\0';
    expect_status(&w, big, 431);
    assert_int_equal(w.handled, 0);
    world_free(&w);
}

static void requests_that_two_parties_could_read_differently_are_refused(void **state) {
    static const char *const bad[] = {
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",

        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "GET /echo HTTP/1.1\r\n" H "X-Thing: a\r\n folded\r\n\r\n",
        "GET /echo HTTP/1.1\nHost: x\n\n",
        "GET /echo HTTP/1.1\r\n" H "X-Thing: a\nX: b\r\n\r\n",
        "GET /echo HTTP/1.1\r\n" H "X-Thing: a\rX: b\r\n\r\n",
        "GET /echo HTTP/1.1\r\n" H "X Thing: a\r\n\r\n",
        "GET /echo HTTP/1.1\r\n" H ": a\r\n\r\n",
        "GET /echo HTTP/1.1\r\n\r\n",
        "GET /echo HTTP/1.1\r\n" H "Host: y\r\n\r\n",
        "GET echo HTTP/1.1\r\n" H "\r\n",
        "GET /ec ho HTTP/1.1\r\n" H "\r\n",
        "get /echo HTTP/1.1\r\n" H "\r\n",
        "\x16\x03\x01\x02\x00\x01\r\n\r\n",
    };
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect_status(&w, bad[i], 400);
    expect_status(&w, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501);
    expect_status(&w, "GET /echo HTTP/2.0\r\n" H "\r\n", 505);
    expect_status(&w, "CONNECT x:1 HTTP/1.1\r\n" H "\r\n", 405);
    assert_int_equal(w.handled, 0);
    expect_body(&w, "GET /echo HTTP/1.1\r\n" HC "\r\n", "GET /echo? []"); /* and nobody else is hurt */
    world_free(&w);
}

static void unknown_paths_and_methods_are_refused(void **state) {
    struct world w;
    world_init(&w);
    expect_status(&w, "GET /nowhere HTTP/1.1\r\n" HC "\r\n", 404);
    expect_status(&w, "GET /echo/ HTTP/1.1\r\n" HC "\r\n", 404);
    expect_status(&w, "PUT /echo HTTP/1.1\r\n" HC "\r\n", 405);
    assert_non_null(strstr(w.got.ptr, "\r\nAllow: GET, HEAD, POST\r\n"));
    expect_status(&w, "GET /secret HTTP/1.1\r\n" HC "\r\n", 401);
    expect_body(&w, "GET http://x/any/a?b HTTP/1.1\r\n" HC "\r\n", "GET /any/a?b []");
    world_free(&w);
}

static void a_request_that_does_not_end_is_given_up(void **state) {
    struct world w;
    world_init_with(&w, (struct http_server_options){.request_timeout_ms = 50, .idle_timeout_ms = 50});
    expect_status(&w, "GET /echo HTTP/1.1\r\nHos", 408);
    assert_string_equal(talk(&w, ""), ""); /* an idle connection is closed without a word */
    world_free(&w);
}

static void a_handler_learns_that_the_client_left(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /keep HTTP/1.1\r\n" H "\r\n");
    run_loop(w.loop);
    stream_free(TAKE(w.client));
    run_loop(w.loop);
    assert_int_equal(w.lost, 1);
    world_free(&w);
}

static void an_answer_to_nobody_is_harmless(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /careless HTTP/1.1\r\n" H "\r\n");
    run_loop(w.loop);
    stream_free(TAKE(w.client));
    settle(w.loop, 30);
    assert_true(bytes_eq_str(http_path(w.kept), "/careless"));
    http_start(w.kept, 200, NULL, -1);
    http_write(w.kept, BYTES_LIT("anybody?"));
    http_end(w.kept);
    world_free(&w);
}

static void an_aborted_request_ends_its_connection(void **state) {
    struct world w;
    world_init(&w);
    assert_string_equal(talk(&w, "GET /abort HTTP/1.1\r\n" H "\r\n"), "");
    world_free(&w);
}

static void an_upgrade_hands_over_stream_and_rest(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /upgrade HTTP/1.1\r\n" H "Connection: keep-alive, Upgrade\r\nUpgrade: raw\r\n\r\nraw bytes");
    run_loop(w.loop);
    assert_true(bytes_eq_str(buf_bytes(&w.taken_got), "raw bytes"));
    w.stop_text = "hello";
    stream_write(w.taken, "hello", 5);
    run_loop(w.loop);
    assert_non_null(
        strstr(w.got.ptr, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n"));
    world_free(&w);
}

static void an_upgrade_nobody_wants_is_a_plain_request(void **state) {
    struct world w;
    world_init(&w);
    const char *answer = talk(&w, "GET /any/h2c HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                                  "GET /any/next HTTP/1.1\r\n" HC "\r\n");
    assert_non_null(strstr(answer, "/any/h2c"));
    assert_non_null(strstr(answer, "/any/next"));
    world_free(&w);
}

static void a_stopping_server_finishes_what_it_has(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /keep HTTP/1.1\r\n" H "\r\n");
    run_loop(w.loop);
    http_server_stop(w.server, 10000);
    settle(w.loop, 10);
    assert_false(w.closed);
    http_respondf(TAKE(w.kept), 200, "last words");
    run_loop(w.loop);
    assert_true(w.closed);
    assert_non_null(strstr(w.got.ptr, "last words"));
    assert_non_null(strstr(w.got.ptr, "Connection: close"));
    world_free(&w);
}

static void a_stopping_server_does_not_wait_for_ever(void **state) {
    struct world w;
    world_init(&w);
    client_connect(&w);
    client_send(&w, "GET /keep HTTP/1.1\r\n" H "\r\n");
    run_loop(w.loop);
    http_server_stop(w.server, 20);
    run_loop(w.loop);
    assert_int_equal(w.lost, 1);
    world_free(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_is_answered),
        cmocka_unit_test(bodies_arrive_whole_in_both_forms),
        cmocka_unit_test(headers_are_found_by_any_case),
        cmocka_unit_test(a_request_cut_anywhere_is_the_same),
        cmocka_unit_test(a_connection_serves_many_requests),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_pipelined_request_waits_for_a_slow_answer),
        cmocka_unit_test(head_has_the_length_and_no_body),
        cmocka_unit_test(streamed_answers_are_chunked),
        cmocka_unit_test(an_answer_that_falls_short_breaks_off),
        cmocka_unit_test(a_slow_reader_holds_the_writer_back),
        cmocka_unit_test(an_expectation_is_answered_with_continue),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(requests_that_two_parties_could_read_differently_are_refused),
        cmocka_unit_test(unknown_paths_and_methods_are_refused),
        cmocka_unit_test(a_request_that_does_not_end_is_given_up),
        cmocka_unit_test(a_handler_learns_that_the_client_left),
        cmocka_unit_test(an_answer_to_nobody_is_harmless),
        cmocka_unit_test(an_aborted_request_ends_its_connection),
        cmocka_unit_test(an_upgrade_hands_over_stream_and_rest),
        cmocka_unit_test(an_upgrade_nobody_wants_is_a_plain_request),
        cmocka_unit_test(a_stopping_server_finishes_what_it_has),
        cmocka_unit_test(a_stopping_server_does_not_wait_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
