#include "apiserver/server.h"

#include "apiserver/path.h"
#include "base/str.h"
#include "kube/selector.h"

#include <inttypes.h>

#define TIMEOUT_MAX_S (24 * 3600)

void query_options_free(struct query_options *q) {
    free(q->label_selector);
    free(q->field_selector);
    free(q->rv);
    free(q->rv_match);
    free(q->continue_);
    *q = (struct query_options){0};
}

void collection_free(struct collection *c) {
    if (!c)
        return;
    query_options_free(&c->q);
    list_page_free(&c->page);
    free(c->ns);
    free(c->name);
    selector_free(c->labels);
    selector_free(c->fields);
    kind_unref(c->kind);
    free(c);
}

static void forbid(struct fail *f, const char *field, const char *why) {
    fail_cause(f, "FieldValueForbidden", field, "Forbidden: %s", why);
}

static void check_match(const struct query_options *q, struct fail *f) {
    static const char field[] = "resourceVersionMatch";
    const char *match = q->rv_match;
    if (match && strcmp(match, "NotOlderThan") != 0 && (q->watch || strcmp(match, "Exact") != 0))
        fail_cause(f, "FieldValueNotSupported", field, "Unsupported value: \"%.32s\": supported values: %s", match,
                   q->watch ? "\"NotOlderThan\"" : "\"Exact\", \"NotOlderThan\"");
    if (q->watch) {
        if (match && !q->has_initial_events)
            forbid(f, field, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        if (q->has_initial_events && !match)
            forbid(f, field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        return;
    }
    if (q->has_initial_events)
        forbid(f, "sendInitialEvents", "sendInitialEvents is forbidden for list");
    if (match && str_empty(q->rv))
        forbid(f, field, "resourceVersionMatch is forbidden unless resourceVersion is provided");
    if (match && !str_empty(q->continue_))
        forbid(f, field, "resourceVersionMatch is forbidden when continue is provided");
    if (match && strcmp(match, "Exact") == 0 && str_eq(q->rv, "0"))
        forbid(f, field, "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"");
}

static int check_numbers(struct query_options *q, struct bytes query, struct fail *f) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *limit = NULL, *timeout = NULL, *include = NULL;
    if (query_text(query, "limit", &limit, &err) < 0 || query_text(query, "timeoutSeconds", &timeout, &err) < 0 ||
        query_text(query, "includeObject", &include, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    if (!str_empty(limit) && parse_i64(bytes_str(limit), 0, INT64_MAX, &q->limit) < 0)
        return fail_bad_request(f, "limit is not a number");
    if (!str_empty(timeout) && parse_i64(bytes_str(timeout), 0, INT64_MAX, &q->timeout_s) < 0)
        return fail_bad_request(f, "timeoutSeconds is not a number");
    if (q->timeout_s > TIMEOUT_MAX_S)
        q->timeout_s = TIMEOUT_MAX_S;
    if (table_include_parse(bytes_str(include), &q->include, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    return 0;
}

int query_options_read(struct query_options *q, struct bytes query, struct fail *f) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *initial = NULL;
    *q = (struct query_options){0};
    if (query_text(query, "labelSelector", &q->label_selector, &err) < 0 ||
        query_text(query, "fieldSelector", &q->field_selector, &err) < 0 ||
        query_text(query, "resourceVersion", &q->rv, &err) < 0 ||
        query_text(query, "resourceVersionMatch", &q->rv_match, &err) < 0 ||
        query_text(query, "continue", &q->continue_, &err) < 0 ||
        query_text(query, "sendInitialEvents", &initial, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    q->watch = query_flag(query, "watch");
    q->bookmarks = query_flag(query, "allowWatchBookmarks");
    q->has_initial_events = initial != NULL;
    q->initial_events = query_flag(query, "sendInitialEvents");
    if (str_empty(q->rv_match)) {
        free(q->rv_match);
        q->rv_match = NULL;
    }
    if (check_numbers(q, query, f) < 0)
        return -1;
    if (!str_empty(q->continue_) && !q->watch && !str_empty(q->rv) && !str_eq(q->rv, "0"))
        return fail_bad_request(f, "specifying resource version is not allowed when using continue");
    check_match(q, f);
    return f->causes ? fail_invalid(f, "meta.k8s.io", "ListOptions", "") : 0;
}

int check_rv_asked(const struct apiserver *s, const char *rv, uint64_t *out, struct fail *f) {
    *out = 0;
    if (str_empty(rv))
        return 0;
    if (parse_u64(bytes_str(rv), INT64_MAX, out) < 0)
        return fail_bad_request(f, "resourceVersion: Invalid value: \"%.64s\": must be a number", rv);
    uint64_t now = storage_revision(s->storage);
    if (*out <= now)
        return 0;
    /* Nothing was ever answered with it before its commit, so waiting for it would be in vain. */
    fail_set(f, 504, "Timeout", "Timeout: Too large resource version: %" PRIu64 ", current: %" PRIu64, *out, now);
    fail_cause(f, "ResourceVersionTooLarge", NULL, "Too large resource version");
    f->retry_after_s = 1;
    return -1;
}

static int prepare_fields(struct collection *c, struct fail *f) {
    struct error err = ERROR_INIT;
    const char *field, *equals;
    if (selector_parse_fields(bytes_str(c->q.field_selector), &c->fields, &err) < 0)
        return fail_bad_request(f, "unable to parse field selector: %s", error_text(&err));
    for (size_t i = 0; (field = selector_field(c->fields, i, &equals)); i++) {
        if (!kind_field_supported(c->kind, field))
            return fail_bad_request(f, "field label not supported: %s", field);
        if (equals && !c->name && strcmp(field, "metadata.name") == 0)
            c->name = xstrdup(equals);
    }
    return 0;
}

int collection_prepare(struct collection *c, struct fail *f) {
    struct error err = ERROR_INIT;
    uint64_t asked;
    if (!str_empty(c->q.label_selector) && selector_parse_labels(bytes_str(c->q.label_selector), &c->labels, &err) < 0)
        return fail_bad_request(f, "unable to parse label selector: %s", error_text(&err));
    if (!str_empty(c->q.field_selector) && prepare_fields(c, f) < 0)
        return -1;
    if (check_rv_asked(c->s, c->q.rv, &asked, f) < 0)
        return -1;
    return c->q.watch ? 0 : page_prepare(c, asked, f);
}
