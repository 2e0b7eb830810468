/* The reflector against an API server that is scripted request by request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kube/object.h"
#include "kube/reflector.h"
#include "script_server.h"

#define WAIT 10000
#define JSON "Content-Type: application/json\r\n"

static struct loop *loop;
static struct ss_server server;
static struct kube_client *client;
static struct reflector *reflector;
static struct buf told; /* "+a@1 ~a@2(1) -a@2 ! " : added, modified (old), deleted, synced */

/* The script: an answer for each request, in order. Past its end: a list is answered with the last list, a watch stays
 * open and silent. */
struct step {
    const char *expect; /* must stand in the target */
    int status;         /* of a plain answer; 0: chunks */
    const char *body;   /* chunks: events, each ended by \n */
    bool end;           /* chunks: an orderly end */
    bool cut;           /* the connection is cut afterwards */
};
static const struct step *script;
static size_t n_script, at;
static struct ss_conn *last;
static char targets[16][512];
static bool all_asked;

static void handle(struct ss_conn *c, struct bytes head, const char *method, const char *target, struct bytes body) {
    assert_true(at < 16);
    snprintf(targets[at], sizeof targets[at], "%s", target);
    last = c;
    if (at >= n_script) {
        ss_begin_chunks(c, JSON);
        at++;
        return;
    }
    const struct step *s = &script[at++];
    all_asked = at == n_script;
    if (!strstr(target, s->expect))
        fail_msg("request %zu is %s, expected %s", at, target, s->expect);
    if (s->status) {
        ss_answer(c, s->status, JSON, s->body);
    } else {
        ss_begin_chunks(c, JSON);
        if (s->body)
            ss_chunk(c, s->body);
        if (s->end)
            ss_end_chunks(c);
    }
    if (s->cut)
        ss_cut(c);
}

static void tell(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void tell(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *text = xvasprintf(fmt, ap);
    va_end(ap);
    buf_add_str(&told, text);
}

static bool free_at_event, free_at_sync;

static void on_event(void *arg, enum reflector_event ev, yyjson_val *object, yyjson_val *old) {
    tell("%c%s@%s", "+~-"[ev], object_name(object), object_rv(object));
    if (old)
        tell("(%s)", object_rv(old));
    tell(" ");
    if (free_at_event)
        reflector_free(TAKE(reflector));
}
static void on_synced(void *arg) {
    tell("! ");
    if (free_at_sync)
        reflector_free(TAKE(reflector));
}

static int setup(void **state) {
    loop = loop_new();
    server = (struct ss_server){.loop = loop, .handle = handle};
    ss_start(&server, NULL);
    told = BUF_INIT(65536);
    at = 0;
    last = NULL;
    all_asked = free_at_event = free_at_sync = false;
    struct kube_config c = {0};
    c.server = xasprintf("http://127.0.0.1:%u", server.port);
    client = kube_client_new(loop, &c, "test", NULL);
    free(c.server);
    return client ? 0 : -1;
}

static int teardown(void **state) {
    reflector_free(TAKE(reflector));
    kube_client_free(client);
    ss_stop(&server);
    loop_free(loop);
    buf_free(&told);
    return 0;
}

static void start_with(const struct step *steps, size_t n, struct reflector_options o) {
    script = steps;
    n_script = n;
    o.version = "v1";
    o.plural = "pods";
    o.event = on_event;
    o.synced = on_synced;
    reflector = reflector_new(client, &o);
}

/* Runs the script to its end, and a little longer. */
static void run_script(const struct step *steps, size_t n) {
    start_with(steps, n, (struct reflector_options){.keep_objects = true});
    assert_true(run_until(loop, &all_asked, WAIT));
    run_for(loop, 50);
}
#define RUN(steps) run_script(steps, ARRAY_LEN(steps))

#define OBJ(name, rv) \
    "{\"metadata\":{\"name\":\"" name "\",\"namespace\":\"d\",\"uid\":\"u-" name "\",\"resourceVersion\":\"" rv "\"}}"
#define LIST(rv, items) \
    "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"" rv "\"},\"items\":[" items "]}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"
#define GONE "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old resource version\"}"

static void the_list_then_the_watch_are_told(void **state) {
    const struct step s[] = {
        {"/api/v1/pods?limit=500", 200, LIST("10", OBJ("a", "3") "," OBJ("b", "4")), 0, 0},
        {"resourceVersion=10", 0,
         EVENT("MODIFIED", OBJ("a", "11")) EVENT("ADDED", OBJ("c", "12")) EVENT("DELETED", OBJ("b", "13")), 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 +b@4 ! ~a@11(3) +c@12 -b@13(4) ");
    assert_true(reflector_synced(reflector));
    assert_int_equal(reflector_count(reflector), 2);
    assert_string_equal(object_rv(reflector_get(reflector, "d", "a")), "11");
    assert_null(reflector_get(reflector, "d", "b"));
    assert_null(reflector_get(reflector, "other", "a"));
    assert_non_null(strstr(targets[1], "watch=true&allowWatchBookmarks=true&timeoutSeconds="));
}

static void objects_of_a_list_say_what_they_are(void **state) {
    const struct step s[] = {{"limit", 200, LIST("10", OBJ("a", "3")), 0, 0}};
    RUN(s);
    assert_string_equal(object_kind(reflector_get(reflector, "d", "a")), "Pod");
    assert_string_equal(object_api_version(reflector_get(reflector, "d", "a")), "v1");
}

static void an_event_may_come_in_pieces(void **state) {
    const struct step s[] = {{"limit", 200, LIST("10", ""), 0, 0}, {"watch", 0, "{\"type\":\"ADDED\",", 0, 0}};
    RUN(s);
    ss_chunk(last, "\"object\":" OBJ("a", "11"));
    run_for(loop, 20);
    assert_string_equal(told.ptr, "! ");
    ss_chunk(last, "}\n" EVENT("MODIFIED", OBJ("a", "12")));
    run_for(loop, 20);
    assert_string_equal(told.ptr, "! +a@11 ~a@12(11) ");
}

static void a_clean_end_goes_on_from_the_last_version(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", ""), 0, 0},
        {"resourceVersion=10", 0, EVENT("ADDED", OBJ("a", "11")), true, 0},
        {"resourceVersion=11", 0, EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"50\"}}"), true, 0},
        {"resourceVersion=50", 0, NULL, 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "! +a@11 ");
}

static void a_cut_watch_goes_on_from_the_last_version(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", ""), 0, 0},
        {"resourceVersion=10", 0, EVENT("ADDED", OBJ("a", "11")) "{\"type\":\"MODI", 0, true},
        {"resourceVersion=11", 0, EVENT("MODIFIED", OBJ("a", "12")), 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "! +a@11 ~a@12(11) ");
}

static void a_version_that_is_gone_lists_again_and_tells_the_difference(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", OBJ("a", "3") "," OBJ("b", "4") "," OBJ("c", "5")), 0, 0},
        {"resourceVersion=10", 0, EVENT("ERROR", GONE), 0, 0},
        {"limit", 200, LIST("90", OBJ("a", "3") "," OBJ("c", "80") "," OBJ("d", "81")), 0, 0},
        {"resourceVersion=90", 410, GONE, 0, 0},
        {"limit", 200, LIST("99", OBJ("d", "81")), 0, 0},
        {"resourceVersion=99", 0, NULL, 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 +b@4 +c@5 ! ~c@80(5) +d@81 -b@4(4) ! -a@3(3) -c@80(80) ! ");
}

static void an_object_made_anew_is_told_as_another(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", OBJ("a", "3")), 0, 0},
        {"resourceVersion=10", 0, EVENT("ERROR", GONE), 0, 0},
        {"limit", 200,
         LIST("90", "{\"metadata\":{\"name\":\"a\",\"namespace\":\"d\",\"uid\":\"new\",\"resourceVersion\":\"80\"}}"),
         0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 ! -a@3(3) +a@80 ! ");
}

static void what_is_known_is_not_told_twice(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", OBJ("a", "3")), 0, 0},
        {"watch", 0,
         EVENT("ADDED", OBJ("a", "3")) EVENT("DELETED", OBJ("never-seen", "11")) EVENT("ADDED", OBJ("a", "12")), 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 ! ~a@12(3) ");
}

static void pages_are_followed(void **state) {
    const struct step s[] = {
        {"limit=500", 200,
         "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"t/1\"},\"items\":[" OBJ(
             "a", "3") "]}",
         0, 0},
        {"limit=500&continue=t%2F1", 200, LIST("12", OBJ("b", "4")), 0, 0},
        {"resourceVersion=10", 0, NULL, 0, 0}, /* of the first page: nothing can be missed */
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 +b@4 ! ");
}

static void a_page_token_that_is_gone_starts_the_list_over(void **state) {
    const struct step s[] = {
        {"limit=500", 200,
         "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"t\"},\"items\":[" OBJ("a",
                                                                                                              "3") "]}",
         0, 0},
        {"continue=t", 410, GONE, 0, 0},
        {"limit=500", 200, LIST("20", OBJ("b", "4")), 0, 0},
        {"resourceVersion=20", 0, NULL, 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 +b@4 -a@3(3) ! ");
    assert_null(strstr(targets[2], "continue"));
}

static void failures_are_tried_again_without_losing_the_place(void **state) {
    const struct step s[] = {
        {"limit", 500, "{}", 0, 0},
        {"limit", 200, "[]", 0, 0},
        {"limit", 200, LIST("10", OBJ("a", "3")), 0, 0},
        {"resourceVersion=10", 503, "{}", 0, 0},
        {"resourceVersion=10", 429, "{}", 0, 0},
        {"resourceVersion=10", 0, EVENT("MODIFIED", OBJ("a", "11")), 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 ! ~a@11(3) ");
}

static void a_watch_that_is_refused_lists_again(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", ""), 0, 0},
        {"resourceVersion=10", 0, "this is not JSON\n", 0, 0},
        {"limit", 200, LIST("20", ""), 0, 0},
        {"resourceVersion=20", 504, "{}", 0, 0}, /* "too large resource version": restored from a backup */
        {"limit", 200, LIST("5", ""), 0, 0},
        {"resourceVersion=5", 0, NULL, 0, 0},
    };
    RUN(s);
    assert_string_equal(told.ptr, "! ! ! ");
}

static void a_server_that_falls_silent_is_asked_again(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", ""), 0, 0},
        {"resourceVersion=10", 0, EVENT("ADDED", OBJ("a", "11")), 0, 0},
        {"resourceVersion=11", 0, EVENT("MODIFIED", OBJ("a", "12")), 0, 0},
    };
    start_with(s, ARRAY_LEN(s), (struct reflector_options){.keep_objects = true, .idle_timeout_ms = 100});
    assert_true(run_until(loop, &all_asked, WAIT));
    run_for(loop, 30);
    assert_string_equal(told.ptr, "! +a@11 ~a@12(11) ");
}

static void start_server(void *arg) {
    ss_start(&server, NULL);
}

static void a_server_that_restarts_is_found_again(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", OBJ("a", "3")), 0, 0},
        {"resourceVersion=10", 0, EVENT("MODIFIED", OBJ("a", "11")), 0, 0},
        {"resourceVersion=11", 0, EVENT("MODIFIED", OBJ("a", "12")), 0, 0},
    };
    struct timer *t = timer_new(loop, start_server, NULL);
    start_with(s, ARRAY_LEN(s), (struct reflector_options){.keep_objects = true});
    while (at < 2)
        run_for(loop, 20);
    ss_stop(&server);
    timer_set(t, 200);
    assert_true(run_until(loop, &all_asked, WAIT));
    run_for(loop, 30);
    timer_free(t);
    assert_string_equal(told.ptr, "+a@3 ! ~a@11(3) ~a@12(11) ");
}

static void selectors_and_namespace_are_asked_for(void **state) {
    const struct step s[] = {
        {"/api/v1/namespaces/kube%2Dx/pods?limit=500&labelSelector=a%3Db%2Cc&fieldSelector=spec.nodeName%3Dn", 200,
         LIST("10", ""), 0, 0},
        {"&labelSelector=a%3Db%2Cc&fieldSelector=spec.nodeName%3Dn&resourceVersion=10", 0, NULL, 0, 0},
    };
    struct step copy[2] = {s[0], s[1]};
    copy[0].expect = "/api/v1/namespaces/kube-x/pods?limit=500&labelSelector=a%3Db%2Cc&fieldSelector=spec.nodeName%3Dn";
    start_with(
        copy, 2,
        (struct reflector_options){.ns = "kube-x", .label_selector = "a=b,c", .field_selector = "spec.nodeName=n"});
    assert_true(run_until(loop, &all_asked, WAIT));
}

static void without_keeping_the_identity_is_known(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", OBJ("a", "3") "," OBJ("b", "4")), 0, 0},
        {"watch", 0, EVENT("MODIFIED", OBJ("a", "11")) EVENT("ERROR", GONE), 0, 0},
        {"limit", 200, LIST("20", OBJ("b", "4")), 0, 0},
    };
    start_with(s, ARRAY_LEN(s), (struct reflector_options){.keep_objects = false});
    assert_true(run_until(loop, &all_asked, WAIT));
    run_for(loop, 30);
    assert_string_equal(told.ptr, "+a@3 +b@4 ! ~a@11 -a@11 ! ");
    assert_null(reflector_get(reflector, "d", "b"));
    assert_int_equal(reflector_count(reflector), 1);
}

static yyjson_doc *trim(void *arg, yyjson_val *object) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_val_mut_copy(d, object);
    yyjson_mut_doc_set_root(d, root);
    json_remove(root, "kind");
    yyjson_doc *out = yyjson_mut_doc_imut_copy(d, NULL);
    yyjson_mut_doc_free(d);
    return out;
}

static void what_is_kept_may_be_trimmed(void **state) {
    const struct step s[] = {{"limit", 200, LIST("10", OBJ("a", "3")), 0, 0}};
    start_with(s, 1, (struct reflector_options){.keep_objects = true, .trim = trim});
    assert_true(run_until(loop, &all_asked, WAIT));
    run_for(loop, 30);
    assert_string_equal(object_kind(reflector_get(reflector, "d", "a")), "");
    assert_string_equal(object_api_version(reflector_get(reflector, "d", "a")), "v1");
}

static void it_may_be_freed_in_its_callbacks(void **state) {
    const struct step s[] = {
        {"limit", 200, LIST("10", OBJ("a", "3") "," OBJ("b", "4")), 0, 0},
    };
    free_at_event = true;
    RUN(s);
    assert_string_equal(told.ptr, "+a@3 ");
    free_at_event = false;
    free_at_sync = true;
    at = 0;
    all_asked = false;
    RUN(s);
    assert_null(reflector);
    const struct step w[] = {
        {"limit", 200, LIST("10", ""), 0, 0},
        {"watch", 0, EVENT("ADDED", OBJ("a", "11")) EVENT("ADDED", OBJ("b", "12")), 0, 0},
    };
    free_at_sync = false;
    free_at_event = true;
    at = 0;
    all_asked = false;
    buf_clear(&told);
    RUN(w);
    assert_string_equal(told.ptr, "! +a@11 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_list_then_the_watch_are_told),
        TEST(objects_of_a_list_say_what_they_are),
        TEST(an_event_may_come_in_pieces),
        TEST(a_clean_end_goes_on_from_the_last_version),
        TEST(a_cut_watch_goes_on_from_the_last_version),
        TEST(a_version_that_is_gone_lists_again_and_tells_the_difference),
        TEST(an_object_made_anew_is_told_as_another),
        TEST(what_is_known_is_not_told_twice),
        TEST(pages_are_followed),
        TEST(a_page_token_that_is_gone_starts_the_list_over),
        TEST(failures_are_tried_again_without_losing_the_place),
        TEST(a_watch_that_is_refused_lists_again),
        TEST(a_server_that_falls_silent_is_asked_again),
        TEST(a_server_that_restarts_is_found_again),
        TEST(selectors_and_namespace_are_asked_for),
        TEST(without_keeping_the_identity_is_known),
        TEST(what_is_kept_may_be_trimmed),
        TEST(it_may_be_freed_in_its_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
