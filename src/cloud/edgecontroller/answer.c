#include "cloud/edgecontroller/answer.h"

#include "base/str.h"
#include "kube/object.h"

char *answer_success(enum answer_shape shape, yyjson_val *object, size_t *len) {
    if (shape == ANSWER_OBJECT)
        return json_write(object, len);
    if (shape == ANSWER_OK) {
        *len = strlen("\"OK\"");
        return xstrdup("\"OK\"");
    }
    _cleanup_(free_p) char *text = json_write(object, NULL);
    char *pair = xasprintf("{\"Object\":%s,\"Err\":null}", text);
    *len = strlen(pair);
    return pair;
}

struct reason {
    enum error_code code;
    int http;
    const char *reason;
};

static const struct reason *reason_of(enum error_code code) {
    static const struct reason table[] = {
        {ERR_INVALID, 400, "BadRequest"},
        {ERR_NOT_FOUND, 404, "NotFound"},
        {ERR_EXISTS, 409, "AlreadyExists"},
        {ERR_CONFLICT, 409, "Conflict"},
        {ERR_DENIED, 403, "Forbidden"},
        {ERR_TOO_LARGE, 413, "RequestEntityTooLarge"},
        {ERR_UNSUPPORTED, 501, "NotImplemented"},
        {ERR_EXPIRED, 410, "Expired"},
        {ERR_TIMEOUT, 504, "Timeout"},
        {ERR_UNAVAILABLE, 503, "ServiceUnavailable"},
    };
    static const struct reason other = {ERR_INTERNAL, 500, "InternalError"};
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].code == code)
            return &table[i];
    return &other;
}

/* The Status that a Go peer reads as an error of the API machinery: the known members, and empty metadata. */
static yyjson_mut_val *make_status(yyjson_mut_doc *d, yyjson_val *from, const struct error *err, const char *kind,
                                   const char *name) {
    static const char *const copied[] = {"message", "reason", "details", "code"};
    yyjson_mut_val *s = yyjson_mut_obj(d);
    json_ensure_obj(d, s, "metadata");
    json_set_str(d, s, "status", "Failure");
    if (from && str_eq(object_kind(from), "Status")) {
        for (size_t i = 0; i < ARRAY_LEN(copied); i++) {
            yyjson_val *v = yyjson_obj_get(from, copied[i]);
            if (v)
                json_set(d, s, copied[i], yyjson_val_mut_copy(d, v));
        }
        return s;
    }
    const struct reason *r = reason_of(err->code);
    json_set_str(d, s, "message", error_text(err));
    json_set_str(d, s, "reason", r->reason);
    yyjson_mut_val *details = json_ensure_obj(d, s, "details");
    json_set_str(d, details, "name", str_or(name, ""));
    json_set_str(d, details, "kind", str_or(kind, ""));
    json_set_int(d, s, "code", r->http);
    return s;
}

char *answer_failure(enum answer_shape shape, yyjson_val *status, const struct error *err, const char *kind,
                     const char *name, size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *wrapped = yyjson_mut_obj(d);
    json_set(d, wrapped, "ErrStatus", make_status(d, status, err, kind, name));
    if (shape != ANSWER_PAIR)
        return json_write_mut(wrapped, len);
    yyjson_mut_val *pair = yyjson_mut_obj(d);
    /* The original gives the empty object of the type; its members are all optional. */
    yyjson_mut_val *object = json_ensure_obj(d, pair, "Object");
    yyjson_mut_val *metadata = json_ensure_obj(d, object, "metadata");
    json_set(d, metadata, "creationTimestamp", yyjson_mut_null(d));
    json_set(d, pair, "Err", wrapped);
    return json_write_mut(pair, len);
}
