/* Writes what was reported: newest wins, a few times a second per device at most, one call per device at a time.
 *
 * Two objects show it: the DeviceStatus, every report; and the Device's own status, which `kubectl get devices` prints,
 * at once when the state or the verdict changes, else every MIRROR_MS. */
#include "cloud/devicecontroller/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <utlist.h>

#define WRITE_MS 200    /* between two writes of a DeviceStatus */
#define MIRROR_MS 10000 /* between two writes of values into the Device */
#define RETRY_MS 1000   /* first pause after a failed call; grows to RETRY_MAX_MS */
#define RETRY_MAX_MS 30000
#define TICK_MS 20
#define MAX_CALLS 64 /* under way at once */
#define MAX_CONFIRMATIONS 256
#define BODY_MAX (4u << 20)
#define GROUP "devices.kubeedge.io"
#define VERSION "v1beta1"

enum step { STEP_NONE, STEP_READ, STEP_CREATE, STEP_PATCH, STEP_MIRROR };

struct status_writer {
    struct status_queue *queue;
    struct device *device;
    struct device_state state;
    char *verdict;           /* what is wrong with the Device itself, in words; NULL: nothing */
    char *uid, *rv;          /* of the DeviceStatus; NULL: none known */
    struct strlist confirms; /* message ids, to confirm with the next write */
    struct strlist sent;     /* those that the write under way covers */
    bool read;               /* the stored DeviceStatus was looked at */
    bool dirty, mirror_dirty, mirror_now, reported;
    int64_t due_ms, mirror_due_ms;
    struct backoff backoff;
    enum step step, last; /* under way or STEP_NONE; the last one that was */
    struct kube_call *call;
    bool waiting; /* in the queue's list */
    struct status_writer *prev, *next;
};

struct status_queue {
    struct devicecontroller *c;
    struct status_writer *waiting; /* that have something to do */
    struct timer *tick;
    unsigned calls;
};

static void start_step(struct status_writer *w);

/* ---- the queue ---- */

static enum step next_step(const struct status_writer *w, int64_t now) {
    if (w->call || now < w->due_ms)
        return STEP_NONE;
    if (!w->read)
        return STEP_READ;
    if (!w->rv)
        return STEP_CREATE;
    bool mirror = w->mirror_dirty && (w->mirror_now || now >= w->mirror_due_ms);
    if (w->dirty && !(mirror && w->last == STEP_PATCH)) /* in turns: a busy device would never come to its mirror */
        return STEP_PATCH;
    return mirror ? STEP_MIRROR : STEP_NONE;
}

static bool has_work(const struct status_writer *w) {
    return !w->read || !w->rv || w->dirty || w->mirror_dirty;
}

static void run(struct status_queue *q) {
    struct status_writer *w, *next;
    int64_t now = clock_mono_ms();
    DL_FOREACH_SAFE (q->waiting, w, next) {
        if (q->calls >= MAX_CALLS)
            break;
        if (!has_work(w)) {
            DL_DELETE(q->waiting, w);
            w->waiting = false;
        } else if ((w->step = next_step(w, now)) != STEP_NONE) {
            w->last = w->step;
            start_step(w);
        }
    }
    if (q->waiting && !timer_pending(q->tick))
        timer_set(q->tick, TICK_MS);
}

static void on_tick(void *arg) {
    run(arg);
}

static void schedule(struct status_writer *w) {
    if (!w->waiting) {
        w->waiting = true;
        DL_APPEND(w->queue->waiting, w);
    }
    if (!timer_pending(w->queue->tick))
        timer_set(w->queue->tick, 0);
}

/* ---- what is written ---- */

/* A whole DeviceStatus, which is a merge patch of one as well. */
static void add_status(const struct status_writer *w, struct buf *out) {
    const struct device *d = w->device;
    (void)buf_addf(out,
                   "{\"apiVersion\":\"" GROUP "/" VERSION "\",\"kind\":\"DeviceStatus\",\"metadata\":{\"name\":\"%s\","
                   "\"namespace\":\"%s\",\"ownerReferences\":[{\"apiVersion\":\"" GROUP "/" VERSION
                   "\",\"kind\":\"Device\",\"name\":\"%s\",\"uid\":\"%s\",\"controller\":true,"
                   "\"blockOwnerDeletion\":true}]",
                   d->name, d->ns, d->name, d->uid);
    if (w->rv)
        (void)buf_addf(out, ",\"resourceVersion\":\"%s\"", w->rv);
    (void)buf_add_str(out, "},\"spec\":{},\"status\":{");
    device_state_write(&w->state, out);
    (void)buf_add_str(out, "}}");
}

static void add_mirror(const struct status_writer *w, struct buf *out) {
    const char *why = w->verdict ? w->verdict : w->state.message;
    char now[RFC3339_SIZE];
    (void)buf_addf(out, "{\"metadata\":{\"uid\":\"%s\"},\"status\":{", w->device->uid);
    device_state_write(&w->state, out);
    (void)buf_add_str(out, ",\"message\":");
    if (why)
        (void)json_append_string(out, bytes_str(why));
    else
        (void)buf_add_str(out, "null");
    if (w->reported)
        (void)buf_addf(out, ",\"lastReportTime\":\"%s\"", rfc3339_now(now));
    (void)buf_add_str(out, "}}");
}

/* ---- calls ---- */

static void on_done(void *arg, struct kube_result *r);

static void call(struct status_writer *w, const char *verb, const char *plural, bool named, const struct buf *body) {
    const struct device *d = w->device;
    _cleanup_(free_p) char *path = kube_path(GROUP, VERSION, d->ns, plural, named ? d->name : NULL, NULL);
    const struct kube_request r = {.verb = verb,
                                   .path = path,
                                   .content_type = str_eq(verb, "PATCH") ? KUBE_MERGE_PATCH : NULL,
                                   .body = body ? buf_bytes(body) : BYTES_EMPTY,
                                   .done = on_done,
                                   .arg = w};
    w->queue->calls++;
    w->call = kube_call(w->queue->c->o.kube, &r);
}

static void start_step(struct status_writer *w) {
    _cleanup_(buf_free) struct buf body = BUF_INIT(BODY_MAX);
    switch (w->step) {
    case STEP_READ:
        call(w, "GET", "devicestatuses", true, NULL);
        break;
    case STEP_CREATE:
    case STEP_PATCH:
        add_status(w, &body);
        w->dirty = false;
        strlist_free(&w->sent);
        w->sent = w->confirms;
        w->confirms = (struct strlist){0};
        call(w, w->step == STEP_CREATE ? "POST" : "PATCH", "devicestatuses", w->step == STEP_PATCH, &body);
        break;
    case STEP_MIRROR:
        add_mirror(w, &body);
        w->mirror_dirty = w->mirror_now = false;
        w->mirror_due_ms = clock_mono_ms() + MIRROR_MS;
        call(w, "PATCH", "devices", true, &body);
        break;
    case STEP_NONE:
        break;
    }
}

static void keep_identity(struct status_writer *w, yyjson_val *object) {
    free(w->uid);
    free(w->rv);
    w->uid = xstrdup(object_uid(object));
    w->rv = xstrdup(object_rv(object));
}

static void was_read(struct status_writer *w, yyjson_val *object) {
    yyjson_val *device = device_object(w->device);
    yyjson_val *ref = yyjson_arr_get_first(json_get(object, "metadata", "ownerReferences"));
    const char *owner = json_str(ref, "uid");
    w->read = true;
    keep_identity(w, object);
    /* Of an earlier Device of this name: what it reported is not ours. */
    if (!owner || str_eq(owner, w->device->uid))
        device_state_fill(&w->state, json_get(object, "status"));
    else
        w->dirty = true;
    if (device && device_state_prune(&w->state, device))
        w->dirty = true;
}

static void was_written(struct status_writer *w, yyjson_val *object) {
    if (object)
        keep_identity(w, object);
    for (size_t i = 0; i < w->sent.count; i++)
        devices_confirm(w->queue->c, w->device->node, w->sent.items[i]);
    strlist_free(&w->sent);
    w->due_ms = clock_mono_ms() + WRITE_MS;
}

/* What the write did not cover waits for the next one. */
static void was_refused(struct status_writer *w) {
    w->dirty = true;
    for (size_t i = 0; i < w->sent.count && w->confirms.count < MAX_CONFIRMATIONS; i++)
        strlist_add(&w->confirms, w->sent.items[i]);
    strlist_free(&w->sent);
}

static void failed(struct status_writer *w, const struct error *err) {
    enum step step = w->step;
    w->due_ms = clock_mono_ms() + backoff_next_ms(&w->backoff);
    if (step == STEP_MIRROR)
        w->mirror_dirty = w->mirror_now = true;
    else if (step != STEP_READ)
        was_refused(w);
    if (err->code == ERR_CONFLICT || err->code == ERR_EXISTS || err->code == ERR_NOT_FOUND)
        log_debug("the status of a device is written again: %s device=%s", error_text(err), w->device->key);
    else
        log_warn("the status of a device could not be written, trying again: %s device=%s", error_text(err),
                 w->device->key);
}

static void on_done(void *arg, struct kube_result *r) {
    struct status_writer *w = arg;
    enum error_code code = r->error.code;
    w->call = NULL;
    w->queue->calls--;
    if (code == ERR_NONE) {
        backoff_reset(&w->backoff);
        if (w->step == STEP_READ)
            was_read(w, r->body);
        else if (w->step != STEP_MIRROR)
            was_written(w, r->body);
    } else if (w->step == STEP_READ && code == ERR_NOT_FOUND) {
        w->read = true; /* there is none: made next */
    } else if (w->step == STEP_MIRROR && (code == ERR_CONFLICT || code == ERR_NOT_FOUND)) {
        log_debug("the Device has changed or gone meanwhile device=%s", w->device->key);
    } else if (w->step != STEP_MIRROR && (code == ERR_CONFLICT || code == ERR_EXISTS || code == ERR_NOT_FOUND)) {
        failed(w, &r->error); /* somebody else wrote, made or deleted it: read it again */
        w->due_ms = 0;
        w->read = false;
        free(TAKE(w->rv));
    } else {
        failed(w, &r->error);
    }
    run(w->queue);
}

/* ---- what comes in ---- */

/* What is wrong with the Device itself. */
static char *judge(const struct device *d) {
    yyjson_val *object = device_object(d);
    const char *model = json_str(object, "spec", "deviceModelRef", "name");
    if (!reflector_synced(d->c->models) || !object)
        return NULL;
    if (str_empty(model))
        return xstrdup("spec.deviceModelRef.name is empty: it must name a DeviceModel of the same namespace");
    if (!device_model(d))
        return xasprintf("there is no DeviceModel %s in namespace %s", model, d->ns);
    if (!*d->node)
        return xstrdup("spec.nodeName is empty: the device is on no node");
    return NULL;
}

void status_writer_refresh(struct status_writer *w) {
    char *verdict = judge(w->device);
    yyjson_val *object = device_object(w->device);
    if (!str_eq(verdict, w->verdict))
        w->mirror_dirty = w->mirror_now = true;
    free(w->verdict);
    w->verdict = verdict;
    if (w->read && object && device_state_prune(&w->state, object))
        w->dirty = w->mirror_dirty = true;
    schedule(w);
}

void status_writer_report(struct status_writer *w, yyjson_val *content, enum report_kind kind, const char *message_id) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *state = xstrdup_null(w->state.state), *message = xstrdup_null(w->state.message);
    if (device_state_apply(&w->state, kind, content, device_object(w->device), &err) < 0) {
        metric_add(w->queue->c->denied, 1);
        log_warn("report dropped: %s device=%s", error_text(&err), w->device->key);
        devices_confirm(w->queue->c, w->device->node, message_id);
        return;
    }
    if (!w->reported || !str_eq(state, w->state.state) || !str_eq(message, w->state.message))
        w->mirror_now = true;
    w->dirty = w->mirror_dirty = w->reported = true;
    if (w->confirms.count < MAX_CONFIRMATIONS)
        strlist_add(&w->confirms, message_id);
    schedule(w);
}

/* ---- life ---- */

struct status_queue *status_queue_new(struct devicecontroller *c) {
    struct status_queue *q = NEW(struct status_queue);
    q->c = c;
    q->tick = timer_new(c->o.loop, on_tick, q);
    return q;
}

void status_queue_free(struct status_queue *q) {
    timer_free(q->tick);
    free(q);
}

struct status_writer *status_writer_new(struct status_queue *q, struct device *d) {
    struct status_writer *w = NEW(struct status_writer);
    w->queue = q;
    w->device = d;
    w->backoff = BACKOFF(RETRY_MS, RETRY_MAX_MS);
    w->verdict = judge(d);
    w->mirror_dirty = w->mirror_now = w->verdict != NULL;
    schedule(w);
    return w;
}

/* Kubernetes collects it with its owner; the embedded API server has nobody who does. */
static void delete_status(const struct status_writer *w) {
    _cleanup_(free_p) char *path = kube_path(GROUP, VERSION, w->device->ns, "devicestatuses", w->device->name, NULL);
    _cleanup_(free_p) char *body = xasprintf("{\"preconditions\":{\"uid\":\"%s\"}}", w->uid);
    const struct kube_request r = {.verb = "DELETE", .path = path, .body = bytes_str(body)};
    kube_call(w->queue->c->o.kube, &r);
}

void status_writer_free(struct status_writer *w, bool gone) {
    if (w->call) {
        kube_call_cancel(w->call);
        w->queue->calls--;
    }
    if (w->waiting)
        DL_DELETE(w->queue->waiting, w);
    if (gone && w->uid)
        delete_status(w);
    device_state_free(&w->state);
    strlist_free(&w->confirms);
    strlist_free(&w->sent);
    free(w->verdict);
    free(w->uid);
    free(w->rv);
    free(w);
}
