#include "base/str.h"
#include "wire/message.h"

#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The golden vectors of KubeEdge's own encoder: the text without its final newline, and the length and SHA-256 of all
 * bytes with it. */
struct vector {
    const char *text;
    size_t len;
    const char *sha256;
};

static const struct vector keepalive = {
    "{\"header\":{\"msg_id\":\"6f1d4c1e-3b0a-4c57-9a55-0f2d8f6b7a01\",\"timestamp\":1700000000123},\"route\":{"
    "\"source\":"
    "\"websocket\",\"group\":\"resource\",\"operation\":\"keepalive\",\"resource\":\"node\"},\"content\":\"ping\"}",
    196, "4e8f336a2d8f0ba5566b112b35091a2455af46e07a263ea33ca7a477b4291356"};
static const struct vector ack = {
    "{\"header\":{\"msg_id\":\"0b8e3c52-7d4f-4e0b-8a61-5c9f2d1e7a02\",\"parent_msg_id\":\"6f1d4c1e-3b0a-4c57-9a55-"
    "0f2d8f6b7a01\",\"timestamp\":1700000000456},\"route\":{\"source\":\"edgecontroller\",\"group\":\"resource\","
    "\"operation\":\"response\",\"resource\":\"default/pod/nginx\"},\"content\":\"OK\"}",
    266, "4447124ee0478d2a6db12fa8c18c842b0233bdb2052a14b926484ceeafe605f1"};
static const struct vector query = {"{\"header\":{\"msg_id\":\"c2a7f0d4-91be-4d38-b6c3-1e4a5f607b03\",\"timestamp\":"
                                    "1700000001000},\"route\":{\"source\":"
                                    "\"edged\",\"group\":\"meta\",\"operation\":\"query\",\"resource\":\"default/"
                                    "configmap/app-cfg\"},\"content\":null}",
                                    203, "8964e0290531c599687d69fc86c21f7f31c77d193b922ce10abc8f1aa3b86183"};
static const struct vector object = {
    "{\"header\":{\"msg_id\":\"d4b6e8a0-5c1f-4a92-8e07-9b3c2d1f0a04\",\"parent_msg_id\":\"c2a7f0d4-91be-4d38-b6c3-"
    "1e4a5f607b03\",\"timestamp\":1700000002000,\"resourceversion\":\"1234\"},\"route\":{\"source\":\"edgecontroller\","
    "\"group\":\"resource\",\"operation\":\"response\",\"resource\":\"default/configmap/"
    "app-cfg\"},\"content\":{\"kind\":"
    "\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"app-cfg\",\"namespace\":\"default\",\"uid\":"
    "\"11111111-"
    "2222-4333-8444-555555555555\",\"resourceVersion\":\"1234\",\"creationTimestamp\":null},\"data\":{\"k\":"
    "\"a\\u003cb\\u003e\\u0026c\xc3\xa9\"},\"binaryData\":{\"bin\":\"AP8Q\"}}}",
    547, "941b5e69f524d82b8b0b26d877ea0cb6768566d4458557efb8898d68c8523e70"};
static const struct vector byte_content = {
    "{\"header\":{\"msg_id\":\"e5c7f9b1-6d20-4ba3-9f18-ac4d3e201b05\",\"timestamp\":-1,\"sync\":true,\"type\":"
    "\"channel\"},\"route\":{\"source\":\"servicebus\",\"destination\":\"nowhere\",\"group\":\"user\",\"operation\":"
    "\"upload\",\"resource\":\"http://127.0.0.1:8080/a\"},\"content\":\"ewD/gH0=\"}",
    255, "e9d9874c725137f92d3b4b75c36180da48966c691d9c674d698309754104a50a"};

static struct message *decoded(const char *text) {
    struct message *m = NULL;
    struct error err = ERROR_INIT;
    if (message_decode(bytes_str(text), &m, &err) < 0)
        fail_msg("%s", err.msg);
    return m;
}

static char *encoded(const struct message *m, size_t *len) {
    struct buf out = BUF_INIT(MESSAGE_MAX);
    assert_int_equal(message_encode(m, &out), 0);
    return buf_take(&out, len);
}

static void assert_bytes_of_vector(const struct message *m, const struct vector *v) {
    size_t n;
    _cleanup_(free_p) char *text = encoded(m, &n);
    assert_int_equal(n, v->len);
    assert_memory_equal(text, v->text, n - 1);
    assert_int_equal(text[n - 1], '\n');
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)text, n, hash);
    _cleanup_(buf_free) struct buf hex = BUF_INIT(64);
    hex_encode(bytes_of(hash, sizeof(hash)), &hex);
    assert_string_equal(hex.ptr, v->sha256);
}

static void a_built_keepalive_has_the_bytes_of_the_original(void **state) {
    _cleanup_(message_free_p) struct message *m =
        message_new(&(struct message_fields){.id = "6f1d4c1e-3b0a-4c57-9a55-0f2d8f6b7a01",
                                             .timestamp = 1700000000123,
                                             .source = MODULE_WEBSOCKET,
                                             .group = GROUP_RESOURCE,
                                             .operation = OP_KEEPALIVE,
                                             .resource = "node",
                                             .content_string = "ping"});
    assert_bytes_of_vector(m, &keepalive);
}

static void a_built_object_message_has_the_bytes_of_the_original(void **state) {
    _cleanup_(message_free_p) struct message *m = message_new(&(struct message_fields){
        .id = "d4b6e8a0-5c1f-4a92-8e07-9b3c2d1f0a04",
        .parent_id = "c2a7f0d4-91be-4d38-b6c3-1e4a5f607b03",
        .timestamp = 1700000002000,
        .resource_version = "1234",
        .source = MODULE_EDGECONTROLLER,
        .group = GROUP_RESOURCE,
        .operation = OP_RESPONSE,
        .resource = "default/configmap/app-cfg",
        .content_text = BYTES_LIT(
            "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"app-cfg\",\"namespace\":"
            "\"default\","
            "\"uid\":\"11111111-2222-4333-8444-555555555555\",\"resourceVersion\":\"1234\",\"creationTimestamp\":null},"
            "\"data\":{\"k\":\"a<b>&c\xc3\xa9\"},\"binaryData\":{\"bin\":\"AP8Q\"}}")});
    assert_bytes_of_vector(m, &object);
}

static void golden_messages_come_out_as_they_went_in(void **state) {
    const struct vector *all[] = {&keepalive, &ack, &query, &object, &byte_content};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        _cleanup_(message_free_p) struct message *m = decoded(all[i]->text);
        assert_bytes_of_vector(m, all[i]);
        _cleanup_(message_free_p) struct message *copy = message_copy(m);
        assert_bytes_of_vector(copy, all[i]);
    }
}

static void the_empty_message_has_id_timestamp_route_and_content(void **state) {
    const char *text = "{\"header\":{\"msg_id\":\"\",\"timestamp\":0},\"route\":{},\"content\":null}";
    _cleanup_(message_free_p) struct message *m = decoded(text);
    size_t n;
    _cleanup_(free_p) char *out = encoded(m, &n);
    assert_int_equal(n, strlen(text) + 1);
    assert_memory_equal(out, text, strlen(text));
    _cleanup_(message_free_p) struct message *bare = decoded("{}");
    _cleanup_(free_p) char *same = encoded(bare, &n);
    assert_string_equal(same, out);
}

static void go_s_escapes_are_written_and_other_characters_left_alone(void **state) {
    _cleanup_(message_free_p) struct message *m = message_new(&(struct message_fields){
        .id = "<&>", .timestamp = 1, .content_string = "a\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa/\"\\\n\x01\x7f"});
    size_t n;
    _cleanup_(free_p) char *text = encoded(m, &n);
    assert_string_equal(text,
                        "{\"header\":{\"msg_id\":\"\\u003c\\u0026\\u003e\",\"timestamp\":1},\"route\":{},\"content\":"
                        "\"a\\u2028\\u2029\xe2\x80\xaa/\\\"\\\\\\n\\u0001\x7f\"}\n");
}

static void member_names_match_in_any_case_and_unknown_ones_are_skipped(void **state) {
    _cleanup_(message_free_p) struct message *m =
        decoded("{\"HEADER\":{\"Msg_ID\":\"1\",\"TimeStamp\":7,\"future\":[1]},\"Route\":{\"Operation\":\"query\"},"
                "\"CONTENT\":\"x\",\"more\":{}} trailing bytes");
    assert_string_equal(m->id, "1");
    assert_int_equal(m->timestamp, 7);
    assert_string_equal(m->operation, "query");
    assert_string_equal(yyjson_get_str(m->content), "x");
    assert_string_equal(m->source, "");
}

static void null_members_count_as_absent(void **state) {
    _cleanup_(message_free_p) struct message *m =
        decoded("{\"header\":{\"msg_id\":null,\"timestamp\":null,\"sync\":null},\"route\":null,\"content\":null}");
    assert_string_equal(m->id, "");
    assert_false(m->sync);
    assert_true(yyjson_is_null(m->content));
}

static void wrong_types_are_refused(void **state) {
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "\"text\"",
        "{\"header\":[]}",
        "{\"header\":{\"timestamp\":1.0}}",
        "{\"header\":{\"timestamp\":1e3}}",
        "{\"header\":{\"timestamp\":\"1\"}}",
        "{\"header\":{\"timestamp\":9223372036854775808}}",
        "{\"header\":{\"resourceversion\":12}}",
        "{\"header\":{\"sync\":\"true\"}}",
        "{\"header\":{\"msg_id\":\"a\\u0000b\"}}",
        "{\"route\":\"x\"}",
        "{\"route\":{\"resource\":{}}}",
        "{\"header\":{\"msg_id\":\"\xff\"}}",
        "{\"header\":{}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct message *m = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(message_decode(bytes_str(bad[i]), &m, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(m);
    }
}

static void nesting_that_is_too_deep_is_refused(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(4096);
    buf_add_str(&text, "{\"content\":");
    for (int i = 0; i < 1000; i++)
        buf_add_char(&text, '[');
    struct message *m = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(message_decode(buf_bytes(&text), &m, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void a_message_over_the_limit_is_refused(void **state) {
    size_t n = MESSAGE_MAX + 1;
    _cleanup_(free_p) char *text = xmalloc(n);
    memset(text, ' ', n);
    text[0] = '{';
    text[n - 1] = '}';
    struct message *m = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(message_decode(bytes_of(text, n), &m, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void encoding_past_the_maximum_adds_nothing(void **state) {
    _cleanup_(message_free_p) struct message *m = decoded(ack.text);
    _cleanup_(buf_free) struct buf out = BUF_INIT(100);
    buf_add_str(&out, "before");
    assert_int_equal(message_encode(m, &out), -1);
    assert_string_equal(out.ptr, "before");
    assert_true(out.overflowed);
}

static void a_response_answers_its_message(void **state) {
    _cleanup_(message_free_p) struct message *m = decoded(query.text);
    _cleanup_(message_free_p) struct message *r = message_response(
        m, MODULE_EDGECONTROLLER, GROUP_RESOURCE, &(struct message_fields){.content_string = "OK", .resource = "no"});
    assert_string_equal(r->parent_id, m->id);
    assert_string_not_equal(r->id, m->id);
    assert_int_equal(strlen(r->id), 36);
    assert_string_equal(r->operation, OP_RESPONSE);
    assert_string_equal(r->resource, m->resource);
    assert_string_equal(r->source, MODULE_EDGECONTROLLER);
    assert_true(r->timestamp > 1700000000000);
    assert_string_equal(yyjson_get_str(r->content), "OK");
}

static void content_that_is_not_json_becomes_null(void **state) {
    _cleanup_(message_free_p) struct message *m = message_new(&(struct message_fields){.content_text = BYTES_LIT("{")});
    assert_true(yyjson_is_null(m->content));
}

static void content_text_is_the_string_or_the_json(void **state) {
    _cleanup_(message_free_p) struct message *text = decoded("{\"content\":\"{\\\"a\\\": 1}\"}");
    size_t n;
    _cleanup_(free_p) char *s = message_content_text(text, &n);
    assert_string_equal(s, "{\"a\": 1}");
    assert_int_equal(n, 8);
    _cleanup_(message_free_p) struct message *obj = decoded("{\"content\":{\"a\": [1, 2]}}");
    _cleanup_(free_p) char *t = message_content_text(obj, NULL);
    assert_string_equal(t, "{\"a\":[1,2]}");
}

static void content_object_is_found_inside_a_string_too(void **state) {
    _cleanup_(message_free_p) struct message *inner = decoded("{\"content\":\"{\\\"a\\\": 1}\"}");
    yyjson_doc *doc = NULL;
    yyjson_val *v = message_content_object(inner, &doc);
    assert_int_equal(json_int_or(json_get(v, "a"), 0), 1);
    assert_non_null(doc);
    yyjson_doc_free(doc);
    _cleanup_(message_free_p) struct message *plain = decoded("{\"content\":\"OK\"}");
    assert_null(message_content_object(plain, &doc));
    assert_null(doc);
    _cleanup_(message_free_p) struct message *list = decoded("{\"content\":\"[1]\"}");
    assert_null(message_content_object(list, &doc));
    assert_null(doc);
}

static void error_answers_are_told_from_good_ones(void **state) {
    _cleanup_(message_free_p) struct message *bare = decoded("{\"content\":{\"ErrStatus\":{\"code\":404}}}");
    assert_int_equal(json_int_or(json_get(message_content_error(bare), "code"), 0), 404);
    _cleanup_(message_free_p) struct message *wrapped =
        decoded("{\"content\":{\"Object\":{},\"Err\":{\"ErrStatus\":{\"code\":409}}}}");
    assert_int_equal(json_int_or(json_get(message_content_error(wrapped), "code"), 0), 409);
    _cleanup_(message_free_p) struct message *lost = decoded("{\"content\":{\"Object\":null,\"Err\":{}}}");
    assert_non_null(message_content_error(lost));
    _cleanup_(message_free_p) struct message *good = decoded("{\"content\":{\"Object\":{},\"Err\":null}}");
    assert_null(message_content_error(good));
    _cleanup_(message_free_p) struct message *ok = decoded("{\"content\":\"OK\"}");
    assert_null(message_content_error(ok));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_built_keepalive_has_the_bytes_of_the_original),
        cmocka_unit_test(a_built_object_message_has_the_bytes_of_the_original),
        cmocka_unit_test(golden_messages_come_out_as_they_went_in),
        cmocka_unit_test(the_empty_message_has_id_timestamp_route_and_content),
        cmocka_unit_test(go_s_escapes_are_written_and_other_characters_left_alone),
        cmocka_unit_test(member_names_match_in_any_case_and_unknown_ones_are_skipped),
        cmocka_unit_test(null_members_count_as_absent),
        cmocka_unit_test(wrong_types_are_refused),
        cmocka_unit_test(nesting_that_is_too_deep_is_refused),
        cmocka_unit_test(a_message_over_the_limit_is_refused),
        cmocka_unit_test(encoding_past_the_maximum_adds_nothing),
        cmocka_unit_test(a_response_answers_its_message),
        cmocka_unit_test(content_that_is_not_json_becomes_null),
        cmocka_unit_test(content_text_is_the_string_or_the_json),
        cmocka_unit_test(content_object_is_found_inside_a_string_too),
        cmocka_unit_test(error_answers_are_told_from_good_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
