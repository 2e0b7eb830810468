#include "apiserver/kinds.h"

#include "apiserver/crd.h"
#include "base/clock.h"
#include "kube/object.h"

#define CRD_MAX_VERSIONS 32

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
static const char *const none[] = {NULL};

/* ---- built-in kinds --------------------------------------------------------------------------------------------- */

static const struct kind_subresource status_only[] = {{.name = "status", .verbs = VERBS_STATUS}};
static const struct kind_subresource namespace_subs[] = {
    {.name = "finalize", .verbs = VERB_UPDATE},
    {.name = "status", .verbs = VERBS_STATUS},
};
static const struct kind_subresource pod_subs[] = {
    {.name = "binding", .verbs = VERB_CREATE, .group = "", .version = "v1", .kind = "Binding"},
    {.name = "eviction", .verbs = VERB_CREATE, .group = "policy", .version = "v1", .kind = "Eviction"},
    {.name = "status", .verbs = VERBS_STATUS},
    {.name = "attach", .verbs = VERBS_CONNECT, .group = "", .version = "v1", .kind = "PodAttachOptions"},
    {.name = "exec", .verbs = VERBS_CONNECT, .group = "", .version = "v1", .kind = "PodExecOptions"},
    {.name = "log", .verbs = VERB_GET},
    {.name = "portforward", .verbs = VERBS_CONNECT, .group = "", .version = "v1", .kind = "PodPortForwardOptions"},
};
static const struct kind_subresource scalable_subs[] = {
    {.name = "scale", .verbs = VERBS_STATUS, .group = "autoscaling", .version = "v1", .kind = "Scale"},
    {.name = "status", .verbs = VERBS_STATUS},
};
static const struct kind_subresource node_subs[] = {
    {.name = "proxy", .verbs = VERB_GET, .group = "", .version = "v1", .kind = "NodeProxyOptions"},
    {.name = "status", .verbs = VERBS_STATUS},
};

static const struct kind_subresource account_subs[] = {
    {.name = "token", .verbs = VERB_CREATE, .group = "authentication.k8s.io", .version = "v1", .kind = "TokenRequest"},
};
#define SUBRESOURCES(list) .subresources = (list), .n_subresources = ARRAY_LEN(list)
#define CORE .group = "", .version = "v1", .storage_group = "", .storage_version = "v1"
#define GROUP(g) .group = (g), .version = "v1", .storage_group = (g), .storage_version = "v1"
#define APPS GROUP("apps")
/* What runs pods from a template. */
#define WORKLOAD                                                                                        \
    .categories = NAMES("all"), .namespaced = true, .verbs = VERBS_FULL, .generation = GENERATION_SPEC, \
    .has_status = true, .unconditional_update = true
#define STORED(p) .plural = (p), .storage_plural = (p)
#define RBAC                                                                                             \
    .group = "rbac.authorization.k8s.io", .version = "v1", .storage_group = "rbac.authorization.k8s.io", \
    .storage_version = "v1", .short_names = none, .categories = none, .verbs = VERBS_FULL,               \
    .name_rule = NAME_PATH_SEGMENT, .unconditional_update = true, .fields = none
/* A question that is answered, and never stored. */
#define REVIEW(g, p, s, k)                                                                                        \
    {                                                                                                             \
        .group = (g), .version = "v1", .storage_group = (g), .storage_version = "v1", STORED(p), .singular = (s), \
        .kind = (k), .list_kind = k "List", .short_names = none, .categories = none, .verbs = VERB_CREATE,        \
        .name_rule = NAME_PATH_SEGMENT, .fields = none                                                            \
    }

/* In discovery order: the core group first, so that its short names win. */
static const struct kind builtin[] = {
    {CORE, STORED("configmaps"), .singular = "configmap", .kind = "ConfigMap", .list_kind = "ConfigMapList",
     .short_names = NAMES("cm"), .categories = none, .namespaced = true, .verbs = VERBS_FULL,
     .unconditional_update = true, .fields = none},
    {CORE, STORED("events"), .singular = "event", .kind = "Event", .list_kind = "EventList", .short_names = NAMES("ev"),
     .categories = none, .namespaced = true, .verbs = VERBS_FULL, .unconditional_update = true,
     .create_on_update = true, .ttl_s = 3600,
     .fields = NAMES("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
                     "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
                     "reason", "reportingComponent", "source", "type")},
    {CORE, STORED("namespaces"), .singular = "namespace", .kind = "Namespace", .list_kind = "NamespaceList",
     .short_names = NAMES("ns"), .categories = none, .verbs = VERBS_FULL & ~(unsigned)VERB_DELETECOLLECTION,
     SUBRESOURCES(namespace_subs), .name_rule = NAME_DNS_LABEL, .has_status = true, .unconditional_update = true,
     .delete_returns_object = true, .fields = NAMES("status.phase")},
    {CORE, STORED("nodes"), .singular = "node", .kind = "Node", .list_kind = "NodeList", .short_names = NAMES("no"),
     .categories = none, .verbs = VERBS_FULL, SUBRESOURCES(node_subs), .has_status = true, .unconditional_update = true,
     .fields = NAMES("spec.unschedulable")},
    {CORE, STORED("pods"), .singular = "pod", .kind = "Pod", .list_kind = "PodList", .short_names = NAMES("po"),
     .categories = NAMES("all"), .namespaced = true, .verbs = VERBS_FULL, SUBRESOURCES(pod_subs),
     .generation = GENERATION_SPEC, .has_status = true, .unconditional_update = true, .graceful_delete = true,
     .delete_returns_object = true,
     .fields =
         NAMES("spec.nodeName", "spec.host", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
               "spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName")},
    {CORE, STORED("secrets"), .singular = "secret", .kind = "Secret", .list_kind = "SecretList", .short_names = none,
     .categories = none, .namespaced = true, .verbs = VERBS_FULL, .unconditional_update = true,
     .fields = NAMES("type")},
    {CORE, STORED("serviceaccounts"), .singular = "serviceaccount", .kind = "ServiceAccount",
     .list_kind = "ServiceAccountList", .short_names = NAMES("sa"), .categories = none, .namespaced = true,
     .verbs = VERBS_FULL, SUBRESOURCES(account_subs), .unconditional_update = true, .delete_returns_object = true,
     .fields = none},
    {CORE, STORED("services"), .singular = "service", .kind = "Service", .list_kind = "ServiceList",
     .short_names = NAMES("svc"), .categories = NAMES("all"), .namespaced = true, .verbs = VERBS_FULL,
     SUBRESOURCES(status_only), .name_rule = NAME_DNS_LABEL, .has_status = true, .unconditional_update = true,
     .delete_returns_object = true, .fields = NAMES("spec.clusterIP", "spec.type")},
    {CORE, STORED("endpoints"), .singular = "endpoints", .kind = "Endpoints", .list_kind = "EndpointsList",
     .short_names = NAMES("ep"), .categories = none, .namespaced = true, .verbs = VERBS_FULL,
     .unconditional_update = true, .fields = none},
    {APPS, STORED("controllerrevisions"), .singular = "controllerrevision", .kind = "ControllerRevision",
     .list_kind = "ControllerRevisionList", .short_names = none, .categories = none, .namespaced = true,
     .verbs = VERBS_FULL, .unconditional_update = true, .fields = none},
    {APPS, STORED("daemonsets"), .singular = "daemonset", .kind = "DaemonSet", .list_kind = "DaemonSetList",
     .short_names = NAMES("ds"), WORKLOAD, SUBRESOURCES(status_only), .fields = none},
    {APPS, STORED("deployments"), .singular = "deployment", .kind = "Deployment", .list_kind = "DeploymentList",
     .short_names = NAMES("deploy"), WORKLOAD, SUBRESOURCES(scalable_subs), .fields = none},
    {APPS, STORED("replicasets"), .singular = "replicaset", .kind = "ReplicaSet", .list_kind = "ReplicaSetList",
     .short_names = NAMES("rs"), WORKLOAD, SUBRESOURCES(scalable_subs), .fields = NAMES("status.replicas")},
    {GROUP("batch"), STORED("jobs"), .singular = "job", .kind = "Job", .list_kind = "JobList", .short_names = none,
     WORKLOAD, SUBRESOURCES(status_only), .fields = NAMES("status.successful")},
    {GROUP("discovery.k8s.io"), STORED("endpointslices"), .singular = "endpointslice", .kind = "EndpointSlice",
     .list_kind = "EndpointSliceList", .short_names = none, .categories = none, .namespaced = true, .verbs = VERBS_FULL,
     .generation = GENERATION_NOT_METADATA, .unconditional_update = true, .fields = none},
    {GROUP("policy"), STORED("poddisruptionbudgets"), .singular = "poddisruptionbudget", .kind = "PodDisruptionBudget",
     .list_kind = "PodDisruptionBudgetList", .short_names = NAMES("pdb"), .categories = none, .namespaced = true,
     .verbs = VERBS_FULL, SUBRESOURCES(status_only), .generation = GENERATION_SPEC, .has_status = true, .fields = none},
    {GROUP("scheduling.k8s.io"), STORED("priorityclasses"), .singular = "priorityclass", .kind = "PriorityClass",
     .list_kind = "PriorityClassList", .short_names = NAMES("pc"), .categories = none, .verbs = VERBS_FULL,
     .generation = GENERATION_NOT_METADATA, .unconditional_update = true, .fields = none},
    {.group = "events.k8s.io",
     .version = "v1",
     .plural = "events",
     .singular = "event",
     .kind = "Event",
     .list_kind = "EventList",
     .short_names = NAMES("ev"),
     .categories = none,
     .namespaced = true,
     .verbs = VERBS_FULL,
     .unconditional_update = true,
     .create_on_update = true,
     .ttl_s = 3600,
     .storage_group = "",
     .storage_version = "v1",
     .storage_plural = "events",
     .fields = NAMES("regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
                     "regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type")},
    REVIEW("authentication.k8s.io", "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"),
    REVIEW("authentication.k8s.io", "tokenreviews", "tokenreview", "TokenReview"),
    {.group = "authorization.k8s.io",
     .version = "v1",
     .storage_group = "authorization.k8s.io",
     .storage_version = "v1",
     STORED("localsubjectaccessreviews"),
     .singular = "localsubjectaccessreview",
     .kind = "LocalSubjectAccessReview",
     .list_kind = "LocalSubjectAccessReviewList",
     .short_names = none,
     .categories = none,
     .namespaced = true,
     .verbs = VERB_CREATE,
     .fields = none},
    REVIEW("authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"),
    REVIEW("authorization.k8s.io", "selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"),
    REVIEW("authorization.k8s.io", "subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview"),
    {.group = "coordination.k8s.io",
     .version = "v1",
     .storage_group = "coordination.k8s.io",
     .storage_version = "v1",
     STORED("leases"),
     .singular = "lease",
     .kind = "Lease",
     .list_kind = "LeaseList",
     .short_names = none,
     .categories = none,
     .namespaced = true,
     .verbs = VERBS_FULL,
     .create_on_update = true,
     .fields = none},
    {RBAC, STORED("clusterrolebindings"), .singular = "clusterrolebinding", .kind = "ClusterRoleBinding",
     .list_kind = "ClusterRoleBindingList"},
    {RBAC, STORED("clusterroles"), .singular = "clusterrole", .kind = "ClusterRole", .list_kind = "ClusterRoleList"},
    {RBAC, STORED("rolebindings"), .singular = "rolebinding", .kind = "RoleBinding", .list_kind = "RoleBindingList",
     .namespaced = true},
    {RBAC, STORED("roles"), .singular = "role", .kind = "Role", .list_kind = "RoleList", .namespaced = true},
    {.group = "apiextensions.k8s.io",
     .version = "v1",
     .storage_group = "apiextensions.k8s.io",
     .storage_version = "v1",
     STORED("customresourcedefinitions"),
     .singular = "customresourcedefinition",
     .kind = "CustomResourceDefinition",
     .list_kind = "CustomResourceDefinitionList",
     .short_names = NAMES("crd", "crds"),
     .categories = NAMES("api-extensions"),
     .verbs = VERBS_FULL,
     SUBRESOURCES(status_only),
     .name_rule = NAME_CRD,
     .generation = GENERATION_SPEC,
     .has_status = true,
     .fields = none},
};

/* ---- the register ----------------------------------------------------------------------------------------------- */

struct kinds {
    struct kind own[ARRAY_LEN(builtin)]; /* with their schema types */
    const struct kind **list;
    size_t count;
    uint64_t generation;
};

struct kinds *kinds_new(void) {
    struct kinds *ks = NEW(struct kinds);
    ks->list = xreallocarray(NULL, ARRAY_LEN(builtin), sizeof *ks->list);
    for (size_t i = 0; i < ARRAY_LEN(builtin); i++) {
        struct kind *k = &ks->own[i];
        *k = builtin[i];
        k->type = schema_find(k->group, k->version, k->kind);
        if (!k->type)
            panic("no schema for kind %s", k->kind);
        ks->list[ks->count++] = k;
    }
    return ks;
}

void kinds_free(struct kinds *ks) {
    if (!ks)
        return;
    for (size_t i = 0; i < ks->count; i++)
        kind_unref(ks->list[i]);
    free(ks->list);
    free(ks);
}

const struct kind *kinds_find(const struct kinds *ks, struct bytes group, struct bytes version, struct bytes plural) {
    for (size_t i = 0; i < ks->count; i++) {
        const struct kind *k = ks->list[i];
        if (bytes_eq_str(plural, k->plural) && bytes_eq_str(group, k->group) && bytes_eq_str(version, k->version))
            return k;
    }
    return NULL;
}

const struct kind *kinds_find_kind(const struct kinds *ks, struct bytes group, struct bytes version,
                                   struct bytes kind) {
    for (size_t i = 0; i < ks->count; i++) {
        const struct kind *k = ks->list[i];
        if (bytes_eq_str(kind, k->kind) && bytes_eq_str(group, k->group) && bytes_eq_str(version, k->version))
            return k;
    }
    return NULL;
}

size_t kinds_count(const struct kinds *ks) {
    return ks->count;
}
const struct kind *kinds_at(const struct kinds *ks, size_t i) {
    return i < ks->count ? ks->list[i] : NULL;
}
uint64_t kinds_generation(const struct kinds *ks) {
    return ks->generation;
}

/* Custom kinds stand behind the built-in ones: by group, version priority, plural. */
static int compare_custom(const void *pa, const void *pb) {
    const struct kind *a = *(const struct kind *const *)pa, *b = *(const struct kind *const *)pb;
    int c = strcmp(a->group, b->group);
    if (c == 0)
        c = crd_version_compare(a->version, b->version);
    return c ? c : strcmp(a->plural, b->plural);
}

static void remove_crd(struct kinds *ks, const char *crd_name) {
    size_t kept = 0;
    for (size_t i = 0; i < ks->count; i++) {
        if (ks->list[i]->custom && str_eq(crd_name_of(ks->list[i]), crd_name))
            kind_unref(ks->list[i]);
        else
            ks->list[kept++] = ks->list[i];
    }
    ks->generation += kept != ks->count;
    ks->count = kept;
}

void kinds_remove_crd(struct kinds *ks, const char *crd_name) {
    remove_crd(ks, crd_name);
}

/* ---- whose names are whose -------------------------------------------------------------------------------------- */

static bool takes_name(const struct kind *k, const char *name) {
    if (str_eq(name, k->plural) || str_eq(name, k->singular))
        return true;
    for (size_t i = 0; k->short_names[i]; i++)
        if (str_eq(name, k->short_names[i]))
            return true;
    return false;
}

/* The reason and message why the CRD's names cannot be accepted; NULL if they can. */
static const char *name_conflict(const struct kinds *ks, yyjson_val *crd, char message[256]) {
    yyjson_val *names = json_get(crd, "spec", "names");
    const char *group = json_str(crd, "spec", "group");
    static const struct {
        const char *key, *reason;
        bool kind;
    } checks[] = {
        {"plural", "PluralConflict", false},
        {"singular", "SingularConflict", false},
        {"kind", "KindConflict", true},
        {"listKind", "ListKindConflict", true},
    };
    for (size_t i = 0; i < ks->count; i++) {
        const struct kind *k = ks->list[i];
        if (!str_eq(group, k->group) || (k->custom && str_eq(crd_name_of(k), object_name(crd))))
            continue;
        for (size_t c = 0; c < ARRAY_LEN(checks); c++) {
            const char *name = json_str(names, checks[c].key);
            if (name && (checks[c].kind ? str_eq(name, k->kind) || str_eq(name, k->list_kind) : takes_name(k, name))) {
                snprintf(message, 256, "\"%.100s\" is already in use", name);
                return checks[c].reason;
            }
        }
        yyjson_arr_iter it = yyjson_arr_iter_with(json_get(names, "shortNames"));
        for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
            if (takes_name(k, yyjson_get_str(v))) {
                snprintf(message, 256, "\"%.100s\" is already in use", str_or(yyjson_get_str(v), ""));
                return "ShortNamesConflict";
            }
        }
    }
    return NULL;
}

int kinds_put_crd(struct kinds *ks, yyjson_val *crd, struct error *err) {
    const struct kind *versions[CRD_MAX_VERSIONS];
    const char *name = object_name(crd);
    char message[256];
    const char *conflict = name_conflict(ks, crd, message);
    if (conflict)
        return error_set(err, ERR_CONFLICT, "CustomResourceDefinition %s: %s: %s", name, conflict, message);
    for (size_t i = 0; i < ARRAY_LEN(builtin); i++) /* groups of ours are no place for others' kinds */
        if (str_eq(builtin[i].group, json_str(crd, "spec", "group")))
            return error_set(err, ERR_INVALID, "CustomResourceDefinition %s: group %s is built in", name,
                             builtin[i].group);
    size_t n = crd_kinds(crd, versions, ARRAY_LEN(versions));
    if (n == 0)
        return error_set(err, ERR_INVALID, "CustomResourceDefinition %s has no version that can be served", name);
    remove_crd(ks, name);
    ks->list = xreallocarray(ks->list, ks->count + n, sizeof *ks->list);
    memcpy(ks->list + ks->count, versions, n * sizeof *ks->list);
    ks->count += n;
    qsort(ks->list + ARRAY_LEN(builtin), ks->count - ARRAY_LEN(builtin), sizeof *ks->list, compare_custom);
    ks->generation++;
    return 0;
}

/* ---- status of a CRD -------------------------------------------------------------------------------------------- */

static void add_condition(yyjson_mut_doc *d, yyjson_mut_val *list, yyjson_val *crd, const char *type, bool is_true,
                          const char *reason, const char *message, int64_t now) {
    const char *status = is_true ? "True" : "False", *since = NULL;
    char text[RFC3339_SIZE];
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(crd, "status", "conditions"));
    for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(c, "type"), type) && str_eq(json_str(c, "status"), status))
            since = json_str(c, "lastTransitionTime");
    yyjson_mut_val *condition = yyjson_mut_arr_add_obj(d, list);
    json_set_str(d, condition, "type", type);
    json_set_str(d, condition, "status", status);
    json_set_str(d, condition, "lastTransitionTime", since ? since : rfc3339_seconds(now, text));
    json_set_str(d, condition, "reason", reason);
    json_set_str(d, condition, "message", message);
}

yyjson_mut_val *kinds_crd_status(const struct kinds *ks, yyjson_mut_doc *d, yyjson_val *crd, int64_t now) {
    char message[256];
    const char *conflict = name_conflict(ks, crd, message), *storage = NULL;
    yyjson_mut_val *status = yyjson_mut_obj(d), *conditions = yyjson_mut_arr(d);
    json_set(d, status, "conditions", conditions);
    add_condition(d, conditions, crd, "NamesAccepted", !conflict, conflict ? conflict : "NoConflicts",
                  conflict ? message : "no conflicts found", now);
    add_condition(d, conditions, crd, "Established", !conflict, conflict ? "NotAccepted" : "InitialNamesAccepted",
                  conflict ? "not all names are accepted" : "the initial names have been accepted", now);
    yyjson_val *names = json_get(crd, "spec", "names");
    json_set(d, status, "acceptedNames", conflict || !names ? yyjson_mut_obj(d) : yyjson_val_mut_copy(d, names));
    yyjson_mut_val *stored = yyjson_mut_arr(d);
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(crd, "status", "storedVersions"));
    yyjson_arr_iter versions = yyjson_arr_iter_with(json_get(crd, "spec", "versions"));
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&versions));)
        if (json_bool_or(json_get(v, "storage"), false))
            storage = json_str(v, "name");
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));) {
        yyjson_mut_arr_append(stored, yyjson_val_mut_copy(d, v));
        if (str_eq(yyjson_get_str(v), storage))
            storage = NULL;
    }
    if (storage)
        yyjson_mut_arr_add_strcpy(d, stored, storage);
    json_set(d, status, "storedVersions", stored);
    return status;
}

/* ---- one kind --------------------------------------------------------------------------------------------------- */

char *kind_resource_name(const struct kind *k) {
    return *k->group ? xasprintf("%s.%s", k->plural, k->group) : xstrdup(k->plural);
}

char *kind_api_version(const struct kind *k) {
    return *k->group ? xasprintf("%s/%s", k->group, k->version) : xstrdup(k->version);
}

const struct kind_subresource *kind_subresource(const struct kind *k, struct bytes name) {
    for (size_t i = 0; i < k->n_subresources; i++)
        if (bytes_eq_str(name, k->subresources[i].name))
            return &k->subresources[i];
    return NULL;
}

static void set_api_version(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *group, const char *version) {
    _cleanup_(free_p) char *text = *group ? xasprintf("%s/%s", group, version) : xstrdup(version);
    json_set_str(d, obj, "apiVersion", text);
}

static void move_members(yyjson_mut_val *from, yyjson_mut_val *to) {
    yyjson_mut_obj_iter it;
    while (yyjson_mut_obj_iter_init(from, &it)) {
        yyjson_mut_val *key = yyjson_mut_obj_iter_next(&it), *value = yyjson_mut_obj_iter_get_val(key);
        if (!key)
            break;
        yyjson_mut_obj_iter_remove(&it);
        yyjson_mut_obj_add(to, key, value);
    }
}

yyjson_mut_val *kind_decode(const struct kind *k, yyjson_mut_doc *d, yyjson_val *body, struct strlist *unknown,
                            struct error *err) {
    yyjson_mut_val *pruned =
        k->custom ? crd_schema_prune(k->schema, d, body, unknown, err) : schema_prune(d, k->type, body, unknown, err);
    if (!pruned)
        return NULL;
    yyjson_mut_val *out = yyjson_mut_obj(d), *metadata = yyjson_mut_obj_remove_key(pruned, "metadata");
    if (!yyjson_mut_is_obj(metadata))
        metadata = yyjson_mut_obj(d);
    json_remove(metadata, "managedFields"); /* kept apart: kube/ownership.h */
    json_remove(metadata, "selfLink");
    json_remove(pruned, "kind");
    json_remove(pruned, "apiVersion");
    json_set_str(d, out, "kind", k->kind);
    set_api_version(d, out, k->group, k->version);
    json_set(d, out, "metadata", metadata);
    move_members(pruned, out);
    return out;
}

/* ---- conversion ------------------------------------------------------------------------------------------------- */

/* The members of an Event that the two groups call differently. */
static const struct {
    const char *core, *events;
} event_names[] = {
    {"involvedObject", "regarding"},
    {"message", "note"},
    {"reportingComponent", "reportingController"},
    {"source", "deprecatedSource"},
    {"firstTimestamp", "deprecatedFirstTimestamp"},
    {"lastTimestamp", "deprecatedLastTimestamp"},
    {"count", "deprecatedCount"},
};

bool kind_needs_conversion(const struct kind *k) {
    return !str_eq(k->group, k->storage_group) || !str_eq(k->version, k->storage_version);
}

static void rename_event_members(yyjson_mut_doc *d, yyjson_mut_val *obj, bool to_core) {
    for (size_t i = 0; i < ARRAY_LEN(event_names); i++) {
        const char *from = to_core ? event_names[i].events : event_names[i].core;
        yyjson_mut_val *v = yyjson_mut_obj_remove_key(obj, from);
        if (v)
            json_set(d, obj, to_core ? event_names[i].core : event_names[i].events, v);
    }
}

void kind_to_stored(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj) {
    if (!kind_needs_conversion(k))
        return;
    set_api_version(d, obj, k->storage_group, k->storage_version);
    if (!k->custom)
        rename_event_members(d, obj, true);
}

void kind_from_stored(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj) {
    if (!kind_needs_conversion(k))
        return;
    set_api_version(d, obj, k->group, k->version);
    if (!k->custom)
        rename_event_members(d, obj, false);
}

/* ---- field selectors -------------------------------------------------------------------------------------------- */

bool kind_field_supported(const struct kind *k, const char *field) {
    if (str_eq(field, "metadata.name") || (k->namespaced && str_eq(field, "metadata.namespace")))
        return true;
    for (size_t i = 0; k->fields[i]; i++)
        if (str_eq(field, k->fields[i]))
            return true;
    return false;
}

/* Selectors have names of their own for some members. */
static const char *real_path(const char *field) {
    if (str_eq(field, "spec.host"))
        return "spec.nodeName";
    if (str_eq(field, "source"))
        return "source.component";
    if (str_eq(field, "status.successful"))
        return "status.succeeded";
    return field;
}

const char *kind_fields_get(void *kind_fields, const char *field) {
    struct kind_fields *f = kind_fields;
    struct bytes rest = bytes_str(real_path(field)), part;
    yyjson_val *v = f->object;
    bool more = true;
    if (str_eq(field, "status.podIPs")) {
        v = yyjson_arr_get_first(json_get(f->object, "status", "podIPs"));
        rest = BYTES_LIT("ip");
    }
    while (more) {
        struct bytes whole = rest;
        more = bytes_cut(whole, '.', &part, &rest);
        if (!more)
            part = whole;
        v = yyjson_obj_getn(v, part.ptr, part.len);
    }
    if (yyjson_is_str(v))
        return yyjson_get_str(v);
    if (yyjson_is_int(v)) {
        snprintf(f->text, sizeof f->text, "%lld", (long long)yyjson_get_sint(v));
        return f->text;
    }
    /* Booleans that are absent are false. */
    if (yyjson_is_bool(v) || str_eq(field, "spec.unschedulable") || str_eq(field, "spec.hostNetwork"))
        return yyjson_get_bool(v) ? "true" : "false";
    return "";
}
