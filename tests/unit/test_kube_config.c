/* Kubeconfigs: what is read from them, and what is refused with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "kube/client.h"

#include <unistd.h>

static char folder[64];

static void put(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_write_atomic(path, bytes_str(text), 0600, NULL), 0);
}

static int setup(void **state) {
    snprintf(folder, sizeof folder, "/tmp/selvage-kube-%d", (int)getpid());
    assert_int_equal(dir_make(folder, 0700, NULL), 0);
    put("ca.crt", "the CA");
    put("client.crt", "the certificate");
    put("client.key", "the key");
    put("token", "secret\n");
    put("namespace", "kubeedge");
    return 0;
}
static int teardown(void **state) {
    return dir_remove(folder, NULL);
}

/* A kubeconfig with the given lines in its cluster and its user. */
static int load(const char *cluster, const char *user, struct kube_config *out, struct error *err) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(65536);
    buf_addf(&text,
             "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
             "contexts:\n- name: other\n  context: {cluster: none, user: none}\n"
             "- name: here\n  context: {cluster: c1, user: u1, namespace: edge}\n"
             "clusters:\n- name: c1\n  cluster: {%s}\nusers:\n- name: u1\n  user: {%s}\n",
             cluster, user);
    put("config", text.ptr);
    char path[128];
    snprintf(path, sizeof path, "%s/config", folder);
    return kube_config_load(path, out, err);
}

static void files_are_relative_to_the_kubeconfig(void **state) {
    struct kube_config c;
    struct error err = ERROR_INIT;
    assert_int_equal(load("server: 'https://10.0.0.1:6443/prefix/', certificate-authority: ca.crt",
                          "client-certificate: client.crt, client-key: client.key", &c, &err),
                     0);
    assert_string_equal(c.server, "https://10.0.0.1:6443/prefix");
    assert_string_equal(c.ca_pem.ptr, "the CA");
    assert_string_equal(c.cert_pem.ptr, "the certificate");
    assert_string_equal(c.key_pem.ptr, "the key");
    assert_string_equal(c.namespace_, "edge");
    assert_null(c.token);
    kube_config_free(&c);
}

static void data_goes_before_files(void **state) {
    struct kube_config c;
    assert_int_equal(
        load("server: 'https://x:6443', certificate-authority-data: aW5saW5l, certificate-authority: no-file",
             "token: abc", &c, NULL),
        0);
    assert_string_equal(c.ca_pem.ptr, "inline");
    assert_string_equal(c.token, "abc");
    kube_config_free(&c);
}

static void a_token_file_goes_before_a_token(void **state) {
    struct kube_config c;
    assert_int_equal(load("server: 'https://x:6443'", "token: abc, tokenFile: token", &c, NULL), 0);
    assert_null(c.token);
    assert_true(str_ends_with(c.token_file, "/token"));
    assert_true(c.token_file[0] == '/');
    kube_config_free(&c);
}

static void refused(const char *cluster, const char *user, enum error_code code, const char *says) {
    struct kube_config c;
    struct error err = ERROR_INIT;
    assert_int_equal(load(cluster, user, &c, &err), -1);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, says))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, says);
}

static void what_is_not_offered_is_refused_with_a_way_out(void **state) {
    const char *tls = "server: 'https://x:6443'";
    refused(tls, "exec: {command: aws}", ERR_UNSUPPORTED, "use a client certificate");
    refused(tls, "auth-provider: {name: gcp}", ERR_UNSUPPORTED, "auth-provider");
    refused(tls, "username: a, password: b", ERR_UNSUPPORTED, "username");
    refused("server: 'https://x', insecure-skip-tls-verify: true", "token: a", ERR_UNSUPPORTED,
            "certificate-authority");
    refused("server: 'http://x:8080'", "token: a", ERR_UNSUPPORTED, "TLS");
    refused("server: 'https://x', tls-server-name: y", "token: a", ERR_UNSUPPORTED, "tls-server-name");
}

static void what_is_wrong_is_named(void **state) {
    const char *tls = "server: 'https://x:6443'";
    refused("server: x", "token: a", ERR_INVALID, "server \"x\"");
    refused("certificate-authority: ca.crt", "token: a", ERR_INVALID, "no server");
    refused("server: 'https://x', certificate-authority: missing.crt", "token: a", ERR_NOT_FOUND, "missing.crt");
    refused("server: 'https://x', certificate-authority-data: '*'", "token: a", ERR_INVALID,
            "certificate-authority-data");
    refused(tls, "client-certificate: client.crt", ERR_INVALID, "go together");
    struct kube_config c;
    struct error err = ERROR_INIT;
    assert_int_equal(kube_config_parse(BYTES_LIT("current-context: x\ncontexts: 7\n"), "f", ".", &c, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(kube_config_parse(BYTES_LIT("kind: Pod"), "f", ".", &c, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(kube_config_parse(BYTES_LIT("- just\n- a list\n"), "f", ".", &c, &err), -1);
    assert_int_equal(kube_config_load("/no/such/kubeconfig", &c, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void a_service_account_gives_a_configuration(void **state) {
    struct kube_config c;
    struct error err = ERROR_INIT;
    assert_int_equal(kube_config_service_account(folder, "fd00::1", "443", &c, &err), 0);
    assert_string_equal(c.server, "https://[fd00::1]:443");
    assert_string_equal(c.namespace_, "kubeedge");
    assert_string_equal(c.ca_pem.ptr, "the CA");
    assert_true(str_ends_with(c.token_file, "/token"));
    kube_config_free(&c);
    assert_int_equal(kube_config_service_account(folder, NULL, NULL, &c, &err), -1);
    assert_non_null(strstr(err.msg, "not in a cluster"));
    assert_int_equal(kube_config_service_account("/no/such/folder", "10.0.0.1", "443", &c, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_relative_to_the_kubeconfig),
        cmocka_unit_test(data_goes_before_files),
        cmocka_unit_test(a_token_file_goes_before_a_token),
        cmocka_unit_test(what_is_not_offered_is_refused_with_a_way_out),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_service_account_gives_a_configuration),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
