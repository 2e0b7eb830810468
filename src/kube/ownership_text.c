/* managedFields as clients know them. */
#include "kube/ownership.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/members.h"

/* ---- writing ---------------------------------------------------------------------------------------------------- */

struct writing {
    const struct ownership *o;
    const struct field_tree *tree;
    const uint64_t *below;
    struct buf *out;
};

/* Names come from JSON, so they are UTF-8: quotes and what stands below the blank is all that needs escaping. */
static void write_step(const struct field_node *node, struct buf *out) {
    const char start[] = {'"', node->step, ':'};
    const char *from = node->name.ptr, *end = from + node->name.len;
    buf_add(out, start, sizeof(start));
    for (const char *p = from; p < end; p++) {
        if (*p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
            continue;
        buf_add(out, from, (size_t)(p - from));
        from = p + 1;
        if ((unsigned char)*p < 0x20)
            buf_addf(out, "\\u%04x", (unsigned char)*p);
        else
            buf_add(out, (const char[]){'\\', *p}, 2);
    }
    buf_add(out, from, (size_t)(end - from));
    buf_add(out, "\":", 2);
}

/* A tree is as deep as JSON_MAX_DEPTH at most. */
static void write_set(const struct writing *w, uint32_t index, uint64_t mask) {
    uint32_t end = w->tree->nodes[index].end;
    bool first = true, itself = index != 0 && (w->o->owners[index] & mask);
    buf_add_char(w->out, '{');
    for (uint32_t i = index + 1; i < end; i = w->tree->nodes[i].end) {
        if (!(w->below[i] & mask))
            continue;
        if (first && itself)
            buf_add_str(w->out, "\".\":{}");
        if (!first || itself)
            buf_add_char(w->out, ',');
        first = false;
        write_step(&w->tree->nodes[i], w->out);
        write_set(w, i, mask);
    }
    buf_add_char(w->out, '}');
}

static void write_manager(const struct writing *w, size_t i) {
    const struct manager *m = &w->o->managers[i];
    char time[RFC3339_SIZE];
    buf_add_str(w->out, "{\"manager\":");
    json_append_string(w->out, bytes_str(m->name));
    buf_addf(w->out, ",\"operation\":\"%s\",\"apiVersion\":", m->apply ? "Apply" : "Update");
    json_append_string(w->out, bytes_str(m->api_version));
    if (m->time > 0)
        buf_addf(w->out, ",\"time\":\"%s\"", rfc3339_seconds(m->time, time));
    buf_add_str(w->out, ",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":");
    write_set(w, 0, (uint64_t)1 << i);
    if (*m->subresource) {
        buf_add_str(w->out, ",\"subresource\":");
        json_append_string(w->out, bytes_str(m->subresource));
    }
    buf_add_char(w->out, '}');
}

/* Appliers first, then by time and name. */
static bool comes_before(const struct manager *a, const struct manager *b) {
    if (a->apply != b->apply)
        return a->apply;
    if (a->time != b->time)
        return a->time < b->time;
    int c = strcmp(a->name, b->name);
    return c ? c < 0 : strcmp(a->subresource, b->subresource) < 0;
}

bool ownership_write(const struct ownership *o, const struct field_tree *tree, struct buf *out) {
    size_t order[OWNERSHIP_MAX_MANAGERS];
    if (o->count == 0)
        return false;
    for (size_t i = 0; i < o->count; i++) {
        size_t k = i;
        for (; k > 0 && comes_before(&o->managers[i], &o->managers[order[k - 1]]); k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    uint64_t *below = ownership_below(o, tree);
    const struct writing w = {.o = o, .tree = tree, .below = below, .out = out};
    for (size_t i = 0; i < o->count; i++) {
        buf_add_char(out, i ? ',' : '[');
        write_manager(&w, order[i]);
    }
    buf_add_char(out, ']');
    free(below);
    return true;
}

void manager_describe(const struct manager *m, struct buf *out) {
    buf_addf(out, "\"%s\"", m->name);
    if (*m->subresource)
        buf_addf(out, " with subresource \"%s\"", m->subresource);
    if (!m->apply)
        buf_addf(out, " using %s", m->api_version);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int read_manager(yyjson_val *entry, struct manager *out, struct error *err) {
    const char *name = json_str(entry, "manager"), *operation = json_str(entry, "operation");
    const char *time = json_str(entry, "time");
    int64_t ns = 0;
    bool apply = str_eq(operation, "Apply");
    if (!apply && !str_eq(operation, "Update"))
        return error_set(err, ERR_INVALID, "operation must be Apply or Update");
    if (!str_eq(str_or(json_str(entry, "fieldsType"), ""), "FieldsV1"))
        return error_set(err, ERR_INVALID, "fieldsType must be FieldsV1");
    if (name && strlen(name) > OWNERSHIP_MAX_NAME)
        return error_set(err, ERR_INVALID, "manager is too long");
    if (time && rfc3339_parse(bytes_str(time), &ns) < 0)
        return error_set(err, ERR_INVALID, "time is no time");
    *out = (struct manager){.name = str_or(name, ""),
                            .api_version = str_or(json_str(entry, "apiVersion"), ""),
                            .subresource = str_or(json_str(entry, "subresource"), ""),
                            .apply = apply,
                            .time = ns / 1000000000};
    return 0;
}

static int read_entry(struct ownership *o, yyjson_val *entry, const struct field_tree *tree, struct error *err) {
    struct manager m = {0};
    struct field_tree fields = {0};
    if (read_manager(entry, &m, err) < 0 ||
        field_tree_init_fields(&fields, yyjson_obj_get(entry, "fieldsV1"), tree->nodes[0].topology, err) < 0)
        return -1;
    uint32_t *to = xcalloc(fields.count, sizeof(*to));
    int known = ownership_find(o, &m);
    uint64_t owned = 0, bit = (uint64_t)1 << (known < 0 ? (int)o->count : known);
    field_tree_match(&fields, tree, to);
    for (uint32_t n = 1; n < fields.count; n++)
        if (fields.nodes[n].leaf && to[n] != FIELD_NONE && field_node_can_be_owned(&tree->nodes[to[n]]))
            o->owners[to[n]] |= owned = bit;
    free(to);
    field_tree_free(&fields);
    if (owned && known < 0)
        o->managers[o->count++] = (struct manager){.name = xstrdup(m.name),
                                                   .api_version = xstrdup(m.api_version),
                                                   .subresource = xstrdup(m.subresource),
                                                   .apply = m.apply,
                                                   .time = m.time};
    return 0;
}

int ownership_read(struct ownership *o, yyjson_val *managed_fields, const struct field_tree *tree, struct error *err) {
    *o = (struct ownership){.owners = xcalloc(tree->count, sizeof(*o->owners))};
    size_t i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(managed_fields);
    for (yyjson_val *entry; (entry = yyjson_arr_iter_next(&it)); i++) {
        bool full = o->count == OWNERSHIP_MAX_MANAGERS;
        if (!full && read_entry(o, entry, tree, err) == 0)
            continue;
        ownership_free(o);
        if (full)
            return error_set(err, ERR_INVALID, "metadata.managedFields has more than %d entries",
                             OWNERSHIP_MAX_MANAGERS);
        return error_wrap(err, "metadata.managedFields[%zu]", i);
    }
    return 0;
}
