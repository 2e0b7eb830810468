/* What waits to be sent to the cloud. Sans-IO: texts in, texts out.
 *
 * Three kinds of messages go up. Acknowledgements are worth nothing on another connection: the cloud sends again what
 * was not acknowledged. Requests have somebody who waits and asks again. Everything else (events, reports) nobody
 * repeats, so it is kept until the cloud has confirmed that it read it, and sent again on the next connection if it has
 * not: at least once. */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum upstream_kind { UPSTREAM_ACK, UPSTREAM_REQUEST, UPSTREAM_KEPT };

struct upstream;
struct upstream *upstream_new(size_t max_bytes, size_t max_count);
void upstream_free(struct upstream *u);

/* Takes the text (malloc'ed). Over a maximum the oldest kept messages give way; returns how many did. */
unsigned upstream_add(struct upstream *u, enum upstream_kind kind, char *text, size_t len);
/* The next text to send, borrowed; false if there is none. Follow with upstream_sent. */
bool upstream_next(struct upstream *u, struct bytes *text);
void upstream_sent(struct upstream *u);
/* Are there kept messages that were sent and not confirmed? */
bool upstream_unconfirmed(const struct upstream *u);
/* Everything sent up to now is what the next upstream_confirmed is about. */
void upstream_mark(struct upstream *u);
void upstream_confirmed(struct upstream *u);
/* The connection is gone: acknowledgements and requests are dropped, the rest is to be sent again. */
void upstream_disconnected(struct upstream *u);
size_t upstream_count(const struct upstream *u);
