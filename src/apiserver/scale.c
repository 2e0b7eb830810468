/* The subresource scale: a Deployment or ReplicaSet seen as its number of replicas (embedded-api.md 4.5). */
#include "apiserver/table_cells.h"
#include "apiserver/write.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/patch.h"

#define SELECTOR_MAX (64u << 10)

char *scale_text(const struct record *rec, size_t *len) {
    static const char *const copied[] = {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"};
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(buf_free) struct buf selector = BUF_INIT(SELECTOR_MAX);
    yyjson_val *o = yyjson_doc_get_root(doc);
    yyjson_mut_val *scale = yyjson_mut_obj(d);
    json_set_str(d, scale, "kind", "Scale");
    json_set_str(d, scale, "apiVersion", "autoscaling/v1");
    yyjson_mut_val *meta = json_ensure_obj(d, scale, "metadata");
    for (size_t i = 0; i < ARRAY_LEN(copied); i++)
        if (json_str(o, "metadata", copied[i]))
            json_set_str(d, meta, copied[i], json_str(o, "metadata", copied[i]));
    json_set_int(d, json_ensure_obj(d, scale, "spec"), "replicas", json_int_or(json_get(o, "spec", "replicas"), 0));
    yyjson_mut_val *status = json_ensure_obj(d, scale, "status");
    json_set_int(d, status, "replicas", json_int_or(json_get(o, "status", "replicas"), 0));
    table_selector_text(json_get(o, "spec", "selector"), &selector);
    json_set_str(d, status, "selector", str_or(selector.ptr, ""));
    return json_write_mut(scale, len);
}

/* The Scale that the request leads to: its body, or the present one patched. */
static yyjson_doc *wanted(struct draft *t) {
    struct error err = ERROR_INIT;
    yyjson_doc *body = NULL;
    if (t->w->verb != WRITE_PATCH)
        return body_parse(t->w->body, t->w->body_type, &body, t->f) < 0 ? NULL : body;
    size_t len;
    _cleanup_(free_p) char *text = scale_text(t->old, &len);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *now = yyjson_read(text, len, 0);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *patch = json_parse(t->w->body, API_BODY_MAX, &err);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    if (!patch) {
        fail_bad_request(t->f, "the patch is not JSON: %s", error_text(&err));
        return NULL;
    }
    yyjson_val *a = yyjson_doc_get_root(now), *p = yyjson_doc_get_root(patch);
    yyjson_mut_val *patched =
        t->w->body_type == BODY_JSON_PATCH ? patch_json(d, a, p, &err) : patch_merge(d, a, p, &err);
    if (!patched) {
        fail_set(t->f, 422, "Invalid", "the patch does not apply: %s", error_text(&err));
        return NULL;
    }
    return yyjson_mut_val_imut_copy(patched, NULL);
}

static int check_preconditions(struct draft *t, yyjson_val *scale) {
    const struct kind *k = t->w->kind;
    yyjson_val *old = yyjson_doc_get_root(t->old_doc);
    const char *uid = object_uid(scale), *rv = object_rv(scale), *name = object_name(scale);
    if (*name && strcmp(name, t->w->name) != 0)
        return fail_bad_request(t->f, "the name of the object (%s) does not match the name on the URL (%s)", name,
                                t->w->name);
    if ((*uid && strcmp(uid, object_uid(old)) != 0) || (*rv && strcmp(rv, object_rv(old)) != 0))
        return fail_conflict(
            t->f, k->group, k->plural, t->w->name,
            "the object has been modified; please apply your changes to the latest version and try again");
    return 0;
}

int write_scale(struct draft *t) {
    if (t->w->verb == WRITE_PATCH && body_check_patch_type(t) < 0)
        return -1;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = wanted(t);
    if (!doc)
        return t->f->code ? -1 : fail_bad_request(t->f, "the request has no body");
    yyjson_val *scale = yyjson_doc_get_root(doc), *replicas = json_get(scale, "spec", "replicas");
    const char *kind = json_str(scale, "kind");
    if (!yyjson_is_obj(scale) || (!str_empty(kind) && strcmp(kind, "Scale") != 0))
        return fail_bad_request(t->f, "the body of the request is not a Scale");
    if (check_preconditions(t, scale) < 0)
        return -1;
    int64_t n = replicas ? json_int_or(replicas, -1) : 0;
    if (n < 0 || n > INT32_MAX) {
        fail_cause(t->f, "FieldValueInvalid", "spec.replicas",
                   "Invalid value: must be greater than or equal to 0 and a number");
        return fail_invalid(t->f, "autoscaling", "Scale", t->w->name);
    }
    t->d = yyjson_mut_doc_new(NULL);
    t->obj = yyjson_val_mut_copy(t->d, yyjson_doc_get_root(t->old_doc));
    json_set_int(t->d, json_ensure_obj(t->d, t->obj, "spec"), "replicas", n);
    update_generation(t);
    t->code = 200;
    return store_draft(t);
}
