#include "apiserver/controllers/fit.h"

#include "base/str.h"

#include <stdio.h>

static const char *text(yyjson_val *v, const char *key) {
    return str_or(json_str(v, key), "");
}

bool fit_tolerates_one(yyjson_val *t, const char *key, const char *value, const char *effect) {
    const char *t_key = text(t, "key"), *t_effect = text(t, "effect");
    bool exists = strcmp(text(t, "operator"), "Exists") == 0;
    if (*t_effect && strcmp(t_effect, effect) != 0)
        return false;
    if (!*t_key && exists)
        return true;
    return strcmp(t_key, key) == 0 && (exists || strcmp(text(t, "value"), value) == 0);
}

bool fit_tolerates(yyjson_val *tolerations, const char *key, const char *value, const char *effect) {
    size_t i, n;
    yyjson_val *t;
    yyjson_arr_foreach (tolerations, i, n, t)
        if (fit_tolerates_one(t, key, value, effect))
            return true;
    return false;
}

/* ---- node selector and affinity ---- */

static bool in_values(yyjson_val *values, const char *value) {
    size_t i, n;
    yyjson_val *v;
    yyjson_arr_foreach (values, i, n, v)
        if (str_eq(yyjson_get_str(v), value))
            return true;
    return false;
}

static bool compare(yyjson_val *values, const char *value, bool greater) {
    int64_t want, have;
    const char *w = yyjson_get_str(yyjson_arr_get_first(values));
    if (yyjson_arr_size(values) != 1 || !w || parse_i64(bytes_str(w), INT64_MIN, INT64_MAX, &want) < 0 ||
        parse_i64(bytes_str(value), INT64_MIN, INT64_MAX, &have) < 0)
        return false;
    return greater ? have > want : have < want;
}

/* value NULL: the label is not there. */
static bool requirement_met(yyjson_val *r, const char *value) {
    const char *op = text(r, "operator");
    yyjson_val *values = yyjson_obj_get(r, "values");
    if (strcmp(op, "In") == 0)
        return value && in_values(values, value);
    if (strcmp(op, "NotIn") == 0)
        return !value || !in_values(values, value);
    if (strcmp(op, "Exists") == 0)
        return value != NULL;
    if (strcmp(op, "DoesNotExist") == 0)
        return value == NULL;
    if (strcmp(op, "Gt") == 0 || strcmp(op, "Lt") == 0)
        return value && compare(values, value, op[0] == 'G');
    return false;
}

static bool term_met(yyjson_val *term, yyjson_val *node) {
    size_t i, n;
    yyjson_val *r, *labels = json_get(node, "metadata", "labels");
    yyjson_val *expressions = yyjson_obj_get(term, "matchExpressions"), *fields = yyjson_obj_get(term, "matchFields");
    if (yyjson_arr_size(expressions) == 0 && yyjson_arr_size(fields) == 0)
        return false; /* an empty term matches nothing */
    yyjson_arr_foreach (expressions, i, n, r)
        if (!requirement_met(r, yyjson_get_str(yyjson_obj_get(labels, text(r, "key")))))
            return false;
    yyjson_arr_foreach (fields, i, n, r)
        if (strcmp(text(r, "key"), "metadata.name") != 0 || !requirement_met(r, json_str(node, "metadata", "name")))
            return false;
    return true;
}

static bool affinity_met(yyjson_val *pod, yyjson_val *node) {
    yyjson_val *required =
        json_get(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution");
    if (!required || yyjson_is_null(required))
        return true;
    size_t i, n;
    yyjson_val *term;
    yyjson_arr_foreach (yyjson_obj_get(required, "nodeSelectorTerms"), i, n, term)
        if (term_met(term, node))
            return true;
    return false;
}

bool fit_selected(yyjson_val *pod, yyjson_val *node) {
    size_t i, n;
    yyjson_val *key, *value, *labels = json_get(node, "metadata", "labels");
    yyjson_obj_foreach (json_get(pod, "spec", "nodeSelector"), i, n, key, value)
        if (!str_eq(yyjson_get_str(yyjson_obj_get(labels, yyjson_get_str(key))), yyjson_get_str(value)))
            return false;
    return affinity_met(pod, node);
}

/* ---- taints ---- */

static bool taints_tolerated(yyjson_val *pod, yyjson_val *node, char *reason) {
    yyjson_val *tolerations = json_get(pod, "spec", "tolerations"), *t;
    size_t i, n;
    yyjson_arr_foreach (json_get(node, "spec", "taints"), i, n, t) {
        const char *effect = text(t, "effect"), *key = text(t, "key"), *value = text(t, "value");
        if (strcmp(effect, "NoSchedule") != 0 && strcmp(effect, "NoExecute") != 0)
            continue;
        if (fit_tolerates(tolerations, key, value, effect))
            continue;
        snprintf(reason, FIT_REASON_SIZE, "node(s) had untolerated taint {%s: %s}", key, value);
        return false;
    }
    return true;
}

static int64_t untolerated(yyjson_val *pod, yyjson_val *node, const char *wanted) {
    yyjson_val *tolerations = json_get(pod, "spec", "tolerations"), *t;
    size_t i, n;
    int64_t count = 0;
    yyjson_arr_foreach (json_get(node, "spec", "taints"), i, n, t)
        count += strcmp(text(t, "effect"), wanted) == 0 &&
                 !fit_tolerates(tolerations, text(t, "key"), text(t, "value"), wanted);
    return count;
}

bool fit_stays(yyjson_val *pod, yyjson_val *node) {
    return untolerated(pod, node, "NoExecute") == 0;
}

int64_t fit_unwelcome(yyjson_val *pod, yyjson_val *node) {
    return untolerated(pod, node, "PreferNoSchedule");
}

int64_t fit_preference(yyjson_val *pod, yyjson_val *node) {
    size_t i, n;
    int64_t sum = 0;
    yyjson_val *p;
    yyjson_arr_foreach (
        json_get(pod, "spec", "affinity", "nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution"), i, n, p)
        if (term_met(yyjson_obj_get(p, "preference"), node))
            sum += json_int_or(json_get(p, "weight"), 0);
    return sum;
}

bool fit_node(yyjson_val *pod, yyjson_val *node, bool ready, char *reason) {
    yyjson_val *tolerations = json_get(pod, "spec", "tolerations");
    if (yyjson_is_true(json_get(node, "spec", "unschedulable")) &&
        !fit_tolerates(tolerations, "node.kubernetes.io/unschedulable", "", "NoSchedule")) {
        snprintf(reason, FIT_REASON_SIZE, "node(s) were unschedulable");
        return false;
    }
    if (!fit_selected(pod, node)) {
        snprintf(reason, FIT_REASON_SIZE, "node(s) didn't match Pod's node affinity/selector");
        return false;
    }
    if (!taints_tolerated(pod, node, reason))
        return false;
    if (!ready && !fit_tolerates(tolerations, "node.kubernetes.io/not-ready", "", "NoSchedule")) {
        snprintf(reason, FIT_REASON_SIZE, "node(s) were not ready");
        return false;
    }
    return true;
}

static bool has_required(yyjson_val *pod, const char *kind) {
    return yyjson_arr_size(json_get(pod, "spec", "affinity", kind, "requiredDuringSchedulingIgnoredDuringExecution")) >
           0;
}

const char *fit_unsupported(yyjson_val *pod) {
    if (has_required(pod, "podAffinity"))
        return "required pod affinity is not offered by this server's scheduler";
    if (has_required(pod, "podAntiAffinity"))
        return "required pod anti-affinity is not offered by this server's scheduler";
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(pod, "spec", "topologySpreadConstraints"), i, n, c)
        if (strcmp(text(c, "whenUnsatisfiable"), "ScheduleAnyway") != 0)
            return "topology spread constraints (DoNotSchedule) are not offered by this server's scheduler";
    return NULL;
}
