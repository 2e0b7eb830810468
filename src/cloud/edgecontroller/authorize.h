/* May this node do that? Sans-IO. Denied unless a rule says yes: a node reads and writes its own Node and Lease, the
 * pods bound to it, and what these pods use. */
#pragma once

#include "kube/location.h"
#include "wire/message.h"

/* What an edge asks for: a message in wire form, taken apart. Strings live as long as the request. */
struct edge_request {
    const char *node; /* proven */
    const char *ns, *type, *name, *operation;
    yyjson_val *content; /* a string that holds JSON is parsed already */
};

enum verdict {
    VERDICT_DENY,
    VERDICT_ALLOW,
    VERDICT_LOOK, /* only if the object, as it is now in the API server, belongs to the node: see belongs_to_node */
};

/* why (may be NULL) is filled for VERDICT_DENY. */
enum verdict authorize(const struct location *l, const struct edge_request *r, struct error *why);
/* The second half of VERDICT_LOOK. */
bool belongs_to_node(const struct location *l, const struct edge_request *r, yyjson_val *object);

/* Modules of the cloud may not be named as the source of a message from an edge. */
bool is_cloud_module(const char *source);
