#include "kube/field_tree.h"

#include "kube/members.h"

#define KEY_MAX (1u << 20)
#define PATH_MAX_LEN 4096

/* ---- building --------------------------------------------------------------------------------------------------- */

static struct bytes keep_text(struct field_tree *t, char *text) {
    if (t->n_texts == t->cap_texts) {
        t->cap_texts = t->cap_texts ? t->cap_texts * 2 : 16;
        t->texts = xreallocarray(t->texts, t->cap_texts, sizeof(*t->texts));
    }
    t->texts[t->n_texts++] = text;
    return bytes_str(text);
}

/* {"containerPort":80,"protocol":"TCP"} */
char *field_tree_key(const struct topology *list, yyjson_val *element) {
    struct bytes keys[TOPOLOGY_MAX_KEYS];
    size_t n = topology_keys(list, keys);
    _cleanup_(buf_free) struct buf out = BUF_INIT(KEY_MAX);
    if (!yyjson_is_obj(element) || n == 0)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        yyjson_val *value = yyjson_obj_getn(element, keys[i].ptr, keys[i].len);
        _cleanup_(free_p) char *assumed = value ? NULL : topology_key_default(list, keys[i]);
        if (!value && !assumed)
            return NULL;
        buf_add_char(&out, i ? ',' : '{');
        json_append_string(&out, keys[i]);
        buf_add_char(&out, ':');
        if (value)
            json_append(&out, value);
        else
            buf_add_str(&out, assumed);
    }
    buf_add_char(&out, '}');
    return out.overflowed ? NULL : buf_take(&out, NULL);
}

static uint32_t add_node(struct field_tree *t, struct field_node node) {
    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 128;
        t->nodes = xreallocarray(t->nodes, t->cap, sizeof(*t->nodes));
    }
    t->nodes[t->count] = node;
    return t->count++;
}

static void add_below(struct field_tree *t, uint32_t index, unsigned depth);

static void add_child(struct field_tree *t, uint32_t parent, char step, struct bytes name, yyjson_val *value,
                      struct topology topology, bool entry, unsigned depth) {
    enum topology_kind kind = depth ? topology_kind(&topology, value) : TOPOLOGY_ATOMIC;
    uint32_t index = add_node(t, (struct field_node){.name = name,
                                                     .value = value,
                                                     .topology = topology,
                                                     .parent = parent,
                                                     .step = step,
                                                     .kind = (uint8_t)kind,
                                                     .leaf = kind == TOPOLOGY_ATOMIC || yyjson_get_len(value) == 0,
                                                     .entry = entry});
    if (!t->nodes[index].leaf)
        add_below(t, index, depth - 1);
    t->nodes[index].end = t->count;
}

static void add_elements(struct field_tree *t, uint32_t index, unsigned depth) {
    struct field_node list = t->nodes[index];
    struct topology element = topology_element(&list.topology);
    size_t i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(list.value);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it)); i++) {
        char step = list.kind == TOPOLOGY_SET ? 'v' : 'k';
        char *key = step == 'v' ? json_write(v, NULL) : field_tree_key(&list.topology, v);
        if (!key) {
            step = 'i';
            key = xasprintf("%zu", i);
        }
        add_child(t, index, step, keep_text(t, key), v, element, true, depth);
    }
}

static bool counts_in_metadata(struct bytes name) {
    static const char *const counted[] = {"labels", "annotations", "finalizers", "ownerReferences"};
    for (size_t i = 0; i < ARRAY_LEN(counted); i++)
        if (bytes_eq_str(name, counted[i]))
            return true;
    return false;
}

static void add_members(struct field_tree *t, uint32_t index, unsigned depth) {
    struct field_node parent = t->nodes[index];
    bool root = index == 0,
         metadata = parent.parent == 0 && parent.step == 'f' && bytes_eq_str(parent.name, "metadata");
    yyjson_obj_iter it = yyjson_obj_iter_with(parent.value);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct bytes name = json_bytes(key);
        if ((root && (bytes_eq_str(name, "apiVersion") || bytes_eq_str(name, "kind"))) ||
            (metadata && !counts_in_metadata(name)))
            continue;
        struct topology member = topology_member(&parent.topology, name);
        bool entry = parent.kind == TOPOLOGY_MAP || !topology_names(&parent.topology, name);
        if (root && bytes_eq_str(name, "metadata")) {
            member = topology_builtin(schema_find("meta.k8s.io", "v1", "ObjectMeta"));
            entry = false;
        }
        add_child(t, index, 'f', name, yyjson_obj_iter_get_val(key), member, entry, depth);
    }
}

static void add_below(struct field_tree *t, uint32_t index, unsigned depth) {
    if (yyjson_is_obj(t->nodes[index].value))
        add_members(t, index, depth);
    else
        add_elements(t, index, depth);
}

void field_tree_init(struct field_tree *t, yyjson_val *object, struct topology topology) {
    *t = (struct field_tree){0};
    add_node(t, (struct field_node){
                    .value = object, .topology = topology, .kind = TOPOLOGY_STRUCT, .parent = FIELD_NONE, .end = 1});
    if (yyjson_is_obj(object))
        add_members(t, 0, JSON_MAX_DEPTH);
    for (uint32_t i = 1; i < t->count; i = t->nodes[i].end)
        if (bytes_eq_str(t->nodes[i].name, "metadata")) /* nobody's, but for what is in it */
            t->nodes[i].leaf = false;
    t->nodes[0].end = t->count;
}

/* ---- fieldsV1 --------------------------------------------------------------------------------------------------- */

/* A key as it would stand in a tree: k: and v: hold JSON of any spacing and order. */
static int canonical_name(struct field_tree *t, const struct topology *list, char step, struct bytes *name) {
    if (step == 'f' || step == 'i')
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(*name, KEY_MAX, NULL);
    if (!doc)
        return -1;
    yyjson_val *value = yyjson_doc_get_root(doc);
    char *text = step == 'v' ? json_write(value, NULL) : field_tree_key(list, value);
    *name = keep_text(t, text ? text : json_write(value, NULL));
    return 0;
}

static int add_fields(struct field_tree *t, uint32_t index, yyjson_val *fields, unsigned depth) {
    struct topology parent = t->nodes[index].topology;
    t->nodes[index].leaf = yyjson_obj_size(fields) == 0;
    if (!yyjson_is_obj(fields) || depth == 0)
        return -1;
    yyjson_obj_iter it = yyjson_obj_iter_with(fields);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        struct bytes text = json_bytes(key);
        if (bytes_eq_str(text, ".")) {
            t->nodes[index].leaf = true;
            continue;
        }
        if (text.len < 2 || text.ptr[1] != ':' || !memchr("fkvi", text.ptr[0], 4))
            return -1;
        struct bytes name = bytes_of(text.ptr + 2, text.len - 2);
        char step = text.ptr[0];
        if (canonical_name(t, &parent, step, &name) < 0)
            return -1;
        struct topology topology = step == 'f' ? topology_member(&parent, name) : topology_element(&parent);
        if (index == 0 && bytes_eq_str(name, "metadata"))
            topology = topology_builtin(schema_find("meta.k8s.io", "v1", "ObjectMeta"));
        uint32_t child =
            add_node(t, (struct field_node){.name = name, .topology = topology, .parent = index, .step = step});
        if (add_fields(t, child, yyjson_obj_iter_get_val(key), depth - 1) < 0)
            return -1;
        t->nodes[child].end = t->count;
    }
    return 0;
}

int field_tree_init_fields(struct field_tree *t, yyjson_val *fields, struct topology topology, struct error *err) {
    *t = (struct field_tree){0};
    add_node(t, (struct field_node){.topology = topology, .parent = FIELD_NONE});
    int r = add_fields(t, 0, fields, JSON_MAX_DEPTH);
    t->nodes[0].leaf = false;
    t->nodes[0].end = t->count;
    if (r == 0)
        return 0;
    field_tree_free(t);
    return error_set(err, ERR_INVALID, "fieldsV1 is no set of paths");
}

void field_tree_free(struct field_tree *t) {
    for (uint32_t i = 0; i < t->n_texts; i++)
        free(t->texts[i]);
    free(t->texts);
    free(t->nodes);
    *t = (struct field_tree){0};
}

/* ---- finding ---------------------------------------------------------------------------------------------------- */

static int compare_steps(char step_a, struct bytes a, char step_b, struct bytes b) {
    if (step_a != step_b)
        return step_a < step_b ? -1 : 1;
    int c = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static bool same_step(const struct field_node *a, const struct field_node *b) {
    return a->step == b->step && bytes_eq(a->name, b->name);
}

/* The children of one node, sorted when they are first looked for out of order. */
struct children {
    const struct field_tree *tree;
    uint32_t parent, next; /* the one that is due in order */
    const struct field_node **sorted;
    size_t count;
};

static int compare_children(const void *pa, const void *pb) {
    const struct field_node *a = *(const struct field_node *const *)pa, *b = *(const struct field_node *const *)pb;
    int c = compare_steps(a->step, a->name, b->step, b->name);
    return c ? c : (a > b) - (a < b);
}

static void sort_children(struct children *c) {
    const struct field_tree *t = c->tree;
    uint32_t end = t->nodes[c->parent].end;
    c->sorted = xreallocarray(NULL, end - c->parent, sizeof(*c->sorted));
    for (uint32_t i = c->parent + 1; i < end; i = t->nodes[i].end)
        c->sorted[c->count++] = &t->nodes[i];
    qsort(c->sorted, c->count, sizeof(*c->sorted), compare_children);
}

static uint32_t search_children(struct children *c, char step, struct bytes name) {
    if (!c->sorted)
        sort_children(c);
    size_t low = 0, high = c->count; /* the first that is not smaller */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_steps(c->sorted[mid]->step, c->sorted[mid]->name, step, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == c->count || compare_steps(c->sorted[low]->step, c->sorted[low]->name, step, name) != 0)
        return FIELD_NONE;
    return (uint32_t)(c->sorted[low] - c->tree->nodes);
}

static uint32_t find_child(struct children *c, const struct field_node *wanted) {
    const struct field_tree *t = c->tree;
    uint32_t found = c->next;
    if (found >= t->nodes[c->parent].end || !same_step(wanted, &t->nodes[found]))
        found = search_children(c, wanted->step, wanted->name);
    if (found != FIELD_NONE)
        c->next = t->nodes[found].end;
    return found;
}

void field_tree_match(const struct field_tree *a, const struct field_tree *b, uint32_t *out) {
    for (uint32_t i = 0; i < a->count; i++)
        out[i] = FIELD_NONE;
    out[0] = 0;
    for (uint32_t i = 0; i < a->count; i++) { /* parents come first */
        if (out[i] == FIELD_NONE || a->nodes[i].end == i + 1)
            continue;
        struct children c = {.tree = b, .parent = out[i], .next = out[i] + 1};
        for (uint32_t k = i + 1; k < a->nodes[i].end; k = a->nodes[k].end)
            out[k] = find_child(&c, &a->nodes[k]);
        free(c.sorted);
    }
}

uint32_t field_tree_duplicate(const struct field_tree *t) {
    uint32_t found = FIELD_NONE;
    for (uint32_t i = 0; i < t->count && found == FIELD_NONE; i++) {
        if (t->nodes[i].end == i + 1)
            continue;
        struct children c = {.tree = t, .parent = i};
        sort_children(&c);
        for (size_t k = 1; k < c.count && found == FIELD_NONE; k++)
            if (same_step(c.sorted[k - 1], c.sorted[k]))
                found = (uint32_t)(c.sorted[k] - t->nodes);
        free(c.sorted);
    }
    return found;
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

/* {"containerPort":80,"protocol":"TCP"} as [containerPort=80,protocol="TCP"] */
static void add_key_path(struct bytes key, struct buf *out) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_read(key.ptr, key.len, 0);
    bool first = true;
    yyjson_obj_iter it = yyjson_obj_iter_with(yyjson_doc_get_root(doc));
    for (yyjson_val *k; (k = yyjson_obj_iter_next(&it)); first = false) {
        buf_addf(out, "%s%s=", first ? "[" : ",", yyjson_get_str(k));
        json_append(out, yyjson_obj_iter_get_val(k));
    }
    buf_add_char(out, ']');
}

void field_tree_path(const struct field_tree *t, uint32_t node, struct buf *out) {
    uint32_t steps[JSON_MAX_DEPTH + 2];
    size_t n = 0;
    for (uint32_t i = node; i != 0 && n < ARRAY_LEN(steps); i = t->nodes[i].parent)
        steps[n++] = i;
    while (n > 0 && out->len < PATH_MAX_LEN) {
        const struct field_node *step = &t->nodes[steps[--n]];
        if (step->step == 'k') {
            add_key_path(step->name, out);
            continue;
        }
        buf_add_str(out, step->step == 'f' ? "." : step->step == 'v' ? "[=" : "[");
        buf_add_bytes(out, step->name);
        if (step->step != 'f')
            buf_add_char(out, ']');
    }
}
