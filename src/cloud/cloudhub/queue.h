/* The messages that wait for one node, and those it has not yet acknowledged (wire-protocol.md 5.3, 5.4). Sans-IO: the
 * clock is passed in, and the caller writes.
 *
 * Messages that need an acknowledgement are versions of objects: of an object at most one version is on its way, and at
 * most one newer one waits behind it, so a slow node costs one message per object. Up to `window` objects are on their
 * way at once. An unacknowledged message is sent again, byte for byte, every QUEUE_RESEND_MS; after
 * QUEUE_TRANSMISSIONS it goes to the end of the line, so that it holds up nobody else.
 *
 * The other messages are sent once, in order, before those. */
#pragma once

#include "cloud/cloudhub/item.h"

#define QUEUE_RESEND_MS 5000
#define QUEUE_TRANSMISSIONS 5
/* On their way at once. The original edge buffers 100 received messages and drops the oldest beyond that. */
#define QUEUE_WINDOW 64
#define QUEUE_MAX_UNTRACKED 1024 /* messages without acknowledgement that wait; the oldest goes first */

struct node_queue;
struct node_queue *node_queue_new(unsigned window);
void node_queue_free(struct node_queue *q); /* NULL is fine */

/* Takes the item. A version that is not newer than what waits or is on its way is dropped; a deletion always counts,
 * and nothing of that object comes after it. A deletion without uid counts until something of that name is put. */
void node_queue_put(struct node_queue *q, struct hub_item *item);
/* What to write now: a repetition that is due, or the next in line; NULL if nothing may be sent now. Borrowed until the
 * next call. *again: it was sent before. */
const struct hub_item *node_queue_next(struct node_queue *q, int64_t now_ms, bool *again);
/* The edge has stored message id. False if it is not one of ours (a late copy: harmless). */
bool node_queue_ack(struct node_queue *q, const char *id);
/* When node_queue_next will have something because of time alone; INT64_MAX if nothing is on its way. */
int64_t node_queue_due(const struct node_queue *q);
/* The session is gone: what was on its way waits again, in its old order; answers are dropped. */
void node_queue_rewind(struct node_queue *q);

size_t node_queue_length(const struct node_queue *q);    /* waiting and on their way */
size_t node_queue_in_flight(const struct node_queue *q); /* on their way */
