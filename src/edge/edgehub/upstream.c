#include "edge/edgehub/upstream.h"

#include "base/mem.h"

#include <utlist.h>

struct item {
    enum upstream_kind kind;
    char *text;
    size_t len;
    uint64_t number; /* in the order of adding */
    struct item *prev, *next;
};

/* `sent` comes before `unsent` in order of number. */
struct upstream {
    struct item *sent;   /* kept ones, waiting for confirmation */
    struct item *unsent; /* of all kinds */
    size_t bytes, count, max_bytes, max_count;
    uint64_t last_number, last_sent, marked;
};

struct upstream *upstream_new(size_t max_bytes, size_t max_count) {
    struct upstream *u = NEW(struct upstream);
    u->max_bytes = max_bytes;
    u->max_count = max_count;
    return u;
}

static void drop(struct upstream *u, struct item **list, struct item *i) {
    DL_DELETE(*list, i);
    u->bytes -= i->len;
    u->count--;
    free(i->text);
    free(i);
}

void upstream_free(struct upstream *u) {
    if (!u)
        return;
    while (u->sent)
        drop(u, &u->sent, u->sent);
    while (u->unsent)
        drop(u, &u->unsent, u->unsent);
    free(u);
}

static bool drop_oldest_kept(struct upstream *u, const struct item *but) {
    if (u->sent) {
        drop(u, &u->sent, u->sent);
        return true;
    }
    struct item *i;
    DL_FOREACH (u->unsent, i) {
        if (i->kind == UPSTREAM_KEPT && i != but) {
            drop(u, &u->unsent, i);
            return true;
        }
    }
    return false;
}

unsigned upstream_add(struct upstream *u, enum upstream_kind kind, char *text, size_t len) {
    struct item *i = NEW(struct item);
    unsigned dropped = 0;
    i->kind = kind;
    i->text = text;
    i->len = len;
    i->number = ++u->last_number;
    DL_APPEND(u->unsent, i);
    u->bytes += len;
    u->count++;
    while ((u->bytes > u->max_bytes || u->count > u->max_count) && drop_oldest_kept(u, i))
        dropped++;
    return dropped;
}

bool upstream_next(struct upstream *u, struct bytes *text) {
    if (!u->unsent)
        return false;
    *text = bytes_of(u->unsent->text, u->unsent->len);
    return true;
}

void upstream_sent(struct upstream *u) {
    struct item *i = u->unsent;
    u->last_sent = i->number;
    if (i->kind != UPSTREAM_KEPT) {
        drop(u, &u->unsent, i);
        return;
    }
    DL_DELETE(u->unsent, i);
    DL_APPEND(u->sent, i);
}

bool upstream_unconfirmed(const struct upstream *u) {
    return u->sent != NULL;
}

void upstream_mark(struct upstream *u) {
    u->marked = u->last_sent;
}

void upstream_confirmed(struct upstream *u) {
    while (u->sent && u->sent->number <= u->marked)
        drop(u, &u->sent, u->sent);
}

void upstream_disconnected(struct upstream *u) {
    struct item *i, *next;
    DL_FOREACH_SAFE (u->unsent, i, next)
        if (i->kind != UPSTREAM_KEPT)
            drop(u, &u->unsent, i);
    DL_CONCAT(u->sent, u->unsent);
    u->unsent = u->sent;
    u->sent = NULL;
    u->marked = 0;
}

size_t upstream_count(const struct upstream *u) {
    return u->count;
}
