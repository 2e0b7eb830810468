/* Making two-way strategic merge patches, as agents send for the status of nodes and pods. */
#include "base/str.h"
#include "kube/keyed.h"
#include "kube/members.h"
#include "kube/patch.h"
#include "kube/schema_node.h"

struct diff {
    yyjson_mut_doc *doc;
    struct error *err;
};

static int diff_map(struct diff *d, struct schema_node n, yyjson_val *from, yyjson_val *to, yyjson_mut_val *out,
                    unsigned depth);

static void add(struct diff *d, yyjson_mut_val *out, yyjson_val *key, yyjson_mut_val *value) {
    yyjson_mut_obj_add(out, yyjson_val_mut_copy(d->doc, key), value);
}

static void add_directive(struct diff *d, yyjson_mut_val *out, const char *directive, yyjson_val *key,
                          yyjson_mut_val *value) {
    _cleanup_(free_p) char *name = xasprintf("%s/%s", directive, yyjson_get_str(key));
    yyjson_mut_obj_add(out, yyjson_mut_strcpy(d->doc, name), value);
}

static void add_retain_keys(struct diff *d, yyjson_mut_val *out, yyjson_val *to) {
    struct strlist names = {0};
    yyjson_obj_iter it = yyjson_obj_iter_with(to);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
        strlist_add(&names, yyjson_get_str(key));
    strlist_sort(&names);
    yyjson_mut_val *list = yyjson_mut_arr(d->doc);
    for (size_t i = 0; i < names.count; i++)
        yyjson_mut_arr_append(list, yyjson_mut_strcpy(d->doc, names.items[i]));
    strlist_free(&names);
    yyjson_mut_obj_add(out, yyjson_mut_str(d->doc, "$retainKeys"), list);
}

/* {"<merge key>": value} */
static yyjson_mut_val *key_object(struct diff *d, yyjson_val *element, const char *merge_key) {
    yyjson_mut_val *obj = yyjson_mut_obj(d->doc);
    yyjson_mut_obj_add(obj, yyjson_mut_strcpy(d->doc, merge_key),
                       yyjson_val_mut_copy(d->doc, yyjson_obj_get(element, merge_key)));
    return obj;
}

/* The whole list, replacing the old one. */
static void add_whole_list(struct diff *d, yyjson_val *key, yyjson_val *to, yyjson_mut_val *out) {
    yyjson_mut_val *list = yyjson_val_mut_copy(d->doc, to), *replace = yyjson_mut_obj(d->doc);
    yyjson_mut_obj_add_str(d->doc, replace, "$patch", "replace");
    yyjson_mut_arr_append(list, replace);
    add(d, out, key, list);
}

static int diff_element(struct diff *d, struct schema_node n, yyjson_val *from, yyjson_val *to, yyjson_mut_val *list,
                        unsigned depth) {
    const char *merge_key = schema_node_merge_key(n);
    yyjson_mut_val *changes = yyjson_mut_obj(d->doc);
    if (diff_map(d, (struct schema_node){.type = n.type}, from, to, changes, depth) < 0)
        return -1;
    if (yyjson_mut_obj_size(changes) == 0)
        return 0;
    if (n.field->strategy & PATCH_RETAIN_KEYS)
        add_retain_keys(d, changes, to);
    yyjson_mut_obj_put(changes, yyjson_mut_strcpy(d->doc, merge_key),
                       yyjson_val_mut_copy(d->doc, yyjson_obj_get(to, merge_key)));
    yyjson_mut_arr_append(list, changes);
    return 0;
}

static int diff_objects(struct diff *d, struct schema_node n, yyjson_val *key, yyjson_val *from, yyjson_val *to,
                        yyjson_mut_val *out, unsigned depth) {
    const char *merge_key = schema_node_merge_key(n);
    _cleanup_(keyed_free) struct keyed old, new;
    keyed_init(&old, from, merge_key);
    keyed_init(&new, to, merge_key);
    if (!old.unique || !new.unique) {
        add_whole_list(d, key, to, out);
        return 0;
    }
    yyjson_mut_val *list = yyjson_mut_arr(d->doc), *order = yyjson_mut_arr(d->doc);
    for (size_t i = 0; i < new.count; i++) {
        struct keyed_item *item = new.items[i], *before = keyed_find(&old, item->key);
        yyjson_mut_arr_append(order, key_object(d, item->value, merge_key));
        if (!before)
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(d->doc, item->value));
        else if (diff_element(d, n, before->value, item->value, list, depth) < 0)
            return -1;
    }
    for (size_t i = 0; i < old.count; i++) {
        if (keyed_find(&new, old.items[i]->key))
            continue;
        yyjson_mut_val *gone = key_object(d, old.items[i]->value, merge_key);
        yyjson_mut_obj_add_str(d->doc, gone, "$patch", "delete");
        yyjson_mut_arr_append(list, gone);
    }
    if (new.count > 0)
        add_directive(d, out, "$setElementOrder", key, order);
    if (yyjson_mut_arr_size(list) > 0)
        add(d, out, key, list);
    return 0;
}

static void diff_scalars(struct diff *d, yyjson_val *key, yyjson_val *from, yyjson_val *to, yyjson_mut_val *out) {
    _cleanup_(keyed_free) struct keyed old, new;
    keyed_init(&old, from, NULL);
    keyed_init(&new, to, NULL);
    yyjson_mut_val *added = yyjson_mut_arr(d->doc), *removed = yyjson_mut_arr(d->doc);
    for (size_t i = 0; i < new.count; i++)
        if (!keyed_find(&old, new.items[i]->key))
            yyjson_mut_arr_append(added, yyjson_val_mut_copy(d->doc, new.items[i]->value));
    for (size_t i = 0; i < old.count; i++)
        if (!keyed_find(&new, old.items[i]->key))
            yyjson_mut_arr_append(removed, yyjson_val_mut_copy(d->doc, old.items[i]->value));
    if (new.count > 0)
        add_directive(d, out, "$setElementOrder", key, yyjson_val_mut_copy(d->doc, to));
    if (yyjson_mut_arr_size(removed) > 0)
        add_directive(d, out, "$deleteFromPrimitiveList", key, removed);
    if (yyjson_mut_arr_size(added) > 0)
        add(d, out, key, added);
}

/* A member that both have, with different values. */
static int diff_member(struct diff *d, struct schema_node n, yyjson_val *key, yyjson_val *from, yyjson_val *to,
                       yyjson_mut_val *out, unsigned depth) {
    unsigned strategy = n.field ? n.field->strategy : 0;
    if (yyjson_is_obj(from) && yyjson_is_obj(to) && !(strategy & PATCH_REPLACE)) {
        yyjson_mut_val *changes = yyjson_mut_obj(d->doc);
        if (diff_map(d, n, from, to, changes, depth) < 0)
            return -1;
        if (strategy & PATCH_RETAIN_KEYS)
            add_retain_keys(d, changes, to);
        add(d, out, key, changes);
        return 0;
    }
    if (yyjson_is_arr(from) && yyjson_is_arr(to) && schema_node_merges(n)) {
        if (*schema_node_merge_key(n))
            return diff_objects(d, n, key, from, to, out, depth);
        diff_scalars(d, key, from, to, out);
        return 0;
    }
    add(d, out, key, yyjson_val_mut_copy(d->doc, to));
    return 0;
}

static int diff_map(struct diff *d, struct schema_node n, yyjson_val *from, yyjson_val *to, yyjson_mut_val *out,
                    unsigned depth) {
    if (depth == 0)
        return error_set(d->err, ERR_TOO_LARGE, "object is nested too deeply");
    _cleanup_(members_free) struct members old, new;
    members_init(&old, from);
    members_init(&new, to);
    yyjson_obj_iter it = yyjson_obj_iter_with(to);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *value = yyjson_obj_iter_get_val(key), *before = members_get(&old, json_bytes(key));
        if (!members_is_last(&new, key) || yyjson_is_null(value))
            continue;
        if (!before || yyjson_is_null(before))
            add(d, out, key, yyjson_val_mut_copy(d->doc, value));
        else if (!json_equal(before, value) &&
                 diff_member(d, schema_node_child(n, json_bytes(key)), key, before, value, out, depth - 1) < 0)
            return -1;
    }
    it = yyjson_obj_iter_with(from);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *after = members_get(&new, json_bytes(key));
        if (members_is_last(&old, key) && !yyjson_is_null(yyjson_obj_iter_get_val(key)) &&
            (!after || yyjson_is_null(after)))
            add(d, out, key, yyjson_mut_null(d->doc));
    }
    return 0;
}

int patch_diff_strategic(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *from, yyjson_val *to,
                         yyjson_mut_val **out, struct error *err) {
    struct diff diff = {d, err};
    *out = NULL;
    if (!yyjson_is_obj(from) || !yyjson_is_obj(to))
        return error_set(err, ERR_INVALID, "a strategic merge patch is made between two objects");
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    if (diff_map(&diff, (struct schema_node){.type = t}, from, to, patch, JSON_MAX_DEPTH + 1) < 0)
        return -1;
    if (yyjson_mut_obj_size(patch) > 0)
        *out = patch;
    return 0;
}
