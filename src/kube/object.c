#include "kube/object.h"

#include "base/str.h"

static const char *meta_str(yyjson_val *o, const char *key) {
    return str_or(json_str(o, "metadata", key), "");
}

const char *object_name(yyjson_val *o) {
    return meta_str(o, "name");
}
const char *object_namespace(yyjson_val *o) {
    return meta_str(o, "namespace");
}
const char *object_uid(yyjson_val *o) {
    return meta_str(o, "uid");
}
const char *object_rv(yyjson_val *o) {
    return meta_str(o, "resourceVersion");
}
const char *object_kind(yyjson_val *o) {
    return str_or(json_str(o, "kind"), "");
}
const char *object_api_version(yyjson_val *o) {
    return str_or(json_str(o, "apiVersion"), "");
}

bool object_deleting(yyjson_val *o) {
    return *meta_str(o, "deletionTimestamp");
}

static yyjson_val *meta_obj(yyjson_val *o, const char *key) {
    yyjson_val *v = json_get(o, "metadata", key);
    return yyjson_is_obj(v) ? v : NULL;
}

yyjson_val *object_labels(yyjson_val *o) {
    return meta_obj(o, "labels");
}
yyjson_val *object_annotations(yyjson_val *o) {
    return meta_obj(o, "annotations");
}
const char *object_label(yyjson_val *o, const char *key) {
    return yyjson_get_str(yyjson_obj_get(object_labels(o), key));
}
const char *object_annotation(yyjson_val *o, const char *key) {
    return yyjson_get_str(yyjson_obj_get(object_annotations(o), key));
}

uint64_t rv_number(const char *rv) {
    uint64_t n;
    return rv && parse_u64(bytes_str(rv), UINT64_MAX, &n) == 0 ? n : 0;
}

/* ---- Status --------------------------------------------------------------------------------------------------- */

char *status_failure(int code, const char *reason, const char *message, const char *details_json, size_t *len) {
    struct buf b = BUF_INIT(SIZE_MAX);
    buf_add_str(&b, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":");
    json_append_string(&b, bytes_str(message));
    buf_add_str(&b, ",\"reason\":");
    json_append_string(&b, bytes_str(reason));
    if (details_json)
        buf_addf(&b, ",\"details\":%s", details_json);
    buf_addf(&b, ",\"code\":%d}", code);
    return buf_take(&b, len);
}

static enum error_code code_of_reason(const char *reason) {
    static const struct {
        const char *reason;
        enum error_code code;
    } reasons[] = {
        {"NotFound", ERR_NOT_FOUND},
        {"AlreadyExists", ERR_EXISTS},
        {"Conflict", ERR_CONFLICT},
        {"Unauthorized", ERR_DENIED},
        {"Forbidden", ERR_DENIED},
        {"Invalid", ERR_INVALID},
        {"BadRequest", ERR_INVALID},
        {"Expired", ERR_EXPIRED},
        {"Gone", ERR_EXPIRED},
        {"Timeout", ERR_TIMEOUT},
        {"ServerTimeout", ERR_TIMEOUT},
        {"TooManyRequests", ERR_UNAVAILABLE},
        {"ServiceUnavailable", ERR_UNAVAILABLE},
        {"InternalError", ERR_UNAVAILABLE},
        {"MethodNotAllowed", ERR_UNSUPPORTED},
        {"NotAcceptable", ERR_UNSUPPORTED},
        {"UnsupportedMediaType", ERR_UNSUPPORTED},
        {"RequestEntityTooLarge", ERR_TOO_LARGE},
    };
    for (size_t i = 0; reason && i < ARRAY_LEN(reasons); i++)
        if (str_eq(reason, reasons[i].reason))
            return reasons[i].code;
    return ERR_NONE;
}

static enum error_code code_of_http(int status) {
    switch (status) {
    case 400:
    case 422:
        return ERR_INVALID;
    case 401:
    case 403:
        return ERR_DENIED;
    case 404:
        return ERR_NOT_FOUND;
    case 405:
    case 406:
    case 415:
    case 501:
        return ERR_UNSUPPORTED;
    case 408:
    case 504:
        return ERR_TIMEOUT;
    case 409:
        return ERR_CONFLICT;
    case 410:
        return ERR_EXPIRED;
    case 413:
        return ERR_TOO_LARGE;
    case 429:
        return ERR_UNAVAILABLE;
    default:
        return status >= 500 ? ERR_UNAVAILABLE : ERR_INTERNAL;
    }
}

int error_from_status(struct error *err, int http_status, struct bytes body) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(body, body.len, NULL);
    yyjson_val *root = doc ? yyjson_doc_get_root(doc) : NULL;
    if (!str_eq(json_str(root, "kind"), "Status")) {
        struct bytes text = bytes_trim(body);
        return error_set(err, code_of_http(http_status), "HTTP status %d: %.*s", http_status,
                         (int)(text.len < 200 ? text.len : 200), text.len ? text.ptr : "(empty)");
    }
    int64_t code = json_int_or(json_get(root, "code"), http_status);
    enum error_code e = code_of_reason(json_str(root, "reason"));
    if (e == ERR_NONE)
        e = code_of_http(code >= 100 && code < 1000 ? (int)code : http_status);
    return error_set(err, e, "%s", str_or(json_str(root, "message"), str_or(json_str(root, "reason"), "failed")));
}
