#include "cloud/edgecontroller/authorize.h"

#include "base/str.h"
#include "cloud/cloudhub/identity.h"
#include "kube/object.h"
#include "kube/references.h"

#define NODE_LEASES "kube-node-lease"
#define PATCH_MAX (64u << 10) /* of an event */

bool is_cloud_module(const char *source) {
    static const char *const modules[] = {"cloudhub", "cloudStream", "devicecontroller", "edgecontroller",
                                          "synccontroller"};
    for (size_t i = 0; i < ARRAY_LEN(modules); i++)
        if (str_eq(source, modules[i]))
            return true;
    return false;
}

static enum verdict allow_if(bool yes) {
    return yes ? VERDICT_ALLOW : VERDICT_DENY;
}

/* A name in the body, where there is one, must be that of the resource. */
static bool body_agrees(const struct edge_request *r) {
    const char *name = object_name(r->content), *ns = object_namespace(r->content);
    return (str_empty(name) || str_eq(name, r->name)) && (str_empty(ns) || str_eq(ns, r->ns));
}

static enum verdict own_node(const struct location *l, const struct edge_request *r) {
    (void)l;
    return allow_if(str_eq(r->name, r->node));
}

static enum verdict own_lease(const struct location *l, const struct edge_request *r) {
    (void)l;
    return allow_if(str_eq(r->ns, NODE_LEASES) && str_eq(r->name, r->node) && body_agrees(r));
}

static enum verdict own_pod(const struct location *l, const struct edge_request *r) {
    if (str_empty(r->name)) /* a list of statuses: each is checked */
        return VERDICT_ALLOW;
    const char *node = location_pod_node(l, r->ns, r->name, NULL);
    return node ? allow_if(str_eq(node, r->node)) : VERDICT_LOOK;
}

static void any_reference(void *arg, enum location_kind kind, const char *name) {
    bool *found = arg;
    if (kind != LOCATION_SERVICEACCOUNT)
        *found = true;
}

/* A node may create mirrors of its static pods; these may not reach for anything in the cluster. */
static enum verdict mirror_pod(const struct location *l, const struct edge_request *r) {
    (void)l;
    bool refers = false;
    pod_references(r->content, any_reference, &refers);
    refers |= !str_empty(json_str(r->content, "spec", "serviceAccount")); /* the older name of the same */
    return allow_if(str_eq(json_str(r->content, "spec", "nodeName"), r->node) && body_agrees(r) && !refers &&
                    str_empty(json_str(r->content, "spec", "serviceAccountName")) &&
                    object_annotation(r->content, MIRROR_ANNOTATION));
}

static enum verdict used_configmap(const struct location *l, const struct edge_request *r) {
    return allow_if(location_uses(l, r->node, LOCATION_CONFIGMAP, r->ns, r->name));
}

static enum verdict used_secret(const struct location *l, const struct edge_request *r) {
    return allow_if(location_uses(l, r->node, LOCATION_SECRET, r->ns, r->name));
}

static enum verdict used_claim(const struct location *l, const struct edge_request *r) {
    return allow_if(location_uses(l, r->node, LOCATION_CLAIM, r->ns, r->name));
}

/* A token for a pod of the node, bound to that pod. */
static enum verdict pod_token(const struct location *l, const struct edge_request *r) {
    yyjson_val *bound = json_get(r->content, "spec", "boundObjectRef");
    const char *uid = NULL, *pod = json_str(bound, "name");
    if (!str_eq(json_str(bound, "kind"), "Pod") || str_empty(pod) ||
        !str_eq(location_pod_node(l, r->ns, pod, &uid), r->node))
        return VERDICT_DENY;
    const char *bound_uid = json_str(bound, "uid");
    return allow_if(str_eq(bound_uid, uid) && location_uses(l, r->node, LOCATION_SERVICEACCOUNT, r->ns, r->name));
}

static enum verdict look(const struct location *l, const struct edge_request *r) {
    (void)l;
    (void)r;
    return VERDICT_LOOK;
}

/* The source of an event, in either generation of the type. */
static bool event_of_node(yyjson_val *event, const char *node) {
    const char *host = json_str(event, "source", "host"), *instance = json_str(event, "reportingInstance");
    return str_eq(host, node) || (str_empty(host) && str_eq(instance, node));
}

static bool about_own_object(const struct location *l, const struct edge_request *r, yyjson_val *event) {
    yyjson_val *about = json_get(event, "involvedObject");
    const char *kind = json_str(about, "kind"), *name = json_str(about, "name");
    if (str_eq(kind, "Node"))
        return str_eq(name, r->node);
    if (!str_eq(kind, "Pod") || str_empty(name))
        return false;
    const char *ns = json_str(about, "namespace");
    const char *owner = location_pod_node(l, str_or(ns, r->ns), name, NULL);
    return !owner || str_eq(owner, r->node); /* an event may outlive its pod */
}

/* A patch says that it happened again; what it happened to, and who says so, stays. */
static bool only_counts_on(const char *patch) {
    static const char *const members[] = {"count",  "firstTimestamp", "lastTimestamp", "message",
                                          "reason", "type",           "action",        "series"};
    _cleanup_(yyjson_doc_free_p) yyjson_doc *d = patch ? json_parse(bytes_str(patch), PATCH_MAX, NULL) : NULL;
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach (yyjson_doc_get_root(d), i, n, key, value) {
        bool known = false;
        for (size_t m = 0; m < ARRAY_LEN(members); m++)
            known |= yyjson_equals_str(key, members[m]);
        if (!known)
            return false;
    }
    return yyjson_is_obj(yyjson_doc_get_root(d));
}

static enum verdict own_event(const struct location *l, const struct edge_request *r) {
    bool patch = str_eq(r->operation, OP_PATCH);
    yyjson_val *event = patch ? json_get(r->content, "event") : r->content;
    if (patch && !only_counts_on(json_str(r->content, "patchData")))
        return VERDICT_DENY;
    if (!event_of_node(event, r->node) || !about_own_object(l, r, event))
        return VERDICT_DENY;
    if (!str_empty(object_name(event)) && !str_eq(object_name(event), r->name))
        return VERDICT_DENY;
    return str_eq(r->operation, OP_INSERT) ? VERDICT_ALLOW : VERDICT_LOOK;
}

/* PEM text to DER: what stands between the two dashed lines, decoded. There is nothing around them, since others look
 * for the first block by rules of their own, and might find another than we do. */
static int pem_body(struct bytes pem, struct buf *der) {
    struct bytes body;
    static const char begin[] = "-----BEGIN CERTIFICATE REQUEST-----", end[] = "-----END CERTIFICATE REQUEST-----";
    pem = bytes_trim(pem);
    if (!bytes_starts_with(pem, begin) || !bytes_ends_with(pem, end) || pem.len < sizeof begin + sizeof end)
        return -1;
    body = bytes_trim(bytes_of(pem.ptr + sizeof begin - 1, pem.len - (sizeof begin - 1) - (sizeof end - 1)));
    return base64_decode(body, der);
}

/* A serving certificate of the node's own. */
static bool csr_of_node(yyjson_val *csr, const char *node) {
    static const char signer[] = "kubernetes.io/kubelet-serving";
    const char *text = json_str(csr, "spec", "request");
    _cleanup_(buf_free) struct buf pem = BUF_INIT(64 << 10), der = BUF_INIT(64 << 10);
    struct x509_subject subject;
    struct bytes named;
    if (!str_eq(json_str(csr, "spec", "signerName"), signer) || str_empty(text) ||
        base64_decode(bytes_str(text), &pem) < 0 || pem_body(buf_bytes(&pem), &der) < 0 ||
        x509_csr_subject(buf_bytes(&der), &subject, NULL) < 0)
        return false;
    return identity_node(&subject, &named, NULL) == 0 && bytes_eq_str(named, node);
}

static enum verdict own_csr(const struct location *l, const struct edge_request *r) {
    (void)l;
    return allow_if(csr_of_node(r->content, r->node) && body_agrees(r));
}

struct rule {
    const char *type;
    const char *operations; /* separated by blanks */
    enum verdict (*decide)(const struct location *l, const struct edge_request *r);
};

static const struct rule rules[] = {
    {"node", "insert update query", own_node},
    {"nodepatch", "patch update", own_node},
    {"nodestatus", "insert update", own_node},
    {"lease", "insert update query", own_lease},
    {"pod", "insert", mirror_pod},
    {"pod", "delete", own_pod},
    {"podpatch", "patch update", own_pod},
    {"podstatus", "update", own_pod},
    {"configmap", "query", used_configmap},
    {"secret", "query", used_secret},
    {"persistentvolumeclaim", "query", used_claim},
    {"persistentvolume", "query", look},
    {"volumeattachment", "query", look},
    {"serviceaccounttoken", "query", pod_token},
    {"event", "insert update patch", own_event},
    {"certificatesigningrequest", "insert", own_csr},
    {"certificatesigningrequest", "query", look},
};

static bool has_word(const char *words, const char *word) {
    struct bytes rest = bytes_str(words), one;
    while (rest.len > 0) {
        struct bytes after = BYTES_EMPTY;
        (void)bytes_cut(rest, ' ', &one, &after);
        if (bytes_eq_str(one, word))
            return true;
        rest = after;
    }
    return false;
}

/* Names become parts of a path at the API server. */
static bool names_usable(const struct edge_request *r) {
    return (str_empty(r->ns) || dns_label_valid(bytes_str(r->ns))) &&
           (str_empty(r->name) || dns_subdomain_valid(bytes_str(r->name)));
}

enum verdict authorize(const struct location *l, const struct edge_request *r, struct error *why) {
    if (!names_usable(r)) {
        error_set(why, ERR_DENIED, "node %s: a namespace or name is not one, in a request for a %s", r->node, r->type);
        return VERDICT_DENY;
    }
    if (json_has_duplicates(r->content)) {
        error_set(why, ERR_DENIED, "node %s: the content of %s %s has two members of one name", r->node, r->type,
                  r->name);
        return VERDICT_DENY;
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (!str_eq(rules[i].type, r->type) || !has_word(rules[i].operations, r->operation))
            continue;
        enum verdict v = rules[i].decide(l, r);
        if (v != VERDICT_DENY)
            return v;
    }
    error_set(why, ERR_DENIED, "node %s may not %s %s %s%s%s", r->node, r->operation, r->type, r->ns, *r->ns ? "/" : "",
              r->name);
    return VERDICT_DENY;
}

bool belongs_to_node(const struct location *l, const struct edge_request *r, yyjson_val *object) {
    if (str_eq(r->type, "pod") || str_eq(r->type, "podpatch") || str_eq(r->type, "podstatus"))
        return str_eq(json_str(object, "spec", "nodeName"), r->node);
    if (str_eq(r->type, "event"))
        return event_of_node(object, r->node);
    if (str_eq(r->type, "certificatesigningrequest"))
        return csr_of_node(object, r->node);
    if (str_eq(r->type, "volumeattachment"))
        return str_eq(json_str(object, "spec", "nodeName"), r->node);
    if (str_eq(r->type, "persistentvolume")) {
        const char *ns = json_str(object, "spec", "claimRef", "namespace");
        const char *name = json_str(object, "spec", "claimRef", "name");
        return !str_empty(ns) && !str_empty(name) && location_uses(l, r->node, LOCATION_CLAIM, ns, name);
    }
    return false;
}
