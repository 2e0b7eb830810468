/* Structural schemas: pruning and defaulting. Validation against them stands in crd_validate.c. */
#include "apiserver/crd.h"
#include "base/str.h"
#include "kube/members.h"

#define SCHEMA_MAX_DEPTH 64

static bool flag(yyjson_val *schema, const char *name) {
    return json_bool_or(yyjson_obj_get(schema, name), false);
}

/* ---- pruning ---------------------------------------------------------------------------------------------------- */

struct crd_prune {
    yyjson_mut_doc *doc;
    struct strlist *unknown;
    struct buf path;
};

static yyjson_mut_val *prune_value(struct crd_prune *p, yyjson_val *schema, yyjson_val *v, unsigned depth);

static void note(struct crd_prune *p, const char *what, const char *name) {
    if (p->unknown && p->unknown->count < SCHEMA_MAX_UNKNOWN)
        strlist_add_take(p->unknown, xasprintf("%s field \"%s%s%s\"", what, p->path.len ? p->path.ptr : "",
                                               p->path.len ? "." : "", name));
}

static void pop(struct crd_prune *p, size_t len) {
    p->path.len = len;
    p->path.overflowed = false;
    if (p->path.ptr)
        p->path.ptr[len] = '\0';
}

/* The schema of a member: NULL if it is unknown; *verbatim if it is kept as it is. */
static yyjson_val *member_schema(yyjson_val *schema, const char *name, bool root, bool *verbatim) {
    yyjson_val *property = yyjson_obj_get(json_get(schema, "properties"), name);
    yyjson_val *additional = yyjson_obj_get(schema, "additionalProperties");
    *verbatim = false;
    if (property)
        return property;
    if (yyjson_is_obj(additional))
        return additional;
    *verbatim = yyjson_is_true(additional) || flag(schema, "x-kubernetes-preserve-unknown-fields") ||
                ((root || flag(schema, "x-kubernetes-embedded-resource")) &&
                 (str_eq(name, "apiVersion") || str_eq(name, "kind") || str_eq(name, "metadata")));
    return NULL;
}

static yyjson_mut_val *prune_object(struct crd_prune *p, yyjson_val *schema, yyjson_val *v, unsigned depth, bool root) {
    _cleanup_(members_free) struct members members;
    members_init(&members, v);
    yyjson_mut_val *out = yyjson_mut_obj(p->doc);
    size_t len = p->path.len;
    yyjson_obj_iter it = yyjson_obj_iter_with(v);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        const char *name = yyjson_get_str(key);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        bool verbatim,
            known_apart = root && (str_eq(name, "metadata") || str_eq(name, "kind") || str_eq(name, "apiVersion"));
        yyjson_val *inner = member_schema(schema, name, root, &verbatim);
        bool counts = members_is_last(&members, key);
        if (!counts || (!inner && !verbatim)) {
            note(p, counts ? "unknown" : "duplicate", name);
            continue;
        }
        if (len > 0)
            buf_add_char(&p->path, '.');
        buf_add_str(&p->path, name);
        yyjson_mut_val *item =
            verbatim || known_apart ? yyjson_val_mut_copy(p->doc, value) : prune_value(p, inner, value, depth - 1);
        pop(p, len);
        yyjson_mut_obj_add(out, yyjson_val_mut_copy(p->doc, key), item);
    }
    return out;
}

static yyjson_mut_val *prune_value(struct crd_prune *p, yyjson_val *schema, yyjson_val *v, unsigned depth) {
    if (depth == 0)
        return yyjson_val_mut_copy(p->doc, v);
    if (yyjson_is_obj(v))
        return prune_object(p, schema, v, depth, false);
    yyjson_val *items = json_get(schema, "items");
    if (!yyjson_is_arr(v) || !yyjson_is_obj(items))
        return yyjson_val_mut_copy(p->doc, v);
    yyjson_mut_val *list = yyjson_mut_arr(p->doc);
    size_t len = p->path.len, i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(v);
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&it)); i++) {
        buf_addf(&p->path, "[%zu]", i);
        yyjson_mut_arr_append(list, prune_value(p, items, e, depth - 1));
        pop(p, len);
    }
    return list;
}

yyjson_mut_val *crd_schema_prune(const struct crd_schema *s, yyjson_mut_doc *d, yyjson_val *body,
                                 struct strlist *unknown, struct error *err) {
    struct crd_prune p = {.doc = d, .unknown = unknown, .path = BUF_INIT(4096)};
    if (!yyjson_is_obj(body)) {
        error_set(err, ERR_INVALID, "body: expected an object, got %s", yyjson_get_type_desc(body));
        return NULL;
    }
    yyjson_mut_val *out = prune_object(&p, s->root, body, SCHEMA_MAX_DEPTH, true);
    buf_free(&p.path);
    yyjson_val *metadata = json_get(body, "metadata");
    if (metadata && !yyjson_is_null(metadata)) {
        yyjson_mut_val *pruned =
            schema_prune(d, schema_find("meta.k8s.io", "v1", "ObjectMeta"), metadata, unknown, err);
        if (!pruned) {
            error_wrap(err, "metadata");
            return NULL;
        }
        json_set(d, out, "metadata", pruned);
    }
    return out;
}

/* ---- defaults --------------------------------------------------------------------------------------------------- */

static void default_value(yyjson_mut_doc *d, yyjson_val *schema, yyjson_mut_val *v, unsigned depth);

static void default_object(yyjson_mut_doc *d, yyjson_val *schema, yyjson_mut_val *obj, unsigned depth) {
    yyjson_val *properties = json_get(schema, "properties"),
               *additional = yyjson_obj_get(schema, "additionalProperties");
    yyjson_obj_iter it = yyjson_obj_iter_with(properties);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *inner = yyjson_obj_iter_get_val(key), *fallback = yyjson_obj_get(inner, "default");
        yyjson_mut_val *present = yyjson_mut_obj_get(obj, yyjson_get_str(key));
        if (fallback && (!present || (yyjson_mut_is_null(present) && !flag(inner, "nullable")))) {
            present = yyjson_val_mut_copy(d, fallback);
            json_set(d, obj, yyjson_get_str(key), present);
        }
        if (present)
            default_value(d, inner, present, depth - 1);
    }
    if (!yyjson_is_obj(additional))
        return;
    yyjson_mut_obj_iter members = yyjson_mut_obj_iter_with(obj);
    for (yyjson_mut_val *key; (key = yyjson_mut_obj_iter_next(&members));)
        if (!yyjson_obj_get(properties, yyjson_mut_get_str(key)))
            default_value(d, additional, yyjson_mut_obj_iter_get_val(key), depth - 1);
}

static void default_value(yyjson_mut_doc *d, yyjson_val *schema, yyjson_mut_val *v, unsigned depth) {
    if (depth == 0)
        return;
    if (yyjson_mut_is_obj(v)) {
        default_object(d, schema, v, depth);
    } else if (yyjson_mut_is_arr(v)) {
        yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(v);
        for (yyjson_mut_val *item; (item = yyjson_mut_arr_iter_next(&it));)
            default_value(d, json_get(schema, "items"), item, depth - 1);
    }
}

void crd_schema_default(const struct crd_schema *s, yyjson_mut_doc *d, yyjson_mut_val *obj) {
    default_value(d, s->root, obj, SCHEMA_MAX_DEPTH);
}
