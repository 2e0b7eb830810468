/* Reports to the cloud: per device one message on its way, confirmed by the cloud once written down there. What changes
 * meanwhile goes with the next one: newest wins, so a slow link costs one message per device. While there is no link
 * nothing is sent; when it returns, all that the cloud has not confirmed is. */
#include "edge/devicetwin/internal.h"

#include "base/clock.h"

#define CONFIRM_MS 15000 /* after that a report counts as lost */
#define TICK_MS 5000
#define REPORT_MAX (16u << 20)

void cloud_queue(struct devicetwin *t, struct twin_device *d) {
    if (d->queued || d->report_id)
        return;
    d->queued = true;
    d->next_report = t->unsent;
    t->unsent = d;
}

void cloud_forget(struct devicetwin *t, struct twin_device *d) {
    struct twin_device **p;
    for (p = &t->unsent; d->queued && *p; p = &(*p)->next_report) {
        if (*p == d) {
            *p = d->next_report;
            break;
        }
    }
    if (d->report_id)
        HASH_DELETE(hh_report, t->reports, d);
}

static void send(struct devicetwin *t, struct twin_device *d, const char *what, struct buf *content, bool as_text) {
    _cleanup_(free_p) char *resource = xasprintf("device/%s/%s", d->id, what);
    struct message_fields f = {
        .source = MODULE_TWIN, .group = GROUP_RESOURCE, .operation = OP_UPDATE, .resource = resource};
    if (as_text)
        f.content_string = content->ptr;
    else
        f.content_text = buf_bytes(content);
    struct message *m = message_new(&f);
    d->report_id = xstrdup(m->id);
    d->report_ms = clock_mono_ms();
    HASH_ADD_KEYPTR(hh_report, t->reports, d->report_id, strlen(d->report_id), d);
    keeper_emit(t, MODULE_WEBSOCKET, m);
    if (!timer_pending(t->resend))
        timer_set(t->resend, TICK_MS);
}

/* The state first: a value that comes with it would be of a device that is not there yet. */
static void report(struct devicetwin *t, struct twin_device *d) {
    _cleanup_(buf_free) struct buf content = BUF_INIT(REPORT_MAX);
    devicetwin_begin(&content, NULL);
    if (d->state_sync == TWIN_UNSENT) {
        (void)buf_add_char(&content, ',');
        devicetwin_add_state(d, &content);
        (void)buf_add_char(&content, '}');
        d->state_sync = TWIN_SENT;
        send(t, d, "state/update", &content, true);
        return;
    }
    (void)buf_add_str(&content, ",\"twin\":");
    bool any = twin_write_report(d, &content);
    (void)buf_add_char(&content, '}');
    if (any)
        send(t, d, "twin/edge_updated", &content, false);
}

void cloud_run(struct devicetwin *t) {
    if (!bus_connected(t->bus))
        return;
    while (t->unsent) {
        struct twin_device *d = t->unsent;
        t->unsent = d->next_report;
        d->queued = false;
        if (!d->report_id)
            report(t, d);
    }
}

static void settle(struct devicetwin *t, struct twin_device *d, bool arrived) {
    HASH_DELETE(hh_report, t->reports, d);
    free(TAKE(d->report_id));
    if (d->state_sync == TWIN_SENT)
        d->state_sync = arrived ? TWIN_SYNCED : TWIN_UNSENT;
    else
        twin_report_done(d, arrived);
    if (d->state_sync == TWIN_UNSENT || twin_has_report(d))
        cloud_queue(t, d);
}

void cloud_confirmed(struct devicetwin *t, const char *id) {
    struct twin_device *d;
    HASH_FIND(hh_report, t->reports, id, strlen(id), d);
    if (d)
        settle(t, d, true);
}

static void lose(struct devicetwin *t, int64_t older_than_ms) {
    struct twin_device *d, *next;
    HASH_ITER (hh_report, t->reports, d, next)
        if (d->report_ms <= older_than_ms)
            settle(t, d, false);
}

void cloud_tick(struct devicetwin *t) {
    lose(t, clock_mono_ms() - CONFIRM_MS);
    if (t->reports)
        timer_set(t->resend, TICK_MS);
}

/* Which devices there are is asked at each connection: those that went away meanwhile are not told otherwise. */
static void ask_membership(struct devicetwin *t) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(4096);
    devicetwin_begin(&b, NULL);
    (void)buf_add_str(&b, ",\"event_type\":\"group_membership_event\",\"operation\":\"detail\",\"group_id\":");
    (void)json_append_string(&b, bytes_str(t->config->edged.node_name));
    (void)buf_add_char(&b, '}');
    const struct message_fields f = {.source = MODULE_TWIN,
                                     .group = GROUP_RESOURCE,
                                     .operation = "get",
                                     .resource = "membership/detail",
                                     .content_string = b.ptr};
    keeper_emit(t, MODULE_WEBSOCKET, message_new(&f));
}

void cloud_connected(struct devicetwin *t, bool connected) {
    if (!connected) {
        lose(t, INT64_MAX);
        return;
    }
    ask_membership(t);
    cloud_run(t);
    keeper_run(t);
}
