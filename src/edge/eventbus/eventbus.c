#define LOG_COMPONENT "eventbus"

#include "edge/eventbus/eventbus.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/eventbus/broker.h"
#include "edge/eventbus/mqtt_client.h"

#define LOAD_TIMEOUT_MS 60000
#define TOPICS_MAX 1000 /* subscriptions of rules */

static const char *const DEFAULT_TOPICS[] = {
    "$hw/events/upload/#",          "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+", "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",       "+/user/#",
};

enum { MODE_INTERNAL = 0, MODE_BOTH = 1, MODE_EXTERNAL = 2 };
enum { INTERNAL, EXTERNAL, N_CLIENTS };

/* What a client's callbacks get. */
struct side {
    struct eventbus *bus;
    struct mqtt_client *client; /* NULL: not in this mode */
};

struct eventbus {
    struct loop *loop;
    struct bus *bus;
    const struct edge_config *config;
    struct broker *broker;
    struct side sides[N_CLIENTS];
    struct strlist topics; /* those that rules of the cloud have subscribed */
    struct bus_request *loading;
};

/* ---- MQTT to the components ---- */

static void on_connected(void *arg) {
    struct side *s = arg;
    for (size_t i = 0; i < ARRAY_LEN(DEFAULT_TOPICS); i++)
        mqtt_client_subscribe(s->client, DEFAULT_TOPICS[i]);
    for (size_t i = 0; i < s->bus->topics.count; i++)
        mqtt_client_subscribe(s->client, s->bus->topics.items[i]);
}

static bool is_below(const char *topic, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(topic, prefix, n) == 0 && (topic[n] == '/' || topic[n] == 0);
}

/* Devices and nodes are DeviceTwin's; everything else goes up to the cloud as it is. */
static void on_message(void *arg, const char *topic, struct bytes payload) {
    struct side *s = arg;
    bool twin = is_below(topic, "$hw/events/device") || is_below(topic, "$hw/events/node");
    _cleanup_(free_p) char *text = bytes_dup(payload);
    const struct message_fields f = {.source = "bus",
                                     .group = GROUP_USER,
                                     .operation = twin ? OP_RESPONSE : OP_UPLOAD,
                                     .resource = topic,
                                     .content_string = text};
    bus_send(s->bus->bus, twin ? MODULE_TWIN : MODULE_WEBSOCKET, message_new(&f));
}

/* ---- the components to MQTT ---- */

static void publish(struct eventbus *e, const struct message *m) {
    size_t len;
    bool any = false;
    for (size_t i = 0; i < N_CLIENTS; i++)
        any = any || (e->sides[i].client && mqtt_client_connected(e->sides[i].client));
    if (!any)
        return;
    _cleanup_(free_p) char *text = message_content_text(m, &len);
    for (size_t i = 0; i < N_CLIENTS; i++)
        if (e->sides[i].client)
            mqtt_client_publish(e->sides[i].client, m->resource, bytes_of(text, len));
}

static void store_topic(struct eventbus *e, const char *operation, const char *topic) {
    const struct message_fields f = {.source = "eventbus",
                                     .group = GROUP_META,
                                     .operation = operation,
                                     .resource = "sub_topics",
                                     .content_string = topic};
    bus_send(e->bus, MODULE_METAMANAGER, message_new(&f));
}

static void subscribe(struct eventbus *e, const char *topic) {
    if (!*topic || strlen(topic) > MQTT_TOPIC_MAX || e->topics.count >= TOPICS_MAX) {
        log_warn("a subscription is refused: its topic is empty or too long, or there are too many topic=%.128s",
                 topic);
        return;
    }
    if (strlist_has(&e->topics, topic))
        return;
    strlist_add(&e->topics, topic);
    for (size_t i = 0; i < N_CLIENTS; i++)
        if (e->sides[i].client)
            mqtt_client_subscribe(e->sides[i].client, topic);
    store_topic(e, OP_INSERT, topic);
}

static bool is_default(const char *topic) {
    for (size_t i = 0; i < ARRAY_LEN(DEFAULT_TOPICS); i++)
        if (str_eq(DEFAULT_TOPICS[i], topic))
            return true;
    return false;
}

static void unsubscribe(struct eventbus *e, const char *topic) {
    if (!strlist_remove(&e->topics, topic))
        return;
    for (size_t i = 0; i < N_CLIENTS; i++)
        if (e->sides[i].client && !is_default(topic))
            mqtt_client_unsubscribe(e->sides[i].client, topic);
    store_topic(e, OP_DELETE, topic);
}

static void handle(void *arg, struct message *m) {
    struct eventbus *e = arg;
    if (str_eq(m->operation, "publish"))
        publish(e, m);
    else if (str_eq(m->operation, "subscribe"))
        subscribe(e, m->resource);
    else if (str_eq(m->operation, "unsubscribe"))
        unsubscribe(e, m->resource);
    else
        log_debug("a message is not understood operation=%s resource=%s", m->operation, m->resource);
    message_free(m);
}

/* ---- life ---- */

static int make_client(struct eventbus *e, int which, struct error *err) {
    const struct eventbus_config *c = &e->config->eventbus;
    bool external = which == EXTERNAL;
    struct side *s = &e->sides[which];
    struct mqtt_client_options o = {.url = external ? c->external_url : c->internal_url,
                                    .client_id = external ? c->client_id : NULL,
                                    .user = external ? c->user : NULL,
                                    .password = external ? c->password : NULL,
                                    .qos = external ? 1 : (int)c->qos,
                                    .retain = !external && c->retain,
                                    .what = external ? "external" : "internal",
                                    .connected = on_connected,
                                    .message = on_message,
                                    .arg = s};
    if (external && c->tls_enable) {
        o.ca_file = c->tls_ca_file;
        o.cert_file = c->tls_cert_file;
        o.key_file = c->tls_key_file;
    }
    s->bus = e;
    s->client = mqtt_client_new(e->loop, &o, err);
    return s->client ? 0 : -1;
}

struct eventbus *eventbus_new(struct loop *l, struct bus *b, const struct edge_config *c, struct error *err) {
    struct eventbus *e = NEW(struct eventbus);
    int64_t mode = c->eventbus.mode;
    e->loop = l;
    e->bus = b;
    e->config = c;
    int rc = 0;
    if (mode != MODE_EXTERNAL)
        rc = make_client(e, INTERNAL, err);
    if (rc == 0 && mode != MODE_EXTERNAL && !(e->broker = broker_start(l, c, err)))
        rc = -1;
    if (rc == 0 && mode != MODE_INTERNAL)
        rc = make_client(e, EXTERNAL, err);
    if (rc < 0) {
        (void)error_wrap(err, "modules.eventBus");
        eventbus_free(e);
        return NULL;
    }
    return e;
}

static void on_loaded(void *arg, struct message *answer, const struct error *err) {
    struct eventbus *e = arg;
    yyjson_val *v;
    size_t i, max;
    e->loading = NULL;
    if (answer) {
        yyjson_arr_foreach (answer->content, i, max, v) {
            if (yyjson_is_str(v) && e->topics.count < TOPICS_MAX)
                strlist_add(&e->topics, yyjson_get_str(v));
        }
        message_free(answer);
    } else {
        log_error("stored subscriptions cannot be read, beginning without them: %s", error_text(err));
    }
    for (i = 0; i < N_CLIENTS; i++)
        if (e->sides[i].client)
            mqtt_client_start(e->sides[i].client);
}

void eventbus_start(struct eventbus *e) {
    const struct message_fields f = {
        .source = "eventbus", .group = GROUP_META, .operation = OP_QUERY, .resource = "sub_topics"};
    bus_register(e->bus, "eventbus", handle, e);
    e->loading = bus_request(e->bus, MODULE_METAMANAGER, message_new(&f), LOAD_TIMEOUT_MS, on_loaded, e);
}

void eventbus_stop(struct eventbus *e) {
    broker_stop(TAKE(e->broker));
}

void eventbus_free(struct eventbus *e) {
    if (!e)
        return;
    bus_unregister(e->bus, "eventbus");
    bus_request_cancel(e->loading);
    for (size_t i = 0; i < N_CLIENTS; i++)
        mqtt_client_free(e->sides[i].client);
    broker_stop(e->broker);
    strlist_free(&e->topics);
    free(e);
}
