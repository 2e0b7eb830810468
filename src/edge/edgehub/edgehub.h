/* EdgeHub: the connection to the cloud (wire-protocol.md 1, 4, 6). "websocket" on the bus.
 *
 * Gets and renews the node's certificate, keeps one WebSocket open to CloudHub, notices dead links, reconnects. What
 * components send to "websocket" goes up: requests fail at once with ERR_UNAVAILABLE while there is no connection, and
 * those under way fail the same when it breaks; anything else waits in a bounded queue, and is sent again if the cloud
 * had not confirmed reading it. What comes down goes to the component that its group names. */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"
#include "net/tls.h"

struct edgehub;

/* Reads certificate files. Without a valid certificate and without a token: fails with what to do. */
struct edgehub *edgehub_new(struct loop *l, struct bus *b, struct edge_config *c, struct error *err) MUST_CHECK;
int edgehub_start(struct edgehub *h, struct error *err) MUST_CHECK;
void edgehub_stop(struct edgehub *h); /* says goodbye and closes */
void edgehub_free(struct edgehub *h);
/* fn is told of the context to connect to the cloud with (borrowed): now if there is one, and after each renewal. */
void edgehub_on_tls(struct edgehub *h, void (*fn)(void *arg, struct tls_ctx *tls), void *arg);
