/* Reports to edgecore: one call per device at a time; what comes meanwhile replaces what waits, property by property.
 */
#include "base/clock.h"
#include "mapper/libmapper/internal.h"

#include <stdio.h>

#define CALL_TIMEOUT_MS 5000
#define MANAGER "/v1beta1.DeviceManagerService/"

struct waiting_value {
    char *property, *text, *desired, *type;
    int64_t timestamp_ms;
    UT_hash_handle hh;
};

/* A device as far as reports go: outlives the device itself. */
struct remote {
    struct mapper *mapper;
    char *key, *ns, *name;
    struct waiting_value *values;
    char *state, *message; /* state NULL: nothing to tell */
    struct grpc_call *call;
    struct waiting_value *sent; /* with the call; taken up again if it fails */
    char *sent_state, *sent_message;
    UT_hash_handle hh;
};

/* From a bus's thread to the loop's. */
struct parcel {
    struct mapper *mapper;
    char *key;
    struct waiting_value *value; /* NULL: a state */
    char *state, *message;
};

static void send(struct remote *r);

static void value_free(struct waiting_value *v) {
    free(v->property);
    free(v->text);
    free(v->desired);
    free(v->type);
    free(v);
}

static void values_free(struct waiting_value **list) {
    struct waiting_value *v, *next;
    HASH_ITER (hh, *list, v, next) {
        HASH_DEL(*list, v);
        value_free(v);
    }
}

static void add_value(struct waiting_value **list, struct waiting_value *v, bool newer) {
    struct waiting_value *old;
    HASH_FIND_STR(*list, v->property, old);
    if (old && !newer) {
        value_free(v);
        return;
    }
    if (old) {
        HASH_DEL(*list, old);
        value_free(old);
    }
    HASH_ADD_KEYPTR(hh, *list, v->property, strlen(v->property), v);
}

static struct remote *remote_of(struct mapper *m, const char *key) {
    struct remote *r;
    HASH_FIND_STR(m->remotes, key, r);
    if (r)
        return r;
    r = NEW(struct remote);
    r->mapper = m;
    r->key = xstrdup(key);
    r->ns = xstrdup(key);
    char *slash = strchr(r->ns, '/');
    *slash = 0;
    r->name = slash + 1;
    HASH_ADD_KEYPTR(hh, m->remotes, r->key, strlen(r->key), r);
    return r;
}

/* ---- calls ---- */

static void take_up_again(struct remote *r) {
    struct waiting_value *v, *next;
    HASH_ITER (hh, r->sent, v, next) {
        HASH_DEL(r->sent, v);
        add_value(&r->values, v, false);
    }
    if (r->sent_state && !r->state) {
        r->state = TAKE(r->sent_state);
        r->message = TAKE(r->sent_message);
    }
}

static void on_done(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct remote *r = arg;
    bool again = status == GRPC_UNAVAILABLE || status == GRPC_DEADLINE_EXCEEDED;
    r->call = NULL;
    if (again)
        take_up_again(r);
    else if (status != GRPC_OK)
        log_debug("a report is refused: %s device=%s", error_text(err), r->key);
    values_free(&r->sent);
    free(TAKE(r->sent_state));
    free(TAKE(r->sent_message));
    if (again && !timer_pending(r->mapper->again))
        timer_set(r->mapper->again, 500);
    else if (!again)
        send(r);
}

static void start(struct remote *r, const char *method, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *answer) {
    const struct grpc_call_options o = {.method = method,
                                        .request = request,
                                        .response_type = answer,
                                        .timeout_ms = CALL_TIMEOUT_MS,
                                        .done = on_done,
                                        .arg = r};
    r->call = grpc_call(r->mapper->edgecore, &o);
}

static void send_state(struct remote *r) {
    Dmi__ReportDeviceStatesRequest q = DMI__REPORT_DEVICE_STATES_REQUEST__INIT;
    r->sent_state = TAKE(r->state);
    r->sent_message = TAKE(r->message);
    q.devicename = r->name;
    q.devicenamespace = r->ns;
    q.state = r->sent_state;
    if (r->sent_message)
        q.message = r->sent_message;
    start(r, MANAGER "ReportDeviceStates", &q.base, &dmi__report_device_states_response__descriptor);
}

struct twin_message { /* a Twin and all that it points to */
    Dmi__Twin twin;
    Dmi__TwinProperty reported, observed;
    Dmi__StringEntry type, timestamp;
    Dmi__StringEntry *both[2];
    char ms[24];
};

static void fill_twin(struct twin_message *t, struct waiting_value *v) {
    dmi__twin__init(&t->twin);
    dmi__twin_property__init(&t->reported);
    dmi__twin_property__init(&t->observed);
    dmi__string_entry__init(&t->type);
    dmi__string_entry__init(&t->timestamp);
    (void)snprintf(t->ms, sizeof t->ms, "%lld", (long long)v->timestamp_ms);
    t->type.key = (char *)"type";
    t->type.value = v->type;
    t->timestamp.key = (char *)"timestamp";
    t->timestamp.value = t->ms;
    t->both[0] = &t->type;
    t->both[1] = &t->timestamp;
    t->reported.value = v->text;
    t->observed.value = v->desired;
    t->reported.metadata = t->observed.metadata = t->both;
    t->reported.n_metadata = t->observed.n_metadata = 2;
    t->twin.propertyname = v->property;
    t->twin.reported = &t->reported;
    t->twin.observeddesired = &t->observed;
}

static void send_values(struct remote *r) {
    Dmi__ReportDeviceStatusRequest q = DMI__REPORT_DEVICE_STATUS_REQUEST__INIT;
    Dmi__DeviceStatus status = DMI__DEVICE_STATUS__INIT;
    size_t n = HASH_COUNT(r->values), i = 0;
    struct twin_message *twins = xcalloc(n, sizeof *twins);
    status.twins = xcalloc(n, sizeof(Dmi__Twin *));
    r->sent = TAKE(r->values);
    for (struct waiting_value *v = r->sent; v; v = v->hh.next, i++) {
        fill_twin(&twins[i], v);
        status.twins[status.n_twins++] = &twins[i].twin;
    }
    q.devicename = r->name;
    q.devicenamespace = r->ns;
    q.reporteddevice = &status;
    start(r, MANAGER "ReportDeviceStatus", &q.base, &dmi__report_device_status_response__descriptor);
    free(status.twins);
    free(twins);
}

static void send(struct remote *r) {
    if (r->call || !r->mapper->registered)
        return;
    if (r->state)
        send_state(r);
    else if (r->values)
        send_values(r);
}

/* ---- from the threads ---- */

static void parcel_free(void *arg) {
    struct parcel *p = arg;
    if (p->value)
        value_free(p->value);
    free(p->key);
    free(p->state);
    free(p->message);
    free(p);
}

static void on_parcel(void *arg) {
    struct parcel *p = arg;
    struct remote *r = remote_of(p->mapper, p->key);
    if (p->value) {
        add_value(&r->values, TAKE(p->value), true);
    } else {
        free(r->state);
        free(r->message);
        r->state = TAKE(p->state);
        r->message = TAKE(p->message);
    }
    parcel_free(p);
    send(r);
}

static void post(struct device *d, struct parcel p) {
    p.mapper = d->mapper;
    p.key = xstrdup(d->key);
    loop_post_full(d->mapper->loop, on_parcel, parcel_free, xmemdup(&p, sizeof p));
}

void report_value(struct device *d, const struct property *p, const char *text, int64_t timestamp_ms) {
    struct waiting_value *v = NEW(struct waiting_value);
    v->property = xstrdup(p->name);
    v->text = xstrdup(text);
    v->desired = xstrdup(p->desired);
    v->type = xstrdup(value_type_name(p->type));
    v->timestamp_ms = timestamp_ms;
    post(d, (struct parcel){.value = v});
}

void report_state(struct device *d, const char *state, const char *message) {
    post(d, (struct parcel){.state = xstrdup(state), .message = xstrdup_null(message)});
}

void reports_run(struct mapper *m) {
    for (struct remote *r = m->remotes; r; r = r->hh.next)
        send(r);
}

void reports_free(struct mapper *m) {
    struct remote *r, *next;
    HASH_ITER (hh, m->remotes, r, next) {
        HASH_DEL(m->remotes, r);
        values_free(&r->values);
        values_free(&r->sent);
        free(r->state);
        free(r->message);
        free(r->sent_state);
        free(r->sent_message);
        free(r->key);
        free(r->ns);
        free(r);
    }
}
