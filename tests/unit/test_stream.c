#include "net_fixture.h"

#include "net/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One end of a connection, with what happened to it. */
struct end {
    struct loop *loop;
    struct stream *stream;
    struct buf got;
    bool ready, closed;
    struct error why;
    unsigned drained;
    size_t stop_at;     /* the loop stops when so much has come */
    size_t consume_min; /* consumes nothing before so much is shown */
    bool echo, free_in_data, finish_in_data, free_in_ready, free_in_closed, stop_when_closed, stop_when_drained;
    bool pause_in_data;
};

static size_t end_data(void *arg, struct bytes in) {
    struct end *e = arg;
    if (in.len < e->consume_min)
        return 0;
    assert_int_equal(buf_add_bytes(&e->got, in), 0);
    if (e->echo)
        stream_write(e->stream, in.ptr, in.len);
    if (e->free_in_data)
        stream_free(TAKE(e->stream));
    if (e->finish_in_data)
        stream_finish(TAKE(e->stream), 5000);
    if (e->pause_in_data)
        stream_pause(e->stream);
    if (e->stop_at && e->got.len >= e->stop_at)
        loop_stop(e->loop);
    return in.len;
}

static void end_ready(void *arg) {
    struct end *e = arg;
    e->ready = true;
    if (e->free_in_ready) {
        stream_free(TAKE(e->stream));
        loop_stop(e->loop);
    }
}

static void end_drained(void *arg) {
    struct end *e = arg;
    e->drained++;
    if (e->stop_when_drained)
        loop_stop(e->loop);
}

static void end_closed(void *arg, const struct error *why) {
    struct end *e = arg;
    assert_false(e->closed);
    e->closed = true;
    e->why = *why;
    if (e->free_in_closed)
        stream_free(TAKE(e->stream));
    if (e->stop_when_closed)
        loop_stop(e->loop);
}

static const struct stream_handlers end_handlers = {
    .ready = end_ready,
    .data = end_data,
    .drained = end_drained,
    .closed = end_closed,
};

struct world {
    struct loop *loop;
    struct listener *listener;
    struct end server, client;
    struct pki pki;
    struct tls_ctx *server_tls, *client_tls;
    unsigned accepted;
    bool stop_when_accepted;
};

static void world_accepted(void *arg, struct stream *s) {
    struct world *w = arg;
    w->accepted++;
    stream_free(w->server.stream);
    w->server.stream = s;
    stream_set_handlers(s, &end_handlers, &w->server);
    if (w->stop_when_accepted)
        loop_stop(w->loop);
}

static void end_init(struct end *e, struct loop *l) {
    memset(e, 0, sizeof(*e));
    e->loop = l;
    buf_init(&e->got, 64 << 20);
}

static void world_listen(struct world *w, struct listener_options o) {
    struct error err = ERROR_INIT;
    o.accepted = world_accepted;
    o.arg = w;
    if (!o.unix_path)
        o.address = "127.0.0.1";
    w->listener = listener_new(w->loop, &o, &err);
    if (!w->listener)
        fail_msg("%s", err.msg);
}

static void world_init(struct world *w) {
    memset(w, 0, sizeof(*w));
    w->loop = loop_new();
    end_init(&w->server, w->loop);
    end_init(&w->client, w->loop);
}

static void world_connect_as(struct world *w, const char *server_name) {
    struct error err = ERROR_INIT;
    struct stream_options o = {.handlers = &end_handlers, .arg = &w->client};
    w->client.stream =
        stream_connect(w->loop, "127.0.0.1", listener_port(w->listener), w->client_tls, server_name, &o, &err);
    if (!w->client.stream)
        fail_msg("%s", err.msg);
}

static void world_connect(struct world *w) {
    world_connect_as(w, NULL);
}

static void world_tls(struct world *w, bool require_client, bool client_has_cert) {
    pki_make(&w->pki, "cloud.example", "edge-1");
    w->server_tls = pki_server_ctx(&w->pki, require_client);
    w->client_tls = pki_client_ctx(&w->pki, client_has_cert);
    world_listen(w, (struct listener_options){.tls = w->server_tls});
}

static void world_free(struct world *w) {
    stream_free(w->client.stream);
    stream_free(w->server.stream);
    listener_free(w->listener);
    tls_ctx_free(w->server_tls);
    tls_ctx_free(w->client_tls);
    if (w->server_tls)
        pki_free(&w->pki);
    buf_free(&w->server.got);
    buf_free(&w->client.got);
    loop_free(w->loop);
}

static void ping_pong(struct world *w) {
    w->server.echo = true;
    w->client.stop_at = 5;
    world_connect(w);
    stream_write(w->client.stream, "hello", 5); /* queued before it is connected */
    run_loop(w->loop);
    assert_true(w->client.ready);
    assert_true(bytes_eq_str(buf_bytes(&w->client.got), "hello"));
}

static void bytes_go_both_ways(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    ping_pong(&w);
    assert_non_null(strstr(stream_peer_addr(w.server.stream), "127.0.0.1:"));
    world_free(&w);
}

static void bytes_go_both_ways_over_tls(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, true, true);
    ping_pong(&w);
    struct x509_subject who;
    bool verified = false;
    assert_int_equal(stream_peer_subject(w.server.stream, &who, &verified, NULL), 0);
    assert_true(verified);
    assert_string_equal(who.common_name, "system:node:edge-1");
    assert_string_equal(who.organization, "system:nodes");
    world_free(&w);
}

static void a_unix_socket_works_and_is_private(void **state) {
    struct world w;
    world_init(&w);
    char dir[] = "/tmp/selvage-stream-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    world_listen(&w, (struct listener_options){.unix_path = path, .unix_mode = 0600});
    struct stream_options o = {.handlers = &end_handlers, .arg = &w.client};
    w.client.stream = stream_connect_unix(w.loop, path, &o, NULL);
    assert_non_null(w.client.stream);
    w.server.echo = true;
    w.client.stop_at = 2;
    stream_write(w.client.stream, "hi", 2);
    run_loop(w.loop);
    assert_string_equal(stream_peer_addr(w.server.stream), "unix");
    struct error err = ERROR_INIT;
    struct listener_options again = {.unix_path = path, .accepted = world_accepted};
    assert_null(listener_new(w.loop, &again, &err)); /* a living one is not pushed aside */
    assert_int_equal(err.code, ERR_EXISTS);
    world_free(&w);
    assert_int_equal(access(path, F_OK), -1);
    rmdir(dir);
}

static void a_port_in_use_is_said_plainly(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    struct error err = ERROR_INIT;
    struct listener_options o = {.address = "127.0.0.1", .port = listener_port(w.listener), .accepted = world_accepted};
    assert_null(listener_new(w.loop, &o, &err));
    assert_int_equal(err.code, ERR_EXISTS);
    assert_non_null(strstr(err.msg, "in use"));
    world_free(&w);
}

static void a_name_is_resolved(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    struct stream_options o = {.handlers = &end_handlers, .arg = &w.client};
    w.client.stream = stream_connect(w.loop, "localhost", listener_port(w.listener), NULL, NULL, &o, NULL);
    w.server.echo = true;
    w.client.stop_at = 2;
    stream_write(w.client.stream, "hi", 2);
    run_loop(w.loop);
    assert_int_equal(w.client.got.len, 2);
    world_free(&w);
}

static void a_look_up_may_be_given_up(void **state) {
    struct world w;
    world_init(&w);
    struct stream_options o = {.handlers = &end_handlers, .arg = &w.client};
    struct stream *s = stream_connect(w.loop, "localhost", 1, NULL, NULL, &o, NULL);
    assert_non_null(s);
    stream_free(s);
    settle(w.loop, 50);
    assert_false(w.client.closed);
    world_free(&w);
}

static void a_refused_connection_is_told_later(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    uint16_t port = listener_port(w.listener);
    listener_free(TAKE(w.listener));
    struct stream_options o = {.handlers = &end_handlers, .arg = &w.client};
    w.client.stream = stream_connect(w.loop, "127.0.0.1", port, NULL, NULL, &o, NULL);
    assert_false(w.client.closed);
    w.client.stop_when_closed = w.client.free_in_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.client.why.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(w.client.why.msg, "127.0.0.1"));
    world_free(&w);
}

static void much_data_arrives_whole(struct world *w) {
    size_t n = 8 << 20;
    char *big = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (char)(i * 31 + (i >> 12));
    world_connect(w);
    w->server.echo = true;
    w->client.stop_at = n;
    assert_int_equal(stream_write(w->client.stream, big, n), 1); /* above the high-water mark */
    run_loop(w->loop);
    assert_int_equal(w->client.got.len, n);
    assert_memory_equal(w->client.got.ptr, big, n);
    assert_true(w->client.drained > 0);
    assert_int_equal(stream_queued(w->client.stream), 0);
    free(big);
}

static void much_data_arrives_whole_plain(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    much_data_arrives_whole(&w);
    world_free(&w);
}

static void much_data_arrives_whole_over_tls(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, false, false);
    much_data_arrives_whole(&w);
    world_free(&w);
}

static void what_is_not_consumed_is_shown_again(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    world_connect(&w);
    w.server.consume_min = 6;
    w.server.stop_at = 6;
    stream_write(w.client.stream, "abc", 3);
    settle(w.loop, 30);
    assert_int_equal(w.server.got.len, 0);
    stream_write(w.client.stream, "def", 3);
    run_loop(w.loop);
    assert_true(bytes_eq_str(buf_bytes(&w.server.got), "abcdef"));
    world_free(&w);
}

static void a_handler_that_takes_nothing_stops_the_sender(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    world_connect(&w);
    w.server.consume_min = SIZE_MAX;
    size_t n = 32 << 20;
    char *big = xcalloc(1, n);
    stream_write(w.client.stream, big, n);
    settle(w.loop, 200);
    assert_true(stream_queued(w.client.stream) > n / 2); /* the rest is in the kernel, and max_pending with us */
    w.server.consume_min = 0;
    w.server.stop_at = n;
    stream_resume(w.server.stream);
    run_loop(w.loop);
    assert_int_equal(w.server.got.len, n);
    free(big);
    world_free(&w);
}

static void a_paused_stream_shows_nothing(struct world *w) {
    world_connect(w);
    w->server.pause_in_data = true;
    w->server.stop_at = 3;
    stream_write(w->client.stream, "abc", 3);
    run_loop(w->loop);
    stream_write(w->client.stream, "def", 3);
    settle(w->loop, 50);
    assert_int_equal(w->server.got.len, 3);
    w->server.stop_at = 6;
    stream_resume(w->server.stream);
    run_loop(w->loop);
    assert_true(bytes_eq_str(buf_bytes(&w->server.got), "abcdef"));
}

static void a_paused_plain_stream_shows_nothing(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    a_paused_stream_shows_nothing(&w);
    world_free(&w);
}

static void a_paused_tls_stream_shows_nothing(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, false, false);
    a_paused_stream_shows_nothing(&w);
    world_free(&w);
}

static size_t take_two(void *arg, struct bytes in) {
    struct end *e = arg;
    if (in.len < 2)
        return 0;
    stream_set_handlers(e->stream, &end_handlers, e);
    return 2;
}

static void new_handlers_see_the_rest(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    world_connect(&w);
    w.stop_when_accepted = true;
    run_loop(w.loop);
    static const struct stream_handlers first = {.data = take_two, .closed = end_closed};
    stream_set_handlers(w.server.stream, &first, &w.server);
    w.server.stop_at = 3;
    stream_write(w.client.stream, "12abc", 5);
    run_loop(w.loop);
    assert_true(bytes_eq_str(buf_bytes(&w.server.got), "abc"));
    world_free(&w);
}

static void a_closed_peer_is_told_once(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    ping_pong(&w);
    stream_free(TAKE(w.client.stream));
    w.server.stop_when_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.server.why.code, ERR_NONE);
    settle(w.loop, 20);
    world_free(&w);
}

static void a_tls_goodbye_is_an_orderly_end(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, false, false);
    ping_pong(&w);
    stream_finish(TAKE(w.client.stream), 1000);
    w.server.stop_when_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.server.why.code, ERR_NONE);
    world_free(&w);
}

static void a_stream_may_be_freed_in_each_of_its_callbacks(void **state) {
    for (int i = 0; i < 8; i++) {
        struct world w;
        world_init(&w);
        if (i & 1)
            world_tls(&w, false, false);
        else
            world_listen(&w, (struct listener_options){0});
        struct end *e = i < 4 ? &w.client : &w.server;
        w.client.free_in_ready = i / 2 == 0;
        e->free_in_data = i / 2 == 1 || i / 2 == 2;
        e->free_in_closed = i / 2 == 3;
        w.server.echo = i / 2 == 1;
        w.client.stop_when_closed = w.server.stop_when_closed = true;
        world_connect(&w);
        stream_write(w.client.stream, "hello", 5);
        if (i / 2 == 1)
            w.client.stop_at = 5;
        if (i / 2 == 3)
            stream_finish(TAKE(w.client.stream), 1); /* connecting: freed at once */
        if (i / 2 == 3)
            world_connect(&w), w.stop_when_accepted = true, run_loop(w.loop), stream_free(TAKE(w.client.stream));
        run_loop(w.loop);
        settle(w.loop, 10);
        world_free(&w);
    }
}

static void finish_writes_all_and_then_closes(void **state) {
    for (int tls = 0; tls < 2; tls++) {
        struct world w;
        world_init(&w);
        if (tls)
            world_tls(&w, false, false);
        else
            world_listen(&w, (struct listener_options){0});
        world_connect(&w);
        w.stop_when_accepted = true;
        run_loop(w.loop);
        size_t n = 4 << 20;
        char *big = xcalloc(1, n);
        stream_write(w.server.stream, big, n);
        stream_finish(TAKE(w.server.stream), 10000);
        w.client.stop_when_closed = true;
        stream_write(w.client.stream, "late words", 10); /* must not reset what is on its way */
        run_loop(w.loop);
        assert_int_equal(w.client.got.len, n);
        assert_int_equal(w.client.why.code, ERR_NONE);
        free(big);
        world_free(&w);
    }
}

static void a_finishing_stream_dies_with_its_loop(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    world_connect(&w);
    w.stop_when_accepted = true;
    run_loop(w.loop);
    stream_finish(TAKE(w.server.stream), 10000);
    settle(w.loop, 10);
    world_free(&w); /* the leak checker agrees */
}

static void silence_is_a_timeout(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    ping_pong(&w);
    stream_set_timeouts(w.client.stream, 30, 0);
    w.client.stop_when_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.client.why.code, ERR_TIMEOUT);
    world_free(&w);
}

static void a_peer_that_takes_nothing_is_a_timeout(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){0});
    ping_pong(&w);
    stream_pause(w.server.stream);
    stream_set_timeouts(w.client.stream, 0, 100);
    size_t n = 32 << 20;
    char *big = xcalloc(1, n);
    stream_write(w.client.stream, big, n);
    free(big);
    w.client.stop_when_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.client.why.code, ERR_TIMEOUT);
    world_free(&w);
}

/* ---- TLS refusals ---- */

static void the_wrong_server_name_is_refused(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, false, false);
    w.client.stop_when_closed = true;
    world_connect_as(&w, "other.example");
    run_loop(w.loop);
    assert_false(w.client.ready);
    assert_int_equal(w.client.why.code, ERR_DENIED);
    assert_int_equal(w.accepted, 0);
    world_free(&w);
}

static void the_right_server_name_is_accepted(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, false, false);
    w.stop_when_accepted = true;
    world_connect_as(&w, "cloud.example");
    run_loop(w.loop);
    assert_int_equal(w.accepted, 1);
    world_free(&w);
}

static void a_client_without_a_certificate_is_refused(void **state) {
    struct world w;
    world_init(&w);
    world_tls(&w, true, false);
    w.client.stop_when_closed = true;
    world_connect(&w);
    run_loop(w.loop);
    assert_int_equal(w.client.why.code, ERR_DENIED);
    assert_int_equal(w.accepted, 0);
    world_free(&w);
}

static void a_foreign_certificate(struct world *w, bool accept_unverified) {
    struct pki other;
    pki_make(&other, "cloud.example", "edge-1");
    pki_make(&w->pki, "cloud.example", "edge-1");
    struct tls_server_options o = {
        .cert_pem = buf_bytes(&w->pki.server),
        .key_pem = buf_bytes(&w->pki.server_key),
        .client_ca_pem = buf_bytes(&w->pki.ca),
        .accept_unverified_client_cert = accept_unverified,
    };
    w->server_tls = tls_server_ctx(&o, NULL);
    struct tls_client_options c = {
        .ca_pem = buf_bytes(&w->pki.ca),
        .cert_pem = buf_bytes(&other.client),
        .key_pem = buf_bytes(&other.client_key),
    };
    w->client_tls = tls_client_ctx(&c, NULL);
    world_listen(w, (struct listener_options){.tls = w->server_tls});
    w->client.stop_when_closed = w->stop_when_accepted = true;
    world_connect(w);
    run_loop(w->loop);
    pki_free(&other);
}

static void a_foreign_certificate_is_refused(void **state) {
    struct world w;
    world_init(&w);
    a_foreign_certificate(&w, false);
    assert_int_equal(w.accepted, 0);
    assert_int_equal(w.client.why.code, ERR_DENIED);
    world_free(&w);
}

static void a_foreign_certificate_is_shown_as_unverified_where_asked(void **state) {
    struct world w;
    world_init(&w);
    a_foreign_certificate(&w, true);
    assert_int_equal(w.accepted, 1);
    struct x509_subject who;
    bool verified = true;
    assert_int_equal(stream_peer_subject(w.server.stream, &who, &verified, NULL), 0);
    assert_false(verified);
    assert_false(stream_peer_verified(w.server.stream));
    world_free(&w);
}

static void a_silent_client_does_not_hold_the_handshake_for_ever(void **state) {
    struct world w;
    world_init(&w);
    pki_make(&w.pki, "cloud.example", "edge-1");
    w.server_tls = pki_server_ctx(&w.pki, false);
    world_listen(&w, (struct listener_options){.tls = w.server_tls, .handshake_timeout_ms = 50});
    w.client.stop_when_closed = true;
    world_connect(&w); /* plain: never says hello */
    run_loop(w.loop);
    assert_int_equal(w.accepted, 0);
    world_free(&w);
}

static void no_more_connections_than_allowed_are_taken(void **state) {
    struct world w;
    world_init(&w);
    world_listen(&w, (struct listener_options){.max_connections = 1});
    world_connect(&w);
    struct end second;
    end_init(&second, w.loop);
    struct stream_options o = {.handlers = &end_handlers, .arg = &second};
    second.stream = stream_connect(w.loop, "127.0.0.1", listener_port(w.listener), NULL, NULL, &o, NULL);
    settle(w.loop, 50);
    assert_int_equal(w.accepted, 1);
    stream_free(TAKE(w.server.stream));
    w.stop_when_accepted = true;
    run_loop(w.loop);
    assert_int_equal(w.accepted, 2);
    stream_free(second.stream);
    buf_free(&second.got);
    world_free(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(bytes_go_both_ways_over_tls),
        cmocka_unit_test(a_unix_socket_works_and_is_private),
        cmocka_unit_test(a_port_in_use_is_said_plainly),
        cmocka_unit_test(a_name_is_resolved),
        cmocka_unit_test(a_look_up_may_be_given_up),
        cmocka_unit_test(a_refused_connection_is_told_later),
        cmocka_unit_test(much_data_arrives_whole_plain),
        cmocka_unit_test(much_data_arrives_whole_over_tls),
        cmocka_unit_test(what_is_not_consumed_is_shown_again),
        cmocka_unit_test(a_handler_that_takes_nothing_stops_the_sender),
        cmocka_unit_test(a_paused_plain_stream_shows_nothing),
        cmocka_unit_test(a_paused_tls_stream_shows_nothing),
        cmocka_unit_test(new_handlers_see_the_rest),
        cmocka_unit_test(a_closed_peer_is_told_once),
        cmocka_unit_test(a_tls_goodbye_is_an_orderly_end),
        cmocka_unit_test(a_stream_may_be_freed_in_each_of_its_callbacks),
        cmocka_unit_test(finish_writes_all_and_then_closes),
        cmocka_unit_test(a_finishing_stream_dies_with_its_loop),
        cmocka_unit_test(silence_is_a_timeout),
        cmocka_unit_test(a_peer_that_takes_nothing_is_a_timeout),
        cmocka_unit_test(the_wrong_server_name_is_refused),
        cmocka_unit_test(the_right_server_name_is_accepted),
        cmocka_unit_test(a_client_without_a_certificate_is_refused),
        cmocka_unit_test(a_foreign_certificate_is_refused),
        cmocka_unit_test(a_foreign_certificate_is_shown_as_unverified_where_asked),
        cmocka_unit_test(a_silent_client_does_not_hold_the_handshake_for_ever),
        cmocka_unit_test(no_more_connections_than_allowed_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
