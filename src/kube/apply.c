#include "kube/apply.h"

#include "kube/members.h"

/* ---- conflicts -------------------------------------------------------------------------------------------------- */

struct apply_conflict *apply_conflicts(const struct apply *a, size_t *count) {
    struct apply_conflict *found = NULL;
    uint32_t *there = xcalloc(a->config->count, sizeof(*there));
    uint64_t mine = a->applier < 0 ? 0 : (uint64_t)1 << a->applier;
    uint64_t *below = ownership_below(a->owned, a->live);
    *count = 0;
    field_tree_match(a->config, a->live, there);
    for (uint32_t n = 1; n < a->config->count; n++) {
        const struct field_node *said = &a->config->nodes[n];
        if (there[n] == FIELD_NONE)
            continue;
        const struct field_node *live = &a->live->nodes[there[n]];
        bool merged = yyjson_get_type(said->value) == yyjson_get_type(live->value) && said->kind != TOPOLOGY_ATOMIC;
        bool same = merged || json_equal(said->value, live->value);
        uint64_t owners = (live->leaf ? a->owned->owners : below)[there[n]] & ~mine;
        if (same || !owners)
            continue;
        found = xreallocarray(found, *count + 1, sizeof(*found));
        found[(*count)++] = (struct apply_conflict){.node = there[n], .owners = owners};
    }
    free(below);
    free(there);
    return found;
}

/* ---- merging ---------------------------------------------------------------------------------------------------- */

struct merge {
    const struct apply *a;
    yyjson_mut_doc *doc;
    const uint64_t *below; /* owners of each live node and of everything in it */
    const uint32_t *said;  /* for each live node the config's, FIELD_NONE if it says nothing */
    const uint32_t *there; /* for each config node the live one */
    uint64_t mine;
};

static yyjson_mut_val *merge_node(const struct merge *m, uint32_t live, uint32_t config);

static yyjson_mut_val *key_of(const struct merge *m, struct bytes name) {
    return yyjson_mut_strncpy(m->doc, name.ptr, name.len);
}

/* Has the applier given it up, with nobody else owning it? */
static bool given_up(const struct merge *m, uint32_t live) {
    const struct field_node *node = &m->a->live->nodes[live];
    return (node->leaf || node->entry) && (m->a->owned->owners[live] & m->mine) && !(m->below[live] & ~m->mine);
}

/* NULL: it goes away. */
static yyjson_mut_val *keep_node(const struct merge *m, uint32_t live) {
    return given_up(m, live) ? NULL : merge_node(m, live, FIELD_NONE);
}

static yyjson_mut_val *merge_members(const struct merge *m, uint32_t live, uint32_t config) {
    const struct field_tree *lt = m->a->live, *ct = m->a->config;
    yyjson_mut_val *out = yyjson_mut_obj(m->doc);
    uint32_t next = live + 1;
    yyjson_obj_iter it = yyjson_obj_iter_with(lt->nodes[live].value);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_mut_val *value;
        if (next >= lt->nodes[live].end || lt->nodes[next].value != yyjson_obj_iter_get_val(key)) {
            value = yyjson_val_mut_copy(m->doc, yyjson_obj_iter_get_val(key)); /* what no tree has: names, uid */
        } else {
            uint32_t said = config == FIELD_NONE ? FIELD_NONE : m->said[next];
            value = said == FIELD_NONE ? keep_node(m, next) : merge_node(m, next, said);
            next = lt->nodes[next].end;
        }
        if (value)
            yyjson_mut_obj_add(out, key_of(m, json_bytes(key)), value);
    }
    for (uint32_t i = config + 1; config != FIELD_NONE && i < ct->nodes[config].end; i = ct->nodes[i].end)
        if (m->there[i] == FIELD_NONE)
            yyjson_mut_obj_add(out, key_of(m, ct->nodes[i].name), yyjson_val_mut_copy(m->doc, ct->nodes[i].value));
    return out;
}

/* Adds the live list's elements from *next on that the config does not name, up to one that it names from node `due`
 * on: that one waits for its turn. */
static void keep_elements(const struct merge *m, yyjson_mut_val *out, uint32_t *next, uint32_t end, uint32_t due) {
    for (; *next < end; *next = m->a->live->nodes[*next].end) {
        uint32_t said = m->said[*next];
        if (said != FIELD_NONE && said >= due)
            return;
        yyjson_mut_val *value = said == FIELD_NONE ? keep_node(m, *next) : NULL;
        if (value)
            yyjson_mut_arr_append(out, value);
    }
}

static yyjson_mut_val *merge_elements(const struct merge *m, uint32_t live, uint32_t config) {
    const struct field_tree *ct = m->a->config;
    yyjson_mut_val *out = yyjson_mut_arr(m->doc);
    uint32_t next = live + 1, end = m->a->live->nodes[live].end;
    uint32_t config_end = config == FIELD_NONE ? 0 : ct->nodes[config].end;
    for (uint32_t i = config + 1; config != FIELD_NONE && i < config_end; i = ct->nodes[i].end) {
        uint32_t there = m->there[i];
        keep_elements(m, out, &next, end, i);
        yyjson_mut_arr_append(out, there == FIELD_NONE ? yyjson_val_mut_copy(m->doc, ct->nodes[i].value)
                                                       : merge_node(m, there, i));
    }
    keep_elements(m, out, &next, end, config_end);
    return out;
}

/* The live value with the config's; FIELD_NONE: nothing is said of it, but parts may have been given up. */
static yyjson_mut_val *merge_node(const struct merge *m, uint32_t live, uint32_t config) {
    const struct field_node *l = &m->a->live->nodes[live];
    const struct field_node *c = config == FIELD_NONE ? NULL : &m->a->config->nodes[config];
    if (c && (c->kind == TOPOLOGY_ATOMIC || l->leaf || yyjson_get_type(c->value) != yyjson_get_type(l->value)))
        return yyjson_val_mut_copy(m->doc, c->value);
    if (l->leaf || (!c && !(m->below[live] & m->mine)))
        return yyjson_val_mut_copy(m->doc, l->value);
    yyjson_mut_val *out = yyjson_is_obj(l->value) ? merge_members(m, live, config) : merge_elements(m, live, config);
    bool emptied = !c && yyjson_mut_get_len(out) == 0;
    return emptied && !(m->a->owned->owners[live] & ~m->mine) ? NULL : out;
}

yyjson_mut_val *apply_merge(const struct apply *a, yyjson_mut_doc *d) {
    uint32_t *said = xcalloc(a->live->count, sizeof(*said)), *there = xcalloc(a->config->count, sizeof(*there));
    uint64_t *below = ownership_below(a->owned, a->live);
    field_tree_match(a->config, a->live, there);
    for (uint32_t n = 0; n < a->live->count; n++)
        said[n] = FIELD_NONE;
    for (uint32_t n = 0; n < a->config->count; n++)
        if (there[n] != FIELD_NONE)
            said[there[n]] = n;
    const struct merge m = {.a = a,
                            .doc = d,
                            .below = below,
                            .said = said,
                            .there = there,
                            .mine = a->applier < 0 ? 0 : (uint64_t)1 << a->applier};
    yyjson_mut_val *out = merge_node(&m, 0, 0);
    free(said);
    free(there);
    free(below);
    return out;
}
