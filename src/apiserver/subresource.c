#include "apiserver/write.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

/* Copies members of one map over another; missing maps are fine. */
static void merge_map(struct draft *t, yyjson_mut_val *meta, const char *key, yyjson_val *from) {
    size_t i, n;
    yyjson_val *k, *v;
    if (!yyjson_is_obj(from) || yyjson_obj_size(from) == 0)
        return;
    yyjson_mut_val *to = json_ensure_obj(t->d, meta, key);
    yyjson_obj_foreach (from, i, n, k, v)
        if (yyjson_is_str(v))
            json_set(t->d, to, yyjson_get_str(k), yyjson_val_mut_copy(t->d, v));
}

static void set_scheduled(struct draft *t) {
    char now[RFC3339_SIZE];
    yyjson_mut_val *conditions = json_ensure_arr(t->d, json_ensure_obj(t->d, t->obj, "status"), "conditions");
    yyjson_mut_val *c;
    yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(conditions);
    while ((c = yyjson_mut_arr_iter_next(&it)))
        if (str_eq(json_mut_str(c, "type"), "PodScheduled"))
            yyjson_mut_arr_iter_remove(&it);
    c = yyjson_mut_arr_add_obj(t->d, conditions);
    json_set_str(t->d, c, "type", "PodScheduled");
    json_set_str(t->d, c, "status", "True");
    json_set_str(t->d, c, "lastTransitionTime", rfc3339_now(now));
}

static int bind_pod(struct draft *t, yyjson_val *binding) {
    const char *target = json_str(binding, "target", "name"), *kind = json_str(binding, "target", "kind");
    yyjson_val *old = yyjson_doc_get_root(t->old_doc);
    if (str_empty(target) || (!str_empty(kind) && strcmp(kind, "Node") != 0))
        return fail_bad_request(t->f, "the target of a binding must be a Node with a name");
    if (!dns_subdomain_valid(bytes_str(target)))
        return fail_bad_request(t->f, "the target of the binding is no valid node name");
    if (!str_empty(object_uid(binding)) && strcmp(object_uid(binding), object_uid(old)) != 0)
        return fail_conflict(t->f, "", "pods", t->w->name, "the UID in the binding is another pod's");
    if (object_deleting(old))
        return fail_conflict(t->f, "", "pods/binding", t->w->name,
                             "pod is being deleted, cannot be assigned to a host");
    const char *node = json_str(old, "spec", "nodeName");
    if (!str_empty(node)) {
        _cleanup_(free_p) char *why = xasprintf("pod %s is already assigned to node \"%s\"", t->w->name, node);
        return fail_conflict(t->f, "", "pods/binding", t->w->name, why);
    }
    t->d = yyjson_mut_doc_new(NULL);
    t->obj = yyjson_val_mut_copy(t->d, old);
    json_set_str(t->d, json_ensure_obj(t->d, t->obj, "spec"), "nodeName", target);
    yyjson_mut_val *meta = json_ensure_obj(t->d, t->obj, "metadata");
    merge_map(t, meta, "annotations", object_annotations(binding));
    merge_map(t, meta, "labels", object_labels(binding));
    set_scheduled(t);
    t->code = 201;
    return store_draft(t);
}

int write_binding(struct draft *t) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = NULL;
    if (body_parse(t->w->body, t->w->body_type, &body, t->f) < 0)
        return -1;
    yyjson_val *binding = yyjson_doc_get_root(body);
    const char *kind = binding ? json_str(binding, "kind") : NULL;
    if (!yyjson_is_obj(binding) || (!str_empty(kind) && strcmp(kind, "Binding") != 0))
        return fail_bad_request(t->f, "the body of the request is not a Binding");
    const char *name = object_name(binding);
    if (*name && strcmp(name, t->w->name) != 0)
        return fail_bad_request(t->f, "the name of the object (%s) does not match the name on the URL (%s)", name,
                                t->w->name);
    t->old = record_ref(storage_latest(t->w->s->storage, t->resource, t->w->ns, t->w->name));
    if (!t->old)
        return fail_not_found(t->f, "", "pods", t->w->name);
    t->old_doc = record_parse(t->old);
    return bind_pod(t, binding);
}
