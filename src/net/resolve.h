/* Name resolution off the loop thread. Private to net/. */
#pragma once

#include "base/error.h"
#include "net/loop.h"

#include <netdb.h>
#include <stdint.h>

struct resolve;
/* Looks host up on a thread of its own (getaddrinfo may hang for as long as it likes) and calls done on the loop.
 * addresses is NULL on failure; the callee frees it with freeaddrinfo. NULL with err when too many look-ups hang. */
struct resolve *resolve_start(struct loop *l, const char *host, uint16_t port,
                              void (*done)(void *arg, struct addrinfo *addresses, const struct error *err), void *arg,
                              struct error *err) MUST_CHECK;
void resolve_cancel(struct resolve *r); /* no callback afterwards; invalid after done */
/* An address written as such: at once, without a thread. NULL: it is a name. */
struct addrinfo *resolve_numeric(const char *host, uint16_t port);
