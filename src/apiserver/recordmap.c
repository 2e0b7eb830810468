#include "apiserver/recordmap.h"

#include <string.h>

#define CHUNK_MAX 256

struct recordmap_chunk {
    size_t n;
    struct record *items[CHUNK_MAX];
};

/* The chunk that holds, or would hold, the key; 0 in an empty map. */
static size_t find_chunk(const struct recordmap *m, const char *ns, const char *name) {
    size_t lo = 0, hi = m->n_chunks;
    while (lo + 1 < hi) { /* invariant: first key of chunk lo <= key, or lo is 0 */
        size_t mid = (lo + hi) / 2;
        if (record_key_cmp(m->chunks[mid]->items[0], ns, name) <= 0)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* First place whose key is not below; *found if it is that key. */
static size_t find_place(const struct recordmap_chunk *c, const char *ns, const char *name, bool *found) {
    size_t lo = 0, hi = c->n;
    *found = false;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int cmp = record_key_cmp(c->items[mid], ns, name);
        if (cmp == 0) {
            *found = true;
            return mid;
        }
        if (cmp < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void recordmap_clear(struct recordmap *m) {
    for (size_t i = 0; i < m->n_chunks; i++) {
        for (size_t j = 0; j < m->chunks[i]->n; j++)
            record_unref(m->chunks[i]->items[j]);
        free(m->chunks[i]);
    }
    free(m->chunks);
    *m = (struct recordmap){0};
}

struct record *recordmap_get(const struct recordmap *m, const char *ns, const char *name) {
    if (m->n_chunks == 0)
        return NULL;
    bool found;
    const struct recordmap_chunk *c = m->chunks[find_chunk(m, ns, name)];
    size_t at = find_place(c, ns, name, &found);
    return found ? c->items[at] : NULL;
}

static struct recordmap_chunk *insert_chunk(struct recordmap *m, size_t at) {
    if (m->n_chunks == m->cap_chunks) {
        m->cap_chunks = m->cap_chunks ? m->cap_chunks * 2 : 8;
        m->chunks = xreallocarray(m->chunks, m->cap_chunks, sizeof(struct recordmap_chunk *));
    }
    memmove(m->chunks + at + 1, m->chunks + at, (m->n_chunks - at) * sizeof(struct recordmap_chunk *));
    m->n_chunks++;
    return m->chunks[at] = NEW(struct recordmap_chunk);
}

/* Makes room in the full chunk number i for something at place at; gives the chunk and the place in it. */
static struct recordmap_chunk *split(struct recordmap *m, size_t i, size_t *at) {
    struct recordmap_chunk *c = m->chunks[i];
    /* Appending to the last chunk (names that grow, loading in order): start a new one, keep the old one full. */
    size_t keep = (i + 1 == m->n_chunks && *at == c->n) ? c->n : c->n / 2;
    struct recordmap_chunk *right = insert_chunk(m, i + 1);
    right->n = c->n - keep;
    memcpy(right->items, c->items + keep, right->n * sizeof(struct record *));
    c->n = keep;
    if (*at < keep || (*at == keep && keep < CHUNK_MAX))
        return c;
    *at -= keep;
    return right;
}

void recordmap_put(struct recordmap *m, struct record *r) {
    if (m->n_chunks == 0)
        insert_chunk(m, 0);
    bool found;
    size_t i = find_chunk(m, r->ns, r->name);
    struct recordmap_chunk *c = m->chunks[i];
    size_t at = find_place(c, r->ns, r->name, &found);
    m->bytes += record_stored(r).len;
    if (found) {
        m->bytes -= record_stored(c->items[at]).len;
        record_ref(r);
        record_unref(c->items[at]);
        c->items[at] = r;
        return;
    }
    if (c->n == CHUNK_MAX)
        c = split(m, i, &at);
    memmove(c->items + at + 1, c->items + at, (c->n - at) * sizeof(struct record *));
    c->items[at] = record_ref(r);
    c->n++;
    m->count++;
}

void recordmap_remove(struct recordmap *m, const char *ns, const char *name) {
    if (m->n_chunks == 0)
        return;
    bool found;
    size_t i = find_chunk(m, ns, name);
    struct recordmap_chunk *c = m->chunks[i];
    size_t at = find_place(c, ns, name, &found);
    if (!found)
        return;
    m->bytes -= record_stored(c->items[at]).len;
    m->count--;
    record_unref(c->items[at]);
    memmove(c->items + at, c->items + at + 1, (c->n - at - 1) * sizeof(struct record *));
    if (--c->n > 0)
        return;
    free(c);
    memmove(m->chunks + i, m->chunks + i + 1, (m->n_chunks - i - 1) * sizeof(struct recordmap_chunk *));
    m->n_chunks--;
}

void recordmap_each(const struct recordmap *m, const char *ns, void (*fn)(void *arg, struct record *r), void *arg) {
    if (m->n_chunks == 0)
        return;
    bool found;
    size_t i = ns ? find_chunk(m, ns, "") : 0;
    size_t at = ns ? find_place(m->chunks[i], ns, "", &found) : 0;
    for (; i < m->n_chunks; i++, at = 0)
        for (; at < m->chunks[i]->n; at++) {
            struct record *r = m->chunks[i]->items[at];
            if (ns && strcmp(r->ns, ns) != 0)
                return;
            fn(arg, r);
        }
}

struct snapshot {
    struct record **records;
    size_t n, cap;
};

static void take(void *arg, struct record *r) {
    struct snapshot *s = arg;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->records = xreallocarray(s->records, s->cap, sizeof(struct record *));
    }
    s->records[s->n++] = record_ref(r);
}

struct record **recordmap_snapshot(const struct recordmap *m, const char *ns, size_t *n) {
    struct snapshot s = {0};
    recordmap_each(m, ns, take, &s);
    *n = s.n;
    return s.records;
}

void recordmap_free_snapshot(struct record **records, size_t n) {
    for (size_t i = 0; i < n; i++)
        record_unref(records[i]);
    free(records);
}
