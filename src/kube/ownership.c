#include "kube/ownership.h"

#include "base/str.h"

static const char ancient[] = "ancient-changes";

/* ---- managers --------------------------------------------------------------------------------------------------- */

static void manager_clear(struct manager *m) {
    free((char *)m->name);
    free((char *)m->api_version);
    free((char *)m->subresource);
    *m = (struct manager){0};
}

static struct manager manager_copy(const struct manager *m) {
    return (struct manager){.name = xstrdup(m->name),
                            .api_version = xstrdup(m->api_version),
                            .subresource = xstrdup(m->subresource),
                            .apply = m->apply,
                            .time = m->time};
}

/* One applier is one manager, whatever version it writes. */
static bool same_manager(const struct manager *a, const struct manager *b) {
    return a->apply == b->apply && str_eq(a->name, b->name) && str_eq(a->subresource, b->subresource) &&
           (a->apply || str_eq(a->api_version, b->api_version));
}

void ownership_free(struct ownership *o) {
    for (size_t i = 0; i < o->count; i++)
        manager_clear(&o->managers[i]);
    free(o->owners);
    *o = (struct ownership){0};
}

int ownership_find(const struct ownership *o, const struct manager *who) {
    for (size_t i = 0; i < o->count; i++)
        if (same_manager(&o->managers[i], who))
            return (int)i;
    return -1;
}

static uint64_t bit_of(size_t manager) {
    return (uint64_t)1 << manager;
}

/* -1 where there is no room. */
static int find_or_add(struct ownership *o, const struct manager *who) {
    int found = ownership_find(o, who);
    if (found >= 0 || o->count == OWNERSHIP_MAX_MANAGERS)
        return found;
    o->managers[o->count] = manager_copy(who);
    return (int)o->count++;
}

static void start_from(struct ownership *o, const struct ownership *before, const struct field_tree *tree) {
    *o = (struct ownership){.count = before->count};
    for (size_t i = 0; i < before->count; i++)
        o->managers[i] = manager_copy(&before->managers[i]);
    o->owners = xcalloc(tree->count, sizeof(*o->owners));
}

/* Manager `from` becomes part of `to`. */
static void merge_manager(struct ownership *o, const struct field_tree *tree, size_t from, size_t to) {
    for (uint32_t n = 0; n < tree->count; n++)
        if (o->owners[n] & bit_of(from))
            o->owners[n] = (o->owners[n] & ~bit_of(from)) | bit_of(to);
    if (o->managers[to].time < o->managers[from].time)
        o->managers[to].time = o->managers[from].time;
}

static void limit_updaters(struct ownership *o, const struct field_tree *tree, int me) {
    size_t updaters = 0;
    int oldest = -1, second = -1, merged = -1;
    for (size_t i = 0; i < o->count; i++) {
        if (o->managers[i].apply)
            continue;
        updaters++;
        if (str_eq(o->managers[i].name, ancient))
            merged = (int)i;
        else if ((int)i != me && (oldest < 0 || o->managers[i].time < o->managers[oldest].time))
            second = oldest, oldest = (int)i;
        else if ((int)i != me && (second < 0 || o->managers[i].time < o->managers[second].time))
            second = (int)i;
    }
    if (updaters <= OWNERSHIP_MAX_UPDATERS || oldest < 0)
        return;
    if (merged < 0) {
        merged = second;
        free((char *)o->managers[merged].name);
        o->managers[merged].name = xstrdup(ancient);
    }
    merge_manager(o, tree, (size_t)oldest, (size_t)merged);
}

/* Those who own nothing are forgotten. */
static void drop_empty(struct ownership *o, const struct field_tree *tree) {
    uint64_t used = 0;
    size_t kept = 0, place[OWNERSHIP_MAX_MANAGERS];
    for (uint32_t n = 0; n < tree->count; n++)
        used |= o->owners[n];
    for (size_t i = 0; i < o->count; i++) {
        place[i] = kept;
        if (!(used & bit_of(i))) {
            manager_clear(&o->managers[i]);
            continue;
        }
        struct manager m = o->managers[i];
        o->managers[i] = (struct manager){0};
        o->managers[kept++] = m;
    }
    for (uint32_t n = 0; kept < o->count && n < tree->count; n++) {
        uint64_t mask = 0;
        for (uint64_t left = o->owners[n]; left; left &= left - 1)
            mask |= bit_of(place[__builtin_ctzll(left)]);
        o->owners[n] = mask;
    }
    o->count = kept;
}

/* ---- what changes ----------------------------------------------------------------------------------------------- */

/* For each node of `tree` the node of `before` at the same path. */
static uint32_t *origins(const struct field_tree *before, const struct field_tree *tree) {
    uint32_t *to = xcalloc(before->count, sizeof(*to)), *from = xcalloc(tree->count, sizeof(*from));
    field_tree_match(before, tree, to);
    for (uint32_t n = 0; n < tree->count; n++)
        from[n] = FIELD_NONE;
    for (uint32_t n = 0; n < before->count; n++)
        if (to[n] != FIELD_NONE)
            from[to[n]] = n;
    free(to);
    return from;
}

/* Is this value another one than before? What merely has other members is not. */
static bool value_changed(const struct field_node *now, const struct field_node *before) {
    if (!now->leaf)
        return yyjson_get_type(now->value) != yyjson_get_type(before->value);
    return !before->leaf || !json_equal(now->value, before->value);
}

static size_t count_owned(const struct ownership *o, const struct field_tree *tree, int manager) {
    size_t n = 0;
    for (uint32_t i = 0; manager >= 0 && i < tree->count; i++)
        n += (o->owners[i] & bit_of((size_t)manager)) != 0;
    return n;
}

/* Takes the time of the write if the manager's set is another one. */
static void settle_time(struct ownership *o, const struct field_tree *tree, const struct ownership *before,
                        const struct field_tree *tree_before, const uint32_t *from, const struct manager *who, int me) {
    int was = ownership_find(before, who);
    bool changed = was < 0 || count_owned(o, tree, me) != count_owned(before, tree_before, was);
    for (uint32_t n = 0; n < tree->count && !changed; n++)
        changed = (o->owners[n] & bit_of((size_t)me)) &&
                  (from[n] == FIELD_NONE || !(before->owners[from[n]] & bit_of((size_t)was)) ||
                   value_changed(&tree->nodes[n], &tree_before->nodes[from[n]]));
    if (changed)
        o->managers[me].time = who->time;
}

void ownership_update(struct ownership *o, const struct field_tree *tree, const struct ownership *before,
                      const struct field_tree *tree_before, const struct manager *who) {
    start_from(o, before, tree);
    int me = find_or_add(o, who);
    uint64_t mine = me < 0 ? 0 : bit_of((size_t)me);
    uint32_t *from = origins(tree_before, tree);
    for (uint32_t n = 1; n < tree->count; n++) {
        const struct field_node *node = &tree->nodes[n];
        if (from[n] == FIELD_NONE || value_changed(node, &tree_before->nodes[from[n]]))
            o->owners[n] = field_node_can_be_owned(node) ? mine : 0;
        else
            o->owners[n] = before->owners[from[n]];
    }
    if (me >= 0)
        settle_time(o, tree, before, tree_before, from, who, me);
    free(from);
    limit_updaters(o, tree, me);
    drop_empty(o, tree);
}

int ownership_apply(struct ownership *o, const struct field_tree *tree, const struct ownership *before,
                    const struct field_tree *tree_before, const struct field_tree *config, const struct manager *who,
                    struct error *err) {
    start_from(o, before, tree);
    int me = find_or_add(o, who);
    if (me < 0) {
        ownership_free(o);
        return error_set(err, ERR_TOO_LARGE, "the object's fields are managed by %d others already",
                         OWNERSHIP_MAX_MANAGERS);
    }
    free((char *)o->managers[me].api_version);
    o->managers[me].api_version = xstrdup(who->api_version);
    uint64_t mine = bit_of((size_t)me);
    uint32_t *from = origins(tree_before, tree), *named = xcalloc(config->count, sizeof(*named));
    for (uint32_t n = 1; n < tree->count; n++)
        if (from[n] != FIELD_NONE && !value_changed(&tree->nodes[n], &tree_before->nodes[from[n]]))
            o->owners[n] = before->owners[from[n]] & ~mine;
    field_tree_match(config, tree, named);
    for (uint32_t n = 1; n < config->count; n++)
        if (named[n] != FIELD_NONE && (config->nodes[n].leaf || config->nodes[n].entry) &&
            field_node_can_be_owned(&tree->nodes[named[n]]))
            o->owners[named[n]] |= mine;
    settle_time(o, tree, before, tree_before, from, who, me);
    free(from);
    free(named);
    drop_empty(o, tree);
    return 0;
}

void ownership_all(struct ownership *o, const struct field_tree *tree, const struct manager *who) {
    *o = (struct ownership){.count = 1, .owners = xcalloc(tree->count, sizeof(*o->owners))};
    o->managers[0] = manager_copy(who);
    for (uint32_t n = 1; n < tree->count; n++)
        o->owners[n] = field_node_can_be_owned(&tree->nodes[n]);
}

bool ownership_same(const struct ownership *a, const struct ownership *b, const struct field_tree *tree) {
    uint64_t place[OWNERSHIP_MAX_MANAGERS];
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        int there = ownership_find(b, &a->managers[i]);
        if (there < 0)
            return false;
        place[i] = bit_of((size_t)there);
    }
    for (uint32_t n = 0; n < tree->count; n++) {
        uint64_t mask = 0;
        for (uint64_t left = a->owners[n]; left; left &= left - 1)
            mask |= place[__builtin_ctzll(left)];
        if (mask != b->owners[n])
            return false;
    }
    return true;
}

uint64_t *ownership_below(const struct ownership *o, const struct field_tree *tree) {
    uint64_t *below = xmemdup(o->owners, tree->count * sizeof(*below));
    for (uint32_t n = tree->count; n-- > 1;) /* children before their parents */
        below[tree->nodes[n].parent] |= below[n];
    return below;
}

/* ---- the stored form -------------------------------------------------------------------------------------------- */

/* 1, number of managers, then for each: flags, time, three strings, and unless it owns everything: the first byte of
 * its bitmap, the number of bytes, the bytes. Numbers are varints. A bit stands for a value of the text. */
#define STORED_VERSION 1
enum { STORED_APPLY = 1, STORED_ALL = 2 };

static void add_number(struct buf *out, uint64_t n) {
    for (; n >= 0x80; n >>= 7)
        buf_add_char(out, (char)(n | 0x80));
    buf_add_char(out, (char)n);
}

static void add_text(struct buf *out, const char *text) {
    size_t n = strlen(text);
    n = n < 255 ? n : 255;
    add_number(out, n);
    buf_add(out, text, n);
}

static void add_manager(struct buf *out, const struct manager *m, unsigned flags) {
    buf_add_char(out, (char)(flags | (m->apply ? STORED_APPLY : 0)));
    add_number(out, m->time > 0 ? (uint64_t)m->time : 0);
    add_text(out, m->name);
    add_text(out, m->api_version);
    add_text(out, m->subresource);
}

void ownership_store_sole(const struct manager *who, struct buf *out) {
    add_number(out, STORED_VERSION);
    add_number(out, 1);
    add_manager(out, who, STORED_ALL);
}

static void add_bitmap(const struct ownership *o, const struct field_tree *tree, size_t manager, struct buf *out) {
    uint32_t last = tree->count;
    uint32_t first = FIELD_NONE;
    for (uint32_t n = 1; n < tree->count; n++)
        if (o->owners[n] & bit_of(manager)) {
            first = first == FIELD_NONE ? field_tree_position(tree, n) / 8 : first;
            last = field_tree_position(tree, n) / 8;
        }
    if (first == FIELD_NONE)
        first = last = 0;
    size_t size = last - first + 1;
    char *bits = xcalloc(size, 1);
    for (uint32_t n = 1; n < tree->count; n++) {
        uint32_t at = field_tree_position(tree, n);
        if (o->owners[n] & bit_of(manager))
            bits[at / 8 - first] |= (char)(1 << at % 8);
    }
    add_number(out, first);
    add_number(out, size);
    buf_add(out, bits, size);
    free(bits);
}

void ownership_store(const struct ownership *o, const struct field_tree *tree, struct buf *out) {
    uint64_t all = ~(uint64_t)0;
    for (uint32_t n = 1; n < tree->count; n++)
        if (field_node_can_be_owned(&tree->nodes[n]))
            all &= o->owners[n];
    if (o->count == 0)
        return;
    add_number(out, STORED_VERSION);
    add_number(out, o->count);
    for (size_t i = 0; i < o->count; i++) {
        bool has_all = tree->count > 1 && (all & bit_of(i));
        add_manager(out, &o->managers[i], has_all ? STORED_ALL : 0);
        if (!has_all)
            add_bitmap(o, tree, i, out);
    }
}

static int take_number(struct bytes *in, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; in->len > 0 && shift < 63; shift += 7) {
        unsigned char c = (unsigned char)*in->ptr;
        *in = bytes_of(in->ptr + 1, in->len - 1);
        *out |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            return 0;
    }
    return -1;
}

static int take_bytes(struct bytes *in, struct bytes *out) {
    uint64_t n;
    if (take_number(in, &n) < 0 || n > in->len)
        return -1;
    *out = bytes_of(in->ptr, (size_t)n);
    *in = bytes_of(in->ptr + n, in->len - (size_t)n);
    return 0;
}

struct stored_manager {
    unsigned flags;
    uint64_t time;
    struct bytes name, api_version, subresource;
};

static int take_manager(struct bytes *in, struct stored_manager *m) {
    if (in->len == 0)
        return -1;
    m->flags = (unsigned char)*in->ptr;
    *in = bytes_of(in->ptr + 1, in->len - 1);
    return take_number(in, &m->time) < 0 || take_bytes(in, &m->name) < 0 || take_bytes(in, &m->api_version) < 0 ||
                   take_bytes(in, &m->subresource) < 0
               ? -1
               : 0;
}

static int take_header(struct bytes *in, uint64_t *count) {
    uint64_t version;
    return take_number(in, &version) < 0 || version != STORED_VERSION || take_number(in, count) < 0 ||
                   *count > OWNERSHIP_MAX_MANAGERS
               ? -1
               : 0;
}

static int load_set(struct ownership *o, const struct field_tree *tree, size_t i, unsigned flags, struct bytes *in) {
    uint64_t first = 0;
    struct bytes bits = BYTES_EMPTY;
    bool all = flags & STORED_ALL;
    if (!all && (take_number(in, &first) < 0 || first > UINT32_MAX || take_bytes(in, &bits) < 0))
        return -1;
    for (uint32_t n = 1; n < tree->count; n++) {
        uint64_t at = field_tree_position(tree, n), byte = at / 8;
        bool set = all ? field_node_can_be_owned(&tree->nodes[n])
                       : byte >= first && byte - first < bits.len && (bits.ptr[byte - first] >> at % 8 & 1);
        if (set)
            o->owners[n] |= bit_of(i);
    }
    return 0;
}

void ownership_load(struct ownership *o, struct bytes stored, const struct field_tree *tree) {
    uint64_t count;
    *o = (struct ownership){.owners = xcalloc(tree->count, sizeof(*o->owners))};
    if (take_header(&stored, &count) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct stored_manager m;
        if (take_manager(&stored, &m) < 0)
            return;
        struct manager loaded = {.name = bytes_dup(m.name),
                                 .api_version = bytes_dup(m.api_version),
                                 .subresource = bytes_dup(m.subresource),
                                 .apply = m.flags & STORED_APPLY,
                                 .time = (int64_t)(m.time & INT64_MAX)};
        if (ownership_find(o, &loaded) >= 0 || load_set(o, tree, i, m.flags, &stored) < 0) {
            manager_clear(&loaded);
            return;
        }
        o->managers[o->count++] = loaded;
    }
}

bool ownership_stored_sole(struct bytes stored, const struct manager *who) {
    uint64_t count;
    struct stored_manager m;
    return take_header(&stored, &count) == 0 && count == 1 && take_manager(&stored, &m) == 0 &&
           (m.flags & STORED_ALL) && !!(m.flags & STORED_APPLY) == who->apply && bytes_eq_str(m.name, who->name) &&
           bytes_eq_str(m.api_version, who->api_version) && bytes_eq_str(m.subresource, who->subresource);
}
