#include "edge/edged/pod.h"

#include "base/log.h"
#include "kube/object.h"

#include <ctype.h>

#define POD_MAX_CONTAINERS 256

static bool safe_uid(const char *s) {
    size_t n = strlen(s);
    if (n == 0 || n > 128 || s[0] == '.')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '-' && *s != '_' && *s != '.')
            return false;
    return true;
}

static int check_names(yyjson_val *spec, const char *list, struct error *err) {
    yyjson_val *items = yyjson_obj_get(spec, list);
    if (!items || yyjson_is_null(items))
        return 0;
    if (!yyjson_is_arr(items) || yyjson_arr_size(items) > POD_MAX_CONTAINERS)
        return error_set(err, ERR_INVALID, "spec.%s is no list, or too long", list);
    size_t i, max;
    yyjson_val *item;
    yyjson_arr_foreach (items, i, max, item) {
        const char *name = json_str(item, "name");
        if (!dns_label_valid(bytes_str(name)))
            return error_set(err, ERR_INVALID, "spec.%s[%zu].name is not a name", list, i);
    }
    return 0;
}

struct pod *pod_new(yyjson_val *obj, struct error *err) {
    yyjson_val *spec = yyjson_obj_get(obj, "spec");
    if (!safe_uid(object_uid(obj)) || !dns_subdomain_valid(bytes_str(object_name(obj))) ||
        !dns_label_valid(bytes_str(object_namespace(obj)))) {
        error_set(err, ERR_INVALID, "the pod's metadata has no usable uid, name or namespace");
        return NULL;
    }
    if (yyjson_arr_size(yyjson_obj_get(spec, "containers")) == 0) {
        error_set(err, ERR_INVALID, "spec.containers is missing");
        return NULL;
    }
    if (check_names(spec, "containers", err) < 0 || check_names(spec, "initContainers", err) < 0 ||
        check_names(spec, "ephemeralContainers", err) < 0 || check_names(spec, "volumes", err) < 0)
        return NULL;
    yyjson_mut_doc *copy = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(copy, yyjson_val_mut_copy(copy, obj));
    yyjson_doc *doc = yyjson_mut_doc_imut_copy(copy, NULL);
    yyjson_mut_doc_free(copy);
    if (!doc)
        panic("out of memory for a pod");
    struct pod *p = NEW(struct pod);
    p->doc = doc;
    p->obj = yyjson_doc_get_root(doc);
    p->spec = yyjson_obj_get(p->obj, "spec");
    p->uid = xstrdup(object_uid(p->obj));
    p->ns = xstrdup(object_namespace(p->obj));
    p->name = xstrdup(object_name(p->obj));
    return p;
}

void pod_free(struct pod *p) {
    if (!p)
        return;
    yyjson_doc_free(p->doc);
    free(p->uid);
    free(p->ns);
    free(p->name);
    free(p);
}

bool pod_deleting(const struct pod *p) {
    return object_deleting(p->obj);
}

int64_t pod_grace_seconds(const struct pod *p) {
    int64_t grace = json_int_or(yyjson_obj_get(p->spec, "terminationGracePeriodSeconds"), 30);
    if (pod_deleting(p))
        grace = json_int_or(json_get(p->obj, "metadata", "deletionGracePeriodSeconds"), grace);
    return grace < 0 ? 1 : grace > 86400 * 30 ? 86400 * 30 : grace;
}

const char *pod_restart_policy(const struct pod *p) {
    return str_or(json_str(p->spec, "restartPolicy"), "Always");
}

bool pod_host_network(const struct pod *p) {
    return json_bool_or(yyjson_obj_get(p->spec, "hostNetwork"), false);
}

bool container_is_sidecar(yyjson_val *c) {
    return str_eq(json_str(c, "restartPolicy"), "Always");
}

uint64_t container_hash(yyjson_val *c) {
    const char *name = str_or(json_str(c, "name"), ""), *image = str_or(json_str(c, "image"), "");
    return str_hash(name, strlen(name)) * 31 + str_hash(image, strlen(image));
}

/* ---- what is not offered ---- */

static bool is_set(yyjson_val *v) {
    return v && !yyjson_is_null(v) && !(yyjson_is_arr(v) && yyjson_arr_size(v) == 0) &&
           !(yyjson_is_obj(v) && yyjson_obj_size(v) == 0) && !(yyjson_is_str(v) && yyjson_get_len(v) == 0);
}

static int unsupported(struct error *err, const char *where) {
    return error_set(err, ERR_UNSUPPORTED, "%s is not supported on this node", where);
}

static int check_volume(yyjson_val *v, size_t index, struct error *err) {
    static const char *const known[] = {"name",   "emptyDir",  "hostPath",   "configMap",
                                        "secret", "projected", "downwardAPI"};
    size_t i, max;
    yyjson_val *key, *val;
    yyjson_obj_foreach (v, i, max, key, val) {
        bool ok = false;
        for (size_t k = 0; k < ARRAY_LEN(known); k++)
            ok |= yyjson_equals_str(key, known[k]);
        if (!ok && is_set(val))
            return error_set(err, ERR_UNSUPPORTED, "spec.volumes[%zu].%s is not supported on this node", index,
                             yyjson_get_str(key));
    }
    if (str_starts_with(json_str(v, "emptyDir", "medium"), "HugePages"))
        return unsupported(err, "spec.volumes[].emptyDir.medium: HugePages");
    yyjson_val *src;
    yyjson_arr_foreach (json_get(v, "projected", "sources"), i, max, src) {
        size_t j, n;
        yyjson_obj_foreach (src, j, n, key, val) {
            if (!yyjson_equals_str(key, "configMap") && !yyjson_equals_str(key, "secret") &&
                !yyjson_equals_str(key, "downwardAPI") && !yyjson_equals_str(key, "serviceAccountToken"))
                return error_set(err, ERR_UNSUPPORTED, "spec.volumes[%zu].projected.sources[%zu].%s is not supported",
                                 index, i, yyjson_get_str(key));
        }
    }
    return 0;
}

static int check_resources(yyjson_val *resources, const char *where, struct error *err) {
    if (is_set(yyjson_obj_get(resources, "claims")))
        return error_set(err, ERR_UNSUPPORTED, "%s.resources.claims is not supported on this node", where);
    static const char *const lists[] = {"limits", "requests"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i, max;
        yyjson_val *key, *val;
        yyjson_obj_foreach (yyjson_obj_get(resources, lists[l]), i, max, key, val) {
            const char *k = yyjson_get_str(key);
            if (!str_eq(k, "cpu") && !str_eq(k, "memory") && !str_eq(k, "ephemeral-storage"))
                return error_set(err, ERR_UNSUPPORTED, "%s.resources.%s[%s] is not supported on this node", where,
                                 lists[l], k);
        }
    }
    return 0;
}

static int check_container(yyjson_val *c, const char *list, struct error *err) {
    const char *name = json_str(c, "name");
    char where[128];
    snprintf(where, sizeof(where), "spec.%s[%s]", list, name);
    if (check_resources(yyjson_obj_get(c, "resources"), where, err) < 0)
        return -1;
    static const char *const never[][2] = {{"volumeDevices", NULL},
                                           {"lifecycle", "stopSignal"},
                                           {"securityContext", "windowsOptions"},
                                           {"restartPolicyRules", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        yyjson_val *v = yyjson_obj_get(c, never[i][0]);
        if (v && never[i][1])
            v = yyjson_obj_get(v, never[i][1]);
        if (is_set(v))
            return error_set(err, ERR_UNSUPPORTED, "%s.%s%s%s is not supported on this node", where, never[i][0],
                             never[i][1] ? "." : "", never[i][1] ? never[i][1] : "");
    }
    const char *mount = json_str(c, "securityContext", "procMount");
    if (mount && !str_eq(mount, "Default"))
        return error_set(err, ERR_UNSUPPORTED, "%s.securityContext.procMount is not supported on this node", where);
    size_t i, max;
    yyjson_val *e;
    yyjson_arr_foreach (yyjson_obj_get(c, "env"), i, max, e) {
        if (is_set(json_get(e, "valueFrom", "fileKeyRef")))
            return error_set(err, ERR_UNSUPPORTED, "%s.env[%zu].valueFrom.fileKeyRef is not supported", where, i);
    }
    return 0;
}

static int check_sysctls(const struct pod *p, struct error *err) {
    static const char *const safe[] = {"kernel.shm_rmid_forced",
                                       "net.ipv4.ip_local_port_range",
                                       "net.ipv4.tcp_syncookies",
                                       "net.ipv4.ping_group_range",
                                       "net.ipv4.ip_unprivileged_port_start",
                                       "net.ipv4.ip_local_reserved_ports",
                                       "net.ipv4.tcp_keepalive_time",
                                       "net.ipv4.tcp_fin_timeout",
                                       "net.ipv4.tcp_keepalive_intvl",
                                       "net.ipv4.tcp_keepalive_probes"};
    size_t i, max;
    yyjson_val *s;
    yyjson_arr_foreach (json_get(p->spec, "securityContext", "sysctls"), i, max, s) {
        bool ok = false;
        for (size_t k = 0; k < ARRAY_LEN(safe); k++)
            ok |= str_eq(json_str(s, "name"), safe[k]);
        if (!ok)
            return error_set(err, ERR_UNSUPPORTED, "sysctl %s is not allowed on this node",
                             str_or(json_str(s, "name"), "without a name"));
    }
    return 0;
}

int pod_check_supported(const struct pod *p, struct error *err) {
    static const char *const never[] = {"runtimeClassName", "resourceClaims", "resources", "overhead"};
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        if (is_set(yyjson_obj_get(p->spec, never[i])))
            return error_set(err, ERR_UNSUPPORTED, "spec.%s is not supported on this node", never[i]);
    if (yyjson_is_false(yyjson_obj_get(p->spec, "hostUsers")))
        return unsupported(err, "spec.hostUsers: false");
    if (str_eq(json_str(p->spec, "os", "name"), "windows"))
        return unsupported(err, "spec.os: windows");
    if (is_set(json_get(p->spec, "securityContext", "windowsOptions")))
        return unsupported(err, "spec.securityContext.windowsOptions");
    if (check_sysctls(p, err) < 0)
        return -1;
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "volumes"), i, max, v) {
        if (check_volume(v, i, err) < 0)
            return -1;
    }
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "initContainers"), i, max, v) {
        if (check_container(v, "initContainers", err) < 0)
            return -1;
    }
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "containers"), i, max, v) {
        if (check_container(v, "containers", err) < 0)
            return -1;
    }
    return 0;
}
