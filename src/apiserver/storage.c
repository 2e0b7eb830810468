#define LOG_COMPONENT "apiserver"
#include "apiserver/storage.h"

#include "apiserver/db.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <uthash.h>

#define KEY_MAX 640 /* resource number, namespace and name, each within 253 */
#define MAX_LISTENERS 8

/* A write under way. */
struct pending {
    struct db_write w;
    struct pending *prev, *next; /* all of them, for closing */
    struct resource *resource;
    storage_done *done;
    void *arg;
    bool is_latest; /* in the table of the newest states */
    UT_hash_handle hh;
    char key[];
};

struct kept_change {
    struct change c;
    int64_t at_ms;
};

struct storage {
    struct storage_options o;
    struct db *db;
    struct resource *resources;
    int64_t next_resource_id;
    uint64_t revision;      /* committed */
    uint64_t last_assigned; /* given to a write */
    uint64_t compacted;
    uint64_t epoch;
    struct pending *latest; /* uthash: key to the newest uncommitted write */
    struct pending *all;
    /* history: a ring of kept changes */
    struct kept_change *ring;
    size_t ring_cap, ring_start, ring_count, ring_bytes;
    struct {
        void (*change)(void *arg, const struct change *c);
        void (*commit)(void *arg);
        void *arg;
    } listeners[MAX_LISTENERS];
    size_t n_listeners;
    struct error trouble;
    struct loading *loading; /* during storage_open */
};

/* Writes the key into out (KEY_MAX); -1 if it is longer than any stored object's can be. */
static int make_key(char *out, const struct resource *r, const char *ns, const char *name) {
    int n = snprintf(out, KEY_MAX, "%" PRId64 "/%s/%s", r->id, ns, name);
    return n < 0 || n >= KEY_MAX ? -1 : n;
}

/* ---- resources ---- */

static struct resource *add_resource(struct storage *s, int64_t id, const char *group, const char *plural) {
    struct resource *r = NEW(struct resource);
    r->id = id;
    r->group = xstrdup(group);
    r->plural = xstrdup(plural);
    r->next = s->resources;
    s->resources = r;
    if (id >= s->next_resource_id)
        s->next_resource_id = id + 1;
    return r;
}

struct resource *storage_resource(struct storage *s, const char *group, const char *plural) {
    for (struct resource *r = s->resources; r; r = r->next)
        if (strcmp(r->plural, plural) == 0 && strcmp(r->group, group) == 0)
            return r;
    return add_resource(s, s->next_resource_id, group, plural);
}

void storage_each_resource(struct storage *s, void (*fn)(void *arg, struct resource *r), void *arg) {
    for (struct resource *r = s->resources; r; r = r->next)
        fn(arg, r);
}

static struct resource *resource_by_id(struct storage *s, int64_t id) {
    for (struct resource *r = s->resources; r; r = r->next)
        if (r->id == id)
            return r;
    return NULL;
}

/* ---- history ---- */

static struct kept_change *ring_at(const struct storage *s, size_t i) {
    return &s->ring[(s->ring_start + i) % s->ring_cap];
}

static void ring_push(struct storage *s, const struct change *c, int64_t at_ms) {
    if (s->ring_count == s->ring_cap) {
        size_t cap = s->ring_cap ? s->ring_cap * 2 : 256;
        struct kept_change *bigger = xmalloc(cap * sizeof(*bigger));
        for (size_t i = 0; i < s->ring_count; i++)
            bigger[i] = *ring_at(s, i);
        free(s->ring);
        s->ring = bigger;
        s->ring_cap = cap;
        s->ring_start = 0;
    }
    *ring_at(s, s->ring_count++) = (struct kept_change){*c, at_ms};
    record_ref(c->old);
    record_ref(c->new_);
    if (c->old)
        s->ring_bytes += record_stored(c->old).len;
    c->resource->last_rev = c->rev;
}

static void ring_drop(struct storage *s) {
    struct kept_change *k = ring_at(s, 0);
    if (k->c.old)
        s->ring_bytes -= record_stored(k->c.old).len;
    s->compacted = k->c.rev;
    record_unref(k->c.old);
    record_unref(k->c.new_);
    s->ring_start = (s->ring_start + 1) % s->ring_cap;
    s->ring_count--;
}

void storage_compact(struct storage *s) {
    uint64_t before = s->compacted;
    int64_t oldest = clock_mono_ms() - s->o.max_age_ms;
    while (s->ring_count > 0) {
        bool too_much = s->ring_count > s->o.max_changes || s->ring_bytes > s->o.max_bytes;
        bool too_old = s->ring_count > s->o.min_changes && ring_at(s, 0)->at_ms < oldest;
        /* The newest change always stays: the database remembers the revision by it. */
        if ((!too_much && !too_old) || s->ring_count == 1)
            break;
        ring_drop(s);
    }
    if (s->compacted != before)
        db_compact(s->db, s->compacted);
}

void storage_history(const struct storage *s, uint64_t rev, bool (*fn)(void *arg, const struct change *c), void *arg) {
    size_t lo = 0, hi = s->ring_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (ring_at(s, mid)->c.rev <= rev)
            lo = mid + 1;
        else
            hi = mid;
    }
    while (lo < s->ring_count && fn(arg, &ring_at(s, lo)->c))
        lo++;
}

/* ---- loading ---- */

/* While the log is read from its newest row backwards: what the object was before the change read last, that is, after
 * the one to be read next. */
struct loaded {
    struct record *state;
    UT_hash_handle hh;
    char key[];
};
struct loading {
    struct loaded *states;
    struct kept_change *changes; /* newest first */
    size_t n, cap;
};

static void load_resource(void *arg, int64_t id, const char *group, const char *plural) {
    add_resource(arg, id, group, plural);
}

static struct resource *loaded_resource(struct storage *s, int64_t id, struct error *err) {
    struct resource *r = resource_by_id(s, id);
    if (!r)
        error_set(err, ERR_INVALID, "the database names an unknown resource number %" PRId64, id);
    return r;
}

static int load_object(void *arg, int64_t resource, const char *ns, const char *name, uint64_t rev, struct bytes text,
                       struct error *err) {
    struct storage *s = arg;
    struct resource *r = loaded_resource(s, resource, err);
    if (!r)
        return -1;
    struct record *rec = record_new(ns, name, text, rev, err);
    if (!rec)
        return -1;
    recordmap_put(&r->objects, rec);
    record_unref(rec);
    if (rev > s->revision)
        s->revision = rev;
    return 0;
}

static struct loaded *loaded_state(struct storage *s, const struct resource *r, const char *ns, const char *name) {
    char key[KEY_MAX];
    int n = make_key(key, r, ns, name);
    if (n < 0)
        return NULL;
    struct loaded *l;
    HASH_FIND(hh, s->loading->states, key, (unsigned)n, l);
    if (l)
        return l;
    l = xcalloc(1, sizeof(*l) + (size_t)n + 1);
    memcpy(l->key, key, (size_t)n + 1);
    l->state = record_ref(recordmap_get(&r->objects, ns, name));
    HASH_ADD_KEYPTR(hh, s->loading->states, l->key, (unsigned)n, l);
    return l;
}

static int load_change(void *arg, int64_t resource, const char *ns, const char *name, uint64_t rev, struct bytes old,
                       uint64_t old_rev, struct error *err) {
    struct storage *s = arg;
    struct loading *ld = s->loading;
    struct resource *r = loaded_resource(s, resource, err);
    if (!r)
        return -1;
    struct loaded *l = loaded_state(s, r, ns, name);
    if (!l)
        return error_set(err, ERR_INVALID, "the database holds a name that is too long");
    struct record *before = NULL;
    if (old.len > 0 && !(before = record_new(ns, name, old, old_rev, err)))
        return -1;
    if (ld->n == ld->cap) {
        ld->cap = ld->cap ? ld->cap * 2 : 256;
        ld->changes = xreallocarray(ld->changes, ld->cap, sizeof(*ld->changes));
    }
    ld->changes[ld->n++] = (struct kept_change){.c = {rev, r, record_ref(before), l->state}}; /* takes over l->state */
    l->state = before;
    if (rev > s->revision)
        s->revision = rev;
    return 0;
}

/* Puts the loaded changes in the ring, oldest first, and frees what loading needed. */
static void finish_loading(struct storage *s) {
    struct loading *ld = s->loading;
    int64_t now = clock_mono_ms();
    for (size_t i = ld->n; i-- > 0;) {
        ring_push(s, &ld->changes[i].c, now);
        record_unref(ld->changes[i].c.old);
        record_unref(ld->changes[i].c.new_);
    }
    struct loaded *l, *tmp;
    HASH_ITER (hh, ld->states, l, tmp) {
        HASH_DEL(ld->states, l);
        record_unref(l->state);
        free(l);
    }
    free(ld->changes);
    s->loading = NULL;
}

/* ---- writes ---- */

static void unlink_pending(struct storage *s, struct pending *p) {
    if (p->is_latest)
        HASH_DEL(s->latest, p);
    if (p->prev)
        p->prev->next = p->next;
    else
        s->all = p->next;
    if (p->next)
        p->next->prev = p->prev;
}

static void free_pending(struct pending *p) {
    record_unref(p->w.old);
    record_unref(p->w.new_);
    free(p);
}

static void take_effect(struct storage *s, struct pending *p) {
    struct resource *r = p->resource;
    struct record *key = p->w.new_ ? p->w.new_ : p->w.old;
    struct change c = {p->w.rev, r, p->w.old, p->w.new_};
    if (p->w.new_)
        recordmap_put(&r->objects, p->w.new_);
    else
        recordmap_remove(&r->objects, key->ns, key->name);
    s->revision = p->w.rev;
    ring_push(s, &c, clock_mono_ms());
    for (size_t i = 0; i < s->n_listeners; i++)
        if (s->listeners[i].change)
            s->listeners[i].change(s->listeners[i].arg, &c);
}

/* A commit failed: whatever was decided on top of it is void. */
static void forget_latest(struct storage *s) {
    struct pending *p, *tmp;
    HASH_ITER (hh, s->latest, p, tmp) {
        HASH_DEL(s->latest, p);
        p->is_latest = false;
    }
    s->epoch++;
}

static void committed(void *arg, struct db_write *batch, const struct error *failed) {
    struct storage *s = arg;
    if (failed) {
        s->trouble = *failed;
        if (batch->epoch == s->epoch)
            forget_latest(s);
    } else {
        s->trouble.code = ERR_NONE;
    }
    while (batch) {
        struct pending *p = CONTAINER_OF(batch, struct pending, w);
        batch = batch->next;
        unlink_pending(s, p);
        if (!failed && !p->w.barrier)
            take_effect(s, p);
        if (p->done)
            p->done(p->arg, failed);
        free_pending(p);
    }
    for (size_t i = 0; i < s->n_listeners && !failed; i++)
        if (s->listeners[i].commit)
            s->listeners[i].commit(s->listeners[i].arg);
    storage_compact(s);
}

static struct pending *new_pending(struct storage *s, struct resource *r, const struct record *key, storage_done *done,
                                   void *arg) {
    char text[KEY_MAX] = "";
    int n = key ? make_key(text, r, key->ns, key->name) : 0;
    if (n < 0)
        panic("apiserver: an object with a name of more than %d bytes reached the storage", KEY_MAX);
    struct pending *p = xcalloc(1, sizeof(*p) + (size_t)n + 1);
    memcpy(p->key, text, (size_t)n + 1);
    p->done = done;
    p->arg = arg;
    p->w.epoch = s->epoch;
    p->next = s->all;
    if (s->all)
        s->all->prev = p;
    s->all = p;
    if (!key) {
        p->w.barrier = true;
        return p;
    }
    p->resource = r;
    p->w.resource = r->id;
    p->w.group = r->group;
    p->w.plural = r->plural;
    p->w.new_resource = r->last_rev == 0 && r->objects.count == 0;
    struct pending *older;
    HASH_FIND(hh, s->latest, p->key, (unsigned)n, older);
    if (older) {
        HASH_DEL(s->latest, older);
        older->is_latest = false;
    }
    p->is_latest = true;
    HASH_ADD_KEYPTR(hh, s->latest, p->key, (unsigned)n, p);
    return p;
}

void storage_put(struct storage *s, struct resource *r, struct record *rec, storage_done *done, void *arg) {
    if (rec->rev != s->last_assigned + 1)
        panic("apiserver: revision %" PRIu64 " is out of turn", rec->rev);
    struct record *old = record_ref(storage_latest(s, r, rec->ns, rec->name));
    struct pending *p = new_pending(s, r, rec, done, arg);
    p->w.rev = ++s->last_assigned;
    p->w.old = old;
    p->w.new_ = record_ref(rec);
    db_submit(s->db, &p->w);
}

uint64_t storage_delete(struct storage *s, struct resource *r, const char *ns, const char *name, storage_done *done,
                        void *arg) {
    struct record *old = record_ref(storage_latest(s, r, ns, name));
    if (!old)
        panic("apiserver: deleting %s %s/%s, which is not there", r->plural, ns, name);
    struct pending *p = new_pending(s, r, old, done, arg);
    p->w.rev = ++s->last_assigned;
    p->w.old = old;
    db_submit(s->db, &p->w);
    return p->w.rev;
}

void storage_barrier(struct storage *s, storage_done *done, void *arg) {
    db_submit(s->db, &new_pending(s, NULL, NULL, done, arg)->w);
}

/* ---- reading ---- */

struct record *storage_get(const struct resource *r, const char *ns, const char *name) {
    return recordmap_get(&r->objects, ns, name);
}

struct record *storage_latest(struct storage *s, const struct resource *r, const char *ns, const char *name) {
    char key[KEY_MAX];
    int n = s->latest ? make_key(key, r, ns, name) : -1;
    if (n > 0) {
        struct pending *p;
        HASH_FIND(hh, s->latest, key, (unsigned)n, p);
        if (p)
            return p->w.new_;
    }
    return recordmap_get(&r->objects, ns, name);
}

uint64_t storage_revision(const struct storage *s) {
    return s->revision;
}

uint64_t storage_compacted(const struct storage *s) {
    return s->compacted;
}

uint64_t storage_next_revision(const struct storage *s) {
    return s->last_assigned + 1;
}

const char *storage_trouble(const struct storage *s) {
    return s->trouble.code ? s->trouble.msg : NULL;
}

static void add_listener(struct storage *s, void (*change)(void *arg, const struct change *c),
                         void (*commit)(void *arg), void *arg) {
    if (s->n_listeners == MAX_LISTENERS)
        panic("apiserver: too many listeners to the storage");
    s->listeners[s->n_listeners].change = change;
    s->listeners[s->n_listeners].commit = commit;
    s->listeners[s->n_listeners++].arg = arg;
}

void storage_on_change(struct storage *s, void (*fn)(void *arg, const struct change *c), void *arg) {
    add_listener(s, fn, NULL, arg);
}

void storage_on_commit(struct storage *s, void (*fn)(void *arg), void *arg) {
    add_listener(s, NULL, fn, arg);
}

/* ---- opening and closing ---- */

static void set_defaults(struct storage_options *o) {
    if (!o->max_age_ms)
        o->max_age_ms = 10 * 60 * 1000;
    if (!o->min_changes)
        o->min_changes = 10000;
    if (!o->max_changes)
        o->max_changes = 60000;
    if (!o->max_bytes)
        o->max_bytes = 16u << 20;
}

int storage_open(struct storage **out, const struct storage_options *o, struct error *err) {
    struct storage *s = NEW(struct storage);
    s->o = *o;
    set_defaults(&s->o);
    s->next_resource_id = 1;
    s->epoch = 1;
    struct loading loading = {0};
    s->loading = &loading;
    const struct db_loader loader = {s, load_resource, load_object, load_change};
    const struct db_options dbo = {o->path, o->loop, &loader, committed, s};
    int rc = db_open(&s->db, &dbo, err);
    finish_loading(s);
    if (rc < 0) {
        storage_close(s);
        return -1;
    }
    s->compacted = db_compacted(s->db);
    if (s->revision < s->compacted)
        s->revision = s->compacted;
    s->last_assigned = s->revision;
    *out = s;
    return 0;
}

void storage_close(struct storage *s) {
    if (!s)
        return;
    db_close(s->db);
    while (s->all) {
        struct pending *p = s->all;
        unlink_pending(s, p);
        free_pending(p);
    }
    while (s->ring_count > 0)
        ring_drop(s);
    free(s->ring);
    while (s->resources) {
        struct resource *r = s->resources;
        s->resources = r->next;
        recordmap_clear(&r->objects);
        free(r->group);
        free(r->plural);
        free(r);
    }
    free(s);
}
