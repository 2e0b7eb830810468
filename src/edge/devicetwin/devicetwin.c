#include "edge/devicetwin/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "kube/object.h"
#include "wire/resource.h"

#include <utlist.h>

#define LOAD_TIMEOUT_MS 60000

/* ---- JSON ---- */

void devicetwin_begin(struct buf *out, const char *event_id) {
    char id[UUID_SIZE];
    (void)buf_add_str(out, "{\"event_id\":");
    (void)json_append_string(out, bytes_str(event_id ? event_id : uuid_v4(id)));
    (void)buf_addf(out, ",\"timestamp\":%lld", (long long)clock_wall_ms());
}

static void add_member(struct buf *out, const char *name, const char *value) {
    if (!value)
        return;
    (void)buf_addf(out, ",\"%s\":", name);
    (void)json_append_string(out, bytes_str(value));
}

void devicetwin_add_state(const struct twin_device *d, struct buf *out) {
    (void)buf_add_str(out, "\"device\":{\"name\":");
    (void)json_append_string(out, bytes_str(d->name));
    add_member(out, "state", d->state);
    add_member(out, "lastOnlineTime", d->last_online);
    add_member(out, "message", d->message);
    (void)buf_add_char(out, '}');
}

/* ---- devices ---- */

static struct twin_device *find_id(struct devicetwin *t, struct bytes id) {
    struct twin_device *d;
    HASH_FIND(hh, t->devices, id.ptr, id.len, d);
    return d;
}

struct twin_device *devicetwin_find(struct devicetwin *t, struct bytes ns, struct bytes name) {
    _cleanup_(free_p) char *id = xasprintf("%.*s/%.*s", (int)ns.len, ns.ptr, (int)name.len, name.ptr);
    return find_id(t, bytes_str(id));
}

static void publish_membership(struct devicetwin *t, const char *id, const char *name, bool added) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(4096);
    _cleanup_(free_p) char *topic = xasprintf("$hw/events/node/%s/membership/updated", t->config->edged.node_name);
    devicetwin_begin(&b, NULL);
    (void)buf_addf(&b, ",\"%s\":[{\"id\":", added ? "added_devices" : "removed_devices");
    (void)json_append_string(&b, bytes_str(id));
    add_member(&b, "name", name);
    (void)buf_addf(&b, "}],\"%s\":null}", added ? "removed_devices" : "added_devices");
    const struct message_fields f = {
        .source = MODULE_TWIN, .group = "bus", .operation = "publish", .resource = topic, .content_string = b.ptr};
    keeper_emit(t, "eventbus", message_new(&f));
}

/* One that is known stays as it is. */
static struct twin_device *add_device(struct devicetwin *t, struct bytes id, const char *description) {
    struct twin_device *d = find_id(t, id);
    if (!d) {
        d = twin_device_new(id);
        HASH_ADD_KEYPTR(hh, t->devices, d->id, strlen(d->id), d);
        publish_membership(t, d->id, d->name, true);
    }
    if (!str_empty(description) && !str_eq(description, d->description)) {
        free(d->description);
        d->description = xstrdup(description);
        d->dirty = true;
    }
    if (d->dirty)
        keeper_changed(t, d);
    return d;
}

static void drop_device(struct devicetwin *t, struct twin_device *d) {
    HASH_DEL(t->devices, d);
    cloud_forget(t, d);
    for (struct twin_device **p = &t->dirty; d->row_queued && *p; p = &(*p)->next_row) {
        if (*p == d) {
            *p = d->next_row;
            break;
        }
    }
    twin_device_free(d);
}

static void remove_device(struct devicetwin *t, struct bytes id) {
    struct twin_device *d = find_id(t, id);
    if (!d)
        return;
    /* Its stored object goes with it, so that a deletion of that which comes later is told to nobody. */
    const struct message_fields f = {
        .source = MODULE_TWIN, .group = GROUP_TWIN, .operation = OP_DELETE, .resource = d->id};
    keeper_emit(t, "dmi", message_new(&f));
    keeper_removed(t, d->id);
    publish_membership(t, d->id, d->name, false);
    drop_device(t, d);
}

/* ---- membership: the cloud's list ---- */

static struct bytes entry_id(yyjson_val *entry) {
    return bytes_str(str_or(json_str(entry, "id"), ""));
}

static void membership_changed(struct devicetwin *t, yyjson_val *content) {
    yyjson_val *v;
    size_t i, max;
    yyjson_arr_foreach (json_get(content, "added_devices"), i, max, v) {
        if (entry_id(v).len > 0)
            add_device(t, entry_id(v), json_str(v, "description"));
    }
    yyjson_arr_foreach (json_get(content, "removed_devices"), i, max, v)
        remove_device(t, entry_id(v));
}

/* A device that is not on the list was deleted, or moved away, while we were not connected. */
static void remove_unlisted(struct devicetwin *t, yyjson_val *list) {
    struct twin_device *d, *next;
    HASH_ITER (hh, t->devices, d, next) {
        yyjson_val *v;
        size_t i, max;
        bool listed = false;
        yyjson_arr_foreach (list, i, max, v) {
            listed = listed || bytes_eq_str(entry_id(v), d->id);
        }
        if (listed)
            continue;
        log_info("the cloud no longer has this device here device=%s", d->id);
        remove_device(t, bytes_str(d->id));
    }
}

static void membership_told(struct devicetwin *t, yyjson_val *content) {
    yyjson_val *list = json_get(content, "devices"), *v;
    size_t i, max;
    if (!yyjson_is_arr(list))
        return;
    remove_unlisted(t, list);
    yyjson_arr_foreach (list, i, max, v) {
        if (entry_id(v).len > 0)
            add_device(t, entry_id(v), json_str(v, "description"));
    }
}

/* ---- objects: devices and models, as MetaManager has stored them ---- */

static void object_stored(struct devicetwin *t, struct message *m) {
    struct resource r;
    if (resource_parse(bytes_str(m->resource), &r, NULL) < 0 || r.ns.len == 0 || r.name.len == 0) {
        message_free(m);
        return;
    }
    if (bytes_eq_str(r.type, "device")) {
        _cleanup_(free_p) char *id = xasprintf("%.*s/%.*s", (int)r.ns.len, r.ns.ptr, (int)r.name.len, r.name.ptr);
        if (str_eq(m->operation, OP_DELETE))
            remove_device(t, bytes_str(id));
        else
            add_device(t, bytes_str(id), object_label(m->content, "description"));
    }
    keeper_emit(t, "dmi", m);
}

/* ---- the bus ---- */

static void from_cloud(struct devicetwin *t, struct message *m) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    yyjson_val *content = message_content_object(m, &doc);
    if (*m->parent_id)
        cloud_confirmed(t, m->parent_id);
    else if (str_eq(m->resource, "membership/detail"))
        membership_told(t, content);
    else if (str_eq(m->resource, "membership"))
        membership_changed(t, content);
    else
        log_debug("a message is not understood resource=%s source=%s", m->resource, m->source);
    message_free(m);
}

static void dispatch(struct devicetwin *t, struct message *m) {
    if (str_eq(m->source, "bus"))
        request_from_mqtt(t, m);
    else if (str_eq(m->source, "dmi"))
        request_from_mapper(t, m);
    else if (!*m->parent_id && str_ends_with(m->resource, "/twin/cloud_updated"))
        request_from_cloud(t, m);
    else if (str_eq(m->group, GROUP_TWIN))
        from_cloud(t, m);
    else
        object_stored(t, m);
}

static void handle(void *arg, struct message *m) {
    struct devicetwin *t = arg;
    if (t->stopped) {
        message_free(m);
        return;
    }
    if (!t->loaded) {
        struct output *o = NEW(struct output);
        o->message = m;
        DL_APPEND(t->early, o);
        return;
    }
    dispatch(t, m);
    cloud_run(t);
    keeper_run(t);
}

/* ---- start ---- */

static void read_rows(struct devicetwin *t, yyjson_val *content) {
    yyjson_val *row;
    size_t i, max;
    yyjson_arr_foreach (json_get(content, "devices"), i, max, row) {
        const char *id = json_str(row, "id"), *state = json_str(row, "state");
        if (str_empty(id) || find_id(t, bytes_str(id)))
            continue;
        struct twin_device *d = twin_device_new(bytes_str(id));
        d->description = xstrdup_null(json_str(row, "description"));
        d->state = str_empty(state) ? NULL : xstrdup(state);
        d->last_online = str_empty(json_str(row, "last_online")) ? NULL : xstrdup(json_str(row, "last_online"));
        d->dirty = false;
        d->state_sync = d->state ? TWIN_UNSENT : TWIN_SYNCED;
        HASH_ADD_KEYPTR(hh, t->devices, d->id, strlen(d->id), d);
    }
    yyjson_arr_foreach (json_get(content, "twins"), i, max, row) {
        struct twin_device *d = find_id(t, bytes_str(str_or(json_str(row, "deviceid"), "")));
        if (d)
            twin_read_row(d, row);
    }
}

static void on_loaded(void *arg, struct message *answer, const struct error *err) {
    struct devicetwin *t = arg;
    struct twin_device *d;
    struct output *o, *next;
    t->loading = NULL;
    if (answer) {
        read_rows(t, answer->content);
        message_free(answer);
    } else {
        log_error("stored device twins cannot be read, beginning without them: %s", error_text(err));
    }
    t->loaded = true;
    for (d = t->devices; d; d = d->hh.next)
        cloud_queue(t, d);
    DL_FOREACH_SAFE (t->early, o, next) {
        DL_DELETE(t->early, o);
        dispatch(t, o->message);
        free(o);
    }
    cloud_run(t);
    keeper_run(t);
}

static void on_connected(void *arg, bool connected) {
    struct devicetwin *t = arg;
    if (!t->stopped)
        cloud_connected(t, connected);
}

static void on_resend(void *arg) {
    struct devicetwin *t = arg;
    cloud_tick(t);
    cloud_run(t);
    keeper_run(t);
}

struct devicetwin *devicetwin_new(struct loop *l, struct bus *b, const struct edge_config *c) {
    struct devicetwin *t = NEW(struct devicetwin);
    t->loop = l;
    t->bus = b;
    t->config = c;
    t->resend = timer_new(l, on_resend, t);
    t->updates = metric_get(METRIC_COUNTER, "selvage_devicetwin_updates_total", "Twin updates accepted", NULL);
    t->refused = metric_get(METRIC_COUNTER, "selvage_devicetwin_refused_total", "Requests of devices refused", NULL);
    return t;
}

void devicetwin_start(struct devicetwin *t) {
    const struct message_fields f = {
        .source = MODULE_TWIN, .group = GROUP_META, .operation = OP_QUERY, .resource = "devicetwin"};
    bus_register(t->bus, MODULE_TWIN, handle, t);
    bus_on_connected(t->bus, on_connected, t);
    t->loading = bus_request(t->bus, MODULE_METAMANAGER, message_new(&f), LOAD_TIMEOUT_MS, on_loaded, t);
}

void devicetwin_stop(struct devicetwin *t) {
    t->stopped = true;
}

void devicetwin_free(struct devicetwin *t) {
    if (!t)
        return;
    struct twin_device *d, *next;
    bus_unregister(t->bus, MODULE_TWIN);
    bus_off_connected(t->bus, on_connected, t);
    bus_request_cancel(t->loading);
    HASH_ITER (hh, t->devices, d, next)
        drop_device(t, d);
    keeper_free(t);
    timer_free(t->resend);
    free(t);
}
