#include "apiserver/pattern.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static bool match(const char *pattern, const char *text) {
    struct error err = ERROR_INIT;
    uint64_t budget = 100000000;
    struct pattern *p = pattern_compile(pattern, &err);
    if (!p)
        fail_msg("%s: %s", pattern, error_text(&err));
    bool found = pattern_matches(p, bytes_str(text), &budget);
    pattern_free(p);
    return found;
}

static void patterns_match_as_re2_does(void **state) {
    static const struct {
        const char *pattern, *yes, *no;
    } cases[] = {
        {"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", "-a"},
        {"^\\d{2,3}$", "123", "1234"},
        {"^(?:a|bc)+$", "abca", "ab"},
        {"b", "abc", "ac"},
        {"^a{2}$", "aa", "aaa"},
        {"^a{2,}$", "aaaa", "a"},
        {"^a{0,2}$", "", "aaa"},
        {"^[\\w.-]+@[\\d]+$", "x.y-z@1", "x@y"},
        {"^[^\\s]+$", "abc", "a c"},
        {"^\\S+$", "abc", "a c"},
        {"^a.c$",
         "a\xc3\xa9"
         "c",
         "a\nc"},
        {"^(?s)a.c$", "a\nc", "ac"},
        {"^(?i)AbC$", "aBc", "abd"},
        {"^(?i:a)b$", "Ab", "AB"},
        {"\\bcat\\b", "a cat!", "concat"},
        {"^\\x41\\x{e9}$", "A\xc3\xa9", "Ae"},
        {"^[[:alpha:]_]+$", "ab_C", "a1"},
        {"^a{x$", "a{x", "ax"},
        {"^(a*)*$", "aaa", "b"},
        {"^(|a)+$", "aa", "b"},
        {"^[]a]+$", "a]", "b"},
        {"^[a-]+$", "a-", "b"},
        {"^(?P<x>a)b*?$", "abb", "ba"},
        {"^$", "", "a"},
        {"^a$", "a", "a\n"},
        {"^\\p{L}+$", "\xc3\xa9t\xc3\xa9", "1"},
        {"^\\+?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+"
         "))))?$",
         "1.5Gi", "1.5Qi"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (!match(cases[i].pattern, cases[i].yes))
            fail_msg("%s does not match \"%s\"", cases[i].pattern, cases[i].yes);
        if (match(cases[i].pattern, cases[i].no))
            fail_msg("%s matches \"%s\"", cases[i].pattern, cases[i].no);
    }
}

static void what_is_no_pattern_is_refused(void **state) {
    static const struct {
        const char *pattern;
        enum error_code code;
    } cases[] = {
        {"(", ERR_INVALID},          {")", ERR_INVALID},      {"a)", ERR_INVALID},
        {"[a", ERR_INVALID},         {"*a", ERR_INVALID},     {"a\\", ERR_INVALID},
        {"[z-a]", ERR_INVALID},      {"a{3,2}", ERR_INVALID}, {"\\1", ERR_INVALID},
        {"(a)\\1", ERR_UNSUPPORTED}, {"\\C", ERR_INVALID},    {"((a{999}){999}){999}", ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = ERROR_INIT;
        struct pattern *p = pattern_compile(cases[i].pattern, &err);
        if (p || err.code != cases[i].code)
            fail_msg("%s: %s", cases[i].pattern, p ? "accepted" : error_text(&err));
    }
}

static void a_match_costs_no_more_than_its_budget(void **state) {
    struct error err = ERROR_INIT;
    struct pattern *p = pattern_compile("^(a|a)*(a|a)*(a|a)*[bc]$", &err), *q = pattern_compile("^[a-z]+$", &err);
    assert_non_null(p);
    assert_non_null(q);
    char text[4096];
    memset(text, 'a', sizeof(text));
    uint64_t budget = 1000000;
    assert_false(pattern_matches(p, bytes_of(text, sizeof(text)), &budget));
    assert_int_equal(budget, 0);
    budget = 1000000;
    assert_true(pattern_matches(q, bytes_of(text, sizeof(text)), &budget));
    assert_true(budget > 900000);
    assert_false(pattern_matches(q, bytes_str(""), &budget));
    pattern_free(p);
    pattern_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_re2_does),
        cmocka_unit_test(what_is_no_pattern_is_refused),
        cmocka_unit_test(a_match_costs_no_more_than_its_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
