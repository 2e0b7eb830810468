#define LOG_COMPONENT "edged"
#include "base/log.h"
#include "base/mem.h"
#include "edge/edged/cri.h"
#include "events.pb-c.h"

#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 30000
#define SETTLE_MS 1000
#define CONTAINERD_NAMESPACE "k8s.io"

struct cri_events {
    struct cri *cri;
    void (*changed)(void *arg, const char *id);
    void (*state)(void *arg, bool connected);
    void *arg;
    struct timer *retry;
    struct backoff backoff;
    struct grpc_call *call;
    bool is_containerd;
    bool no_cri_events; /* the runtime said so */
    bool connected;
};

static void subscribe(void *arg);

static void set_connected(struct cri_events *e, bool connected) {
    if (e->connected != connected) {
        e->connected = connected;
        e->state(e->arg, connected);
    }
}

static void on_cri_event(void *arg, const ProtobufCMessage *message) {
    struct cri_events *e = arg;
    const Cri__ContainerEventResponse *ev = (const Cri__ContainerEventResponse *)message;
    backoff_reset(&e->backoff);
    set_connected(e, true);
    e->changed(e->arg, ev->container_id);
}

static void on_containerd_event(void *arg, const ProtobufCMessage *message) {
    struct cri_events *e = arg;
    const Ctrd__Envelope *env = (const Ctrd__Envelope *)message;
    backoff_reset(&e->backoff);
    if (!env->event || !str_eq(env->namespace_, CONTAINERD_NAMESPACE))
        return;
    Ctrd__TaskExit *exit = ctrd__task_exit__unpack(NULL, env->event->value.len, env->event->value.data);
    if (!exit)
        return;
    if (str_empty(exit->id) || str_eq(exit->id, exit->container_id))
        e->changed(e->arg, exit->container_id);
    ctrd__task_exit__free_unpacked(exit, NULL);
}

static void on_end(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct cri_events *e = arg;
    e->call = NULL;
    timer_stop(e->retry);
    set_connected(e, false);
    if (status == CRI_STATUS_UNIMPLEMENTED) {
        if (e->no_cri_events || !e->is_containerd) {
            log_info("the runtime sends no events: its containers are listed every second instead");
            return;
        }
        e->no_cri_events = true;
        timer_set(e->retry, 0);
        return;
    }
    log_debug("event stream of the runtime ended: %s", error_text(err));
    timer_set(e->retry, backoff_next_ms(&e->backoff));
}

static void subscribe(void *arg) {
    struct cri_events *e = arg;
    if (e->call) { /* still there after a while: the runtime has this service */
        set_connected(e, true);
        return;
    }
    struct grpc_call_options o = {.timeout_ms = -1, .done = on_end, .arg = e};
    Cri__GetEventsRequest plain = CRI__GET_EVENTS_REQUEST__INIT;
    Ctrd__SubscribeRequest filtered = CTRD__SUBSCRIBE_REQUEST__INIT;
    static char exits[] = "topic==\"/tasks/exit\"", *filters[] = {exits};
    filtered.filters = filters;
    filtered.n_filters = ARRAY_LEN(filters);
    if (e->no_cri_events) {
        o.method = "/containerd.services.events.v1.Events/Subscribe";
        o.request = &filtered.base;
        o.response_type = &ctrd__envelope__descriptor;
        o.message = on_containerd_event;
    } else {
        o.method = "/runtime.v1.RuntimeService/GetContainerEvents";
        o.request = &plain.base;
        o.response_type = &cri__container_event_response__descriptor;
        o.message = on_cri_event;
    }
    e->call = grpc_call(cri_channel(e->cri), &o);
    timer_set(e->retry, SETTLE_MS);
}

struct cri_events *cri_events_new(struct loop *l, struct cri *c, void (*changed)(void *arg, const char *id),
                                  void (*state)(void *arg, bool connected), void *arg) {
    struct cri_events *e = NEW(struct cri_events);
    *e = (struct cri_events){
        .cri = c, .changed = changed, .state = state, .arg = arg, .backoff = BACKOFF(RETRY_FIRST_MS, RETRY_MAX_MS)};
    e->retry = timer_new(l, subscribe, e);
    return e;
}

void cri_events_start(struct cri_events *e, bool is_containerd) {
    e->is_containerd = is_containerd;
    e->no_cri_events = false;
    if (!e->call)
        timer_set(e->retry, 0);
}

void cri_events_free(struct cri_events *e) {
    if (!e)
        return;
    if (e->call)
        grpc_call_cancel(e->call);
    timer_free(e->retry);
    free(e);
}
