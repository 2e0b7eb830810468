#include "edge/edged/env.h"
#include "edge/edged/pod_config.h"
#include "edge/edged/pod_worker.h"
#include "edge/edged/resources.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct pod *make_pod(const char *spec) {
    _cleanup_(free_p) char *text = xasprintf(
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u-1\",\"labels\":{\"b\":\"2\",\"a\":\"1\"},"
        "\"annotations\":{\"note\":\"x\\ny\"}},\"spec\":%s}",
        spec);
    struct error err = ERROR_INIT;
    yyjson_doc *doc = json_parse(bytes_str(text), 1 << 20, &err);
    assert_non_null(doc);
    struct pod *p = pod_new(yyjson_doc_get_root(doc), &err);
    yyjson_doc_free(doc);
    if (!p)
        fail_msg("%s", err.msg);
    return p;
}

static yyjson_val *first(struct pod *p) {
    return yyjson_arr_get_first(yyjson_obj_get(p->spec, "containers"));
}

static void add_object(struct object_set *s, enum object_kind kind, const char *name, const char *json) {
    struct object_entry *e = object_set_want(s, kind, name);
    if (!json) {
        error_set(&e->error, ERR_NOT_FOUND, "configmap \"%s\" not found", name);
        return;
    }
    e->doc = json_parse(bytes_str(json), 1 << 20, NULL);
    e->obj = yyjson_doc_get_root(e->doc);
}

static void references_are_expanded_and_dollars_escaped(void **state) {
    _cleanup_(env_free) struct env e = {0};
    env_set(&e, "A", "1");
    const char *const cases[][2] = {{"$(A)", "1"}, {"$$(A)", "$(A)"}, {"$(B)", "$(B)"},   {"x$(A", "x$(A"}, {"$", "$"},
                                    {"$$", "$"},   {"$A", "$A"},      {"$(A)$(A)", "11"}, {"$()", "$()"},   {"", ""}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(free_p) char *out = env_expand(&e, cases[i][0]);
        assert_string_equal(out, cases[i][1]);
    }
}

static int build(struct pod *p, const struct object_set *objects, struct env *out, struct error *err) {
    struct strlist ips = {0};
    strlist_add(&ips, "10.0.0.1");
    strlist_add(&ips, "fd00::1");
    struct pod_node node = {.node_name = "edge-1", .cpu_milli = 4000, .memory = 1 << 30};
    struct field_context c = {.pod = p, .node = &node, .pod_ips = &ips};
    int rc = env_build(&c, first(p), objects, out, err);
    strlist_free(&ips);
    return rc;
}

static void values_come_from_fields_resources_and_objects(void **state) {
    struct pod *p = make_pod(
        "{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"memory\":\"64Mi\"}},"
        "\"envFrom\":[{\"prefix\":\"X_\",\"configMapRef\":{\"name\":\"cm\"}}],\"env\":["
        "{\"name\":\"UID\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.uid\"}}},"
        "{\"name\":\"L\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['b']\"}}},"
        "{\"name\":\"IPS\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIPs\"}}},"
        "{\"name\":\"MEM\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.memory\",\"divisor\":\"1Mi\"}}},"
        "{\"name\":\"CPU\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.cpu\"}}},"
        "{\"name\":\"S\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\",\"key\":\"k\"}}},"
        "{\"name\":\"BOTH\",\"value\":\"$(S)/$(X_a)\"}]}]}");
    struct object_set *set = object_set_of_pod(p);
    assert_int_equal(HASH_COUNT(set->items), 2);
    object_set_free(set);
    set = NEW(struct object_set);
    add_object(set, OBJ_CONFIGMAP, "cm", "{\"data\":{\"a\":\"b\"}}");
    add_object(set, OBJ_SECRET, "s", "{\"data\":{\"k\":\"c2VjcmV0\"}}");
    _cleanup_(env_free) struct env e = {0};
    struct error err = ERROR_INIT;
    if (build(p, set, &e, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(env_get(&e, "X_a"), "b");
    assert_string_equal(env_get(&e, "UID"), "u-1");
    assert_string_equal(env_get(&e, "L"), "2");
    assert_string_equal(env_get(&e, "IPS"), "10.0.0.1,fd00::1");
    assert_string_equal(env_get(&e, "MEM"), "64");
    assert_string_equal(env_get(&e, "CPU"), "4"); /* no limit: the node's */
    assert_string_equal(env_get(&e, "BOTH"), "secret/b");
    object_set_free(set);
    pod_free(p);
}

/* A variable of 64 KiB, made by doubling, and `n` references to it: a small pod that asks for n times as much. */
static struct pod *growing_pod(size_t n) {
    _cleanup_(buf_free) struct buf spec = BUF_INIT(1 << 20);
    buf_add_str(&spec, "{\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"A0\",\"value\":\"xxxxxxxxxxxxxxxx\"}");
    for (size_t i = 1; i <= 12; i++)
        buf_addf(&spec, ",{\"name\":\"A%zu\",\"value\":\"$(A%zu)$(A%zu)\"}", i, i - 1, i - 1);
    for (size_t i = 0; i < n; i++)
        buf_addf(&spec, ",{\"name\":\"B%zu\",\"value\":\"$(A12)\"}", i);
    buf_add_str(&spec, "]}]}");
    return make_pod(spec.ptr);
}

static void an_environment_that_grows_by_references_is_refused(void **state) {
    struct pod *small = growing_pod(4), *large = growing_pod(1000);
    _cleanup_(env_free) struct env fits = {0}, grown = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(build(small, NULL, &fits, &err), 0);
    assert_int_equal(strlen(env_get(&fits, "B3")), 64 << 10);
    assert_int_equal(build(large, NULL, &grown, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_true(grown.count < 100); /* refused on the way, not after all of it was made */
    pod_free(small);
    pod_free(large);
}

/* Of a pod with the variable A, so many bytes long. */
static Cri__ContainerConfig *configure(size_t bytes, const char *more, struct error *err) {
    _cleanup_(free_p) char *value = xcalloc(1, bytes + 1);
    memset(value, 'a', bytes);
    _cleanup_(free_p) char *spec =
        xasprintf("{\"volumes\":[{\"name\":\"v\",\"emptyDir\":{}}],\"containers\":[{\"name\":"
                  "\"c\",\"env\":[{\"name\":\"A\",\"value\":\"%s\"}],%s}]}",
                  value, more);
    struct pod *p = make_pod(spec);
    struct strlist ips = {0};
    struct pod_node node = {.node_name = "edge-1", .cpu_milli = 4000, .memory = 1 << 30};
    struct resource_policy policy = {.node_memory_bytes = 1 << 30};
    struct image_facts image = {.image_ref = "sha256:1", .uid = -1};
    struct pod_config_context c = {
        .field = {.pod = p, .node = &node, .pod_ips = &ips}, .resources = &policy, .pod_dir = "/p", .logs_dir = "/l"};
    struct container_config_input in = {.container = first(p), .image = &image, .sub_path_dir = "/s"};
    Cri__ContainerConfig *cc = container_config(&c, &in, err);
    pod_free(p);
    return cc;
}

static void arguments_that_grow_by_references_are_refused(void **state) {
    struct error err = ERROR_INIT;
    Cri__ContainerConfig *cc = configure(64 << 10, "\"args\":[\"$(A)\",\"$(A)$(A)\"]", &err);
    assert_non_null(cc);
    assert_int_equal(strlen(cc->args[1]), 128 << 10);
    CRI_FREE(cc);
    _cleanup_(buf_free) struct buf args = BUF_INIT(1 << 16);
    buf_add_str(&args, "\"args\":[\"x\"");
    for (int i = 0; i < 1000; i++)
        buf_add_str(&args, ",\"$(A)\"");
    buf_add_str(&args, "]");
    assert_null(configure(64 << 10, args.ptr, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static void references_that_do_not_close_cost_no_time(void **state) {
    _cleanup_(env_free) struct env e = {0};
    size_t n = 1 << 20;
    _cleanup_(free_p) char *text = xcalloc(1, n + 1);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? '(' : '$';
    _cleanup_(free_p) char *out = env_expand(&e, text);
    assert_string_equal(out, text);
}

static void a_sub_path_made_by_references_is_checked(void **state) {
    struct error err = ERROR_INIT;
    static const char mount[] = "\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/d\",\"subPathExpr\":\"%s$(A)\"}]";
    static const struct {
        size_t bytes;
        const char *before;
        bool ok;
    } cases[] = {{5, "x/", true}, {300, "", false}, {64 << 10, "", false}, {5, "../", false}, {5, "/", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char more[200];
        snprintf(more, sizeof(more), mount, cases[i].before);
        Cri__ContainerConfig *cc = configure(cases[i].bytes, more, &err);
        assert_int_equal(cc != NULL, cases[i].ok);
        if (cc)
            CRI_FREE(cc);
    }
}

static void a_hooks_url_carries_no_more_than_a_path(void **state) {
    static const char *const cases[][3] = {
        {"10.0.0.1", "/a?b=c", "http://10.0.0.1:80/a?b=c"},
        {"fd00::1", "x", "http://[fd00::1]:80/x"},
        {"h.example", "/a\r\nEvil: 1 \x7f", "http://h.example:80/a%0D%0AEvil:%201%20%7F"},
        {"h\r\nEvil", "/", NULL},
        {"user@h", "/", NULL},
        {"h/x", "/", NULL},
        {"", "/", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(free_p) char *url = hook_url("http", cases[i][0], 80, cases[i][1]);
        if (!cases[i][2])
            assert_null(url);
        else
            assert_string_equal(url, cases[i][2]);
    }
    assert_null(hook_url("https", "h", 0, "/"));
    assert_null(hook_url("https", "h", 70000, "/"));
}

static void a_missing_key_or_object_is_an_error_unless_optional(void **state) {
    struct pod *p =
        make_pod("{\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"A\",\"valueFrom\":{\"configMapKeyRef\":"
                 "{\"name\":\"cm\",\"key\":\"k\"}}}]}]}");
    struct pod *optional = make_pod("{\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"A\",\"valueFrom\":{"
                                    "\"configMapKeyRef\":{\"name\":\"cm\",\"key\":\"k\",\"optional\":true}}}]}]}");
    struct object_set *absent = NEW(struct object_set), *empty = NEW(struct object_set);
    add_object(absent, OBJ_CONFIGMAP, "cm", NULL);
    add_object(empty, OBJ_CONFIGMAP, "cm", "{\"data\":{}}");
    _cleanup_(env_free) struct env e = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(build(p, absent, &e, &err), -1);
    assert_string_equal(err.msg, "configmap \"cm\" not found");
    assert_int_equal(build(p, empty, &e, &err), -1);
    assert_string_equal(err.msg, "couldn't find key k in ConfigMap ns/cm");
    assert_int_equal(build(optional, absent, &e, &err), 0);
    assert_int_equal(build(optional, empty, &e, &err), 0);
    assert_null(env_get(&e, "A"));
    object_set_free(absent);
    object_set_free(empty);
    pod_free(p);
    pod_free(optional);
}

static void labels_read_as_sorted_quoted_lines(void **state) {
    struct pod *p = make_pod("{\"containers\":[{\"name\":\"c\"}]}");
    struct strlist ips = {0};
    struct pod_node node = {0};
    struct field_context c = {.pod = p, .node = &node, .pod_ips = &ips};
    _cleanup_(buf_free) struct buf out = BUF_INIT(1000);
    assert_int_equal(field_ref_value(&c, "metadata.labels", &out, NULL), 0);
    assert_string_equal(out.ptr, "a=\"1\"\nb=\"2\"");
    buf_clear(&out);
    assert_int_equal(field_ref_value(&c, "metadata.annotations", &out, NULL), 0);
    assert_string_equal(out.ptr, "note=\"x\\ny\"");
    assert_int_equal(field_ref_value(&c, "metadata.labels['", &out, NULL), -1);
    assert_int_equal(field_ref_value(&c, "spec.secret", &out, NULL), -1);
    pod_free(p);
}

static enum pod_qos qos_of(const char *resources) {
    _cleanup_(free_p) char *spec = xasprintf("{\"containers\":[{\"name\":\"c\",\"resources\":%s}]}", resources);
    struct pod *p = make_pod(spec);
    enum pod_qos q = pod_qos(p);
    pod_free(p);
    return q;
}

static void quality_of_service_follows_requests_and_limits(void **state) {
    assert_int_equal(qos_of("{}"), QOS_BEST_EFFORT);
    assert_int_equal(qos_of("{\"requests\":{\"cpu\":\"0\"}}"), QOS_BEST_EFFORT);
    assert_int_equal(qos_of("{\"requests\":{\"cpu\":\"1m\"}}"), QOS_BURSTABLE);
    assert_int_equal(qos_of("{\"limits\":{\"cpu\":\"1\",\"memory\":\"1Gi\"}}"), QOS_GUARANTEED);
    assert_int_equal(qos_of("{\"limits\":{\"cpu\":\"1\",\"memory\":\"1Gi\"},\"requests\":{\"cpu\":\"0.5\"}}"),
                     QOS_BURSTABLE);
    assert_int_equal(qos_of("{\"limits\":{\"cpu\":\"1\"}}"), QOS_BURSTABLE);
}

static void resources_become_shares_quota_and_scores(void **state) {
    struct pod *p =
        make_pod("{\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"250m\",\"memory\":"
                 "\"256Mi\"},\"limits\":{\"cpu\":\"1500m\",\"memory\":\"1Gi\"}}},{\"name\":\"d\"}]}");
    struct resource_policy policy = {.cpu_quota = true, .cpu_period_us = 100000, .node_memory_bytes = 1LL << 30};
    struct linux_resources r;
    container_resources(p, first(p), &policy, &r);
    assert_int_equal(r.cpu_shares, 256);
    assert_int_equal(r.cpu_quota_us, 150000);
    assert_int_equal(r.memory_bytes, 1LL << 30);
    assert_int_equal(r.oom_score_adj, 750);
    container_resources(p, first(p) + 0, &policy, &r);
    pod_resources(p, &policy, &r);
    assert_int_equal(r.cpu_shares, 256);
    assert_int_equal(r.cpu_quota_us, 0); /* one of them has no limit */
    assert_int_equal(r.memory_bytes, 0);
    assert_int_equal(cpu_shares_of(0), 2);
    assert_int_equal(cpu_quota_of(1, 100000), 1000);
    assert_int_equal(cpu_weight_of(1024), 39);
    assert_int_equal(cpu_weight_of(2), 1);
    assert_int_equal(cpu_weight_of(262144), 10000);
    pod_free(p);
}

static void what_is_not_offered_is_named(void **state) {
    const char *const cases[][2] = {
        {"{\"runtimeClassName\":\"kata\",\"containers\":[{\"name\":\"c\"}]}", "spec.runtimeClassName"},
        {"{\"volumes\":[{\"name\":\"v\",\"nfs\":{\"path\":\"/\"}}],\"containers\":[{\"name\":\"c\"}]}",
         "spec.volumes[0].nfs"},
        {"{\"containers\":[{\"name\":\"c\",\"resources\":{\"limits\":{\"nvidia.com/gpu\":1}}}]}", "nvidia.com/gpu"},
        {"{\"containers\":[{\"name\":\"c\"}],\"securityContext\":{\"sysctls\":[{\"name\":\"kernel.msgmax\"}]}}",
         "kernel.msgmax"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pod *p = make_pod(cases[i][0]);
        struct error err = ERROR_INIT;
        assert_int_equal(pod_check_supported(p, &err), -1);
        assert_non_null(strstr(err.msg, cases[i][1]));
        pod_free(p);
    }
    struct pod *p = make_pod("{\"containers\":[{\"name\":\"c\"}],\"runtimeClassName\":null,\"volumes\":[]}");
    assert_int_equal(pod_check_supported(p, NULL), 0);
    pod_free(p);
}

static void names_that_would_leave_their_folder_are_refused(void **state) {
    const char *const bad[] = {
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"../"
        "x\"},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}",
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"\"},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}",
        "{\"metadata\":{\"name\":\"p/"
        "q\",\"namespace\":\"n\",\"uid\":\"u\"},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}",
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\"},\"spec\":{\"containers\":[{\"name\":\"../"
        "c\"}]}}",
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\"},\"spec\":{\"containers\":[]}}",
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\"}}",
        "[]",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        yyjson_doc *doc = json_parse(bytes_str(bad[i]), 1 << 20, NULL);
        assert_null(pod_new(yyjson_doc_get_root(doc), NULL));
        yyjson_doc_free(doc);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_expanded_and_dollars_escaped),
        cmocka_unit_test(values_come_from_fields_resources_and_objects),
        cmocka_unit_test(an_environment_that_grows_by_references_is_refused),
        cmocka_unit_test(arguments_that_grow_by_references_are_refused),
        cmocka_unit_test(references_that_do_not_close_cost_no_time),
        cmocka_unit_test(a_sub_path_made_by_references_is_checked),
        cmocka_unit_test(a_hooks_url_carries_no_more_than_a_path),
        cmocka_unit_test(a_missing_key_or_object_is_an_error_unless_optional),
        cmocka_unit_test(labels_read_as_sorted_quoted_lines),
        cmocka_unit_test(quality_of_service_follows_requests_and_limits),
        cmocka_unit_test(resources_become_shares_quota_and_scores),
        cmocka_unit_test(what_is_not_offered_is_named),
        cmocka_unit_test(names_that_would_leave_their_folder_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
