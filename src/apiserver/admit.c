#include "apiserver/admit.h"

#include "apiserver/auth.h"
#include "apiserver/rbac.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/references.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

static int refuse(struct draft *t, const char *why) {
    return fail_forbidden(t->f, t->w->kind->group, t->w->kind->plural,
                          str_or(json_mut_str(t->obj, "metadata", "name"), ""), why);
}

/* ---- nobody grants what he does not have ------------------------------------------------------------------------ */

static bool may(struct draft *t, const char *verb, const char *resource, const char *name) {
    const struct access a = {
        .verb = verb, .group = RBAC_GROUP, .resource = resource, .subresource = "", .ns = t->w->ns, .name = name};
    return auth_allowed(t->w->s, t->w->user, &a);
}

static int check_rules(struct draft *t, yyjson_val *rules) {
    _cleanup_(free_p) char *missing = NULL;
    const struct identity *id = t->w->user;
    if (rbac_covers(authorizer_rbac(t->w->s->authorizer), id, t->w->ns, rules, &missing))
        return 0;
    _cleanup_(buf_free) struct buf groups = BUF_INIT(16 << 10);
    for (size_t i = 0; i < id->groups.count; i++)
        buf_addf(&groups, "%s\"%s\"", i ? " " : "", id->groups.items[i]);
    _cleanup_(free_p) char *why =
        xasprintf("user \"%s\" (groups=[%s]) is attempting to grant RBAC permissions not currently held:\n%.2000s",
                  id->user, str_or(groups.ptr, ""), missing);
    return refuse(t, why);
}

static int admit_role(struct draft *t, yyjson_val *obj, yyjson_val *old) {
    yyjson_val *rules = json_get(obj, "rules"), *aggregation = json_get(obj, "aggregationRule");
    bool same = old && json_get(old, "rules") && rules && json_equal(rules, json_get(old, "rules"));
    bool same_aggregation =
        !aggregation || (json_get(old, "aggregationRule") && json_equal(aggregation, json_get(old, "aggregationRule")));
    if ((same && same_aggregation) || may(t, "escalate", t->w->kind->plural, object_name(obj)))
        return 0;
    if (!same_aggregation) /* it might gather anything: only who has everything may write such a rule */
        return refuse(t, "must have cluster-admin privileges to use an aggregationRule");
    return check_rules(t, rules);
}

static int admit_binding(struct draft *t, yyjson_val *obj, yyjson_val *old) {
    const char *kind = str_or(json_str(obj, "roleRef", "kind"), ""),
               *name = str_or(json_str(obj, "roleRef", "name"), "");
    yyjson_val *subjects = json_get(obj, "subjects"), *before = json_get(old, "subjects");
    if (old && subjects && before && json_equal(subjects, before))
        return 0;
    if (may(t, "bind", strcmp(kind, "Role") == 0 ? "roles" : "clusterroles", name))
        return 0;
    yyjson_val *rules = rbac_role_rules(authorizer_rbac(t->w->s->authorizer), kind, t->w->ns, name);
    if (!rules) /* it may come to be, and nobody knows what it will hold */
        return strcmp(kind, "Role") == 0 ? fail_not_found(t->f, RBAC_GROUP, "roles", name)
                                         : fail_not_found(t->f, RBAC_GROUP, "clusterroles", name);
    return check_rules(t, rules);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

/* Labels under these domains belong to the cluster, but for the ones that an agent sets itself. */
static bool label_is_free(const char *key) {
    static const char *const own[] = {"kubernetes.io/hostname",
                                      "kubernetes.io/os",
                                      "kubernetes.io/arch",
                                      "beta.kubernetes.io/os",
                                      "beta.kubernetes.io/arch",
                                      "node.kubernetes.io/instance-type",
                                      "beta.kubernetes.io/instance-type",
                                      "topology.kubernetes.io/region",
                                      "topology.kubernetes.io/zone",
                                      "failure-domain.beta.kubernetes.io/region",
                                      "failure-domain.beta.kubernetes.io/zone"};
    static const char *const domains[] = {"kubernetes.io", "k8s.io"}, *const agents[] = {"node.kubernetes.io",
                                                                                         "kubelet.kubernetes.io"};
    const char *slash = strchr(key, '/');
    if (!slash)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (strcmp(key, own[i]) == 0)
            return true;
    struct bytes domain = bytes_of(key, (size_t)(slash - key));
    for (size_t i = 0; i < ARRAY_LEN(agents); i++)
        if (bytes_eq_str(domain, agents[i]) ||
            (bytes_ends_with(domain, agents[i]) && domain.ptr[domain.len - strlen(agents[i]) - 1] == '.'))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(domains); i++)
        if (bytes_eq_str(domain, domains[i]) ||
            (bytes_ends_with(domain, domains[i]) && domain.ptr[domain.len - strlen(domains[i]) - 1] == '.'))
            return false;
    return true;
}

static bool same(yyjson_val *a, yyjson_val *b) {
    return (!a && !b) || (a && b && json_equal(a, b));
}

/* The first label that differs and is not the node's to set. */
static const char *forbidden_label(yyjson_val *now, yyjson_val *before) {
    yyjson_val *maps[] = {now, before};
    for (size_t m = 0; m < ARRAY_LEN(maps); m++) {
        yyjson_obj_iter it = yyjson_obj_iter_with(maps[m]);
        for (yyjson_val *key; maps[m] && (key = yyjson_obj_iter_next(&it));) {
            const char *name = yyjson_get_str(key);
            if (!label_is_free(name) && !same(yyjson_obj_get(now, name), yyjson_obj_get(before, name)))
                return name;
        }
    }
    return NULL;
}

static int admit_node(struct draft *t, const char *node, yyjson_val *obj, yyjson_val *old) {
    if (strcmp(object_name(obj), node) != 0) {
        _cleanup_(free_p) char *why =
            xasprintf("node \"%s\" is not allowed to modify node \"%s\"", node, object_name(obj));
        return refuse(t, why);
    }
    const char *label = forbidden_label(object_labels(obj), object_labels(old));
    if (label) {
        _cleanup_(free_p) char *why = xasprintf("is not allowed to modify labels: %s", label);
        return refuse(t, why);
    }
    if (old && !same(json_get(obj, "spec", "taints"), json_get(old, "spec", "taints"))) {
        _cleanup_(free_p) char *why = xasprintf("node \"%s\" is not allowed to modify taints", node);
        return refuse(t, why);
    }
    if (!same(json_get(obj, "metadata", "ownerReferences"), json_get(old, "metadata", "ownerReferences")) ||
        !same(json_get(obj, "spec", "configSource"), json_get(old, "spec", "configSource"))) {
        _cleanup_(free_p) char *why =
            xasprintf("node \"%s\" is not allowed to modify ownerReferences or configSource", node);
        return refuse(t, why);
    }
    return 0;
}

static void any_reference(void *arg, enum location_kind kind, const char *name) {
    bool *found = arg;
    *found |= kind != LOCATION_SERVICEACCOUNT;
}

/* Only a mirror of a static pod of its own, which uses nothing of the cluster. */
static int admit_new_pod(struct draft *t, const char *node, yyjson_val *obj) {
    bool refers = false;
    yyjson_val *owners = json_get(obj, "metadata", "ownerReferences"), *owner = yyjson_arr_get_first(owners);
    pod_references(obj, any_reference, &refers);
    if (!str_eq(json_str(obj, "spec", "nodeName"), node) || !object_annotation(obj, MIRROR_ANNOTATION))
        return refuse(t, "a node creates mirror pods of its own only");
    if (refers)
        return refuse(t, "a mirror pod may not refer to secrets, configmaps or claims");
    if (owners && (yyjson_arr_size(owners) > 1 || !str_eq(json_str(owner, "kind"), "Node") ||
                   !str_eq(json_str(owner, "name"), node)))
        return refuse(t, "a mirror pod is owned by its node only");
    return 0;
}

static int admit_of_node(struct draft *t, const char *node, yyjson_val *obj, yyjson_val *old) {
    const struct kind *k = t->w->kind;
    if (k->custom)
        return 0;
    if (str_eq(k->kind, "Node"))
        return admit_node(t, node, obj, old);
    if (str_eq(k->kind, "Pod") && !old)
        return admit_new_pod(t, node, obj);
    if (str_eq(k->kind, "Pod") && !same(object_labels(obj), object_labels(old)))
        return refuse(t, "a node may not change the labels of its pods");
    if (str_eq(k->kind, "Lease") && strcmp(object_name(obj), node) != 0)
        return refuse(t, "a node has the lease of its own name only");
    return 0;
}

int admit_write(struct draft *t) {
    const struct kind *k = t->w->kind;
    const struct identity *id = t->w->user;
    if (!id || identity_has_group(id, GROUP_MASTERS))
        return 0;
    const char *node = identity_node_name(id);
    bool rbac = !k->custom && strcmp(k->group, RBAC_GROUP) == 0;
    if (!node && !rbac)
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(t->obj, NULL);
    yyjson_val *obj = yyjson_doc_get_root(doc), *old = t->old_doc ? yyjson_doc_get_root(t->old_doc) : NULL;
    if (node && admit_of_node(t, node, obj, old) < 0)
        return -1;
    if (!rbac)
        return 0;
    bool role = str_eq(k->plural, "roles") || str_eq(k->plural, "clusterroles");
    return role ? admit_role(t, obj, old) : admit_binding(t, obj, old);
}
