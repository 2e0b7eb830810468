/* Rules of the kinds that say who may do what (embedded-api.md 5.6). */
#include "apiserver/validate_kinds.h"

#include "base/str.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

static void validate_rule(yyjson_val *rule, const char *path, bool namespaced, struct field_errors *e) {
    _cleanup_(free_p) char *verbs = xasprintf("%s.verbs", path), *urls = xasprintf("%s.nonResourceURLs", path),
                           *groups = xasprintf("%s.apiGroups", path), *resources = xasprintf("%s.resources", path);
    size_t n_urls = yyjson_arr_size(json_get(rule, "nonResourceURLs")),
           n_groups = yyjson_arr_size(json_get(rule, "apiGroups")),
           n_resources = yyjson_arr_size(json_get(rule, "resources"));
    if (yyjson_arr_size(json_get(rule, "verbs")) == 0)
        field_errors_add(e, FIELD_REQUIRED, verbs, "Required value: verbs must contain at least one value");
    if (n_urls > 0) {
        if (namespaced)
            field_errors_value(e, FIELD_INVALID, urls, json_get(rule, "nonResourceURLs"),
                               "namespaced rules cannot apply to non-resource URLs");
        if (n_groups + n_resources + yyjson_arr_size(json_get(rule, "resourceNames")) > 0)
            field_errors_value(e, FIELD_INVALID, urls, json_get(rule, "nonResourceURLs"),
                               "rules cannot apply to both regular resources and non-resource URLs");
        return;
    }
    if (n_groups == 0)
        field_errors_add(e, FIELD_REQUIRED, groups,
                         "Required value: resource rules must supply at least one api group");
    if (n_resources == 0)
        field_errors_add(e, FIELD_REQUIRED, resources,
                         "Required value: resource rules must supply at least one resource");
}

void validate_role(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    size_t i, n;
    yyjson_val *rule;
    yyjson_arr_foreach (json_get(o, "rules"), i, n, rule) {
        _cleanup_(free_p) char *path = xasprintf("rules[%zu]", i);
        validate_rule(rule, path, k->namespaced, e);
    }
    yyjson_val *selectors = json_get(o, "aggregationRule", "clusterRoleSelectors");
    if (json_get(o, "aggregationRule") && yyjson_arr_size(selectors) == 0)
        field_errors_add(e, FIELD_REQUIRED, "aggregationRule.clusterRoleSelectors",
                         "Required value: at least one clusterRoleSelector required if aggregationRule is non-nil");
}

static void validate_subject(const struct kind *k, yyjson_val *s, const char *path, struct field_errors *e) {
    static const char *const account[] = {"", NULL}, *const person[] = {RBAC_GROUP, NULL},
                             *const kinds[] = {"Group", "ServiceAccount", "User", NULL};
    _cleanup_(free_p) char *name_path = xasprintf("%s.name", path), *ns_path = xasprintf("%s.namespace", path),
                           *group_path = xasprintf("%s.apiGroup", path), *kind_path = xasprintf("%s.kind", path);
    const char *kind = str_or(json_str(s, "kind"), ""), *group = str_or(json_str(s, "apiGroup"), "");
    if (str_empty(json_str(s, "name")))
        field_errors_add(e, FIELD_REQUIRED, name_path, "Required value");
    if (str_eq(kind, "ServiceAccount")) {
        if (*group)
            field_errors_unsupported(e, group_path, group, account);
        if (str_empty(json_str(s, "namespace")) && !k->namespaced)
            field_errors_add(e, FIELD_REQUIRED, ns_path, "Required value");
    } else if (str_eq(kind, "User") || str_eq(kind, "Group")) {
        if (!str_eq(group, RBAC_GROUP))
            field_errors_unsupported(e, group_path, group, person);
    } else {
        field_errors_unsupported(e, kind_path, kind, kinds);
    }
}

void validate_binding(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    static const char *const groups[] = {RBAC_GROUP, NULL}, *const cluster[] = {"ClusterRole", NULL},
                             *const both[] = {"ClusterRole", "Role", NULL};
    const char *group = str_or(json_str(o, "roleRef", "apiGroup"), ""),
               *kind = str_or(json_str(o, "roleRef", "kind"), "");
    size_t i, n;
    yyjson_val *subject;
    if (!str_eq(group, RBAC_GROUP))
        field_errors_unsupported(e, "roleRef.apiGroup", group, groups);
    if (!str_eq(kind, "ClusterRole") && !(k->namespaced && str_eq(kind, "Role")))
        field_errors_unsupported(e, "roleRef.kind", kind, k->namespaced ? both : cluster);
    if (str_empty(json_str(o, "roleRef", "name")))
        field_errors_add(e, FIELD_REQUIRED, "roleRef.name", "Required value");
    yyjson_arr_foreach (json_get(o, "subjects"), i, n, subject) {
        _cleanup_(free_p) char *path = xasprintf("subjects[%zu]", i);
        validate_subject(k, subject, path, e);
    }
}
