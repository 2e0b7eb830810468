/* Pods: what users notice (embedded-api.md 5.3). */
#include "apiserver/validate_kinds.h"
#include "base/str.h"
#include "kube/quantity.h"

struct pod_check {
    yyjson_val *spec;
    struct field_errors *errors;
    struct buf path;
    struct strlist containers, ports;
};

static void required(struct pod_check *p, yyjson_val *o, const char *name) {
    size_t len = field_path_push(&p->path, name);
    if (str_empty(json_str(o, name)))
        field_errors_add(p->errors, FIELD_REQUIRED, field_path_text(&p->path), "%s", "");
    field_path_pop(&p->path, len);
}

static void one_of(struct pod_check *p, yyjson_val *o, const char *name, const char *const *allowed) {
    const char *value = json_str(o, name);
    if (!value)
        return;
    for (size_t i = 0; allowed[i]; i++)
        if (str_eq(value, allowed[i]))
            return;
    size_t len = field_path_push(&p->path, name);
    field_errors_unsupported(p->errors, field_path_text(&p->path), value, allowed);
    field_path_pop(&p->path, len);
}

static void invalid(struct pod_check *p, const char *name, yyjson_val *value, enum field_error_type type,
                    const char *why) {
    size_t len = field_path_push(&p->path, name);
    field_errors_value(p->errors, type, field_path_text(&p->path), value, why);
    field_path_pop(&p->path, len);
}

/* Calls check with the path at each element of a list. */
static void each(struct pod_check *p, yyjson_val *o, const char *name,
                 void (*check)(struct pod_check *p, yyjson_val *e)) {
    size_t len = field_path_push(&p->path, name), i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, name));
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&it)); i++) {
        size_t inner = field_path_index(&p->path, i);
        check(p, e);
        field_path_pop(&p->path, inner);
    }
    field_path_pop(&p->path, len);
}

/* Elements must differ in this member. */
static void unique(struct pod_check *p, yyjson_val *o, const char *list, const char *member) {
    struct strlist seen = {0};
    size_t len = field_path_push(&p->path, list), i = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(o, list));
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&it)) && i < 1000; i++) {
        const char *value = json_str(e, member);
        if (str_empty(value))
            continue;
        size_t inner = field_path_index(&p->path, i);
        if (strlist_has(&seen, value))
            invalid(p, member, json_get(e, member), FIELD_DUPLICATE, "");
        strlist_add(&seen, value);
        field_path_pop(&p->path, inner);
    }
    field_path_pop(&p->path, len);
    strlist_free(&seen);
}

/* ---- containers ------------------------------------------------------------------------------------------------- */

static void check_port_number(struct pod_check *p, yyjson_val *port, const char *name, bool optional) {
    yyjson_val *value = json_get(port, name);
    int64_t n = json_int_or(value, 0);
    if (optional && n == 0)
        return;
    if (n < 1 || n > 65535)
        invalid(p, name, value, FIELD_INVALID, "must be between 1 and 65535, inclusive");
}

static void check_port(struct pod_check *p, yyjson_val *port) {
    static const char *const protocols[] = {"SCTP", "TCP", "UDP", NULL};
    const char *name = json_str(port, "name");
    check_port_number(p, port, "containerPort", false);
    check_port_number(p, port, "hostPort", true);
    one_of(p, port, "protocol", protocols);
    if (!str_empty(name) && (!dns_label_valid(bytes_str(name)) || strlen(name) > 15))
        invalid(p, "name", json_get(port, "name"), FIELD_INVALID, "must be a lowercase name of at most 15 characters");
    int64_t host_port = json_int_or(json_get(port, "hostPort"), 0);
    if (host_port == 0)
        return;
    _cleanup_(free_p) char *key = xasprintf("%s/%s/%lld", str_or(json_str(port, "hostIP"), ""),
                                            str_or(json_str(port, "protocol"), "TCP"), (long long)host_port);
    if (strlist_has(&p->ports, key))
        invalid(p, "hostPort", json_get(port, "hostPort"), FIELD_DUPLICATE, "");
    strlist_add(&p->ports, key);
}

static bool env_name_valid(const char *s) {
    if (str_empty(s))
        return false;
    for (const char *c = s; *c; c++) /* as Kubernetes 1.30: printable ASCII but = */
        if (*c <= ' ' || *c >= 0x7f || *c == '=')
            return false;
    return true;
}

static void check_env(struct pod_check *p, yyjson_val *env) {
    const char *name = json_str(env, "name");
    if (str_empty(name))
        required(p, env, "name");
    else if (!env_name_valid(name))
        invalid(p, "name", json_get(env, "name"), FIELD_INVALID, "must be printable characters other than '='");
    yyjson_val *from = json_get(env, "valueFrom");
    if (from && !str_empty(json_str(env, "value")))
        invalid(p, "valueFrom", NULL, FIELD_INVALID, "may not be specified when `value` is not empty");
    if (from && yyjson_obj_size(from) != 1)
        invalid(p, "valueFrom", from, FIELD_INVALID, "must specify exactly one source");
}

static bool has_volume(struct pod_check *p, const char *name) {
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(p->spec, "volumes"));
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(v, "name"), name))
            return true;
    return false;
}

static void check_mount(struct pod_check *p, yyjson_val *mount) {
    const char *name = json_str(mount, "name");
    required(p, mount, "name");
    required(p, mount, "mountPath");
    if (!str_empty(name) && !has_volume(p, name))
        invalid(p, "name", json_get(mount, "name"), FIELD_NOT_FOUND, "");
    const char *sub = json_str(mount, "subPath");
    if (sub && (sub[0] == '/' || strstr(sub, "..")))
        invalid(p, "subPath", json_get(mount, "subPath"), FIELD_INVALID, "must be a relative path without '..'");
}

static void check_resources(struct pod_check *p, yyjson_val *container) {
    yyjson_val *limits = json_get(container, "resources", "limits");
    static const char *const lists[] = {"limits", "requests"};
    size_t len = field_path_push(&p->path, "resources");
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        size_t list = field_path_push(&p->path, lists[i]);
        yyjson_obj_iter it = yyjson_obj_iter_with(json_get(container, "resources", lists[i]));
        for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
            yyjson_val *value = yyjson_obj_iter_get_val(key), *limit = yyjson_obj_get(limits, yyjson_get_str(key));
            struct quantity q, l;
            size_t inner = field_path_key(&p->path, yyjson_get_str(key));
            if (!qualified_name_valid(bytes_str(yyjson_get_str(key))))
                field_errors_value(p->errors, FIELD_INVALID, field_path_text(&p->path), key, "must be a resource name");
            if (quantity_parse(bytes_str(yyjson_get_str(value)), &q, NULL) < 0 || q.nano < 0)
                field_errors_value(p->errors, FIELD_INVALID, field_path_text(&p->path), value,
                                   "must be greater than or equal to 0");
            else if (i == 1 && limit && quantity_parse(bytes_str(yyjson_get_str(limit)), &l, NULL) == 0 &&
                     quantity_cmp(q, l) > 0) {
                _cleanup_(free_p) char *why = xasprintf("must be less than or equal to %s limit of %s",
                                                        yyjson_get_str(key), yyjson_get_str(limit));
                field_path_pop(&p->path, list);
                size_t at = field_path_push(&p->path, "requests");
                field_errors_value(p->errors, FIELD_INVALID, field_path_text(&p->path), value, why);
                field_path_pop(&p->path, at);
                field_path_push(&p->path, lists[i]);
                continue;
            }
            field_path_pop(&p->path, inner);
        }
        field_path_pop(&p->path, list);
    }
    field_path_pop(&p->path, len);
}

static void check_probe(struct pod_check *p, yyjson_val *container, const char *name) {
    static const char *const handlers[] = {"exec", "httpGet", "tcpSocket", "grpc"};
    static const char *const numbers[] = {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
                                          "failureThreshold"};
    yyjson_val *probe = json_get(container, name);
    size_t given = 0;
    if (!probe)
        return;
    size_t len = field_path_push(&p->path, name);
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++)
        given += json_get(probe, handlers[i]) != NULL;
    if (given == 0)
        field_errors_add(p->errors, FIELD_REQUIRED, field_path_text(&p->path), "must specify a handler type");
    else if (given > 1)
        field_errors_add(p->errors, FIELD_FORBIDDEN, field_path_text(&p->path),
                         "may not specify more than 1 handler type");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (json_int_or(json_get(probe, numbers[i]), 0) < 0)
            invalid(p, numbers[i], json_get(probe, numbers[i]), FIELD_INVALID, "must be greater than or equal to 0");
    field_path_pop(&p->path, len);
}

static void check_container(struct pod_check *p, yyjson_val *c) {
    static const char *const pull_policies[] = {"Always", "IfNotPresent", "Never", NULL};
    static const char *const message_policies[] = {"FallbackToLogsOnError", "File", NULL};
    const char *name = json_str(c, "name"), *image = json_str(c, "image");
    if (str_empty(name))
        required(p, c, "name");
    else if (!dns_label_valid(bytes_str(name)))
        invalid(p, "name", json_get(c, "name"), FIELD_INVALID, "must be a lowercase RFC 1123 label");
    else if (strlist_has(&p->containers, name))
        invalid(p, "name", json_get(c, "name"), FIELD_DUPLICATE, "");
    else
        strlist_add(&p->containers, name);
    if (str_empty(image))
        required(p, c, "image");
    else if (bytes_trim(bytes_str(image)).len != strlen(image))
        invalid(p, "image", json_get(c, "image"), FIELD_INVALID, "must not have leading or trailing whitespace");
    one_of(p, c, "imagePullPolicy", pull_policies);
    one_of(p, c, "terminationMessagePolicy", message_policies);
    each(p, c, "ports", check_port);
    unique(p, c, "ports", "name");
    each(p, c, "env", check_env);
    each(p, c, "volumeMounts", check_mount);
    unique(p, c, "volumeMounts", "mountPath");
    check_resources(p, c);
    check_probe(p, c, "livenessProbe");
    check_probe(p, c, "readinessProbe");
    check_probe(p, c, "startupProbe");
}

/* ---- volumes and the rest --------------------------------------------------------------------------------------- */

static void check_volume(struct pod_check *p, yyjson_val *v) {
    const char *name = json_str(v, "name");
    if (str_empty(name))
        required(p, v, "name");
    else if (!dns_label_valid(bytes_str(name)))
        invalid(p, "name", json_get(v, "name"), FIELD_INVALID, "must be a lowercase RFC 1123 label");
    if (yyjson_obj_size(v) > 2)
        field_errors_add(p->errors, FIELD_FORBIDDEN, field_path_text(&p->path),
                         "may not specify more than 1 volume type");
    if (json_get(v, "hostPath") && str_empty(json_str(v, "hostPath", "path"))) {
        size_t len = field_path_push(&p->path, "hostPath");
        required(p, json_get(v, "hostPath"), "path");
        field_path_pop(&p->path, len);
    }
    if (json_get(v, "secret") && str_empty(json_str(v, "secret", "secretName"))) {
        size_t len = field_path_push(&p->path, "secret");
        required(p, json_get(v, "secret"), "secretName");
        field_path_pop(&p->path, len);
    }
    if (json_get(v, "configMap") && str_empty(json_str(v, "configMap", "name"))) {
        size_t len = field_path_push(&p->path, "configMap");
        required(p, json_get(v, "configMap"), "name");
        field_path_pop(&p->path, len);
    }
}

static void check_toleration(struct pod_check *p, yyjson_val *t) {
    static const char *const operators[] = {"", "Equal", "Exists", NULL};
    static const char *const effects[] = {"", "NoExecute", "NoSchedule", "PreferNoSchedule", NULL};
    one_of(p, t, "operator", operators);
    one_of(p, t, "effect", effects);
    if (str_eq(json_str(t, "operator"), "Exists") && !str_empty(json_str(t, "value")))
        invalid(p, "value", json_get(t, "value"), FIELD_INVALID, "value must be empty when `operator` is 'Exists'");
    if (str_empty(json_str(t, "key")) && !str_eq(json_str(t, "operator"), "Exists"))
        invalid(p, "operator", json_get(t, "operator"), FIELD_INVALID,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
}

static void check_spec(struct pod_check *p) {
    static const char *const restart[] = {"Always", "Never", "OnFailure", NULL};
    static const char *const dns[] = {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None", NULL};
    yyjson_val *grace = json_get(p->spec, "terminationGracePeriodSeconds"),
               *deadline = json_get(p->spec, "activeDeadlineSeconds");
    if (yyjson_arr_size(json_get(p->spec, "containers")) == 0) {
        size_t len = field_path_push(&p->path, "containers");
        field_errors_add(p->errors, FIELD_REQUIRED, field_path_text(&p->path), "%s", "");
        field_path_pop(&p->path, len);
    }
    each(p, p->spec, "volumes", check_volume);
    unique(p, p->spec, "volumes", "name");
    each(p, p->spec, "initContainers", check_container);
    each(p, p->spec, "containers", check_container);
    each(p, p->spec, "tolerations", check_toleration);
    one_of(p, p->spec, "restartPolicy", restart);
    one_of(p, p->spec, "dnsPolicy", dns);
    if (json_int_or(grace, 0) < 0)
        invalid(p, "terminationGracePeriodSeconds", grace, FIELD_INVALID, "must be greater than or equal to 0");
    if (deadline && json_int_or(deadline, 1) < 1)
        invalid(p, "activeDeadlineSeconds", deadline, FIELD_INVALID, "must be greater than 0");
    const char *node = json_str(p->spec, "nodeName"), *account = json_str(p->spec, "serviceAccountName");
    if (!str_empty(node) && !dns_subdomain_valid(bytes_str(node)))
        invalid(p, "nodeName", json_get(p->spec, "nodeName"), FIELD_INVALID, "must be a node's name");
    if (!str_empty(account) && !dns_subdomain_valid(bytes_str(account)))
        invalid(p, "serviceAccountName", json_get(p->spec, "serviceAccountName"), FIELD_INVALID,
                "must be a service account's name");
    yyjson_obj_iter it = yyjson_obj_iter_with(json_get(p->spec, "nodeSelector"));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
        if (!qualified_name_valid(bytes_str(yyjson_get_str(key))) ||
            !label_value_valid(bytes_str(yyjson_get_str(yyjson_obj_iter_get_val(key)))))
            invalid(p, "nodeSelector", key, FIELD_INVALID, "must be a label's key and value");
}

void validate_pod_spec(yyjson_val *spec, const char *path, struct field_errors *e) {
    struct pod_check p = {.spec = spec, .errors = e, .path = BUF_INIT(PATH_MAX_LEN)};
    buf_add_str(&p.path, path);
    check_spec(&p);
    strlist_free(&p.containers);
    strlist_free(&p.ports);
    buf_free(&p.path);
}

void validate_pod(yyjson_val *o, struct field_errors *e) {
    validate_pod_spec(json_get(o, "spec"), "spec", e);
}

/* ---- updates ---------------------------------------------------------------------------------------------------- */

/* Puts the old images into the new containers, so that only the rest is compared. */
static void keep_images(yyjson_mut_doc *d, yyjson_mut_val *spec, yyjson_val *old, const char *list) {
    yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(yyjson_mut_obj_get(spec, list));
    yyjson_arr_iter before = yyjson_arr_iter_with(json_get(old, list));
    for (yyjson_mut_val *c; (c = yyjson_mut_arr_iter_next(&it));) {
        yyjson_val *o = yyjson_arr_iter_next(&before);
        if (o && json_str(o, "image"))
            json_set_str(d, c, "image", json_str(o, "image"));
    }
}

static void keep(yyjson_mut_doc *d, yyjson_mut_val *spec, yyjson_val *old, const char *member) {
    yyjson_val *before = json_get(old, member);
    if (before)
        json_set(d, spec, member, yyjson_val_mut_copy(d, before));
    else
        json_remove(spec, member);
}

/* Every old element is still there. */
static bool only_adds(yyjson_val *now, yyjson_val *before) {
    yyjson_arr_iter it = yyjson_arr_iter_with(before);
    for (yyjson_val *b; (b = yyjson_arr_iter_next(&it));) {
        bool found = false;
        yyjson_arr_iter inner = yyjson_arr_iter_with(now);
        for (yyjson_val *n; !found && (n = yyjson_arr_iter_next(&inner));)
            found = json_equal(n, b);
        if (!found)
            return false;
    }
    return true;
}

void validate_pod_update(yyjson_val *o, yyjson_val *old, struct field_errors *e) {
    yyjson_val *now = json_get(o, "spec"), *before = json_get(old, "spec");
    yyjson_val *deadline = json_get(now, "activeDeadlineSeconds"),
               *old_deadline = json_get(before, "activeDeadlineSeconds");
    if (same_value(now, before))
        return;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *rest = yyjson_val_mut_copy(d, now), *base = yyjson_val_mut_copy(d, before);
    if (!rest || !base)
        return;
    keep_images(d, rest, before, "containers");
    keep_images(d, rest, before, "initContainers");
    if (only_adds(json_get(now, "tolerations"), json_get(before, "tolerations")))
        keep(d, rest, before, "tolerations");
    if (deadline && (!old_deadline || json_int_or(deadline, 0) <= json_int_or(old_deadline, 0)))
        keep(d, rest, before, "activeDeadlineSeconds");
    if (only_adds(json_get(before, "schedulingGates"), json_get(now, "schedulingGates")))
        keep(d, rest, before, "schedulingGates");
    if (json_int_or(json_get(before, "terminationGracePeriodSeconds"), 0) < 0 &&
        json_int_or(json_get(now, "terminationGracePeriodSeconds"), 0) == 1)
        keep(d, rest, before, "terminationGracePeriodSeconds");
    if (!json_mut_equal(rest, base))
        field_errors_add(
            e, FIELD_FORBIDDEN, "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
            "to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it "
            "was previously negative)");
}
