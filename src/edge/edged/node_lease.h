/* The node's lease in kube-node-lease: says that the node is alive (resource-sync.md 7.5). Loop thread. */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"

struct node_lease;
struct node_lease *node_lease_new(struct loop *l, struct bus *b, const struct edged_config *c);
/* The Node that the lease belongs to; renewing begins with the first call. */
void node_lease_set_owner(struct node_lease *n, const char *node_uid);
/* The connection came back: renews at once. */
void node_lease_renew_now(struct node_lease *n);
void node_lease_free(struct node_lease *n);

/* The lease to send: `current` with a new time, or a new one where that is NULL. Owned text. For tests too. */
char *node_lease_text(const struct edged_config *c, const char *node_uid, yyjson_val *current, const char *now_micro);
