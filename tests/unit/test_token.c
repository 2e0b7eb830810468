#include "base/mem.h"
#include "base/str.h"
#include "wire/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* KubeEdge's own vector: key bytes 00..1f, a stand-in certificate of five bytes. */
static const struct bytes key = BYTES_LIT("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11"
                                          "\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f");
static const struct bytes cert = BYTES_LIT("\x30\x03\x02\x01\x2a");
#define EXPIRES 4102444800
static const char golden[] = "48df3da1bff25bab3f2e8993f1611d948a81eef712a6d774f8770faf55c5ce4b."
                             "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDB9."
                             "rh_t4p2WS9apHn-l7kvz91gtlOfSWbf2e8TNxBoAlq0";
static const char *const golden_jwt = golden + 65;

static void a_token_has_the_bytes_of_the_original(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(JOIN_TOKEN_MAX);
    assert_int_equal(join_token_new(cert, key, EXPIRES, &out, NULL), 0);
    assert_string_equal(out.ptr, golden);
}

static void the_edge_checks_the_ca_and_sends_the_rest(void **state) {
    struct bytes jwt;
    struct error err = ERROR_INIT;
    assert_int_equal(join_token_check_ca(bytes_str(golden), cert, &jwt, &err), 0);
    assert_true(bytes_eq_str(jwt, golden_jwt));
    assert_int_equal(join_token_check_ca(bytes_str(golden), BYTES_LIT("another CA"), &jwt, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_int_equal(join_token_check_ca(bytes_str(golden_jwt), cert, &jwt, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void white_space_around_a_token_is_ignored_at_the_edge(void **state) {
    _cleanup_(free_p) char *text = xasprintf(" %s\n", golden);
    struct bytes jwt;
    assert_int_equal(join_token_check_ca(bytes_str(text), cert, &jwt, NULL), 0);
    assert_true(bytes_eq_str(jwt, golden_jwt));
}

static void the_cloud_accepts_its_own_token_until_it_expires(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(join_token_verify(bytes_str(golden_jwt), key, EXPIRES - 1, &err), 0);
    assert_int_equal(join_token_verify(bytes_str(golden_jwt), key, EXPIRES, &err), -1);
    assert_int_equal(err.code, ERR_EXPIRED);
    assert_string_equal(err.msg, "token has invalid claims: token is expired");
}

static void any_changed_character_is_refused(void **state) {
    for (size_t i = 0; golden_jwt[i]; i++) {
        _cleanup_(free_p) char *text = xstrdup(golden_jwt);
        text[i] = text[i] == 'A' ? 'B' : 'A';
        assert_int_equal(join_token_verify(bytes_str(text), key, 0, NULL), -1);
    }
    struct error err = ERROR_INIT;
    assert_int_equal(join_token_verify(bytes_str(golden_jwt), BYTES_LIT("another key"), 0, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_string_equal(err.msg, "token signature is invalid: signature is invalid");
}

static void a_whole_join_token_is_not_a_bearer_token(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(join_token_verify(bytes_str(golden), key, 0, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, "token is malformed: token contains an invalid number of segments");
}

/* header {"alg":"none"} and claims {"exp":4102444800}; header HS256 and claims {} */
static void other_methods_and_tokens_without_expiry_are_refused(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(join_token_verify(BYTES_LIT("eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9."), key, 0, &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_int_equal(join_token_verify(BYTES_LIT("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30."
                                                 "DipNCdRGLGdEmU3c9TMc6QJbme-uECl_u_c9v7k8fjU"),
                                       key, 0, &err),
                     -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_string_equal(err.msg, "token has invalid claims: exp claim is required");
    assert_int_equal(join_token_verify(BYTES_EMPTY, key, 0, &err), -1);
    assert_int_equal(join_token_verify(BYTES_LIT(".."), key, 0, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void an_empty_key_signs_nothing(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(JOIN_TOKEN_MAX);
    assert_int_equal(join_token_new(cert, BYTES_EMPTY, EXPIRES, &out, NULL), -1);
    assert_int_equal(join_token_verify(bytes_str(golden_jwt), BYTES_EMPTY, 0, NULL), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_has_the_bytes_of_the_original),
        cmocka_unit_test(the_edge_checks_the_ca_and_sends_the_rest),
        cmocka_unit_test(white_space_around_a_token_is_ignored_at_the_edge),
        cmocka_unit_test(the_cloud_accepts_its_own_token_until_it_expires),
        cmocka_unit_test(any_changed_character_is_refused),
        cmocka_unit_test(a_whole_join_token_is_not_a_bearer_token),
        cmocka_unit_test(other_methods_and_tokens_without_expiry_are_refused),
        cmocka_unit_test(an_empty_key_signs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
