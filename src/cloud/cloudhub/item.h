/* What waits for a node: one message, encoded once, with the facts that the queue needs. Sans-IO. */
#pragma once

#include "wire/message.h"

#include <stdint.h>

struct hub_item {
    const char *id;  /* msg_id: what the acknowledgement names */
    const char *key; /* two items with the same key are versions of one object: its uid, or the resource without one */
    const char *resource;
    uint64_t rv;
    bool needs_ack;
    bool deletion;
    bool answer; /* to a request: worth nothing once the requester's session is gone */
    const char *text;
    size_t len;
    char memory[]; /* what the pointers above point into */
};

/* Does the edge have to acknowledge this message (wire-protocol.md 5.4)? Resource in wire form. The original looks for
 * some words anywhere in the resource; here they are compared as whole segments, so that an object called
 * "membership-db" is delivered as reliably as any other. */
bool hub_needs_ack(const struct message *m);

/* Encodes m. ERR_INVALID for a message that could never be tracked: it needs an acknowledgement, but names no version
 * or object. */
int hub_item_new(const struct message *m, struct hub_item **out, struct error *err) MUST_CHECK;
void hub_item_free(struct hub_item *i); /* NULL is fine */
DEFINE_CLEANUP(struct hub_item, hub_item_free)
