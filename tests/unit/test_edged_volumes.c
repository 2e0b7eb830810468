#include "base/file.h"
#include "edge/edged/crash_backoff.h"
#include "edge/edged/images.h"
#include "edge/edged/volume_plan.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/edged-volumes-XXXXXX";

static int make_folder(void **state) {
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    return dir_remove(folder, NULL);
}

static char *read_path(const char *name) {
    _cleanup_(free_p) char *path = xasprintf("%s/%s", folder, name);
    struct buf b = BUF_INIT(65536);
    if (file_read(path, &b, NULL) < 0) {
        buf_free(&b);
        return NULL;
    }
    return buf_take(&b, NULL);
}

static void assert_content(const char *name, const char *want) {
    _cleanup_(free_p) char *text = read_path(name);
    if (!want)
        assert_null(text);
    else {
        assert_non_null(text);
        assert_string_equal(text, want);
    }
}

static struct volume_file file_of(const char *path, const char *data) {
    return (struct volume_file){.path = (char *)path, .data = (char *)data, .len = strlen(data), .mode = 0640};
}

static void files_are_swapped_together_and_stale_ones_go(void **state) {
    struct error err = ERROR_INIT;
    char before[256], after[256];
    _cleanup_(free_p) char *link = xasprintf("%s/..data", folder);
    struct volume_file first[] = {file_of("a", "1"), file_of("deep/er/b", "2"), file_of("gone", "3")};
    assert_int_equal(atomic_write(folder, first, 3, -1, &err), 0);
    assert_content("a", "1");
    assert_content("deep/er/b", "2");
    struct stat st;
    _cleanup_(free_p) char *a = xasprintf("%s/a", folder);
    assert_int_equal(stat(a, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    ssize_t n = readlink(link, before, sizeof(before) - 1);
    assert_true(n > 0);

    assert_int_equal(atomic_write(folder, first, 3, -1, &err), 0); /* nothing new: nothing done */
    assert_int_equal(readlink(link, after, sizeof(after) - 1), n);
    assert_memory_equal(before, after, (size_t)n);

    struct volume_file second[] = {file_of("a", "new"), file_of("deep/er/b", "2")};
    assert_int_equal(atomic_write(folder, second, 2, -1, &err), 0);
    assert_content("a", "new");
    assert_content("gone", NULL);
    _cleanup_(free_p) char *old = xasprintf("%s/%.*s", folder, (int)n, before);
    assert_int_not_equal(access(old, F_OK), 0);
}

static void paths_that_lead_out_are_refused(void **state) {
    const char *const bad[] = {"", "/a", "..", "../a", "a/../b", "a//b", "a/.", "..data", "a/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(volume_path_valid(bad[i]));
    assert_true(volume_path_valid("a"));
    assert_true(volume_path_valid("a/b..c/.d"));
}

static struct pod *make_pod(const char *volumes) {
    _cleanup_(free_p) char *text = xasprintf(
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u\"},\"spec\":{\"containers\":[{\"name\":"
        "\"c\"}],\"imagePullSecrets\":[{\"name\":\"pull\"}],\"volumes\":%s}}",
        volumes);
    yyjson_doc *doc = json_parse(bytes_str(text), 1 << 20, NULL);
    struct pod *p = pod_new(yyjson_doc_get_root(doc), NULL);
    yyjson_doc_free(doc);
    assert_non_null(p);
    return p;
}

static void add_object(struct object_set *s, enum object_kind kind, const char *name, const char *json) {
    struct object_entry *e = object_set_want(s, kind, name);
    e->doc = json ? json_parse(bytes_str(json), 1 << 20, NULL) : NULL;
    e->obj = yyjson_doc_get_root(e->doc);
    if (!json)
        error_set(&e->error, ERR_NOT_FOUND, "secret \"%s\" not found", name);
}

static struct volume_plan *plan(struct pod *p, const struct object_set *s, struct error *err) {
    static const struct strlist none;
    static const struct pod_node node;
    struct field_context c = {.pod = p, .node = &node, .pod_ips = &none};
    return volume_plan_new(&c, s, "/pods/u", err);
}

static void items_choose_keys_and_modes(void **state) {
    struct pod *p =
        make_pod("[{\"name\":\"v\",\"configMap\":{\"name\":\"cm\",\"defaultMode\":256,\"items\":[{\"key\":\"a\","
                 "\"path\":\"x/y\"},{\"key\":\"bin\",\"path\":\"z\",\"mode\":511}]}}]");
    struct object_set *s = NEW(struct object_set);
    add_object(s, OBJ_CONFIGMAP, "cm", "{\"data\":{\"a\":\"1\",\"b\":\"2\"},\"binaryData\":{\"bin\":\"AAE=\"}}");
    struct volume_plan *v = plan(p, s, NULL);
    assert_non_null(v);
    assert_int_equal(v->volumes[0].n_files, 2);
    assert_string_equal(v->volumes[0].files[0].path, "x/y");
    assert_int_equal(v->volumes[0].files[0].mode, 0400);
    assert_int_equal(v->volumes[0].files[1].mode, 0777);
    assert_int_equal(v->volumes[0].files[1].len, 2);
    assert_string_equal(v->volumes[0].path, "/pods/u/volumes/kubernetes.io~configmap/v");
    volume_plan_free(v);
    object_set_free(s);
    pod_free(p);
}

static void a_missing_secret_stops_the_pod_unless_optional(void **state) {
    struct error err = ERROR_INIT;
    struct object_set *s = NEW(struct object_set);
    add_object(s, OBJ_SECRET, "sec", NULL);
    struct pod *p = make_pod("[{\"name\":\"v\",\"secret\":{\"secretName\":\"sec\"}}]");
    assert_null(plan(p, s, &err));
    assert_string_equal(err.msg, "volume \"v\": secret \"sec\" not found");
    pod_free(p);
    p = make_pod("[{\"name\":\"v\",\"secret\":{\"secretName\":\"sec\",\"optional\":true}}]");
    struct volume_plan *v = plan(p, s, &err);
    assert_non_null(v);
    assert_int_equal(v->volumes[0].n_files, 0);
    assert_true(v->volumes[0].in_memory);
    volume_plan_free(v);
    object_set_free(s);
    pod_free(p);
}

static void a_group_that_would_be_cut_to_another_is_refused(void **state) {
    struct error err = ERROR_INIT;
    struct pod *p = make_pod("[],\"securityContext\":{\"fsGroup\":4294967296}");
    assert_null(plan(p, NULL, &err));
    assert_non_null(strstr(err.msg, "fsGroup"));
    pod_free(p);
}

static void image_names_are_checked_and_policies_defaulted(void **state) {
    const char *const good[] = {"busybox",
                                "busybox:1.36",
                                "docker.io/a/b:c",
                                "localhost/x:y",
                                "10.0.0.1:5000/a",
                                "a/b@sha256:0123456789abcdef0123456789abcdef",
                                "registry:5000/a-b_c.d/e:V1"};
    const char *const bad[] = {"", "UPPER", "a b", ":x", "a:", "a//b", "/a", "a/", "a@sha256:xyz", "a:b:c", "-a"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!image_name_valid(good[i]))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (image_name_valid(bad[i]))
            fail_msg("%s", bad[i]);
    const char *const policies[][2] = {{"a", "Always"},
                                       {"a:latest", "Always"},
                                       {"a:1", "IfNotPresent"},
                                       {"r:5000/a", "Always"},
                                       {"a@sha256:0", "IfNotPresent"}};
    for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
        _cleanup_(free_p) char *json = xasprintf("{\"image\":\"%s\"}", policies[i][0]);
        yyjson_doc *doc = json_parse(bytes_str(json), 1000, NULL);
        assert_string_equal(image_pull_policy(yyjson_doc_get_root(doc)), policies[i][1]);
        yyjson_doc_free(doc);
    }
}

static void credentials_are_found_by_registry(void **state) {
    struct pod *p = make_pod("[]");
    struct object_set *s = NEW(struct object_set);
    _cleanup_(buf_free) struct buf config = BUF_INIT(4096), secret = BUF_INIT(4096);
    base64_encode(BYTES_LIT("{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwOnc=\"},"
                            "\"r.example:5000\":{\"username\":\"a\",\"password\":\"b\"}}}"),
                  &config);
    buf_addf(&secret, "{\"data\":{\".dockerconfigjson\":\"%s\"}}", config.ptr);
    add_object(s, OBJ_SECRET, "pull", secret.ptr);
    Cri__AuthConfig **hub = image_credentials(p, s, "busybox");
    assert_non_null(hub);
    assert_string_equal(hub[0]->username, "u");
    assert_string_equal(hub[0]->password, "p:w");
    Cri__AuthConfig **own = image_credentials(p, s, "r.example:5000/x:1");
    assert_string_equal(own[0]->username, "a");
    assert_null(own[1]);
    assert_null(image_credentials(p, s, "other.example/x"));
    image_credentials_free(hub);
    image_credentials_free(own);
    object_set_free(s);
    pod_free(p);
}

static void restarts_wait_longer_each_time_until_it_was_quiet(void **state) {
    struct crash_backoff b = {0};
    int64_t t = 1000000, want[] = {10, 20, 40, 80, 160, 300, 300};
    assert_int_equal(crash_backoff_remaining(&b, t, t), 0); /* the first restart is at once */
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        crash_backoff_next(&b, t);
        assert_int_equal(b.delay_ms, want[i] * 1000);
        t += 1000;
        assert_int_equal(crash_backoff_remaining(&b, t, t + 500), b.delay_ms - 500);
        assert_int_equal(crash_backoff_remaining(&b, t, t + b.delay_ms), 0);
        t += b.delay_ms;
    }
    t += 700000;
    assert_int_equal(crash_backoff_remaining(&b, t, t), 0);
    crash_backoff_next(&b, t);
    assert_int_equal(b.delay_ms, 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_swapped_together_and_stale_ones_go),
        cmocka_unit_test(paths_that_lead_out_are_refused),
        cmocka_unit_test(items_choose_keys_and_modes),
        cmocka_unit_test(a_missing_secret_stops_the_pod_unless_optional),
        cmocka_unit_test(a_group_that_would_be_cut_to_another_is_refused),
        cmocka_unit_test(image_names_are_checked_and_policies_defaulted),
        cmocka_unit_test(credentials_are_found_by_registry),
        cmocka_unit_test(restarts_wait_longer_each_time_until_it_was_quiet),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
