/* Rows of what runs pods, and of Services (embedded-api.md 5.2). */
#include "apiserver/table_cells.h"

#include "apiserver/table.h"
#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/selector.h"

#define CELL_MAX (64u << 10)

static int64_t number(yyjson_val *o, const char *part, const char *key) {
    return json_int_or(json_get(o, part, key), 0);
}

static void name_cell(struct cells *c, yyjson_val *o) {
    cell_str(c, object_name(o));
}

static void age_cell(struct cells *c, yyjson_val *o) {
    cell_age(c, json_str(o, "metadata", "creationTimestamp"));
}

/* "k=v,..." of a map; "<none>" where it is empty. */
static void map_cell(struct cells *c, yyjson_val *map) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(CELL_MAX);
    size_t i, n;
    yyjson_val *k, *v;
    yyjson_obj_foreach (map, i, n, k, v)
        buf_addf(&text, "%s%s=%s", i ? "," : "", yyjson_get_str(k), str_or(yyjson_get_str(v), ""));
    cell_str(c, text.len ? text.ptr : "<none>");
}

static void add_expression(struct buf *text, yyjson_val *r) {
    const char *key = str_or(json_str(r, "key"), ""), *op = str_or(json_str(r, "operator"), "");
    size_t i, n;
    yyjson_val *v;
    if (str_eq(op, "Exists") || str_eq(op, "DoesNotExist")) {
        buf_addf(text, "%s%s", str_eq(op, "Exists") ? "" : "!", key);
        return;
    }
    buf_addf(text, "%s %s (", key, str_eq(op, "In") ? "in" : "notin");
    yyjson_arr_foreach (json_get(r, "values"), i, n, v)
        buf_addf(text, "%s%s", i ? "," : "", str_or(yyjson_get_str(v), ""));
    buf_add_str(text, ")");
}

void table_selector_text(yyjson_val *selector, struct buf *out) {
    size_t i, n;
    yyjson_val *k, *v;
    bool any = false;
    yyjson_obj_foreach (json_get(selector, "matchLabels"), i, n, k, v) {
        buf_addf(out, "%s%s=%s", any ? "," : "", yyjson_get_str(k), str_or(yyjson_get_str(v), ""));
        any = true;
    }
    yyjson_arr_foreach (json_get(selector, "matchExpressions"), i, n, v) {
        buf_add_str(out, any ? "," : "");
        add_expression(out, v);
        any = true;
    }
}

/* Containers, images, selector: the wide columns. */
static void template_cells(struct cells *c, yyjson_val *o) {
    static const char *const members[] = {"name", "image"};
    for (size_t m = 0; m < ARRAY_LEN(members); m++) {
        _cleanup_(buf_free) struct buf text = BUF_INIT(CELL_MAX);
        size_t i, n;
        yyjson_val *container;
        yyjson_arr_foreach (json_get(o, "spec", "template", "spec", "containers"), i, n, container)
            buf_addf(&text, "%s%s", i ? "," : "", str_or(json_str(container, members[m]), ""));
        cell_str(c, str_or(text.ptr, ""));
    }
    _cleanup_(buf_free) struct buf selector = BUF_INIT(CELL_MAX);
    table_selector_text(json_get(o, "spec", "selector"), &selector);
    cell_str(c, str_or(selector.ptr, "<none>"));
}

#define TEMPLATE_COLUMNS                                                                       \
    {"Containers", "string", "", "Names of each container in the template.", 1},               \
        {"Images", "string", "", "Images referenced by each container in the template.", 1}, { \
        "Selector", "string", "", "What the pods are found by.", 1                             \
    }

/* ---- workloads ---- */

static const struct table_column deployment_columns[] = {
    TABLE_NAME,
    {"Ready", "string", "", "Number of the pod with ready state", 0},
    {"Up-to-date", "string", "", "How many pods have the current template.", 0},
    {"Available", "string", "", "How many pods have been ready for long enough.", 0},
    TABLE_AGE,
    TEMPLATE_COLUMNS,
};

static void deployment_cells(struct cells *c, yyjson_val *o) {
    char ready[64];
    name_cell(c, o);
    snprintf(ready, sizeof ready, "%lld/%lld", (long long)number(o, "status", "readyReplicas"),
             (long long)number(o, "spec", "replicas"));
    cell_str(c, ready);
    cell_int(c, number(o, "status", "updatedReplicas"));
    cell_int(c, number(o, "status", "availableReplicas"));
    age_cell(c, o);
    template_cells(c, o);
}

static const struct table_column replicaset_columns[] = {
    TABLE_NAME,
    {"Desired", "integer", "", "How many pods there should be.", 0},
    {"Current", "integer", "", "How many pods there are.", 0},
    {"Ready", "integer", "", "How many of them are ready.", 0},
    TABLE_AGE,
    TEMPLATE_COLUMNS,
};

static void replicaset_cells(struct cells *c, yyjson_val *o) {
    name_cell(c, o);
    cell_int(c, number(o, "spec", "replicas"));
    cell_int(c, number(o, "status", "replicas"));
    cell_int(c, number(o, "status", "readyReplicas"));
    age_cell(c, o);
    template_cells(c, o);
}

static const struct table_column daemonset_columns[] = {
    TABLE_NAME,
    {"Desired", "integer", "", "How many nodes should run the pod.", 0},
    {"Current", "integer", "", "How many of them have one.", 0},
    {"Ready", "integer", "", "How many of those are ready.", 0},
    {"Up-to-date", "integer", "", "How many nodes have the current template.", 0},
    {"Available", "integer", "", "How many have been ready for long enough.", 0},
    {"Node Selector", "string", "", "Which nodes run it.", 0},
    TABLE_AGE,
    TEMPLATE_COLUMNS,
};

static void daemonset_cells(struct cells *c, yyjson_val *o) {
    name_cell(c, o);
    cell_int(c, number(o, "status", "desiredNumberScheduled"));
    cell_int(c, number(o, "status", "currentNumberScheduled"));
    cell_int(c, number(o, "status", "numberReady"));
    cell_int(c, number(o, "status", "updatedNumberScheduled"));
    cell_int(c, number(o, "status", "numberAvailable"));
    map_cell(c, json_get(o, "spec", "template", "spec", "nodeSelector"));
    age_cell(c, o);
    template_cells(c, o);
}

static const struct table_column revision_columns[] = {
    TABLE_NAME,
    {"Controller", "string", "", "Whose template it keeps.", 0},
    {"Revision", "string", "", "Its number.", 0},
    TABLE_AGE,
};

static void revision_cells(struct cells *c, yyjson_val *o) {
    static const char unknown[] = "<none>";
    size_t i, n;
    yyjson_val *ref, *owner = NULL;
    yyjson_arr_foreach (json_get(o, "metadata", "ownerReferences"), i, n, ref)
        if (json_bool_or(json_get(ref, "controller"), false))
            owner = ref;
    name_cell(c, o);
    _cleanup_(buf_free) struct buf text = BUF_INIT(CELL_MAX);
    if (owner) {
        struct bytes version = bytes_str(str_or(json_str(owner, "apiVersion"), "")), group;
        bool grouped = bytes_cut(version, '/', &group, NULL);
        for (const char *p = str_or(json_str(owner, "kind"), ""); *p; p++)
            buf_add_char(&text, *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p);
        if (grouped)
            buf_addf(&text, ".%.*s", (int)group.len, group.ptr);
        buf_addf(&text, "/%s", str_or(json_str(owner, "name"), ""));
    }
    cell_str(c, owner ? text.ptr : unknown);
    cell_int(c, json_int_or(json_get(o, "revision"), 0));
    age_cell(c, o);
}

static const struct table_column job_columns[] = {
    TABLE_NAME,
    {"Status", "string", "", "Running, or how it ended.", 0},
    {"Completions", "string", "", "How many pods succeeded, of how many.", 0},
    {"Duration", "string", "", "How long it took, or takes.", 0},
    TABLE_AGE,
    TEMPLATE_COLUMNS,
};

static const char *job_status(yyjson_val *o) {
    static const char *const order[] = {"Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"};
    for (size_t t = 0; t < ARRAY_LEN(order); t++) {
        size_t i, n;
        yyjson_val *condition;
        if (t == 3 && object_deleting(o))
            return "Terminating";
        yyjson_arr_foreach (json_get(o, "status", "conditions"), i, n, condition)
            if (str_eq(json_str(condition, "type"), order[t]) && str_eq(json_str(condition, "status"), "True"))
                return order[t];
    }
    return "Running";
}

static void job_cells(struct cells *c, yyjson_val *o) {
    char text[96], duration[TABLE_DURATION_SIZE];
    int64_t start = 0, end = c->now, ns;
    yyjson_val *completions = json_get(o, "spec", "completions");
    const char *started = json_str(o, "status", "startTime"), *ended = json_str(o, "status", "completionTime");
    int64_t succeeded = number(o, "status", "succeeded"), parallelism = number(o, "spec", "parallelism");
    name_cell(c, o);
    cell_str(c, job_status(o));
    if (completions)
        snprintf(text, sizeof text, "%lld/%lld", (long long)succeeded, (long long)json_int_or(completions, 0));
    else if (parallelism > 1)
        snprintf(text, sizeof text, "%lld/1 of %lld", (long long)succeeded, (long long)parallelism);
    else
        snprintf(text, sizeof text, "%lld/1", (long long)succeeded);
    cell_str(c, text);
    if (started && rfc3339_parse(bytes_str(started), &ns) == 0) {
        start = ns / 1000000000;
        if (ended && rfc3339_parse(bytes_str(ended), &ns) == 0)
            end = ns / 1000000000;
        cell_str(c, table_duration(end - start, duration));
    } else {
        cell_str(c, "");
    }
    age_cell(c, o);
    template_cells(c, o);
}

/* ---- Services ---- */

static const struct table_column service_columns[] = {
    TABLE_NAME,
    {"Type", "string", "", "How it is reached.", 0},
    {"Cluster-IP", "string", "", "Its address in the cluster.", 0},
    {"External-IP", "string", "", "Its address outside.", 0},
    {"Port(s)", "string", "", "Its ports.", 0},
    TABLE_AGE,
    {"Selector", "string", "", "Which pods it leads to.", 1},
};

static void external_cell(struct cells *c, yyjson_val *o) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(CELL_MAX);
    const char *type = json_str(o, "spec", "type");
    bool balanced = str_eq(type, "LoadBalancer");
    size_t i, n;
    yyjson_val *v;
    if (str_eq(type, "ExternalName")) {
        cell_str(c, str_or(json_str(o, "spec", "externalName"), "<none>"));
        return;
    }
    yyjson_arr_foreach (json_get(o, "status", "loadBalancer", "ingress"), i, n, v)
        buf_addf(&text, "%s%s", text.len ? "," : "", str_or(json_str(v, "ip"), str_or(json_str(v, "hostname"), "")));
    yyjson_arr_foreach (json_get(o, "spec", "externalIPs"), i, n, v)
        buf_addf(&text, "%s%s", text.len ? "," : "", str_or(yyjson_get_str(v), ""));
    cell_str(c, text.len ? text.ptr : balanced ? "<pending>" : "<none>");
}

static void service_cells(struct cells *c, yyjson_val *o) {
    _cleanup_(buf_free) struct buf ports = BUF_INIT(CELL_MAX);
    size_t i, n;
    yyjson_val *p;
    name_cell(c, o);
    cell_str(c, str_or(json_str(o, "spec", "type"), ""));
    cell_str(c, str_or(json_str(o, "spec", "clusterIP"), "<none>"));
    external_cell(c, o);
    yyjson_arr_foreach (json_get(o, "spec", "ports"), i, n, p) {
        int64_t node_port = json_int_or(json_get(p, "nodePort"), 0);
        buf_addf(&ports, "%s%lld", i ? "," : "", (long long)json_int_or(json_get(p, "port"), 0));
        if (node_port)
            buf_addf(&ports, ":%lld", (long long)node_port);
        buf_addf(&ports, "/%s", str_or(json_str(p, "protocol"), "TCP"));
    }
    cell_str(c, ports.len ? ports.ptr : "<none>");
    age_cell(c, o);
    map_cell(c, json_get(o, "spec", "selector"));
}

#define ENDPOINTS_SHOWN 3

static void more_cell(struct cells *c, struct buf *text, size_t count) {
    if (count > ENDPOINTS_SHOWN)
        buf_addf(text, " + %zu more...", count - ENDPOINTS_SHOWN);
    cell_str(c, count ? text->ptr : "<none>");
}

static const struct table_column endpoints_columns[] = {
    TABLE_NAME, {"Endpoints", "string", "", "Where the service leads to.", 0}, TABLE_AGE};

static void endpoints_cells(struct cells *c, yyjson_val *o) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(CELL_MAX);
    size_t count = 0, s, s_n, p, p_n, a, a_n;
    yyjson_val *subset, *port, *address;
    name_cell(c, o);
    yyjson_arr_foreach (json_get(o, "subsets"), s, s_n, subset)
        yyjson_arr_foreach (json_get(subset, "ports"), p, p_n, port)
            yyjson_arr_foreach (json_get(subset, "addresses"), a, a_n, address)
                if (count++ < ENDPOINTS_SHOWN)
                    buf_addf(&text, "%s%s:%lld", text.len ? "," : "", str_or(json_str(address, "ip"), ""),
                             (long long)json_int_or(json_get(port, "port"), 0));
    more_cell(c, &text, count);
    age_cell(c, o);
}

static const struct table_column slice_columns[] = {
    TABLE_NAME,
    {"AddressType", "string", "", "What its addresses are.", 0},
    {"Ports", "string", "", "The ports of all its endpoints.", 0},
    {"Endpoints", "string", "", "Its endpoints' addresses.", 0},
    TABLE_AGE,
};

static void slice_cells(struct cells *c, yyjson_val *o) {
    _cleanup_(buf_free) struct buf ports = BUF_INIT(CELL_MAX), text = BUF_INIT(CELL_MAX);
    size_t count = 0, i, n, a, a_n;
    yyjson_val *v, *address;
    name_cell(c, o);
    cell_str(c, str_or(json_str(o, "addressType"), ""));
    yyjson_arr_foreach (json_get(o, "ports"), i, n, v)
        buf_addf(&ports, "%s%lld", i ? "," : "", (long long)json_int_or(json_get(v, "port"), 0));
    cell_str(c, ports.len ? ports.ptr : "<unset>");
    yyjson_arr_foreach (json_get(o, "endpoints"), i, n, v)
        yyjson_arr_foreach (json_get(v, "addresses"), a, a_n, address)
            if (count++ < ENDPOINTS_SHOWN)
                buf_addf(&text, "%s%s", text.len ? "," : "", str_or(yyjson_get_str(address), ""));
    more_cell(c, &text, count);
    age_cell(c, o);
}

/* ---- the others ---- */

static void amount_cell(struct cells *c, yyjson_val *v) {
    char text[32];
    if (yyjson_is_int(v)) {
        snprintf(text, sizeof text, "%lld", (long long)json_int_or(v, 0));
        cell_str(c, text);
    } else {
        cell_str(c, str_or(yyjson_get_str(v), "N/A"));
    }
}

static const struct table_column budget_columns[] = {
    TABLE_NAME,
    {"Min Available", "string", "", "How many pods must stay available.", 0},
    {"Max Unavailable", "string", "", "How many pods may be missing.", 0},
    {"Allowed Disruptions", "integer", "", "How many may be evicted now.", 0},
    TABLE_AGE,
};

static void budget_cells(struct cells *c, yyjson_val *o) {
    name_cell(c, o);
    amount_cell(c, json_get(o, "spec", "minAvailable"));
    amount_cell(c, json_get(o, "spec", "maxUnavailable"));
    cell_int(c, number(o, "status", "disruptionsAllowed"));
    age_cell(c, o);
}

static const struct table_column priority_columns[] = {
    TABLE_NAME,
    {"Value", "integer", "", "The priority of pods that name the class.", 0},
    {"Global-Default", "boolean", "", "Whether pods that name no class get it.", 0},
    TABLE_AGE,
    {"PreemptionPolicy", "string", "", "Whether such pods may displace others.", 0},
};

static void priority_cells(struct cells *c, yyjson_val *o) {
    name_cell(c, o);
    cell_int(c, json_int_or(json_get(o, "value"), 0));
    cell_bool(c, json_bool_or(json_get(o, "globalDefault"), false));
    age_cell(c, o);
    cell_str(c, str_or(json_str(o, "preemptionPolicy"), ""));
}

const struct table_layout workload_layouts[] = {
    TABLE_LAYOUT("apps", "deployments", deployment),
    TABLE_LAYOUT("apps", "replicasets", replicaset),
    TABLE_LAYOUT("apps", "daemonsets", daemonset),
    TABLE_LAYOUT("apps", "controllerrevisions", revision),
    TABLE_LAYOUT("batch", "jobs", job),
    TABLE_LAYOUT("", "services", service),
    TABLE_LAYOUT("", "endpoints", endpoints),
    TABLE_LAYOUT("discovery.k8s.io", "endpointslices", slice),
    TABLE_LAYOUT("policy", "poddisruptionbudgets", budget),
    TABLE_LAYOUT("scheduling.k8s.io", "priorityclasses", priority),
};
const size_t workload_layouts_count = ARRAY_LEN(workload_layouts);
