#define LOG_COMPONENT "dmi"

#include "edge/dmi/internal.h"

#include <utlist.h>

#define CALL_TIMEOUT_MS 5000
#define SERVICE "/v1beta1.DeviceMapperService/"

struct call {
    enum mapper_call what;
    char *key;
    struct call *prev, *next;
};

struct mapper {
    struct dmi *dmi;
    char *protocol, *address;
    struct grpc_channel *channel;
    struct call *calls; /* the first is under way, or waits for the retry */
    struct grpc_call *under_way;
    struct timer *retry;
    struct backoff backoff;
    struct log_once state;
    UT_hash_handle hh;
};

static const struct {
    const char *path;
    const ProtobufCMessageDescriptor *answer;
} CALLS[N_MAPPER_CALLS] = {
    [CALL_REGISTER_DEVICE] = {SERVICE "RegisterDevice", &dmi__register_device_response__descriptor},
    [CALL_UPDATE_DEVICE] = {SERVICE "UpdateDevice", &dmi__update_device_response__descriptor},
    [CALL_REMOVE_DEVICE] = {SERVICE "RemoveDevice", &dmi__remove_device_response__descriptor},
    [CALL_CREATE_MODEL] = {SERVICE "CreateDeviceModel", &dmi__create_device_model_response__descriptor},
    [CALL_UPDATE_MODEL] = {SERVICE "UpdateDeviceModel", &dmi__update_device_model_response__descriptor},
    [CALL_REMOVE_MODEL] = {SERVICE "RemoveDeviceModel", &dmi__remove_device_model_response__descriptor},
};

static void pump(struct mapper *m);

struct mapper *mapper_find(const struct dmi *d, const char *protocol) {
    struct mapper *m;
    HASH_FIND_STR(d->mappers, protocol, m);
    return m;
}

static void call_free(struct mapper *m, struct call *c) {
    DL_DELETE(m->calls, c);
    free(c->key);
    free(c);
}

static void drop_calls(struct mapper *m) {
    struct call *c, *next;
    if (m->under_way)
        grpc_call_cancel(TAKE(m->under_way));
    timer_stop(m->retry);
    DL_FOREACH_SAFE (m->calls, c, next)
        call_free(m, c);
}

/* ---- one call ---- */

static void on_done(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct mapper *m = arg;
    struct call *c = m->calls;
    m->under_way = NULL;
    if (status == GRPC_UNAVAILABLE || status == GRPC_DEADLINE_EXCEEDED) {
        log_once_failed(&m->state, LOG_COMPONENT, "the mapper does not answer, trying again: %s protocol=%s socket=%s",
                        error_text(err), m->protocol, m->address);
        timer_set(m->retry, backoff_next_ms(&m->backoff));
        return;
    }
    backoff_reset(&m->backoff);
    log_once_recovered(&m->state, LOG_COMPONENT, "the mapper answers again protocol=%s", m->protocol);
    bool device = c->what == CALL_REGISTER_DEVICE || c->what == CALL_UPDATE_DEVICE;
    struct dmi_object *o = device ? dmi_find(m->dmi, DMI_DEVICE, c->key) : NULL;
    if (status != GRPC_OK)
        log_warn("the mapper refuses: %s call=%s object=%s", error_text(err), strrchr(CALLS[c->what].path, '/') + 1,
                 c->key);
    if (o)
        dmi_complain(m->dmi, o, status == GRPC_OK ? NULL : error_text(err));
    call_free(m, c);
    pump(m);
}

static void start(struct mapper *m, const ProtobufCMessage *request) {
    const struct grpc_call_options o = {.method = CALLS[m->calls->what].path,
                                        .request = request,
                                        .response_type = CALLS[m->calls->what].answer,
                                        .timeout_ms = CALL_TIMEOUT_MS,
                                        .done = on_done,
                                        .arg = m};
    m->under_way = grpc_call(m->channel, &o);
}

/* False: there is nothing to tell any more. */
static bool start_device(struct mapper *m, struct call *c) {
    struct dmi_object *o = dmi_find(m->dmi, DMI_DEVICE, c->key);
    struct error err = ERROR_INIT;
    Dmi__Device *d = o ? dmi_merged(m->dmi, o, &err) : NULL;
    if (!d) {
        if (o)
            dmi_complain(m->dmi, o, error_text(&err));
        return false;
    }
    Dmi__RegisterDeviceRequest fresh = DMI__REGISTER_DEVICE_REQUEST__INIT;
    Dmi__UpdateDeviceRequest update = DMI__UPDATE_DEVICE_REQUEST__INIT;
    fresh.device = update.device = d;
    start(m, c->what == CALL_REGISTER_DEVICE ? &fresh.base : &update.base);
    protobuf_c_message_free_unpacked(&d->base, NULL);
    return true;
}

static bool start_model(struct mapper *m, struct call *c) {
    struct dmi_object *o = dmi_find(m->dmi, DMI_MODEL, c->key);
    if (!o)
        return false;
    Dmi__CreateDeviceModelRequest fresh = DMI__CREATE_DEVICE_MODEL_REQUEST__INIT;
    Dmi__UpdateDeviceModelRequest update = DMI__UPDATE_DEVICE_MODEL_REQUEST__INIT;
    fresh.model = update.model = dmi_model(dmi_value(o));
    start(m, c->what == CALL_CREATE_MODEL ? &fresh.base : &update.base);
    protobuf_c_message_free_unpacked(&fresh.model->base, NULL);
    return true;
}

static bool start_removal(struct mapper *m, struct call *c) {
    Dmi__RemoveDeviceRequest device = DMI__REMOVE_DEVICE_REQUEST__INIT;
    Dmi__RemoveDeviceModelRequest model = DMI__REMOVE_DEVICE_MODEL_REQUEST__INIT;
    _cleanup_(free_p) char *ns = xstrdup(c->key);
    char *slash = strchr(ns, '/');
    *slash = 0;
    device.devicenamespace = model.modelnamespace = ns;
    device.devicename = model.modelname = slash + 1;
    start(m, c->what == CALL_REMOVE_DEVICE ? &device.base : &model.base);
    return true;
}

static void pump(struct mapper *m) {
    while (m->calls && !m->under_way && !timer_pending(m->retry)) {
        struct call *c = m->calls;
        bool started = c->what == CALL_REGISTER_DEVICE || c->what == CALL_UPDATE_DEVICE ? start_device(m, c)
                       : c->what == CALL_CREATE_MODEL || c->what == CALL_UPDATE_MODEL   ? start_model(m, c)
                                                                                        : start_removal(m, c);
        if (!started)
            call_free(m, c);
    }
}

static void on_retry(void *arg) {
    pump(arg);
}

/* ---- the queue ---- */

static void queue(struct mapper *m, enum mapper_call what, const char *key) {
    struct call *c;
    DL_FOREACH (m->calls, c)
        if (c->what == what && str_eq(c->key, key) && !(c == m->calls && m->under_way))
            return; /* it is told the newest when its turn comes */
    c = NEW(struct call);
    c->what = what;
    c->key = xstrdup(key);
    DL_APPEND(m->calls, c);
    pump(m);
}

void mapper_queue(struct dmi *d, const char *protocol, enum mapper_call what, const char *key) {
    struct mapper *m = mapper_find(d, protocol);
    if (m)
        queue(m, what, key);
}

void mapper_remove(struct dmi *d, const char *protocol, const char *key) {
    mapper_queue(d, protocol, CALL_REMOVE_DEVICE, key);
}

/* ---- life ---- */

void mapper_registered(struct dmi *d, const char *protocol, const char *address, bool knows_all) {
    struct mapper *m = mapper_find(d, protocol);
    struct error err = ERROR_INIT;
    if (!knows_all)
        return; /* it does not want to be told */
    if (!m) {
        m = NEW(struct mapper);
        m->dmi = d;
        m->protocol = xstrdup(protocol);
        m->retry = timer_new(d->loop, on_retry, m);
        m->backoff = BACKOFF(200, 3000);
        HASH_ADD_KEYPTR(hh, d->mappers, m->protocol, strlen(m->protocol), m);
    }
    drop_calls(m);
    if (m->channel && str_eq(m->address, address))
        return;
    free(m->address);
    m->address = xstrdup(address);
    if (m->channel)
        grpc_channel_free(m->channel);
    _cleanup_(free_p) char *target = xasprintf("unix://%s", address);
    m->channel = grpc_channel_new(d->loop, target, &err);
    if (m->channel)
        return;
    log_warn("the mapper's address cannot be used: %s protocol=%s", error_text(&err), protocol);
    HASH_DEL(d->mappers, m);
    timer_free(m->retry);
    free(m->protocol);
    free(m->address);
    free(m);
}

void mappers_free(struct dmi *d) {
    struct mapper *m, *next;
    HASH_ITER (hh, d->mappers, m, next) {
        HASH_DEL(d->mappers, m);
        drop_calls(m);
        grpc_channel_free(m->channel);
        timer_free(m->retry);
        free(m->protocol);
        free(m->address);
        free(m);
    }
}
