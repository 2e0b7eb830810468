/* What MQTT clients and mappers ask and report (devices.md 3.4, 3.5, 4.6). */
#include "edge/devicetwin/internal.h"

#include "base/clock.h"

#define PAYLOAD_MAX (1u << 20)
#define DEVICE_PREFIX "$hw/events/device/"

struct request {
    struct devicetwin *t;
    struct twin_device *device; /* NULL: unknown */
    struct bytes ns, name;
    const char *topic; /* of the request, "" from a mapper */
    yyjson_val *content;
    const char *event_id;
    enum twin_origin origin;
};

/* ---- answers ---- */

static void publish(struct devicetwin *t, const char *topic, struct buf *text) {
    const struct message_fields f = {
        .source = MODULE_TWIN, .group = "bus", .operation = "publish", .resource = topic, .content_string = text->ptr};
    if (text->overflowed)
        log_warn("a message is too large to be published topic=%s", topic);
    else
        keeper_emit(t, "eventbus", message_new(&f));
}

static void publish_device(const struct request *r, const char *what, struct buf *text) {
    _cleanup_(free_p) char *topic =
        xasprintf(DEVICE_PREFIX "%.*s/%.*s/%s", (int)r->ns.len, r->ns.ptr, (int)r->name.len, r->name.ptr, what);
    publish(r->t, topic, text);
}

static void publish_error(const struct request *r, const struct error *err) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(PAYLOAD_MAX);
    _cleanup_(free_p) char *topic = xasprintf("%s/result", r->topic);
    int code = err->code == ERR_NOT_FOUND ? 404 : err->code == ERR_INVALID || err->code == ERR_TOO_LARGE ? 400 : 500;
    metric_add(r->t->refused, 1);
    log_debug("request refused: %s topic=%s", error_text(err), r->topic);
    if (!*r->topic)
        return;
    devicetwin_begin(&b, str_or(r->event_id, ""));
    (void)buf_addf(&b, ",\"code\":%d,\"reason\":", code);
    (void)json_append_string(&b, bytes_str(error_text(err)));
    (void)buf_add_char(&b, '}');
    publish(r->t, topic, &b);
}

/* ---- twins ---- */

static void publish_delta(const struct request *r) {
    _cleanup_(buf_free) struct buf delta = BUF_INIT(TWIN_JSON_MAX), twins = BUF_INIT(TWIN_JSON_MAX),
                                   b = BUF_INIT(TWIN_JSON_MAX * 2);
    if (!twin_write_delta(r->device, &delta, &twins))
        return;
    devicetwin_begin(&b, NULL);
    (void)buf_addf(&b, ",\"twin\":%s,\"delta\":%s}", twins.ptr, delta.ptr);
    publish_device(r, "twin/update/delta", &b);
}

static int update_twins(const struct request *r, struct error *err) {
    _cleanup_(buf_free) struct buf result = BUF_INIT(TWIN_JSON_MAX), document = BUF_INIT(TWIN_JSON_MAX),
                                   b = BUF_INIT(TWIN_JSON_MAX);
    bool changed = false, told = r->origin != TWIN_FROM_CLOUD;
    if (twin_update(r->device, r->content, r->origin, clock_wall_ms(), told ? &result : NULL, &document, &changed,
                    err) < 0)
        return -1;
    metric_add(r->t->updates, 1);
    if (told) {
        devicetwin_begin(&b, r->event_id);
        (void)buf_addf(&b, ",\"twin\":%s}", result.ptr);
        publish_device(r, "twin/update/result", &b);
    }
    if (!changed)
        return 0;
    keeper_changed(r->t, r->device);
    cloud_queue(r->t, r->device);
    buf_clear(&b);
    devicetwin_begin(&b, r->event_id);
    (void)buf_addf(&b, ",\"twin\":%s}", document.ptr);
    publish_device(r, "twin/update/document", &b);
    publish_delta(r);
    return 0;
}

static int get_twins(const struct request *r, struct error *err) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(TWIN_JSON_MAX);
    devicetwin_begin(&b, r->event_id);
    (void)buf_add_str(&b, ",\"twin\":");
    twin_write_all(r->device, &b);
    (void)buf_add_char(&b, '}');
    publish_device(r, "twin/get/result", &b);
    return 0;
}

/* ---- states ---- */

static void set_text(char **to, const char *text) {
    free(*to);
    *to = xstrdup_null(text);
}

static int update_state(const struct request *r, struct error *err) {
    const char *state = yyjson_get_str(twin_member(r->content, "state"));
    struct twin_device *d = r->device;
    char now[RFC3339_SIZE];
    if (str_empty(state) || !twin_state_known(state))
        return error_set(err, ERR_INVALID, "the state must be online, offline, ok, unknown, unhealthy or disconnected");
    set_text(&d->state, state);
    set_text(&d->last_online, str_case_eq(state, "online") || str_case_eq(state, "ok") ? rfc3339_now(now) : NULL);
    set_text(&d->message, yyjson_get_str(twin_member(r->content, "message")));
    d->dirty = true;
    d->state_sync = TWIN_UNSENT;
    keeper_changed(r->t, d);
    cloud_queue(r->t, d);
    _cleanup_(buf_free) struct buf b = BUF_INIT(PAYLOAD_MAX);
    devicetwin_begin(&b, NULL);
    (void)buf_add_char(&b, ',');
    devicetwin_add_state(d, &b);
    (void)buf_add_char(&b, '}');
    publish_device(r, "state/update/result", &b);
    return 0;
}

/* ---- membership/get ---- */

static void get_membership(struct devicetwin *t, const struct request *r) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(TWIN_JSON_MAX);
    _cleanup_(free_p) char *topic = xasprintf("$hw/events/node/%s/membership/get/result", t->config->edged.node_name);
    const char *comma = "";
    devicetwin_begin(&b, str_or(r->event_id, ""));
    (void)buf_add_str(&b, ",\"devices\":[");
    for (const struct twin_device *d = t->devices; d; d = d->hh.next) {
        const struct {
            const char *name, *value;
        } members[] = {
            {"name", d->name}, {"description", d->description}, {"state", d->state}, {"last_online", d->last_online}};
        (void)buf_addf(&b, "%s{\"id\":", comma);
        (void)json_append_string(&b, bytes_str(d->id));
        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
            if (str_empty(members[i].value))
                continue;
            (void)buf_addf(&b, ",\"%s\":", members[i].name);
            (void)json_append_string(&b, bytes_str(members[i].value));
        }
        (void)buf_add_char(&b, '}');
        comma = ",";
    }
    (void)buf_add_str(&b, "]}");
    publish(t, topic, &b);
}

/* ---- dispatch ---- */

static const struct action {
    const char *what;
    int (*act)(const struct request *r, struct error *err);
    bool needs_json; /* a state that cannot be read has no result topic of its own */
} ACTIONS[] = {
    {"twin/update", update_twins, true},
    {"twin/get", get_twins, true},
    {"state/update", update_state, true},
};

static const struct action *find_action(struct bytes what) {
    for (size_t i = 0; i < ARRAY_LEN(ACTIONS); i++)
        if (bytes_eq_str(what, ACTIONS[i].what))
            return &ACTIONS[i];
    return NULL;
}

static int run(struct request *r, const struct action *a, struct error *err) {
    if (!yyjson_is_obj(r->content))
        return error_set(err, ERR_INVALID, "the payload is not a JSON object");
    r->event_id = str_or(yyjson_get_str(twin_member(r->content, "event_id")), "");
    if (!r->device)
        return error_set(err, ERR_NOT_FOUND, "there is no device %.*s/%.*s on this node", (int)r->ns.len, r->ns.ptr,
                         (int)r->name.len, r->name.ptr);
    return a->act(r, err);
}

/* "<ns>/<name>/<what>" */
static bool split_device(struct bytes rest, struct request *r, struct bytes *what) {
    return bytes_cut(rest, '/', &r->ns, &rest) && bytes_cut(rest, '/', &r->name, what) && r->ns.len && r->name.len;
}

static void device_request(struct devicetwin *t, struct request *r, struct bytes rest, struct bytes payload) {
    struct bytes what;
    struct error err = ERROR_INIT;
    if (!split_device(rest, r, &what))
        return;
    const struct action *a = find_action(what);
    if (!a)
        return; /* results are ours; twin/cloud_updated is not for MQTT clients to say */
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(payload, PAYLOAD_MAX, &err);
    r->content = yyjson_doc_get_root(doc);
    r->device = devicetwin_find(t, r->ns, r->name);
    if (!doc || run(r, a, &err) < 0)
        publish_error(r, &err);
}

void request_from_mqtt(struct devicetwin *t, struct message *m) {
    size_t len;
    _cleanup_(free_p) char *text = message_content_text(m, &len);
    struct request r = {.t = t, .topic = m->resource, .origin = TWIN_FROM_MQTT};
    struct bytes topic = bytes_str(m->resource), part[6];
    if (bytes_starts_with(topic, DEVICE_PREFIX)) {
        topic.ptr += strlen(DEVICE_PREFIX);
        topic.len -= strlen(DEVICE_PREFIX);
        device_request(t, &r, topic, bytes_of(text, len));
    } else if (bytes_split(topic, '/', part, ARRAY_LEN(part)) == 6 && bytes_eq_str(part[2], "node") &&
               bytes_eq_str(part[4], "membership") && bytes_eq_str(part[5], "get")) {
        struct error err = ERROR_INIT;
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(bytes_of(text, len), PAYLOAD_MAX, &err);
        r.event_id = yyjson_get_str(twin_member(yyjson_doc_get_root(doc), "event_id"));
        if (doc)
            get_membership(t, &r);
        else
            publish_error(&r, &err);
    }
    message_free(m);
}

void request_from_mapper(struct devicetwin *t, struct message *m) {
    struct request r = {.t = t, .topic = "", .origin = TWIN_FROM_MAPPER, .content = m->content};
    struct bytes rest = bytes_str(m->resource), what;
    struct error err = ERROR_INIT;
    const struct action *a = NULL;
    if (bytes_cut(rest, '/', NULL, &rest) && split_device(rest, &r, &what))
        a = find_action(what);
    if (a)
        r.device = devicetwin_find(t, r.ns, r.name);
    int rc = a ? run(&r, a, &err) : error_set(&err, ERR_INVALID, "%s is no request", m->resource);
    if (rc < 0) {
        metric_add(t->refused, 1);
        (void)bus_reply_error(t->bus, m->id, &err);
    } else {
        const struct message_fields f = {.content_string = "OK"};
        keeper_emit(t, NULL, message_response(m, MODULE_TWIN, m->group, &f));
    }
    message_free(m);
}

void request_from_cloud(struct devicetwin *t, struct message *m) {
    struct request r = {.t = t, .topic = "", .origin = TWIN_FROM_CLOUD};
    struct bytes rest = bytes_str(m->resource), what;
    struct error err = ERROR_INIT;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    r.content = message_content_object(m, &doc);
    if (bytes_cut(rest, '/', NULL, &rest) && split_device(rest, &r, &what))
        r.device = devicetwin_find(t, r.ns, r.name);
    const struct action update = {"twin/cloud_updated", update_twins, true};
    if (run(&r, &update, &err) < 0)
        log_warn("a twin update of the cloud is refused: %s resource=%s", error_text(&err), m->resource);
    message_free(m);
}
