#include "base/mem.h"
#include "base/str.h"
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char *as_json(const char *text) {
    struct yaml_doc doc;
    struct error err = ERROR_INIT;
    if (yaml_parse(bytes_str(text), "t.yaml", &doc, &err) < 0)
        fail_msg("%s", err.msg);
    char *out = json_write(yyjson_doc_get_root(doc.json), NULL);
    yaml_doc_free(&doc);
    return out;
}

static void assert_reads(const char *text, const char *json) {
    _cleanup_(free_p) char *out = as_json(text);
    assert_string_equal(out, json);
}

static void assert_refused(const char *text, enum error_code code, const char *message) {
    struct yaml_doc doc;
    struct error err = ERROR_INIT;
    assert_int_equal(yaml_parse(bytes_str(text), "t.yaml", &doc, &err), -1);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    assert_null(doc.json);
}

static void plain_scalars_have_their_core_schema_types(void **state) {
    assert_reads("[null, ~, true, False, 12, -3, 0x1f, 0644, 0o17, 1.5, 1e3, .5, yes, 1.2.3, 1m0s, '12', \"true\", "
                 "!!str 5, 9223372036854775808]",
                 "[null,null,true,false,12,-3,31,420,15,1.5,1000.0,0.5,\"yes\",\"1.2.3\",\"1m0s\",\"12\",\"true\","
                 "\"5\",9223372036854776000.0]");
    assert_reads("a:\nb: |\n  x\n  y\n", "{\"a\":null,\"b\":\"x\\ny\\n\"}");
    assert_reads(".inf", "\".inf\"");
}

static void an_empty_text_is_null(void **state) {
    assert_reads("", "null");
    assert_reads("# only a comment\n", "null");
}

static void only_the_first_document_is_read(void **state) {
    assert_reads("---\na: 1\n---\nb: 2\n", "{\"a\":1}");
}

static void aliases_are_copies(void **state) {
    assert_reads("a: &x {n: [1]}\nb: *x\nc: &x 2\nd: *x\n", "{\"a\":{\"n\":[1]},\"b\":{\"n\":[1]},\"c\":2,\"d\":2}");
}

static void aliases_that_grow_without_end_are_refused(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(10000);
    buf_add_str(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++) {
        buf_addf(&text, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            buf_addf(&text, "*a%d,", i - 1);
        buf_add_str(&text, "]\n");
    }
    assert_refused(text.ptr, ERR_TOO_LARGE, "too many values");
    assert_refused("a: &a [*a]\n", ERR_INVALID, "t.yaml:1: an alias stands inside of what it names");
    assert_refused("a: *b\n", ERR_INVALID, "names nothing");
}

static void nesting_is_limited(void **state) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(10000);
    for (int i = 0; i < YAML_MAX_DEPTH + 1; i++)
        buf_add_char(&text, '[');
    assert_refused(text.ptr, ERR_TOO_LARGE, "nested too deeply");
}

static void a_key_that_stands_twice_is_refused_with_both_lines(void **state) {
    assert_refused("a: 1\nb: 2\na: 3\n", ERR_INVALID, "t.yaml:3: key \"a\" stands here again, first in line 1");
    assert_refused("x: {1: a, '1': b}\n", ERR_INVALID, "key \"1\"");
}

static void broken_text_is_refused_with_its_line(void **state) {
    assert_refused("a: 1\nb: [\n", ERR_INVALID, "t.yaml:3: ");
    assert_refused("a: 1\n\tb: 2\n", ERR_INVALID, "t.yaml:2: ");
    assert_refused("[1]: 2\n", ERR_INVALID, "a key must be a plain text");
    assert_refused("a: \"x\\0y\"\n", ERR_INVALID, "NUL");
    assert_refused("a: \xff\n", ERR_INVALID, "t.yaml: byte 3");
}

static void values_know_their_lines(void **state) {
    struct yaml_doc doc;
    assert_int_equal(
        yaml_parse(BYTES_LIT("# top\nmodules:\n  edgeHub:\n    heartbeat:\n      15\n  list:\n  - a\n  - b: "
                             "1\n    c: 2\n  labels:\n    node-role.kubernetes.io/edge: x\n"),
                   "t.yaml", &doc, NULL),
        0);
    assert_int_equal(yaml_line(&doc, "modules"), 2);
    assert_int_equal(yaml_line(&doc, "modules.edgeHub.heartbeat"), 4);
    assert_int_equal(yaml_line(&doc, "modules.list[0]"), 7);
    assert_int_equal(yaml_line(&doc, "modules.list[1].c"), 9);
    assert_int_equal(yaml_line(&doc, "modules.labels.node-role.kubernetes.io/edge"), 11);
    assert_int_equal(yaml_line(&doc, "modules.edge"), 0);
    assert_int_equal(yaml_line(&doc, "modules.edgeHub.heartbeat.more"), 0);
    yaml_doc_free(&doc);
}

static void what_is_written_reads_back_as_the_same(void **state) {
    static const char *const values[] = {
        "{\"a\":{\"b\":[1,\"x\",{\"c\":null,\"d\":[[1],[]]}],\"e\":{}},\"f\":-1.5}",
        "[\"\",\"~\",\"null\",\"true\",\"yes\",\"0x1\",\"1e3\",\"1.5\",\"- a\",\"a: b\",\"a "
        "#b\",\"#\",\"*a\",\"&a\",\"%"
        "\",\"@\",\"a:\",\" a\",\"a "
        "\",\"a\\nb\",\"\\u0001\",\"\\u00e9\",\"2001-01-01\",\"1:30\",\"0644\",\"=\",\"<<\"]",
        "{\"true\":1,\"a.b/c\":2,\"\":3,\"x y\":{\"1\":2}}",
        "\"text\"",
        "[\"\\u007f\\u0085\\u009e\\u2028\\u2029\\ufeff\\uffff\\ud83d\\ude00\"]",
        "[]",
        "null",
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        yyjson_doc *doc = json_parse(bytes_str(values[i]), 10000, NULL);
        struct buf out = BUF_INIT(10000);
        assert_int_equal(yaml_write(&out, yyjson_doc_get_root(doc)), 0);
        _cleanup_(free_p) char *back = as_json(out.ptr), *same = json_write(yyjson_doc_get_root(doc), NULL);
        assert_string_equal(back, same);
        buf_free(&out);
        yyjson_doc_free(doc);
    }
}

static void blocks_look_as_go_writes_them(void **state) {
    yyjson_doc *doc = json_parse(
        BYTES_LIT("{\"kind\":\"Pod\",\"items\":[{\"a\":1,\"b\":[\"x\"]},\"y\"],\"at\":\"10.0.0.1\"}"), 1000, NULL);
    struct buf out = BUF_INIT(1000);
    assert_int_equal(yaml_write(&out, yyjson_doc_get_root(doc)), 0);
    assert_string_equal(out.ptr, "kind: Pod\nitems:\n- a: 1\n  b:\n  - x\n- \"y\"\nat: \"10.0.0.1\"\n");
    struct buf small = BUF_INIT(10);
    assert_int_equal(yaml_write(&small, yyjson_doc_get_root(doc)), -1);
    buf_free(&small);
    buf_free(&out);
    yyjson_doc_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_scalars_have_their_core_schema_types),
        cmocka_unit_test(an_empty_text_is_null),
        cmocka_unit_test(only_the_first_document_is_read),
        cmocka_unit_test(aliases_are_copies),
        cmocka_unit_test(aliases_that_grow_without_end_are_refused),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(a_key_that_stands_twice_is_refused_with_both_lines),
        cmocka_unit_test(broken_text_is_refused_with_its_line),
        cmocka_unit_test(values_know_their_lines),
        cmocka_unit_test(what_is_written_reads_back_as_the_same),
        cmocka_unit_test(blocks_look_as_go_writes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
