/* Startup, readiness and liveness probes: exec, httpGet, tcpSocket, grpc. One prober for each running container that
 * has any.
 *
 * The startup probe goes first and holds back the other two; what fails failureThreshold times in a row has the
 * container killed (startup, liveness) or taken out of Ready (readiness). */
#include "base/clock.h"
#include "edge/edged/pod_worker.h"

#define PERIOD_DEFAULT_S 10

enum probe_kind { PROBE_STARTUP, PROBE_LIVENESS, PROBE_READINESS, PROBE_KINDS };

static const char *const probe_keys[PROBE_KINDS] = {"startupProbe", "livenessProbe", "readinessProbe"};
static const char *const probe_words[PROBE_KINDS] = {"Startup", "Liveness", "Readiness"};

struct probe {
    struct prober *prober;
    enum probe_kind kind;
    struct timer *timer;
    struct hook *hook;
    int64_t good, bad; /* in a row */
};

struct prober {
    struct worker_container *c;
    char *id; /* of the instance that is probed */
    struct probe probes[PROBE_KINDS];
};

static yyjson_val *spec_of(const struct probe *p) {
    return yyjson_obj_get(p->prober->c->spec, probe_keys[p->kind]);
}

static int64_t setting(const struct probe *p, const char *key, int64_t fallback) {
    int64_t n = json_int_or(yyjson_obj_get(spec_of(p), key), fallback);
    return n < 0 ? 0 : n > 86400 ? 86400 : n;
}

static void schedule(struct probe *p) {
    int64_t period = setting(p, "periodSeconds", PERIOD_DEFAULT_S);
    timer_set(p->timer, (period > 0 ? period : PERIOD_DEFAULT_S) * 1000);
}

static void failed_for_good(struct probe *p) {
    struct worker_container *c = p->prober->c;
    if (p->kind == PROBE_READINESS) {
        c->ready = false;
    } else if (!c->kill_reason) {
        c->kill_reason = p->kind == PROBE_STARTUP ? "failed startup probe, will be restarted"
                                                  : "failed liveness probe, will be restarted";
        c->kill_grace_s = json_int_or(yyjson_obj_get(spec_of(p), "terminationGracePeriodSeconds"), -1);
    }
}

static void succeeded(struct probe *p) {
    struct worker_container *c = p->prober->c;
    if (p->kind == PROBE_READINESS)
        c->ready = true;
    if (p->kind == PROBE_STARTUP) {
        c->started = true;
        timer_stop(p->timer);
    }
}

static void on_result(struct worker_container *c, const struct error *err, void *arg) {
    struct probe *p = arg;
    p->hook = NULL;
    p->good = err ? 0 : p->good + 1;
    p->bad = err ? p->bad + 1 : 0;
    schedule(p);
    if (err)
        worker_event(c->worker, c, true, "Unhealthy", "%s probe failed: %s", probe_words[p->kind], err->msg);
    if (err && p->bad >= setting(p, "failureThreshold", 3))
        failed_for_good(p);
    else if (!err && p->good >= setting(p, "successThreshold", 1))
        succeeded(p);
    worker_wake(c->worker, 0);
}

static void run_probe(void *arg) {
    struct probe *p = arg;
    struct worker_container *c = p->prober->c;
    if (p->kind != PROBE_STARTUP && !c->started) {
        schedule(p);
        return;
    }
    int64_t timeout = setting(p, "timeoutSeconds", 1);
    p->hook = hook_run(c, spec_of(p), p->prober->id, (timeout > 0 ? timeout : 1) * 1000, on_result, p);
}

static void prober_free(struct prober *p) {
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        hook_cancel(p->probes[i].hook);
        timer_free(p->probes[i].timer);
    }
    free(p->id);
    free(p);
}

void worker_probes_stop(struct worker_container *c) {
    if (c->prober)
        prober_free(TAKE(c->prober));
}

static void probe_start(struct prober *pr, enum probe_kind kind) {
    struct probe *p = &pr->probes[kind];
    *p = (struct probe){.prober = pr, .kind = kind};
    if (!yyjson_is_obj(spec_of(p)))
        return;
    p->timer = timer_new(pr->c->worker->pods->loop, run_probe, p);
    timer_set(p->timer, setting(p, "initialDelaySeconds", 0) * 1000);
    const struct rt_container *r = worker_current(pr->c);
    if (r->started_ns < pr->c->worker->pods->began_ns)
        return; /* it ran before edgecore did, and is believed to be well until a probe says otherwise */
    if (kind == PROBE_STARTUP)
        pr->c->started = false;
    else if (kind == PROBE_READINESS)
        pr->c->ready = false;
}

void worker_probes_sync(struct worker_container *c) {
    const struct rt_container *r = worker_current(c);
    bool running = r && r->state == RT_RUNNING && !c->stop_sent;
    if (c->prober && (!running || !str_eq(c->prober->id, r->id)))
        worker_probes_stop(c);
    if (!running || c->prober || c->busy || c->role == ROLE_INIT)
        return;
    bool any = false;
    for (size_t i = 0; i < PROBE_KINDS; i++)
        any |= yyjson_is_obj(yyjson_obj_get(c->spec, probe_keys[i]));
    if (!any)
        return;
    struct prober *pr = NEW(struct prober);
    pr->c = c;
    pr->id = xstrdup(r->id);
    c->prober = pr;
    for (size_t i = 0; i < PROBE_KINDS; i++)
        probe_start(pr, (enum probe_kind)i);
}
