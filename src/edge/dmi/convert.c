#include "edge/dmi/convert.h"

#include "base/mem.h"
#include "base/str.h"
#include "kube/object.h"

#define REPORT_MAX (4u << 20)
#define TYPE_URL "type.googleapis.com/google.protobuf."

/* An empty string stays the default of its field: so the message is freed like one that was received. */
static void set(char **field, const char *text) {
    if (!str_empty(text))
        *field = xstrdup(text);
}

static void set_bytes(ProtobufCBinaryData *field, const ProtobufCMessage *m) {
    field->len = protobuf_c_message_get_packed_size(m);
    field->data = xmalloc(field->len + 1);
    protobuf_c_message_pack(m, field->data);
}

#define MESSAGE(Type, init)                  \
    __extension__({                          \
        Type *made_ = xmalloc(sizeof(Type)); \
        init(made_);                         \
        made_;                               \
    })

/* ---- configData ---- */

static Dmi__Any *any(yyjson_val *v, const char *where, const char *key, struct error *err) {
    Dmi__StringValue text = DMI__STRING_VALUE__INIT;
    Dmi__BoolValue flag = DMI__BOOL_VALUE__INIT;
    Dmi__FloatValue number = DMI__FLOAT_VALUE__INIT;
    const ProtobufCMessage *m = NULL;
    const char *type = NULL;
    if (yyjson_is_str(v)) {
        text.value = (char *)yyjson_get_str(v);
        m = &text.base;
        type = TYPE_URL "StringValue";
    } else if (yyjson_is_bool(v)) {
        flag.value = yyjson_get_bool(v);
        m = &flag.base;
        type = TYPE_URL "BoolValue";
    } else if (yyjson_is_num(v)) {
        number.value = (float)yyjson_get_num(v);
        m = &number.base;
        type = TYPE_URL "FloatValue";
    } else {
        (void)error_set(err, ERR_INVALID, "%s.%.64s must be a text, a number, true or false", where, key);
        return NULL;
    }
    Dmi__Any *a = MESSAGE(Dmi__Any, dmi__any__init);
    a->type_url = xstrdup(type);
    set_bytes(&a->value, m);
    return a;
}

static int add_entry(Dmi__CustomizedValue *c, const char *key, yyjson_val *v, const char *where, struct error *err) {
    Dmi__Any *a = any(v, where, key, err);
    if (!a)
        return -1;
    Dmi__AnyEntry *e = MESSAGE(Dmi__AnyEntry, dmi__any_entry__init);
    set(&e->key, key);
    e->value = a;
    c->data[c->n_data++] = e;
    return 0;
}

/* The device's keys over the model's. *out is set in any case, so that it is freed with its message. */
static int config(Dmi__CustomizedValue **out, yyjson_val *model, yyjson_val *device, const char *where,
                  struct error *err) {
    size_t n = yyjson_obj_size(model) + yyjson_obj_size(device), i, max;
    yyjson_val *k, *v;
    if (!yyjson_is_obj(model) && !yyjson_is_obj(device))
        return 0;
    Dmi__CustomizedValue *c = MESSAGE(Dmi__CustomizedValue, dmi__customized_value__init);
    *out = c;
    if (n == 0)
        return 0;
    c->data = xcalloc(n, sizeof *c->data);
    if (yyjson_is_obj(model)) {
        yyjson_obj_foreach (model, i, max, k, v) {
            if (!yyjson_obj_get(device, yyjson_get_str(k)) && add_entry(c, yyjson_get_str(k), v, where, err) < 0)
                return -1;
        }
    }
    if (yyjson_is_obj(device)) {
        yyjson_obj_foreach (device, i, max, k, v) {
            if (add_entry(c, yyjson_get_str(k), v, where, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- parts of a property ---- */

static void string_map(Dmi__StringEntry ***out, size_t *count, yyjson_val *map) {
    yyjson_val *k, *v;
    size_t i, max;
    if (yyjson_obj_size(map) == 0)
        return;
    *out = xcalloc(yyjson_obj_size(map), sizeof **out);
    yyjson_obj_foreach (map, i, max, k, v) {
        Dmi__StringEntry *e = MESSAGE(Dmi__StringEntry, dmi__string_entry__init);
        set(&e->key, yyjson_get_str(k));
        set(&e->value, yyjson_get_str(v));
        (*out)[(*count)++] = e;
    }
}

static Dmi__TwinProperty *desired(yyjson_val *v) {
    Dmi__TwinProperty *t = MESSAGE(Dmi__TwinProperty, dmi__twin_property__init);
    set(&t->value, json_str(v, "value"));
    string_map(&t->metadata, &t->n_metadata, json_get(v, "metadata"));
    return t;
}

static Dmi__DBMethod *db_method(yyjson_val *v) {
    Dmi__DBMethod *m = MESSAGE(Dmi__DBMethod, dmi__dbmethod__init);
    yyjson_val *influx = json_get(v, "influxdb2"), *redis = json_get(v, "redis", "redisClientConfig"),
               *td = json_get(v, "TDEngine", "TDEngineClientConfig"),
               *mysql = json_get(v, "mysql", "mysqlClientConfig");
    if (influx) {
        yyjson_val *client = json_get(influx, "influxdb2ClientConfig"), *data = json_get(influx, "influxdb2DataConfig");
        Dmi__DBMethodInfluxdb2 *i = m->influxdb2 = MESSAGE(Dmi__DBMethodInfluxdb2, dmi__dbmethod_influxdb2__init);
        i->influxdb2clientconfig = MESSAGE(Dmi__Influxdb2ClientConfig, dmi__influxdb2_client_config__init);
        i->influxdb2dataconfig = MESSAGE(Dmi__Influxdb2DataConfig, dmi__influxdb2_data_config__init);
        set(&i->influxdb2clientconfig->url, json_str(client, "url"));
        set(&i->influxdb2clientconfig->org, json_str(client, "org"));
        set(&i->influxdb2clientconfig->bucket, json_str(client, "bucket"));
        set(&i->influxdb2dataconfig->measurement, json_str(data, "measurement"));
        set(&i->influxdb2dataconfig->fieldkey, json_str(data, "fieldKey"));
        string_map(&i->influxdb2dataconfig->tag, &i->influxdb2dataconfig->n_tag, json_get(data, "tag"));
    }
    if (redis) {
        m->redis = MESSAGE(Dmi__DBMethodRedis, dmi__dbmethod_redis__init);
        Dmi__RedisClientConfig *r = m->redis->redisclientconfig =
            MESSAGE(Dmi__RedisClientConfig, dmi__redis_client_config__init);
        set(&r->addr, json_str(redis, "addr"));
        r->db = (int32_t)json_int_or(json_get(redis, "db"), 0);
        r->poolsize = (int32_t)json_int_or(json_get(redis, "poolsize"), 0);
        r->minidleconns = (int32_t)json_int_or(json_get(redis, "minIdleConns"), 0);
    }
    if (td) {
        m->tdengine = MESSAGE(Dmi__DBMethodTDEngine, dmi__dbmethod_tdengine__init);
        m->tdengine->tdengineclientconfig = MESSAGE(Dmi__TDEngineClientConfig, dmi__tdengine_client_config__init);
        set(&m->tdengine->tdengineclientconfig->addr, json_str(td, "addr"));
        set(&m->tdengine->tdengineclientconfig->dbname, json_str(td, "dbName"));
    }
    if (mysql) {
        m->mysql = MESSAGE(Dmi__DBMethodMySQL, dmi__dbmethod_my_sql__init);
        m->mysql->mysqlclientconfig = MESSAGE(Dmi__MySQLClientConfig, dmi__my_sqlclient_config__init);
        set(&m->mysql->mysqlclientconfig->addr, json_str(mysql, "addr"));
        set(&m->mysql->mysqlclientconfig->database, json_str(mysql, "database"));
        set(&m->mysql->mysqlclientconfig->username, json_str(mysql, "userName"));
    }
    return m;
}

static int push_method(Dmi__DeviceProperty *p, yyjson_val *v, struct error *err) {
    yyjson_val *http = json_get(v, "http"), *mqtt = json_get(v, "mqtt"), *otel = json_get(v, "otel"),
               *db = json_get(v, "dbMethod"), *anomaly = json_get(v, "anomalyDetection");
    if (!yyjson_is_obj(v))
        return 0;
    Dmi__PushMethod *m = p->pushmethod = MESSAGE(Dmi__PushMethod, dmi__push_method__init);
    if (http) {
        m->http = MESSAGE(Dmi__PushMethodHTTP, dmi__push_method_http__init);
        set(&m->http->hostname, json_str(http, "hostName"));
        set(&m->http->requestpath, json_str(http, "requestPath"));
        m->http->port = json_int_or(json_get(http, "port"), 0);
        m->http->timeout = json_int_or(json_get(http, "timeout"), 0);
    }
    if (mqtt) {
        m->mqtt = MESSAGE(Dmi__PushMethodMQTT, dmi__push_method_mqtt__init);
        set(&m->mqtt->address, json_str(mqtt, "address"));
        set(&m->mqtt->topic, json_str(mqtt, "topic"));
        m->mqtt->qos = (int32_t)json_int_or(json_get(mqtt, "qos"), 0);
        m->mqtt->retained = json_bool_or(json_get(mqtt, "retained"), false);
    }
    if (otel) {
        m->otel = MESSAGE(Dmi__PushMethodOTEL, dmi__push_method_otel__init);
        set(&m->otel->endpointurl, json_str(otel, "endpointURL"));
    }
    if (db)
        m->dbmethod = db_method(db);
    return config(&m->anomalydetection, NULL, anomaly, "pushMethod.anomalyDetection", err);
}

static yyjson_val *model_visitors(yyjson_val *model, const char *property) {
    yyjson_val *p;
    size_t i, max;
    yyjson_arr_foreach (json_get(model, "spec", "properties"), i, max, p) {
        if (str_eq(json_str(p, "name"), property))
            return json_get(p, "visitors");
    }
    return NULL;
}

static int property(Dmi__DeviceProperty *p, yyjson_val *v, yyjson_val *model, struct error *err) {
    const char *name = str_or(json_str(v, "name"), "");
    yyjson_val *inherited = model_visitors(model, name), *own = json_get(v, "visitors");
    _cleanup_(free_p) char *where = xasprintf("visitors.configData of property %.64s", name);
    set(&p->name, name);
    p->desired = desired(json_get(v, "desired"));
    p->reportcycle = json_int_or(json_get(v, "reportCycle"), 0);
    p->collectcycle = json_int_or(json_get(v, "collectCycle"), 0);
    p->reporttocloud = json_bool_or(json_get(v, "reportToCloud"), false);
    p->visitors = MESSAGE(Dmi__VisitorConfig, dmi__visitor_config__init);
    set(&p->visitors->protocolname, json_str(inherited ? inherited : own, "protocolName"));
    if (config(&p->visitors->configdata, json_get(inherited, "configData"), json_get(own, "configData"), where, err) <
        0)
        return -1;
    return push_method(p, json_get(v, "pushMethod"), err);
}

/* ---- devices ---- */

static int properties(Dmi__DeviceSpec *s, yyjson_val *device, yyjson_val *model, struct error *err) {
    yyjson_val *list = json_get(device, "spec", "properties"), *v;
    size_t i, max;
    if (yyjson_arr_size(list) == 0)
        return 0;
    s->properties = xcalloc(yyjson_arr_size(list), sizeof *s->properties);
    yyjson_arr_foreach (list, i, max, v) {
        Dmi__DeviceProperty *p = MESSAGE(Dmi__DeviceProperty, dmi__device_property__init);
        s->properties[s->n_properties++] = p;
        if (property(p, v, model, err) < 0)
            return -1;
    }
    return 0;
}

static void methods(Dmi__DeviceSpec *s, yyjson_val *list) {
    yyjson_val *v, *name;
    size_t i, max, j, max_names;
    if (yyjson_arr_size(list) == 0)
        return;
    s->methods = xcalloc(yyjson_arr_size(list), sizeof *s->methods);
    yyjson_arr_foreach (list, i, max, v) {
        Dmi__DeviceMethod *m = MESSAGE(Dmi__DeviceMethod, dmi__device_method__init);
        yyjson_val *names = json_get(v, "propertyNames");
        s->methods[s->n_methods++] = m;
        set(&m->name, json_str(v, "name"));
        set(&m->description, json_str(v, "description"));
        if (yyjson_arr_size(names) == 0)
            continue;
        m->propertynames = xcalloc(yyjson_arr_size(names), sizeof *m->propertynames);
        yyjson_arr_foreach (names, j, max_names, name)
            m->propertynames[m->n_propertynames++] = xstrdup(str_or(yyjson_get_str(name), ""));
    }
}

Dmi__Device *dmi_device(yyjson_val *device, yyjson_val *model, struct error *err) {
    yyjson_val *spec = json_get(device, "spec"), *report = json_get(spec, "stateReport");
    Dmi__Device *d = MESSAGE(Dmi__Device, dmi__device__init);
    if (!yyjson_is_obj(report))
        report = json_get(device, "status");
    set(&d->name, object_name(device));
    set(&d->namespace_, object_namespace(device));
    d->spec = MESSAGE(Dmi__DeviceSpec, dmi__device_spec__init);
    d->status = MESSAGE(Dmi__DeviceStatus, dmi__device_status__init);
    d->status->reporttocloud = json_bool_or(json_get(report, "reportToCloud"), false);
    d->status->reportcycle = json_int_or(json_get(report, "reportCycle"), 0);
    set(&d->spec->devicemodelreference, json_str(spec, "deviceModelRef", "name"));
    d->spec->protocol = MESSAGE(Dmi__ProtocolConfig, dmi__protocol_config__init);
    set(&d->spec->protocol->protocolname, json_str(spec, "protocol", "protocolName"));
    methods(d->spec, json_get(spec, "methods"));
    if (config(&d->spec->protocol->configdata, json_get(model, "spec", "protocolConfigData"),
               json_get(spec, "protocol", "configData"), "spec.protocol.configData", err) < 0 ||
        properties(d->spec, device, model, err) < 0) {
        protobuf_c_message_free_unpacked(&d->base, NULL);
        return NULL;
    }
    return d;
}

Dmi__DeviceModel *dmi_model(yyjson_val *model) {
    yyjson_val *list = json_get(model, "spec", "properties"), *v;
    Dmi__DeviceModel *m = MESSAGE(Dmi__DeviceModel, dmi__device_model__init);
    size_t i, max;
    set(&m->name, object_name(model));
    set(&m->namespace_, object_namespace(model));
    m->spec = MESSAGE(Dmi__DeviceModelSpec, dmi__device_model_spec__init);
    if (yyjson_arr_size(list) == 0)
        return m;
    m->spec->properties = xcalloc(yyjson_arr_size(list), sizeof *m->spec->properties);
    yyjson_arr_foreach (list, i, max, v) {
        Dmi__ModelProperty *p = MESSAGE(Dmi__ModelProperty, dmi__model_property__init);
        m->spec->properties[m->spec->n_properties++] = p;
        set(&p->name, json_str(v, "name"));
        set(&p->description, json_str(v, "description"));
        set(&p->type, json_str(v, "type"));
        set(&p->accessmode, json_str(v, "accessMode"));
        set(&p->minimum, json_str(v, "minimum"));
        set(&p->maximum, json_str(v, "maximum"));
        set(&p->unit, json_str(v, "unit"));
    }
    return m;
}

/* ---- reports ---- */

static const char *metadata(const Dmi__TwinProperty *t, const char *key) {
    for (size_t i = 0; i < t->n_metadata; i++)
        if (str_eq(t->metadata[i]->key, key))
            return t->metadata[i]->value;
    return NULL;
}

static void add_value(struct buf *out, const char *name, const Dmi__TwinProperty *t) {
    const char *timestamp = metadata(t, "timestamp");
    int64_t ms;
    (void)buf_addf(out, "\"%s\":{\"value\":", name);
    (void)json_append_string(out, bytes_str(t->value));
    if (timestamp && parse_i64(bytes_str(timestamp), 0, INT64_MAX, &ms) == 0)
        (void)buf_addf(out, ",\"metadata\":{\"timestamp\":%lld}", (long long)ms);
    (void)buf_add_char(out, '}');
}

int dmi_report_json(const Dmi__ReportDeviceStatusRequest *q, struct buf *out, struct error *err) {
    if (!q->reporteddevice || str_empty(q->devicename) || str_empty(q->devicenamespace))
        return error_set(err, ERR_INVALID, "the report needs deviceName, deviceNamespace and reportedDevice");
    (void)buf_add_str(out, "{\"event_id\":\"\",\"twin\":{");
    for (size_t i = 0; i < q->reporteddevice->n_twins; i++) {
        const Dmi__Twin *t = q->reporteddevice->twins[i];
        if (!t->reported || !t->observeddesired || str_empty(t->propertyname))
            return error_set(err, ERR_INVALID, "twin %zu needs propertyName, observedDesired and reported", i);
        const char *type = metadata(t->reported, "type");
        if (i)
            (void)buf_add_char(out, ',');
        (void)json_append_string(out, bytes_str(t->propertyname));
        (void)buf_add_str(out, ":{");
        add_value(out, "expected", t->observeddesired);
        (void)buf_add_char(out, ',');
        add_value(out, "actual", t->reported);
        if (!str_empty(type)) {
            (void)buf_add_str(out, ",\"metadata\":{\"type\":");
            (void)json_append_string(out, bytes_str(type));
            (void)buf_add_char(out, '}');
        }
        (void)buf_add_char(out, '}');
    }
    (void)buf_add_str(out, "}}");
    return buf_check(out, err, "report");
}
