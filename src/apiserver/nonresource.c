#include "apiserver/account_token.h"
#include "apiserver/call.h"

#include "apiserver/discovery.h"
#include "apiserver/openapi.h"
#include "base/str.h"
#include "net/metrics.h"

#define DOCUMENT_MAX (64u << 20)

/* /healthz, /livez, /readyz, and one check of them: /readyz/storage. */
void handle_health(void *arg, struct http_request *r) {
    struct apiserver *s = arg;
    struct bytes path = http_path(r);
    const char *trouble = bytes_starts_with(path, "/readyz") && !s->stopping ? NULL : storage_trouble(s->storage);
    struct bytes check = BYTES_EMPTY, rest = bytes_of(path.ptr + 1, path.len - 1);
    list_next(&rest, '/', &check);
    if (!bytes_eq_str(check, "healthz") && !bytes_eq_str(check, "livez") && !bytes_eq_str(check, "readyz")) {
        api_error_page(s, r, 404, "not found");
        return;
    }
    if (rest.len > 0 && !bytes_eq_str(rest, "storage") && !bytes_eq_str(rest, "ping")) {
        api_error_page(s, r, 404, "not found");
        return;
    }
    answer_headers(r);
    if (s->stopping && bytes_eq_str(check, "readyz"))
        http_respondf(r, 500, "[-]shutdown failed\n");
    else if (query_flag(http_query(r), "verbose"))
        http_respondf(r, 200, "[+]ping ok\n%s\n%.*s check passed\n",
                      trouble ? "[-]storage writes fail" : "[+]storage ok", (int)check.len, check.ptr);
    else
        http_respondf(r, 200, "ok");
}

static int identify(struct apiserver *s, struct http_request *r, const char *path, struct identity *id) {
    struct fail f = {0};
    const struct access a = {.verb = "get", .path = path};
    if (auth_identify(s, r, id, &f) == 0) {
        if (auth_allowed(s, id, &a))
            return 0;
        (void)auth_refuse(id, &a, &f);
    }
    answer_fail(r, &f);
    return -1;
}

void handle_metrics(void *arg, struct http_request *r) {
    _cleanup_(identity_free) struct identity id = {0};
    answer_headers(r);
    if (identify(arg, r, "/metrics", &id) < 0)
        return;
    _cleanup_(buf_free) struct buf out = BUF_INIT(DOCUMENT_MAX);
    metrics_write(&out);
    http_respond(r, 200, "text/plain; version=0.0.4", buf_bytes(&out));
}

static void answer_not_found(struct http_request *r) {
    struct fail f = {0};
    fail_set(&f, 404, "NotFound", "the server could not find the requested resource");
    answer_fail(r, &f);
}

static void serve_discovery(struct apiserver *s, struct http_request *r, struct bytes path) {
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf out = BUF_INIT(DOCUMENT_MAX);
    enum answer_form form = FORM_JSON;
    unsigned allowed = FORM_BIT(FORM_JSON) | FORM_BIT(FORM_DISCOVERY_V2) | FORM_BIT(FORM_DISCOVERY_V2BETA1);
    if (negotiate(http_header(r, "Accept", NULL), allowed, &form) < 0) {
        struct fail f = {0};
        fail_set(&f, 406, "NotAcceptable", "only the following media types are accepted: application/json");
        answer_fail(r, &f);
        return;
    }
    enum discovery_format format = form == FORM_DISCOVERY_V2        ? DISCOVERY_V2
                                   : form == FORM_DISCOVERY_V2BETA1 ? DISCOVERY_V2BETA1
                                                                    : DISCOVERY_PLAIN;
    if (discovery_document(s->kinds, path, format, &out, &err) < 0) {
        answer_not_found(r);
        return;
    }
    http_respond(r, 200, discovery_content_type(path, format), buf_bytes(&out));
}

static void serve_openapi_v3(struct apiserver *s, struct http_request *r, struct bytes path) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(DOCUMENT_MAX);
    if (openapi_v3(s->kinds, path, &out, NULL) < 0)
        answer_not_found(r);
    else
        http_respond(r, 200, "application/json", buf_bytes(&out));
}

/* The largest of the documents: made anew only when the kinds have changed. */
static void serve_openapi_v2(struct apiserver *s, struct http_request *r) {
    if (!s->openapi_v2.ptr || s->openapi_v2_generation != kinds_generation(s->kinds)) {
        buf_free(&s->openapi_v2);
        s->openapi_v2 = BUF_INIT(DOCUMENT_MAX);
        s->openapi_v2_generation = kinds_generation(s->kinds);
        openapi_v2(s->kinds, &s->openapi_v2);
    }
    http_respond(r, 200, OPENAPI_V2_CONTENT_TYPE, buf_bytes(&s->openapi_v2));
}

void handle_version(void *arg, struct http_request *r) {
    struct apiserver *s = arg;
    answer_headers(r);
    serve_discovery(s, r, http_path(r));
}

/* What outsiders need to verify tokens of service accounts. */
static bool serve_token_documents(const struct apiserver *s, struct http_request *r, const char *path) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(16 << 10);
    if (strcmp(path, "/openid/v1/jwks") == 0) {
        account_token_jwks(s, &out);
        http_respond(r, 200, "application/jwk-set+json", buf_bytes(&out));
    } else if (strcmp(path, "/.well-known/openid-configuration") == 0) {
        account_token_configuration(&out);
        http_respond(r, 200, "application/json", buf_bytes(&out));
    } else {
        return false;
    }
    return true;
}

/* Discovery and OpenAPI: for everybody who is somebody. */
void serve_documents(struct apiserver *s, struct http_request *r) {
    _cleanup_(identity_free) struct identity id = {0};
    struct bytes path = http_path(r);
    if (path.len > 1 && path.ptr[path.len - 1] == '/')
        path.len--;
    _cleanup_(free_p) char *text = bytes_dup(path);
    if (identify(s, r, text, &id) < 0)
        return;
    if (http_method(r) != HTTP_M_GET) {
        struct fail f = {0};
        fail_set(&f, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        answer_fail(r, &f);
    } else if (strcmp(text, "/openapi/v2") == 0) {
        serve_openapi_v2(s, r);
    } else if (str_starts_with(text, "/openapi/v3")) {
        serve_openapi_v3(s, r, path);
    } else if (!serve_token_documents(s, r, text)) {
        serve_discovery(s, r, path);
    }
}
