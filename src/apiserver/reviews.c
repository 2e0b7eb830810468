/* Requests that are questions: what may I do, who am I. Nothing is stored. */
#include "apiserver/call.h"

#include "base/str.h"

#define ANSWER_MAX (256u << 10)

static const char *attribute(yyjson_val *attributes, const char *key) {
    const char *v = json_str(attributes, key);
    return v ? v : "";
}

/* The identity that a SubjectAccessReview asks about. */
static void subject_of(yyjson_val *spec, struct identity *out) {
    size_t i, n;
    yyjson_val *group;
    out->user = xstrdup(attribute(spec, "user"));
    yyjson_arr_foreach (yyjson_obj_get(spec, "groups"), i, n, group)
        if (yyjson_is_str(group))
            strlist_add(&out->groups, yyjson_get_str(group));
}

static bool review_allowed(const struct identity *id, yyjson_val *spec) {
    yyjson_val *r = yyjson_obj_get(spec, "resourceAttributes"), *n = yyjson_obj_get(spec, "nonResourceAttributes");
    const struct access a = {.verb = attribute(r ? r : n, "verb"),
                             .group = attribute(r, "group"),
                             .resource = attribute(r, "resource"),
                             .subresource = attribute(r, "subresource"),
                             .ns = attribute(r, "namespace"),
                             .name = attribute(r, "name"),
                             .path = n ? attribute(n, "path") : NULL};
    return auth_allowed(id, &a);
}

static int access_review(yyjson_mut_doc *d, yyjson_mut_val *status, const struct kind *k, yyjson_val *spec,
                         const struct identity *id, struct fail *f) {
    if (!yyjson_obj_get(spec, "resourceAttributes") == !yyjson_obj_get(spec, "nonResourceAttributes")) {
        fail_cause(f, "FieldValueInvalid", "spec.resourceAttributes",
                   "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified");
        return fail_invalid(f, k->group, k->kind, "");
    }
    _cleanup_(identity_free) struct identity subject = {0};
    bool self = str_starts_with(k->plural, "self");
    if (!self)
        subject_of(spec, &subject);
    json_set_bool(d, status, "allowed", review_allowed(self ? id : &subject, spec));
    return 0;
}

static void who_am_i(yyjson_mut_doc *d, yyjson_mut_val *status, const struct identity *id) {
    yyjson_mut_val *info = json_ensure_obj(d, status, "userInfo");
    json_set_str(d, info, "username", id->user);
    yyjson_mut_val *groups = json_ensure_arr(d, info, "groups");
    for (size_t i = 0; i < id->groups.count; i++)
        yyjson_mut_arr_add_strcpy(d, groups, id->groups.items[i]);
}

static void add_rule(yyjson_mut_doc *d, yyjson_mut_val *rules, const char *const keys[], const char *value) {
    yyjson_mut_val *rule = yyjson_mut_arr_add_obj(d, rules);
    for (; *keys; keys++)
        yyjson_mut_arr_add_str(d, json_ensure_arr(d, rule, *keys), value);
}

static void my_rules(yyjson_mut_doc *d, yyjson_mut_val *status, const struct identity *id) {
    static const char *const resource[] = {"verbs", "apiGroups", "resources", NULL};
    static const char *const path[] = {"verbs", "nonResourceURLs", NULL};
    bool master = identity_has_group(id, "system:masters");
    yyjson_mut_val *resources = json_ensure_arr(d, status, "resourceRules");
    yyjson_mut_val *paths = json_ensure_arr(d, status, "nonResourceRules");
    if (master) {
        add_rule(d, resources, resource, "*");
        add_rule(d, paths, path, "*");
    }
    json_set_bool(d, status, "incomplete", !master);
}

static int answer_review(yyjson_mut_doc *d, yyjson_mut_val *root, const struct kind *k, yyjson_val *body,
                         const struct identity *id, struct fail *f) {
    yyjson_val *spec = yyjson_obj_get(body, "spec");
    yyjson_mut_val *status = json_ensure_obj(d, root, "status");
    if (strcmp(k->plural, "selfsubjectreviews") == 0)
        who_am_i(d, status, id);
    else if (strcmp(k->plural, "selfsubjectrulesreviews") == 0)
        my_rules(d, status, id);
    else if (str_ends_with(k->plural, "subjectaccessreviews"))
        return access_review(d, status, k, spec, id, f);
    else
        return fail_set(f, 501, "NotImplemented", "%s is not offered by this server", k->plural);
    return 0;
}

static int serve_review(struct http_request *r, const struct kind *k, const struct identity *id, struct fail *f) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = NULL;
    if (body_parse(http_body(r), body_type_of(http_header(r, "Content-Type", NULL)), &body, f) < 0)
        return -1;
    if (!body || !yyjson_is_obj(yyjson_doc_get_root(body)))
        return fail_bad_request(f, "the body of the request is not a %s", k->kind);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(body, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(d);
    _cleanup_(free_p) char *api_version = kind_api_version(k);
    json_set_str(d, root, "kind", k->kind);
    json_set_str(d, root, "apiVersion", api_version);
    json_ensure_obj(d, root, "metadata");
    if (answer_review(d, root, k, yyjson_doc_get_root(body), id, f) < 0)
        return -1;
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(root, &len);
    answer_json(r, 201, bytes_of(text, len), wants_pretty(r));
    return 0;
}

bool review_serve(struct apiserver *s, struct http_request *r, const struct kind *k, const struct identity *id) {
    if (strcmp(k->group, "authorization.k8s.io") != 0 && strcmp(k->group, "authentication.k8s.io") != 0)
        return false;
    struct fail f = {0};
    if (serve_review(r, k, id, &f) < 0)
        answer_fail(r, &f);
    return true;
}
