#include "mapper/libmapper/internal.h"

#include "base/config.h"
#include "net/grpc_server.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#define REGISTER_MS 5000
#define MANAGER "/v1beta1.DeviceManagerService/"
#define MAPPER "/v1beta1.DeviceMapperService/"

#define AT(member) offsetof(struct mapper_config, member)
static const struct config_key KEYS[] = {
    {.path = "grpc_server.socket_path", .type = CFG_STRING, .offset = AT(socket), .minimal = true},
    {.path = "common.name", .type = CFG_STRING, .offset = AT(name), .minimal = true},
    {.path = "common.version", .type = CFG_STRING, .offset = AT(version), .default_value = "v1.0.0"},
    {.path = "common.api_version", .type = CFG_STRING, .offset = AT(api_version), .default_value = "v1.0.0"},
    {.path = "common.protocol", .type = CFG_STRING, .offset = AT(protocol)},
    {.path = "common.edgecore_sock",
     .type = CFG_STRING,
     .offset = AT(edgecore_socket),
     .default_value = "/etc/kubeedge/dmi.sock",
     .minimal = true},
    {.path = "common.address", .type = CFG_IGNORED},
    {.path = "common.http_port", .type = CFG_IGNORED},
};
static const struct config_schema SCHEMA = {.keys = KEYS, .n_keys = ARRAY_LEN(KEYS)};

/* ---- models and devices ---- */

static ProtobufCMessage *copy(const ProtobufCMessage *m) {
    size_t n = protobuf_c_message_get_packed_size(m);
    _cleanup_(free_p) uint8_t *packed = xmalloc(n + 1);
    protobuf_c_message_pack(m, packed);
    return protobuf_c_message_unpack(m->descriptor, NULL, n, packed);
}

static struct known_model *find_model(struct mapper *m, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct known_model *k;
    HASH_FIND_STR(m->models, key, k);
    return k;
}

static void put_model(struct mapper *m, const Dmi__DeviceModel *spec) {
    struct known_model *k = find_model(m, spec->namespace_, spec->name);
    Dmi__DeviceModel *fresh = (Dmi__DeviceModel *)copy(&spec->base);
    if (!fresh)
        return;
    if (!k) {
        k = NEW(struct known_model);
        k->key = xasprintf("%s/%s", spec->namespace_, spec->name);
        HASH_ADD_KEYPTR(hh, m->models, k->key, strlen(k->key), k);
    } else {
        protobuf_c_message_free_unpacked(&k->spec->base, NULL);
    }
    k->spec = fresh;
}

static void remove_model(struct mapper *m, const char *ns, const char *name) {
    struct known_model *k = find_model(m, ns, name);
    if (!k)
        return;
    HASH_DEL(m->models, k);
    protobuf_c_message_free_unpacked(&k->spec->base, NULL);
    free(k->key);
    free(k);
}

static struct known_device *find_device(struct mapper *m, const char *ns, const char *name) {
    _cleanup_(free_p) char *key = xasprintf("%s/%s", ns, name);
    struct known_device *k;
    HASH_FIND_STR(m->devices, key, k);
    return k;
}

static void remove_device(struct mapper *m, struct known_device *k) {
    HASH_DEL(m->devices, k);
    log_info("device removed device=%s", k->key);
    buses_remove(m, k->device);
    protobuf_c_message_free_unpacked(&k->spec->base, NULL);
    free(k->key);
    free(k);
}

static const Dmi__DeviceModel *model_of(struct mapper *m, const Dmi__Device *d) {
    struct known_model *k = d->spec ? find_model(m, d->namespace_, d->spec->devicemodelreference) : NULL;
    return k ? k->spec : NULL;
}

/* A device that is as it was goes on undisturbed: edgecore tells all of them whenever it is not sure. */
static int put_device(struct mapper *m, const Dmi__Device *spec, struct error *err) {
    struct known_device *k = find_device(m, spec->namespace_, spec->name);
    const Dmi__DeviceModel *model = model_of(m, spec);
    if (str_empty(spec->name) || strchr(spec->name, '/') || strchr(spec->namespace_, '/') || !spec->spec)
        return error_set(err, ERR_INVALID, "a device needs a name, a namespace and a spec");
    if (!model)
        return error_set(err, ERR_NOT_FOUND, "its model %s is not known", spec->spec->devicemodelreference);
    struct device *d = device_new(m, spec, model);
    if (k && k->device->fingerprint_len == d->fingerprint_len &&
        memcmp(k->device->fingerprint, d->fingerprint, d->fingerprint_len) == 0) {
        k->seen = true;
        device_free(d);
        return 0;
    }
    if (k)
        remove_device(m, k);
    k = NEW(struct known_device);
    k->key = xstrdup(d->key);
    k->device = d;
    k->spec = (Dmi__Device *)copy(&spec->base);
    k->seen = true;
    HASH_ADD_KEYPTR(hh, m->devices, k->key, strlen(k->key), k);
    log_info("device added device=%s properties=%zu bus=\"%s\"", d->key, d->n_properties, d->bus_key);
    buses_add(m, d);
    return 0;
}

/* ---- calls of edgecore ---- */

static void answer(struct grpc_request *r, const ProtobufCMessage *reply, int rc, const struct error *err) {
    if (rc == 0)
        grpc_reply(r, reply);
    else
        grpc_reply_error(r, err->code == ERR_NOT_FOUND ? GRPC_NOT_FOUND : GRPC_INVALID_ARGUMENT, "%s", error_text(err));
}

static int need(const void *part, struct error *err) {
    return part ? 0 : error_set(err, ERR_INVALID, "the request is empty");
}

static void handle_register_device(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__RegisterDeviceRequest *q = (const Dmi__RegisterDeviceRequest *)m;
    Dmi__RegisterDeviceResponse a = DMI__REGISTER_DEVICE_RESPONSE__INIT;
    struct error err = ERROR_INIT;
    int rc = need(q->device, &err);
    if (rc == 0 && (rc = put_device(arg, q->device, &err)) == 0) {
        a.devicename = q->device->name;
        a.devicenamespace = q->device->namespace_;
    }
    answer(r, &a.base, rc, &err);
}

static void handle_update_device(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__UpdateDeviceRequest *q = (const Dmi__UpdateDeviceRequest *)m;
    Dmi__UpdateDeviceResponse a = DMI__UPDATE_DEVICE_RESPONSE__INIT;
    struct error err = ERROR_INIT;
    int rc = need(q->device, &err);
    if (rc == 0)
        rc = put_device(arg, q->device, &err);
    answer(r, &a.base, rc, &err);
}

static void handle_remove_device(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__RemoveDeviceRequest *q = (const Dmi__RemoveDeviceRequest *)m;
    Dmi__RemoveDeviceResponse a = DMI__REMOVE_DEVICE_RESPONSE__INIT;
    struct known_device *k = find_device(arg, q->devicenamespace, q->devicename);
    if (k)
        remove_device(arg, k);
    grpc_reply(r, &a.base); /* one that is not there is removed */
}

static void handle_create_model(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__CreateDeviceModelRequest *q = (const Dmi__CreateDeviceModelRequest *)m;
    Dmi__CreateDeviceModelResponse a = DMI__CREATE_DEVICE_MODEL_RESPONSE__INIT;
    struct error err = ERROR_INIT;
    int rc = need(q->model, &err);
    if (rc == 0) {
        put_model(arg, q->model);
        a.devicemodelname = q->model->name;
        a.devicemodelnamespace = q->model->namespace_;
    }
    answer(r, &a.base, rc, &err);
}

static void handle_update_model(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__UpdateDeviceModelRequest *q = (const Dmi__UpdateDeviceModelRequest *)m;
    Dmi__UpdateDeviceModelResponse a = DMI__UPDATE_DEVICE_MODEL_RESPONSE__INIT;
    struct error err = ERROR_INIT;
    int rc = need(q->model, &err);
    if (rc == 0)
        put_model(arg, q->model);
    answer(r, &a.base, rc, &err);
}

static void handle_remove_model(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__RemoveDeviceModelRequest *q = (const Dmi__RemoveDeviceModelRequest *)m;
    Dmi__RemoveDeviceModelResponse a = DMI__REMOVE_DEVICE_MODEL_RESPONSE__INIT;
    remove_model(arg, q->modelnamespace, q->modelname);
    grpc_reply(r, &a.base);
}

static void handle_get_device(void *arg, struct grpc_request *r, const ProtobufCMessage *m) {
    const Dmi__GetDeviceRequest *q = (const Dmi__GetDeviceRequest *)m;
    Dmi__GetDeviceResponse a = DMI__GET_DEVICE_RESPONSE__INIT;
    struct known_device *k = find_device(arg, q->devicenamespace, q->devicename);
    if (!k) {
        grpc_reply_error(r, GRPC_NOT_FOUND, "there is no device %s/%s", q->devicenamespace, q->devicename);
        return;
    }
    a.device = k->spec;
    grpc_reply(r, &a.base);
}

static const struct grpc_method METHODS[] = {
    {MAPPER "RegisterDevice", &dmi__register_device_request__descriptor, handle_register_device},
    {MAPPER "UpdateDevice", &dmi__update_device_request__descriptor, handle_update_device},
    {MAPPER "RemoveDevice", &dmi__remove_device_request__descriptor, handle_remove_device},
    {MAPPER "CreateDeviceModel", &dmi__create_device_model_request__descriptor, handle_create_model},
    {MAPPER "UpdateDeviceModel", &dmi__update_device_model_request__descriptor, handle_update_model},
    {MAPPER "RemoveDeviceModel", &dmi__remove_device_model_request__descriptor, handle_remove_model},
    {MAPPER "GetDevice", &dmi__get_device_request__descriptor, handle_get_device},
};

/* ---- registration: at each connection to edgecore ---- */

static void take_all(struct mapper *m, const Dmi__MapperRegisterResponse *a) {
    struct known_device *k, *next;
    for (size_t i = 0; i < a->n_modellist; i++)
        put_model(m, a->modellist[i]);
    HASH_ITER (hh, m->devices, k, next)
        k->seen = false;
    for (size_t i = 0; i < a->n_devicelist; i++) {
        struct error err = ERROR_INIT;
        if (put_device(m, a->devicelist[i], &err) < 0)
            log_warn("a device of edgecore's list is left out: %s", error_text(&err));
    }
    HASH_ITER (hh, m->devices, k, next)
        if (!k->seen)
            remove_device(m, k);
}

static void on_registered(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct mapper *m = arg;
    m->registering = NULL;
    if (status != GRPC_OK) {
        log_once_failed(&m->link, LOG_COMPONENT, "edgecore does not answer, trying again: %s socket=%s",
                        error_text(err), m->config.edgecore_socket);
        timer_set(m->again, backoff_next_ms(&m->backoff));
        return;
    }
    log_once_recovered(&m->link, LOG_COMPONENT, "edgecore answers again");
    backoff_reset(&m->backoff);
    m->registered = true;
    take_all(m, (const Dmi__MapperRegisterResponse *)reply);
    log_info("registered with edgecore protocol=%s devices=%u", m->config.protocol, HASH_COUNT(m->devices));
    reports_run(m);
}

static void register_now(struct mapper *m) {
    Dmi__MapperRegisterRequest q = DMI__MAPPER_REGISTER_REQUEST__INIT;
    Dmi__MapperInfo i = DMI__MAPPER_INFO__INIT;
    const struct grpc_call_options o = {.method = MANAGER "MapperRegister",
                                        .request = &q.base,
                                        .response_type = &dmi__mapper_register_response__descriptor,
                                        .timeout_ms = REGISTER_MS,
                                        .done = on_registered,
                                        .arg = m};
    i.name = m->config.name;
    i.version = m->config.version;
    i.api_version = m->config.api_version;
    i.protocol = m->config.protocol;
    i.address = (ProtobufCBinaryData){strlen(m->config.socket), (uint8_t *)m->config.socket};
    i.state = (char *)"ok";
    q.withdata = true;
    q.mapper = &i;
    m->registering = grpc_call(m->edgecore, &o);
}

static void on_again(void *arg) {
    struct mapper *m = arg;
    if (!m->registered && !m->registering)
        register_now(m);
    else
        reports_run(m);
}

/* Whoever answers on a new connection may be a new edgecore: it is asked for the devices again. */
static void on_link(void *arg, bool connected, const struct error *why) {
    struct mapper *m = arg;
    if (!connected)
        m->registered = false;
    if (!m->registered && !timer_pending(m->again))
        timer_set(m->again, connected ? 0 : 200);
}

/* ---- main ---- */

static void on_signal(void *arg, int signo) {
    struct mapper *m = arg;
    log_info("stopping signal=%s", strsignal(signo));
    loop_stop(m->loop);
}

static int start(struct mapper *m, struct error *err) {
    const struct grpc_server_options o = {.unix_path = m->config.socket,
                                          .unix_mode = 0660,
                                          .methods = METHODS,
                                          .n_methods = ARRAY_LEN(METHODS),
                                          .arg = m};
    _cleanup_(free_p) char *target = xasprintf("unix://%s", m->config.edgecore_socket);
    m->server = grpc_server_new(m->loop, &o, err);
    m->edgecore = m->server ? grpc_channel_new(m->loop, target, err) : NULL;
    if (!m->edgecore)
        return -1;
    grpc_channel_on_state(m->edgecore, on_link, m);
    register_now(m);
    return 0;
}

static void finish(struct mapper *m) {
    buses_stop(m);
    grpc_server_free(m->server);
    if (m->edgecore)
        grpc_channel_free(m->edgecore);
    struct known_device *k, *next;
    HASH_ITER (hh, m->devices, k, next) {
        HASH_DEL(m->devices, k);
        protobuf_c_message_free_unpacked(&k->spec->base, NULL);
        free(k->key);
        free(k);
    }
    while (m->models) {
        struct known_model *k_model = m->models;
        HASH_DEL(m->models, k_model);
        protobuf_c_message_free_unpacked(&k_model->spec->base, NULL);
        free(k_model->key);
        free(k_model);
    }
    timer_free(m->again);
    loop_free(m->loop);
    reports_free(m);
    config_free(&SCHEMA, &m->config);
}

static int load_config(struct mapper *m, const char *path, struct error *err) {
    if (config_defaults(&SCHEMA, &m->config, err) < 0 || config_load(&SCHEMA, path, &m->config, err) < 0)
        return -1;
    if (str_empty(m->config.socket) || str_empty(m->config.name))
        return error_set(err, ERR_INVALID, "%s: grpc_server.socket_path and common.name must be set", path);
    if (str_empty(m->config.protocol)) {
        free(m->config.protocol);
        m->config.protocol = xstrdup(m->driver->protocol);
    }
    return 0;
}

static int run(const struct mapper_driver *driver, const char *config) {
    struct mapper m = {.driver = driver};
    struct error err = ERROR_INIT;
    (void)signal(SIGPIPE, SIG_IGN);
    m.loop = loop_new();
    m.backoff = BACKOFF(200, 2000);
    m.again = timer_new(m.loop, on_again, &m);
    loop_on_signal(m.loop, SIGTERM, on_signal, &m);
    loop_on_signal(m.loop, SIGINT, on_signal, &m);
    int rc = load_config(&m, config, &err);
    if (rc == 0)
        rc = start(&m, &err);
    if (rc == 0)
        loop_run(m.loop);
    else
        log_error("%s", error_text(&err));
    finish(&m);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int mapper_main(int argc, char **argv, const struct mapper_driver *driver) {
    static const struct option flags[] = {{"config-file", required_argument, NULL, 'c'},
                                          {"v", required_argument, NULL, 'v'},
                                          {"version", no_argument, NULL, 'V'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *config = "./config.yaml";
    int flag;
    while ((flag = getopt_long_only(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case 'c':
            config = optarg;
            break;
        case 'v':
            log_set_level(str_eq(optarg, "0") ? LOG_INFO : LOG_DEBUG);
            break;
        case 'V':
            (void)printf("%s %s (Selvage " SELVAGE_VERSION ")\n", driver->name, driver->version);
            return EXIT_SUCCESS;
        case 'h':
            (void)printf("%s drives %s devices for edgecore.\n\nUsage: %s [--config-file FILE] [--v LEVEL]\n\n"
                         "  --config-file FILE  default ./config.yaml\n  --v LEVEL           0: info; else debug\n",
                         driver->name, driver->protocol, driver->name);
            return EXIT_SUCCESS;
        default:
            return 2;
        }
    }
    return run(driver, config);
}
