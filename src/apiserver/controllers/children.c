#include "apiserver/controllers/children.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define CHILDREN_MAX 100000
#define PREFIX_MAX 57

void child_owned_by(yyjson_mut_doc *d, yyjson_mut_val *child, yyjson_val *obj) {
    yyjson_mut_val *list = json_ensure_arr(d, json_ensure_obj(d, child, "metadata"), "ownerReferences");
    yyjson_mut_val *ref = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, ref, "apiVersion", object_api_version(obj));
    json_set_str(d, ref, "kind", object_kind(obj));
    json_set_str(d, ref, "name", object_name(obj));
    json_set_str(d, ref, "uid", object_uid(obj));
    json_set_bool(d, ref, "controller", true);
    json_set_bool(d, ref, "blockOwnerDeletion", true);
}

yyjson_mut_val *child_pod(yyjson_mut_doc *d, yyjson_val *obj, yyjson_val *template) {
    static const char *const copied[] = {"labels", "annotations", "finalizers"};
    yyjson_mut_val *pod = yyjson_mut_obj(d), *meta = json_ensure_obj(d, pod, "metadata");
    _cleanup_(free_p) char *prefix = xasprintf("%.*s-", PREFIX_MAX, object_name(obj));
    json_set_str(d, meta, "generateName", prefix);
    for (size_t i = 0; i < ARRAY_LEN(copied); i++) {
        yyjson_val *v = json_get(template, "metadata", copied[i]);
        if (v)
            json_set(d, meta, copied[i], yyjson_val_mut_copy(d, v));
    }
    child_owned_by(d, pod, obj);
    yyjson_val *spec = json_get(template, "spec");
    json_set(d, pod, "spec", spec ? yyjson_val_mut_copy(d, spec) : yyjson_mut_obj(d));
    return pod;
}

int child_create(struct item *it, const struct kind *k, yyjson_mut_val *child, char **why) {
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(child, &len);
    struct write w = {.verb = WRITE_CREATE,
                      .ns = it->ns,
                      .name = "",
                      .subresource = "",
                      .body_type = BODY_JSON,
                      .body = bytes_of(text, len)};
    return item_write(it, &w, k, why);
}

/* ---- whose pods are whose ---- */

static void write_owners(struct item *it, const struct kind *pods, const struct pod_view *p, yyjson_val *obj,
                         bool adopt) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(p->rec);
    yyjson_val *pod = yyjson_doc_get_root(doc), *ref;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d), *meta = json_ensure_obj(d, patch, "metadata");
    yyjson_mut_val *list = json_ensure_arr(d, meta, "ownerReferences");
    size_t i, n;
    yyjson_arr_foreach (json_get(pod, "metadata", "ownerReferences"), i, n, ref)
        if (!str_eq(json_str(ref, "uid"), object_uid(obj)))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d, ref));
    if (adopt)
        child_owned_by(d, patch, obj);
    else if (yyjson_mut_arr_size(list) == 0)
        json_set(d, meta, "ownerReferences", yyjson_mut_null(d));
    json_set_str(d, meta, "uid", object_uid(pod));
    json_set_str(d, meta, "resourceVersion", object_rv(pod));
    if (item_patch(it, pods, p->rec->ns, p->rec->name, "", patch) < 0)
        return; /* it has changed meanwhile, and is looked at again */
}

struct pod_view **children_claim(struct item *it, struct view *v, const struct kind *pods, yyjson_val *obj,
                                 const struct selector *s, size_t *n) {
    struct pod_view **list = NULL, *p;
    size_t count = 0, cap = 0;
    bool leaving = object_deleting(obj);
    for (p = view_pods_of(v, object_uid(obj)); p && count < CHILDREN_MAX; p = p->owner_next) {
        if (!selector_match_labels(s, pod_labels(p))) {
            if (!leaving)
                write_owners(it, pods, p, obj, false);
            continue;
        }
        if (count == cap) {
            cap = cap ? cap * 2 : 8;
            list = xreallocarray(list, cap, sizeof(*list));
        }
        list[count++] = p;
    }
    for (p = view_orphans(v, it->ns); p && !leaving; p = p->owner_next)
        if (pod_active(p) && selector_match_labels(s, pod_labels(p)))
            write_owners(it, pods, p, obj, true);
    *n = count;
    return list;
}

static bool same_labels(const struct pod_view *a, const struct pod_view *b) {
    return (!a->labels && !b->labels) || (a->labels && b->labels && json_equal(pod_labels(a), pod_labels(b)));
}

void children_pod_changed(struct reconciler *r, struct resource *resource, const char *kind, const struct pod_view *was,
                          const struct pod_view *is) {
    if (was && strcmp(was->owner_kind, kind) == 0 && (!is || strcmp(was->owner_uid, is->owner_uid) != 0))
        reconciler_mark(r, resource, was->rec->ns, was->owner_name);
    if (is && strcmp(is->owner_kind, kind) == 0)
        reconciler_mark(r, resource, is->rec->ns, is->owner_name);
    if (is && !*is->owner_uid && pod_active(is) && is->labels && (!was || *was->owner_uid || !same_labels(was, is)))
        reconciler_mark_all(r, resource, is->rec->ns);
}

/* ---- small things ---- */

int64_t amount_of(yyjson_val *v, int64_t total, bool up, int64_t fallback) {
    const char *text = yyjson_get_str(v);
    size_t len = text ? strlen(text) : 0;
    int64_t n;
    if (yyjson_is_int(v))
        return json_int_or(v, fallback);
    if (len < 2 || text[len - 1] != '%' || parse_i64(bytes_of(text, len - 1), 0, 1000000, &n) < 0)
        return fallback;
    return (total * n + (up ? 99 : 0)) / 100;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    return (a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2))) * UINT64_C(0xff51afd7ed558ccd);
}

/* The same whatever the order of members; depth is that of stored objects, which json_parse limits. */
static uint64_t value_hash(yyjson_val *v, unsigned depth) {
    uint64_t h = mix(yyjson_get_type(v), 1);
    size_t i, n;
    yyjson_val *key, *item;
    if (depth > JSON_MAX_DEPTH)
        return h;
    if (yyjson_is_obj(v)) {
        yyjson_obj_foreach (v, i, n, key, item)
            h += mix(str_hash(yyjson_get_str(key), yyjson_get_len(key)), value_hash(item, depth + 1));
    } else if (yyjson_is_arr(v)) {
        yyjson_arr_foreach (v, i, n, item)
            h = mix(h, value_hash(item, depth + 1));
    } else {
        size_t len;
        _cleanup_(free_p) char *text = json_write(v, &len);
        h = mix(h, str_hash(text, len));
    }
    return h;
}

char *template_hash(yyjson_val *template, int64_t collisions, char buf[TEMPLATE_HASH_SIZE]) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    uint64_t h = mix(value_hash(template, 0), (uint64_t)collisions);
    for (size_t i = 0; i < TEMPLATE_HASH_SIZE - 1; i++) {
        buf[i] = alphabet[h % (sizeof(alphabet) - 1)];
        h /= sizeof(alphabet) - 1;
    }
    buf[TEMPLATE_HASH_SIZE - 1] = '\0';
    return buf;
}

yyjson_val *condition_of(yyjson_val *obj, const char *type) {
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(obj, "status", "conditions"), i, n, c)
        if (str_eq(json_str(c, "type"), type))
            return c;
    return NULL;
}

void condition_add(yyjson_mut_doc *d, yyjson_mut_val *list, yyjson_val *obj, const struct new_condition *c) {
    yyjson_val *had = condition_of(obj, c->type);
    bool same_status = had && str_eq(json_str(had, "status"), c->status);
    bool same = same_status && str_eq(json_str(had, "reason"), c->reason) &&
                str_eq(str_or(json_str(had, "message"), ""), str_or(c->message, ""));
    char now[RFC3339_SIZE];
    rfc3339_now(now);
    yyjson_mut_val *to = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, to, "type", c->type);
    json_set_str(d, to, "status", c->status);
    if (c->update_time)
        json_set_str(d, to, c->update_time, same && !c->touched ? str_or(json_str(had, c->update_time), now) : now);
    json_set_str(d, to, "lastTransitionTime", same_status ? str_or(json_str(had, "lastTransitionTime"), now) : now);
    if (!str_empty(c->reason))
        json_set_str(d, to, "reason", c->reason);
    if (!str_empty(c->message))
        json_set_str(d, to, "message", c->message);
}

void event_about_object(struct apiserver *s, yyjson_val *obj, const char *type, const char *reason,
                        const char *component, const char *message) {
    const struct event_about about = {object_api_version(obj), object_kind(obj), object_namespace(obj),
                                      object_name(obj), object_uid(obj)};
    controller_event(s, &about, type, reason, component, message);
}
