/* What runs pods, and Services: what users notice (embedded-api.md 5.4, 5.5). */
#include "apiserver/validate_kinds.h"
#include "base/str.h"
#include "kube/selector.h"

static void at_least(yyjson_val *o, const char *const *path, size_t n, int64_t min, struct field_errors *e) {
    yyjson_val *v = json_get_path(o, path, n);
    if (!v || json_int_or(v, min) >= min)
        return;
    _cleanup_(buf_free) struct buf field = BUF_INIT(256);
    for (size_t i = 0; i < n; i++)
        buf_addf(&field, "%s%s", i ? "." : "", path[i]);
    field_errors_value(e, FIELD_INVALID, field.ptr, v,
                       min ? "must be greater than 0" : "must be greater than or equal to 0");
}
#define AT_LEAST(o, min, e, ...) \
    at_least((o), (const char *const[]){__VA_ARGS__}, ARRAY_LEN(((const char *const[]){__VA_ARGS__})), (min), (e))

static bool one_of(const char *value, const char *const *allowed) {
    for (size_t i = 0; allowed[i]; i++)
        if (str_eq(value, allowed[i]))
            return true;
    return false;
}

static void allowed_only(yyjson_val *value, const char *field, const char *const *allowed, struct field_errors *e) {
    const char *text = str_or(yyjson_get_str(value), "");
    if (!one_of(text, allowed))
        field_errors_unsupported(e, field, text, allowed);
}

/* ---- templates ---- */

static void check_template(yyjson_val *o, struct field_errors *e) {
    yyjson_val *labels = json_get(o, "spec", "template", "metadata", "labels");
    yyjson_obj_iter it = yyjson_obj_iter_with(labels);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (!qualified_name_valid(bytes_str(yyjson_get_str(key))) ||
            !label_value_valid(bytes_str(str_or(yyjson_get_str(value), ""))))
            field_errors_value(e, FIELD_INVALID, "spec.template.metadata.labels", value, "is no valid label");
    }
    validate_pod_spec(json_get(o, "spec", "template", "spec"), "spec.template.spec", e);
}

/* The selector is there, means something, and finds the pods of the template. */
static void check_selector(yyjson_val *o, struct field_errors *e) {
    struct error err = ERROR_INIT;
    _cleanup_(selector_free_p) struct selector *s = NULL;
    yyjson_val *value = json_get(o, "spec", "selector"),
               *labels = json_get(o, "spec", "template", "metadata", "labels");
    if (!value) {
        field_errors_add(e, FIELD_REQUIRED, "spec.selector", "%s", "");
        return;
    }
    if (selector_from_object(value, &s, &err) < 0) {
        field_errors_value(e, FIELD_INVALID, "spec.selector", value, error_text(&err));
        return;
    }
    if (selector_is_empty(s))
        field_errors_value(e, FIELD_INVALID, "spec.selector", value,
                           "empty selector is invalid for workloads: it would take every pod");
    else if (!selector_match_labels(s, labels))
        field_errors_value(e, FIELD_INVALID, "spec.template.metadata.labels", labels,
                           "`selector` does not match template `labels`");
}

static void restarts_always(yyjson_val *o, struct field_errors *e) {
    static const char *const allowed[] = {"Always", NULL};
    allowed_only(json_get(o, "spec", "template", "spec", "restartPolicy"), "spec.template.spec.restartPolicy", allowed,
                 e);
}

/* ---- numbers that may be percentages ---- */

static bool is_percent(yyjson_val *v, int64_t *out) {
    const char *text = yyjson_get_str(v);
    size_t len = text ? strlen(text) : 0;
    return len > 1 && text[len - 1] == '%' && parse_i64(bytes_of(text, len - 1), 0, 1000000, out) == 0;
}

/* true if it is zero. */
static bool check_amount(yyjson_val *v, const char *field, struct field_errors *e) {
    int64_t n = 0;
    if (!v)
        return true;
    if (yyjson_is_int(v) ? (n = json_int_or(v, 0)) < 0 : !is_percent(v, &n))
        field_errors_value(e, FIELD_INVALID, field, v, "must be a number that is not negative, or a percentage");
    return n == 0;
}

/* ---- kinds ---- */

static void check_deployment(yyjson_val *o, struct field_errors *e) {
    yyjson_val *strategy = json_get(o, "spec", "strategy"), *rolling = json_get(strategy, "rollingUpdate");
    check_selector(o, e);
    check_template(o, e);
    restarts_always(o, e);
    AT_LEAST(o, 0, e, "spec", "replicas");
    AT_LEAST(o, 0, e, "spec", "minReadySeconds");
    AT_LEAST(o, 0, e, "spec", "revisionHistoryLimit");
    AT_LEAST(o, 0, e, "spec", "progressDeadlineSeconds");
    int64_t deadline = json_int_or(json_get(o, "spec", "progressDeadlineSeconds"), 600);
    if (deadline <= json_int_or(json_get(o, "spec", "minReadySeconds"), 0))
        field_errors_value(e, FIELD_INVALID, "spec.progressDeadlineSeconds",
                           json_get(o, "spec", "progressDeadlineSeconds"), "must be greater than minReadySeconds");
    if (str_eq(json_str(strategy, "type"), "Recreate") && rolling) {
        field_errors_add(e, FIELD_FORBIDDEN, "spec.strategy.rollingUpdate",
                         "may not be specified when strategy `type` is 'Recreate'");
    } else if (rolling) {
        bool no_surge = check_amount(json_get(rolling, "maxSurge"), "spec.strategy.rollingUpdate.maxSurge", e);
        if (check_amount(json_get(rolling, "maxUnavailable"), "spec.strategy.rollingUpdate.maxUnavailable", e) &&
            no_surge)
            field_errors_value(e, FIELD_INVALID, "spec.strategy.rollingUpdate.maxUnavailable",
                               json_get(rolling, "maxUnavailable"), "may not be 0 when `maxSurge` is 0");
    }
}

static void check_replicaset(yyjson_val *o, struct field_errors *e) {
    check_selector(o, e);
    check_template(o, e);
    restarts_always(o, e);
    AT_LEAST(o, 0, e, "spec", "replicas");
    AT_LEAST(o, 0, e, "spec", "minReadySeconds");
}

static void check_daemonset(yyjson_val *o, struct field_errors *e) {
    yyjson_val *rolling = json_get(o, "spec", "updateStrategy", "rollingUpdate");
    check_selector(o, e);
    check_template(o, e);
    restarts_always(o, e);
    AT_LEAST(o, 0, e, "spec", "minReadySeconds");
    AT_LEAST(o, 0, e, "spec", "revisionHistoryLimit");
    if (!rolling)
        return;
    bool none =
        check_amount(json_get(rolling, "maxUnavailable"), "spec.updateStrategy.rollingUpdate.maxUnavailable", e);
    if (!check_amount(json_get(rolling, "maxSurge"), "spec.updateStrategy.rollingUpdate.maxSurge", e))
        field_errors_value(e, FIELD_NOT_SUPPORTED, "spec.updateStrategy.rollingUpdate.maxSurge",
                           json_get(rolling, "maxSurge"), "only 0 is offered by this server");
    else if (none)
        field_errors_value(e, FIELD_INVALID, "spec.updateStrategy.rollingUpdate.maxUnavailable",
                           json_get(rolling, "maxUnavailable"), "may not be 0 when `maxSurge` is 0");
}

/* What a Job may ask for that is not done here is refused, not ignored. */
static void refuse_unsupported(yyjson_val *o, struct field_errors *e) {
    static const char *const members[] = {"podFailurePolicy", "successPolicy", "backoffLimitPerIndex",
                                          "maxFailedIndexes", "managedBy"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        _cleanup_(free_p) char *field = xasprintf("spec.%s", members[i]);
        if (json_get(o, "spec", members[i]))
            field_errors_add(e, FIELD_FORBIDDEN, field, "is not offered by this server");
    }
}

static void check_job(yyjson_val *o, struct field_errors *e) {
    static const char *const restarts[] = {"Never", "OnFailure", NULL}, *const modes[] = {"NonIndexed", NULL};
    check_selector(o, e);
    check_template(o, e);
    AT_LEAST(o, 0, e, "spec", "parallelism");
    AT_LEAST(o, 0, e, "spec", "completions");
    AT_LEAST(o, 0, e, "spec", "backoffLimit");
    AT_LEAST(o, 1, e, "spec", "activeDeadlineSeconds");
    AT_LEAST(o, 0, e, "spec", "ttlSecondsAfterFinished");
    allowed_only(json_get(o, "spec", "template", "spec", "restartPolicy"), "spec.template.spec.restartPolicy", restarts,
                 e);
    allowed_only(json_get(o, "spec", "completionMode"), "spec.completionMode", modes, e);
    if (json_int_or(json_get(o, "spec", "completions"), 0) > 100000)
        field_errors_value(e, FIELD_INVALID, "spec.completions", json_get(o, "spec", "completions"),
                           "must be less than or equal to 100000");
    refuse_unsupported(o, e);
}

/* ---- Services ---- */

static void check_service_port(yyjson_val *port, size_t i, bool named, struct strlist *seen, struct field_errors *e) {
    _cleanup_(free_p) char *at = xasprintf("spec.ports[%zu]", i), *number_at = xasprintf("%s.port", at),
                           *name_at = xasprintf("%s.name", at), *target_at = xasprintf("%s.targetPort", at);
    int64_t number = json_int_or(json_get(port, "port"), 0);
    const char *protocol = str_or(json_str(port, "protocol"), ""), *name = json_str(port, "name");
    yyjson_val *target = json_get(port, "targetPort");
    if (number < 1 || number > 65535)
        field_errors_value(e, FIELD_INVALID, number_at, json_get(port, "port"),
                           "must be between 1 and 65535, inclusive");
    if (yyjson_is_int(target) && (json_int_or(target, 0) < 1 || json_int_or(target, 0) > 65535))
        field_errors_value(e, FIELD_INVALID, target_at, target, "must be between 1 and 65535, inclusive");
    if (named && str_empty(name))
        field_errors_add(e, FIELD_REQUIRED, name_at, "%s", "");
    if (!str_empty(name) && !dns_label_valid(bytes_str(name)))
        field_errors_value(e, FIELD_INVALID, name_at, json_get(port, "name"), "must be a lowercase RFC 1123 label");
    _cleanup_(free_p) char *key = xasprintf("%s/%lld", protocol, (long long)number);
    _cleanup_(free_p) char *name_key = xasprintf("name %s", str_or(name, ""));
    if (strlist_has(seen, key))
        field_errors_value(e, FIELD_DUPLICATE, at, port, "");
    if (!str_empty(name) && strlist_has(seen, name_key))
        field_errors_value(e, FIELD_DUPLICATE, name_at, json_get(port, "name"), "");
    strlist_add(seen, key);
    strlist_add(seen, name_key);
}

static void check_service(yyjson_val *o, struct field_errors *e) {
    yyjson_val *spec = json_get(o, "spec"), *ports = json_get(spec, "ports");
    _cleanup_(strlist_free) struct strlist seen = {0};
    const char *type = json_str(spec, "type");
    size_t i, n = yyjson_arr_size(ports);
    yyjson_val *port;
    bool external = str_eq(type, "ExternalName"), headless = str_eq(json_str(spec, "clusterIP"), "None");
    if (external && !dns_subdomain_valid(bytes_str(str_or(json_str(spec, "externalName"), ""))))
        field_errors_value(e, FIELD_INVALID, "spec.externalName", json_get(spec, "externalName"),
                           "must be a lowercase RFC 1123 subdomain");
    if (n == 0 && !external && !headless)
        field_errors_add(e, FIELD_REQUIRED, "spec.ports", "%s", "");
    if (n > 1000)
        field_errors_add(e, FIELD_TOO_MANY, "spec.ports", "must have at most 1000 items");
    yyjson_arr_foreach (ports, i, n, port)
        if (i < 1000)
            check_service_port(port, i, n > 1, &seen, e);
}

static void check_slice(yyjson_val *o, struct field_errors *e) {
    static const char *const types[] = {"FQDN", "IPv4", "IPv6", NULL};
    size_t i, n;
    yyjson_val *endpoint;
    allowed_only(json_get(o, "addressType"), "addressType", types, e);
    if (yyjson_arr_size(json_get(o, "endpoints")) > 1000)
        field_errors_add(e, FIELD_TOO_MANY, "endpoints", "must have at most 1000 items");
    if (yyjson_arr_size(json_get(o, "ports")) > 100)
        field_errors_add(e, FIELD_TOO_MANY, "ports", "must have at most 100 items");
    yyjson_arr_foreach (json_get(o, "endpoints"), i, n, endpoint) {
        _cleanup_(free_p) char *field = xasprintf("endpoints[%zu].addresses", i);
        size_t addresses = yyjson_arr_size(json_get(endpoint, "addresses"));
        if (addresses == 0)
            field_errors_add(e, FIELD_REQUIRED, field, "must contain at least 1 address");
        if (addresses > 100)
            field_errors_add(e, FIELD_TOO_MANY, field, "must have at most 100 items");
    }
}

static void check_budget(yyjson_val *o, struct field_errors *e) {
    yyjson_val *min = json_get(o, "spec", "minAvailable"), *max = json_get(o, "spec", "maxUnavailable");
    struct error err = ERROR_INIT;
    _cleanup_(selector_free_p) struct selector *s = NULL;
    if (min && max)
        field_errors_add(e, FIELD_INVALID, "spec", "minAvailable and maxUnavailable cannot be both set");
    check_amount(min, "spec.minAvailable", e);
    check_amount(max, "spec.maxUnavailable", e);
    if (selector_from_object(json_get(o, "spec", "selector"), &s, &err) < 0)
        field_errors_value(e, FIELD_INVALID, "spec.selector", json_get(o, "spec", "selector"), error_text(&err));
}

static void check_priority_class(yyjson_val *o, struct field_errors *e) {
    static const char *const policies[] = {"Never", "PreemptLowerPriority", NULL};
    bool system = str_starts_with(object_name(o), "system-");
    if (json_int_or(json_get(o, "value"), 0) > 1000000000 && !system)
        field_errors_add(e, FIELD_FORBIDDEN, "value", "maximum allowed value of a user defined priority is 1000000000");
    if (system && !str_eq(object_name(o), "system-node-critical") && !str_eq(object_name(o), "system-cluster-critical"))
        field_errors_add(e, FIELD_FORBIDDEN, "metadata.name",
                         "priority class names with 'system-' prefix are reserved for system use only");
    allowed_only(json_get(o, "preemptionPolicy"), "preemptionPolicy", policies, e);
}

/* ---- updates ---- */

static void update_selector(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    validate_immutable(o, old, "spec", "selector", e);
}

static void update_job(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    validate_immutable(o, old, "spec", "selector", e);
    validate_immutable(o, old, "spec", "completionMode", e);
    if (!json_bool_or(json_get(old, "spec", "suspend"), false))
        validate_immutable(o, old, "spec", "template", e);
    validate_immutable(o, old, "spec", "completions", e);
}

static void update_service(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    const char *had = json_str(old, "spec", "clusterIP");
    if (!str_empty(had) && !str_eq(json_str(o, "spec", "type"), "ExternalName") &&
        !str_eq(json_str(old, "spec", "type"), "ExternalName"))
        validate_immutable(o, old, "spec", "clusterIP", e);
}

static void update_revision(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    validate_immutable(o, old, "data", NULL, e);
}

static void update_slice(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    validate_immutable(o, old, "addressType", NULL, e);
}

static void update_priority_class(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    validate_immutable(o, old, "value", NULL, e);
    validate_immutable(o, old, "preemptionPolicy", NULL, e);
}

static const struct {
    const char *kind;
    void (*check)(yyjson_val *o, struct field_errors *e);
    void (*update)(yyjson_val *o, yyjson_val *old, struct field_errors *e);
} rules[] = {
    {"Deployment", check_deployment, update_selector},
    {"ReplicaSet", check_replicaset, update_selector},
    {"DaemonSet", check_daemonset, update_selector},
    {"Job", check_job, update_job},
    {"Service", check_service, update_service},
    {"ControllerRevision", NULL, update_revision},
    {"EndpointSlice", check_slice, update_slice},
    {"PodDisruptionBudget", check_budget, NULL},
    {"PriorityClass", check_priority_class, update_priority_class},
};

void validate_workload(const struct kind *k, yyjson_val *o, struct field_errors *e) {
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].check && str_eq(k->kind, rules[i].kind))
            rules[i].check(o, e);
}

void validate_workload_update(const struct kind *k, yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].update && str_eq(k->kind, rules[i].kind))
            rules[i].update(o, old, e);
}
