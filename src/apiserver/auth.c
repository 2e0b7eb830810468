#include "apiserver/auth.h"

#include "base/mem.h"

#define MASTERS "system:masters"
#define NODES "system:nodes"
#define NODE_USER "system:node:"
#define NAME_MAX_LEN 512

void identity_free(struct identity *id) {
    free(id->user);
    id->user = NULL;
    strlist_free(&id->groups);
}

bool identity_has_group(const struct identity *id, const char *group) {
    return strlist_has(&id->groups, group);
}

static int unauthorized(struct fail *f) {
    return fail_set(f, 401, "Unauthorized", "Unauthorized");
}

static int from_certificate(struct http_request *r, struct identity *out, struct fail *f) {
    struct x509_subject subject;
    bool verified = false;
    if (stream_peer_subject(http_stream(r), &subject, &verified, NULL) < 0 || !verified || !subject.common_name[0])
        return unauthorized(f);
    out->user = xstrdup(subject.common_name);
    if (subject.organization[0])
        strlist_add(&out->groups, subject.organization);
    strlist_add(&out->groups, "system:authenticated");
    return 0;
}

static int impersonate(struct http_request *r, struct identity *out, struct fail *f) {
    bool has_user = false, has_group = false;
    struct bytes user = http_header(r, "Impersonate-User", &has_user);
    struct bytes group = http_header(r, "Impersonate-Group", &has_group);
    if (!has_user && !has_group)
        return 0;
    if (!has_user || user.len == 0 || user.len > NAME_MAX_LEN || group.len > NAME_MAX_LEN)
        return fail_bad_request(f, "Impersonate-Group needs Impersonate-User, and both must be names");
    _cleanup_(free_p) char *name = bytes_dup(user);
    if (!identity_has_group(out, MASTERS)) {
        fail_forbidden(f, "", "users", name, "");
        _cleanup_(free_p) char *why =
            xasprintf("User \"%s\" cannot impersonate resource \"users\" in API group \"\" at "
                      "the cluster scope",
                      out->user);
        return fail_forbidden(f, "", "users", name, why);
    }
    identity_free(out);
    out->user = TAKE(name);
    if (has_group)
        strlist_add_take(&out->groups, bytes_dup(group));
    strlist_add(&out->groups, "system:authenticated");
    return 0;
}

int auth_identify(struct http_request *r, struct identity *out, struct fail *f) {
    *out = (struct identity){0};
    if (from_certificate(r, out, f) < 0 || impersonate(r, out, f) < 0) {
        identity_free(out);
        return -1;
    }
    return 0;
}

/* ---- the policy ---- */

static bool one_of(const char *s, const char *const *list) {
    for (; *list; list++)
        if (strcmp(s, *list) == 0)
            return true;
    return false;
}

static bool is_read(const char *verb) {
    return strcmp(verb, "get") == 0 || strcmp(verb, "list") == 0 || strcmp(verb, "watch") == 0;
}

static bool path_allowed(const char *path) {
    static const char *const prefixes[] = {"/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (str_starts_with(path, prefixes[i]))
            return true;
    return strcmp(path, "/") == 0;
}

/* Asking about oneself. */
static bool self_review(const struct access *a) {
    static const char *const reviews[] = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews",
                                          NULL};
    return strcmp(a->verb, "create") == 0 && one_of(a->resource, reviews);
}

/* Does a field selector pin the field to this value? */
static bool selects(const char *selector, const char *field, const char *value) {
    _cleanup_(free_p) char *want = xasprintf("%s=%s", field, value);
    return selector &&
           (strcmp(selector, want) == 0 || (str_starts_with(selector, want) && selector[strlen(want)] == ','));
}

struct node_rule {
    const char *group, *resource;
    const char *verbs; /* "get,update,..." */
    enum { ANY_NAME, OWN_NAME, OWN_PODS, LEASE_NS } scope;
};

/* Read access to what pods mount is narrowed to the node's own pods by the edge hub, which forwards such requests. */
static const struct node_rule node_rules[] = {
    {"", "nodes", ",get,list,watch,create,update,patch,", OWN_NAME},
    {"coordination.k8s.io", "leases", ",get,create,update,patch,delete,", LEASE_NS},
    {"", "pods", ",list,watch,", OWN_PODS},
    {"", "pods", ",get,create,update,patch,delete,", ANY_NAME},
    {"", "events", ",create,update,patch,", ANY_NAME},
    {"events.k8s.io", "events", ",create,update,patch,", ANY_NAME},
    {"", "secrets", ",get,", ANY_NAME},
    {"", "configmaps", ",get,", ANY_NAME},
    {"", "services", ",get,list,watch,", ANY_NAME},
    {"", "endpoints", ",get,list,watch,", ANY_NAME},
    {"discovery.k8s.io", "endpointslices", ",get,list,watch,", ANY_NAME},
};

static bool scope_fits(const struct node_rule *rule, const struct access *a, const char *node) {
    switch (rule->scope) {
    case OWN_NAME:
        return strcmp(a->name, node) == 0 || strcmp(a->verb, "create") == 0 ||
               (!*a->name && selects(a->field_selector, "metadata.name", node));
    case LEASE_NS:
        return strcmp(a->ns, "kube-node-lease") == 0 && (strcmp(a->name, node) == 0 || strcmp(a->verb, "create") == 0);
    case OWN_PODS:
        return selects(a->field_selector, "spec.nodeName", node);
    case ANY_NAME:
        return true;
    }
    return false;
}

static bool node_allowed(const char *node, const struct access *a) {
    _cleanup_(free_p) char *verb = xasprintf(",%s,", a->verb);
    for (size_t i = 0; i < ARRAY_LEN(node_rules); i++) {
        const struct node_rule *rule = &node_rules[i];
        if (strcmp(rule->group, a->group) == 0 && strcmp(rule->resource, a->resource) == 0 &&
            strstr(rule->verbs, verb) && scope_fits(rule, a, node))
            return true;
    }
    return false;
}

bool auth_allowed(const struct identity *id, const struct access *a) {
    if (identity_has_group(id, MASTERS))
        return true;
    if (a->path)
        return is_read(a->verb) && path_allowed(a->path);
    if (self_review(a))
        return true;
    return identity_has_group(id, NODES) && str_starts_with(id->user, NODE_USER) &&
           node_allowed(id->user + strlen(NODE_USER), a);
}

int auth_refuse(const struct identity *id, const struct access *a, struct fail *f) {
    if (a->path)
        return fail_set(f, 403, "Forbidden", "forbidden: User \"%s\" cannot %s path \"%s\"", id->user, a->verb,
                        a->path);
    _cleanup_(free_p) char *scope =
        *a->ns ? xasprintf("in the namespace \"%s\"", a->ns) : xstrdup("at the cluster scope");
    _cleanup_(free_p) char *why =
        xasprintf("User \"%s\" cannot %s resource \"%s%s%s\" in API group \"%s\" %s", id->user, a->verb, a->resource,
                  *a->subresource ? "/" : "", a->subresource, a->group, scope);
    return fail_forbidden(f, a->group, a->resource, a->name, why);
}
