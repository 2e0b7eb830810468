#include "edge/edged/pod_status.h"

#include "base/clock.h"
#include "edge/edged/resources.h"

#define MESSAGE_MAX_BYTES 4096

struct builder {
    const struct status_input *in;
    yyjson_mut_doc *doc;
    yyjson_mut_val *status;
    const char *phase;
};

bool phase_is_final(const char *phase) {
    return str_eq(phase, "Succeeded") || str_eq(phase, "Failed");
}

/* ---- what each container's entry says ---- */

enum shown { SHOWN_WAITING, SHOWN_RUNNING, SHOWN_TERMINATED };

static enum shown shown_state(const struct container_view *v) {
    if (!v->current)
        return SHOWN_WAITING;
    switch (v->current->state) {
    case RT_RUNNING:
        return SHOWN_RUNNING;
    case RT_EXITED:
        return v->waiting_reason ? SHOWN_WAITING : SHOWN_TERMINATED;
    default:
        return SHOWN_WAITING;
    }
}

/* The instance that lastState tells of. */
static const struct rt_container *last_ended(const struct container_view *v) {
    const struct rt_container *c = v->last;
    if (v->current && v->current->state == RT_EXITED && shown_state(v) == SHOWN_WAITING)
        c = v->current;
    return c && c->state == RT_EXITED ? c : NULL;
}

static bool container_ready(const struct container_view *v) {
    if (v->role == ROLE_EPHEMERAL)
        return false;
    if (v->role == ROLE_INIT)
        return shown_state(v) == SHOWN_TERMINATED && v->current->exit_code == 0;
    return shown_state(v) == SHOWN_RUNNING && v->ready;
}

static bool container_started(const struct container_view *v) {
    return shown_state(v) == SHOWN_RUNNING && (v->role == ROLE_INIT || v->started);
}

static void set_time(struct builder *b, yyjson_mut_val *o, const char *key, int64_t ns) {
    char text[RFC3339_SIZE];
    if (ns > 0) /* a container that could not be started has no startedAt */
        json_set_str(b->doc, o, key, rfc3339_seconds(ns / 1000000000, text));
}

static void set_id(struct builder *b, yyjson_mut_val *o, const struct rt_container *c) {
    _cleanup_(free_p) char *id = xasprintf("%s://%s", b->in->runtime_name, c->id);
    json_set_str(b->doc, o, "containerID", id);
}

static const char *exit_reason(const struct rt_container *c) {
    return str_or(c->reason, c->exit_code == 0 ? "Completed" : "Error");
}

static yyjson_mut_val *terminated(struct builder *b, const struct rt_container *c) {
    yyjson_mut_val *outer = yyjson_mut_obj(b->doc), *t = yyjson_mut_obj(b->doc);
    json_set(b->doc, outer, "terminated", t);
    set_id(b, t, c);
    json_set_int(b->doc, t, "exitCode", c->exit_code);
    set_time(b, t, "finishedAt", c->finished_ns);
    if (!str_empty(c->message)) {
        _cleanup_(free_p) char *cut = xstrndup(c->message, MESSAGE_MAX_BYTES);
        json_set_str(b->doc, t, "message", cut);
    }
    json_set_str(b->doc, t, "reason", exit_reason(c));
    set_time(b, t, "startedAt", c->started_ns);
    return outer;
}

/* Containers wait for the init containers, or just to be made. */
static const char *default_waiting(const struct builder *b, const struct container_view *v) {
    if (v->role == ROLE_EPHEMERAL)
        return "ContainerCreating";
    if (v->role != ROLE_MAIN)
        return "PodInitializing";
    for (size_t i = 0; i < b->in->n_views; i++)
        if (b->in->views[i].role != ROLE_MAIN)
            return "PodInitializing";
    return "ContainerCreating";
}

static yyjson_mut_val *waiting(struct builder *b, const struct container_view *v) {
    yyjson_mut_val *outer = yyjson_mut_obj(b->doc), *w = yyjson_mut_obj(b->doc);
    json_set(b->doc, outer, "waiting", w);
    if (!str_empty(v->waiting_message))
        json_set_str(b->doc, w, "message", v->waiting_message);
    json_set_str(b->doc, w, "reason", v->waiting_reason ? v->waiting_reason : default_waiting(b, v));
    return outer;
}

static yyjson_mut_val *running(struct builder *b, const struct rt_container *c) {
    yyjson_mut_val *outer = yyjson_mut_obj(b->doc), *r = yyjson_mut_obj(b->doc);
    json_set(b->doc, outer, "running", r);
    set_time(b, r, "startedAt", c->started_ns);
    return outer;
}

static yyjson_mut_val *container_status(struct builder *b, const struct container_view *v) {
    yyjson_mut_val *o = yyjson_mut_obj(b->doc);
    const struct rt_container *c = v->current, *last = last_ended(v);
    if (c)
        set_id(b, o, c);
    json_set_str(b->doc, o, "image", c && !str_empty(c->image) ? c->image : str_or(json_str(v->spec, "image"), ""));
    json_set_str(b->doc, o, "imageID", c ? str_or(c->image_id, "") : "");
    json_set(b->doc, o, "lastState", last ? terminated(b, last) : yyjson_mut_obj(b->doc));
    json_set_str(b->doc, o, "name", json_str(v->spec, "name"));
    json_set_bool(b->doc, o, "ready", container_ready(v));
    json_set_int(b->doc, o, "restartCount", c ? c->restarts : 0);
    json_set_bool(b->doc, o, "started", container_started(v));
    enum shown s = shown_state(v);
    json_set(b->doc, o, "state",
             s == SHOWN_RUNNING      ? running(b, c)
             : s == SHOWN_TERMINATED ? terminated(b, c)
                                     : waiting(b, v));
    return o;
}

/* ---- phase ---- */

static bool any_main_started(const struct status_input *in) {
    for (size_t i = 0; i < in->n_views; i++) {
        const struct container_view *v = &in->views[i];
        if (v->role == ROLE_MAIN && (shown_state(v) != SHOWN_WAITING || last_ended(v)))
            return true;
    }
    return false;
}

static void count_init(const struct status_input *in, int *pending, int *failed) {
    for (size_t i = 0; i < in->n_views; i++) {
        const struct container_view *v = &in->views[i];
        if (v->role == ROLE_MAIN)
            continue;
        enum shown s = shown_state(v);
        const struct rt_container *last = last_ended(v);
        if (v->role == ROLE_SIDECAR)
            *pending += s != SHOWN_RUNNING && !last && s != SHOWN_TERMINATED;
        else if (s == SHOWN_TERMINATED)
            *failed += v->current->exit_code != 0;
        else if (s == SHOWN_WAITING && last && last->exit_code != 0)
            (*failed)++;
        else
            (*pending)++;
    }
}

const char *pod_phase(const struct status_input *in) {
    if (in->failed_reason)
        return "Failed";
    const char *policy = pod_restart_policy(in->pod);
    int pending = 0, failed = 0, waiting = 0, run = 0, stopped = 0, succeeded = 0;
    count_init(in, &pending, &failed);
    for (size_t i = 0; i < in->n_views; i++) {
        const struct container_view *v = &in->views[i];
        if (v->role != ROLE_MAIN)
            continue;
        enum shown s = shown_state(v);
        if (s == SHOWN_RUNNING)
            run++;
        else if (s == SHOWN_TERMINATED) {
            stopped++;
            succeeded += v->current->exit_code == 0;
        } else if (last_ended(v))
            stopped++;
        else
            waiting++;
    }
    if (failed > 0 && str_eq(policy, "Never"))
        return "Failed";
    if (in->ended)
        return stopped > 0 && waiting == 0 && stopped == succeeded ? "Succeeded" : "Failed";
    if (((pending > 0 || failed > 0) && !any_main_started(in)) || waiting > 0)
        return "Pending";
    if (run > 0 || str_eq(policy, "Always"))
        return "Running";
    if (stopped == succeeded)
        return "Succeeded";
    return str_eq(policy, "Never") ? "Failed" : "Running";
}

/* ---- conditions ---- */

struct condition {
    const char *type;
    bool status;
    const char *reason;
    char *message; /* owned */
};

static yyjson_mut_val *old_condition(yyjson_mut_val *list, const char *type) {
    size_t i, max;
    yyjson_mut_val *c;
    yyjson_mut_arr_foreach (list, i, max, c) {
        if (str_eq(json_mut_str(c, "type"), type))
            return c;
    }
    return NULL;
}

static void set_condition(struct builder *b, yyjson_mut_val *list, struct condition *n) {
    const char *status = n->status ? "True" : "False";
    yyjson_mut_val *c = old_condition(list, n->type);
    if (!c) {
        c = yyjson_mut_obj(b->doc);
        json_set(b->doc, c, "lastProbeTime", yyjson_mut_null(b->doc));
        yyjson_mut_arr_append(list, c);
    }
    const char *since = json_mut_str(c, "lastTransitionTime");
    if (!str_eq(json_mut_str(c, "status"), status) || str_empty(since)) {
        char now[RFC3339_SIZE];
        json_set_str(b->doc, c, "lastTransitionTime", rfc3339_seconds(b->in->now_s, now));
    }
    if (n->message)
        json_set_str(b->doc, c, "message", n->message);
    else
        json_remove(c, "message");
    if (n->reason)
        json_set_str(b->doc, c, "reason", n->reason);
    else
        json_remove(c, "reason");
    json_set_str(b->doc, c, "status", status);
    json_set_str(b->doc, c, "type", n->type);
    free(TAKE(n->message));
}

/* "containers with unready status: [a b]"; NULL if there is none. */
static char *name_list(const struct status_input *in, const char *text, bool init,
                       bool (*bad)(const struct container_view *)) {
    struct buf out = BUF_INIT(65536);
    for (size_t i = 0; i < in->n_views; i++) {
        const struct container_view *v = &in->views[i];
        bool counts = init ? v->role != ROLE_MAIN : v->role != ROLE_INIT;
        if (!counts || !bad(v))
            continue;
        buf_addf(&out, "%s%s", out.len ? " " : "", json_str(v->spec, "name"));
    }
    char *message = out.len ? xasprintf("%s: [%s]", text, out.ptr) : NULL;
    buf_free(&out);
    return message;
}

static bool not_ready(const struct container_view *v) {
    return !container_ready(v);
}

static bool not_initialized(const struct container_view *v) {
    return v->role == ROLE_SIDECAR ? !container_started(v) : !container_ready(v);
}

static char *missing_gate(const struct builder *b, yyjson_mut_val *list) {
    size_t i, max;
    yyjson_val *g;
    yyjson_arr_foreach (yyjson_obj_get(b->in->pod->spec, "readinessGates"), i, max, g) {
        const char *type = str_or(json_str(g, "conditionType"), "");
        yyjson_mut_val *c = old_condition(list, type);
        if (!c)
            return xasprintf("corresponding condition of pod readiness gate \"%s\" does not exist.", type);
        if (!str_eq(json_mut_str(c, "status"), "True"))
            return xasprintf("the status of pod readiness gate \"%s\" is not \"True\", but %s", type,
                             str_or(json_mut_str(c, "status"), ""));
    }
    return NULL;
}

static void build_conditions(struct builder *b) {
    const struct status_input *in = b->in;
    yyjson_mut_val *list = json_ensure_arr(b->doc, b->status, "conditions");
    struct condition sandbox = {"PodReadyToStartContainers", in->sandbox_ready, NULL, NULL};
    struct condition init = {"Initialized", true, NULL, NULL}, containers = {"ContainersReady", true, NULL, NULL};
    struct condition ready = {"Ready", true, NULL, NULL}, scheduled = {"PodScheduled", true, NULL, NULL};
    if (str_eq(b->phase, "Succeeded")) {
        init.reason = "PodCompleted";
    } else if (!any_main_started(in)) {
        init.message = name_list(in, "containers with incomplete status", true, not_initialized);
        init.status = !init.message;
        init.reason = init.message ? "ContainersNotInitialized" : NULL;
    }
    if (phase_is_final(b->phase)) {
        containers.status = false;
        containers.reason = str_eq(b->phase, "Succeeded") ? "PodCompleted" : "PodFailed";
    } else {
        containers.message = name_list(in, "containers with unready status", false, not_ready);
        containers.status = !containers.message;
        containers.reason = containers.message ? "ContainersNotReady" : NULL;
    }
    ready.status = containers.status;
    ready.reason = containers.reason;
    ready.message = xstrdup_null(containers.message);
    char *gate = containers.status ? missing_gate(b, list) : NULL;
    if (gate) {
        ready.status = false;
        ready.reason = "ReadinessGatesNotReady";
        ready.message = gate;
    }
    set_condition(b, list, &sandbox);
    set_condition(b, list, &init);
    set_condition(b, list, &ready);
    set_condition(b, list, &containers);
    set_condition(b, list, &scheduled);
}

/* ---- the whole ---- */

static void set_ips(struct builder *b, const struct strlist *ips, const char *one, const char *many) {
    if (ips->count == 0)
        return;
    json_set_str(b->doc, b->status, one, ips->items[0]);
    yyjson_mut_val *list = yyjson_mut_arr(b->doc);
    for (size_t i = 0; i < ips->count; i++) {
        yyjson_mut_val *o = yyjson_mut_obj(b->doc);
        json_set_str(b->doc, o, "ip", ips->items[i]);
        yyjson_mut_arr_append(list, o);
    }
    json_set(b->doc, b->status, many, list);
}

static void set_containers(struct builder *b, const char *key, bool init) {
    yyjson_mut_val *list = yyjson_mut_arr(b->doc);
    for (size_t i = 0; i < b->in->n_views; i++)
        if ((b->in->views[i].role != ROLE_MAIN) == init)
            yyjson_mut_arr_append(list, container_status(b, &b->in->views[i]));
    if (yyjson_mut_arr_size(list) > 0)
        json_set(b->doc, b->status, key, list);
}

static void set_ephemeral(struct builder *b) {
    yyjson_mut_val *list = yyjson_mut_arr(b->doc);
    for (size_t i = 0; i < b->in->n_ephemeral; i++)
        yyjson_mut_arr_append(list, container_status(b, &b->in->ephemeral[i]));
    if (b->in->n_ephemeral > 0)
        json_set(b->doc, b->status, "ephemeralContainerStatuses", list);
}

yyjson_mut_doc *pod_status_build(const struct status_input *in) {
    struct builder b = {.in = in, .doc = yyjson_mut_doc_new(NULL), .phase = pod_phase(in)};
    b.status = yyjson_is_obj(in->old_status) ? yyjson_val_mut_copy(b.doc, in->old_status) : yyjson_mut_obj(b.doc);
    yyjson_mut_doc_set_root(b.doc, b.status);
    build_conditions(&b);
    set_containers(&b, "containerStatuses", false);
    set_containers(&b, "initContainerStatuses", true);
    set_ephemeral(&b);
    set_ips(&b, &in->node->host_ips, "hostIP", "hostIPs");
    set_ips(&b, in->pod_ips, "podIP", "podIPs");
    if (in->failed_reason) {
        json_set_str(b.doc, b.status, "reason", in->failed_reason);
        json_set_str(b.doc, b.status, "message", str_or(in->failed_message, ""));
    }
    json_set_str(b.doc, b.status, "phase", b.phase);
    json_set_str(b.doc, b.status, "qosClass", pod_qos_name(pod_qos(in->pod)));
    if (str_empty(json_mut_str(b.status, "startTime"))) {
        char text[RFC3339_SIZE];
        json_set_str(b.doc, b.status, "startTime", rfc3339_seconds(in->start_s, text));
    }
    return b.doc;
}
