/* Validation of metadata, and which rules belong to which kind. */
#include "apiserver/validate.h"

#include "apiserver/crd.h"
#include "apiserver/validate_kinds.h"

#define ANNOTATIONS_MAX (256 * 1024)

bool same_value(yyjson_val *a, yyjson_val *b) {
    return (!a && !b) || (a && b && json_equal(a, b));
}

/* ---- metadata --------------------------------------------------------------------------------------------------- */

static void check_name(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    static const char subdomain[] =
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character, in at most 253 characters";
    static const char label[] =
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        "with an alphanumeric character, in at most 63 characters";
    yyjson_val *value = json_get(o, "metadata", "name");
    struct bytes name = bytes_str(object_name(o));
    const char *why = NULL;
    if (name.len == 0) {
        field_errors_add(e, FIELD_REQUIRED, "metadata.name", "name or generateName is required");
        return;
    }
    switch (k->name_rule) {
    case NAME_DNS_SUBDOMAIN:
    case NAME_CRD:
        why = dns_subdomain_valid(name) ? NULL : subdomain;
        break;
    case NAME_DNS_LABEL:
        why = dns_label_valid(name) ? NULL : label;
        break;
    case NAME_PATH_SEGMENT:
        if (bytes_eq_str(name, ".") || bytes_eq_str(name, "..") || memchr(name.ptr, '/', name.len) ||
            memchr(name.ptr, '%', name.len))
            why = "must be a path segment: not '.' or '..', without '/' and '%'";
        break;
    }
    if (why)
        field_errors_value(e, FIELD_INVALID, "metadata.name", value, why);
}

static void check_labels(yyjson_val *labels, struct field_errors *e) {
    yyjson_obj_iter it = yyjson_obj_iter_with(labels);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (!qualified_name_valid(bytes_str(yyjson_get_str(key))))
            field_errors_value(e, FIELD_INVALID, "metadata.labels", key,
                               "must be [prefix/]name, with a name of at most 63 of 'A-Za-z0-9-_.'");
        if (!label_value_valid(bytes_str(yyjson_get_str(value))))
            field_errors_value(
                e, FIELD_INVALID, "metadata.labels", value,
                "a label value must be empty or at most 63 of 'A-Za-z0-9-_.', alphanumeric at both ends");
    }
}

static void check_annotations(yyjson_val *annotations, struct field_errors *e) {
    size_t total = 0;
    yyjson_obj_iter it = yyjson_obj_iter_with(annotations);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        total += yyjson_get_len(key) + yyjson_get_len(yyjson_obj_iter_get_val(key));
        _cleanup_(free_p) char *lower = xstrdup(yyjson_get_str(key));
        for (char *p = lower; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
        if (!qualified_name_valid(bytes_str(lower)))
            field_errors_value(e, FIELD_INVALID, "metadata.annotations", key,
                               "must be [prefix/]name, with a name of at most 63 of 'A-Za-z0-9-_.'");
    }
    if (total > ANNOTATIONS_MAX)
        field_errors_add(e, FIELD_TOO_LONG, "metadata.annotations", "may not be more than %d bytes", ANNOTATIONS_MAX);
}

static void check_finalizers(yyjson_val *o, struct field_errors *e) {
    bool orphan = false, foreground = false;
    size_t i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "metadata", "finalizers"));
    for (yyjson_val *f; (f = yyjson_arr_iter_next(&it)); i++) {
        _cleanup_(free_p) char *field = xasprintf("metadata.finalizers[%zu]", i);
        orphan = orphan || str_eq(yyjson_get_str(f), "orphan");
        foreground = foreground || str_eq(yyjson_get_str(f), "foregroundDeletion");
        if (!qualified_name_valid(bytes_str(yyjson_get_str(f))))
            field_errors_value(e, FIELD_INVALID, field, f, "must be [prefix/]name");
    }
    if (orphan && foreground)
        field_errors_add(e, FIELD_INVALID, "metadata.finalizers", "orphan and foregroundDeletion exclude each other");
}

static void check_owners(yyjson_val *o, struct field_errors *e) {
    static const char *const required[] = {"apiVersion", "kind", "name", "uid"};
    size_t i = 0, controllers = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "metadata", "ownerReferences"));
    for (yyjson_val *r; (r = yyjson_arr_iter_next(&it)); i++) {
        for (size_t f = 0; f < ARRAY_LEN(required); f++) {
            _cleanup_(free_p) char *field = xasprintf("metadata.ownerReferences[%zu].%s", i, required[f]);
            if (str_empty(json_str(r, required[f])))
                field_errors_add(e, FIELD_REQUIRED, field, "must not be empty");
        }
        if (str_eq(json_str(r, "kind"), "Event") &&
            (str_eq(json_str(r, "apiVersion"), "v1") || str_eq(json_str(r, "apiVersion"), "events.k8s.io/v1")))
            field_errors_add(e, FIELD_INVALID, "metadata.ownerReferences",
                             "an Event is disallowed from being an owner");
        controllers += json_bool_or(json_get(r, "controller"), false);
    }
    if (controllers > 1)
        field_errors_add(e, FIELD_INVALID, "metadata.ownerReferences",
                         "only one reference can have controller set to true, found %zu", controllers);
}

static void check_metadata(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    check_name(k, o, e);
    if (k->namespaced && !dns_label_valid(bytes_str(object_namespace(o))))
        field_errors_value(e, FIELD_INVALID, "metadata.namespace", json_get(o, "metadata", "namespace"),
                           "must be a lowercase RFC 1123 label");
    check_labels(object_labels(o), e);
    check_annotations(object_annotations(o), e);
    check_finalizers(o, e);
    check_owners(o, e);
}

static bool has_finalizer(yyjson_val *o, const char *name) {
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "metadata", "finalizers"));
    for (yyjson_val *f; (f = yyjson_arr_iter_next(&it));)
        if (str_eq(yyjson_get_str(f), name))
            return true;
    return false;
}

static void check_metadata_update(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    static const char *const fixed[] = {
        "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        _cleanup_(free_p) char *field = xasprintf("metadata.%s", fixed[i]);
        yyjson_val *now = json_get(o, "metadata", fixed[i]);
        if (!same_value(now, json_get(old, "metadata", fixed[i])))
            field_errors_value(e, FIELD_INVALID, field, now, "field is immutable");
    }
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "metadata", "finalizers"));
    for (yyjson_val *f; object_deleting(old) && (f = yyjson_arr_iter_next(&it));)
        if (!has_finalizer(old, yyjson_get_str(f)))
            field_errors_add(e, FIELD_FORBIDDEN, "metadata.finalizers",
                             "no new finalizers can be added if the object is being deleted, found new finalizer %s",
                             str_or(yyjson_get_str(f), ""));
}

/* ---- kinds ------------------------------------------------------------------------------------------------------ */

static void check_kind(const struct kind *k, yyjson_val *o, struct field_errors *e, struct strlist *warnings) {
    if (k->custom)
        crd_schema_validate(k->schema, o, e);
    else if (str_eq(k->kind, "Pod"))
        validate_pod(o, e);
    else if (str_eq(k->kind, "Node"))
        validate_node(o, e);
    else if (str_eq(k->kind, "ConfigMap"))
        validate_data_keys(o, e);
    else if (str_eq(k->kind, "Secret"))
        validate_secret(o, e);
    else if (str_eq(k->kind, "Lease"))
        validate_lease(o, e);
    else if (str_eq(k->kind, "Event"))
        validate_event(k, o, e);
    else if (str_eq(k->kind, "CustomResourceDefinition"))
        validate_crd(o, e, warnings);
    else if (str_eq(k->kind, "Role") || str_eq(k->kind, "ClusterRole"))
        validate_role(k, o, e);
    else if (str_eq(k->kind, "RoleBinding") || str_eq(k->kind, "ClusterRoleBinding"))
        validate_binding(k, o, e);
    else
        validate_workload(k, o, e);
}

void validate_create(const struct kind *k, yyjson_val *obj, struct field_errors *e, struct strlist *warnings) {
    check_metadata(k, obj, e);
    check_kind(k, obj, e, warnings);
    validate_schema(k, obj, e);
    if (warnings && !k->custom && str_eq(k->kind, "Pod") && object_name(obj)[0] &&
        !dns_label_valid(bytes_str(object_name(obj))))
        strlist_add(warnings, "metadata.name: this is used in the Pod's hostname, which can result in surprising "
                              "behavior; a DNS label is recommended");
}

void validate_immutable(yyjson_val *o, yyjson_val *old, const char *a, const char *b, struct field_errors *e) {
    yyjson_val *now = b ? json_get(o, a, b) : json_get(o, a), *before = b ? json_get(old, a, b) : json_get(old, a);
    if (same_value(now, before))
        return;
    _cleanup_(free_p) char *field = xasprintf("%s%s%s", a, b ? "." : "", b ? b : "");
    field_errors_value(e, FIELD_INVALID, field, now, "field is immutable");
}

/* As immutable, but may be set once. */
static void set_once(yyjson_val *o, yyjson_val *old, const char *a, const char *b, struct field_errors *e) {
    yyjson_val *before = json_get(old, a, b);
    if (before && !(yyjson_is_str(before) && yyjson_get_len(before) == 0))
        validate_immutable(o, old, a, b, e);
}

static void check_kind_update(const struct kind *k, yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    if (k->custom)
        return;
    if (str_eq(k->kind, "Pod")) {
        validate_pod_update(o, old, e);
    } else if (str_eq(k->kind, "ConfigMap") || str_eq(k->kind, "Secret")) {
        validate_data_update(o, old, e);
        if (str_eq(k->kind, "Secret"))
            validate_immutable(o, old, "type", NULL, e);
    } else if (str_eq(k->kind, "Node")) {
        set_once(o, old, "spec", "podCIDR", e);
        set_once(o, old, "spec", "podCIDRs", e);
        set_once(o, old, "spec", "providerID", e);
    } else if (str_eq(k->kind, "RoleBinding") || str_eq(k->kind, "ClusterRoleBinding")) {
        if (!same_value(json_get(o, "roleRef"), json_get(old, "roleRef")))
            field_errors_value(e, FIELD_INVALID, "roleRef", json_get(o, "roleRef"), "cannot change roleRef");
    } else if (str_eq(k->kind, "CustomResourceDefinition")) {
        validate_immutable(o, old, "spec", "group", e);
        validate_immutable(o, old, "spec", "scope", e);
        if (!same_value(json_get(o, "spec", "names", "plural"), json_get(old, "spec", "names", "plural")))
            field_errors_add(e, FIELD_INVALID, "spec.names.plural", "field is immutable");
        if (!same_value(json_get(o, "spec", "names", "kind"), json_get(old, "spec", "names", "kind")))
            field_errors_add(e, FIELD_INVALID, "spec.names.kind", "field is immutable");
    } else {
        validate_workload_update(k, o, old, e);
    }
}

void validate_update(const struct kind *k, const char *subresource, yyjson_val *obj, yyjson_val *old,
                     struct field_errors *e, struct strlist *warnings) {
    bool main_resource = str_empty(subresource);
    check_metadata(k, obj, e);
    check_metadata_update(obj, old, e);
    /* The spec of a status write is the stored one: it was valid once, and is not the writer's concern. */
    if (main_resource || k->custom || str_eq(k->kind, "Node"))
        check_kind(k, obj, e, warnings);
    if (main_resource)
        validate_schema(k, obj, e);
    if (main_resource)
        check_kind_update(k, obj, old, e);
}
