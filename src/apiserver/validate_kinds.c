#include "apiserver/validate_kinds.h"

#include "apiserver/crd.h"
#include "apiserver/json_path.h"
#include "base/str.h"
#include "kube/quantity.h"

#define DATA_MAX (1024 * 1024)

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

static void check_taints(yyjson_val *o, struct field_errors *e) {
    static const char *const effects[] = {"NoExecute", "NoSchedule", "PreferNoSchedule", NULL};
    struct strlist seen = {0};
    size_t i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "spec", "taints"));
    for (yyjson_val *t; (t = yyjson_arr_iter_next(&it)) && i < 1000; i++) {
        const char *key = str_or(json_str(t, "key"), ""), *effect = str_or(json_str(t, "effect"), "");
        _cleanup_(free_p) char *field = xasprintf("spec.taints[%zu]", i), *id = xasprintf("%s:%s", key, effect);
        if (!qualified_name_valid(bytes_str(key)))
            field_errors_value(e, FIELD_INVALID, field, json_get(t, "key"), "must be a taint's key");
        if (!*effect) /* others are checked with all enumerations */
            field_errors_unsupported(e, field, effect, effects);
        if (strlist_has(&seen, id))
            field_errors_value(e, FIELD_DUPLICATE, field, t, "taints must be unique by key and effect pair");
        strlist_add(&seen, id);
    }
    strlist_free(&seen);
}

void validate_node(yyjson_val *o, struct field_errors *e) {
    static const char *const lists[] = {"allocatable", "capacity"};
    check_taints(o, e);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        yyjson_obj_iter it = yyjson_obj_iter_with(json_get(o, "status", lists[i]));
        for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
            struct quantity q;
            _cleanup_(free_p) char *field = xasprintf("status.%s.%s", lists[i], yyjson_get_str(key));
            yyjson_val *value = yyjson_obj_iter_get_val(key);
            if (quantity_parse(bytes_str(yyjson_get_str(value)), &q, NULL) < 0 || q.nano < 0)
                field_errors_value(e, FIELD_INVALID, field, value, "must be greater than or equal to 0");
        }
    }
}

/* ---- ConfigMaps and Secrets ------------------------------------------------------------------------------------- */

static bool data_key_valid(const char *key) {
    size_t n = strlen(key);
    if (n == 0 || n > 253 || str_eq(key, ".") || str_starts_with(key, ".."))
        return false;
    for (const char *p = key; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._", *p)))
            return false;
    return true;
}

static size_t check_keys(yyjson_val *map, const char *name, yyjson_val *other, bool encoded, struct field_errors *e) {
    size_t total = 0;
    yyjson_obj_iter it = yyjson_obj_iter_with(map);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        const char *k = yyjson_get_str(key);
        size_t n = yyjson_get_len(yyjson_obj_iter_get_val(key));
        _cleanup_(free_p) char *field = xasprintf("%s[%s]", name, k);
        total += encoded ? n / 4 * 3 : n;
        if (!data_key_valid(k))
            field_errors_value(e, FIELD_INVALID, field, key,
                               "a valid config key must consist of alphanumeric characters, '-', '_' or '.'");
        if (other && yyjson_obj_get(other, k))
            field_errors_add(e, FIELD_INVALID, field, "duplicate of key present in binaryData");
    }
    return total;
}

void validate_data_keys(yyjson_val *o, struct field_errors *e) {
    yyjson_val *binary = json_get(o, "binaryData");
    /* A search in the larger one for each key of the smaller would still be quadratic for absurd counts; 1 MiB of keys
     * is the limit of both. */
    size_t total = check_keys(json_get(o, "data"), "data", yyjson_obj_size(binary) ? binary : NULL, false, e) +
                   check_keys(binary, "binaryData", NULL, true, e);
    if (total > DATA_MAX)
        field_errors_add(e, FIELD_TOO_LONG, "", "may not be more than %d bytes", DATA_MAX);
}

static void require_key(yyjson_val *data, const char *key, struct field_errors *e) {
    _cleanup_(free_p) char *field = xasprintf("data[%s]", key);
    if (!yyjson_obj_get(data, key))
        field_errors_add(e, FIELD_REQUIRED, field, "%s", "");
}

static void require_json(yyjson_val *data, const char *key, struct field_errors *e) {
    yyjson_val *value = yyjson_obj_get(data, key);
    _cleanup_(free_p) char *field = xasprintf("data[%s]", key);
    require_key(data, key, e);
    if (!value)
        return;
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(DATA_MAX * 2);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    if (base64_decode(bytes_str(yyjson_get_str(value)), &text) == 0)
        doc = json_parse(buf_bytes(&text), DATA_MAX * 2, NULL);
    if (!doc)
        field_errors_add(e, FIELD_INVALID, field, "<secret contents redacted>: must be JSON");
}

void validate_secret(yyjson_val *o, struct field_errors *e) {
    yyjson_val *data = json_get(o, "data");
    const char *type = str_or(json_str(o, "type"), "");
    if (check_keys(data, "data", NULL, true, e) > DATA_MAX)
        field_errors_add(e, FIELD_TOO_LONG, "data", "may not be more than %d bytes", DATA_MAX);
    if (str_eq(type, "kubernetes.io/tls")) {
        require_key(data, "tls.crt", e);
        require_key(data, "tls.key", e);
    } else if (str_eq(type, "kubernetes.io/dockerconfigjson")) {
        require_json(data, ".dockerconfigjson", e);
    } else if (str_eq(type, "kubernetes.io/dockercfg")) {
        require_json(data, ".dockercfg", e);
    } else if (str_eq(type, "kubernetes.io/basic-auth")) {
        if (!yyjson_obj_get(data, "username") && !yyjson_obj_get(data, "password")) {
            require_key(data, "username", e);
            require_key(data, "password", e);
        }
    } else if (str_eq(type, "kubernetes.io/ssh-auth")) {
        require_key(data, "ssh-privatekey", e);
    } else if (str_eq(type, "kubernetes.io/service-account-token") &&
               str_empty(object_annotation(o, "kubernetes.io/service-account.name"))) {
        field_errors_add(e, FIELD_REQUIRED, "metadata.annotations[kubernetes.io/service-account.name]", "%s", "");
    }
}

void validate_data_update(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    static const char *const frozen[] = {"data", "binaryData"};
    if (!json_bool_or(json_get(old, "immutable"), false))
        return;
    if (!json_bool_or(json_get(o, "immutable"), false))
        field_errors_add(e, FIELD_FORBIDDEN, "immutable", "field is immutable when `immutable` is set");
    for (size_t i = 0; i < ARRAY_LEN(frozen); i++)
        if (!same_value(json_get(o, frozen[i]), json_get(old, frozen[i])))
            field_errors_add(e, FIELD_FORBIDDEN, frozen[i], "field is immutable when `immutable` is set");
}

/* ---- Leases and Events ------------------------------------------------------------------------------------------ */

void validate_lease(yyjson_val *o, struct field_errors *e) {
    yyjson_val *duration = json_get(o, "spec", "leaseDurationSeconds"),
               *moves = json_get(o, "spec", "leaseTransitions");
    if (duration && json_int_or(duration, 1) <= 0)
        field_errors_value(e, FIELD_INVALID, "spec.leaseDurationSeconds", duration, "must be greater than 0");
    if (moves && json_int_or(moves, 0) < 0)
        field_errors_value(e, FIELD_INVALID, "spec.leaseTransitions", moves, "must be greater than or equal to 0");
}

void validate_event(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    static const char *const types[] = {"Normal", "Warning", NULL};
    static const char *const required[] = {"reportingController", "reportingInstance", "action", "reason"};
    bool core = !*k->group;
    const char *about = json_str(o, core ? "involvedObject" : "regarding", "namespace");
    /* Events about objects of the cluster stand in default. */
    const char *expected = str_empty(about) ? "default" : about;
    bool node_events = str_empty(about) && str_eq(object_namespace(o), "kube-system");
    if (!str_eq(object_namespace(o), expected) && !node_events)
        field_errors_value(e, FIELD_INVALID, core ? "involvedObject.namespace" : "regarding.namespace",
                           json_get(o, core ? "involvedObject" : "regarding", "namespace"),
                           "does not match event.namespace");
    if (core)
        return;
    if (str_empty(json_str(o, "eventTime")))
        field_errors_add(e, FIELD_REQUIRED, "eventTime", "%s", "");
    for (size_t i = 0; i < ARRAY_LEN(required); i++)
        if (str_empty(json_str(o, required[i])))
            field_errors_add(e, FIELD_REQUIRED, required[i], "%s", "");
    const char *type = str_or(json_str(o, "type"), "");
    if (!str_eq(type, types[0]) && !str_eq(type, types[1]))
        field_errors_unsupported(e, "type", type, types);
}

/* ---- CustomResourceDefinitions ---------------------------------------------------------------------------------- */

static void require(yyjson_val *o, const char *path, const char *member, struct field_errors *e) {
    _cleanup_(free_p) char *field = xasprintf("%s.%s", path, member);
    if (str_empty(json_str(o, member)))
        field_errors_add(e, FIELD_REQUIRED, field, "%s", "");
}

static void check_names(yyjson_val *spec, struct field_errors *e) {
    static const char *const lower[] = {"plural", "singular"};
    yyjson_val *names = json_get(spec, "names");
    require(names, "spec.names", "plural", e);
    require(names, "spec.names", "kind", e);
    for (size_t i = 0; i < ARRAY_LEN(lower); i++) {
        const char *value = json_str(names, lower[i]);
        _cleanup_(free_p) char *field = xasprintf("spec.names.%s", lower[i]);
        if (!str_empty(value) && !dns_label_valid(bytes_str(value)))
            field_errors_value(e, FIELD_INVALID, field, json_get(names, lower[i]), "must be a lowercase DNS label");
    }
    static const char *const kinds[] = {"kind", "listKind"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const char *value = json_str(names, kinds[i]);
        bool ok = str_empty(value) || strlen(value) <= 63;
        for (const char *p = value; ok && p && *p; p++)
            ok = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (p > value && *p >= '0' && *p <= '9');
        _cleanup_(free_p) char *field = xasprintf("spec.names.%s", kinds[i]);
        if (!ok)
            field_errors_value(e, FIELD_INVALID, field, json_get(names, kinds[i]), "must be letters and digits");
    }
}

static void check_columns(yyjson_val *version, const char *path, struct field_errors *e) {
    size_t i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(version, "additionalPrinterColumns"));
    for (yyjson_val *c; (c = yyjson_arr_iter_next(&it)); i++) {
        _cleanup_(free_p) char *field = xasprintf("%s.additionalPrinterColumns[%zu]", path, i);
        require(c, field, "name", e);
        require(c, field, "type", e);
        require(c, field, "jsonPath", e);
    }
}

static void check_version(yyjson_val *version, size_t i, struct field_errors *e, struct strlist *warnings) {
    _cleanup_(free_p) char *path = xasprintf("spec.versions[%zu]", i);
    _cleanup_(free_p) char *name = xasprintf("%s.name", path), *schema = xasprintf("%s.schema.openAPIV3Schema", path),
                           *scale = xasprintf("%s.subresources.scale", path);
    yyjson_val *root = json_get(version, "schema", "openAPIV3Schema");
    if (!dns_label_valid(bytes_str(str_or(json_str(version, "name"), ""))))
        field_errors_value(e, FIELD_INVALID, name, json_get(version, "name"), "must be a DNS label");
    if (!root)
        field_errors_add(e, FIELD_REQUIRED, schema, "schemas are required");
    else
        crd_schema_check(root, schema, e, warnings);
    check_columns(version, path, e);
    if (warnings && json_get(version, "subresources", "scale"))
        strlist_add_take(warnings, xasprintf("%s: the scale subresource is not served by this server", scale));
}

void validate_crd(yyjson_val *o, struct field_errors *e, struct strlist *warnings) {
    static const char *const scopes[] = {"Cluster", "Namespaced", NULL};
    yyjson_val *spec = json_get(o, "spec");
    const char *group = str_or(json_str(spec, "group"), ""), *scope = str_or(json_str(spec, "scope"), "");
    size_t i = 0, storage = 0;
    if (!dns_subdomain_valid(bytes_str(group)) || !strchr(group, '.'))
        field_errors_value(e, FIELD_INVALID, "spec.group", json_get(spec, "group"),
                           "should be a domain with at least one dot");
    if (!str_eq(scope, scopes[0]) && !str_eq(scope, scopes[1]))
        field_errors_unsupported(e, "spec.scope", scope, scopes);
    check_names(spec, e);
    _cleanup_(free_p) char *expected = xasprintf("%s.%s", str_or(json_str(spec, "names", "plural"), ""), group);
    if (!str_eq(object_name(o), expected))
        field_errors_value(e, FIELD_INVALID, "metadata.name", json_get(o, "metadata", "name"),
                           "must be spec.names.plural+\".\"+spec.group");
    struct strlist seen = {0};
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(spec, "versions"));
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)) && i < 32; i++) {
        check_version(v, i, e, warnings);
        storage += json_bool_or(json_get(v, "storage"), false);
        if (strlist_has(&seen, str_or(json_str(v, "name"), "")))
            field_errors_value(e, FIELD_DUPLICATE, "spec.versions", json_get(v, "name"), "");
        strlist_add(&seen, str_or(json_str(v, "name"), ""));
    }
    strlist_free(&seen);
    if (i == 0)
        field_errors_add(e, FIELD_REQUIRED, "spec.versions", "%s", "");
    else if (storage != 1)
        field_errors_add(e, FIELD_INVALID, "spec.versions", "must have exactly one version marked as storage version");
    if (yyjson_arr_size(json_get(spec, "versions")) > 32)
        field_errors_add(e, FIELD_TOO_MANY, "spec.versions", "must have at most 32 items");
    const char *strategy = json_str(spec, "conversion", "strategy");
    if (!str_empty(strategy) && !str_eq(strategy, "None"))
        field_errors_add(e, FIELD_NOT_SUPPORTED, "spec.conversion.strategy",
                         "\"%s\": supported values: \"None\" (conversion webhooks are not offered by this server)",
                         strategy);
}
