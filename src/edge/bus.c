#define LOG_COMPONENT "bus"

#include "edge/bus.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <uthash.h>
#include <utlist.h>

struct component {
    char *name;
    void (*handle)(void *arg, struct message *m);
    void *arg;
    UT_hash_handle hh;
};

struct parcel {
    char *to;
    struct message *message;
    struct parcel *next, *prev;
};

struct bus_request {
    struct bus *bus;
    char *id, *to;
    struct timer *timer; /* the deadline; brought forward to now once failed is set */
    struct error failed;
    void (*done)(void *arg, struct message *answer, const struct error *err);
    void *arg;
    UT_hash_handle hh;
};

struct subscriber {
    void (*fn)(void *arg, bool connected);
    void *arg;
    struct subscriber *next;
};

struct bus {
    struct loop *loop;
    struct component *components;
    struct parcel *parcels;
    struct timer *delivery;
    struct bus_request *requests;
    struct subscriber *subscribers;
    bool connected;
    unsigned pauses;
    struct subscriber downstream;
    struct strlist unknown; /* names already complained about */
};

static void deliver(void *arg);

struct bus *bus_new(struct loop *l) {
    struct bus *b = NEW(struct bus);
    b->loop = l;
    b->delivery = timer_new(l, deliver, b);
    return b;
}

static void parcel_free(struct parcel *p) {
    message_free(p->message);
    free(p->to);
    free(p);
}

static void request_free(struct bus_request *r) {
    HASH_DEL(r->bus->requests, r);
    timer_free(r->timer);
    free(r->id);
    free(r->to);
    free(r);
}

static void component_free(struct bus *b, struct component *c) {
    HASH_DEL(b->components, c);
    free(c->name);
    free(c);
}

void bus_free(struct bus *b) {
    if (!b)
        return;
    struct parcel *p, *p2;
    DL_FOREACH_SAFE (b->parcels, p, p2)
        parcel_free(p);
    struct bus_request *r, *r2;
    HASH_ITER (hh, b->requests, r, r2)
        request_free(r);
    struct component *c, *c2;
    HASH_ITER (hh, b->components, c, c2)
        component_free(b, c);
    struct subscriber *s, *s2;
    LL_FOREACH_SAFE (b->subscribers, s, s2)
        free(s);
    strlist_free(&b->unknown);
    timer_free(b->delivery);
    free(b);
}

static struct component *component_find(struct bus *b, const char *name) {
    struct component *c;
    HASH_FIND_STR(b->components, name, c);
    return c;
}

void bus_register(struct bus *b, const char *name, void (*handle)(void *arg, struct message *m), void *arg) {
    if (component_find(b, name))
        panic("bus: two components named %s", name);
    struct component *c = NEW(struct component);
    c->name = xstrdup(name);
    c->handle = handle;
    c->arg = arg;
    HASH_ADD_KEYPTR(hh, b->components, c->name, strlen(c->name), c);
}

void bus_unregister(struct bus *b, const char *name) {
    struct component *c = component_find(b, name);
    if (c)
        component_free(b, c);
}

void bus_send(struct bus *b, const char *to, struct message *m) {
    struct parcel *p = NEW(struct parcel);
    p->to = xstrdup(to);
    p->message = m;
    if (!b->parcels)
        timer_set(b->delivery, 0);
    DL_APPEND(b->parcels, p);
}

static void undeliverable(struct bus *b, const struct parcel *p) {
    struct error err = ERROR_INIT;
    (void)error_set(&err, ERR_UNAVAILABLE, "%s is not running here", p->to);
    if (bus_reply_error(b, p->message->id, &err) || strlist_has(&b->unknown, p->to))
        return;
    strlist_add(&b->unknown, p->to);
    log_info("messages for a component that is not running are dropped component=%s resource=%s", p->to,
             p->message->resource);
}

/* Delivers what was queued when it began: a component that keeps sending does not starve the loop. */
static void deliver(void *arg) {
    struct bus *b = arg;
    struct parcel *last = b->parcels ? b->parcels->prev : NULL;
    bool more = last != NULL;
    while (more) {
        struct parcel *p = b->parcels;
        more = p != last;
        DL_DELETE(b->parcels, p);
        struct component *c = component_find(b, p->to);
        if (c)
            c->handle(c->arg, TAKE(p->message));
        else
            undeliverable(b, p);
        parcel_free(p);
    }
    if (b->parcels)
        timer_set(b->delivery, 0);
}

static void request_expired(void *arg) {
    struct bus_request *r = arg;
    struct error err = r->failed;
    if (err.code == ERR_NONE)
        (void)error_set(&err, ERR_TIMEOUT, "no answer from %s in time", r->to);
    void (*done)(void *, struct message *, const struct error *) = r->done;
    void *done_arg = r->arg;
    request_free(r);
    done(done_arg, NULL, &err);
}

static struct bus_request *request_find(const struct bus *b, const char *id) {
    struct bus_request *r;
    HASH_FIND_STR(b->requests, id, r);
    return r;
}

struct bus_request *bus_request(struct bus *b, const char *to, struct message *m, int timeout_ms,
                                void (*done)(void *arg, struct message *answer, const struct error *err), void *arg) {
    if (request_find(b, m->id))
        panic("bus: two requests with the id %s", m->id);
    struct bus_request *r = NEW(struct bus_request);
    r->bus = b;
    r->id = xstrdup(m->id);
    r->to = xstrdup(to);
    r->done = done;
    r->arg = arg;
    r->timer = timer_new(b->loop, request_expired, r);
    timer_set(r->timer, timeout_ms);
    HASH_ADD_KEYPTR(hh, b->requests, r->id, strlen(r->id), r);
    bus_send(b, to, m);
    return r;
}

void bus_request_cancel(struct bus_request *r) {
    if (r)
        request_free(r);
}

bool bus_is_request(const struct bus *b, const char *id) {
    return request_find(b, id) != NULL;
}

bool bus_reply(struct bus *b, struct message *answer) {
    struct bus_request *r = request_find(b, answer->parent_id);
    if (!r || r->failed.code != ERR_NONE)
        return false;
    void (*done)(void *, struct message *, const struct error *) = r->done;
    void *arg = r->arg;
    request_free(r);
    done(arg, answer, NULL);
    return true;
}

static void request_fail(struct bus_request *r, const struct error *err) {
    if (r->failed.code != ERR_NONE)
        return;
    r->failed = *err;
    timer_set(r->timer, 0);
}

bool bus_reply_error(struct bus *b, const char *id, const struct error *err) {
    struct bus_request *r = request_find(b, id);
    if (!r)
        return false;
    request_fail(r, err);
    return true;
}

void bus_fail_requests(struct bus *b, const char *to, const struct error *err) {
    struct bus_request *r, *next;
    HASH_ITER (hh, b->requests, r, next)
        if (strcmp(r->to, to) == 0)
            request_fail(r, err);
}

void bus_publish_connected(struct bus *b, bool connected) {
    if (b->connected == connected)
        return;
    b->connected = connected;
    struct subscriber *s;
    LL_FOREACH (b->subscribers, s)
        s->fn(s->arg, connected);
}

bool bus_connected(const struct bus *b) {
    return b->connected;
}

void bus_on_connected(struct bus *b, void (*fn)(void *arg, bool connected), void *arg) {
    struct subscriber *s = NEW(struct subscriber);
    s->fn = fn;
    s->arg = arg;
    LL_APPEND(b->subscribers, s);
    fn(arg, b->connected);
}

void bus_off_connected(struct bus *b, void (*fn)(void *arg, bool connected), void *arg) {
    struct subscriber *s, *next;
    LL_FOREACH_SAFE (b->subscribers, s, next) {
        if (s->fn == fn && s->arg == arg) {
            LL_DELETE(b->subscribers, s);
            free(s);
        }
    }
}

void bus_pause_downstream(struct bus *b) {
    if (b->pauses++ == 0 && b->downstream.fn)
        b->downstream.fn(b->downstream.arg, true);
}

void bus_resume_downstream(struct bus *b) {
    if (b->pauses == 0)
        panic("bus: resumed without a pause");
    if (--b->pauses == 0 && b->downstream.fn)
        b->downstream.fn(b->downstream.arg, false);
}

void bus_on_downstream(struct bus *b, void (*fn)(void *arg, bool paused), void *arg) {
    b->downstream.fn = fn;
    b->downstream.arg = arg;
    if (fn)
        fn(arg, b->pauses > 0);
}
