#define LOG_COMPONENT "dmi"

#include "edge/dmi/internal.h"

#include "base/file.h"
#include "net/grpc_server.h"
#include "wire/resource.h"

#include <libgen.h>
#include <utlist.h>

#define LOAD_TIMEOUT_MS 60000
#define REPORT_TIMEOUT_MS 10000
#define REPORT_MAX (4u << 20)
#define PATH_MAX_SOCKET 100
#define GRACE_MS 10000 /* for mappers to register before a device is told to have none */
#define SERVICE "/v1beta1.DeviceManagerService/"

/* ---- what is known ---- */

struct dmi_object *dmi_find(const struct dmi *d, enum dmi_kind kind, const char *key) {
    struct dmi_object *o;
    HASH_FIND_STR(d->objects[kind], key, o);
    return o;
}

yyjson_val *dmi_value(const struct dmi_object *o) {
    return o ? yyjson_doc_get_root(o->doc) : NULL;
}

static char *key_of(yyjson_val *object) {
    return xasprintf("%s/%s", object_namespace(object), object_name(object));
}

static void object_free(struct dmi *d, enum dmi_kind kind, struct dmi_object *o) {
    HASH_DEL(d->objects[kind], o);
    yyjson_doc_free(o->doc);
    free(o->key);
    free(o->protocol);
    free(o);
}

/* A copy in one piece, of what mappers are told only. */
static yyjson_doc *compact(yyjson_val *object) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *m = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(m), *metadata = json_ensure_obj(m, o, "metadata");
    static const char *const members[] = {"spec", "status"};
    json_set_str(m, metadata, "name", object_name(object));
    json_set_str(m, metadata, "namespace", object_namespace(object));
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        yyjson_val *v = json_get(object, members[i]);
        if (v)
            json_set(m, o, members[i], yyjson_val_mut_copy(m, v));
    }
    yyjson_mut_doc_set_root(m, o);
    return yyjson_mut_doc_imut_copy(m, NULL);
}

/* NULL: nothing that a mapper would see has changed. */
static struct dmi_object *put(struct dmi *d, enum dmi_kind kind, yyjson_val *object) {
    _cleanup_(free_p) char *key = key_of(object);
    struct dmi_object *o = dmi_find(d, kind, key);
    yyjson_doc *doc = compact(object);
    if (o && json_equal(dmi_value(o), yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return NULL;
    }
    if (!o) {
        o = NEW(struct dmi_object);
        o->dmi = d;
        o->key = TAKE(key);
        HASH_ADD_KEYPTR(hh, d->objects[kind], o->key, strlen(o->key), o);
    }
    yyjson_doc_free(o->doc);
    o->doc = doc;
    return o;
}

struct dmi_object *dmi_model_of(const struct dmi *d, const struct dmi_object *device) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", object_namespace(dmi_value(device)),
                                            str_or(json_str(dmi_value(device), "spec", "deviceModelRef", "name"), ""));
    return dmi_find(d, DMI_MODEL, key);
}

Dmi__Device *dmi_merged(const struct dmi *d, const struct dmi_object *device, struct error *err) {
    struct dmi_object *model = dmi_model_of(d, device);
    if (!model) {
        (void)error_set(err, ERR_NOT_FOUND, "its DeviceModel %s is not on this node",
                        str_or(json_str(dmi_value(device), "spec", "deviceModelRef", "name"), "(none named)"));
        return NULL;
    }
    return dmi_device(dmi_value(device), dmi_value(model), err);
}

/* ---- what devices are told to suffer from ---- */

void dmi_complain(struct dmi *d, struct dmi_object *device, const char *text) {
    if (!text && !device->complained)
        return;
    device->complained = text != NULL;
    _cleanup_(buf_free) struct buf content = BUF_INIT(8192);
    _cleanup_(free_p) char *resource = xasprintf("device/%s/state/update", device->key);
    (void)buf_add_str(&content, "{\"event_id\":\"\",\"state\":\"unknown\"");
    if (text) {
        log_warn("device is not served: %s device=%s", text, device->key);
        (void)buf_add_str(&content, ",\"message\":");
        (void)json_append_string(&content, bytes_str(text));
    }
    (void)buf_add_char(&content, '}');
    const struct message_fields f = {.source = "dmi",
                                     .group = GROUP_TWIN,
                                     .operation = OP_UPDATE,
                                     .resource = resource,
                                     .content_text = buf_bytes(&content)};
    bus_send(d->bus, MODULE_TWIN, message_new(&f));
}

/* ---- from DeviceTwin ---- */

static void serve(struct dmi *d, struct dmi_object *o) {
    const char *protocol = str_or(json_str(dmi_value(o), "spec", "protocol", "protocolName"), "");
    if (o->protocol && !str_eq(o->protocol, protocol))
        mapper_remove(d, o->protocol, o->key);
    bool known = str_eq(o->protocol, protocol);
    free(o->protocol);
    o->protocol = xstrdup(protocol);
    if (mapper_find(d, protocol))
        mapper_queue(d, protocol, known ? CALL_UPDATE_DEVICE : CALL_REGISTER_DEVICE, o->key);
    else if (!timer_pending(d->grace))
        timer_set(d->grace, GRACE_MS);
}

static void on_grace(void *arg) {
    struct dmi *d = arg;
    for (struct dmi_object *o = d->objects[DMI_DEVICE]; o; o = o->hh.next) {
        if (o->complained || mapper_find(d, o->protocol))
            continue;
        _cleanup_(free_p) char *text =
            *o->protocol ? xasprintf("no mapper for the protocol \"%s\" has registered on this node", o->protocol)
                         : xstrdup("spec.protocol.protocolName is empty");
        dmi_complain(d, o, text);
    }
}

static void device_removed(struct dmi *d, const char *key) {
    struct dmi_object *o = dmi_find(d, DMI_DEVICE, key);
    if (!o)
        return;
    if (o->protocol)
        mapper_remove(d, o->protocol, key);
    object_free(d, DMI_DEVICE, o);
}

static void model_stored(struct dmi *d, yyjson_val *object) {
    _cleanup_(free_p) char *key = key_of(object);
    bool known = dmi_find(d, DMI_MODEL, key) != NULL;
    struct dmi_object *m = put(d, DMI_MODEL, object);
    if (!m)
        return;
    const char *protocol = str_or(json_str(object, "spec", "protocol"), "");
    mapper_queue(d, protocol, known ? CALL_UPDATE_MODEL : CALL_CREATE_MODEL, m->key);
    for (struct dmi_object *o = d->objects[DMI_DEVICE]; o; o = o->hh.next) {
        if (dmi_model_of(d, o) != m || !o->protocol)
            continue;
        if (!str_eq(o->protocol, protocol))
            mapper_queue(d, o->protocol, known ? CALL_UPDATE_MODEL : CALL_CREATE_MODEL, m->key);
        mapper_queue(d, o->protocol, CALL_UPDATE_DEVICE, o->key); /* its merged settings have changed */
    }
}

static void model_removed(struct dmi *d, const char *key) {
    struct dmi_object *m = dmi_find(d, DMI_MODEL, key);
    if (!m)
        return;
    mapper_queue(d, str_or(json_str(dmi_value(m), "spec", "protocol"), ""), CALL_REMOVE_MODEL, key);
    object_free(d, DMI_MODEL, m);
}

static void handle(void *arg, struct message *m) {
    struct dmi *d = arg;
    struct resource r;
    bool remove = str_eq(m->operation, OP_DELETE);
    if (resource_parse(bytes_str(m->resource), &r, NULL) < 0) {
        message_free(m);
        return;
    }
    if (r.name.len == 0 && remove) {
        device_removed(d, m->resource);
        message_free(m);
        return;
    }
    _cleanup_(free_p) char *key = xasprintf("%.*s/%.*s", (int)r.ns.len, r.ns.ptr, (int)r.name.len, r.name.ptr);
    bool device = bytes_eq_str(r.type, "device");
    if (remove && device) {
        device_removed(d, key);
    } else if (remove) {
        model_removed(d, key);
    } else if (!device) {
        model_stored(d, m->content);
    } else {
        struct dmi_object *o = put(d, DMI_DEVICE, m->content);
        if (o)
            serve(d, o);
    }
    message_free(m);
}

/* ---- from mappers ---- */

struct waiting { /* a report until DeviceTwin has stored it */
    struct dmi *dmi;
    struct grpc_request *rpc;
    struct bus_request *request;
    const ProtobufCMessage *reply;
    struct waiting *prev, *next;
};

static const Dmi__ReportDeviceStatusResponse STATUS_REPLY = DMI__REPORT_DEVICE_STATUS_RESPONSE__INIT;
static const Dmi__ReportDeviceStatesResponse STATES_REPLY = DMI__REPORT_DEVICE_STATES_RESPONSE__INIT;

static void on_stored(void *arg, struct message *answer, const struct error *err) {
    struct waiting *w = arg;
    DL_DELETE(w->dmi->waiting, w);
    if (answer) {
        grpc_reply(w->rpc, w->reply);
        message_free(answer);
    } else {
        grpc_reply_error(w->rpc,
                         err->code == ERR_NOT_FOUND ? GRPC_NOT_FOUND
                         : err->code == ERR_INVALID ? GRPC_INVALID_ARGUMENT
                                                    : GRPC_UNAVAILABLE,
                         "%s", error_text(err));
    }
    free(w);
}

static void pass_report(struct dmi *d, struct grpc_request *rpc, const char *ns, const char *name, const char *what,
                        struct bytes content, const ProtobufCMessage *reply) {
    _cleanup_(free_p) char *resource = xasprintf("device/%s/%s/%s", ns, name, what);
    const struct message_fields f = {
        .source = "dmi", .group = GROUP_TWIN, .operation = OP_UPDATE, .resource = resource, .content_text = content};
    struct waiting *w = NEW(struct waiting);
    w->dmi = d;
    w->rpc = rpc;
    w->reply = reply;
    DL_APPEND(d->waiting, w);
    w->request = bus_request(d->bus, MODULE_TWIN, message_new(&f), REPORT_TIMEOUT_MS, on_stored, w);
}

static void handle_status(void *arg, struct grpc_request *rpc, const ProtobufCMessage *m) {
    const Dmi__ReportDeviceStatusRequest *q = (const Dmi__ReportDeviceStatusRequest *)m;
    _cleanup_(buf_free) struct buf content = BUF_INIT(REPORT_MAX);
    struct error err = ERROR_INIT;
    if (dmi_report_json(q, &content, &err) < 0) {
        grpc_reply_error(rpc, GRPC_INVALID_ARGUMENT, "%s", error_text(&err));
        return;
    }
    pass_report(arg, rpc, q->devicenamespace, q->devicename, "twin/update", buf_bytes(&content), &STATUS_REPLY.base);
}

static void handle_states(void *arg, struct grpc_request *rpc, const ProtobufCMessage *m) {
    const Dmi__ReportDeviceStatesRequest *q = (const Dmi__ReportDeviceStatesRequest *)m;
    _cleanup_(buf_free) struct buf content = BUF_INIT(REPORT_MAX);
    if (str_empty(q->devicename) || str_empty(q->devicenamespace) || str_empty(q->state)) {
        grpc_reply_error(rpc, GRPC_INVALID_ARGUMENT, "the report needs deviceName, deviceNamespace and state");
        return;
    }
    (void)buf_add_str(&content, "{\"event_id\":\"\",\"state\":");
    (void)json_append_string(&content, bytes_str(q->state));
    if (!str_empty(q->message)) {
        (void)buf_add_str(&content, ",\"message\":");
        (void)json_append_string(&content, bytes_str(q->message));
    }
    (void)buf_add_char(&content, '}');
    pass_report(arg, rpc, q->devicenamespace, q->devicename, "state/update", buf_bytes(&content), &STATES_REPLY.base);
}

static void store_mapper(struct dmi *d, const Dmi__MapperInfo *i, const char *address) {
    _cleanup_(buf_free) struct buf content = BUF_INIT(65536);
    _cleanup_(free_p) char *resource = xasprintf("node/nodeID/namespace/devicemapper/%s", i->name);
    const struct {
        const char *name, *value;
    } members[] = {{"name", i->name},
                   {"version", i->version},
                   {"api_version", i->api_version},
                   {"protocol", i->protocol},
                   {"state", i->state}};
    (void)buf_add_str(&content, "{\"address\":\"");
    (void)base64_encode(bytes_str(address), &content);
    (void)buf_add_char(&content, '"');
    for (size_t k = 0; k < ARRAY_LEN(members); k++) {
        (void)buf_addf(&content, ",\"%s\":", members[k].name);
        (void)json_append_string(&content, bytes_str(members[k].value));
    }
    (void)buf_add_char(&content, '}');
    const struct message_fields f = {.source = "dmi",
                                     .group = GROUP_META,
                                     .operation = OP_INSERT,
                                     .resource = resource,
                                     .content_text = buf_bytes(&content)};
    bus_send(d->bus, MODULE_METAMANAGER, message_new(&f));
}

static void answer_with_devices(struct dmi *d, struct grpc_request *rpc, const char *protocol) {
    Dmi__MapperRegisterResponse a = DMI__MAPPER_REGISTER_RESPONSE__INIT;
    size_t n = HASH_COUNT(d->objects[DMI_DEVICE]);
    a.devicelist = xcalloc(n + 1, sizeof *a.devicelist);
    a.modellist = xcalloc(n + 1, sizeof *a.modellist);
    for (struct dmi_object *o = d->objects[DMI_DEVICE]; o; o = o->hh.next) {
        struct error err = ERROR_INIT;
        if (!str_eq(o->protocol, protocol))
            continue;
        Dmi__Device *merged = dmi_merged(d, o, &err);
        dmi_complain(d, o, merged ? NULL : error_text(&err));
        if (!merged)
            continue;
        a.devicelist[a.n_devicelist++] = merged;
        a.modellist[a.n_modellist++] = dmi_model(dmi_value(dmi_model_of(d, o)));
    }
    grpc_reply(rpc, &a.base);
    for (size_t i = 0; i < a.n_devicelist; i++) {
        protobuf_c_message_free_unpacked(&a.devicelist[i]->base, NULL);
        protobuf_c_message_free_unpacked(&a.modellist[i]->base, NULL);
    }
    free(a.devicelist);
    free(a.modellist);
}

static void handle_register(void *arg, struct grpc_request *rpc, const ProtobufCMessage *m) {
    struct dmi *d = arg;
    const Dmi__MapperRegisterRequest *q = (const Dmi__MapperRegisterRequest *)m;
    const Dmi__MapperInfo *i = q->mapper;
    if (!i || str_empty(i->protocol) || str_empty(i->name) || strchr(i->name, '/') ||
        i->address.len > PATH_MAX_SOCKET) {
        grpc_reply_error(rpc, GRPC_INVALID_ARGUMENT,
                         "a mapper needs a name without '/', a protocol, and the path of its socket as address");
        return;
    }
    _cleanup_(free_p) char *address = xstrndup((const char *)i->address.data, i->address.len);
    log_info("mapper registered name=%s protocol=%s address=%s", i->name, i->protocol, address);
    store_mapper(d, i, address);
    if (q->withdata) {
        answer_with_devices(d, rpc, i->protocol);
    } else {
        Dmi__MapperRegisterResponse empty = DMI__MAPPER_REGISTER_RESPONSE__INIT;
        grpc_reply(rpc, &empty.base);
    }
    mapper_registered(d, i->protocol, address, q->withdata);
}

static const struct grpc_method METHODS[] = {
    {SERVICE "MapperRegister", &dmi__mapper_register_request__descriptor, handle_register},
    {SERVICE "ReportDeviceStatus", &dmi__report_device_status_request__descriptor, handle_status},
    {SERVICE "ReportDeviceStates", &dmi__report_device_states_request__descriptor, handle_states},
};

/* ---- start: models, devices, mappers, then the socket ---- */

/* A configured path that ends in .sock names a file in its folder; the file's name is always dmi.sock. */
static char *socket_path(const struct edge_config *c) {
    const char *configured = str_or(c->devicetwin.dmi_socket, "/etc/kubeedge/");
    _cleanup_(free_p) char *copy = xstrdup(configured);
    const char *folder = str_ends_with(configured, ".sock") ? dirname(copy) : copy;
    return xasprintf("%s%sdmi.sock", folder, str_ends_with(folder, "/") ? "" : "/");
}

static void open_socket(struct dmi *d) {
    struct error err = ERROR_INIT;
    const struct grpc_server_options o = {
        .unix_path = d->path, .unix_mode = 0660, .methods = METHODS, .n_methods = ARRAY_LEN(METHODS), .arg = d};
    d->server = grpc_server_new(d->loop, &o, &err);
    if (d->server)
        log_info("listening for mappers socket=%s devices=%u", d->path, HASH_COUNT(d->objects[DMI_DEVICE]));
    else
        log_error("mappers cannot reach edgecore: %s; see modules.deviceTwin.dmiSockPath", error_text(&err));
}

static void load_mapper(struct dmi *d, yyjson_val *v) {
    _cleanup_(buf_free) struct buf address = BUF_INIT(PATH_MAX_SOCKET + 1);
    const char *protocol = json_str(v, "protocol");
    if (str_empty(protocol) || base64_decode(bytes_str(str_or(json_str(v, "address"), "")), &address) < 0 ||
        !address.ptr)
        return;
    mapper_registered(d, protocol, address.ptr, true);
    for (struct dmi_object *o = d->objects[DMI_DEVICE]; o; o = o->hh.next)
        if (str_eq(o->protocol, protocol)) /* it may have missed something while we were not there */
            mapper_queue(d, protocol, CALL_UPDATE_DEVICE, o->key);
}

static void load_next(struct dmi *d);

static void on_loaded(void *arg, struct message *answer, const struct error *err) {
    struct dmi *d = arg;
    yyjson_val *v;
    size_t i, max;
    d->loading = NULL;
    if (!answer) {
        log_error("stored devices cannot be read, beginning without them: %s", error_text(err));
    } else {
        yyjson_arr_foreach (answer->content, i, max, v) {
            if (d->load_step == DMI_MAPPERS) {
                load_mapper(d, v);
            } else {
                struct dmi_object *o = put(d, (enum dmi_kind)d->load_step, v);
                if (o && d->load_step == DMI_DEVICE)
                    serve(d, o);
            }
        }
        message_free(answer);
    }
    d->load_step++;
    load_next(d);
}

static void load_next(struct dmi *d) {
    static const char *const resources[] = {
        [DMI_MODEL] = "null/devicemodel", [DMI_DEVICE] = "null/device", [DMI_MAPPERS] = "null/devicemapper"};
    if (d->load_step > DMI_MAPPERS) {
        open_socket(d);
        return;
    }
    const struct message_fields f = {
        .source = "dmi", .group = GROUP_META, .operation = OP_QUERY, .resource = resources[d->load_step]};
    d->loading = bus_request(d->bus, MODULE_METAMANAGER, message_new(&f), LOAD_TIMEOUT_MS, on_loaded, d);
}

struct dmi *dmi_new(struct loop *l, struct bus *b, const struct edge_config *c) {
    struct dmi *d = NEW(struct dmi);
    d->loop = l;
    d->bus = b;
    d->path = socket_path(c);
    d->grace = timer_new(l, on_grace, d);
    return d;
}

int dmi_start(struct dmi *d, struct error *err) {
    _cleanup_(free_p) char *copy = xstrdup(d->path);
    if (dir_make(dirname(copy), 0750, err) < 0)
        return error_wrap(err, "modules.deviceTwin.dmiSockPath");
    bus_register(d->bus, "dmi", handle, d);
    load_next(d);
    return 0;
}

void dmi_stop(struct dmi *d) {
    grpc_server_free(TAKE(d->server));
}

void dmi_free(struct dmi *d) {
    if (!d)
        return;
    struct waiting *w, *next;
    bus_unregister(d->bus, "dmi");
    bus_request_cancel(d->loading);
    grpc_server_free(d->server);
    DL_FOREACH_SAFE (d->waiting, w, next) {
        bus_request_cancel(w->request);
        grpc_reply_error(w->rpc, GRPC_UNAVAILABLE, "edgecore stops");
        free(w);
    }
    mappers_free(d);
    for (int k = 0; k < DMI_N_KINDS; k++) {
        struct dmi_object *o, *next_object;
        HASH_ITER (hh, d->objects[k], o, next_object)
            object_free(d, (enum dmi_kind)k, o);
    }
    timer_free(d->grace);
    free(d->path);
    free(d);
}
