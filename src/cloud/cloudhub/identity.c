#include "cloud/cloudhub/identity.h"

#include "base/str.h"

int identity_node(const struct x509_subject *s, struct bytes *node, struct error *err) {
    if (!str_eq(s->organization, NODE_ORGANIZATION) || !str_starts_with(s->common_name, NODE_NAME_PREFIX))
        return error_set(err, ERR_DENIED, "the certificate's subject (O=%s, CN=%s) is not that of a node",
                         s->organization, s->common_name);
    *node = bytes_str(s->common_name + strlen(NODE_NAME_PREFIX));
    if (!dns_subdomain_valid(*node))
        return error_set(err, ERR_DENIED, "the certificate names an impossible node \"%s\"", node->ptr);
    return 0;
}

int identity_check(const struct x509_subject *s, struct bytes node_id, struct bytes path, struct error *err) {
    struct bytes node;
    if (node_id.len == 0)
        return error_set(err, ERR_INVALID, "header node_id is missing");
    if (identity_node(s, &node, err) < 0)
        return -1;
    if (!bytes_eq(node, node_id))
        return error_set(err, ERR_DENIED, "the certificate is that of node %.*s, header node_id says %.*s",
                         (int)node.len, node.ptr, (int)(node_id.len > 253 ? 253 : node_id.len), node_id.ptr);
    struct bytes parts[5];
    /* "", project, node, "events" */
    if (bytes_split(path, '/', parts, ARRAY_LEN(parts)) == 4 && bytes_eq_str(parts[3], "events") &&
        !bytes_eq(parts[2], node))
        return error_set(err, ERR_DENIED, "the certificate is that of node %.*s, the path names another", (int)node.len,
                         node.ptr);
    return 0;
}
