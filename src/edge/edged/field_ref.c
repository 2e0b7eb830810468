#include "edge/edged/field_ref.h"

#include "edge/edged/resources.h"
#include "kube/object.h"
#include "kube/quantity.h"

yyjson_val *pod_container(const struct pod *p, const char *name) {
    static const char *const lists[] = {"containers", "initContainers", "ephemeralContainers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i, max;
        yyjson_val *c;
        yyjson_arr_foreach (yyjson_obj_get(p->spec, lists[l]), i, max, c) {
            if (str_eq(json_str(c, "name"), name))
                return c;
        }
    }
    return NULL;
}

static int compare_keys(const void *a, const void *b) {
    return strcmp(yyjson_get_str(*(yyjson_val *const *)a), yyjson_get_str(*(yyjson_val *const *)b));
}

/* key="value" lines, sorted by key, values quoted as JSON strings (which is how Go quotes them, but for rare runes). */
static int add_map(yyjson_val *map, struct buf *out, struct error *err) {
    size_t n = yyjson_obj_size(map), count = 0, i, max;
    if (n == 0)
        return 0;
    _cleanup_(free_p) yyjson_val **keys = xcalloc(n, sizeof(*keys));
    yyjson_val *key, *val;
    yyjson_obj_foreach (map, i, max, key, val) {
        if (yyjson_is_str(val))
            keys[count++] = key;
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    for (i = 0; i < count; i++) {
        val = yyjson_obj_iter_get_val(keys[i]);
        if (i > 0)
            buf_add_char(out, '\n');
        buf_add_str(out, yyjson_get_str(keys[i]));
        buf_add_char(out, '=');
        json_append_string(out, bytes_of(yyjson_get_str(val), yyjson_get_len(val)));
    }
    return buf_check(out, err, "labels or annotations");
}

/* metadata.labels['key'] */
static bool subscript(const char *path, const char *prefix, char *key, size_t size) {
    size_t n = strlen(prefix), len = strlen(path);
    if (strncmp(path, prefix, n) != 0 || len < n + 5 || strncmp(path + n, "['", 2) != 0 ||
        strcmp(path + len - 2, "']") != 0 || len - n - 4 >= size)
        return false;
    memcpy(key, path + n + 2, len - n - 4);
    key[len - n - 4] = '\0';
    return true;
}

static int add_ips(const struct strlist *ips, bool all, struct buf *out) {
    for (size_t i = 0; i < ips->count && (all || i == 0); i++) {
        if (i > 0)
            buf_add_char(out, ',');
        buf_add_str(out, ips->items[i]);
    }
    return 0;
}

int field_ref_value(const struct field_context *c, const char *path, struct buf *out, struct error *err) {
    const struct pod *p = c->pod;
    char key[320];
    if (!path)
        return error_set(err, ERR_INVALID, "fieldRef without fieldPath");
    if (subscript(path, "metadata.labels", key, sizeof(key)))
        return buf_add_str(out, str_or(object_label(p->obj, key), ""));
    if (subscript(path, "metadata.annotations", key, sizeof(key)))
        return buf_add_str(out, str_or(object_annotation(p->obj, key), ""));
    if (str_eq(path, "metadata.labels"))
        return add_map(object_labels(p->obj), out, err);
    if (str_eq(path, "metadata.annotations"))
        return add_map(object_annotations(p->obj), out, err);
    if (str_eq(path, "status.podIP") || str_eq(path, "status.podIPs"))
        return add_ips(c->pod_ips, str_ends_with(path, "s"), out);
    if (str_eq(path, "status.hostIP") || str_eq(path, "status.hostIPs"))
        return add_ips(&c->node->host_ips, str_ends_with(path, "s"), out);
    const char *const table[][2] = {
        {"metadata.name", p->name},
        {"metadata.namespace", p->ns},
        {"metadata.uid", p->uid},
        {"spec.nodeName", c->node->node_name},
        {"spec.serviceAccountName", json_str(p->spec, "serviceAccountName")},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(path, table[i][0]))
            return buf_add_str(out, str_or(table[i][1], ""));
    return error_set(err, ERR_UNSUPPORTED, "unsupported fieldPath: %s", path);
}

static int64_t node_amount(const struct pod_node *n, const char *resource) {
    return str_eq(resource, "cpu") ? n->cpu_milli : str_eq(resource, "memory") ? n->memory : n->storage;
}

int resource_ref_value(const struct field_context *c, yyjson_val *container, yyjson_val *ref, struct buf *out,
                       struct error *err) {
    const char *name = json_str(ref, "containerName"), *what = json_str(ref, "resource");
    if (!str_empty(name))
        container = pod_container(c->pod, name);
    if (!container)
        return error_set(err, ERR_INVALID, "resourceFieldRef: container %s not found", str_or(name, "\"\""));
    bool limit = str_starts_with(what, "limits.");
    if (!limit && !str_starts_with(what, "requests."))
        return error_set(err, ERR_UNSUPPORTED, "resourceFieldRef: unsupported resource %s", str_or(what, "\"\""));
    const char *resource = strchr(what, '.') + 1;
    if (!str_eq(resource, "cpu") && !str_eq(resource, "memory") && !str_eq(resource, "ephemeral-storage"))
        return error_set(err, ERR_UNSUPPORTED, "resourceFieldRef: unsupported resource %s", what);
    int64_t n = limit ? container_limit(container, resource) : container_request(container, resource);
    if (n < 0)
        n = limit ? node_amount(c->node, resource) : 0;
    bool cpu = str_eq(resource, "cpu");
    int64_t unit = cpu ? 1000 : 1;
    const char *divisor = json_str(ref, "divisor");
    struct quantity q;
    if (!str_empty(divisor) && !str_eq(divisor, "0")) {
        if (quantity_parse(bytes_str(divisor), &q, err) < 0)
            return error_wrap(err, "resourceFieldRef: divisor");
        unit = cpu ? quantity_milli(q) : quantity_value(q);
        if (unit <= 0)
            return error_set(err, ERR_INVALID, "resourceFieldRef: divisor %s", divisor);
    }
    return buf_addf(out, "%lld", (long long)(n / unit + (n % unit > 0)));
}
