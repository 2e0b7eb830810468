#define LOG_COMPONENT "apiserver"
#include "apiserver/bootstrap_policy.h"

#include "apiserver/write.h"
#include "base/log.h"
#include "base/str.h"
#include "base/yaml.h"
#include "kube/object.h"
#include "rbac_text.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"
#define AUTOUPDATE "rbac.authorization.kubernetes.io/autoupdate"
#define AGGREGATE "rbac.authorization.k8s.io/aggregate-to-"

#define READ "get,list,watch"
#define WRITE "create,delete,deletecollection,patch,update"
#define CORE_READ                                                                                                  \
    "bindings,configmaps,endpoints,events,limitranges,namespaces,namespaces/status,persistentvolumeclaims,"        \
    "persistentvolumeclaims/status,pods,pods/log,pods/status,replicationcontrollers,replicationcontrollers/scale," \
    "replicationcontrollers/status,resourcequotas,resourcequotas/status,serviceaccounts,services,services/status"
#define CORE_WRITE                                                                                                 \
    "configmaps,endpoints,events,persistentvolumeclaims,pods,replicationcontrollers,replicationcontrollers/scale," \
    "services"
#define APPS                                                                                             \
    "controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status," \
    "replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status"
#define APPS_WRITE                                                                                              \
    "daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets," \
    "statefulsets/scale"

/* Lists are separated by commas. Rows of one role follow each other. */
static const struct rule_row {
    const char *role;
    const char *aggregate; /* to "view", "edit" or "admin"; on the role's first row */
    const char *verbs, *groups, *resources;
    const char *paths; /* instead of groups and resources */
    const char *names; /* NULL: all */
} rule_rows[] = {
    {"cluster-admin", NULL, "*", "*", "*", NULL},
    {"cluster-admin", NULL, "*", NULL, NULL, "*"},
    {"system:discovery", NULL, "get", NULL, NULL,
     "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/"},
    {"system:basic-user", NULL, "create", "authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews",
     NULL},
    {"system:basic-user", NULL, "create", "authentication.k8s.io", "selfsubjectreviews", NULL},
    {"system:public-info-viewer", NULL, "get", NULL, NULL, "/healthz,/livez,/readyz,/version,/version/"},
    {"system:service-account-issuer-discovery", NULL, "get", NULL, NULL,
     "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/"},
    {"system:monitoring", NULL, "get", NULL, NULL,
     "/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*"},
    {"system:auth-delegator", NULL, "create", "authentication.k8s.io", "tokenreviews", NULL},
    {"system:auth-delegator", NULL, "create", "authorization.k8s.io", "subjectaccessreviews", NULL},
    {"system:node-bootstrapper", NULL, "create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests",
     NULL},
    {"system:certificates.k8s.io:certificatesigningrequests:nodeclient", NULL, "create", "certificates.k8s.io",
     "certificatesigningrequests/nodeclient", NULL},
    {"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", NULL, "create", "certificates.k8s.io",
     "certificatesigningrequests/selfnodeclient", NULL},

    {"system:aggregate-to-view", "view", READ, "", CORE_READ, NULL},
    {"system:aggregate-to-view", NULL, READ, "apps", APPS, NULL},
    {"system:aggregate-to-view", NULL, READ, "autoscaling", "horizontalpodautoscalers,horizontalpodautoscalers/status",
     NULL},
    {"system:aggregate-to-view", NULL, READ, "batch", "cronjobs,cronjobs/status,jobs,jobs/status", NULL},
    {"system:aggregate-to-view", NULL, READ, "discovery.k8s.io", "endpointslices", NULL},
    {"system:aggregate-to-view", NULL, READ, "networking.k8s.io", "ingresses,ingresses/status,networkpolicies", NULL},
    {"system:aggregate-to-view", NULL, READ, "policy", "poddisruptionbudgets,poddisruptionbudgets/status", NULL},

    {"system:aggregate-to-edit", "edit", READ, "",
     "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy", NULL},
    {"system:aggregate-to-edit", NULL, "impersonate", "", "serviceaccounts", NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "",
     "pods,pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,serviceaccounts,services/proxy", NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "", CORE_WRITE, NULL},
    {"system:aggregate-to-edit", NULL, "create", "", "pods/eviction,serviceaccounts/token", NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "apps", APPS_WRITE, NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "autoscaling", "horizontalpodautoscalers", NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "batch", "cronjobs,jobs", NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "networking.k8s.io", "ingresses,networkpolicies", NULL},
    {"system:aggregate-to-edit", NULL, WRITE, "policy", "poddisruptionbudgets", NULL},
    {"system:aggregate-to-edit", NULL, READ "," WRITE, "coordination.k8s.io", "leases", NULL},

    {"system:aggregate-to-admin", "admin", "create", "authorization.k8s.io", "localsubjectaccessreviews", NULL},
    {"system:aggregate-to-admin", NULL, READ "," WRITE, RBAC_GROUP, "rolebindings,roles", NULL},

    /* The kinds of KubeEdge, for those who may see or change what is in a namespace. */
    {"kubeedge-view", "view", READ, "devices.kubeedge.io", "devicemodels,devices,devicestatuses", NULL},
    {"kubeedge-edit", "edit", WRITE, "devices.kubeedge.io", "devicemodels,devices", NULL},

    /* What manifests/rbac.yaml leaves to who sets a cluster up: a standalone cloudcore installs its own kinds. */
    {"cloudcore-standalone", NULL, "create,get,patch,update", "apiextensions.k8s.io", "customresourcedefinitions",
     NULL},
    /* Where its configuration asks for requests in the name of the node (cloudHub.authorization). */
    {"cloudcore-standalone", NULL, "impersonate", "", "users", NULL},
    {"cloudcore-standalone", NULL, "impersonate", "", "groups", NULL, .names = "system:nodes,system:authenticated"},
};

static const struct {
    const char *role, *from; /* the label that its parts carry: AGGREGATE from */
    const char *aggregate;   /* what it is part of itself */
} aggregated[] = {{"admin", "admin", NULL}, {"edit", "edit", "admin"}, {"view", "view", "edit"}};

static const struct {
    const char *name, *role, *subject_kind, *subject;
} bindings[] = {
    {"cluster-admin", "cluster-admin", "Group", "system:masters"},
    {"system:discovery", "system:discovery", "Group", "system:authenticated"},
    {"system:basic-user", "system:basic-user", "Group", "system:authenticated"},
    {"system:public-info-viewer", "system:public-info-viewer", "Group", "system:authenticated"},
    {"system:public-info-viewer", "system:public-info-viewer", "Group", "system:unauthenticated"},
    {"system:service-account-issuer-discovery", "system:service-account-issuer-discovery", "Group",
     "system:serviceaccounts"},
    {"system:monitoring", "system:monitoring", "Group", "system:monitoring"},
    {"system:node-bootstrapper", "system:node-bootstrapper", "Group", "system:bootstrappers"},
    {"cloudcore-standalone", "cloudcore-standalone", "User", "system:cloudcore"},
};

/* ---- storing ---------------------------------------------------------------------------------------------------- */

static bool list_contains(yyjson_val *list, yyjson_mut_val *wanted) {
    size_t i, n;
    yyjson_val *v;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(wanted, NULL);
    yyjson_arr_foreach (list, i, n, v)
        if (json_equal(v, yyjson_doc_get_root(doc)))
            return true;
    return false;
}

/* The stored object with what it lacks of ours. NULL: nothing is missing, or the owner wants no updates. */
static yyjson_mut_val *completed(yyjson_mut_doc *d, yyjson_val *stored, yyjson_mut_val *ours) {
    static const char *const lists[] = {"rules", "subjects"};
    const char *autoupdate = object_annotation(stored, AUTOUPDATE);
    bool changed = false;
    if (str_eq(autoupdate, "false"))
        return NULL;
    yyjson_mut_val *out = yyjson_val_mut_copy(d, stored);
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i, n;
        yyjson_mut_val *v;
        yyjson_mut_arr_foreach (yyjson_mut_obj_get(ours, lists[l]), i, n, v)
            if (!list_contains(json_get(stored, lists[l]), v)) {
                yyjson_mut_arr_append(json_ensure_arr(d, out, lists[l]), yyjson_mut_val_mut_copy(d, v));
                changed = true;
            }
    }
    return changed ? out : NULL;
}

static void put(struct apiserver *s, const char *plural, const char *ns, yyjson_mut_doc *d, yyjson_mut_val *o) {
    const struct kind *k = server_kind(s, RBAC_GROUP, "v1", plural);
    const char *name = json_mut_str(o, "metadata", "name");
    struct record *rec = storage_latest(s->storage, kind_resource(s, k), ns, name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *stored = rec ? record_parse(rec) : NULL;
    yyjson_mut_val *body = stored && !yyjson_mut_obj_get(o, "aggregationRule")
                               ? completed(d, yyjson_doc_get_root(stored), o)
                           : stored ? NULL
                                    : o;
    if (!body)
        return;
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(body, &len);
    struct fail f = {0};
    struct write w = {.s = s,
                      .kind = k,
                      .verb = stored ? WRITE_UPDATE : WRITE_CREATE,
                      .ns = ns,
                      .name = stored ? name : "",
                      .subresource = "",
                      .body = bytes_of(text, len),
                      .delete = {.grace_s = -1}};
    if (write_submit(&w, &f) < 0)
        log_warn("cannot store a role of the first policy resource=%s name=%s: %s", plural, name, f.message);
    fail_clear(&f);
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static yyjson_mut_val *new_object(yyjson_mut_doc *d, const char *name, const char *aggregate) {
    yyjson_mut_val *o = yyjson_mut_obj(d), *meta = json_ensure_obj(d, o, "metadata");
    json_set_str(d, meta, "name", name);
    json_set_str(d, json_ensure_obj(d, meta, "annotations"), AUTOUPDATE, "true");
    yyjson_mut_val *labels = json_ensure_obj(d, meta, "labels");
    json_set_str(d, labels, "kubernetes.io/bootstrapping", "rbac-defaults");
    if (aggregate) {
        _cleanup_(free_p) char *label = xasprintf(AGGREGATE "%s", aggregate);
        json_set_str(d, labels, label, "true");
    }
    return o;
}

static void add_list(yyjson_mut_doc *d, yyjson_mut_val *rule, const char *key, const char *list) {
    if (!list)
        return;
    yyjson_mut_val *to = json_ensure_arr(d, rule, key);
    struct bytes rest = bytes_str(list), part, after;
    for (bool more = true; more; rest = after) {
        more = bytes_cut(rest, ',', &part, &after);
        struct bytes one = more ? part : rest;
        yyjson_mut_arr_add_strncpy(d, to, one.ptr, one.len);
    }
}

static size_t put_role(struct apiserver *s, size_t i) {
    const char *name = rule_rows[i].role;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = new_object(d, name, rule_rows[i].aggregate);
    for (; i < ARRAY_LEN(rule_rows) && strcmp(rule_rows[i].role, name) == 0; i++) {
        yyjson_mut_val *rule = yyjson_mut_arr_add_obj(d, json_ensure_arr(d, o, "rules"));
        add_list(d, rule, "verbs", rule_rows[i].verbs);
        add_list(d, rule, "apiGroups", rule_rows[i].groups);
        add_list(d, rule, "resources", rule_rows[i].resources);
        add_list(d, rule, "resourceNames", rule_rows[i].names);
        add_list(d, rule, "nonResourceURLs", rule_rows[i].paths);
    }
    put(s, "clusterroles", "", d, o);
    return i;
}

static void put_aggregated(struct apiserver *s, const char *role, const char *from, const char *aggregate) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(free_p) char *label = xasprintf(AGGREGATE "%s", from);
    yyjson_mut_val *o = new_object(d, role, aggregate);
    yyjson_mut_val *selectors = json_ensure_arr(d, json_ensure_obj(d, o, "aggregationRule"), "clusterRoleSelectors");
    json_set_str(d, json_ensure_obj(d, yyjson_mut_arr_add_obj(d, selectors), "matchLabels"), label, "true");
    put(s, "clusterroles", "", d, o);
}

static void add_subject(yyjson_mut_doc *d, yyjson_mut_val *binding, const char *kind, const char *name) {
    yyjson_mut_val *subject = yyjson_mut_arr_add_obj(d, json_ensure_arr(d, binding, "subjects"));
    json_set_str(d, subject, "kind", kind);
    json_set_str(d, subject, "apiGroup", RBAC_GROUP);
    json_set_str(d, subject, "name", name);
}

static size_t put_binding(struct apiserver *s, size_t i) {
    const char *name = bindings[i].name;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = new_object(d, name, NULL), *ref = json_ensure_obj(d, o, "roleRef");
    json_set_str(d, ref, "apiGroup", RBAC_GROUP);
    json_set_str(d, ref, "kind", "ClusterRole");
    json_set_str(d, ref, "name", bindings[i].role);
    for (; i < ARRAY_LEN(bindings) && strcmp(bindings[i].name, name) == 0; i++)
        add_subject(d, o, bindings[i].subject_kind, bindings[i].subject);
    put(s, "clusterrolebindings", "", d, o);
    return i;
}

/* "cloudcore" becomes "system:cloudcore": whoever applies or deletes manifests/ here takes no right away. */
static void rename_to_system(yyjson_mut_doc *d, yyjson_mut_val *named) {
    _cleanup_(free_p) char *name = xasprintf("system:%s", str_or(json_mut_str(named, "name"), ""));
    json_set_str(d, named, "name", name);
}

/* One object of manifests/rbac.yaml: cloudcore has the rights that it has in a cluster, for the user that it is here.
 */
static void put_of_cloudcore(struct apiserver *s, yyjson_val *object) {
    static const struct {
        const char *kind, *plural;
    } kinds[] = {{"Role", "roles"},
                 {"ClusterRole", "clusterroles"},
                 {"RoleBinding", "rolebindings"},
                 {"ClusterRoleBinding", "clusterrolebindings"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(object_kind(object), kinds[i].kind)) {
            _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
            yyjson_mut_val *o = yyjson_val_mut_copy(d, object);
            rename_to_system(d, json_ensure_obj(d, o, "metadata"));
            if (yyjson_mut_obj_get(o, "subjects")) {
                rename_to_system(d, json_ensure_obj(d, o, "roleRef"));
                json_remove(o, "subjects");
                add_subject(d, o, "User", "system:cloudcore");
            }
            put(s, kinds[i].plural, object_namespace(object), d, o);
        }
}

static void put_manifest(struct apiserver *s, struct bytes text) {
    static const char mark[] = "\n---\n";
    while (text.len > 0) {
        const char *end = memmem(text.ptr, text.len, mark, sizeof(mark) - 1);
        size_t len = end ? (size_t)(end - text.ptr) : text.len;
        struct yaml_doc doc = {0};
        struct error err = ERROR_INIT;
        if (yaml_parse(bytes_of(text.ptr, len), "rbac.yaml", &doc, &err) < 0)
            panic("apiserver: the built-in roles of cloudcore: %s", error_text(&err));
        put_of_cloudcore(s, yyjson_doc_get_root(doc.json));
        yaml_doc_free(&doc);
        size_t used = end ? len + sizeof(mark) - 1 : len;
        text = bytes_of(text.ptr + used, text.len - used);
    }
}

void bootstrap_policy(struct apiserver *s) {
    for (size_t i = 0; i < ARRAY_LEN(rule_rows);)
        i = put_role(s, i);
    for (size_t i = 0; i < ARRAY_LEN(aggregated); i++)
        put_aggregated(s, aggregated[i].role, aggregated[i].from, aggregated[i].aggregate);
    for (size_t i = 0; i < ARRAY_LEN(bindings);)
        i = put_binding(s, i);
    put_manifest(s, bytes_str(RBAC_TEXT[0]));
}
