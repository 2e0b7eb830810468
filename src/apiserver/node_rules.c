/* What the agent of a node may do (embedded-api.md 7.3): what concerns that node, its pods, and what these use. What it
 * may write into its own objects is told in admit.c. */
#include "apiserver/auth.h"
#include "apiserver/server.h"
#include "kube/location.h"
#include "kube/object.h"

enum scope {
    ANYTHING,
    OWN_NODE,
    OWN_LEASE,
    OWN_PODS_LIST, /* fieldSelector=spec.nodeName= */
    OWN_POD,
    USED_CONFIGMAP, /* used by a pod of the node; of the kinds of location.h */
    USED_SECRET,
    USED_ACCOUNT,
    USED_CLAIM,
    OWN_REQUEST,
};

static const struct node_rule {
    const char *group, *resource, *subresource;
    const char *verbs; /* ",get,update,..." */
    enum scope scope;
} rules[] = {
    {"", "nodes", "", ",get,list,watch,create,update,patch,", OWN_NODE},
    {"", "nodes", "status", ",get,update,patch,", OWN_NODE},
    {"coordination.k8s.io", "leases", "", ",get,create,update,patch,delete,", OWN_LEASE},
    {"", "pods", "", ",list,watch,", OWN_PODS_LIST},
    {"", "pods", "", ",get,list,watch,delete,", OWN_POD},
    {"", "pods", "", ",create,", ANYTHING}, /* mirror pods only: admit.c */
    {"", "pods", "status", ",get,update,patch,", OWN_POD},
    {"", "pods", "eviction", ",create,", OWN_POD},
    {"", "configmaps", "", ",get,list,watch,", USED_CONFIGMAP},
    {"", "secrets", "", ",get,list,watch,", USED_SECRET},
    {"", "persistentvolumeclaims", "", ",get,", USED_CLAIM},
    {"", "serviceaccounts", "token", ",create,", USED_ACCOUNT},
    {"", "events", "", ",create,update,patch,", ANYTHING},
    {"events.k8s.io", "events", "", ",create,update,patch,", ANYTHING},
    {"", "services", "", ",get,list,watch,", ANYTHING},
    {"", "endpoints", "", ",get,list,watch,", ANYTHING},
    {"discovery.k8s.io", "endpointslices", "", ",get,list,watch,", ANYTHING},
    {"certificates.k8s.io", "certificatesigningrequests", "", ",create,get,", OWN_REQUEST},
    {"authentication.k8s.io", "tokenreviews", "", ",create,", ANYTHING},
    {"authorization.k8s.io", "subjectaccessreviews", "", ",create,", ANYTHING},
    {"authorization.k8s.io", "localsubjectaccessreviews", "", ",create,", ANYTHING},
};

/* Was the certificate asked for by this node? */
static bool own_request(struct apiserver *s, const char *node, const char *name) {
    struct record *rec =
        storage_get(storage_resource(s->storage, "certificates.k8s.io", "certificatesigningrequests"), "", name);
    if (!rec)
        return false;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    const char *user = json_str(yyjson_doc_get_root(doc), "spec", "username");
    return user && str_starts_with(user, NODE_USER_PREFIX) && str_eq(user + strlen(NODE_USER_PREFIX), node);
}

static bool fits(struct apiserver *s, const struct location *pods, const char *node, enum scope scope,
                 const struct access *a) {
    bool create = strcmp(a->verb, "create") == 0;
    switch (scope) {
    case ANYTHING:
        return true;
    case OWN_NODE:
        return (create && !*a->name) || strcmp(a->name, node) == 0;
    case OWN_LEASE:
        return strcmp(a->ns, "kube-node-lease") == 0 && ((create && !*a->name) || strcmp(a->name, node) == 0);
    case OWN_PODS_LIST:
        return auth_selects(a->field_selector, "spec.nodeName", node);
    case OWN_POD:
        return *a->name && str_eq(location_pod_node(pods, a->ns, a->name, NULL), node);
    case USED_CONFIGMAP:
        return *a->name && location_uses(pods, node, LOCATION_CONFIGMAP, a->ns, a->name);
    case USED_SECRET:
        return *a->name && location_uses(pods, node, LOCATION_SECRET, a->ns, a->name);
    case USED_ACCOUNT:
        return *a->name && location_uses(pods, node, LOCATION_SERVICEACCOUNT, a->ns, a->name);
    case USED_CLAIM:
        return *a->name && location_uses(pods, node, LOCATION_CLAIM, a->ns, a->name);
    case OWN_REQUEST:
        return create || own_request(s, node, a->name);
    }
    return false;
}

bool node_allowed(struct apiserver *s, const struct location *pods, const char *node, const struct access *a) {
    _cleanup_(free_p) char *verb = xasprintf(",%s,", a->verb);
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const struct node_rule *r = &rules[i];
        if (strcmp(r->group, a->group) == 0 && strcmp(r->resource, a->resource) == 0 &&
            strcmp(r->subresource, a->subresource) == 0 && strstr(r->verbs, verb) && fits(s, pods, node, r->scope, a))
            return true;
    }
    return false;
}
