/* What is settled when a Service or a Pod is written, from what else there is: addresses, node ports, priorities
 * (embedded-api.md 5.4, 6.1). */
#include "apiserver/service_ips.h"
#include "apiserver/write.h"
#include "base/str.h"
#include "kube/object.h"

/* ---- Services ---- */

static int invalid(struct draft *t, const char *field, const char *why) {
    fail_cause(t->f, "FieldValueInvalid", field, "Invalid value: %s", why);
    return fail_invalid(t->f, "", "Service", str_or(json_mut_str(t->obj, "metadata", "name"), ""));
}

/* What the writer left out stays as it was: addresses and node ports belong to the server. */
static void keep_old(struct draft *t, yyjson_mut_val *spec) {
    yyjson_val *old = t->old_doc ? json_get(yyjson_doc_get_root(t->old_doc), "spec") : NULL;
    const char *had = json_str(old, "clusterIP");
    if (!str_empty(had) && str_empty(json_mut_str(spec, "clusterIP")) &&
        !str_eq(json_mut_str(spec, "type"), "ExternalName"))
        json_set_str(t->d, spec, "clusterIP", had);
    yyjson_mut_val *port;
    yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(yyjson_mut_obj_get(spec, "ports"));
    while (old && (port = yyjson_mut_arr_iter_next(&it))) {
        size_t i, n;
        yyjson_val *p;
        yyjson_arr_foreach (json_get(old, "ports"), i, n, p)
            if (json_int_or(json_get(p, "port"), 0) == yyjson_mut_get_sint(yyjson_mut_obj_get(port, "port")) &&
                str_eq(json_str(p, "protocol"), json_mut_str(port, "protocol")) && json_get(p, "nodePort") &&
                yyjson_mut_get_sint(yyjson_mut_obj_get(port, "nodePort")) == 0)
                json_set_int(t->d, port, "nodePort", json_int_or(json_get(p, "nodePort"), 0));
    }
}

static int settle_ip(struct draft *t, yyjson_mut_val *spec) {
    yyjson_val *old = t->old_doc ? json_get(yyjson_doc_get_root(t->old_doc), "spec") : NULL;
    const char *ip = json_mut_str(spec, "clusterIP");
    if (str_eq(json_mut_str(spec, "type"), "ExternalName")) {
        json_remove(spec, "clusterIP");
        json_remove(spec, "clusterIPs");
        return 0;
    }
    if (str_empty(ip)) {
        char taken[SERVICE_IP_SIZE];
        if (service_ip_take(t->w->s->service_ips, t->w->dry_run, taken) < 0)
            return fail_unavailable(t->f, "no address is left for Services");
        json_set_str(t->d, spec, "clusterIP", taken);
    } else if (!str_eq(ip, "None") && !str_eq(ip, json_str(old, "clusterIP"))) {
        if (!service_ip_valid(ip))
            return invalid(t, "spec.clusterIPs", "the provided IP is not in the valid range 10.96.0.0/16");
        if (service_ip_taken(t->w->s->service_ips, ip))
            return invalid(t, "spec.clusterIPs", "provided IP is already allocated");
    }
    yyjson_mut_val *list = yyjson_mut_arr(t->d);
    yyjson_mut_arr_add_strcpy(t->d, list, json_mut_str(spec, "clusterIP"));
    json_set(t->d, spec, "clusterIPs", list);
    return 0;
}

static bool had_port(struct draft *t, int64_t number) {
    size_t i, n;
    yyjson_val *p;
    yyjson_val *old = t->old_doc ? yyjson_doc_get_root(t->old_doc) : NULL;
    yyjson_arr_foreach (json_get(old, "spec", "ports"), i, n, p)
        if (json_int_or(json_get(p, "nodePort"), 0) == number)
            return true;
    return false;
}

static int settle_ports(struct draft *t, yyjson_mut_val *spec) {
    const char *type = json_mut_str(spec, "type");
    bool wanted = str_eq(type, "NodePort") || str_eq(type, "LoadBalancer");
    yyjson_mut_val *port, *ports = yyjson_mut_obj_get(spec, "ports");
    yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(ports);
    while (ports && (port = yyjson_mut_arr_iter_next(&it))) {
        int64_t number = yyjson_mut_get_sint(yyjson_mut_obj_get(port, "nodePort"));
        if (!wanted) {
            json_remove(port, "nodePort");
        } else if (number == 0) {
            int taken = service_port_take(t->w->s->service_ips, t->w->dry_run);
            if (taken < 0)
                return fail_unavailable(t->f, "no node port is left for Services");
            json_set_int(t->d, port, "nodePort", taken);
        } else if (number < SERVICE_PORT_MIN || number > SERVICE_PORT_MAX) {
            return invalid(t, "spec.ports[].nodePort", "the provided port is not in the valid range 30000-32767");
        } else if (!had_port(t, number) && service_port_taken(t->w->s->service_ips, number)) {
            return invalid(t, "spec.ports[].nodePort", "provided port is already allocated");
        }
    }
    return 0;
}

static int admit_service(struct draft *t) {
    yyjson_mut_val *spec = json_ensure_obj(t->d, t->obj, "spec");
    keep_old(t, spec);
    return settle_ip(t, spec) < 0 ? -1 : settle_ports(t, spec);
}

/* ---- Pods ---- */

/* The classes that are always there. */
static int64_t built_in_priority(const char *name) {
    return str_eq(name, "system-node-critical") ? 2000001000 : str_eq(name, "system-cluster-critical") ? 2000000000 : 0;
}

static int admit_pod(struct draft *t) {
    yyjson_mut_val *spec = json_ensure_obj(t->d, t->obj, "spec");
    const char *name = json_mut_str(spec, "priorityClassName");
    struct resource *classes = storage_resource(t->w->s->storage, "scheduling.k8s.io", "priorityclasses");
    if (t->old || str_empty(name))
        return 0;
    struct record *rec = storage_latest(t->w->s->storage, classes, "", name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = rec ? record_parse(rec) : NULL;
    int64_t value = built_in_priority(name);
    if (!doc && !value) {
        _cleanup_(free_p) char *why = xasprintf("no PriorityClass with name %s was found", name);
        return fail_forbidden(t->f, "", "pods", str_or(json_mut_str(t->obj, "metadata", "name"), ""), why);
    }
    if (doc) {
        value = json_int_or(json_get(yyjson_doc_get_root(doc), "value"), 0);
        json_set_str(t->d, spec, "preemptionPolicy",
                     str_or(json_str(yyjson_doc_get_root(doc), "preemptionPolicy"), "PreemptLowerPriority"));
    }
    json_set_int(t->d, spec, "priority", value);
    return 0;
}

int admit_workload(struct draft *t) {
    const struct kind *k = t->w->kind;
    if (k->custom || *k->group || *t->w->subresource)
        return 0;
    if (strcmp(k->plural, "services") == 0)
        return admit_service(t);
    return strcmp(k->plural, "pods") == 0 ? admit_pod(t) : 0;
}
