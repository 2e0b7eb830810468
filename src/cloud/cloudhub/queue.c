#include "cloud/cloudhub/queue.h"

#include <uthash.h>
#include <utlist.h>

struct entry {
    struct hub_item *item;
    struct hub_item *newer; /* waits until item, which is on its way, is acknowledged */
    bool in_flight;
    unsigned sent;
    int64_t due;
    struct entry *prev, *next;
    UT_hash_handle by_key, by_id;
};

struct untracked {
    struct hub_item *item;
    struct untracked *prev, *next;
};

struct node_queue {
    unsigned window;
    size_t n_in_flight, n_untracked;
    struct entry *ready;     /* in line */
    struct entry *in_flight; /* by due time: each is appended when it was sent */
    struct entry *keys, *ids;
    struct untracked *untracked;
    struct hub_item *handed_out; /* the untracked item that node_queue_next gave last */
};

struct node_queue *node_queue_new(unsigned window) {
    struct node_queue *q = NEW(struct node_queue);
    q->window = window;
    return q;
}

static void set_item(struct node_queue *q, struct entry *e, struct hub_item *item) {
    if (e->item) {
        HASH_DELETE(by_id, q->ids, e);
        HASH_DELETE(by_key, q->keys, e);
        hub_item_free(e->item);
    }
    e->item = item;
    e->sent = 0;
    HASH_ADD_KEYPTR(by_key, q->keys, item->key, strlen(item->key), e);
    HASH_ADD_KEYPTR(by_id, q->ids, item->id, strlen(item->id), e);
}

static void unlink_entry(struct node_queue *q, struct entry *e) {
    if (e->in_flight) {
        DL_DELETE(q->in_flight, e);
        q->n_in_flight--;
    } else {
        DL_DELETE(q->ready, e);
    }
    e->in_flight = false;
}

static void remove_entry(struct node_queue *q, struct entry *e) {
    unlink_entry(q, e);
    HASH_DELETE(by_id, q->ids, e);
    HASH_DELETE(by_key, q->keys, e);
    hub_item_free(e->item);
    hub_item_free(e->newer);
    free(e);
}

static void drop_untracked(struct node_queue *q, struct untracked *u) {
    DL_DELETE(q->untracked, u);
    q->n_untracked--;
    hub_item_free(u->item);
    free(u);
}

void node_queue_free(struct node_queue *q) {
    if (!q)
        return;
    while (q->ready)
        remove_entry(q, q->ready);
    while (q->in_flight)
        remove_entry(q, q->in_flight);
    while (q->untracked)
        drop_untracked(q, q->untracked);
    hub_item_free(q->handed_out);
    free(q);
}

/* Does `item` say more than `known` about the same object? */
static bool supersedes(const struct hub_item *item, const struct hub_item *known) {
    if (known->deletion)
        return false;
    return item->deletion || item->rv > known->rv;
}

/* A deletion without uid means whatever has that name. Once the object was made anew it must not be sent (again). */
static void drop_nameless_deletion(struct node_queue *q, const char *resource) {
    struct entry *e;
    HASH_FIND(by_key, q->keys, resource, strlen(resource), e);
    if (e && e->item->deletion)
        remove_entry(q, e);
}

void node_queue_put(struct node_queue *q, struct hub_item *item) {
    if (!item->needs_ack) {
        if (q->n_untracked >= QUEUE_MAX_UNTRACKED)
            drop_untracked(q, q->untracked);
        struct untracked *u = NEW(struct untracked);
        u->item = item;
        DL_APPEND(q->untracked, u);
        q->n_untracked++;
        return;
    }
    if (!item->deletion)
        drop_nameless_deletion(q, item->resource);
    struct entry *e;
    HASH_FIND(by_key, q->keys, item->key, strlen(item->key), e);
    if (!e) {
        e = NEW(struct entry);
        set_item(q, e, item);
        DL_APPEND(q->ready, e);
        return;
    }
    if (!supersedes(item, e->newer ? e->newer : e->item)) {
        hub_item_free(item);
    } else if (e->in_flight) {
        hub_item_free(e->newer);
        e->newer = item;
    } else {
        set_item(q, e, item);
    }
}

static void send_entry(struct node_queue *q, struct entry *e, int64_t now_ms) {
    unlink_entry(q, e);
    e->in_flight = true;
    e->sent++;
    e->due = now_ms + QUEUE_RESEND_MS;
    DL_APPEND(q->in_flight, e);
    q->n_in_flight++;
}

/* Back to the end of the line, in its newest version. */
static void requeue(struct node_queue *q, struct entry *e) {
    unlink_entry(q, e);
    if (e->newer)
        set_item(q, e, TAKE(e->newer));
    e->sent = 0;
    DL_APPEND(q->ready, e);
}

const struct hub_item *node_queue_next(struct node_queue *q, int64_t now_ms, bool *again) {
    *again = false;
    hub_item_free(TAKE(q->handed_out));
    if (q->untracked) {
        q->handed_out = TAKE(q->untracked->item);
        drop_untracked(q, q->untracked);
        return q->handed_out;
    }
    while (q->in_flight && q->in_flight->due <= now_ms) {
        struct entry *e = q->in_flight;
        if (e->sent >= QUEUE_TRANSMISSIONS) {
            requeue(q, e);
            continue;
        }
        send_entry(q, e, now_ms);
        *again = true;
        return e->item;
    }
    if (!q->ready || q->n_in_flight >= q->window)
        return NULL;
    struct entry *e = q->ready;
    send_entry(q, e, now_ms);
    return e->item;
}

bool node_queue_ack(struct node_queue *q, const char *id) {
    struct entry *e;
    HASH_FIND(by_id, q->ids, id, strlen(id), e);
    if (!e)
        return false;
    if (e->newer)
        requeue(q, e);
    else
        remove_entry(q, e);
    return true;
}

int64_t node_queue_due(const struct node_queue *q) {
    return q->in_flight ? q->in_flight->due : INT64_MAX;
}

void node_queue_rewind(struct node_queue *q) {
    while (q->untracked)
        drop_untracked(q, q->untracked);
    /* Backwards, so that the oldest ends up in front. */
    while (q->in_flight) {
        struct entry *e = q->in_flight->prev;
        unlink_entry(q, e);
        if (e->newer)
            set_item(q, e, TAKE(e->newer));
        e->sent = 0;
        DL_PREPEND(q->ready, e);
    }
    struct entry *e, *next;
    DL_FOREACH_SAFE (q->ready, e, next)
        if (e->item->answer)
            remove_entry(q, e);
}

size_t node_queue_length(const struct node_queue *q) {
    return HASH_CNT(by_key, q->keys) + q->n_untracked;
}

size_t node_queue_in_flight(const struct node_queue *q) {
    return q->n_in_flight;
}
