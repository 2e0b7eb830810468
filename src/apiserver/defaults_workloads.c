/* Defaults of what runs pods, and of Services (embedded-api.md 5.4, 5.5). */
#include "apiserver/defaults_internal.h"

static yyjson_mut_val *spec_of(yyjson_mut_doc *d, yyjson_mut_val *o) {
    return json_ensure_obj(d, o, "spec");
}

static void default_bool(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, bool value) {
    if (!yyjson_mut_obj_get(obj, key))
        json_set_bool(d, obj, key, value);
}

static void default_template(yyjson_mut_doc *d, yyjson_mut_val *spec) {
    yyjson_mut_val *template = json_ensure_obj(d, spec, "template");
    json_ensure_obj(d, template, "metadata");
    default_pod_spec(d, json_ensure_obj(d, template, "spec"));
}

void default_deployment(yyjson_mut_doc *d, yyjson_mut_val *o) {
    yyjson_mut_val *spec = spec_of(d, o), *strategy = json_ensure_obj(d, spec, "strategy");
    default_int(d, spec, "replicas", 1);
    default_int(d, spec, "revisionHistoryLimit", 10);
    default_int(d, spec, "progressDeadlineSeconds", 600);
    default_str(d, strategy, "type", "RollingUpdate");
    if (str_eq(json_mut_str(strategy, "type"), "RollingUpdate")) {
        yyjson_mut_val *rolling = json_ensure_obj(d, strategy, "rollingUpdate");
        if (!yyjson_mut_obj_get(rolling, "maxUnavailable"))
            json_set_str(d, rolling, "maxUnavailable", "25%");
        if (!yyjson_mut_obj_get(rolling, "maxSurge"))
            json_set_str(d, rolling, "maxSurge", "25%");
    }
    default_template(d, spec);
}

void default_replicaset(yyjson_mut_doc *d, yyjson_mut_val *o) {
    yyjson_mut_val *spec = spec_of(d, o);
    default_int(d, spec, "replicas", 1);
    default_template(d, spec);
}

void default_daemonset(yyjson_mut_doc *d, yyjson_mut_val *o) {
    yyjson_mut_val *spec = spec_of(d, o), *strategy = json_ensure_obj(d, spec, "updateStrategy");
    default_int(d, spec, "revisionHistoryLimit", 10);
    default_str(d, strategy, "type", "RollingUpdate");
    if (str_eq(json_mut_str(strategy, "type"), "RollingUpdate")) {
        yyjson_mut_val *rolling = json_ensure_obj(d, strategy, "rollingUpdate");
        default_int(d, rolling, "maxUnavailable", 1);
        default_int(d, rolling, "maxSurge", 0);
    }
    default_template(d, spec);
}

void default_job(yyjson_mut_doc *d, yyjson_mut_val *o) {
    yyjson_mut_val *spec = spec_of(d, o);
    if (!yyjson_mut_obj_get(spec, "completions") && !yyjson_mut_obj_get(spec, "parallelism"))
        json_set_int(d, spec, "completions", 1);
    default_int(d, spec, "parallelism", 1);
    default_int(d, spec, "backoffLimit", 6);
    default_str(d, spec, "completionMode", "NonIndexed");
    default_bool(d, spec, "suspend", false);
    default_str(d, spec, "podReplacementPolicy",
                yyjson_mut_obj_get(spec, "podFailurePolicy") ? "Failed" : "TerminatingOrFailed");
    default_bool(d, spec, "manualSelector", false);
    default_template(d, spec);
}

void default_job_create(yyjson_mut_doc *d, yyjson_mut_val *o) {
    static const char *const prefixes[] = {"", "batch.kubernetes.io/"};
    yyjson_mut_val *spec = spec_of(d, o);
    if (yyjson_mut_get_bool(yyjson_mut_obj_get(spec, "manualSelector")))
        return;
    _cleanup_(free_p) char *uid = xstrdup(str_or(json_mut_str(o, "metadata", "uid"), ""));
    _cleanup_(free_p) char *name = xstrdup(str_or(json_mut_str(o, "metadata", "name"), ""));
    yyjson_mut_val *template_meta = json_ensure_obj(d, json_ensure_obj(d, spec, "template"), "metadata");
    yyjson_mut_val *labels = json_ensure_obj(d, template_meta, "labels");
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        _cleanup_(free_p) char *controller_uid = xasprintf("%scontroller-uid", prefixes[i]);
        _cleanup_(free_p) char *job_name = xasprintf("%sjob-name", prefixes[i]);
        json_set_str(d, labels, controller_uid, uid);
        json_set_str(d, labels, job_name, name);
    }
    yyjson_mut_val *selector = json_ensure_obj(d, spec, "selector");
    json_set_str(d, json_ensure_obj(d, selector, "matchLabels"), "batch.kubernetes.io/controller-uid", uid);
}

static void default_service_port(yyjson_mut_doc *d, yyjson_mut_val *port) {
    yyjson_mut_val *target = yyjson_mut_obj_get(port, "targetPort");
    default_str(d, port, "protocol", "TCP");
    if (!target || (yyjson_mut_is_int(target) && yyjson_mut_get_sint(target) == 0) ||
        (yyjson_mut_is_str(target) && yyjson_mut_get_len(target) == 0))
        json_set_int(d, port, "targetPort", yyjson_mut_get_sint(yyjson_mut_obj_get(port, "port")));
}

void default_service(yyjson_mut_doc *d, yyjson_mut_val *o) {
    yyjson_mut_val *spec = spec_of(d, o);
    default_str(d, spec, "type", "ClusterIP");
    default_str(d, spec, "sessionAffinity", "None");
    FOR_EACH(port, yyjson_mut_obj_get(spec, "ports"))
    default_service_port(d, port);
    const char *type = json_mut_str(spec, "type");
    if (str_eq(type, "ExternalName"))
        return;
    default_str(d, spec, "internalTrafficPolicy", "Cluster");
    default_str(d, spec, "ipFamilyPolicy", "SingleStack");
    if (yyjson_mut_arr_size(yyjson_mut_obj_get(spec, "ipFamilies")) == 0)
        yyjson_mut_arr_add_str(d, json_ensure_arr(d, spec, "ipFamilies"), "IPv4");
    if (str_eq(type, "NodePort") || str_eq(type, "LoadBalancer"))
        default_str(d, spec, "externalTrafficPolicy", "Cluster");
    if (str_eq(type, "LoadBalancer"))
        default_bool(d, spec, "allocateLoadBalancerNodePorts", true);
}

void default_endpoints(yyjson_mut_doc *d, yyjson_mut_val *o) {
    FOR_EACH(subset, yyjson_mut_obj_get(o, "subsets")) {
        FOR_EACH(port, yyjson_mut_obj_get(subset, "ports"))
        default_str(d, port, "protocol", "TCP");
    }
}

void default_endpointslice(yyjson_mut_doc *d, yyjson_mut_val *o) {
    FOR_EACH(port, yyjson_mut_obj_get(o, "ports")) {
        if (!yyjson_mut_obj_get(port, "name"))
            json_set_str(d, port, "name", "");
        default_str(d, port, "protocol", "TCP");
    }
}

void default_budget(yyjson_mut_doc *d, yyjson_mut_val *o) {
    spec_of(d, o);
}

void default_priority_class(yyjson_mut_doc *d, yyjson_mut_val *o) {
    default_str(d, o, "preemptionPolicy", "PreemptLowerPriority");
}
