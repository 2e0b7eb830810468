#include "base/mem.h"
#include "base/str.h"
#include "wire/tunnel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void check_vector(const char *hex, uint64_t id, enum tunnel_type type, const char *data) {
    _cleanup_(buf_free) struct buf raw = BUF_INIT(100), out = BUF_INIT(100);
    struct tunnel_frame f;
    assert_int_equal(hex_decode(bytes_str(hex), &raw), 0);
    assert_int_equal(tunnel_frame_read(buf_bytes(&raw), &f, NULL), 0);
    assert_int_equal(f.id, id);
    assert_int_equal(f.type, type);
    assert_true(bytes_eq_str(f.data, data));
    assert_int_equal(tunnel_frame_write(&out, id, type, bytes_str(data)), 0);
    assert_true(bytes_eq(buf_bytes(&out), buf_bytes(&raw)));
}

static void frames_are_those_of_the_original(void **state) {
    check_vector("070368690a", 7, TUNNEL_DATA, "hi\n");
    check_vector("ac0204", 300, TUNNEL_REMOVE, "");
    check_vector("00056661696c656420746f20557064617465204b7562656c6574456e64706f696e7420506f7274", 0, TUNNEL_CLOSE,
                 "failed to Update KubeletEndpoint Port");
}

static void a_head_that_is_cut_off_or_too_long_is_refused(void **state) {
    static const char *const bad[] = {"", "80", "07", "0780", "ffffffffffffffffff0203", "ffffffffffffffffffff0103"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_(buf_free) struct buf raw = BUF_INIT(100);
        struct tunnel_frame f;
        struct error err = ERROR_INIT;
        assert_int_equal(hex_decode(bytes_str(bad[i]), &raw), 0);
        assert_int_equal(tunnel_frame_read(buf_bytes(&raw), &f, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void the_largest_id_is_read(void **state) {
    check_vector("ffffffffffffffffff0103", UINT64_MAX, TUNNEL_DATA, "");
}

static void a_window_is_a_number_within_reason(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(100);
    struct tunnel_frame f;
    uint64_t n = 0;
    assert_int_equal(tunnel_window_write(&out, 9, 65536), 0);
    assert_int_equal(tunnel_frame_read(buf_bytes(&out), &f, NULL), 0);
    assert_int_equal(tunnel_window_read(f.data, &n, NULL), 0);
    assert_int_equal(n, 65536);
    assert_int_equal(tunnel_window_read(BYTES_LIT(""), &n, NULL), -1);
    assert_int_equal(tunnel_window_read(bytes_of("\0", 1), &n, NULL), -1);
    assert_int_equal(tunnel_window_read(BYTES_LIT("\xff\xff\xff\xff\x0f"), &n, NULL), -1);
}

#define ORIGINAL                                                                                                \
    "{\"MessID\":7,\"url\":{\"Scheme\":\"http\",\"Opaque\":\"\",\"User\":null,\"Host\":\"127.0.0.1:10350\","    \
    "\"Path\":\"/containerLogs/default/web-0/nginx\",\"RawPath\":\"\",\"OmitHost\":false,\"ForceQuery\":false," \
    "\"RawQuery\":\"follow=true%stailLines=10\",\"Fragment\":\"\",\"RawFragment\":\"\"},\"header\":{"           \
    "\"Accept-Encoding\":[\"gzip\"],\"X-Stream-Protocol-Version\":[\"v4\",\"v3\"]}}"

static void a_request_of_the_original_is_read_and_written_as_it_was(void **state) {
    struct tunnel_request r;
    _cleanup_(buf_free) struct buf out = BUF_INIT(10000);
    _cleanup_(free_p) char *escaped = xasprintf(ORIGINAL, "\\u0026"), *plain = xasprintf(ORIGINAL, "&");
    assert_int_equal(tunnel_request_read(bytes_str(escaped), &r, NULL), 0);
    assert_string_equal(r.method, "GET");
    assert_string_equal(r.path, "/containerLogs/default/web-0/nginx");
    assert_string_equal(r.query, "follow=true&tailLines=10");
    assert_int_equal(r.n_headers, 3);
    assert_string_equal(tunnel_request_header(&r, "x-stream-protocol-version"), "v4");
    assert_int_equal(tunnel_request_write(&out, 7, &r, false), 0);
    assert_string_equal(out.ptr, plain);
    tunnel_request_free(&r);
}

static void a_path_keeps_its_encoding(void **state) {
    struct tunnel_request r = {.method = xstrdup("POST"), .path = xstrdup("/exec/a%2Fb/c"), .query = xstrdup("")};
    struct tunnel_request again;
    _cleanup_(buf_free) struct buf out = BUF_INIT(10000);
    assert_int_equal(tunnel_request_write(&out, 1, &r, true), 0);
    assert_non_null(strstr(out.ptr, "\"Path\":\"/exec/a/b/c\",\"RawPath\":\"/exec/a%2Fb/c\""));
    assert_int_equal(tunnel_request_read(buf_bytes(&out), &again, NULL), 0);
    assert_string_equal(again.path, r.path);
    assert_string_equal(again.method, "POST");
    tunnel_request_free(&r);
    tunnel_request_free(&again);
}

static void what_would_break_out_of_a_request_head_is_refused(void **state) {
    static const char *const bad[] = {
        "",
        "[]",
        "{\"url\":{}}",
        "{\"url\":{\"Path\":\"x\"}}",
        "{\"url\":{\"Path\":\"/a\",\"RawQuery\":\"a b\"}}",
        "{\"url\":{\"Path\":\"/a\",\"RawQuery\":\"a\\r\\nB: c\"}}",
        "{\"url\":{\"Path\":\"/a\"},\"method\":\"GET /x\"}",
        "{\"url\":{\"Path\":\"/a\"},\"method\":\"\"}",
        "{\"url\":{\"Path\":\"/a\"},\"header\":{\"A b\":[\"c\"]}}",
        "{\"url\":{\"Path\":\"/a\"},\"header\":{\"A\":[\"c\\nD: e\"]}}",
        "{\"url\":{\"Path\":\"/a\"},\"header\":{\"A\":[1]}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct tunnel_request r;
        struct error err = ERROR_INIT;
        assert_int_equal(tunnel_request_read(bytes_str(bad[i]), &r, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_those_of_the_original),
        cmocka_unit_test(a_head_that_is_cut_off_or_too_long_is_refused),
        cmocka_unit_test(the_largest_id_is_read),
        cmocka_unit_test(a_window_is_a_number_within_reason),
        cmocka_unit_test(a_request_of_the_original_is_read_and_written_as_it_was),
        cmocka_unit_test(a_path_keeps_its_encoding),
        cmocka_unit_test(what_would_break_out_of_a_request_head_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
