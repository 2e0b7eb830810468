/* EdgeStream: the edge end of the tunnel by which the cloud reaches the kubelet's API of this node (streams.md 1).
 *
 * Keeps one WebSocket open to CloudStream, with EdgeHub's certificate; each stream in it is a request, handed to the
 * kubelet API in this process. What is under way ends when the WebSocket does. Loop thread. */
#pragma once

#include "edge/edge_config.h"
#include "edge/kubelet.h"
#include "net/loop.h"
#include "net/tls.h"

struct edgestream;

/* config outlives it; kubelet is copied. Connects when it is given a TLS context. */
struct edgestream *edgestream_new(struct loop *l, const struct edge_config *c, const struct kubelet *k);
/* tls is borrowed (a reference is taken). arg: the edgestream, as edgehub_on_tls calls it. */
void edgestream_set_tls(void *arg, struct tls_ctx *tls);
void edgestream_stop(struct edgestream *e);
void edgestream_free(struct edgestream *e);
