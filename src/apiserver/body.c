#include "apiserver/write.h"

#include "base/str.h"
#include "kube/object.h"
#include "kube/patch.h"

#define MAX_UNKNOWN 32

int body_parse(struct bytes body, enum body_type type, yyjson_doc **out, struct fail *f) {
    struct error err = ERROR_INIT;
    *out = NULL;
    if (body.len == 0)
        return 0;
    if (type == BODY_PROTOBUF) {
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = NULL;
        if (schema_decode_protobuf(body, &d, &err) < 0)
            return fail_bad_request(f, "%s", error_text(&err));
        *out = yyjson_mut_doc_imut_copy(d, NULL);
        return 0;
    }
    if (type != BODY_JSON)
        return fail_set(f, 415, "UnsupportedMediaType",
                        "the body of the request was in an unknown format - accepted media types include: "
                        "application/json, application/vnd.kubernetes.protobuf");
    *out = json_parse(body, API_BODY_MAX, &err);
    return *out ? 0 : fail_bad_request(f, "the body of the request is not JSON: %s", error_text(&err));
}

/* kind and apiVersion, where given, must be those of the endpoint. */
static int check_type(const struct kind *k, yyjson_val *body, struct fail *f) {
    if (!yyjson_is_obj(body))
        return fail_bad_request(f, "the body of the request is not an object");
    _cleanup_(free_p) char *api_version = kind_api_version(k);
    const char *got_version = json_str(body, "apiVersion"), *got_kind = json_str(body, "kind");
    if (!str_empty(got_version) && strcmp(got_version, api_version) != 0)
        return fail_bad_request(f, "the API version in the data (%s) does not match the expected API version (%s)",
                                got_version, api_version);
    if (!str_empty(got_kind) && strcmp(got_kind, k->kind) != 0)
        return fail_bad_request(f, "the kind in the data (%s) does not match the expected kind (%s)", got_kind,
                                k->kind);
    return 0;
}

int body_report_unknown(struct draft *t, const struct strlist *unknown, bool patch) {
    const struct kind *k = t->w->kind;
    if (unknown->count == 0 || t->w->fields == FIELDS_IGNORE)
        return 0;
    if (t->w->fields == FIELDS_WARN) {
        for (size_t i = 0; i < unknown->count; i++)
            strlist_add(&t->warnings, unknown->items[i]);
        return 0;
    }
    _cleanup_(buf_free) struct buf all = BUF_INIT(64u << 10);
    for (size_t i = 0; i < unknown->count; i++)
        buf_addf(&all, "%s%s", i ? ", " : "", unknown->items[i]);
    if (patch) {
        fail_cause(t->f, "FieldValueInvalid", "patch", "Invalid value: strict decoding error: %s", all.ptr);
        return fail_invalid(t->f, k->group, k->kind, t->w->name);
    }
    return fail_bad_request(t->f, "%s in version \"%s\" cannot be handled as a %s: strict decoding error: %s", k->kind,
                            k->version, k->kind, all.ptr);
}

int body_decode(struct draft *t) {
    const struct kind *k = t->w->kind;
    if (k->custom && t->w->body_type == BODY_PROTOBUF)
        return fail_set(t->f, 415, "UnsupportedMediaType",
                        "the body of the request was in an unknown format - accepted media types include: "
                        "application/json");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = NULL;
    if (body_parse(t->w->body, t->w->body_type, &body, t->f) < 0)
        return -1;
    if (!body)
        return fail_bad_request(t->f, "the request has no body");
    if (check_type(k, yyjson_doc_get_root(body), t->f) < 0)
        return -1;
    struct error err = ERROR_INIT;
    _cleanup_(strlist_free) struct strlist unknown = {0};
    t->d = yyjson_mut_doc_new(NULL);
    t->obj = kind_decode(k, t->d, yyjson_doc_get_root(body), &unknown, &err);
    if (!t->obj)
        return fail_bad_request(t->f, "%s in version \"%s\" cannot be handled as a %s: %s", k->kind, k->version,
                                k->kind, error_text(&err));
    if (json_get(yyjson_doc_get_root(body), "metadata", "managedFields"))
        t->sent = TAKE(body);
    return body_report_unknown(t, &unknown, false);
}

/* The old object as a client knows it that patches its managedFields. Owned. */
static yyjson_doc *old_with_managed_fields(const struct draft *t) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(4 * API_OBJECT_MAX);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(t->old_doc, NULL);
    managed_append(&text, t->w->kind, t->old);
    struct bytes name, list;
    if (bytes_cut(buf_bytes(&text), ':', &name, &list)) {
        yyjson_doc *fields = yyjson_read(list.ptr, list.len, 0);
        json_set(d, json_ensure_obj(d, yyjson_mut_doc_get_root(d), "metadata"), "managedFields",
                 yyjson_val_mut_copy(d, yyjson_doc_get_root(fields)));
        yyjson_doc_free(fields);
    }
    return yyjson_mut_doc_imut_copy(d, NULL);
}

static yyjson_mut_val *apply(struct draft *t, yyjson_mut_doc *d, yyjson_val *old, yyjson_val *patch,
                             struct error *err) {
    switch (t->w->body_type) {
    case BODY_JSON_PATCH:
        return patch_json(d, old, patch, err);
    case BODY_MERGE_PATCH:
        return patch_merge(d, old, patch, err);
    default:
        return patch_strategic(d, t->w->kind->type, old, patch, err);
    }
}

int body_check_patch_type(const struct draft *t) {
    const struct kind *k = t->w->kind;
    bool strategic = t->w->body_type == BODY_STRATEGIC_PATCH && k->type && !k->custom;
    bool applied = k->ttl_s == 0 && (!*t->w->subresource || strcmp(t->w->subresource, "status") == 0);
    bool apply_patch = t->w->body_type == BODY_APPLY_PATCH && applied;
    if (t->w->body_type == BODY_JSON_PATCH || t->w->body_type == BODY_MERGE_PATCH || strategic || apply_patch)
        return 0;
    return fail_set(t->f, 415, "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types include: "
                    "application/json-patch+json, application/merge-patch+json%s%s",
                    k->custom ? "" : ", application/strategic-merge-patch+json",
                    applied ? ", application/apply-patch+yaml" : "");
}

int body_patch(struct draft *t) {
    const struct kind *k = t->w->kind;
    struct error err = ERROR_INIT;
    struct bytes text = t->w->body.len > 0 ? t->w->body : BYTES_LIT("{}");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *patch = json_parse(text, API_BODY_MAX, &err);
    if (!patch)
        return fail_bad_request(t->f, "the patch is not JSON: %s", error_text(&err));
    if (t->w->body_type != BODY_JSON_PATCH && !yyjson_is_obj(yyjson_doc_get_root(patch)))
        return fail_bad_request(t->f, "the patch is not an object");
    if (t->w->body_type == BODY_JSON_PATCH && !yyjson_is_arr(yyjson_doc_get_root(patch)))
        return fail_bad_request(t->f, "the patch is not a list of operations");
    static const char managed[] = "managedFields";
    bool names_managers = memmem(text.ptr, text.len, managed, sizeof(managed) - 1);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *with = names_managers ? old_with_managed_fields(t) : NULL;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patched =
        apply(t, d, yyjson_doc_get_root(with ? with : t->old_doc), yyjson_doc_get_root(patch), &err);
    if (!patched && err.code == ERR_TOO_LARGE)
        return fail_set(t->f, 413, "RequestEntityTooLarge", "%s", error_text(&err));
    if (!patched && err.code == ERR_UNSUPPORTED)
        return fail_bad_request(t->f, "the patch is malformed: %s", error_text(&err));
    if (!patched)
        return fail_set(t->f, 422, "Invalid", "the patch does not apply: %s", error_text(&err));
    _cleanup_(yyjson_doc_free_p) yyjson_doc *result = yyjson_mut_val_imut_copy(patched, NULL);
    if (check_type(k, yyjson_doc_get_root(result), t->f) < 0)
        return -1;
    _cleanup_(strlist_free) struct strlist unknown = {0};
    t->d = yyjson_mut_doc_new(NULL);
    t->obj = kind_decode(k, t->d, yyjson_doc_get_root(result), &unknown, &err);
    if (!t->obj) {
        fail_cause(t->f, "FieldValueInvalid", "patch", "Invalid value: %s", error_text(&err));
        return fail_invalid(t->f, k->group, k->kind, t->w->name);
    }
    if (names_managers)
        t->sent = TAKE(result);
    return body_report_unknown(t, &unknown, true);
}
