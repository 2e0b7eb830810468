#define PCRE2_CODE_UNIT_WIDTH 8

#include "apiserver/pattern.h"

#include "base/mem.h"
#include "base/str.h"

#include <pcre2.h>

#define MAX_LENGTH 10000
#define MAX_HEAP_KIB 4096
#define FIRST_STEPS 1000 /* what nearly every match is content with; then ten times more, and so on */

struct pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
    pcre2_match_data *result;
};

struct pattern *pattern_compile(const char *text, struct error *err) {
    int code;
    PCRE2_SIZE at;
    uint32_t references = 0;
    if (strlen(text) > MAX_LENGTH) {
        error_set(err, ERR_TOO_LARGE, "the pattern is longer than %d bytes", MAX_LENGTH);
        return NULL;
    }
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        panic("out of memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!compiled) {
        PCRE2_UCHAR why[256];
        if (pcre2_get_error_message(code, why, sizeof(why)) < 0)
            why[0] = 0;
        error_set(err, ERR_INVALID, "%s at byte %zu", (const char *)why, (size_t)at);
        return NULL;
    }
    struct pattern *p = NEW(struct pattern);
    p->code = compiled;
    p->limits = pcre2_match_context_create(NULL);
    p->result = pcre2_match_data_create(1, NULL);
    if (!p->limits || !p->result)
        panic("out of memory for a pattern");
    pcre2_set_heap_limit(p->limits, MAX_HEAP_KIB);
    if (pcre2_pattern_info(compiled, PCRE2_INFO_BACKREFMAX, &references) < 0 || references > 0) {
        error_set(err, ERR_UNSUPPORTED, "references back to a group are not supported in patterns");
        pattern_free(p);
        return NULL;
    }
    return p;
}

void pattern_free(struct pattern *p) {
    if (!p)
        return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
    pcre2_match_data_free(p->result);
    free(p);
}

bool pattern_matches(const struct pattern *p, struct bytes text, uint64_t *budget) {
    for (uint64_t steps = FIRST_STEPS + text.len;; steps *= 10) {
        if (steps > *budget || steps > UINT32_MAX) {
            *budget = 0;
            return false;
        }
        *budget -= steps;
        pcre2_set_match_limit(p->limits, (uint32_t)steps);
        pcre2_set_depth_limit(p->limits, (uint32_t)steps);
        int rc = pcre2_match(p->code, (PCRE2_SPTR)(text.len ? text.ptr : ""), text.len, 0, 0, p->result, p->limits);
        if (rc != PCRE2_ERROR_MATCHLIMIT && rc != PCRE2_ERROR_DEPTHLIMIT)
            return rc >= 0;
    }
}
