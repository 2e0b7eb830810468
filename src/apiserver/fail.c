#include "apiserver/fail.h"

#include "base/json.h"
#include "base/str.h"

#include <stdarg.h>

#define STATUS_MAX (1u << 20)

void fail_clear(struct fail *f) {
    free(f->message);
    free(f->group);
    free(f->kind);
    free(f->name);
    free(f->uid);
    free(f->continue_);
    while (f->causes) {
        struct fail_cause *c = f->causes;
        f->causes = c->next;
        free(c->reason);
        free(c->message);
        free(c->field);
        free(c);
    }
    *f = (struct fail){0};
}

static int set_va(struct fail *f, int code, const char *reason, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));
static int set_va(struct fail *f, int code, const char *reason, const char *fmt, va_list ap) {
    f->code = code;
    f->reason = reason;
    free(f->message);
    f->message = xvasprintf(fmt, ap);
    return -1;
}

int fail_set(struct fail *f, int code, const char *reason, const char *fmt, ...) {
    fail_clear(f);
    va_list ap;
    va_start(ap, fmt);
    set_va(f, code, reason, fmt, ap);
    va_end(ap);
    return -1;
}

int fail_bad_request(struct fail *f, const char *fmt, ...) {
    fail_clear(f);
    va_list ap;
    va_start(ap, fmt);
    set_va(f, 400, "BadRequest", fmt, ap);
    va_end(ap);
    return -1;
}

/* "pods", "deployments.apps" */
static char *full_name(const char *group, const char *resource) {
    return str_empty(group) ? xstrdup(resource) : xasprintf("%s.%s", resource, group);
}

static void set_details(struct fail *f, const char *group, const char *kind, const char *name) {
    f->group = str_empty(group) ? NULL : xstrdup(group);
    f->kind = xstrdup(kind);
    f->name = str_empty(name) ? NULL : xstrdup(name);
}

int fail_not_found(struct fail *f, const char *group, const char *resource, const char *name) {
    _cleanup_(free_p) char *full = full_name(group, resource);
    fail_set(f, 404, "NotFound", "%s \"%s\" not found", full, name);
    set_details(f, group, resource, name);
    return -1;
}

int fail_exists(struct fail *f, const char *group, const char *resource, const char *name) {
    _cleanup_(free_p) char *full = full_name(group, resource);
    fail_set(f, 409, "AlreadyExists", "%s \"%s\" already exists", full, name);
    set_details(f, group, resource, name);
    return -1;
}

int fail_conflict(struct fail *f, const char *group, const char *resource, const char *name, const char *why) {
    _cleanup_(free_p) char *full = full_name(group, resource);
    fail_set(f, 409, "Conflict", "Operation cannot be fulfilled on %s \"%s\": %s", full, name, why);
    set_details(f, group, resource, name);
    return -1;
}

int fail_forbidden(struct fail *f, const char *group, const char *resource, const char *name, const char *why) {
    _cleanup_(free_p) char *full = full_name(group, resource);
    if (str_empty(name))
        fail_set(f, 403, "Forbidden", "%s is forbidden: %s", full, why);
    else
        fail_set(f, 403, "Forbidden", "%s \"%s\" is forbidden: %s", full, name, why);
    set_details(f, group, resource, name);
    return -1;
}

int fail_not_allowed(struct fail *f, const char *action, const char *group, const char *resource) {
    _cleanup_(free_p) char *full = full_name(group, resource);
    fail_set(f, 405, "MethodNotAllowed", "%s is not supported on resources of kind \"%s\"", action, full);
    set_details(f, group, resource, NULL);
    return -1;
}

int fail_unavailable(struct fail *f, const char *why) {
    fail_set(f, 503, "ServiceUnavailable", "the write could not be stored: %s", why);
    f->retry_after_s = 5;
    return -1;
}

void fail_cause(struct fail *f, const char *reason, const char *field, const char *fmt, ...) {
    struct fail_cause *c = NEW(struct fail_cause), **end = &f->causes;
    va_list ap;
    va_start(ap, fmt);
    c->message = xvasprintf(fmt, ap);
    va_end(ap);
    c->reason = xstrdup(reason);
    c->field = xstrdup_null(field);
    while (*end)
        end = &(*end)->next;
    *end = c;
}

static void join_causes(const struct fail *f, struct buf *out) {
    bool several = f->causes && f->causes->next;
    if (several)
        buf_add_char(out, '[');
    for (const struct fail_cause *c = f->causes; c; c = c->next)
        buf_addf(out, "%s: %s%s", c->field ? c->field : "<nil>", c->message, c->next ? ", " : "");
    if (several)
        buf_add_char(out, ']');
}

int fail_invalid(struct fail *f, const char *group, const char *kind, const char *name) {
    _cleanup_(free_p) char *full = full_name(group, kind);
    _cleanup_(buf_free) struct buf causes = BUF_INIT(STATUS_MAX / 2);
    join_causes(f, &causes);
    f->code = 422;
    f->reason = "Invalid";
    free(f->message);
    f->message = xasprintf("%s \"%s\" is invalid: %s", full, name, causes.len ? causes.ptr : "");
    set_details(f, group, kind, name);
    return -1;
}

static void add_str(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, const char *value) {
    if (value)
        yyjson_mut_obj_add_strcpy(d, obj, key, value);
}

static void add_details(yyjson_mut_doc *d, yyjson_mut_val *root, const struct fail *f) {
    if (!f->kind && !f->causes && !f->retry_after_s)
        return;
    yyjson_mut_val *details = yyjson_mut_obj_add_obj(d, root, "details");
    add_str(d, details, "name", f->name);
    add_str(d, details, "group", f->group);
    add_str(d, details, "kind", f->kind);
    add_str(d, details, "uid", f->uid);
    if (f->causes) {
        yyjson_mut_val *causes = yyjson_mut_obj_add_arr(d, details, "causes");
        for (const struct fail_cause *c = f->causes; c; c = c->next) {
            yyjson_mut_val *o = yyjson_mut_arr_add_obj(d, causes);
            add_str(d, o, "reason", c->reason);
            add_str(d, o, "message", c->message);
            add_str(d, o, "field", c->field);
        }
    }
    if (f->retry_after_s)
        yyjson_mut_obj_add_int(d, details, "retryAfterSeconds", f->retry_after_s);
}

char *fail_status(const struct fail *f, size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_doc_set_root(d, root);
    add_str(d, root, "kind", "Status");
    add_str(d, root, "apiVersion", "v1");
    add_str(d, yyjson_mut_obj_add_obj(d, root, "metadata"), "continue", f->continue_);
    add_str(d, root, "status", "Failure");
    add_str(d, root, "message", str_or(f->message, "unknown"));
    add_str(d, root, "reason", f->reason);
    add_details(d, root, f);
    yyjson_mut_obj_add_int(d, root, "code", f->code);
    return json_write_mut(root, len);
}

char *success_status(int code, const char *group, const char *resource, const char *name, const char *uid,
                     size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_doc_set_root(d, root);
    add_str(d, root, "kind", "Status");
    add_str(d, root, "apiVersion", "v1");
    yyjson_mut_obj_add_obj(d, root, "metadata");
    add_str(d, root, "status", "Success");
    if (name) {
        yyjson_mut_val *details = yyjson_mut_obj_add_obj(d, root, "details");
        add_str(d, details, "name", name);
        add_str(d, details, "group", str_empty(group) ? NULL : group);
        add_str(d, details, "kind", resource);
        add_str(d, details, "uid", uid);
    }
    if (code != 200)
        yyjson_mut_obj_add_int(d, root, "code", code);
    return json_write_mut(root, len);
}
