#include "apiserver/defaults.h"

#include "apiserver/crd.h"
#include "apiserver/defaults_internal.h"
#include "kube/object.h"
#include "kube/quantity.h"

/* ---- from the schema table -------------------------------------------------------------------------------------- */

/* Unconditional defaults stand in the table of fields. Only members of objects that are there get them. */
static void schema_defaults(yyjson_mut_doc *d, const struct schema_type *t, yyjson_mut_val *obj, unsigned depth) {
    if (depth == 0 || !yyjson_mut_is_obj(obj))
        return;
    for (size_t i = 0; i < t->n_fields; i++) {
        const struct schema_field *f = schema_field_at(t, i);
        const char *fallback = schema_field_default(f);
        const struct schema_type *inner = schema_field_message(f);
        if (f->inlined) {
            schema_defaults(d, inner, obj, depth - 1);
            continue;
        }
        yyjson_mut_val *v = yyjson_mut_obj_getn(obj, schema_field_name(f), f->name_len);
        /* false, 0 and "" are what is left out anyway, unless the field is a pointer. */
        if (!v && *fallback && (f->pointer || (!str_eq(fallback, "0") && !str_eq(fallback, "\"\"")))) {
            _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_str(fallback), 1024, NULL);
            if (doc)
                json_set(d, obj, schema_field_name(f), yyjson_val_mut_copy(d, yyjson_doc_get_root(doc)));
        }
        if (!v || f->type != FT_MESSAGE)
            continue;
        yyjson_mut_arr_iter list = yyjson_mut_arr_iter_with(v);
        yyjson_mut_obj_iter map = yyjson_mut_obj_iter_with(v);
        if (f->shape == FS_ONE)
            schema_defaults(d, inner, v, depth - 1);
        for (yyjson_mut_val *e; f->shape == FS_LIST && (e = yyjson_mut_arr_iter_next(&list));)
            schema_defaults(d, inner, e, depth - 1);
        for (yyjson_mut_val *key; f->shape == FS_MAP && (key = yyjson_mut_obj_iter_next(&map));)
            schema_defaults(d, inner, yyjson_mut_obj_iter_get_val(key), depth - 1);
    }
}

/* ---- pods ------------------------------------------------------------------------------------------------------- */

/* The tag decides: none, or latest, means Always. */
static const char *pull_policy_of(const char *image) {
    const char *slash = strrchr(image, '/'), *last = slash ? slash + 1 : image, *colon = strrchr(last, ':');
    if (strchr(image, '@'))
        return "IfNotPresent";
    return !colon || str_eq(colon, ":latest") ? "Always" : "IfNotPresent";
}

static void default_probe(yyjson_mut_doc *d, yyjson_mut_val *probe) {
    if (!probe)
        return;
    default_positive(d, probe, "timeoutSeconds", 1);
    default_positive(d, probe, "periodSeconds", 10);
    default_positive(d, probe, "successThreshold", 1);
    default_positive(d, probe, "failureThreshold", 3);
}

static void default_http(yyjson_mut_doc *d, yyjson_mut_val *handler) {
    yyjson_mut_val *get = yyjson_mut_obj_get(handler, "httpGet"), *grpc = yyjson_mut_obj_get(handler, "grpc");
    if (get) {
        default_str(d, get, "path", "/");
        default_str(d, get, "scheme", "HTTP");
    }
    if (grpc && !yyjson_mut_obj_get(grpc, "service"))
        json_set_str(d, grpc, "service", "");
}

static void default_resources(yyjson_mut_doc *d, yyjson_mut_val *container) {
    yyjson_mut_val *resources = json_ensure_obj(d, container, "resources"),
                   *limits = yyjson_mut_obj_get(resources, "limits");
    yyjson_mut_obj_iter it = yyjson_mut_obj_iter_with(limits);
    for (yyjson_mut_val *key; limits && (key = yyjson_mut_obj_iter_next(&it));) {
        yyjson_mut_val *requests = json_ensure_obj(d, resources, "requests");
        if (!yyjson_mut_obj_get(requests, yyjson_mut_get_str(key)))
            json_set(d, requests, yyjson_mut_get_str(key),
                     yyjson_mut_val_mut_copy(d, yyjson_mut_obj_iter_get_val(key)));
    }
}

static void default_container(yyjson_mut_doc *d, yyjson_mut_val *c, bool host_network, bool ephemeral) {
    static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
    default_str(d, c, "terminationMessagePath", "/dev/termination-log");
    default_str(d, c, "terminationMessagePolicy", "File");
    default_str(d, c, "imagePullPolicy", pull_policy_of(str_or(json_mut_str(c, "image"), "")));
    if (ephemeral)
        json_ensure_obj(d, c, "resources");
    else
        default_resources(d, c);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        default_probe(d, yyjson_mut_obj_get(c, probes[i]));
        default_http(d, yyjson_mut_obj_get(c, probes[i]));
    }
    default_http(d, json_mut_get(c, "lifecycle", "postStart"));
    default_http(d, json_mut_get(c, "lifecycle", "preStop"));
    FOR_EACH(port, yyjson_mut_obj_get(c, "ports")) {
        default_str(d, port, "protocol", "TCP");
        yyjson_mut_val *number = yyjson_mut_obj_get(port, "containerPort");
        if (host_network && number)
            default_positive(d, port, "hostPort", yyjson_mut_get_sint(number));
    }
    FOR_EACH(env, yyjson_mut_obj_get(c, "env")) {
        yyjson_mut_val *ref = json_mut_get(env, "valueFrom", "fieldRef");
        if (ref)
            default_str(d, ref, "apiVersion", "v1");
    }
}

static void default_downward_items(yyjson_mut_doc *d, yyjson_mut_val *source) {
    FOR_EACH(item, yyjson_mut_obj_get(source, "items")) {
        yyjson_mut_val *ref = yyjson_mut_obj_get(item, "fieldRef");
        if (ref)
            default_str(d, ref, "apiVersion", "v1");
    }
}

static void default_volume(yyjson_mut_doc *d, yyjson_mut_val *volume) {
    static const char *const with_mode[] = {"secret", "configMap", "downwardAPI", "projected"};
    yyjson_mut_val *host_path = yyjson_mut_obj_get(volume, "hostPath");
    if (yyjson_mut_obj_size(volume) == 1 && yyjson_mut_obj_get(volume, "name"))
        json_ensure_obj(d, volume, "emptyDir");
    for (size_t i = 0; i < ARRAY_LEN(with_mode); i++) {
        yyjson_mut_val *source = yyjson_mut_obj_get(volume, with_mode[i]);
        if (source)
            default_int(d, source, "defaultMode", 0644);
    }
    default_downward_items(d, yyjson_mut_obj_get(volume, "downwardAPI"));
    if (host_path && !yyjson_mut_obj_get(host_path, "type"))
        json_set_str(d, host_path, "type", "");
    FOR_EACH(source, json_mut_get(volume, "projected", "sources")) {
        yyjson_mut_val *token = yyjson_mut_obj_get(source, "serviceAccountToken");
        if (token)
            default_int(d, token, "expirationSeconds", 3600);
        default_downward_items(d, yyjson_mut_obj_get(source, "downwardAPI"));
    }
}

static void default_service_account(yyjson_mut_doc *d, yyjson_mut_val *spec) {
    const char *name = json_mut_str(spec, "serviceAccountName"), *old = json_mut_str(spec, "serviceAccount");
    _cleanup_(free_p) char *account = xstrdup(!str_empty(name) ? name : str_or(old, "default"));
    default_str(d, spec, "serviceAccountName", account);
    json_set_str(d, spec, "serviceAccount", account); /* deprecated, but clients read it */
}

void default_pod_spec(yyjson_mut_doc *d, yyjson_mut_val *spec) {
    bool host_network = yyjson_mut_get_bool(yyjson_mut_obj_get(spec, "hostNetwork"));
    default_str(d, spec, "restartPolicy", "Always");
    default_int(d, spec, "terminationGracePeriodSeconds", 30);
    default_str(d, spec, "dnsPolicy", "ClusterFirst");
    default_str(d, spec, "schedulerName", "default-scheduler");
    json_ensure_obj(d, spec, "securityContext");
    FOR_EACH(c, yyjson_mut_obj_get(spec, "containers"))
    default_container(d, c, host_network, false);
    FOR_EACH(i, yyjson_mut_obj_get(spec, "initContainers"))
    default_container(d, i, host_network, false);
    FOR_EACH(e, yyjson_mut_obj_get(spec, "ephemeralContainers"))
    default_container(d, e, host_network, true);
    FOR_EACH(volume, yyjson_mut_obj_get(spec, "volumes"))
    default_volume(d, volume);
}

static void default_pod(yyjson_mut_doc *d, yyjson_mut_val *pod) {
    yyjson_mut_val *spec = json_ensure_obj(d, pod, "spec");
    default_pod_spec(d, spec);
    if (!yyjson_mut_obj_get(spec, "enableServiceLinks"))
        json_set_bool(d, spec, "enableServiceLinks", true);
    default_service_account(d, spec);
    default_int(d, spec, "priority", 0);
    default_str(d, spec, "preemptionPolicy", "PreemptLowerPriority");
}

/* 1: the same positive amount is asked for and allowed, 0: nothing, -1: something else. */
static int guaranteed(yyjson_mut_val *container, const char *resource) {
    yyjson_mut_val *request = json_mut_get(container, "resources", "requests", resource),
                   *limit = json_mut_get(container, "resources", "limits", resource);
    struct quantity r = {0}, l = {0};
    bool has_r = request && quantity_parse(bytes_str(yyjson_mut_get_str(request)), &r, NULL) == 0 && r.nano > 0;
    bool has_l = limit && quantity_parse(bytes_str(yyjson_mut_get_str(limit)), &l, NULL) == 0 && l.nano > 0;
    if (!has_r && !has_l)
        return 0;
    return has_r && has_l && quantity_cmp(r, l) == 0 ? 1 : -1;
}

const char *defaults_pod_qos(yyjson_mut_val *pod) {
    static const char *const lists[] = {"containers", "initContainers"};
    bool any = false, all = true;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        FOR_EACH(c, json_mut_get(pod, "spec", lists[i])) {
            int cpu = guaranteed(c, "cpu"), memory = guaranteed(c, "memory");
            any = any || cpu || memory;
            all = all && cpu == 1 && memory == 1;
        }
    }
    return !any ? "BestEffort" : all ? "Guaranteed" : "Burstable";
}

/* ---- the others ------------------------------------------------------------------------------------------------- */

static void default_secret(yyjson_mut_doc *d, yyjson_mut_val *secret) {
    default_str(d, secret, "type", "Opaque");
    yyjson_mut_val *plain = yyjson_mut_obj_remove_key(secret, "stringData");
    yyjson_mut_obj_iter it = yyjson_mut_obj_iter_with(plain);
    for (yyjson_mut_val *key; plain && (key = yyjson_mut_obj_iter_next(&it));) {
        yyjson_mut_val *value = yyjson_mut_obj_iter_get_val(key);
        _cleanup_(buf_free_secret) struct buf text = BUF_INIT(8 << 20);
        base64_encode(bytes_of(yyjson_mut_get_str(value), yyjson_mut_get_len(value)), &text);
        json_set_str(d, json_ensure_obj(d, secret, "data"), yyjson_mut_get_str(key), str_or(text.ptr, ""));
    }
}

static void default_namespace(yyjson_mut_doc *d, yyjson_mut_val *ns) {
    const char *name = json_mut_str(ns, "metadata", "name");
    yyjson_mut_val *labels = json_ensure_obj(d, json_ensure_obj(d, ns, "metadata"), "labels");
    if (!str_empty(name))
        json_set_str(d, labels, "kubernetes.io/metadata.name", name);
}

static void default_node(yyjson_mut_doc *d, yyjson_mut_val *node) {
    yyjson_mut_val *capacity = json_mut_get(node, "status", "capacity"), *status = yyjson_mut_obj_get(node, "status");
    if (capacity && !yyjson_mut_obj_get(status, "allocatable"))
        json_set(d, status, "allocatable", yyjson_mut_val_mut_copy(d, capacity));
    json_ensure_obj(d, node, "spec");
}

static void default_crd(yyjson_mut_doc *d, yyjson_mut_val *crd) {
    yyjson_mut_val *spec = json_ensure_obj(d, crd, "spec"), *names = json_ensure_obj(d, spec, "names");
    const char *kind = json_mut_str(names, "kind");
    if (!str_empty(kind)) {
        _cleanup_(free_p) char *list = xasprintf("%sList", kind), *singular = xstrdup(kind);
        for (char *p = singular; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
        default_str(d, names, "listKind", list);
        default_str(d, names, "singular", singular);
    }
    if (!yyjson_mut_obj_get(spec, "conversion"))
        json_set_str(d, json_ensure_obj(d, spec, "conversion"), "strategy", "None");
}

static void default_binding(yyjson_mut_doc *d, yyjson_mut_val *binding) {
    static const char group[] = "rbac.authorization.k8s.io";
    default_str(d, json_ensure_obj(d, binding, "roleRef"), "apiGroup", group);
    FOR_EACH(subject, yyjson_mut_obj_get(binding, "subjects")) {
        const char *kind = json_mut_str(subject, "kind");
        if (str_eq(kind, "User") || str_eq(kind, "Group"))
            default_str(d, subject, "apiGroup", group);
    }
}

static const struct {
    const char *kind;
    void (*fill)(yyjson_mut_doc *d, yyjson_mut_val *obj);
} fillers[] = {
    {"Pod", default_pod},
    {"Secret", default_secret},
    {"Node", default_node},
    {"CustomResourceDefinition", default_crd},
    {"Namespace", default_namespace},
    {"RoleBinding", default_binding},
    {"ClusterRoleBinding", default_binding},
    {"Deployment", default_deployment},
    {"ReplicaSet", default_replicaset},
    {"DaemonSet", default_daemonset},
    {"Job", default_job},
    {"Service", default_service},
    {"Endpoints", default_endpoints},
    {"EndpointSlice", default_endpointslice},
    {"PodDisruptionBudget", default_budget},
    {"PriorityClass", default_priority_class},
};

void defaults_apply(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj) {
    if (k->custom) {
        crd_schema_default(k->schema, d, obj);
        return;
    }
    schema_defaults(d, k->type, obj, 32);
    for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
        if (str_eq(k->kind, fillers[i].kind))
            fillers[i].fill(d, obj);
}

void defaults_create(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj) {
    bool node = !k->custom && str_eq(k->kind, "Node"); /* agents register with a status */
    if (k->has_status && !node)
        json_remove(obj, "status");
    if (k->custom)
        return;
    if (str_eq(k->kind, "Pod")) {
        yyjson_mut_val *status = json_ensure_obj(d, obj, "status");
        json_set_str(d, status, "phase", "Pending");
        json_set_str(d, status, "qosClass", defaults_pod_qos(obj));
    } else if (str_eq(k->kind, "Job")) {
        default_job_create(d, obj);
    } else if (str_eq(k->kind, "Service")) {
        json_ensure_obj(d, json_ensure_obj(d, obj, "status"), "loadBalancer");
    } else if (str_eq(k->kind, "Namespace")) {
        json_set_str(d, json_ensure_obj(d, obj, "status"), "phase", "Active");
        yyjson_mut_val *finalizers = json_ensure_arr(d, json_ensure_obj(d, obj, "spec"), "finalizers");
        bool there = false;
        FOR_EACH(f, finalizers)
        there = there || str_eq(yyjson_mut_get_str(f), "kubernetes");
        if (!there)
            yyjson_mut_arr_add_str(d, finalizers, "kubernetes");
    }
}
