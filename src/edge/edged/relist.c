/* What the runtime has, compared with what the workers believe: by events where it sends them, else by listing.
 *
 * A listing is a snapshot that may be older than what a worker did meanwhile: a worker with something under way, or
 * that finished something after the listing began, is left out until the next one. */
#define LOG_COMPONENT "edged"
#include "base/clock.h"
#include "base/log.h"
#include "edge/edged/pod_worker.h"

#include <utlist.h>

#define RELIST_WITH_EVENTS_MS 30000
#define RELIST_WITHOUT_EVENTS_MS 1000
#define RELIST_IDLE_MS 5000
#define STILL_RUNNING_RETRY_MS 4 /* doubling: some 20 ms pass between containerd's event and its own record of it */
#define STILL_RUNNING_RETRIES 10

/* One question about one container or sandbox. */
struct rt_query {
    struct pods *pods;
    char *uid, *id;
    bool sandbox, expect_exit;
    int tries;
    struct timer *timer;
    struct rt_query *prev, *next;
};

static void query_free(struct rt_query *q) {
    DL_DELETE(q->pods->queries, q);
    timer_free(q->timer);
    free(q->uid);
    free(q->id);
    free(q);
}

static void ask(struct rt_query *q);

static void on_retry(void *arg) {
    ask(arg);
}

static void container_answer(struct rt_query *q, struct pod_worker *w, const Cri__ContainerStatus *s) {
    if (rt_container_status(&w->rt, NULL, s)) {
        struct rt_container *c = rt_container_find(&w->rt, s->id);
        if (c && c->state == RT_EXITED && str_empty(c->message))
            termination_message_read(q->pods, w, c);
    }
    worker_wake(w, 0);
}

static void on_container(void *arg, int status, const void *reply, const struct error *err) {
    struct rt_query *q = arg;
    const Cri__ContainerStatusResponse *r = reply;
    struct pod_worker *w = pods_worker(q->pods, q->uid);
    if (w && r && r->status) {
        /* The event may be faster than the runtime's own record of it. */
        if (q->expect_exit && r->status->state == CRI__CONTAINER_STATE__CONTAINER_RUNNING &&
            q->tries++ < STILL_RUNNING_RETRIES) {
            timer_set(q->timer, (int64_t)STILL_RUNNING_RETRY_MS << q->tries);
            return;
        }
        container_answer(q, w, r->status);
    } else if (w && status == CRI_STATUS_NOT_FOUND) {
        rt_container_drop(&w->rt, q->id);
        worker_wake(w, 0);
    }
    query_free(q);
}

static void on_sandbox(void *arg, int status, const void *reply, const struct error *err) {
    struct rt_query *q = arg;
    const Cri__PodSandboxStatusResponse *r = reply;
    struct pod_worker *w = pods_worker(q->pods, q->uid);
    if (w && r && r->status) {
        if (q->expect_exit && r->status->state == CRI__POD_SANDBOX_STATE__SANDBOX_READY &&
            q->tries++ < STILL_RUNNING_RETRIES) {
            timer_set(q->timer, (int64_t)STILL_RUNNING_RETRY_MS << q->tries);
            return;
        }
        rt_sandbox_status(&w->rt, r->status);
        worker_wake(w, 0);
    } else if (w && status == CRI_STATUS_NOT_FOUND) {
        rt_sandbox_drop(&w->rt, q->id);
        worker_wake(w, 0);
    }
    query_free(q);
}

static void ask(struct rt_query *q) {
    if (q->sandbox) {
        Cri__PodSandboxStatusRequest r = CRI__POD_SANDBOX_STATUS_REQUEST__INIT;
        r.pod_sandbox_id = q->id;
        cri_call(q->pods->cri, CRI_SANDBOX_STATUS, &r, 0, on_sandbox, q);
    } else {
        Cri__ContainerStatusRequest r = CRI__CONTAINER_STATUS_REQUEST__INIT;
        r.container_id = q->id;
        cri_call(q->pods->cri, CRI_CONTAINER_STATUS, &r, 0, on_container, q);
    }
}

static void query(struct pods *ps, struct pod_worker *w, const char *id, bool sandbox, bool expect_exit) {
    struct rt_query *q;
    DL_FOREACH (ps->queries, q) {
        if (str_eq(q->id, id)) {
            q->expect_exit |= expect_exit;
            if (!expect_exit && timer_pending(q->timer)) { /* whoever asks now knows more than the event did */
                timer_stop(q->timer);
                ask(q);
            }
            return;
        }
    }
    q = NEW(struct rt_query);
    *q = (struct rt_query){
        .pods = ps, .uid = xstrdup(w->uid), .id = xstrdup(id), .sandbox = sandbox, .expect_exit = expect_exit};
    q->timer = timer_new(ps->loop, on_retry, q);
    DL_APPEND(ps->queries, q);
    ask(q);
}

void pods_query_container(struct pods *ps, struct pod_worker *w, const char *id) {
    query(ps, w, id, false, false);
}

void pods_query_sandbox(struct pods *ps, struct pod_worker *w, const char *id) {
    query(ps, w, id, true, false);
}

void pods_runtime_event(void *arg, const char *id) {
    struct pods *ps = arg;
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp) {
        const struct rt_container *c = rt_container_find(&w->rt, id);
        if (c && c->state == RT_EXITED && c->detailed)
            return;
        if (c || rt_sandbox_find(&w->rt, id)) {
            query(ps, w, id, !c, ps->events_connected);
            return;
        }
    }
}

void pods_events_state(void *arg, bool connected) {
    struct pods *ps = arg;
    ps->events_connected = connected;
    pods_relist_soon(ps, connected ? 0 : RELIST_WITHOUT_EVENTS_MS);
}

/* ---- listing ---- */

static bool leave_out(const struct pods *ps, const struct pod_worker *w) {
    return w->ops > 0 || w->last_op_ms >= ps->relist_begun_ms;
}

static void schedule(struct pods *ps) {
    int64_t ms = RELIST_WITH_EVENTS_MS;
    if (!ps->events_connected)
        ms = ps->workers ? RELIST_WITHOUT_EVENTS_MS : RELIST_IDLE_MS;
    timer_set(ps->relist_timer, ms);
}

static void relist_failed(struct pods *ps, const struct error *err) {
    log_debug("listing the runtime failed: %s", error_text(err));
    ps->relist_busy = false;
    schedule(ps);
}

static struct pod_worker *worker_of_labels(struct pods *ps, Cri__KeyValue *const *labels, size_t n) {
    const char *uid = cri_pair_get(labels, n, LABEL_POD_UID), *name = cri_pair_get(labels, n, LABEL_POD_NAME);
    const char *ns = cri_pair_get(labels, n, LABEL_POD_NAMESPACE);
    if (str_empty(uid) || str_empty(name) || str_empty(ns) || strchr(uid, '/') || strchr(ns, '/') ||
        strchr(name, '/') || uid[0] == '.')
        return NULL; /* not a pod's */
    struct pod_worker *w = pods_worker(ps, uid);
    return w ? w : pods_worker_ensure(ps, uid, ns, name);
}

/* Entries that a listing did not have any more. */
static void drop_unseen(struct pod_worker *w) {
    bool changed = false;
    for (struct rt_container *c = w->rt.containers, *next; c; c = next) {
        next = c->next;
        if (!c->seen) {
            rt_container_drop(&w->rt, c->id);
            changed = true;
        }
    }
    for (struct rt_sandbox *s = w->rt.sandboxes, *next; s; s = next) {
        next = s->next;
        if (!s->seen) {
            rt_sandbox_drop(&w->rt, s->id);
            changed = true;
            next = w->rt.sandboxes; /* its containers went too; begin again */
        }
    }
    if (changed)
        worker_wake(w, 0);
}

static void apply_containers(struct pods *ps, const Cri__ListContainersResponse *r) {
    for (size_t i = 0; i < r->n_containers; i++) {
        const Cri__Container *c = r->containers[i];
        struct pod_worker *w = worker_of_labels(ps, c->labels, c->n_labels);
        if (!w || leave_out(ps, w))
            continue;
        rt_container_listed(&w->rt, c);
        struct rt_container *rc = rt_container_find(&w->rt, c->id);
        if (rc && !rc->detailed)
            pods_query_container(ps, w, c->id);
    }
}

/* The first listing is complete when every question that it raised is answered. */
static void check_first_done(void *arg) {
    struct pods *ps = arg;
    if (ps->queries) {
        timer_set(ps->relist_timer, 5);
        return;
    }
    timer_free(ps->relist_timer);
    relist_init(ps);
    ps->listed = true;
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, ps->workers, w, tmp)
        worker_wake(w, 0);
    schedule(ps);
}

static void on_containers(void *arg, int status, const void *reply, const struct error *err) {
    struct pods *ps = arg;
    struct pod_worker *w, *tmp;
    if (!reply) {
        relist_failed(ps, err);
        return;
    }
    apply_containers(ps, reply);
    HASH_ITER (hh, ps->workers, w, tmp) {
        if (!leave_out(ps, w))
            drop_unseen(w);
    }
    ps->relist_busy = false;
    if (ps->listed) {
        HASH_ITER (hh, ps->workers, w, tmp) {
            if (!w->pod && ps->set_complete)
                worker_wake(w, 0);
        }
        schedule(ps);
        return;
    }
    timer_free(ps->relist_timer);
    ps->relist_timer = timer_new(ps->loop, check_first_done, ps);
    timer_set(ps->relist_timer, 0);
}

static void on_sandboxes(void *arg, int status, const void *reply, const struct error *err) {
    struct pods *ps = arg;
    const Cri__ListPodSandboxResponse *r = reply;
    struct pod_worker *w, *tmp;
    if (!r) {
        relist_failed(ps, err);
        return;
    }
    HASH_ITER (hh, ps->workers, w, tmp) {
        for (struct rt_container *c = w->rt.containers; c; c = c->next)
            c->seen = false;
        for (struct rt_sandbox *s = w->rt.sandboxes; s; s = s->next)
            s->seen = false;
    }
    for (size_t i = 0; i < r->n_items; i++) {
        const Cri__PodSandbox *s = r->items[i];
        w = worker_of_labels(ps, s->labels, s->n_labels);
        if (!w || leave_out(ps, w))
            continue;
        if (rt_sandbox_listed(&w->rt, s))
            pods_query_sandbox(ps, w, s->id);
    }
    Cri__ListContainersRequest q = CRI__LIST_CONTAINERS_REQUEST__INIT;
    cri_call(ps->cri, CRI_LIST_CONTAINERS, &q, 0, on_containers, ps);
}

static void relist_begin(void *arg) {
    struct pods *ps = arg;
    if (ps->relist_busy)
        return;
    ps->relist_busy = true;
    ps->relist_begun_ms = clock_mono_ms();
    Cri__ListPodSandboxRequest q = CRI__LIST_POD_SANDBOX_REQUEST__INIT;
    cri_call(ps->cri, CRI_LIST_SANDBOXES, &q, 0, on_sandboxes, ps);
}

void pods_relist_soon(struct pods *ps, int64_t ms) {
    if (!ps->relist_busy && ps->runtime_name[0])
        timer_set(ps->relist_timer, ms);
}

void relist_init(struct pods *ps) {
    ps->relist_timer = timer_new(ps->loop, relist_begin, ps);
}

void relist_free(struct pods *ps) {
    while (ps->queries)
        query_free(ps->queries);
    timer_free(ps->relist_timer);
}
