#include "cloud/edgecontroller/internal.h"

char *object_for_edge(yyjson_val *object, size_t *len) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_val_mut_copy(d, object);
    yyjson_mut_val *metadata = yyjson_mut_obj_get(o, "metadata");
    if (metadata)
        json_remove(metadata, "managedFields");
    char *text = json_write_mut(o, len);
    yyjson_mut_doc_free(d);
    return text;
}

/* ---- comparing ---- */

static bool is_bookkeeping(const char *member) {
    return str_eq(member, "resourceVersion") || str_eq(member, "generation") || str_eq(member, "managedFields");
}

static size_t count_compared(yyjson_val *metadata) {
    size_t i, max, n = 0;
    yyjson_val *k, *v;
    yyjson_obj_foreach (metadata, i, max, k, v) {
        (void)v;
        n += !is_bookkeeping(yyjson_get_str(k));
    }
    return n;
}

static bool same_metadata(yyjson_val *a, yyjson_val *b) {
    size_t i, max;
    yyjson_val *k, *v;
    if (count_compared(a) != count_compared(b))
        return false;
    yyjson_obj_foreach (a, i, max, k, v) {
        if (is_bookkeeping(yyjson_get_str(k)))
            continue;
        yyjson_val *other = yyjson_obj_get(b, yyjson_get_str(k));
        if (!other || !json_equal(v, other))
            return false;
    }
    return true;
}

bool object_changed(yyjson_val *a, yyjson_val *b) {
    yyjson_val *x = json_get(a, "spec"), *y = json_get(b, "spec");
    if ((x == NULL) != (y == NULL) || (x && !json_equal(x, y)))
        return true;
    return !same_metadata(json_get(a, "metadata"), json_get(b, "metadata"));
}

/* ---- what an edge may write ---- */

static void copy_member(yyjson_mut_doc *d, yyjson_mut_val *to, yyjson_val *from, const char *name) {
    yyjson_val *v = yyjson_obj_get(from, name);
    if (v)
        json_set(d, to, name, yyjson_val_mut_copy(d, v));
}

char *status_patch_for_api(yyjson_val *patch, bool annotations, const char *uid, size_t *len) {
    if (!yyjson_is_obj(patch))
        return NULL;
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *out = yyjson_mut_obj(d);
    yyjson_mut_val *m = json_ensure_obj(d, out, "metadata");
    yyjson_val *metadata = yyjson_obj_get(patch, "metadata");
    copy_member(d, m, metadata, "uid");
    copy_member(d, m, metadata, "resourceVersion");
    if (annotations)
        copy_member(d, m, metadata, "annotations");
    if (str_empty(object_uid(patch)) && !str_empty(uid))
        json_set_str(d, m, "uid", uid);
    copy_member(d, out, patch, "status");
    char *text = json_write_mut(out, len);
    yyjson_mut_doc_free(d);
    return text;
}

/* The part before the slash is kubernetes.io or ends in .kubernetes.io. */
static bool is_kubernetes_label(const char *key) {
    struct bytes prefix;
    if (!bytes_cut(bytes_str(key), '/', &prefix, NULL))
        return false;
    return bytes_eq_str(prefix, "kubernetes.io") || bytes_ends_with(prefix, ".kubernetes.io");
}

/* Labels by which a cluster keeps workloads away from nodes that it does not trust. */
static bool is_forbidden_label(const char *key) {
    struct bytes prefix = BYTES_EMPTY;
    if (bytes_cut(bytes_str(key), '/', &prefix, NULL) && (bytes_eq_str(prefix, "node-restriction.kubernetes.io") ||
                                                          bytes_ends_with(prefix, ".node-restriction.kubernetes.io")))
        return true;
    return str_eq(key, "node-role.kubernetes.io/control-plane") || str_eq(key, "node-role.kubernetes.io/master");
}

/* Moves or drops labels of `metadata`; gives those under kubernetes.io if split. */
static yyjson_mut_val *sort_labels(yyjson_mut_doc *d, yyjson_mut_val *metadata, yyjson_val *labels, bool split) {
    size_t i, max;
    yyjson_val *k, *v;
    yyjson_mut_val *kept = yyjson_mut_obj(d), *apart = yyjson_mut_obj(d);
    yyjson_obj_foreach (labels, i, max, k, v) {
        const char *key = yyjson_get_str(k), *value = yyjson_get_str(v);
        if (!value || is_forbidden_label(key))
            continue;
        json_set_str(d, split && is_kubernetes_label(key) ? apart : kept, key, value);
    }
    json_set(d, metadata, "labels", kept);
    return apart;
}

char *node_for_api(yyjson_val *node, const char *name, const char *cloud_address, bool split, size_t *len,
                   char **labels) {
    *labels = NULL;
    if (!yyjson_is_obj(node))
        return NULL;
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *out = yyjson_val_mut_copy(d, node);
    json_set_str(d, out, "apiVersion", "v1");
    json_set_str(d, out, "kind", "Node");
    yyjson_mut_val *metadata = json_ensure_obj(d, out, "metadata");
    json_set_str(d, metadata, "name", name);
    json_remove(metadata, "resourceVersion");
    json_remove(metadata, "uid");
    json_remove(metadata, "ownerReferences");
    json_remove(metadata, "finalizers");
    json_set_str(d, json_ensure_obj(d, metadata, "annotations"), "cloudcore", cloud_address);
    yyjson_mut_val *apart = sort_labels(d, metadata, json_get(node, "metadata", "labels"), split);
    if (yyjson_mut_obj_size(apart) > 0) {
        yyjson_mut_val *patch = yyjson_mut_obj(d);
        json_set(d, json_ensure_obj(d, patch, "metadata"), "labels", apart);
        *labels = json_write_mut(patch, NULL);
    }
    char *text = json_write_mut(out, len);
    yyjson_mut_doc_free(d);
    return text;
}

char *node_metadata_patch(yyjson_val *node, size_t *len) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    yyjson_mut_val *metadata = json_ensure_obj(d, patch, "metadata");
    (void)sort_labels(d, metadata, object_labels(node), false);
    yyjson_val *annotations = object_annotations(node);
    if (annotations)
        json_set(d, metadata, "annotations", yyjson_val_mut_copy(d, annotations));
    char *text = json_write_mut(patch, len);
    yyjson_mut_doc_free(d);
    return text;
}
