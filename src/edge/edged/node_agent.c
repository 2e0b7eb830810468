#define LOG_COMPONENT "edged"

#include "edge/edged/node_agent.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/edged/node_lease.h"
#include "edge/edged/node_object.h"
#include "kube/object.h"

#define REQUEST_TIMEOUT_MS 10000

struct node_agent {
    struct loop *loop;
    struct pool *pool;
    struct bus *bus;
    const struct edged_config *config;
    struct node_view view;
    bool started, have_runtime, reading;
    struct node_facts *fresh; /* being read on the pool */
    bool freed;               /* by the owner while reading */

    yyjson_doc *stored;  /* the Node as the cloud last returned it, NULL: not known */
    bool unregistered;   /* the cloud has no such Node */
    bool whole;          /* the next patch carries everything: first one, or the link was down */
    bool labels_checked; /* since the link came up */
    bool urgent;         /* the runtime's state changed while a request was under way */
    int64_t reported_ms; /* monotonic time of the last patch */
    struct bus_request *request;
    struct timer *tick; /* the next look at the machine */
    struct timer *retry;
    struct backoff backoff;
    struct node_lease *lease;
    struct log_once trouble;
};

static void pursue(struct node_agent *n);

/* ---- facts, read on the pool ---- */

static void read_work(void *arg) {
    struct node_agent *n = arg;
    node_facts_read(n->config, n->fresh);
}

static void agent_destroy(struct node_agent *n) {
    node_view_free(&n->view);
    if (n->stored)
        yyjson_doc_free(n->stored);
    free(n->fresh);
    free(n);
}

static int64_t tick_ms(const struct node_agent *n) {
    int64_t ms = n->config->status_update_ms > 0 ? n->config->status_update_ms : 10000;
    return ms + (int64_t)random_below((uint64_t)ms / 25 + 1);
}

static void read_done(void *arg) {
    struct node_agent *n = arg;
    n->reading = false;
    if (n->freed) {
        agent_destroy(n);
        return;
    }
    n->view.facts = *n->fresh;
    timer_set(n->tick, tick_ms(n));
    pursue(n);
}

static void read_facts(void *arg) {
    struct node_agent *n = arg;
    if (n->reading)
        return;
    n->reading = true;
    pool_submit(n->pool, n->loop, read_work, read_done, n);
}

/* ---- requests ---- */

static void ask(struct node_agent *n, const char *operation, const char *type, const struct message_fields *content,
                void (*done)(void *, struct message *, const struct error *)) {
    _cleanup_(free_p) char *resource = xasprintf("null/%s/%s", type, n->config->node_name);
    struct message_fields f = *content;
    f.source = MODULE_EDGED;
    f.group = GROUP_META;
    f.operation = operation;
    f.resource = resource;
    n->request = bus_request(n->bus, MODULE_METAMANAGER, message_new(&f), REQUEST_TIMEOUT_MS, done, n);
}

static void try_again(struct node_agent *n, const char *doing, const char *why) {
    log_once_failed(&n->trouble, LOG_COMPONENT, "%s node=%s: %s; trying again", doing, n->config->node_name, why);
    timer_set(n->retry, backoff_next_ms(&n->backoff));
}

static void on_retry(void *arg) {
    pursue(arg);
}

static void keep_stored(struct node_agent *n, yyjson_val *object) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(d, yyjson_val_mut_copy(d, object));
    if (n->stored)
        yyjson_doc_free(n->stored);
    n->stored = yyjson_mut_doc_imut_copy(d, NULL);
    n->unregistered = false;
    if (*object_uid(object))
        node_lease_set_owner(n->lease, object_uid(object));
}

/* The Object of an Object/Err pair; else NULL with the API server's reason. */
static yyjson_val *accepted(const struct message *answer, const char **reason, const char **message) {
    yyjson_val *object = json_get(answer->content, "Object"), *error = json_get(answer->content, "Err"), *status;
    if (yyjson_is_obj(object) && (!error || yyjson_is_null(error)) && *object_name(object))
        return object;
    status = json_get(error, "ErrStatus") ? json_get(error, "ErrStatus") : json_get(answer->content, "ErrStatus");
    *reason = str_or(json_str(status, "reason"), "Unknown");
    *message = str_or(json_str(status, "message"), "the cloud gave no reason");
    return NULL;
}

/* True if there is an answer to look at. */
static bool arrived(struct node_agent *n, struct message *answer, const struct error *err, const char *doing) {
    n->request = NULL;
    if (!answer && err->code != ERR_UNAVAILABLE) /* without a link: EdgeHub tells, and we go on when it is back */
        try_again(n, doing, error_text(err));
    return answer != NULL;
}

static void succeeded(struct node_agent *n) {
    backoff_reset(&n->backoff);
    log_once_recovered(&n->trouble, LOG_COMPONENT, "the node is up to date in the cloud again node=%s",
                       n->config->node_name);
    n->reported_ms = clock_mono_ms();
}

static void queried(void *arg, struct message *answer, const struct error *err) {
    struct node_agent *n = arg;
    if (!arrived(n, answer, err, "cannot read the node"))
        return;
    if (*object_uid(answer->content)) {
        keep_stored(n, answer->content);
        n->whole = true;
        pursue(n);
    } else {
        try_again(n, "cannot read the node", "it exists, but the cloud does not give it");
    }
    message_free(answer);
}

static void registered(void *arg, struct message *answer, const struct error *err) {
    struct node_agent *n = arg;
    const char *reason, *message;
    if (!arrived(n, answer, err, "cannot register the node"))
        return;
    yyjson_val *object = accepted(answer, &reason, &message);
    if (object) {
        log_info("registered node=%s", n->config->node_name);
        keep_stored(n, object);
        n->whole = false;
        n->labels_checked = true;
        succeeded(n);
        pursue(n);
    } else if (strcmp(reason, "AlreadyExists") == 0) {
        ask(n, OP_QUERY, "node", &(struct message_fields){0}, queried);
    } else {
        try_again(n, "cannot register the node", message);
    }
    message_free(answer);
}

static void relabelled(void *arg, struct message *answer, const struct error *err) {
    struct node_agent *n = arg;
    n->request = NULL;
    if (answer)
        message_free(answer);
    else if (err->code != ERR_UNAVAILABLE)
        log_warn("the node's labels were not updated node=%s: %s", n->config->node_name, error_text(err));
    pursue(n);
}

/* Labels that the configuration wants and the cloud's Node lacks: after the status, which is more urgent. */
static void update_labels(struct node_agent *n) {
    if (n->labels_checked || n->request)
        return;
    n->labels_checked = true;
    _cleanup_(free_p) char *node = node_label_update(&n->view, yyjson_doc_get_root(n->stored));
    if (node)
        ask(n, OP_UPDATE, "node", &(struct message_fields){.content_text = bytes_str(node)}, relabelled);
}

static void patched(void *arg, struct message *answer, const struct error *err) {
    struct node_agent *n = arg;
    const char *reason, *message;
    if (!arrived(n, answer, err, "cannot report the node's status")) {
        n->whole = true;
        return;
    }
    yyjson_val *object = accepted(answer, &reason, &message);
    if (object) {
        keep_stored(n, object);
        n->whole = false;
        succeeded(n);
        update_labels(n);
        if (n->urgent)
            pursue(n);
    } else if (strcmp(reason, "NotFound") == 0) {
        n->unregistered = true;
        try_again(n, "the node is gone from the cloud and is registered anew", message);
    } else {
        try_again(n, "cannot report the node's status", message);
    }
    message_free(answer);
}

/* ---- what to do next ---- */

static void register_node(struct node_agent *n) {
    char now[RFC3339_SIZE];
    if (!n->config->register_node) {
        try_again(n, "the node does not exist in the cloud", "registerNode is off: create it there");
        return;
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *node = node_object(&n->view, rfc3339_now(now));
    ask(n, OP_INSERT, "node", &(struct message_fields){.content = yyjson_doc_get_root(node)}, registered);
}

static void report(struct node_agent *n) {
    char now[RFC3339_SIZE];
    struct error err = ERROR_INIT;
    bool changed = false;
    n->urgent = false;
    _cleanup_(free_p) char *patch =
        node_status_patch(&n->view, yyjson_doc_get_root(n->stored), rfc3339_now(now), n->whole, &changed, &err);
    if (!patch) {
        log_warn("the node's status could not be compared node=%s: %s", n->config->node_name, error_text(&err));
        return;
    }
    if (changed || clock_mono_ms() - n->reported_ms >= n->config->status_report_ms)
        ask(n, OP_PATCH, "nodepatch", &(struct message_fields){.content_string = patch}, patched);
}

static void pursue(struct node_agent *n) {
    if (n->request)
        n->urgent = true;
    if (!n->started || !n->have_runtime || n->request || !bus_connected(n->bus))
        return;
    if (!n->stored || n->unregistered)
        register_node(n);
    else
        report(n);
}

static void known(void *arg, struct message *answer, const struct error *err) {
    struct node_agent *n = arg;
    n->request = NULL;
    if (answer && *object_uid(answer->content) && !n->stored)
        keep_stored(n, answer->content);
    if (answer)
        message_free(answer);
    pursue(n);
}

static void on_connected(void *arg, bool connected) {
    struct node_agent *n = arg;
    n->whole = true;
    n->labels_checked = false;
    timer_stop(n->retry);
    backoff_reset(&n->backoff);
    if (!connected || !n->started)
        return;
    pursue(n);
    node_lease_renew_now(n->lease);
}

/* ---- public ---- */

struct node_agent *node_agent_new(struct loop *l, struct pool *p, struct bus *b, const struct edge_config *c) {
    struct node_agent *n = NEW(struct node_agent);
    n->loop = l;
    n->pool = p;
    n->bus = b;
    n->config = &c->edged;
    n->view.config = &c->edged;
    n->fresh = NEW(struct node_facts);
    n->whole = true;
    n->tick = timer_new(l, read_facts, n);
    n->retry = timer_new(l, on_retry, n);
    n->backoff = BACKOFF(100, 7000);
    n->lease = node_lease_new(l, b, &c->edged);
    return n;
}

void node_agent_start(struct node_agent *n) {
    n->started = true;
    node_facts_read(n->config, &n->view.facts); /* once, at start, here: pods need the address */
    timer_set(n->tick, tick_ms(n));
    /* What the database remembers of the Node saves asking, and tells the lease its owner. */
    ask(n, OP_QUERY, "node", &(struct message_fields){0}, known);
    bus_on_connected(n->bus, on_connected, n);
}

void node_agent_set_runtime(struct node_agent *n, const struct node_runtime *r) {
    bool same =
        n->have_runtime && str_eq(n->view.runtime_version, r->version) && str_eq(n->view.not_ready, r->not_ready);
    if (same)
        return;
    free(n->view.runtime_version);
    free(n->view.not_ready);
    n->view.runtime_version = xstrdup_null(r->version);
    n->view.not_ready = xstrdup_null(r->not_ready);
    n->have_runtime = true;
    pursue(n);
}

void node_agent_set_pressure(struct node_agent *n, const bool pressure[N_PRESSURES]) {
    if (memcmp(n->view.pressure, pressure, sizeof(n->view.pressure)) == 0)
        return;
    memcpy(n->view.pressure, pressure, sizeof(n->view.pressure));
    pursue(n);
}

const char *node_agent_ip(const struct node_agent *n) {
    return n->view.facts.ip;
}

const char *node_agent_uid(const struct node_agent *n) {
    return n->stored ? object_uid(yyjson_doc_get_root(n->stored)) : "";
}

int64_t node_agent_allocatable_cpu_milli(const struct node_agent *n) {
    return node_allocatable(&n->view).cpu_milli;
}

int64_t node_agent_allocatable_memory(const struct node_agent *n) {
    return node_allocatable(&n->view).memory;
}

void node_agent_free(struct node_agent *n) {
    if (!n)
        return;
    bus_off_connected(n->bus, on_connected, n);
    bus_request_cancel(n->request);
    timer_free(n->tick);
    timer_free(n->retry);
    node_lease_free(n->lease);
    n->freed = true;
    if (!n->reading)
        agent_destroy(n);
}
