#include "net_fixture.h"

#include "base/clock.h"
#include "base/str.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

static struct pki pki;

static int set_up(void **state) {
    pki_make(&pki, "cloud.example", "edge-1");
    return 0;
}
static int tear_down(void **state) {
    pki_free(&pki);
    return 0;
}

/* What `openssl x509 -text` would print. */
static void print(const struct buf *pem, struct buf *out) {
    BIO *in = BIO_new_mem_buf(pem->ptr, (int)pem->len), *text = BIO_new(BIO_s_mem());
    X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);
    assert_non_null(x);
    X509_print(text, x);
    char *p;
    long n = BIO_get_mem_data(text, &p);
    assert_int_equal(buf_add(out, p, (size_t)n), 0);
    X509_free(x);
    BIO_free(in);
    BIO_free(text);
}

static void expect(const char *text, const char *const *words) {
    for (; *words; words++)
        if (!strstr(text, *words))
            fail_msg("\"%s\" is missing in:\n%s", *words, text);
}

static void the_ca_says_what_the_originals_says(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(16384);
    print(&pki.ca, &text);
    static const char *const words[] = {"Serial Number: 1024",
                                        "Subject: CN=KubeEdge",
                                        "Issuer: CN=KubeEdge",
                                        "ecdsa-with-SHA256",
                                        "X509v3 Key Usage: critical",
                                        "Digital Signature, Key Encipherment, Certificate Sign",
                                        "CA:TRUE",
                                        "Basic Constraints: critical",
                                        "TLS Web Server Authentication, TLS Web Client Auth",
                                        "Subject Key Identifier",
                                        "prime256v1",
                                        NULL};
    expect(text.ptr, words);
    struct x509_info info;
    assert_int_equal(x509_cert_info(buf_bytes(&pki.ca), &info, NULL), 0);
    assert_true(info.is_ca);
    assert_string_equal(info.subject.common_name, "KubeEdge");
    assert_true(info.not_before < clock_wall_s());
    assert_true(info.not_after > clock_wall_s() + 100ll * 364 * 86400 - 60);
}

static void a_server_certificate_carries_addresses_and_names(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(16384);
    print(&pki.server, &text);
    static const char *const words[] = {"DNS:cloud.example",
                                        "IP Address:127.0.0.1",
                                        "O=KubeEdge, CN=Kube",
                                        "Digital Signature, Key Encipherment\n",
                                        "Authority Key Identifier",
                                        "TLS Web Server Authentication\n",
                                        NULL};
    expect(text.ptr, words);
    assert_null(strstr(text.ptr, "Basic Constraints"));
    static const char *const have[] = {"127.0.0.1", "cloud.example", NULL};
    static const char *const miss[] = {"127.0.0.1", "10.0.0.1", NULL};
    static const char *const sub[] = {"example", NULL};
    assert_true(x509_has_sans(buf_bytes(&pki.server), have));
    assert_false(x509_has_sans(buf_bytes(&pki.server), miss));
    assert_false(x509_has_sans(buf_bytes(&pki.server), sub));
    assert_false(x509_has_sans(buf_bytes(&pki.client), have));
}

static void a_san_cannot_smuggle_in_another(void **state) {
    static const char *const sans[] = {"a.example,IP:10.0.0.1", "::1", NULL};
    struct x509_sign sign = {.ca_cert_pem = buf_bytes(&pki.ca),
                             .ca_key_pem = buf_bytes(&pki.ca_key),
                             .lifetime_s = 60,
                             .server_auth = true,
                             .sans = sans};
    struct x509_subject who = {.common_name = "x"};
    _cleanup_(buf_free) struct buf cert = BUF_INIT(16384);
    assert_int_equal(x509_sign_key(&sign, buf_bytes(&pki.server_key), &who, &cert, NULL), 0);
    static const char *const evil[] = {"10.0.0.1", NULL}, *const good[] = {"::1", NULL};
    assert_false(x509_has_sans(buf_bytes(&cert), evil));
    assert_true(x509_has_sans(buf_bytes(&cert), good));
}

static void keys_are_sec1_and_survive_der(void **state) {
    _cleanup_(buf_free) struct buf der = BUF_INIT(8192), pem = BUF_INIT(8192);
    assert_true(bytes_starts_with(buf_bytes(&pki.server_key), "-----BEGIN EC PRIVATE KEY-----\n"));
    assert_int_equal(x509_key_pem_to_der(buf_bytes(&pki.server_key), &der, NULL), 0);
    assert_memory_equal(der.ptr + 2, "\x02\x01\x01\x04\x20", 5); /* version 1, 32 bytes: ECPrivateKey */
    assert_int_equal(x509_key_der_to_pem(buf_bytes(&der), &pem, NULL), 0);
    assert_string_equal(pem.ptr, pki.server_key.ptr);
    assert_int_equal(x509_check_pair(buf_bytes(&pki.server), buf_bytes(&pem), NULL), 0);
    struct error err = ERROR_INIT;
    assert_int_equal(x509_check_pair(buf_bytes(&pki.server), buf_bytes(&pki.client_key), &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void certificates_survive_der(void **state) {
    _cleanup_(buf_free) struct buf der = BUF_INIT(8192), pem = BUF_INIT(8192);
    assert_int_equal(x509_cert_pem_to_der(buf_bytes(&pki.client), &der, NULL), 0);
    assert_int_equal(x509_cert_der_to_pem(buf_bytes(&der), &pem, NULL), 0);
    assert_string_equal(pem.ptr, pki.client.ptr);
    struct x509_info info;
    assert_int_equal(x509_cert_info(buf_bytes(&der), &info, NULL), 0);
    assert_string_equal(info.subject.common_name, "system:node:edge-1");
    assert_string_equal(info.subject.organization, "system:nodes");
    assert_false(info.is_ca);
}

static void a_request_becomes_a_certificate_with_the_subject_that_the_signer_chose(void **state) {
    struct x509_subject asked = {.common_name = "system:node:edge-2", .organization = "system:nodes"}, said;
    struct x509_subject given = {.common_name = "system:node:edge-1", .organization = "system:nodes"};
    _cleanup_(buf_free) struct buf csr = BUF_INIT(8192), cert = BUF_INIT(8192);
    assert_int_equal(x509_new_csr(buf_bytes(&pki.client_key), &asked, &csr, NULL), 0);
    assert_int_equal(x509_csr_subject(buf_bytes(&csr), &said, NULL), 0);
    assert_string_equal(said.common_name, asked.common_name);
    assert_string_equal(said.organization, asked.organization);
    struct x509_sign sign = {.ca_cert_pem = buf_bytes(&pki.ca),
                             .ca_key_pem = buf_bytes(&pki.ca_key),
                             .lifetime_s = 3600,
                             .client_auth = true};
    assert_int_equal(x509_sign_csr(&sign, buf_bytes(&csr), &given, &cert, NULL), 0);
    struct x509_info info;
    assert_int_equal(x509_cert_info(buf_bytes(&cert), &info, NULL), 0);
    assert_string_equal(info.subject.common_name, given.common_name);
    assert_int_equal(x509_check_pair(buf_bytes(&cert), buf_bytes(&pki.client_key), NULL), 0);
    assert_int_equal(x509_verify_client(buf_bytes(&cert), buf_bytes(&pki.ca), NULL), 0);
}

static void a_request_that_was_tampered_with_is_refused(void **state) {
    struct x509_subject who = {.common_name = "system:node:edge-1", .organization = "system:nodes"}, said;
    _cleanup_(buf_free) struct buf csr = BUF_INIT(8192);
    assert_int_equal(x509_new_csr(buf_bytes(&pki.client_key), &who, &csr, NULL), 0);
    for (size_t i = 0; i < csr.len; i++) {
        struct error err = ERROR_INIT;
        csr.ptr[i] ^= 1;
        assert_int_equal(x509_csr_subject(buf_bytes(&csr), &said, &err), -1);
        assert_true(err.code == ERR_DENIED || err.code == ERR_INVALID);
        csr.ptr[i] ^= 1;
        assert_int_equal(x509_csr_subject(bytes_of(csr.ptr, i), &said, NULL), -1);
    }
    assert_int_equal(x509_csr_subject(buf_bytes(&pki.client), &said, NULL), -1); /* PEM */
}

static void only_a_living_client_certificate_of_our_ca_verifies(void **state) {
    struct error err = ERROR_INIT;
    assert_int_equal(x509_verify_client(buf_bytes(&pki.client), buf_bytes(&pki.ca), &err), 0);
    assert_int_equal(x509_verify_client(buf_bytes(&pki.server), buf_bytes(&pki.ca), &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    struct pki other;
    pki_make(&other, "cloud.example", "edge-1");
    assert_int_equal(x509_verify_client(buf_bytes(&other.client), buf_bytes(&pki.ca), &err), -1);
    assert_int_equal(err.code, ERR_DENIED);
    pki_free(&other);
    struct x509_sign sign = {.ca_cert_pem = buf_bytes(&pki.ca),
                             .ca_key_pem = buf_bytes(&pki.ca_key),
                             .not_before = clock_wall_s() - 100,
                             .lifetime_s = 50,
                             .client_auth = true};
    struct x509_subject who = {.common_name = "system:node:edge-1", .organization = "system:nodes"};
    _cleanup_(buf_free) struct buf old = BUF_INIT(8192);
    assert_int_equal(x509_sign_key(&sign, buf_bytes(&pki.client_key), &who, &old, NULL), 0);
    assert_int_equal(x509_verify_client(buf_bytes(&old), buf_bytes(&pki.ca), &err), -1);
    assert_int_equal(err.code, ERR_EXPIRED);
}

static void what_is_no_certificate_or_key_is_refused_in_words(void **state) {
    struct error err = ERROR_INIT;
    struct x509_info info;
    struct buf out = BUF_INIT(100);
    assert_int_equal(x509_cert_info(BYTES_LIT("hello"), &info, &err), -1);
    assert_non_null(strstr(err.msg, "CERTIFICATE"));
    assert_int_equal(x509_cert_info(BYTES_EMPTY, &info, &err), -1);
    assert_int_equal(x509_cert_info(BYTES_LIT("\x30\x82"), &info, &err), -1);
    assert_int_equal(x509_key_pem_to_der(BYTES_LIT("hello"), &out, &err), -1);
    assert_int_equal(x509_key_der_to_pem(BYTES_LIT("hello"), &out, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    buf_free(&out);
}

static void digests_are_right(void **state) {
    unsigned char d[32];
    _cleanup_(buf_free) struct buf hex = BUF_INIT(200);
    sha256(BYTES_LIT("abc"), d);
    assert_int_equal(hex_encode(bytes_of(d, 32), &hex), 0);
    assert_string_equal(hex.ptr, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    buf_clear(&hex);
    hmac_sha256(BYTES_LIT("Jefe"), BYTES_LIT("what do ya want for nothing?"), d);
    assert_int_equal(hex_encode(bytes_of(d, 32), &hex), 0);
    assert_string_equal(hex.ptr, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_true(secret_equal(BYTES_LIT("a"), BYTES_LIT("a")));
    assert_false(secret_equal(BYTES_LIT("a"), BYTES_LIT("b")));
    assert_false(secret_equal(BYTES_LIT("a"), BYTES_LIT("ab")));
    assert_true(secret_equal(BYTES_EMPTY, BYTES_EMPTY));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ca_says_what_the_originals_says),
        cmocka_unit_test(a_server_certificate_carries_addresses_and_names),
        cmocka_unit_test(a_san_cannot_smuggle_in_another),
        cmocka_unit_test(keys_are_sec1_and_survive_der),
        cmocka_unit_test(certificates_survive_der),
        cmocka_unit_test(a_request_becomes_a_certificate_with_the_subject_that_the_signer_chose),
        cmocka_unit_test(a_request_that_was_tampered_with_is_refused),
        cmocka_unit_test(only_a_living_client_certificate_of_our_ca_verifies),
        cmocka_unit_test(what_is_no_certificate_or_key_is_refused_in_words),
        cmocka_unit_test(digests_are_right),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
