/* Who gets a certificate, and for whom (wire-protocol.md 4.3); who may connect with it. */
#include "cloud_testing.h"

#include "base/clock.h"
#include "cloud/cloudhub/https.h"
#include "cloud/cloudhub/identity.h"
#include "wire/token.h"

#define NODE_SUBJECT(name)                                                 \
    (struct x509_subject) {                                                \
        .organization = "system:nodes", .common_name = "system:node:" name \
    }

static struct hub_pki pki;
static struct cloud_config config;

static void new_ca(struct hub_pki *p) {
    buf_init(&p->ca_key_pem, 1 << 16);
    buf_init(&p->ca_cert_pem, 1 << 16);
    buf_init(&p->ca_key_der, 1 << 16);
    buf_init(&p->ca_cert_der, 1 << 16);
    assert_int_equal(x509_new_key(&p->ca_key_pem, NULL), 0);
    assert_int_equal(x509_new_ca("KubeEdge", buf_bytes(&p->ca_key_pem), &p->ca_cert_pem, NULL), 0);
    assert_int_equal(x509_cert_pem_to_der(buf_bytes(&p->ca_cert_pem), &p->ca_cert_der, NULL), 0);
    assert_int_equal(x509_key_pem_to_der(buf_bytes(&p->ca_key_pem), &p->ca_key_der, NULL), 0);
}

static int set_up(void **state) {
    new_ca(&pki);
    config.hub.edge_cert_days = 365;
    config.hub.token_refresh_hours = 12;
    return 0;
}

static int tear_down(void **state) {
    hub_pki_free(&pki);
    return 0;
}

static void csr_for(const struct x509_subject *subject, struct buf *der) {
    _cleanup_(buf_free) struct buf key = BUF_INIT(1 << 16);
    assert_int_equal(x509_new_key(&key, NULL), 0);
    assert_int_equal(x509_new_csr(buf_bytes(&key), subject, der, NULL), 0);
}

/* A certificate of `p` for node, in PEM. */
static void cert_for(const struct hub_pki *p, const char *node, int64_t not_before, struct buf *pem) {
    _cleanup_(buf_free) struct buf csr = BUF_INIT(1 << 16);
    struct x509_subject s = {.organization = NODE_ORGANIZATION};
    (void)snprintf(s.common_name, sizeof s.common_name, NODE_NAME_PREFIX "%s", node);
    csr_for(&s, &csr);
    const struct x509_sign sign = {.ca_cert_pem = buf_bytes(&p->ca_cert_pem),
                                   .ca_key_pem = buf_bytes(&p->ca_key_pem),
                                   .not_before = not_before,
                                   .lifetime_s = 3600,
                                   .client_auth = true};
    assert_int_equal(x509_sign_csr(&sign, buf_bytes(&csr), &s, pem, NULL), 0);
}

static int present(struct bytes cert, const char *authorization, struct error *err) {
    return edge_cert_authenticate(&pki, "edge-1", cert, bytes_str(authorization), clock_wall_s(), err);
}

static void a_token_lets_in(void **state) {
    _cleanup_(buf_free) struct buf token = BUF_INIT(JOIN_TOKEN_MAX), header = BUF_INIT(2 * JOIN_TOKEN_MAX);
    struct bytes jwt;
    assert_int_equal(hub_pki_new_token(&pki, &config, &token, NULL), 0);
    assert_int_equal(join_token_check_ca(buf_bytes(&token), buf_bytes(&pki.ca_cert_der), &jwt, NULL), 0);
    (void)buf_add_str(&header, "Bearer ");
    (void)buf_add_bytes(&header, jwt);
    assert_int_equal(present(BYTES_EMPTY, header.ptr, NULL), 0);
}

static void wrong_tokens_are_refused_with_the_known_texts(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(present(BYTES_EMPTY, "", &err), -1);
    assert_string_equal(err.msg, "token validation failure, token is empty");
    assert_int_equal(present(BYTES_EMPTY, "Bearer", &err), -1);
    assert_string_equal(err.msg, "token validation failure, token cannot be split");
    assert_int_equal(present(BYTES_EMPTY, "Bearer a b", &err), -1);
    assert_string_equal(err.msg, "token validation failure, token cannot be split");
    assert_int_equal(present(BYTES_EMPTY, "Bearer nonsense", &err), -1);
    assert_true(str_starts_with(err.msg, "token validation failure, err: token is malformed"));

    struct hub_pki other = {0};
    _cleanup_(buf_free) struct buf token = BUF_INIT(JOIN_TOKEN_MAX), header = BUF_INIT(2 * JOIN_TOKEN_MAX);
    struct bytes jwt;
    new_ca(&other);
    assert_int_equal(hub_pki_new_token(&other, &config, &token, NULL), 0);
    assert_int_equal(join_token_check_ca(buf_bytes(&token), buf_bytes(&other.ca_cert_der), &jwt, NULL), 0);
    (void)buf_add_str(&header, "Bearer ");
    (void)buf_add_bytes(&header, jwt);
    assert_int_equal(present(BYTES_EMPTY, header.ptr, &err), -1);
    assert_string_equal(err.msg, "token validation failure, err: token signature is invalid: signature is invalid");
    hub_pki_free(&other);
}

static void a_certificate_renews_itself_and_no_other(void **state) {
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf mine = BUF_INIT(1 << 16), foreign = BUF_INIT(1 << 16), other = BUF_INIT(1 << 16),
                                   old = BUF_INIT(1 << 16);
    struct hub_pki stranger = {0};
    new_ca(&stranger);
    cert_for(&pki, "edge-1", 0, &mine);
    cert_for(&pki, "edge-2", 0, &other);
    cert_for(&stranger, "edge-1", 0, &foreign);
    cert_for(&pki, "edge-1", clock_wall_s() - 7200, &old);
    assert_int_equal(present(buf_bytes(&mine), "", NULL), 0);
    assert_int_equal(present(buf_bytes(&other), "", &err), -1);
    assert_non_null(strstr(err.msg, "request node name is not match with the certificate"));
    assert_int_equal(present(buf_bytes(&foreign), "", &err), -1);
    assert_int_equal(present(buf_bytes(&old), "", &err), -1);
    hub_pki_free(&stranger);
}

static void a_bad_certificate_is_not_made_good_by_a_token(void **state) {
    _cleanup_(buf_free) struct buf token = BUF_INIT(JOIN_TOKEN_MAX), header = BUF_INIT(2 * JOIN_TOKEN_MAX),
                                   other = BUF_INIT(1 << 16);
    struct bytes jwt;
    assert_int_equal(hub_pki_new_token(&pki, &config, &token, NULL), 0);
    assert_int_equal(join_token_check_ca(buf_bytes(&token), buf_bytes(&pki.ca_cert_der), &jwt, NULL), 0);
    (void)buf_addf(&header, "Bearer %.*s", (int)jwt.len, jwt.ptr);
    cert_for(&pki, "edge-2", 0, &other);
    assert_int_equal(present(buf_bytes(&other), header.ptr, NULL), -1);
}

static void a_request_for_another_subject_is_refused(void **state) {
    struct error err = ERROR_INIT;
    const struct x509_subject subjects[] = {
        NODE_SUBJECT("edge-2"),
        {.organization = "system:masters", .common_name = "system:node:edge-1"},
        {.organization = "system:nodes", .common_name = "edge-1"},
        {.organization = "", .common_name = "system:node:edge-1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(subjects); i++) {
        _cleanup_(buf_free) struct buf csr = BUF_INIT(1 << 16);
        csr_for(&subjects[i], &csr);
        assert_int_equal(edge_csr_check("edge-1", buf_bytes(&csr), &err), -1);
        assert_int_equal(err.code, ERR_DENIED);
    }
    _cleanup_(buf_free) struct buf own = BUF_INIT(1 << 16);
    csr_for(&NODE_SUBJECT("edge-1"), &own);
    assert_int_equal(edge_csr_check("edge-1", buf_bytes(&own), NULL), 0);
}

static void a_request_that_cannot_be_read_or_was_changed_is_refused(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(edge_csr_check("edge-1", BYTES_LIT("-----BEGIN CERTIFICATE REQUEST-----"), &err), -1);
    assert_true(str_starts_with(err.msg, "failed to parse csr, err: "));
    _cleanup_(buf_free) struct buf csr = BUF_INIT(1 << 16);
    csr_for(&NODE_SUBJECT("edge-1"), &csr);
    csr.ptr[csr.len - 1] ^= 1;
    assert_int_equal(edge_csr_check("edge-1", buf_bytes(&csr), &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void the_signed_certificate_is_the_nodes(void **state) {
    _cleanup_(buf_free) struct buf csr = BUF_INIT(1 << 16), cert = BUF_INIT(1 << 16);
    struct x509_info info;
    csr_for(&NODE_SUBJECT("edge-1"), &csr);
    assert_int_equal(hub_pki_sign_edge(&pki, &config, "edge-1", buf_bytes(&csr), false, true, &cert, NULL), 0);
    assert_int_equal(x509_cert_info(buf_bytes(&cert), &info, NULL), 0);
    assert_string_equal(info.subject.common_name, "system:node:edge-1");
    assert_string_equal(info.subject.organization, "system:nodes");
    assert_false(info.is_ca);
    assert_int_equal(x509_verify_client(buf_bytes(&cert), buf_bytes(&pki.ca_cert_pem), NULL), 0);
}

static void usages_are_a_short_list_of_known_numbers(void **state) {
    bool server, client;
    struct error err = ERROR_INIT;
    assert_int_equal(edge_cert_usages(BYTES_EMPTY, &server, &client, NULL), 0);
    assert_true(client && !server);
    assert_int_equal(edge_cert_usages(BYTES_LIT("[1,2]"), &server, &client, NULL), 0);
    assert_true(client && server);
    assert_int_equal(edge_cert_usages(BYTES_LIT("[]"), &server, &client, &err), -1);
    assert_string_equal(err.msg, "must specify at least one ExtKeyUsage");
    assert_int_equal(edge_cert_usages(BYTES_LIT("{"), &server, &client, &err), -1);
    assert_true(str_starts_with(err.msg, "unmarshal http header ExtKeyUsages fail, err: "));
    assert_int_equal(edge_cert_usages(BYTES_LIT("[3]"), &server, &client, &err), -1);
    assert_int_equal(edge_cert_usages(BYTES_LIT("[\"2\"]"), &server, &client, &err), -1);
}

static void header_and_path_must_agree_with_the_certificate(void **state) {
    const struct x509_subject s = NODE_SUBJECT("edge-1");
    struct error err = ERROR_INIT;
    assert_int_equal(identity_check(&s, BYTES_LIT("edge-1"), BYTES_LIT("/project/edge-1/events"), NULL), 0);
    assert_int_equal(identity_check(&s, BYTES_LIT("edge-1"), BYTES_LIT("/anything"), NULL), 0);
    assert_int_equal(identity_check(&s, BYTES_LIT("edge-2"), BYTES_LIT("/project/edge-2/events"), &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_int_equal(identity_check(&s, BYTES_LIT("edge-1"), BYTES_LIT("/project/edge-2/events"), &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    assert_int_equal(identity_check(&s, BYTES_EMPTY, BYTES_LIT("/"), &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void only_certificates_of_nodes_may_connect(void **state) {
    const struct x509_subject server = {.organization = "KubeEdge", .common_name = "KubeEdge"};
    const struct x509_subject odd = {.organization = "system:nodes", .common_name = "system:node:../x"};
    assert_int_equal(identity_check(&server, BYTES_LIT("KubeEdge"), BYTES_LIT("/"), NULL), -1);
    assert_int_equal(identity_check(&odd, BYTES_LIT("../x"), BYTES_LIT("/"), NULL), -1);
}

/* Every route of port 10002, with what it takes and from whom: a new one has to be written down here as well. */
static void the_routes_are_these(void **state) {
    static const struct {
        const char *path;
        enum http_auth auth;
        size_t max_body;
    } expected[] = {
        {"/ca.crt", HTTP_AUTH_NONE, 0},
        {"/ca.crt/", HTTP_AUTH_NONE, 0},
        {"/edge.crt", HTTP_AUTH_HANDLER, 1 << 20},
        {"/edge.crt/", HTTP_AUTH_HANDLER, 1 << 20},
        {"/node/*", HTTP_AUTH_NONE, 0},
        {"/healthz", HTTP_AUTH_NONE, 0},
        {"/readyz", HTTP_AUTH_NONE, 0},
    };
    assert_int_equal(hub_https_n_routes, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const struct http_route *r = &hub_https_routes[i];
        assert_string_equal(r->path, expected[i].path);
        assert_int_equal(r->auth, expected[i].auth);
        assert_int_equal(r->max_body, expected[i].max_body);
        assert_int_equal(r->methods, 1u << HTTP_M_GET);
        assert_non_null(r->handle);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_lets_in),
        cmocka_unit_test(wrong_tokens_are_refused_with_the_known_texts),
        cmocka_unit_test(a_certificate_renews_itself_and_no_other),
        cmocka_unit_test(a_bad_certificate_is_not_made_good_by_a_token),
        cmocka_unit_test(a_request_for_another_subject_is_refused),
        cmocka_unit_test(a_request_that_cannot_be_read_or_was_changed_is_refused),
        cmocka_unit_test(the_signed_certificate_is_the_nodes),
        cmocka_unit_test(usages_are_a_short_list_of_known_numbers),
        cmocka_unit_test(header_and_path_must_agree_with_the_certificate),
        cmocka_unit_test(only_certificates_of_nodes_may_connect),
        cmocka_unit_test(the_routes_are_these),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
