#include "net_fixture.h"

#include "base/str.h"
#include "net/websocket.h"
#include "net/ws_frames.h"

#include <string.h>

/* One end of a connection. */
struct side {
    struct loop *loop;
    struct ws *ws;
    struct buf got; /* messages, each followed by '|' */
    unsigned messages, pongs, drained;
    bool opened, closed, binary;
    unsigned close_code;
    struct error why;
    unsigned stop_at; /* the loop stops when so many messages have come */
    bool echo, free_in_message, close_in_message, free_in_open, pause_in_message, stop_when_closed, stop_at_pong;
};

static void side_open(void *arg) {
    struct side *s = arg;
    s->opened = true;
    if (s->free_in_open)
        ws_free(TAKE(s->ws));
    loop_stop(s->loop);
}

static void side_message(void *arg, struct bytes payload, bool binary) {
    struct side *s = arg;
    s->messages++;
    s->binary = binary;
    assert_int_equal(buf_add_bytes(&s->got, payload), 0);
    buf_add_char(&s->got, '|');
    if (s->echo)
        assert_int_equal(ws_send(s->ws, payload, binary, NULL), 0);
    if (s->free_in_message)
        ws_free(TAKE(s->ws));
    if (s->close_in_message)
        ws_close(TAKE(s->ws), WS_CLOSE_POLICY, "enough");
    if (s->pause_in_message)
        ws_pause(s->ws);
    if (s->stop_at && s->messages >= s->stop_at)
        loop_stop(s->loop);
}

static void side_pong(void *arg) {
    struct side *s = arg;
    s->pongs++;
    if (s->stop_at_pong)
        loop_stop(s->loop);
}

static void side_drained(void *arg) {
    struct side *s = arg;
    s->drained++;
}

static void side_closed(void *arg, unsigned code, const struct error *why) {
    struct side *s = arg;
    assert_false(s->closed);
    s->closed = true;
    s->close_code = code;
    s->why = *why;
    ws_free(TAKE(s->ws));
    if (s->stop_when_closed)
        loop_stop(s->loop);
}

static const struct ws_handlers side_handlers = {
    .open = side_open,
    .message = side_message,
    .pong = side_pong,
    .drained = side_drained,
    .closed = side_closed,
};

struct world {
    struct loop *loop;
    struct http_server *server;
    struct side srv, cli;
    struct ws_options server_options, client_options;
    struct pki pki;
    struct tls_ctx *server_tls, *client_tls;
    const char *const *protocols;
    char first_use[32];
    /* a plain client that speaks by itself */
    struct stream *raw;
    struct buf raw_got;
    bool raw_closed;
};

static void serve(void *arg, struct http_request *r) {
    struct world *w = arg;
    struct bytes use = http_header(r, "ConnectionUse", NULL);
    snprintf(w->first_use, sizeof(w->first_use), "%.*s", (int)use.len, use.len ? use.ptr : "");
    ws_free(w->srv.ws);
    w->srv.ws = ws_accept(r, w->protocols, &w->server_options);
}

static void forbid(void *arg, struct http_request *r) {
    http_respondf(r, 403, "node edge-1 is not known here\n");
}

static const struct http_route routes[] = {
    {1u << HTTP_M_GET, "/forbidden", HTTP_AUTH_NONE, 0, forbid},
    {0, "/*", HTTP_AUTH_HANDLER, 0, serve},
};

static void side_init(struct side *s, struct loop *l) {
    *s = (struct side){.loop = l, .got = BUF_INIT(64 << 20)};
}

static void world_init(struct world *w, bool tls) {
    memset(w, 0, sizeof(*w));
    w->loop = loop_new();
    side_init(&w->srv, w->loop);
    side_init(&w->cli, w->loop);
    buf_init(&w->raw_got, 1 << 20);
    w->server_options = (struct ws_options){.handlers = &side_handlers, .arg = &w->srv, .max_message = 1 << 20};
    w->client_options = (struct ws_options){.handlers = &side_handlers, .arg = &w->cli, .max_message = 1 << 20};
    if (tls) {
        pki_make(&w->pki, "localhost", "edge-1");
        w->server_tls = pki_server_ctx(&w->pki, true);
        w->client_tls = pki_client_ctx(&w->pki, true);
    }
    struct http_server_options o = {
        .routes = routes,
        .n_routes = ARRAY_LEN(routes),
        .arg = w,
        .listen = {.address = "127.0.0.1", .tls = w->server_tls},
    };
    w->server = http_server_new(w->loop, &o, NULL);
    assert_non_null(w->server);
}

static void world_connect(struct world *w, const char *path, const char *const *headers) {
    struct error err = ERROR_INIT;
    char url[128];
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", w->client_tls ? "wss" : "ws", http_server_port(w->server), path);
    w->cli.ws = ws_connect(w->loop, url, w->client_tls, headers, 0, &w->client_options, &err);
    if (!w->cli.ws)
        fail_msg("%s", err.msg);
}

static void world_open(struct world *w) {
    world_connect(w, "/p/edge-1/events", NULL);
    run_loop(w->loop);
    assert_true(w->cli.opened);
    assert_non_null(w->srv.ws);
}

static void world_free(struct world *w) {
    ws_free(w->cli.ws);
    ws_free(w->srv.ws);
    stream_free(w->raw);
    http_server_free(w->server);
    tls_ctx_free(w->server_tls);
    tls_ctx_free(w->client_tls);
    if (w->server_tls)
        pki_free(&w->pki);
    buf_free(&w->srv.got);
    buf_free(&w->cli.got);
    buf_free(&w->raw_got);
    loop_free(w->loop);
}

static void send_text(struct side *s, const char *text) {
    struct error err = ERROR_INIT;
    if (ws_send(s->ws, bytes_str(text), false, &err) < 0)
        fail_msg("%s", err.msg);
}

static void messages_go_both_ways(bool tls) {
    struct world w;
    world_init(&w, tls);
    world_open(&w);
    w.srv.echo = true;
    w.cli.stop_at = 3;
    send_text(&w.cli, "one");
    send_text(&w.cli, "");
    send_text(&w.cli, "three");
    run_loop(w.loop);
    assert_string_equal(w.srv.got.ptr, "one||three|");
    assert_string_equal(w.cli.got.ptr, "one||three|");
    assert_false(w.srv.binary);
    assert_true(w.cli.drained > 0);
    world_free(&w);
}

static void plain_messages_go_both_ways(void **state) {
    messages_go_both_ways(false);
}
static void tls_messages_go_both_ways(void **state) {
    messages_go_both_ways(true);
}

static void large_messages_arrive_whole_with_and_without_fragments(void **state) {
    static const size_t sizes[] = {125, 126, 4081, 4082, 4096, 4097, 65535, 65536, 1 << 20};
    for (int fragmented = 0; fragmented < 2; fragmented++) {
        struct world w;
        world_init(&w, true);
        w.client_options.fragment = fragmented ? 4096 : 0;
        world_open(&w);
        w.srv.echo = true;
        char *big = xmalloc(1 << 20);
        for (size_t i = 0; i < (1 << 20); i++)
            big[i] = (char)(i * 7 + (i >> 10));
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            buf_clear(&w.cli.got);
            w.cli.stop_at = (unsigned)i + 1;
            assert_int_equal(ws_send(w.cli.ws, bytes_of(big, sizes[i]), true, NULL), 0);
            run_loop(w.loop);
            assert_int_equal(w.cli.got.len, sizes[i] + 1);
            assert_memory_equal(w.cli.got.ptr, big, sizes[i]);
            assert_true(w.cli.binary);
        }
        free(big);
        world_free(&w);
    }
}

static void a_message_that_is_too_large_closes_with_1009(void **state) {
    for (int fragmented = 0; fragmented < 2; fragmented++) {
        struct world w;
        world_init(&w, false);
        w.server_options.max_message = 1000;
        w.client_options.fragment = fragmented ? 300 : 0;
        world_open(&w);
        char big[1001] = {0};
        assert_int_equal(ws_send(w.cli.ws, bytes_of(big, 1000), true, NULL), 0);
        assert_int_equal(ws_send(w.cli.ws, bytes_of(big, 1001), true, NULL), 0);
        w.cli.stop_when_closed = true;
        run_loop(w.loop);
        assert_int_equal(w.srv.messages, 1);
        assert_int_equal(w.srv.why.code, ERR_TOO_LARGE);
        assert_int_equal(w.cli.close_code, WS_CLOSE_TOO_BIG);
        world_free(&w);
    }
}

static void a_close_tells_its_code_and_reason(void **state) {
    struct world w;
    world_init(&w, true);
    world_open(&w);
    w.cli.stop_when_closed = true;
    send_text(&w.srv, "last words");
    ws_close(TAKE(w.srv.ws), WS_CLOSE_TRY_LATER, "node limit reached");
    run_loop(w.loop);
    assert_string_equal(w.cli.got.ptr, "last words|");
    assert_int_equal(w.cli.close_code, WS_CLOSE_TRY_LATER);
    assert_int_equal(w.cli.why.code, ERR_NONE);
    assert_non_null(strstr(w.cli.why.msg, "node limit reached"));
    world_free(&w);
}

static void a_connection_that_just_ends_is_1006(void **state) {
    struct world w;
    world_init(&w, true);
    world_open(&w);
    ws_free(TAKE(w.cli.ws));
    w.srv.stop_when_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.srv.close_code, 1006);
    assert_int_equal(w.srv.why.code, ERR_NONE);
    world_free(&w);
}

static void a_ping_is_answered(void **state) {
    struct world w;
    world_init(&w, false);
    world_open(&w);
    w.cli.stop_at_pong = true;
    ws_ping(w.cli.ws, BYTES_LIT("are you there?"));
    run_loop(w.loop);
    assert_int_equal(w.cli.pongs, 1);
    world_free(&w);
}

static void pings_keep_a_connection_alive_and_silence_ends_it(void **state) {
    struct world w;
    world_init(&w, false);
    w.client_options.ping_every_ms = 20;
    w.server_options.read_timeout_ms = 150;
    world_open(&w);
    settle(w.loop, 400);
    assert_false(w.srv.closed);
    stream_pause(ws_stream(w.srv.ws)); /* the timers of a paused reader rest */
    stream_resume(ws_stream(w.srv.ws));
    ws_free(TAKE(w.cli.ws));
    world_free(&w);
    world_init(&w, false);
    w.server_options.read_timeout_ms = 50;
    world_open(&w);
    w.srv.stop_when_closed = true;
    run_loop(w.loop);
    assert_int_equal(w.srv.why.code, ERR_TIMEOUT);
    world_free(&w);
}

static void a_full_queue_refuses(void **state) {
    struct world w;
    world_init(&w, false);
    w.server_options.max_queued = 1000;
    world_open(&w);
    char big[900] = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(ws_send(w.srv.ws, bytes_of(big, 900), true, NULL), 0);
    assert_int_equal(ws_send(w.srv.ws, bytes_of(big, 900), true, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    w.cli.stop_at = 1;
    run_loop(w.loop);
    assert_int_equal(ws_send(w.srv.ws, bytes_of(big, 900), true, NULL), 0);
    world_free(&w);
}

static void a_paused_reader_gets_nothing_more(void **state) {
    struct world w;
    world_init(&w, true);
    world_open(&w);
    w.srv.pause_in_message = true;
    for (int i = 0; i < 5; i++)
        send_text(&w.cli, "m");
    settle(w.loop, 50);
    assert_int_equal(w.srv.messages, 1);
    w.srv.pause_in_message = false;
    w.srv.stop_at = 5;
    ws_resume(w.srv.ws);
    run_loop(w.loop);
    assert_int_equal(w.srv.messages, 5);
    world_free(&w);
}

static void a_connection_may_be_freed_in_each_of_its_callbacks(void **state) {
    for (int i = 0; i < 4; i++) {
        struct world w;
        world_init(&w, i & 1);
        w.cli.free_in_open = i >= 2;
        world_connect(&w, "/", NULL);
        run_loop(w.loop);
        if (i < 2) {
            w.srv.free_in_message = i == 0;
            w.srv.close_in_message = i == 1;
            w.cli.stop_when_closed = true;
            send_text(&w.cli, "a");
            send_text(&w.cli, "b");
            run_loop(w.loop);
            assert_int_equal(w.srv.messages, 1);
            assert_int_equal(w.cli.close_code, i == 0 ? 1006 : WS_CLOSE_POLICY);
        }
        settle(w.loop, 10);
        world_free(&w);
    }
}

/* ---- handshakes ---- */

static void the_first_of_repeated_headers_counts(void **state) {
    static const char *const headers[] = {"node_id: edge-1", "ConnectionUse: msg", "ConnectionUse: str", NULL};
    struct world w;
    world_init(&w, true);
    world_connect(&w, "/p/edge-1/events", headers);
    run_loop(w.loop);
    assert_string_equal(w.first_use, "msg");
    world_free(&w);
}

static void a_sub_protocol_is_chosen_by_the_clients_order(void **state) {
    static const char *const headers[] = {"Sec-WebSocket-Protocol: x, v5.channel.k8s.io, v4.channel.k8s.io", NULL};
    static const char *const ours[] = {"v4.channel.k8s.io", "v5.channel.k8s.io", NULL};
    struct world w;
    world_init(&w, false);
    w.protocols = ours;
    world_connect(&w, "/", headers);
    run_loop(w.loop);
    assert_string_equal(ws_protocol(w.cli.ws), "v5.channel.k8s.io");
    assert_string_equal(ws_protocol(w.srv.ws), "v5.channel.k8s.io");
    world_free(&w);
}

static void a_refused_handshake_says_why(void **state) {
    struct world w;
    world_init(&w, false);
    w.cli.stop_when_closed = true;
    world_connect(&w, "/forbidden", NULL);
    run_loop(w.loop);
    assert_false(w.cli.opened);
    assert_int_equal(w.cli.why.code, ERR_DENIED);
    assert_non_null(strstr(w.cli.why.msg, "node edge-1 is not known here"));
    world_free(&w);
}

static void wrong_urls_are_refused(void **state) {
    static const char *const bad[] = {
        "http://x/", "ws://",      "ws://:80/",    "ws://x:0/", "ws://x:65536/",         "ws://x:a/", "ws://a b/",
        "ws://u@x/", "ws://[::1/", "ws://[::1]8/", "wss://x/",  "ws://x/a\r\nEvil: yes", "",
    };
    struct loop *l = loop_new();
    struct ws_options o = {.handlers = &side_handlers, .max_message = 10};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        assert_null(ws_connect(l, bad[i], NULL, NULL, 0, &o, &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
    static const char *const evil[] = {"X: a\r\nY: b", NULL};
    assert_null(ws_connect(l, "ws://127.0.0.1:1/", NULL, evil, 0, &o, NULL));
    loop_free(l);
}

static size_t raw_data(void *arg, struct bytes in) {
    struct world *w = arg;
    assert_int_equal(buf_add_bytes(&w->raw_got, in), 0);
    return in.len;
}
static void raw_closed(void *arg, const struct error *why) {
    struct world *w = arg;
    w->raw_closed = true;
    loop_stop(w->loop);
}
static const struct stream_handlers raw_handlers = {.data = raw_data, .closed = raw_closed};

/* Says text to the server and returns its whole answer. */
static const char *raw_talk(struct world *w, const void *text, size_t n) {
    struct stream_options o = {.handlers = &raw_handlers, .arg = w};
    stream_free(w->raw);
    buf_clear(&w->raw_got);
    w->raw_closed = false;
    w->raw = stream_connect(w->loop, "127.0.0.1", http_server_port(w->server), NULL, NULL, &o, NULL);
    stream_write(w->raw, text, n);
    run_loop(w->loop);
    assert_true(w->raw_closed);
    return w->raw_got.ptr ? w->raw_got.ptr : "";
}

#define UPGRADE "Host: a:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"

static void wrong_handshakes_get_the_originals_answers(void **state) {
    static const struct {
        const char *request, *status, *body;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n", " 400 Bad Request", "Bad Request\n"},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY "\r\n", " 400 Bad Request", "Bad Request\n"},
        {"GET / HTTP/1.1\r\n" UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", " 400 ", "Bad Request\n"},
        {"GET / HTTP/1.1\r\n" UPGRADE V13 "\r\n", " 400 ", "Bad Request\n"},
        {"GET / HTTP/1.1\r\n" UPGRADE V13 "Sec-WebSocket-Key: short\r\n\r\n", " 400 ", "Bad Request\n"},
        {"GET / HTTP/1.1\r\n" UPGRADE V13 KEY "Origin: http://b\r\n\r\n", " 403 Forbidden", "Forbidden\n"},
        {"GET / HTTP/1.1\r\n" UPGRADE V13 KEY "Origin: null\r\n\r\n", " 403 Forbidden", "Forbidden\n"},
        {"POST / HTTP/1.1\r\n" UPGRADE V13 KEY "\r\n", " 405 Method Not Allowed", "Method Not Allowed\n"},
    };
    struct world w;
    world_init(&w, false);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(free_p) char *two =
            xasprintf("%sGET /forbidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", cases[i].request);
        const char *answer = raw_talk(&w, two, strlen(two));
        const char *status = strstr(answer, cases[i].status), *body = strstr(answer, "\r\n\r\n");
        if (!status || status > strchr(answer, '\r') || !body || !str_starts_with(body + 4, cases[i].body))
            fail_msg("case %zu: %s", i, answer);
        assert_non_null(strstr(answer, "Sec-Websocket-Version: 13\r\n"));
        assert_non_null(strstr(answer, "Content-Type: text/plain"));
    }
    world_free(&w);
}

static void the_right_handshake_gets_exactly_the_originals_answer(void **state) {
    static const char request[] = "GET /x HTTP/1.1\r\n" UPGRADE V13 KEY "Origin: https://A:1\r\n"
                                  "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n\x88\x80\x00\x00\x00\x00";
    struct world w;
    world_init(&w, false);
    const char *answer = raw_talk(&w, request, sizeof(request) - 1);
    assert_string_equal(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x88");
    assert_int_equal(w.srv.close_code, 1005);
    world_free(&w);
}

static const char *answer_to_give;

static size_t liar_data(void *arg, struct bytes in) {
    struct stream **s = arg;
    if (in.len < 4 || memcmp(in.ptr + in.len - 4, "\r\n\r\n", 4) != 0)
        return 0;
    stream_write(*s, answer_to_give, strlen(answer_to_give));
    return in.len;
}
static void liar_closed(void *arg, const struct error *why) {
}
static void liar_accepted(void *arg, struct stream *s) {
    static const struct stream_handlers h = {.data = liar_data, .closed = liar_closed};
    struct stream **slot = arg;
    stream_free(*slot);
    *slot = s;
    stream_set_handlers(s, &h, slot);
}

static void a_client_checks_the_servers_answer(void **state) {
    static const char *const lies[] = {
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ("HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    };
    struct loop *l = loop_new();
    struct stream *liar = NULL;
    struct listener_options lo = {.address = "127.0.0.1", .accepted = liar_accepted, .arg = &liar};
    struct listener *ls = listener_new(l, &lo, NULL);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct side cli;
        side_init(&cli, l);
        cli.stop_when_closed = true;
        struct ws_options o = {.handlers = &side_handlers, .arg = &cli, .max_message = 10};
        char url[64];
        snprintf(url, sizeof(url), "ws://127.0.0.1:%u/", listener_port(ls));
        answer_to_give = lies[i];
        cli.ws = ws_connect(l, url, NULL, NULL, 0, &o, NULL);
        run_loop(l);
        assert_false(cli.opened);
        assert_int_equal(cli.why.code, ERR_INVALID);
    }
    stream_free(liar);
    listener_free(ls);
    loop_free(l);
}

/* ---- frames ---- */

static void collect(void *arg, const void *p, size_t n) {
    struct buf *b = arg;
    assert_int_equal(buf_add(b, p, n), 0);
}

static void frames_cut_anywhere_give_the_same_messages(void **state) {
    struct buf wire = BUF_INIT(1 << 20);
    ws_write_frame(false, WSLAY_TEXT_FRAME, true, BYTES_LIT("frag"), collect, &wire);
    ws_write_frame(true, WSLAY_PING, true, BYTES_LIT("p"), collect, &wire);
    ws_write_frame(false, WSLAY_CONTINUATION_FRAME, true, BYTES_LIT("ments"), collect, &wire);
    ws_write_frame(true, WSLAY_CONTINUATION_FRAME, true, BYTES_EMPTY, collect, &wire); /* as the original ends them */
    ws_write_frame(true, WSLAY_TEXT_FRAME, true, BYTES_LIT("\xff\xfe not UTF-8"), collect, &wire);
    for (size_t cut = 1; cut < wire.len; cut++) {
        struct ws_reader r;
        ws_reader_init(&r, true, 100);
        unsigned messages = 0, pings = 0;
        for (size_t at = 0; at < wire.len; at += cut) {
            struct bytes in = bytes_of(wire.ptr + at, wire.len - at < cut ? wire.len - at : cut);
            for (enum ws_event ev; (ev = ws_read(&r, &in)) != WS_EV_MORE;) {
                assert_int_not_equal(ev, WS_EV_BAD);
                pings += ev == WS_EV_PING && bytes_eq_str(r.payload, "p");
                if (ev == WS_EV_MESSAGE)
                    assert_true(bytes_eq_str(r.payload, messages++ == 0 ? "fragments" : "\xff\xfe not UTF-8"));
            }
        }
        assert_int_equal(messages, 2);
        assert_int_equal(pings, 1);
        assert_null(r.frame); /* and nothing is kept while idle */
        assert_int_equal(r.message.cap, 0);
        ws_reader_free(&r);
    }
    buf_free(&wire);
}

static void frames_that_break_the_rules_are_refused(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
        unsigned code;
    } cases[] = {
        {"\x81\x01x", 3, 1002},                         /* not masked */
        {"\xc1\x81\0\0\0\0x", 7, 1002},                 /* reserved bit */
        {"\x83\x81\0\0\0\0x", 7, 1002},                 /* unknown opcode */
        {"\x8b\x80\0\0\0\0", 6, 1002},                  /* unknown control opcode */
        {"\x80\x81\0\0\0\0x", 7, 1002},                 /* continuation of nothing */
        {"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, 1002}, /* a message within a message */
        {"\x09\x80\0\0\0\0", 6, 1002},                  /* a ping in fragments */
        {"\x88\x81\0\0\0\0x", 7, 1002},                 /* half a close code */
        {"\x88\x82\0\0\0\0\x03\xed", 8, 1002},          /* 1005 */
        {"\x81\xfe\x00\x65\0\0\0\0", 8, 1009},          /* 101 of at most 100: length not minimal, or large */
        {"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, 1009}, /* 2^63-1 */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ws_reader r;
        ws_reader_init(&r, true, 100);
        char extra[256] = {0};
        memcpy(extra, cases[i].bytes, cases[i].len);
        struct bytes in = bytes_of(extra, sizeof(extra));
        enum ws_event ev = WS_EV_MORE;
        for (int n = 0; n < 3 && ev != WS_EV_BAD; n++)
            ev = ws_read(&r, &in);
        if (ev != WS_EV_BAD)
            fail_msg("case %zu was accepted", i);
        if (r.close_code != cases[i].code && i != 9)
            fail_msg("case %zu: %u", i, r.close_code);
        ws_reader_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_messages_go_both_ways),
        cmocka_unit_test(tls_messages_go_both_ways),
        cmocka_unit_test(large_messages_arrive_whole_with_and_without_fragments),
        cmocka_unit_test(a_message_that_is_too_large_closes_with_1009),
        cmocka_unit_test(a_close_tells_its_code_and_reason),
        cmocka_unit_test(a_connection_that_just_ends_is_1006),
        cmocka_unit_test(a_ping_is_answered),
        cmocka_unit_test(pings_keep_a_connection_alive_and_silence_ends_it),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_paused_reader_gets_nothing_more),
        cmocka_unit_test(a_connection_may_be_freed_in_each_of_its_callbacks),
        cmocka_unit_test(the_first_of_repeated_headers_counts),
        cmocka_unit_test(a_sub_protocol_is_chosen_by_the_clients_order),
        cmocka_unit_test(a_refused_handshake_says_why),
        cmocka_unit_test(wrong_urls_are_refused),
        cmocka_unit_test(wrong_handshakes_get_the_originals_answers),
        cmocka_unit_test(the_right_handshake_gets_exactly_the_originals_answer),
        cmocka_unit_test(a_client_checks_the_servers_answer),
        cmocka_unit_test(frames_cut_anywhere_give_the_same_messages),
        cmocka_unit_test(frames_that_break_the_rules_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
