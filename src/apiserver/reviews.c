/* Requests that are questions: what may I do, who am I. Nothing is stored. */
#include "apiserver/call.h"
#include "apiserver/rbac.h"

#include "base/str.h"

struct review {
    struct apiserver *s;
    const struct kind *kind;
    const char *ns;
    const struct identity *id; /* who asks */
    yyjson_val *spec;
    yyjson_mut_doc *d; /* of the answer */
    struct fail *f;
};

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

static bool review_allowed(struct apiserver *s, const struct identity *id, yyjson_val *spec) {
    yyjson_val *r = yyjson_obj_get(spec, "resourceAttributes"), *n = yyjson_obj_get(spec, "nonResourceAttributes");
    const struct access a = {.verb = attribute(r ? r : n, "verb"),
                             .group = attribute(r, "group"),
                             .resource = attribute(r, "resource"),
                             .subresource = attribute(r, "subresource"),
                             .ns = attribute(r, "namespace"),
                             .name = attribute(r, "name"),
                             .path = n ? attribute(n, "path") : NULL};
    return auth_allowed(s, id, &a);
}

static int access_review(struct review *v, yyjson_mut_val *status) {
    yyjson_val *spec = v->spec;
    bool self = str_starts_with(v->kind->plural, "self");
    if (!yyjson_obj_get(spec, "resourceAttributes") == !yyjson_obj_get(spec, "nonResourceAttributes"))
        fail_cause(v->f, "FieldValueInvalid", "spec.resourceAttributes",
                   "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified");
    else if (v->kind->namespaced &&
             strcmp(attribute(yyjson_obj_get(spec, "resourceAttributes"), "namespace"), v->ns) != 0)
        fail_cause(v->f, "FieldValueInvalid", "spec.resourceAttributes.namespace",
                   "Invalid value: must match metadata.namespace");
    if (!self && !*attribute(spec, "user") && yyjson_arr_size(yyjson_obj_get(spec, "groups")) == 0)
        fail_cause(v->f, "FieldValueInvalid", "spec.user",
                   "Invalid value: at least one of user or group must be specified");
    if (v->f->causes)
        return fail_invalid(v->f, v->kind->group, v->kind->kind, "");
    _cleanup_(identity_free) struct identity subject = {0};
    if (!self)
        subject_of(spec, &subject);
    json_set_bool(v->d, status, "allowed", review_allowed(v->s, self ? v->id : &subject, spec));
    return 0;
}

static void write_identity(yyjson_mut_doc *d, yyjson_mut_val *info, const struct identity *id) {
    json_set_str(d, info, "username", id->user);
    if (id->uid)
        json_set_str(d, info, "uid", id->uid);
    yyjson_mut_val *groups = json_ensure_arr(d, info, "groups");
    for (size_t i = 0; i < id->groups.count; i++)
        yyjson_mut_arr_add_strcpy(d, groups, id->groups.items[i]);
    for (size_t i = 0; i + 1 < id->extra.count; i += 2)
        yyjson_mut_arr_add_strcpy(d, json_ensure_arr(d, json_ensure_obj(d, info, "extra"), id->extra.items[i]),
                                  id->extra.items[i + 1]);
}

/* Is the token good, and whose is it? That it is not is an answer, too. */
static void token_review(struct review *v, yyjson_mut_val *status) {
    _cleanup_(strlist_free) struct strlist audiences = {0}, matched = {0};
    _cleanup_(identity_free) struct identity whose = {0};
    struct error err = ERROR_INIT;
    size_t i, n;
    yyjson_val *a;
    yyjson_arr_foreach (yyjson_obj_get(v->spec, "audiences"), i, n, a)
        strlist_add(&audiences, str_or(yyjson_get_str(a), ""));
    bool good = auth_token(v->s, bytes_str(attribute(v->spec, "token")), &audiences, &whose, &matched, &err) == 0;
    json_set_bool(v->d, status, "authenticated", good);
    if (!good) {
        json_set_str(v->d, status, "error", error_text(&err));
        return;
    }
    write_identity(v->d, json_ensure_obj(v->d, status, "user"), &whose);
    for (i = 0; i < matched.count; i++)
        yyjson_mut_arr_add_strcpy(v->d, json_ensure_arr(v->d, status, "audiences"), matched.items[i]);
}

struct rules {
    yyjson_mut_doc *d;
    yyjson_mut_val *resources, *paths;
};

static bool add_rule(void *arg, yyjson_val *rule) {
    struct rules *r = arg;
    bool path = yyjson_arr_size(yyjson_obj_get(rule, "nonResourceURLs")) > 0;
    yyjson_mut_arr_append(path ? r->paths : r->resources, yyjson_val_mut_copy(r->d, rule));
    return true;
}

static void my_rules(struct review *v, yyjson_mut_val *status) {
    struct rules r = {v->d, json_ensure_arr(v->d, status, "resourceRules"),
                      json_ensure_arr(v->d, status, "nonResourceRules")};
    rbac_each_rule(authorizer_rbac(v->s->authorizer), v->id, str_or(attribute(v->spec, "namespace"), "default"),
                   add_rule, &r);
    bool node = identity_node_name(v->id) != NULL;
    json_set_bool(v->d, status, "incomplete", node);
    if (node)
        json_set_str(v->d, status, "evaluationError", "node authorizer does not support user rule resolution");
}

static int answer_review(struct review *v, yyjson_mut_val *root) {
    const char *plural = v->kind->plural;
    yyjson_mut_val *status = json_ensure_obj(v->d, root, "status");
    if (strcmp(plural, "selfsubjectreviews") == 0)
        write_identity(v->d, json_ensure_obj(v->d, status, "userInfo"), v->id);
    else if (strcmp(plural, "selfsubjectrulesreviews") == 0)
        my_rules(v, status);
    else if (strcmp(plural, "tokenreviews") == 0)
        token_review(v, status);
    else
        return access_review(v, status);
    return 0;
}

static int serve_review(struct http_request *r, struct review *v) {
    const struct kind *k = v->kind;
    struct fail *f = v->f;
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
    v->d = d;
    v->spec = yyjson_obj_get(yyjson_doc_get_root(body), "spec");
    if (answer_review(v, root) < 0)
        return -1;
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(root, &len);
    answer_json(r, 201, bytes_of(text, len), wants_pretty(r));
    return 0;
}

bool review_serve(struct apiserver *s, struct http_request *r, const struct kind *k, const char *ns,
                  const struct identity *id) {
    if (strcmp(k->group, "authorization.k8s.io") != 0 && strcmp(k->group, "authentication.k8s.io") != 0)
        return false;
    struct fail f = {0};
    struct review v = {.s = s, .kind = k, .ns = ns, .id = id, .f = &f};
    if (serve_review(r, &v) < 0)
        answer_fail(r, &f);
    return true;
}
