#include "apiserver/table_cells.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

static const char *created(yyjson_val *o) {
    return json_str(o, "metadata", "creationTimestamp");
}

static const char *or_none(const char *s) {
    return str_or(s, "<none>");
}

/* ---- Pod -------------------------------------------------------------------------------------------------------- */

struct pod_summary {
    int64_t ready, total, restarts;
    const char *last_restart; /* the latest end of a container */
    char status[300];
};

static yyjson_val *condition(yyjson_val *o, const char *type) {
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "status", "conditions"));
    for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(c, "type"), type))
            return c;
    return NULL;
}

static yyjson_val *by_name(yyjson_val *list, const char *name) {
    yyjson_arr_iter it = yyjson_arr_iter_with(list);
    for (yyjson_val *v; name && (v = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(v, "name"), name))
            return v;
    return NULL;
}

static void count_restarts(struct pod_summary *s, yyjson_val *status) {
    const char *end = json_str(status, "lastState", "terminated", "finishedAt");
    s->restarts += json_int_or(json_get(status, "restartCount"), 0);
    if (end && (!s->last_restart || strcmp(end, s->last_restart) > 0)) /* RFC 3339 in UTC sorts as text */
        s->last_restart = end;
}

/* "OOMKilled", "Signal:9", "ExitCode:1" */
static void describe_end(char *out, size_t size, const char *prefix, yyjson_val *terminated) {
    const char *reason = json_str(terminated, "reason");
    int64_t number = json_int_or(json_get(terminated, "signal"), 0);
    if (!str_empty(reason))
        snprintf(out, size, "%s%.200s", prefix, reason);
    else if (number)
        snprintf(out, size, "%sSignal:%lld", prefix, (long long)number);
    else
        snprintf(out, size, "%sExitCode:%lld", prefix, (long long)json_int_or(json_get(terminated, "exitCode"), 0));
}

/* true while init containers still determine the status. */
static bool describe_init(struct pod_summary *s, yyjson_val *o) {
    yyjson_val *specs = json_get(o, "spec", "initContainers"),
               *statuses = json_get(o, "status", "initContainerStatuses");
    size_t i = 0, n = yyjson_arr_size(specs);
    struct pod_summary sidecars = {0};
    bool initializing = false;
    yyjson_arr_iter it = yyjson_arr_iter_with(statuses);
    for (yyjson_val *c; (c = yyjson_arr_iter_next(&it)); i++) {
        bool sidecar = str_eq(json_str(by_name(specs, json_str(c, "name")), "restartPolicy"), "Always");
        yyjson_val *terminated = json_get(c, "state", "terminated");
        const char *waiting = json_str(c, "state", "waiting", "reason");
        count_restarts(s, c);
        if (sidecar)
            count_restarts(&sidecars, c);
        if (terminated && json_int_or(json_get(terminated, "exitCode"), 0) == 0)
            continue;
        if (sidecar && json_bool_or(json_get(c, "started"), false)) {
            s->ready += json_bool_or(json_get(c, "ready"), false);
            continue;
        }
        if (terminated)
            describe_end(s->status, sizeof s->status, "Init:", terminated);
        else if (!str_empty(waiting) && !str_eq(waiting, "PodInitializing"))
            snprintf(s->status, sizeof s->status, "Init:%.200s", waiting);
        else
            snprintf(s->status, sizeof s->status, "Init:%zu/%zu", i, n);
        initializing = true;
        break;
    }
    if (!initializing) { /* from here on only containers that run again count, and sidecars */
        s->restarts = sidecars.restarts;
        s->last_restart = sidecars.last_restart;
    }
    return initializing;
}

static void describe_containers(struct pod_summary *s, yyjson_val *o) {
    bool running = false;
    yyjson_val *statuses = json_get(o, "status", "containerStatuses");
    for (size_t i = yyjson_arr_size(statuses); i-- > 0;) {
        yyjson_val *c = yyjson_arr_get(statuses, i), *terminated = json_get(c, "state", "terminated");
        const char *waiting = json_str(c, "state", "waiting", "reason");
        bool ready = json_bool_or(json_get(c, "ready"), false);
        count_restarts(s, c);
        if (!str_empty(waiting))
            snprintf(s->status, sizeof s->status, "%.200s", waiting);
        else if (terminated)
            describe_end(s->status, sizeof s->status, "", terminated);
        else if (ready && json_get(c, "state", "running")) {
            running = true;
            s->ready++;
        }
    }
    if (str_eq(s->status, "Completed") && running)
        snprintf(s->status, sizeof s->status, "%s",
                 str_eq(json_str(condition(o, "Ready"), "status"), "True") ? "Running" : "NotReady");
}

static void summarize_pod(struct pod_summary *s, yyjson_val *o) {
    const char *phase = str_or(json_str(o, "status", "phase"), ""), *reason = json_str(o, "status", "reason");
    *s = (struct pod_summary){.total = (int64_t)yyjson_arr_size(json_get(o, "spec", "containers"))};
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "spec", "initContainers"));
    for (yyjson_val *c; (c = yyjson_arr_iter_next(&it));)
        s->total += str_eq(json_str(c, "restartPolicy"), "Always");
    snprintf(s->status, sizeof s->status, "%.200s", str_or(reason, phase));
    if (str_eq(json_str(condition(o, "PodScheduled"), "reason"), "SchedulingGated"))
        snprintf(s->status, sizeof s->status, "SchedulingGated");
    if (!describe_init(s, o) || str_eq(json_str(condition(o, "Initialized"), "status"), "True"))
        describe_containers(s, o);
    if (!object_deleting(o) || str_eq(phase, "Succeeded") || str_eq(phase, "Failed"))
        return;
    snprintf(s->status, sizeof s->status, str_eq(reason, "NodeLost") ? "Unknown" : "Terminating");
}

static void readiness_gates(struct cells *c, yyjson_val *o) {
    yyjson_val *gates = json_get(o, "spec", "readinessGates");
    size_t ready = 0;
    char text[64];
    if (yyjson_arr_size(gates) == 0) {
        cell_str(c, "<none>");
        return;
    }
    yyjson_arr_iter it = yyjson_arr_iter_with(gates);
    for (yyjson_val *g; (g = yyjson_arr_iter_next(&it));)
        ready += str_eq(json_str(condition(o, json_str(g, "conditionType")), "status"), "True");
    snprintf(text, sizeof text, "%zu/%zu", ready, yyjson_arr_size(gates));
    cell_str(c, text);
}

static void pod_cells(struct cells *c, yyjson_val *o) {
    struct pod_summary s;
    char text[128], age[TABLE_DURATION_SIZE];
    int64_t ns;
    summarize_pod(&s, o);
    cell_str(c, object_name(o));
    snprintf(text, sizeof text, "%lld/%lld", (long long)s.ready, (long long)s.total);
    cell_str(c, text);
    cell_str(c, s.status);
    snprintf(text, sizeof text, "%lld", (long long)s.restarts);
    if (s.restarts && s.last_restart && rfc3339_parse(bytes_str(s.last_restart), &ns) == 0)
        snprintf(text, sizeof text, "%lld (%s ago)", (long long)s.restarts,
                 table_duration(c->now - ns / 1000000000, age));
    cell_str(c, text);
    cell_age(c, created(o));
    const char *ip = json_str(yyjson_arr_get_first(json_get(o, "status", "podIPs")), "ip");
    cell_str(c, or_none(str_or(ip, json_str(o, "status", "podIP"))));
    cell_str(c, or_none(json_str(o, "spec", "nodeName")));
    cell_str(c, or_none(json_str(o, "status", "nominatedNodeName")));
    readiness_gates(c, o);
}

/* ---- Node ------------------------------------------------------------------------------------------------------- */

static void node_roles(struct cells *c, yyjson_val *o) {
    static const char prefix[] = "node-role.kubernetes.io/";
    struct strlist roles = {0};
    _cleanup_(buf_free) struct buf text = BUF_INIT(4096);
    yyjson_obj_iter it = yyjson_obj_iter_with(object_labels(o));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        const char *name = yyjson_get_str(key), *value = yyjson_get_str(yyjson_obj_iter_get_val(key)), *role = NULL;
        if (str_starts_with(name, prefix))
            role = name + sizeof prefix - 1;
        else if (str_eq(name, "kubernetes.io/role"))
            role = value;
        if (!str_empty(role) && !strlist_has(&roles, role))
            strlist_add(&roles, role);
    }
    strlist_sort(&roles);
    for (size_t i = 0; i < roles.count; i++)
        buf_addf(&text, "%s%s", i ? "," : "", roles.items[i]);
    strlist_free(&roles);
    cell_str(c, or_none(text.ptr));
}

static const char *node_address(yyjson_val *o, const char *type) {
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, "status", "addresses"));
    for (yyjson_val *a; (a = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(a, "type"), type))
            return or_none(json_str(a, "address"));
    return "<none>";
}

static void node_cells(struct cells *c, yyjson_val *o) {
    const char *ready = json_str(condition(o, "Ready"), "status");
    char status[64];
    snprintf(status, sizeof status, "%s%s",
             !ready                  ? "Unknown"
             : str_eq(ready, "True") ? "Ready"
                                     : "NotReady",
             json_bool_or(json_get(o, "spec", "unschedulable"), false) ? ",SchedulingDisabled" : "");
    cell_str(c, object_name(o));
    cell_str(c, status);
    node_roles(c, o);
    cell_age(c, created(o));
    cell_str(c, str_or(json_str(o, "status", "nodeInfo", "kubeletVersion"), ""));
    cell_str(c, node_address(o, "InternalIP"));
    cell_str(c, node_address(o, "ExternalIP"));
    cell_str(c, str_or(json_str(o, "status", "nodeInfo", "osImage"), "<unknown>"));
    cell_str(c, str_or(json_str(o, "status", "nodeInfo", "kernelVersion"), "<unknown>"));
    cell_str(c, str_or(json_str(o, "status", "nodeInfo", "containerRuntimeVersion"), "<unknown>"));
}

/* ---- the others ------------------------------------------------------------------------------------------------- */

static void namespace_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_str(c, str_or(json_str(o, "status", "phase"), ""));
    cell_age(c, created(o));
}

static void configmap_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_int(c, (int64_t)(yyjson_obj_size(json_get(o, "data")) + yyjson_obj_size(json_get(o, "binaryData"))));
    cell_age(c, created(o));
}

static void secret_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_str(c, str_or(json_str(o, "type"), ""));
    cell_int(c, (int64_t)yyjson_obj_size(json_get(o, "data")));
    cell_age(c, created(o));
}

static void name_age_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_age(c, created(o));
}

static void lease_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_str(c, str_or(json_str(o, "spec", "holderIdentity"), ""));
    cell_age(c, created(o));
}

static void crd_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_str(c, str_or(created(o), "<unknown>"));
}

/* core and events.k8s.io name some members differently. */
static yyjson_val *event_get(yyjson_val *o, const char *core, const char *events) {
    yyjson_val *v = yyjson_obj_get(o, core);
    return v ? v : yyjson_obj_get(o, events);
}

static const char *event_str(yyjson_val *o, const char *core, const char *events) {
    return yyjson_get_str(event_get(o, core, events));
}

static void event_cells(struct cells *c, yyjson_val *o) {
    yyjson_val *about = event_get(o, "involvedObject", "regarding"),
               *source = event_get(o, "source", "deprecatedSource");
    yyjson_val *series = yyjson_obj_get(o, "series");
    const char *event_time = json_str(o, "eventTime"),
               *first = event_str(o, "firstTimestamp", "deprecatedFirstTimestamp"),
               *last = event_str(o, "lastTimestamp", "deprecatedLastTimestamp");
    int64_t count = json_int_or(event_get(o, "count", "deprecatedCount"), 0);
    _cleanup_(buf_free) struct buf text = BUF_INIT(8192);
    if (series)
        last = str_or(json_str(series, "lastObservedTime"), last);
    cell_age(c, str_or(last, str_or(event_time, first)));
    cell_str(c, str_or(json_str(o, "type"), ""));
    cell_str(c, str_or(json_str(o, "reason"), ""));
    for (const char *p = str_or(json_str(about, "kind"), ""); *p; p++)
        buf_add_char(&text, *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p);
    buf_addf(&text, "/%s", str_or(json_str(about, "name"), ""));
    cell_str(c, str_or(text.ptr, ""));
    cell_str(c, str_or(json_str(about, "fieldPath"), ""));
    buf_clear(&text);
    buf_add_str(&text, str_or(json_str(source, "component"),
                              str_or(event_str(o, "reportingComponent", "reportingController"), "")));
    if (!str_empty(json_str(source, "host")))
        buf_addf(&text, ", %s", json_str(source, "host"));
    cell_str(c, text.ptr ? text.ptr : "");
    struct bytes message = bytes_trim(bytes_str(str_or(event_str(o, "message", "note"), "")));
    _cleanup_(free_p) char *trimmed = bytes_dup(message);
    cell_str(c, trimmed);
    cell_age(c, str_or(first, event_time));
    cell_int(c, series ? json_int_or(json_get(series, "count"), count) : count > 0 ? count : 1);
    cell_str(c, object_name(o));
}

/* ---- RBAC ------------------------------------------------------------------------------------------------------- */

static void role_cells(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
    cell_str(c, created(o));
}

/* The subjects of one kind, separated by commas. */
static void subjects_cell(struct cells *c, yyjson_val *o, const char *kind) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(64u << 10);
    size_t i, n;
    yyjson_val *s;
    yyjson_arr_foreach (json_get(o, "subjects"), i, n, s) {
        const char *name = str_or(json_str(s, "name"), ""), *ns = json_str(s, "namespace");
        if (str_eq(json_str(s, "kind"), kind))
            buf_addf(&text, "%s%s%s%s", text.len ? ", " : "", str_or(ns, ""), ns ? "/" : "", name);
    }
    cell_str(c, str_or(text.ptr, ""));
}

static void binding_cells(struct cells *c, yyjson_val *o) {
    _cleanup_(free_p) char *role =
        xasprintf("%s/%s", str_or(json_str(o, "roleRef", "kind"), ""), str_or(json_str(o, "roleRef", "name"), ""));
    cell_str(c, object_name(o));
    cell_str(c, role);
    cell_age(c, created(o));
    subjects_cell(c, o, "User");
    subjects_cell(c, o, "Group");
    subjects_cell(c, o, "ServiceAccount");
}

/* ---- layouts ---------------------------------------------------------------------------------------------------- */

static const struct table_column pod_columns[] = {
    TABLE_NAME,
    {"Ready", "string", "", "How many of the containers are ready.", 0},
    {"Status", "string", "", "The state of the pod in one word.", 0},
    {"Restarts", "string", "", "How often containers were restarted, and when last.", 0},
    TABLE_AGE,
    {"IP", "string", "", "The pod's address.", 1},
    {"Node", "string", "", "The node it runs on.", 1},
    {"Nominated Node", "string", "", "The node it may be moved to.", 1},
    {"Readiness Gates", "string", "", "How many of the readiness gates are passed.", 1},
};
static const struct table_column node_columns[] = {
    TABLE_NAME,
    {"Status", "string", "", "Whether the node is ready and schedulable.", 0},
    {"Roles", "string", "", "From the labels node-role.kubernetes.io/<role>.", 0},
    TABLE_AGE,
    {"Version", "string", "", "The agent's version.", 0},
    {"Internal-IP", "string", "", "The first internal address.", 1},
    {"External-IP", "string", "", "The first external address.", 1},
    {"OS-Image", "string", "", "The operating system.", 1},
    {"Kernel-Version", "string", "", "The kernel.", 1},
    {"Container-Runtime", "string", "", "The container runtime and its version.", 1},
};
static const struct table_column namespace_columns[] = {
    TABLE_NAME, {"Status", "string", "", "Active or Terminating.", 0}, TABLE_AGE};
static const struct table_column configmap_columns[] = {
    TABLE_NAME, {"Data", "integer", "", "How many keys it has.", 0}, TABLE_AGE};
static const struct table_column secret_columns[] = {TABLE_NAME,
                                                     {"Type", "string", "", "The type of the data.", 0},
                                                     {"Data", "integer", "", "How many keys it has.", 0},
                                                     TABLE_AGE};
static const struct table_column name_age_columns[] = {TABLE_NAME, TABLE_AGE};
static const struct table_column lease_columns[] = {
    TABLE_NAME, {"Holder", "string", "", "Who holds the lease.", 0}, TABLE_AGE};
static const struct table_column crd_columns[] = {TABLE_NAME, {"Created At", "date", "", "When it was created.", 0}};
static const struct table_column role_columns[] = {TABLE_NAME, {"Created At", "date", "", "When it was created.", 0}};
static const struct table_column binding_columns[] = {
    TABLE_NAME,
    {"Role", "string", "", "What it grants.", 0},
    TABLE_AGE,
    {"Users", "string", "", "The users that have the role.", 1},
    {"Groups", "string", "", "The groups that have the role.", 1},
    {"ServiceAccounts", "string", "", "The service accounts that have the role.", 1},
};
static const struct table_column event_columns[] = {
    {"Last Seen", "string", "", "Time since it was seen last.", 0},
    {"Type", "string", "", "Normal or Warning.", 0},
    {"Reason", "string", "", "Why it happened, in one word.", 0},
    {"Object", "string", "", "What it is about.", 0},
    {"Subobject", "string", "", "Which part of the object.", 1},
    {"Source", "string", "", "Who reported it.", 1},
    {"Message", "string", "", "What happened.", 0},
    {"First Seen", "string", "", "Time since it was seen first.", 1},
    {"Count", "integer", "", "How often it was seen.", 1},
    {"Name", "string", "name", "The name of the event itself.", 1},
};

static const struct table_layout layouts[] = {
    TABLE_LAYOUT("", "pods", pod),
    TABLE_LAYOUT("", "nodes", node),
    TABLE_LAYOUT("", "namespaces", namespace),
    TABLE_LAYOUT("", "configmaps", configmap),
    TABLE_LAYOUT("", "secrets", secret),
    TABLE_LAYOUT("", "serviceaccounts", name_age),
    TABLE_LAYOUT("", "events", event),
    TABLE_LAYOUT("events.k8s.io", "events", event),
    TABLE_LAYOUT("coordination.k8s.io", "leases", lease),
    TABLE_LAYOUT("rbac.authorization.k8s.io", "roles", role),
    TABLE_LAYOUT("rbac.authorization.k8s.io", "clusterroles", role),
    TABLE_LAYOUT("rbac.authorization.k8s.io", "rolebindings", binding),
    TABLE_LAYOUT("rbac.authorization.k8s.io", "clusterrolebindings", binding),
    TABLE_LAYOUT("apiextensions.k8s.io", "customresourcedefinitions", crd),
};

const struct table_layout *table_layout_of(const struct kind *k) {
    for (size_t i = 0; !k->custom && i < ARRAY_LEN(layouts); i++)
        if (str_eq(layouts[i].plural, k->plural) && str_eq(layouts[i].group, k->group))
            return &layouts[i];
    for (size_t i = 0; !k->custom && i < workload_layouts_count; i++)
        if (str_eq(workload_layouts[i].plural, k->plural) && str_eq(workload_layouts[i].group, k->group))
            return &workload_layouts[i];
    return NULL;
}
