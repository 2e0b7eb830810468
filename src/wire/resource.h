/* Resource strings of messages (wire-protocol.md section 3). Sans-IO, no allocation. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>

/* "<ns>/<type>[/<name>]": ns "null" stands for cluster scope and is given as an empty ns. Views into the text. */
struct resource {
    struct bytes ns, type, name;
};
/* Wire form: two or three segments, none empty but the name may be missing. */
int resource_parse(struct bytes text, struct resource *out, struct error *err) MUST_CHECK;
/* Cloud-internal form "node/<node>/<rest>": cuts off the node. False if it has not that form. */
bool resource_split_node(struct bytes text, struct bytes *node, struct bytes *rest);
/* Writes "<ns or null>/<type>[/<name>]" to out. */
int resource_format(struct buf *out, const char *ns, const char *type, const char *name);
