#include "kube/references.h"

#include "base/str.h"
#include "kube/object.h"

struct visit {
    void (*fn)(void *arg, enum location_kind kind, const char *name);
    void *arg;
};

static void add(const struct visit *v, enum location_kind kind, const char *name) {
    if (!str_empty(name))
        v->fn(v->arg, kind, name);
}

static void visit_container(const struct visit *v, yyjson_val *container) {
    size_t i, n;
    yyjson_val *e;
    yyjson_arr_foreach (json_get(container, "envFrom"), i, n, e) {
        add(v, LOCATION_CONFIGMAP, json_str(e, "configMapRef", "name"));
        add(v, LOCATION_SECRET, json_str(e, "secretRef", "name"));
    }
    yyjson_arr_foreach (json_get(container, "env"), i, n, e) {
        add(v, LOCATION_CONFIGMAP, json_str(e, "valueFrom", "configMapKeyRef", "name"));
        add(v, LOCATION_SECRET, json_str(e, "valueFrom", "secretKeyRef", "name"));
    }
}

static void visit_volume(const struct visit *v, yyjson_val *volume) {
    /* Members of volume sources that name a Secret in the pod's namespace. */
    static const char *const with_secret_ref[] = {"cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"};
    size_t i, n;
    yyjson_val *e;
    add(v, LOCATION_CONFIGMAP, json_str(volume, "configMap", "name"));
    add(v, LOCATION_SECRET, json_str(volume, "secret", "secretName"));
    add(v, LOCATION_CLAIM, json_str(volume, "persistentVolumeClaim", "claimName"));
    add(v, LOCATION_SECRET, json_str(volume, "azureFile", "secretName"));
    add(v, LOCATION_SECRET, json_str(volume, "csi", "nodePublishSecretRef", "name"));
    for (size_t s = 0; s < ARRAY_LEN(with_secret_ref); s++)
        add(v, LOCATION_SECRET, json_str(volume, with_secret_ref[s], "secretRef", "name"));
    yyjson_arr_foreach (json_get(volume, "projected", "sources"), i, n, e) {
        add(v, LOCATION_CONFIGMAP, json_str(e, "configMap", "name"));
        add(v, LOCATION_SECRET, json_str(e, "secret", "name"));
    }
}

void pod_references(yyjson_val *pod, void (*fn)(void *arg, enum location_kind kind, const char *name), void *arg) {
    static const char *const containers[] = {"containers", "initContainers", "ephemeralContainers"};
    const struct visit v = {fn, arg};
    yyjson_val *spec = json_get(pod, "spec"), *e;
    size_t i, n;
    for (size_t c = 0; c < ARRAY_LEN(containers); c++)
        yyjson_arr_foreach (json_get(spec, containers[c]), i, n, e)
            visit_container(&v, e);
    yyjson_arr_foreach (json_get(spec, "volumes"), i, n, e)
        visit_volume(&v, e);
    yyjson_arr_foreach (json_get(spec, "imagePullSecrets"), i, n, e)
        add(&v, LOCATION_SECRET, json_str(e, "name"));
    /* Nodes make mirror pods themselves, in any namespace: these act for no account. */
    if (object_annotation(pod, MIRROR_ANNOTATION))
        return;
    const char *account = json_str(spec, "serviceAccountName");
    add(&v, LOCATION_SERVICEACCOUNT, str_or(account, str_or(json_str(spec, "serviceAccount"), "default")));
}
