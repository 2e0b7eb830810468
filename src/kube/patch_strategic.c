/* Applying strategic merge patches (embedded-api.md 4.4). */
#include "base/str.h"
#include "kube/keyed.h"
#include "kube/members.h"
#include "kube/patch.h"
#include "kube/schema_node.h"

#define ORDER_PREFIX "$setElementOrder/"
#define DELETE_PREFIX "$deleteFromPrimitiveList/"

struct smp {
    yyjson_mut_doc *doc;
    struct error *err;
};

static yyjson_mut_val *merge_map(struct smp *s, struct schema_node n, yyjson_val *target, yyjson_val *patch,
                                 unsigned depth);

static bool is_directive(struct bytes key) {
    return bytes_eq_str(key, "$patch") || bytes_eq_str(key, "$retainKeys") || bytes_starts_with(key, ORDER_PREFIX) ||
           bytes_starts_with(key, DELETE_PREFIX);
}

static yyjson_mut_val *fail(struct smp *s, enum error_code code, const char *what, const char *name) {
    error_set(s->err, code, "strategic merge patch: %s%.100s", what, name);
    return NULL;
}

/* ---- order ------------------------------------------------------------------------------------------------------ */

static int by_order(const void *pa, const void *pb) {
    const struct keyed_item *a = *(struct keyed_item *const *)pa, *b = *(struct keyed_item *const *)pb;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return (a->position > b->position) - (a->position < b->position);
}

/* Sorts into list: the named elements in the order named; every other one before the first named element that stood
 * behind it on the server. */
static void emit_ordered(struct keyed *k, yyjson_mut_val *list) {
    struct keyed_item **named = xreallocarray(NULL, k->count + 1, sizeof *named);
    size_t n_named = 0, r = 0;
    for (size_t i = 0; i < k->count; i++)
        if (!k->items[i]->deleted && k->items[i]->order != SIZE_MAX)
            named[n_named++] = k->items[i];
    qsort(named, n_named, sizeof *named, by_order);
    for (size_t i = 0; i < k->count; i++) {
        struct keyed_item *item = k->items[i];
        if (item->deleted || item->order != SIZE_MAX)
            continue;
        for (; r < n_named; r++) {
            if (named[r]->position != SIZE_MAX && named[r]->position > item->position)
                break;
            yyjson_mut_arr_append(list, named[r]->merged);
        }
        yyjson_mut_arr_append(list, item->merged);
    }
    for (; r < n_named; r++)
        yyjson_mut_arr_append(list, named[r]->merged);
    free(named);
}

static yyjson_mut_val *emit(struct smp *s, struct keyed *k, yyjson_val *order, const char *merge_key) {
    yyjson_mut_val *list = yyjson_mut_arr(s->doc);
    for (size_t i = 0; i < k->count; i++)
        if (!k->items[i]->merged && !k->items[i]->deleted)
            k->items[i]->merged = yyjson_val_mut_copy(s->doc, k->items[i]->value);
    if (order) {
        yyjson_arr_iter it = yyjson_arr_iter_with(order);
        size_t position = 0;
        for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)); position++) {
            _cleanup_(free_p) char *key = keyed_key(v, merge_key);
            struct keyed_item *item = keyed_find(k, key);
            if (!key)
                return fail(s, ERR_UNSUPPORTED, ORDER_PREFIX " holds something else than merge keys", "");
            if (item && item->order != SIZE_MAX)
                continue; /* named twice */
            for (; item; item = item->same)
                item->order = position;
        }
    }
    emit_ordered(k, list);
    return list;
}

/* ---- lists ------------------------------------------------------------------------------------------------------ */

static bool has_replace(yyjson_val *patch) {
    yyjson_arr_iter it = yyjson_arr_iter_with(patch);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(v, "$patch"), "replace"))
            return true;
    return false;
}

/* One element of the patch into the list. */
static int merge_element(struct smp *s, struct schema_node n, struct keyed *k, yyjson_val *v, bool replaces,
                         unsigned depth) {
    const char *merge_key = schema_node_merge_key(n), *directive = json_str(v, "$patch");
    struct schema_node element = {.type = n.type};
    if (!yyjson_is_obj(v)) {
        fail(s, ERR_INVALID, "an element of a list of objects is none: ", schema_field_name(n.field));
        return -1;
    }
    if (str_eq(directive, "replace"))
        return 0;
    if (directive && !str_eq(directive, "delete")) {
        fail(s, ERR_INVALID, "unknown $patch directive in a list: ", directive);
        return -1;
    }
    char *key = keyed_key(v, merge_key);
    if (!key && !replaces) {
        fail(s, ERR_INVALID, "an element lacks its merge key ", merge_key);
        return -1;
    }
    struct keyed_item *item = keyed_find(k, key);
    if (directive) {
        for (; item; item = item->same)
            item->deleted = true;
        free(key);
        return 0;
    }
    if (item && !replaces && !item->deleted) {
        free(key);
        if (item->merged) /* named twice in the patch: the later one counts, on top of the server's */
            item->merged = NULL;
        item->merged = merge_map(s, element, yyjson_is_obj(item->value) ? item->value : NULL, v, depth);
        return item->merged ? 0 : -1;
    }
    item = keyed_add(k, key, NULL);
    item->merged = merge_map(s, element, NULL, v, depth);
    return item->merged ? 0 : -1;
}

static yyjson_mut_val *merge_objects(struct smp *s, struct schema_node n, yyjson_val *target, yyjson_val *patch,
                                     yyjson_val *order, unsigned depth) {
    const char *merge_key = schema_node_merge_key(n);
    bool replaces = has_replace(patch);
    _cleanup_(keyed_free) struct keyed k;
    keyed_init(&k, replaces ? NULL : target, merge_key);
    yyjson_arr_iter it = yyjson_arr_iter_with(patch);
    for (yyjson_val *v; patch && (v = yyjson_arr_iter_next(&it));)
        if (merge_element(s, n, &k, v, replaces, depth) < 0)
            return NULL;
    return emit(s, &k, order, merge_key);
}

static yyjson_mut_val *merge_scalars(struct smp *s, struct schema_node n, yyjson_val *target, yyjson_val *patch,
                                     yyjson_val *order, yyjson_val *removed) {
    _cleanup_(keyed_free) struct keyed k;
    keyed_init(&k, target, NULL);
    yyjson_arr_iter it = yyjson_arr_iter_with(removed);
    for (yyjson_val *v; removed && (v = yyjson_arr_iter_next(&it));) {
        _cleanup_(free_p) char *key = keyed_key(v, NULL);
        for (struct keyed_item *item = keyed_find(&k, key); item; item = item->same)
            item->deleted = true;
    }
    it = yyjson_arr_iter_with(patch);
    for (yyjson_val *v; patch && (v = yyjson_arr_iter_next(&it));) {
        char *key = keyed_key(v, NULL);
        if (!key)
            return fail(s, ERR_INVALID, "a list of scalars holds something else: ", schema_field_name(n.field));
        struct keyed_item *item = keyed_find(&k, key);
        if (!item) {
            keyed_add(&k, key, v);
            continue;
        }
        item->deleted = false;
        free(key);
    }
    return emit(s, &k, order, NULL);
}

/* ---- members ---------------------------------------------------------------------------------------------------- */

struct change { /* what a patch says about one member */
    yyjson_val *value, *order, *removed;
};

static int find_change(struct smp *s, const struct members *patch, bool directives, struct bytes name,
                       struct change *out) {
    *out = (struct change){.value = members_get(patch, name)};
    if (!directives)
        return 0;
    _cleanup_(buf_free) struct buf key = BUF_INIT(SIZE_MAX);
    buf_add_str(&key, ORDER_PREFIX);
    buf_add_bytes(&key, name);
    out->order = members_get(patch, buf_bytes(&key));
    buf_clear(&key);
    buf_add_str(&key, DELETE_PREFIX);
    buf_add_bytes(&key, name);
    out->removed = members_get(patch, buf_bytes(&key));
    if ((out->order && !yyjson_is_arr(out->order)) || (out->removed && !yyjson_is_arr(out->removed))) {
        fail(s, ERR_UNSUPPORTED, "a directive is not a list: ", key.ptr);
        return -1;
    }
    return 0;
}

static yyjson_mut_val *merge_member(struct smp *s, struct schema_node n, yyjson_val *target, const struct change *c,
                                    unsigned depth) {
    bool list = c->value ? yyjson_is_arr(c->value) : yyjson_is_arr(target);
    if (yyjson_is_obj(c->value)) {
        bool replace = n.field && (n.field->strategy & PATCH_REPLACE);
        return merge_map(s, n, yyjson_is_obj(target) && !replace ? target : NULL, c->value, depth);
    }
    if (!list || !schema_node_merges(n))
        return yyjson_val_mut_copy(s->doc, c->value ? c->value : target);
    if (!yyjson_is_arr(target))
        target = NULL;
    if (*schema_node_merge_key(n))
        return merge_objects(s, n, target, c->value, c->order, depth);
    return merge_scalars(s, n, target, c->value, c->order, c->removed);
}

struct map_merge {
    struct smp *s;
    struct schema_node node;
    struct members old, new;
    struct keyed retain;
    bool retains, directives;
    unsigned depth;
};

static bool retained(const struct map_merge *m, yyjson_val *key) {
    if (!m->retains)
        return true;
    _cleanup_(free_p) char *text = json_write(key, NULL);
    return keyed_find(&m->retain, text);
}

/* Directives of the map itself. Returns 0, or -1. */
static int read_directives(struct map_merge *m, yyjson_val *patch) {
    yyjson_val *retain = members_get(&m->new, BYTES_LIT("$retainKeys"));
    if (retain && !yyjson_is_arr(retain)) {
        fail(m->s, ERR_UNSUPPORTED, "$retainKeys is not a list", "");
        return -1;
    }
    m->retains = retain;
    keyed_init(&m->retain, retain, NULL);
    yyjson_obj_iter it = yyjson_obj_iter_with(patch);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct bytes name = json_bytes(key);
        if (is_directive(name)) {
            m->directives = true;
        } else if (!retained(m, key) && !yyjson_is_null(yyjson_obj_iter_get_val(key))) {
            fail(m->s, ERR_INVALID, "$retainKeys does not name a key of the patch: ", yyjson_get_str(key));
            return -1;
        }
    }
    return 0;
}

static int merge_members(struct map_merge *m, yyjson_val *patch, yyjson_mut_val *out) {
    struct change c;
    yyjson_obj_iter it = yyjson_obj_iter_with(m->old.obj);
    for (yyjson_val *key; m->old.obj && (key = yyjson_obj_iter_next(&it));) {
        struct bytes name = json_bytes(key);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (!members_is_last(&m->old, key) || !retained(m, key))
            continue;
        if (find_change(m->s, &m->new, m->directives, name, &c) < 0)
            return -1;
        if (yyjson_is_null(c.value))
            continue;
        yyjson_mut_val *v = merge_member(m->s, schema_node_child(m->node, name), value, &c, m->depth - 1);
        if (!v)
            return -1;
        yyjson_mut_obj_add(out, yyjson_val_mut_copy(m->s->doc, key), v);
    }
    it = yyjson_obj_iter_with(patch);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct bytes name = json_bytes(key);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (is_directive(name) || yyjson_is_null(value) || !members_is_last(&m->new, key) || members_get(&m->old, name))
            continue;
        if (find_change(m->s, &m->new, m->directives, name, &c) < 0)
            return -1;
        yyjson_mut_val *v = merge_member(m->s, schema_node_child(m->node, name), NULL, &c, m->depth - 1);
        if (!v)
            return -1;
        yyjson_mut_obj_add(out, yyjson_val_mut_copy(m->s->doc, key), v);
    }
    return 0;
}

static void map_merge_free(struct map_merge *m) {
    members_free(&m->old);
    members_free(&m->new);
    keyed_free(&m->retain);
}

/* target may be NULL: then directives and nulls of the patch go, the rest stays. */
static yyjson_mut_val *merge_map(struct smp *s, struct schema_node n, yyjson_val *target, yyjson_val *patch,
                                 unsigned depth) {
    if (depth == 0)
        return fail(s, ERR_TOO_LARGE, "nested too deeply", "");
    _cleanup_(map_merge_free) struct map_merge m = {.s = s, .node = n, .depth = depth};
    members_init(&m.new, patch);
    yyjson_val *directive = members_get(&m.new, BYTES_LIT("$patch"));
    yyjson_mut_val *out = yyjson_mut_obj(s->doc);
    if (directive) {
        const char *word = yyjson_get_str(directive);
        if (str_eq(word, "delete"))
            return out;
        if (!str_eq(word, "replace"))
            return fail(s, ERR_INVALID, "unknown $patch directive: ", str_or(word, "(no string)"));
        target = NULL;
    }
    members_init(&m.old, target);
    if (read_directives(&m, patch) < 0 || merge_members(&m, patch, out) < 0)
        return NULL;
    return out;
}

yyjson_mut_val *patch_strategic(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *target, yyjson_val *patch,
                                struct error *err) {
    struct smp s = {d, err};
    if (!yyjson_is_obj(patch))
        return fail(&s, ERR_UNSUPPORTED, "the patch is not an object", "");
    return merge_map(&s, (struct schema_node){.type = t}, target, patch, JSON_MAX_DEPTH + 1);
}
