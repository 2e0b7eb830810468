/* Edged: runs the node's pods over CRI, and keeps the Node object and its lease (resource-sync.md 7).
 *
 * One loop thread; blocking work goes to the pool. It listens on the bus as "edged", and asks "metamanager" for
 * whatever is stored or in the cloud (metamanager.h says how). */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"
#include "edge/kubelet.h"
#include "net/pool.h"

struct edged;
struct stats;

/* config and bus outlive it. A runtime that does not answer yet is not an error: it is tried again, and the node says
 * NotReady until then. */
struct edged *edged_new(struct loop *l, struct pool *p, struct bus *b, const struct edge_config *c,
                        struct error *err) MUST_CHECK;
/* Reads the stored pods and begins to run them, connected or not. */
int edged_start(struct edged *e, struct error *err) MUST_CHECK;
/* Why pods cannot be run now (the runtime, its network, the stored pods); NULL: they can. Valid until the next turn of
 * the loop. */
const char *edged_not_ready(const struct edged *e);
/* What the node and its pods use (stats.h); while edged lives. */
struct stats *edged_stats(const struct edged *e);
/* Stops supervising: containers go on running. */
void edged_stop(struct edged *e);
void edged_free(struct edged *e);
/* The kubelet's HTTP API, served until edged_free. */
struct kubelet edged_kubelet(struct edged *e);
