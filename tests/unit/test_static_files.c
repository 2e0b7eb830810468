#include "base/file.h"
#include "edge/edged/static_files.h"
#include "kube/object.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#define POD                                                     \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n" \
    "  containers: [{name: c, image: busybox}]\n"

static struct pod *parse(const char *text, struct error *err) {
    return static_pod_parse(bytes_str(text), "web.yaml", "edge-1", err);
}

static void a_file_becomes_a_pod_of_this_node(void **state) {
    struct pod *p = parse(POD, NULL);
    assert_non_null(p);
    assert_string_equal(p->name, "web-edge-1");
    assert_string_equal(p->ns, "default");
    assert_true(p->is_static);
    assert_string_equal(json_str(p->spec, "nodeName"), "edge-1");
    assert_string_equal(object_annotation(p->obj, "kubernetes.io/config.source"), "file");
    assert_string_equal(object_annotation(p->obj, "kubernetes.io/config.hash"), p->uid);
    assert_int_equal(strlen(p->uid), 32);
    pod_free(p);
}

static void the_uid_follows_content_and_node(void **state) {
    struct pod *a = parse(POD, NULL), *same = parse(POD, NULL), *changed = parse(POD "  hostNetwork: true\n", NULL);
    struct pod *elsewhere = static_pod_parse(bytes_str(POD), "web.yaml", "edge-2", NULL);
    assert_string_equal(a->uid, same->uid);
    assert_string_not_equal(a->uid, changed->uid);
    assert_string_not_equal(a->uid, elsewhere->uid);
    pod_free(a);
    pod_free(same);
    pod_free(changed);
    pod_free(elsewhere);
}

static void what_is_no_pod_is_refused_with_the_files_name(void **state) {
    static const char *const texts[] = {"",
                                        "kind: Pod\n",
                                        "apiVersion: v1\nkind: List\nitems: []\n",
                                        "{",
                                        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {}\n",
                                        "apiVersion: v1\nkind: Pod\nmetadata: 3\nspec: 4\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct error err = ERROR_INIT;
        assert_null(parse(texts[i], &err));
        assert_non_null(strstr(error_text(&err), "web.yaml"));
    }
}

static void a_folder_is_read_but_not_what_is_hidden_or_no_file(void **state) {
    char dir[] = "/tmp/selvage-static-XXXXXX";
    assert_non_null(mkdtemp(dir));
    static const struct {
        const char *name, *text;
    } files[] = {{"web.yaml", POD}, {"bad.yaml", "{"}, {".hidden.yaml", POD}};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        _cleanup_(free_p) char *path = xasprintf("%s/%s", dir, files[i].name);
        assert_int_equal(file_write_atomic(path, bytes_str(files[i].text), 0600, NULL), 0);
    }
    _cleanup_(free_p) char *pipe = xasprintf("%s/pipe", dir);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    struct static_files f;
    static_files_read(dir, "edge-1", &f);
    assert_int_equal(f.err.code, ERR_NONE);
    assert_int_equal(f.count, 2);
    assert_string_equal(f.items[0].name, "bad.yaml");
    assert_null(f.items[0].pod);
    assert_non_null(f.items[0].complaint);
    assert_non_null(f.items[1].pod);
    static_files_free(&f);
    assert_int_equal(dir_remove(dir, NULL), 0);
    static_files_read(dir, "edge-1", &f); /* a missing folder is an empty one */
    assert_int_equal(f.err.code, ERR_NONE);
    assert_int_equal(f.count, 0);
    static_files_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_becomes_a_pod_of_this_node),
        cmocka_unit_test(the_uid_follows_content_and_node),
        cmocka_unit_test(what_is_no_pod_is_refused_with_the_files_name),
        cmocka_unit_test(a_folder_is_read_but_not_what_is_hidden_or_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
