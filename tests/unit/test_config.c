#include "base/config.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

struct settings {
    char *server, *token, *taints, *unset;
    bool enable;
    int64_t heartbeat, any, delay_ms;
    struct strlist names, limits;
};

#define AT(member) offsetof(struct settings, member)
static const struct config_key keys[] = {
    {.path = "modules.hub.server",
     .type = CFG_STRING,
     .offset = AT(server),
     .default_value = "127.0.0.1:1",
     .minimal = true},
    {.path = "modules.hub.token", .type = CFG_STRING, .offset = AT(token), .default_value = "\"\""},
    {.path = "modules.hub.enable", .type = CFG_BOOL, .offset = AT(enable), .default_value = "true"},
    {.path = "modules.hub.heartbeat",
     .type = CFG_INT,
     .offset = AT(heartbeat),
     .min = 1,
     .max = 60,
     .default_value = "15"},
    {.path = "modules.hub.any", .type = CFG_INT, .offset = AT(any), .default_value = "-7"},
    {.path = "modules.hub.messageQPS", .type = CFG_IGNORED},
    {.path = "modules.edged.delay", .type = CFG_DURATION_MS, .offset = AT(delay_ms), .default_value = "1m30s"},
    {.path = "modules.edged.names", .type = CFG_STRINGS, .offset = AT(names), .default_value = "[a, b]"},
    {.path = "modules.edged.limits",
     .type = CFG_STRING_MAP,
     .offset = AT(limits),
     .default_value = "{memory.available: 100Mi, nodefs.available: 10%}"},
    {.path = "modules.edged.taints", .type = CFG_JSON, .offset = AT(taints)},
    {.path = "modules.edged.unset", .type = CFG_STRING, .offset = AT(unset)},
    {.path = "modules.eventBus", .type = CFG_IGNORED},
};
static const struct config_schema schema = {"edgecore.config.kubeedge.io/v1alpha2", "EdgeCore", keys, ARRAY_LEN(keys)};

static struct settings loaded(const char *text) {
    struct settings s = {0};
    struct error err = ERROR_INIT;
    if (config_defaults(&schema, &s, &err) < 0 || config_load_text(&schema, bytes_str(text), "f.yaml", &s, &err) < 0)
        fail_msg("%s", err.msg);
    return s;
}

static void assert_refused(const char *text, const char *message) {
    struct settings s = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(config_defaults(&schema, &s, &err), 0);
    assert_int_equal(config_load_text(&schema, bytes_str(text), "f.yaml", &s, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    config_free(&schema, &s);
}

/* What log lines say is part of what a user sees: stderr goes to a pipe while fn runs. */
static char *stderr_of_loading(const char *text) {
    int pipe_fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_fds), 0);
    dup2(pipe_fds[1], STDERR_FILENO);
    struct settings s = loaded(text);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_fds[1]);
    config_free(&schema, &s);
    char *out = xcalloc(1, 4096);
    size_t n = 0;
    for (ssize_t got; n < 4095 && (got = read(pipe_fds[0], out + n, 4095 - n)) > 0;)
        n += (size_t)got;
    close(pipe_fds[0]);
    return out;
}

static void an_empty_file_leaves_the_defaults(void **state) {
    struct settings s = loaded("");
    assert_string_equal(s.server, "127.0.0.1:1");
    assert_string_equal(s.token, "");
    assert_null(s.unset);
    assert_null(s.taints);
    assert_true(s.enable);
    assert_int_equal(s.heartbeat, 15);
    assert_int_equal(s.any, -7);
    assert_int_equal(s.delay_ms, 90000);
    assert_int_equal(s.names.count, 2);
    assert_string_equal(config_map_get(&s.limits, "nodefs.available"), "10%");
    assert_null(config_map_get(&s.limits, "nodefs"));
    config_free(&schema, &s);
}

static void the_file_is_laid_over_the_defaults(void **state) {
    struct settings s = loaded("apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\nmodules:\n"
                               "  hub:\n    server: 10.0.0.1:10000\n    enable: false\n    heartbeat: 60\n"
                               "  edged:\n    delay: 1h0m0.5s\n    names: [c]\n"
                               "    taints:\n    - key: a\n      effect: NoSchedule\n");
    assert_string_equal(s.server, "10.0.0.1:10000");
    assert_false(s.enable);
    assert_int_equal(s.heartbeat, 60);
    assert_int_equal(s.delay_ms, 3600500);
    assert_int_equal(s.names.count, 1);
    assert_string_equal(s.names.items[0], "c");
    assert_string_equal(s.taints, "[{\"key\":\"a\",\"effect\":\"NoSchedule\"}]");
    config_free(&schema, &s);
}

static void maps_are_merged_key_by_key(void **state) {
    struct settings s = loaded("modules: {edged: {limits: {memory.available: 5, x: true, y: null}}}");
    assert_string_equal(config_map_get(&s.limits, "memory.available"), "5");
    assert_string_equal(config_map_get(&s.limits, "nodefs.available"), "10%");
    assert_string_equal(config_map_get(&s.limits, "x"), "true");
    assert_string_equal(config_map_get(&s.limits, "y"), "");
    config_free(&schema, &s);
}

static void key_names_match_in_any_case(void **state) {
    struct settings s = loaded("Modules:\n  HUB:\n    Server: x\n    heartBeat: 3\n");
    assert_string_equal(s.server, "x");
    assert_int_equal(s.heartbeat, 3);
    config_free(&schema, &s);
}

static void null_keeps_the_default(void **state) {
    struct settings s = loaded("modules:\n  hub:\n    server:\n    heartbeat: null\n    enable: ~\n  edged:\n");
    assert_string_equal(s.server, "127.0.0.1:1");
    assert_int_equal(s.heartbeat, 15);
    assert_true(s.enable);
    config_free(&schema, &s);
}

static void the_old_words_for_booleans_are_read(void **state) {
    struct settings s = loaded("modules: {hub: {enable: off}}");
    assert_false(s.enable);
    config_free(&schema, &s);
}

static void wrong_values_are_refused_with_file_line_key_and_what_is_allowed(void **state) {
    assert_refused("modules:\n  hub:\n    heartbeat: soon\n",
                   "f.yaml:3: modules.hub.heartbeat: must be a whole number from 1 to 60, not \"soon\"");
    assert_refused("modules:\n  hub:\n    heartbeat: 61\n", "must be a whole number from 1 to 60, not 61");
    assert_refused("modules:\n  hub:\n    heartbeat: 1.5\n", "f.yaml:3: modules.hub.heartbeat");
    assert_refused("modules:\n  hub:\n    any: 9223372036854775808\n", "must be a whole number, not");
    assert_refused("modules:\n  hub:\n\n    Enable: \"maybe\"\n",
                   "f.yaml:4: modules.hub.enable: must be true or false");
    assert_refused("modules:\n  hub:\n    enable: 1\n", "must be true or false, not 1");
    assert_refused("modules:\n  edged:\n    delay: 10\n", "must be a duration such as 10s, 1m30s or 500ms, not 10");
    assert_refused("modules:\n  edged:\n    delay: -1s\n", "must be a duration");
    assert_refused("modules:\n  edged:\n    names: a\n", "must be a list of strings, not \"a\"");
    assert_refused("modules:\n  edged:\n    names: [a, 1]\n", "must be a list of strings");
    assert_refused("modules:\n  edged:\n    limits: [a]\n", "must be a map");
    assert_refused("modules:\n  edged:\n    limits: {a: [1]}\n", "must be a map");
    assert_refused("modules:\n  hub: 5\n", "f.yaml:2: modules.hub: must be a section");
    assert_refused("- a\n", "f.yaml:1: ");
    assert_refused("kind: CloudCore\n", "f.yaml:1: kind: must be EdgeCore, not CloudCore");
    assert_refused("modules: [\n", "f.yaml:2: ");
}

static void a_wrong_string_is_refused_without_showing_it(void **state) {
    struct settings s = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(config_load_text(&schema, BYTES_LIT("modules: {hub: {token: 12345}}"), "f.yaml", &s, &err), -1);
    assert_non_null(strstr(err.msg, "f.yaml:1: modules.hub.token: must be a string"));
    assert_null(strstr(err.msg, "12345"));
    config_free(&schema, &s);
}

static void unknown_keys_are_warned_about_with_file_and_line(void **state) {
    _cleanup_(free_p) char *log = stderr_of_loading("modules:\n  hub:\n    servr: x\nmodule: {a: 1}\n");
    assert_non_null(strstr(log, "warn  config: f.yaml:3: unknown key modules.hub.servr is ignored"));
    assert_non_null(strstr(log, "f.yaml:4: unknown key module is ignored"));
}

static void keys_without_effect_are_told_once(void **state) {
    _cleanup_(free_p) char *log =
        stderr_of_loading("modules:\n  hub:\n    messageQPS: 30\n  eventBus:\n    mqttMode: 2\n    enable: true\n");
    assert_non_null(strstr(log, "f.yaml: 2 keys have no effect here: modules.hub.messageQPS, modules.eventBus\n"));
    assert_null(strstr(log, "warn"));
}

static void a_missing_file_says_how_to_make_one(void **state) {
    struct settings s = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(config_load(&schema, "/nowhere/x.yaml", &s, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/x.yaml"));
    assert_non_null(strstr(err.msg, "--minconfig"));
}

static void what_is_printed_loads_as_the_same(void **state) {
    struct settings s = loaded("modules: {hub: {token: 'on', any: 5}, edged: {delay: 1h0m0.25s, taints: [{a: 1}]}}");
    struct buf out = BUF_INIT(10000);
    assert_int_equal(config_print(&schema, &s, false, &out), 0);
    assert_string_equal(out.ptr, "apiVersion: edgecore.config.kubeedge.io/v1alpha2\n"
                                 "kind: EdgeCore\n"
                                 "modules:\n"
                                 "  hub:\n"
                                 "    server: \"127.0.0.1:1\"\n"
                                 "    token: \"on\"\n"
                                 "    enable: true\n"
                                 "    heartbeat: 15\n"
                                 "    any: 5\n"
                                 "  edged:\n"
                                 "    delay: 1h0m0.25s\n"
                                 "    names:\n"
                                 "    - a\n"
                                 "    - b\n"
                                 "    limits:\n"
                                 "      memory.available: 100Mi\n"
                                 "      nodefs.available: \"10%\"\n"
                                 "    taints:\n"
                                 "    - a: 1\n");
    struct settings again = loaded(out.ptr);
    struct buf second = BUF_INIT(10000);
    assert_int_equal(config_print(&schema, &again, false, &second), 0);
    assert_string_equal(second.ptr, out.ptr);
    buf_free(&out);
    buf_free(&second);
    config_free(&schema, &s);
    config_free(&schema, &again);
}

static void the_minimum_has_only_the_minimal_keys(void **state) {
    struct settings s = loaded("");
    struct buf out = BUF_INIT(10000);
    assert_int_equal(config_print(&schema, &s, true, &out), 0);
    assert_string_equal(out.ptr, "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n"
                                 "modules:\n  hub:\n    server: \"127.0.0.1:1\"\n");
    buf_free(&out);
    config_free(&schema, &s);
}

static void durations_are_printed_as_go_does(void **state) {
    static const char *const same[] = {"0s", "10s", "1m0s", "1h0m0s", "1.5s", "100ms", "26h3m4.005s"};
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        _cleanup_(free_p) char *text = xasprintf("modules: {edged: {delay: %s}}", same[i]);
        _cleanup_(free_p) char *line = xasprintf("    delay: %s\n", same[i]);
        struct settings s = loaded(text);
        struct buf out = BUF_INIT(10000);
        assert_int_equal(config_print(&schema, &s, false, &out), 0);
        assert_non_null(strstr(out.ptr, line));
        buf_free(&out);
        config_free(&schema, &s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_leaves_the_defaults),
        cmocka_unit_test(the_file_is_laid_over_the_defaults),
        cmocka_unit_test(maps_are_merged_key_by_key),
        cmocka_unit_test(key_names_match_in_any_case),
        cmocka_unit_test(null_keeps_the_default),
        cmocka_unit_test(the_old_words_for_booleans_are_read),
        cmocka_unit_test(wrong_values_are_refused_with_file_line_key_and_what_is_allowed),
        cmocka_unit_test(a_wrong_string_is_refused_without_showing_it),
        cmocka_unit_test(unknown_keys_are_warned_about_with_file_and_line),
        cmocka_unit_test(keys_without_effect_are_told_once),
        cmocka_unit_test(a_missing_file_says_how_to_make_one),
        cmocka_unit_test(what_is_printed_loads_as_the_same),
        cmocka_unit_test(the_minimum_has_only_the_minimal_keys),
        cmocka_unit_test(durations_are_printed_as_go_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
