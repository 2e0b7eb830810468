#include "cloud/cloudhub/hub_thread.h"

#include "base/clock.h"
#include "base/mem.h"

#include <utlist.h>

#define RESEND_TICK_MS 250
#define FAREWELL_MS 100 /* for close frames to get out */

/* ---- timers ---- */

static void end_silent_sessions(void *arg) {
    struct hub_thread *t = arg;
    int64_t limit = clock_mono_ms() - t->o.keepalive_ms;
    while (t->sessions && t->sessions->last_heard < limit) {
        struct session *s = t->sessions;
        if (s->paused) { /* it is we who do not listen */
            session_heard(s);
            continue;
        }
        log_info("node silent for too long node=%s seconds=%lld", s->node, (long long)(t->o.keepalive_ms / 1000));
        session_end(s, WS_CLOSE_POLICY, "no keepalive in time");
    }
}

static void resend_due(void *arg) {
    struct hub_thread *t = arg;
    int64_t now = clock_mono_ms();
    bool more = false;
    for (struct session *s = t->sessions; s; s = s->next) {
        if (!s->queue || node_queue_in_flight(s->queue) == 0)
            continue;
        if (node_queue_due(s->queue) <= now)
            session_pump(s, now);
        more = true;
    }
    if (more)
        timer_set(t->resend, RESEND_TICK_MS);
}

/* ---- mailbox ---- */

static void free_command(void *arg) {
    struct hub_command *c = arg;
    node_queue_free(c->queue);
    hub_item_free(c->item);
    free(c->node);
    free(c);
}

static void leave(void *arg) {
    struct hub_thread *t = arg;
    loop_stop(t->loop);
}

static void stop(struct hub_thread *t) {
    bool farewells = t->sessions != NULL;
    while (t->sessions)
        session_end(t->sessions, WS_CLOSE_GOING_AWAY, "cloudcore is stopping");
    http_server_stop(t->server, 0);
    timer_set(t->leave, farewells ? FAREWELL_MS : 0);
}

static void put_or_return(struct hub_thread *t, struct session *s, struct hub_command *c) {
    if (s && s->queue)
        session_put(s, TAKE(c->item));
    else
        cloudhub_post(t->o.hub,
                      (struct hub_event){
                          .kind = HUB_RETURNED, .thread = t->o.index, .node = TAKE(c->node), .item = TAKE(c->item)});
}

static void attach_or_return(struct hub_thread *t, struct session *s, struct hub_command *c) {
    if (s)
        session_attach(s, TAKE(c->queue));
    else /* it ended meanwhile, without a queue to give back: do so now */
        cloudhub_post(t->o.hub, (struct hub_event){.kind = HUB_DETACHED,
                                                   .thread = t->o.index,
                                                   .session = c->session,
                                                   .node = TAKE(c->node),
                                                   .queue = TAKE(c->queue)});
}

static void on_command(void *arg) {
    struct hub_command *c = arg;
    struct hub_thread *t = c->thread;
    struct session *s = session_find(t, c->session);
    switch (c->kind) {
    case HUB_ATTACH:
        attach_or_return(t, s, c);
        break;
    case HUB_SEND:
        put_or_return(t, s, c);
        break;
    case HUB_ANSWER:
        if (s && s->queue)
            session_put(s, TAKE(c->item));
        break;
    case HUB_DONE:
        if (s)
            session_request_done(s);
        break;
    case HUB_DETACH:
    case HUB_REFUSE:
        if (s)
            session_end(s, c->close_code, c->reason);
        break;
    case HUB_STOP:
        stop(t);
        break;
    }
    free_command(c);
}

void hub_thread_post(struct hub_thread *t, struct hub_command c) {
    c.thread = t;
    loop_post_full(t->loop, on_command, free_command, xmemdup(&c, sizeof c));
}

/* ---- the thread ---- */

static void *run(void *arg) {
    struct hub_thread *t = arg;
    loop_run(t->loop);
    return NULL;
}

static void free_thread(struct hub_thread *t) {
    http_server_free(t->server);
    timer_free(t->silence);
    timer_free(t->resend);
    timer_free(t->leave);
    loop_free(t->loop);
    free(t);
}

/* Port 10000 offers one thing, and nothing without a certificate of our CA. */
static const struct http_route routes[] = {
    {.methods = 1u << HTTP_M_GET, .path = "/*", .auth = HTTP_AUTH_CLIENT_CERT, .max_body = 0, .handle = session_accept},
};

int hub_thread_start(struct hub_thread **out, const struct hub_thread_options *o, struct error *err) {
    struct hub_thread *t = NEW(struct hub_thread);
    t->o = *o;
    t->loop = loop_new();
    t->silence = timer_new(t->loop, end_silent_sessions, t);
    t->resend = timer_new(t->loop, resend_due, t);
    t->leave = timer_new(t->loop, leave, t);
    timer_every(t->silence, 1000);
    const struct http_server_options so = {
        .routes = routes,
        .n_routes = ARRAY_LEN(routes),
        .arg = t,
        .listen = {.address = o->address, .port = o->port, .reuse_port = o->reuse_port, .tls = o->tls},
        .max_header_bytes = 16 << 10,
        .idle_timeout_ms = 30000,
    };
    t->server = http_server_new(t->loop, &so, err);
    if (!t->server) {
        free_thread(t);
        return error_wrap(err, "modules.cloudHub.websocket");
    }
    int rc = pthread_create(&t->id, NULL, run, t);
    if (rc != 0) {
        free_thread(t);
        return error_set_errno(err, rc, "starting hub thread %u", o->index);
    }
    *out = t;
    return 0;
}

void hub_thread_join(struct hub_thread *t) {
    pthread_join(t->id, NULL);
    free_thread(t);
}
