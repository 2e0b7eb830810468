/* Rows that have changed are stored together, while the transaction before is being committed. What tells of a change
 * waits until that is on disk. */
#include "edge/devicetwin/internal.h"

#include <utlist.h>

#define SAVE_TIMEOUT_MS 60000
#define RETRY_MS 1000
#define ROWS_MAX (32u << 20)

static void send_all(struct devicetwin *t, struct output **list) {
    struct output *o, *next;
    DL_FOREACH_SAFE (*list, o, next) {
        DL_DELETE(*list, o);
        if (o->to)
            bus_send(t->bus, o->to, o->message);
        else if (!bus_reply(t->bus, o->message))
            message_free(o->message); /* it waits no longer */
        free(o);
    }
}

void keeper_emit(struct devicetwin *t, const char *to, struct message *m) {
    struct output *o = NEW(struct output);
    o->to = to;
    o->message = m;
    DL_APPEND(t->held, o);
}

void keeper_changed(struct devicetwin *t, struct twin_device *d) {
    if (d->row_queued)
        return;
    d->row_queued = true;
    d->next_row = t->dirty;
    t->dirty = d;
}

void keeper_removed(struct devicetwin *t, const char *id) {
    strlist_add(&t->removed, id);
}

static void add_rows(struct twin_device *d, struct buf *devices, struct buf *twins) {
    struct twin *w;
    if (d->dirty) {
        if (devices->len > 1)
            (void)buf_add_char(devices, ',');
        twin_write_device_row(d, devices);
        d->dirty = false;
    }
    for (w = d->twins; w; w = w->hh.next) {
        if (!w->dirty)
            continue;
        if (twins->len > 1)
            (void)buf_add_char(twins, ',');
        twin_write_row(d, w, twins);
        w->dirty = false;
    }
}

static char *collect(struct devicetwin *t) {
    _cleanup_(buf_free) struct buf devices = BUF_INIT(ROWS_MAX), twins = BUF_INIT(ROWS_MAX);
    struct buf out = BUF_INIT(ROWS_MAX * 2);
    (void)buf_add_str(&out, "{\"removed\":[");
    for (size_t i = 0; i < t->removed.count; i++) {
        if (i)
            (void)buf_add_char(&out, ',');
        (void)json_append_string(&out, bytes_str(t->removed.items[i]));
    }
    strlist_free(&t->removed);
    (void)buf_add_char(&devices, '[');
    (void)buf_add_char(&twins, '[');
    while (t->dirty) {
        struct twin_device *d = t->dirty;
        t->dirty = d->next_row;
        d->row_queued = false;
        add_rows(d, &devices, &twins);
    }
    (void)buf_addf(&out, "],\"devices\":%s],\"twins\":%s]}", devices.ptr, twins.ptr);
    if (devices.overflowed || twins.overflowed || out.overflowed)
        panic("devicetwin: more than %u bytes of changed rows at once", ROWS_MAX);
    return buf_take(&out, NULL);
}

static void start(struct devicetwin *t);

static void on_saved(void *arg, struct message *answer, const struct error *err) {
    struct devicetwin *t = arg;
    t->saving = NULL;
    if (answer) {
        log_once_recovered(&t->disk, LOG_COMPONENT, "device twins can be stored again");
        message_free(answer);
        free(TAKE(t->saving_text));
    } else {
        log_once_failed(&t->disk, LOG_COMPONENT, "device twins cannot be stored, trying again: %s", error_text(err));
        timer_set(t->retry, RETRY_MS);
    }
    send_all(t, &t->covered); /* also when the disk is full: devices go on working from memory */
    if (answer)
        keeper_run(t);
}

static void start(struct devicetwin *t) {
    const struct message_fields f = {.source = MODULE_TWIN,
                                     .group = GROUP_META,
                                     .operation = OP_UPDATE,
                                     .resource = "devicetwin",
                                     .content_text = bytes_str(t->saving_text)};
    t->saving = bus_request(t->bus, MODULE_METAMANAGER, message_new(&f), SAVE_TIMEOUT_MS, on_saved, t);
}

static void on_retry(void *arg) {
    start(arg);
}

void keeper_run(struct devicetwin *t) {
    if (t->saving)
        return;
    if (t->saving_text) { /* storing fails: what is told goes out, what changed waits */
        send_all(t, &t->held);
        return;
    }
    if (!t->dirty && t->removed.count == 0) {
        send_all(t, &t->held);
        return;
    }
    if (!t->retry)
        t->retry = timer_new(t->loop, on_retry, t);
    DL_CONCAT(t->covered, t->held);
    t->held = NULL;
    t->saving_text = collect(t);
    start(t);
}

static void drop_all(struct output **list) {
    struct output *o, *next;
    DL_FOREACH_SAFE (*list, o, next) {
        DL_DELETE(*list, o);
        message_free(o->message);
        free(o);
    }
}

void keeper_free(struct devicetwin *t) {
    bus_request_cancel(t->saving);
    timer_free(t->retry);
    drop_all(&t->held);
    drop_all(&t->covered);
    drop_all(&t->early);
    free(t->saving_text);
    strlist_free(&t->removed);
}
