/* The past of a collection: the present objects with the changes since then taken back. */
#include "apiserver/storage.h"

#include <stdlib.h>
#include <string.h>

/* What an object was before a change: old NULL: it was not there. Borrowed from the history. */
struct undo {
    const struct record *key;
    struct record *old;
    uint64_t rev;
};
struct undo_list {
    const struct resource *resource;
    const char *ns;
    struct undo *items;
    size_t n, cap;
};

static bool note_change(void *arg, const struct change *c) {
    struct undo_list *u = arg;
    const struct record *key = c->old ? c->old : c->new_;
    if (c->resource != u->resource || (u->ns && strcmp(u->ns, key->ns) != 0))
        return true;
    if (u->n == u->cap) {
        u->cap = u->cap ? u->cap * 2 : 64;
        u->items = xreallocarray(u->items, u->cap, sizeof(*u->items));
    }
    u->items[u->n++] = (struct undo){key, c->old, c->rev};
    return true;
}

static int by_key_then_rev(const void *a, const void *b) {
    const struct undo *x = a, *y = b;
    int c = record_key_cmp(x->key, y->key->ns, y->key->name);
    return c ? c : x->rev < y->rev ? -1 : x->rev > y->rev;
}

struct record **storage_snapshot(const struct storage *s, const struct resource *r, const char *ns, uint64_t rev,
                                 size_t *n) {
    size_t n_now, i = 0, out = 0;
    struct record **now = recordmap_snapshot(&r->objects, ns, &n_now);
    if (rev >= r->last_rev) {
        *n = n_now;
        return now;
    }
    struct undo_list u = {.resource = r, .ns = ns};
    storage_history(s, rev, note_change, &u);
    if (u.n > 0)
        qsort(u.items, u.n, sizeof(u.items[0]), by_key_then_rev);
    struct record **then = xmalloc((n_now + u.n + 1) * sizeof(struct record *));
    for (size_t k = 0; k < u.n; k++) {
        const struct record *key = u.items[k].key;
        if (k > 0 && record_key_cmp(u.items[k - 1].key, key->ns, key->name) == 0)
            continue; /* the first change after rev counts */
        while (i < n_now && record_key_cmp(now[i], key->ns, key->name) < 0)
            then[out++] = now[i++];
        if (i < n_now && record_key_cmp(now[i], key->ns, key->name) == 0)
            record_unref(now[i++]);
        if (u.items[k].old)
            then[out++] = record_ref(u.items[k].old);
    }
    while (i < n_now)
        then[out++] = now[i++];
    free(now);
    free(u.items);
    *n = out;
    return then;
}
