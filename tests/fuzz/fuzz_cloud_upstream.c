/* What an edge sends, up to the decision whether it may: the message, its resource, its content, the rules. Nothing may
 * be allowed for another node. */
#include "cloud/cloudhub/item.h"
#include "cloud/edgecontroller/authorize.h"
#include "wire/message.h"
#include "wire/resource.h"

#include <stdint.h>

static struct location *fleet(void) {
    static const char pod[] = "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"u\"},\"spec\":{"
                              "\"nodeName\":\"a\",\"volumes\":[{\"configMap\":{\"name\":\"c\"}}]}}";
    static struct location *l;
    if (!l) {
        yyjson_doc *d = yyjson_read(pod, sizeof pod - 1, 0);
        l = location_new();
        location_set_pod(l, yyjson_doc_get_root(d));
        yyjson_doc_free(d);
    }
    return l;
}

static void decide(const struct message *m) {
    struct resource res;
    if (resource_parse(bytes_str(m->resource), &res, NULL) < 0)
        return;
    _cleanup_(free_p) char *ns = bytes_dup(res.ns), *type = bytes_dup(res.type), *name = bytes_dup(res.name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *parsed = NULL;
    yyjson_val *content = message_content_object(m, &parsed);
    struct edge_request r = {"a", ns, type, name, m->operation, content ? content : m->content};
    enum verdict own = authorize(fleet(), &r, NULL);
    if (own == VERDICT_ALLOW && !strcmp(type, "node") && strcmp(name, "a") != 0)
        abort();
    (void)belongs_to_node(fleet(), &r, r.content);
    r.node = "b";
    /* Node b has no pods: what it may touch is its Node, its Lease, its mirror pods, its events, its requests. */
    if (authorize(fleet(), &r, NULL) == VERDICT_ALLOW && (!strcmp(type, "secret") || !strcmp(type, "configmap")))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(message_free_p) struct message *m = NULL;
    if (message_decode(bytes_of(data, size), &m, NULL) < 0)
        return 0;
    struct hub_item *item = NULL;
    if (hub_item_new(m, &item, NULL) == 0)
        hub_item_free(item);
    decide(m);
    return 0;
}
