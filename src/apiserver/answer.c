#include "apiserver/call.h"

#include "apiserver/path.h"
#include "base/id.h"

#define WARNINGS_MAX 4096

bool wants_pretty(const struct http_request *r) {
    static const char *const people[] = {"curl", "Wget", "Mozilla/5.0"};
    struct bytes agent = http_header(r, "User-Agent", NULL);
    for (size_t i = 0; i < ARRAY_LEN(people); i++)
        if (bytes_starts_with(agent, people[i]))
            return true;
    return query_flag(http_query(r), "pretty");
}

void answer_headers(struct http_request *r) {
    char id[UUID_SIZE];
    http_add_header(r, "Cache-Control", "no-cache, private");
    http_add_header(r, "Audit-Id", uuid_v4(id));
}

void answer_json(struct http_request *r, int status, struct bytes json, bool pretty) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = pretty ? yyjson_read(json.ptr, json.len, 0) : NULL;
    size_t len = 0;
    _cleanup_(free_p) char *text = doc ? json_write_pretty(yyjson_doc_get_root(doc), &len) : NULL;
    http_respond(r, status, "application/json", text ? bytes_of(text, len) : json);
}

void answer_fail(struct http_request *r, struct fail *f) {
    size_t len;
    _cleanup_(free_p) char *status = fail_status(f, &len);
    int code = f->code;
    if (f->retry_after_s) {
        _cleanup_(free_p) char *seconds = xasprintf("%d", f->retry_after_s);
        http_add_header(r, "Retry-After", seconds);
    }
    fail_clear(f);
    answer_json(r, code, bytes_of(status, len), wants_pretty(r));
}

void api_error_page(void *arg, struct http_request *r, int status, const char *reason) {
    struct fail f = {0};
    answer_headers(r);
    if (status == 413)
        fail_set(&f, 413, "RequestEntityTooLarge", "Request entity too large: limit is %u", API_BODY_MAX);
    else if (status == 405)
        fail_set(&f, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    else if (status == 404)
        fail_set(&f, 404, "NotFound", "the server could not find the requested resource");
    else if (status == 401)
        fail_set(&f, 401, "Unauthorized", "Unauthorized");
    else
        fail_set(&f, status, status >= 500 ? "InternalError" : "BadRequest", "%s", reason);
    answer_fail(r, &f);
}

/* RFC 7234 quoted text; what could break the header is left out. */
void answer_warnings(struct http_request *r, const struct strlist *warnings) {
    size_t total = 0;
    for (size_t i = 0; i < warnings->count; i++) {
        _cleanup_(buf_free) struct buf h = BUF_INIT(WARNINGS_MAX + 64);
        buf_add_str(&h, "299 - \"");
        for (const char *p = warnings->items[i]; *p && total < WARNINGS_MAX; p++, total++) {
            if (*p == '"' || *p == '\\')
                buf_add_char(&h, '\\');
            if ((unsigned char)*p >= 0x20 && *p != 0x7f)
                buf_add_char(&h, *p);
        }
        buf_add_char(&h, '"');
        if (total >= WARNINGS_MAX)
            return;
        http_add_header(r, "Warning", h.ptr);
    }
}
