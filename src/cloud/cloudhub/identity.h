/* Who is this connection? The certificate decides; headers and path may only agree with it. Sans-IO. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/tls.h"

#define NODE_ORGANIZATION "system:nodes"
#define NODE_NAME_PREFIX "system:node:"

/* The node that a certificate's subject names: O=system:nodes, CN=system:node:<name>. A view into s. ERR_DENIED for any
 * other subject. */
int identity_node(const struct x509_subject *s, struct bytes *node, struct error *err) MUST_CHECK;
/* May a connection with that certificate speak for node_id on path "/<project>/<node>/events"? ERR_DENIED says why not;
 * ERR_INVALID for a request without a usable node_id. */
int identity_check(const struct x509_subject *s, struct bytes node_id, struct bytes path, struct error *err) MUST_CHECK;
