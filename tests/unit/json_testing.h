/* JSON in tests: J('{"a":1}') with single quotes for double ones. */
#pragma once

#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static inline UNUSED yyjson_doc *test_json(const char *text) {
    char *copy = xstrdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    struct error err = ERROR_INIT;
    yyjson_doc *doc = json_parse(bytes_str(copy), 16 * 1024 * 1024, &err);
    if (!doc)
        fail_msg("test JSON: %s: %s", err.msg, text);
    free(copy);
    return doc;
}

/* Compares regardless of the members' order, printing both on failure. */
static inline UNUSED void assert_json(yyjson_mut_val *got, const char *expected) {
    assert_non_null(got);
    _cleanup_(free_p) char *text = json_write_mut(got, NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *a = test_json(expected);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *b = json_parse(bytes_str(text), SIZE_MAX, NULL);
    assert_non_null(b);
    if (!json_equal(yyjson_doc_get_root(a), yyjson_doc_get_root(b)))
        fail_msg("got      %s\nexpected %s", text, expected);
}
