/* Events go when nothing has touched them for an hour: otherwise they would be most of the database. */
#include "apiserver/controllers/controllers.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define AT_ONCE 200 /* deleted per second at most, so that expiry does not crowd out clients */

struct expiry {
    int64_t at_ms;
    uint64_t rev; /* a later one has an expiry of its own */
    char *ns, *name;
    struct expiry *next;
};

struct event_ttl {
    struct apiserver *s;
    struct resource *events;
    const struct kind *kind;
    struct expiry *head, **tail; /* in order of time */
};

static void push(struct event_ttl *e, const struct record *rec, int64_t at_ms) {
    struct expiry *x = NEW(struct expiry);
    *x = (struct expiry){at_ms, rec->rev, xstrdup(rec->ns), xstrdup(rec->name), NULL};
    *e->tail = x;
    e->tail = &x->next;
}

static void pop(struct event_ttl *e) {
    struct expiry *x = e->head;
    e->head = x->next;
    if (!e->head)
        e->tail = &e->head;
    free(x->ns);
    free(x->name);
    free(x);
}

static void change(void *self, const struct change *c) {
    struct event_ttl *e = self;
    if (c->resource == e->events && c->new_)
        push(e, c->new_, clock_mono_ms() + e->s->event_ttl_s * INT64_C(1000));
}

static void tick(void *self, int64_t now_ms) {
    struct event_ttl *e = self;
    for (unsigned n = 0; n < AT_ONCE && e->head && e->head->at_ms <= now_ms; n++) {
        struct record *rec = storage_latest(e->s->storage, e->events, e->head->ns, e->head->name);
        if (rec && rec->rev == e->head->rev)
            controller_delete(e->s, e->kind, rec);
        pop(e);
    }
}

/* Seconds since the event last happened, as it says itself. */
static int64_t age_s(const struct record *rec, int64_t wall_s) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *o = yyjson_doc_get_root(doc);
    const char *const stamps[] = {json_str(o, "series", "lastObservedTime"), json_str(o, "lastTimestamp"),
                                  json_str(o, "eventTime"), json_str(o, "metadata", "creationTimestamp")};
    int64_t ns;
    for (size_t i = 0; i < ARRAY_LEN(stamps); i++)
        if (stamps[i] && rfc3339_parse(bytes_str(stamps[i]), &ns) == 0)
            return wall_s - ns / 1000000000;
    return 0;
}

struct loaded_event {
    struct record *rec;
    int64_t at_ms;
};

static int by_time(const void *a, const void *b) {
    const struct loaded_event *x = a, *y = b;
    return x->at_ms < y->at_ms ? -1 : x->at_ms > y->at_ms;
}

/* The events of before a restart, in the order of their end. */
static void load(struct event_ttl *e) {
    size_t n;
    struct record **records = recordmap_snapshot(&e->events->objects, NULL, &n);
    struct loaded_event *sorted = xcalloc(n + 1, sizeof(*sorted));
    int64_t now = clock_mono_ms(), wall = clock_wall_s(), ttl = e->s->event_ttl_s;
    for (size_t i = 0; i < n; i++) {
        int64_t left = ttl - age_s(records[i], wall);
        sorted[i] = (struct loaded_event){records[i], now + (left < 0 ? 0 : left > ttl ? ttl : left) * 1000};
    }
    qsort(sorted, n, sizeof(*sorted), by_time);
    for (size_t i = 0; i < n; i++)
        push(e, sorted[i].rec, sorted[i].at_ms);
    free(sorted);
    recordmap_free_snapshot(records, n);
}

static void *new (struct apiserver *s) {
    struct event_ttl *e = NEW(struct event_ttl);
    e->s = s;
    e->events = controller_resource(s, "", "events");
    e->kind = server_kind(s, "", "v1", "events");
    e->tail = &e->head;
    load(e);
    return e;
}

static void release(void *self) {
    struct event_ttl *e = self;
    while (e->head)
        pop(e);
    free(e);
}

const struct controller_type event_ttl_controller = {
    .name = "event-ttl", .new = new, .change = change, .tick = tick, .free = release};
