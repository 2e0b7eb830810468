#include "base/file.h"
#include "base/mem.h"
#include "edge/edge_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct folder {
    char path[64];
    char *config, *bootstrap;
};

static int setup(void **state) {
    struct folder *f = NEW(struct folder);
    (void)snprintf(f->path, sizeof(f->path), "/tmp/selvage-config-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->config = xasprintf("%s/edgecore.yaml", f->path);
    f->bootstrap = xasprintf("%s/bootstrap", f->path);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct folder *f = *state;
    assert_int_equal(dir_remove(f->path, NULL), 0);
    free(f->config);
    free(f->bootstrap);
    free(f);
    return 0;
}

static void write_text(const char *path, const char *text) {
    assert_int_equal(file_write_atomic(path, bytes_str(text), 0640, NULL), 0);
}

static int load(struct folder *f, const char *text, struct edge_config *c, struct error *err) {
    *c = (struct edge_config){0};
    write_text(f->config, text);
    return edge_config_load_from(c, f->config, f->bootstrap, err);
}

static void refused(struct folder *f, const char *text, const char *part) {
    struct edge_config c;
    struct error err = ERROR_INIT;
    assert_int_equal(load(f, text, &c, &err), -1);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, part);
    edge_config_free(&c);
}

static void defaults_are_those_of_the_original(void **state) {
    struct edge_config c;
    struct error err = ERROR_INIT;
    if (load(*state, "kind: EdgeCore\n", &c, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(c.hub.heartbeat_s, 15);
    assert_string_equal(c.hub.project_id, "e632aba927ea4ac2b575ec1603d56f10");
    assert_int_equal(c.edged.status_update_ms, 10000);
    assert_int_equal(c.edged.status_report_ms, 300000);
    assert_string_equal(c.database, "/var/lib/kubeedge/edgecore.db");
    assert_string_equal(config_map_get(&c.edged.eviction_hard, "nodefs.available"), "10%");
    assert_string_equal(c.hub.token, "");
    assert_true(*c.edged.node_name != 0);
    edge_config_free(&c);
}

static void both_printed_forms_can_be_loaded(void **state) {
    struct folder *f = *state;
    for (int minimal = 0; minimal < 2; minimal++) {
        struct edge_config c = {0};
        struct error err = ERROR_INIT;
        struct buf text = BUF_INIT(1 << 20);
        assert_int_equal(edge_config_defaults(&c, &err), 0);
        assert_int_equal(edge_config_print(&c, minimal, &text), 0);
        edge_config_free(&c);
        if (load(f, text.ptr, &c, &err) < 0)
            fail_msg("%s", err.msg);
        edge_config_free(&c);
        buf_free(&text);
    }
}

static void what_cannot_work_is_refused_by_name(void **state) {
    refused(*state, "modules:\n  edged:\n    hostnameOverride: Not_A_Name\n", "hostnameOverride");
    refused(*state, "modules:\n  edged:\n    tailoredKubeletConfig:\n      cgroupDriver: other\n", "cgroupDriver");
    refused(*state, "modules:\n  edgeHub:\n    quic:\n      enable: true\n", "quic");
    refused(*state, "modules:\n  edgeHub:\n    websocket:\n      server: nowhere\n", "host:port");
    refused(*state, "modules:\n  edgeHub:\n    websocket:\n      server: host:70000\n", "host:port");
    refused(*state, "modules:\n  edgeHub:\n    httpServer: http://x\n", "https://");
    refused(*state, "modules:\n  edgeHub:\n    heartbeat: 0\n", "heartbeat");
}

static void an_ipv6_server_is_fine(void **state) {
    struct edge_config c;
    assert_int_equal(load(*state, "modules:\n  edgeHub:\n    websocket:\n      server: \"[::1]:10000\"\n", &c, NULL),
                     0);
    edge_config_free(&c);
}

static void the_bootstrap_file_wins_and_is_removed_with_the_token(void **state) {
    struct folder *f = *state;
    struct edge_config c;
    write_text(f->bootstrap, "  a.b.c.d\n");
    assert_int_equal(load(f, "modules: {edgeHub: {heartbeat: 15}}\n", &c, NULL), 0);
    assert_string_equal(c.hub.token, "a.b.c.d");
    assert_int_equal(edge_config_forget_token(&c, NULL), 0);
    assert_string_equal(c.hub.token, "");
    assert_int_not_equal(access(f->bootstrap, F_OK), 0);
    edge_config_free(&c);
}

static void forget(struct folder *f, const char *before, const char *after) {
    struct edge_config c;
    struct error err = ERROR_INIT;
    struct buf text = BUF_INIT(65536);
    struct stat st;
    assert_int_equal(load(f, before, &c, NULL), 0);
    if (edge_config_forget_token(&c, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(file_read(f->config, &text, NULL), 0);
    assert_string_equal(text.ptr, after);
    assert_int_equal(stat(f->config, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    buf_free(&text);
    edge_config_free(&c);
}

static void only_the_tokens_line_changes(void **state) {
    forget(*state, "# ours\nmodules:\n  edgeHub: # the hub\n    token: a.b.c.d # secret\n    heartbeat: 20 # seconds\n",
           "# ours\nmodules:\n  edgeHub: # the hub\n    token: \"\"\n    heartbeat: 20 # seconds\n");
    forget(*state, "{\"modules\": {\"edgeHub\": {\n \"token\": \"a.b.c.d\",\n \"heartbeat\": 20}}}\n",
           "{\"modules\": {\"edgeHub\": {\n \"token\": \"\",\n \"heartbeat\": 20}}}\n");
}

static void a_token_that_shares_its_line_is_left_and_told(void **state) {
    struct folder *f = *state;
    struct edge_config c;
    struct error err = ERROR_INIT;
    assert_int_equal(load(f, "modules: {edgeHub: {token: a.b.c.d, heartbeat: 20}}\n", &c, NULL), 0);
    assert_int_equal(edge_config_forget_token(&c, &err), -1);
    assert_non_null(strstr(err.msg, "edgecore.yaml"));
    edge_config_free(&c);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(defaults_are_those_of_the_original),
        T(both_printed_forms_can_be_loaded),
        T(what_cannot_work_is_refused_by_name),
        T(an_ipv6_server_is_fine),
        T(the_bootstrap_file_wins_and_is_removed_with_the_token),
        T(only_the_tokens_line_changes),
        T(a_token_that_shares_its_line_is_left_and_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
