/* What parses as a resource is written back as the same text. */
#include "base/mem.h"
#include "wire/resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes text = bytes_of(data, size), node, rest;
    struct resource r;
    struct error err = ERROR_INIT;
    if (resource_split_node(text, &node, &rest) && node.len + rest.len + 6 != size)
        panic("a node was cut off wrongly");
    if (resource_parse(text, &r, &err) < 0 || (size && memchr(data, 0, size)))
        return 0;
    _cleanup_(free_p) char *ns = bytes_dup(r.ns), *type = bytes_dup(r.type), *name = bytes_dup(r.name);
    _cleanup_(buf_free) struct buf out = BUF_INIT(size + 8);
    if (resource_format(&out, ns, type, name) < 0 || !bytes_eq(buf_bytes(&out), text))
        panic("a resource changed on its way");
    return 0;
}
