#define LOG_COMPONENT "eventbus"

#include "edge/eventbus/mqtt_client.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/metrics.h"

#include <errno.h>
#include <mosquitto.h>
#include <stdio.h>

#define KEEPALIVE_S 30
#define MISC_MS 1000 /* keepalives and retries of libmosquitto */
#define FIRST_MS 500
#define MAX_MS 10000
#define UNSENT_MAX (8u << 20) /* bytes that a broker has not taken yet */
#define OWN_MAX 256           /* own publications that may still come back */
#define OWN_MS 10000

/* What we published and are subscribed to: the broker will send it to us. */
struct own {
    uint64_t hash;
    int64_t until_ms;
};

struct mqtt_client {
    struct loop *loop;
    struct mqtt_client_options o;
    struct mqtt_address address;
    char *memory[7]; /* copies of the options' strings */
    struct mosquitto *mosq;
    struct fdwatch *readable, *writable;
    struct timer *misc, *reconnect;
    struct backoff backoff;
    struct log_once trouble;
    bool connected, attached;
    int refused; /* CONNACK code */
    size_t unsent;
    struct strlist subscribed;
    struct own own[OWN_MAX];
    size_t next_own;
    struct metric *received, *published, *dropped;
};

static void look(struct mqtt_client *c);

/* ---- addresses ---- */

int mqtt_address_parse(const char *url, struct mqtt_address *out, struct error *err) {
    static const struct {
        const char *scheme;
        bool tls;
    } schemes[] = {{"tcp", false}, {"mqtt", false}, {"ssl", true}, {"tls", true}, {"tcps", true}, {"mqtts", true}};
    struct bytes scheme, rest = bytes_str(url), host, port;
    uint64_t number;
    const char *separator = strstr(url, "://");
    *out = (struct mqtt_address){0};
    if (!separator)
        return error_set(err, ERR_INVALID, "\"%s\" is no broker's URL: it must begin with tcp://, ssl:// or unix://",
                         url);
    scheme = bytes_of(url, (size_t)(separator - url));
    rest.ptr = separator + 3;
    rest.len = strlen(rest.ptr);
    if (bytes_eq_str(scheme, "unix") && rest.len > 0) {
        out->host = bytes_dup(rest);
        return 0;
    }
    if (bytes_ends_with(rest, "/"))
        rest.len--;
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (!bytes_eq_str(scheme, schemes[i].scheme))
            continue;
        const char *colon = memrchr(rest.ptr, ':', rest.len);
        bool bracket = rest.len > 0 && rest.ptr[rest.len - 1] == ']';
        host = colon && !bracket ? bytes_of(rest.ptr, (size_t)(colon - rest.ptr)) : rest;
        port = colon && !bracket ? bytes_of(colon + 1, rest.len - host.len - 1)
                                 : bytes_str(schemes[i].tls ? "8883" : "1883");
        if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
            host = bytes_of(host.ptr + 1, host.len - 2);
        if (host.len == 0 || parse_u64(port, 65535, &number) < 0 || number == 0)
            break;
        *out = (struct mqtt_address){.host = bytes_dup(host), .port = (int)number, .tls = schemes[i].tls};
        return 0;
    }
    return error_set(err, ERR_INVALID,
                     "\"%s\" is no broker's URL that is understood here: tcp://host:port, "
                     "ssl://host:port or unix:///path",
                     url);
}

/* ---- our own publications ---- */

static uint64_t hash_of(const char *topic, struct bytes payload) {
    return str_hash(topic, strlen(topic)) * 31 + str_hash(payload.ptr ? payload.ptr : "", payload.len);
}

static bool is_subscribed(const struct mqtt_client *c, const char *topic) {
    for (size_t i = 0; i < c->subscribed.count; i++) {
        bool matches = false;
        if (mosquitto_topic_matches_sub(c->subscribed.items[i], topic, &matches) == MOSQ_ERR_SUCCESS && matches)
            return true;
    }
    return false;
}

static void remember_own(struct mqtt_client *c, const char *topic, struct bytes payload) {
    if (!is_subscribed(c, topic))
        return;
    c->own[c->next_own] = (struct own){hash_of(topic, payload), clock_mono_ms() + OWN_MS};
    c->next_own = (c->next_own + 1) % OWN_MAX;
}

/* Once for each time that it was published. */
static bool is_own(struct mqtt_client *c, const char *topic, struct bytes payload) {
    uint64_t hash = hash_of(topic, payload);
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < OWN_MAX; i++) {
        if (c->own[i].until_ms > now && c->own[i].hash == hash) {
            c->own[i].until_ms = 0;
            return true;
        }
    }
    return false;
}

/* ---- the connection ---- */

static void detach(struct mqtt_client *c) {
    fdwatch_free(TAKE(c->readable));
    fdwatch_free(TAKE(c->writable));
    timer_stop(c->misc);
    c->connected = c->attached = false;
    c->unsent = 0;
}

static void lost(struct mqtt_client *c, const char *why) {
    detach(c);
    log_once_failed(&c->trouble, LOG_COMPONENT,
                    "no connection to the MQTT broker, trying again: %s broker=\"%s\" url=%s", why, c->o.what,
                    c->o.url);
    timer_set(c->reconnect, backoff_next_ms(&c->backoff));
}

/* After each call into libmosquitto: its socket may be gone, or want to write. */
static void look(struct mqtt_client *c) {
    if (!c->attached)
        return;
    if (mosquitto_socket(c->mosq) < 0) {
        lost(c, c->refused ? mosquitto_connack_string(c->refused) : "it closed the connection");
        return;
    }
    bool want = mosquitto_want_write(c->mosq);
    if (!want)
        fdwatch_free(TAKE(c->writable));
}

static void on_readable(void *arg, unsigned what) {
    struct mqtt_client *c = arg;
    int rc = mosquitto_loop_read(c->mosq, 100);
    if (rc != MOSQ_ERR_SUCCESS && c->attached)
        lost(c, c->refused ? mosquitto_connack_string(c->refused) : mosquitto_strerror(rc));
    else if (c->attached && mosquitto_want_write(c->mosq))
        (void)mosquitto_loop_write(c->mosq, 1);
    look(c);
}

static void on_writable(void *arg, unsigned what) {
    struct mqtt_client *c = arg;
    int rc = mosquitto_loop_write(c->mosq, 1);
    if (rc != MOSQ_ERR_SUCCESS && c->attached)
        lost(c, mosquitto_strerror(rc));
    look(c);
}

static void want_write(struct mqtt_client *c) {
    if (c->attached && !c->writable && mosquitto_socket(c->mosq) >= 0 && mosquitto_want_write(c->mosq))
        c->writable = fdwatch_new(c->loop, mosquitto_socket(c->mosq), FD_WRITE, on_writable, c);
}

static void on_misc(void *arg) {
    struct mqtt_client *c = arg;
    int rc = mosquitto_loop_misc(c->mosq);
    if (rc != MOSQ_ERR_SUCCESS && c->attached)
        lost(c, mosquitto_strerror(rc));
    look(c);
    want_write(c);
}

static void on_reconnect(void *arg) {
    struct mqtt_client *c = arg;
    c->refused = 0;
    int rc = mosquitto_connect_async(c->mosq, c->address.host, c->address.port, KEEPALIVE_S);
    if (rc != MOSQ_ERR_SUCCESS || mosquitto_socket(c->mosq) < 0) {
        lost(c, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
        return;
    }
    c->attached = true;
    c->readable = fdwatch_new(c->loop, mosquitto_socket(c->mosq), FD_READ, on_readable, c);
    c->writable = fdwatch_new(c->loop, mosquitto_socket(c->mosq), FD_WRITE, on_writable, c);
    timer_every(c->misc, MISC_MS);
}

/* ---- libmosquitto's callbacks: from inside its loop functions ---- */

static void on_connect(struct mosquitto *mosq, void *arg, int rc) {
    struct mqtt_client *c = arg;
    (void)mosq;
    c->refused = rc;
    if (rc != 0)
        return; /* it closes; lost() tells why */
    c->connected = true;
    backoff_reset(&c->backoff);
    log_info("connected to the MQTT broker broker=\"%s\" url=%s", c->o.what, c->o.url);
    log_once_recovered(&c->trouble, LOG_COMPONENT, "the MQTT broker is back broker=\"%s\"", c->o.what);
    c->o.connected(c->o.arg);
    want_write(c);
}

static void on_message(struct mosquitto *mosq, void *arg, const struct mosquitto_message *m) {
    struct mqtt_client *c = arg;
    struct bytes payload = bytes_of(m->payload, (size_t)m->payloadlen);
    (void)mosq;
    metric_add(c->received, 1);
    if (payload.len > MQTT_PAYLOAD_MAX || strlen(m->topic) > MQTT_TOPIC_MAX) {
        log_warn("an MQTT message is too large and is dropped bytes=%zu topic=%.128s", payload.len, m->topic);
        return;
    }
    if (!is_own(c, m->topic, payload))
        c->o.message(c->o.arg, m->topic, payload);
}

static void on_publish(struct mosquitto *mosq, void *arg, int id) {
    struct mqtt_client *c = arg;
    (void)mosq;
    if (c->unsent > 0)
        c->unsent--;
}

/* ---- public ---- */

bool mqtt_client_connected(const struct mqtt_client *c) {
    return c->connected;
}

void mqtt_client_subscribe(struct mqtt_client *c, const char *topic) {
    if (!strlist_has(&c->subscribed, topic))
        strlist_add(&c->subscribed, topic);
    int rc = c->connected ? mosquitto_subscribe(c->mosq, NULL, topic, 1) : MOSQ_ERR_SUCCESS;
    if (rc != MOSQ_ERR_SUCCESS)
        log_warn("the topic cannot be subscribed: %s topic=%s", mosquitto_strerror(rc), topic);
    want_write(c);
}

void mqtt_client_unsubscribe(struct mqtt_client *c, const char *topic) {
    (void)strlist_remove(&c->subscribed, topic);
    if (c->connected)
        (void)mosquitto_unsubscribe(c->mosq, NULL, topic);
    want_write(c);
}

void mqtt_client_publish(struct mqtt_client *c, const char *topic, struct bytes payload) {
    if (!c->connected || c->unsent > UNSENT_MAX / 1024) {
        metric_add(c->dropped, 1);
        return;
    }
    int rc = mosquitto_publish(c->mosq, NULL, topic, (int)payload.len, payload.ptr, c->o.qos, c->o.retain);
    if (rc != MOSQ_ERR_SUCCESS) {
        metric_add(c->dropped, 1);
        log_debug("not published: %s topic=%s", mosquitto_strerror(rc), topic);
        return;
    }
    c->unsent++;
    metric_add(c->published, 1);
    remember_own(c, topic, payload);
    want_write(c);
}

static int set_security(struct mqtt_client *c, struct error *err) {
    const struct mqtt_client_options *o = &c->o;
    int rc = MOSQ_ERR_SUCCESS;
    if (!str_empty(o->user))
        rc = mosquitto_username_pw_set(c->mosq, o->user, o->password);
    if (rc == MOSQ_ERR_SUCCESS && c->address.tls) {
        bool own_ca = !str_empty(o->ca_file), pair = !str_empty(o->cert_file) && !str_empty(o->key_file);
        rc = mosquitto_tls_set(c->mosq, own_ca ? o->ca_file : NULL, own_ca ? NULL : "/etc/ssl/certs",
                               pair ? o->cert_file : NULL, pair ? o->key_file : NULL, NULL);
        if (rc != MOSQ_ERR_SUCCESS)
            return error_set(err, ERR_INVALID, "the TLS files of the MQTT broker cannot be used: %s (%s, %s, %s)",
                             mosquitto_strerror(rc), str_or(o->ca_file, "-"), str_or(o->cert_file, "-"),
                             str_or(o->key_file, "-"));
        rc = mosquitto_tls_opts_set(c->mosq, 1, "tlsv1.2", NULL);
    }
    return rc == MOSQ_ERR_SUCCESS ? 0 : error_set(err, ERR_INVALID, "MQTT settings: %s", mosquitto_strerror(rc));
}

static void copy_options(struct mqtt_client *c, const struct mqtt_client_options *o) {
    const char **fields[] = {&c->o.url,     &c->o.client_id, &c->o.user,    &c->o.password,
                             &c->o.ca_file, &c->o.cert_file, &c->o.key_file};
    c->o = *o;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        *fields[i] = c->memory[i] = xstrdup_null(*fields[i]);
}

struct mqtt_client *mqtt_client_new(struct loop *l, const struct mqtt_client_options *o, struct error *err) {
    static bool initialised;
    struct mqtt_client *c = NEW(struct mqtt_client);
    if (!initialised)
        (void)mosquitto_lib_init();
    initialised = true;
    c->loop = l;
    copy_options(c, o);
    c->backoff = BACKOFF(FIRST_MS, MAX_MS);
    c->misc = timer_new(l, on_misc, c);
    c->reconnect = timer_new(l, on_reconnect, c);
    c->received = metric_get(METRIC_COUNTER, "selvage_eventbus_received_total", "MQTT messages received", NULL);
    c->published = metric_get(METRIC_COUNTER, "selvage_eventbus_published_total", "MQTT messages published", NULL);
    c->dropped = metric_get(METRIC_COUNTER, "selvage_eventbus_dropped_total",
                            "MQTT messages not published: no broker, or one that does not keep up", NULL);
    char made_up[40];
    (void)snprintf(made_up, sizeof made_up, "hub-client-%016llx", (unsigned long long)random_u64());
    if (mqtt_address_parse(c->o.url, &c->address, err) < 0) {
        mqtt_client_free(c);
        return NULL;
    }
    c->mosq = mosquitto_new(str_or(c->o.client_id, made_up), true, c);
    if (!c->mosq)
        panic("out of memory for an MQTT client");
    mosquitto_connect_callback_set(c->mosq, on_connect);
    mosquitto_message_callback_set(c->mosq, on_message);
    mosquitto_publish_callback_set(c->mosq, on_publish);
    if (set_security(c, err) < 0) {
        mqtt_client_free(c);
        return NULL;
    }
    return c;
}

void mqtt_client_start(struct mqtt_client *c) {
    timer_set(c->reconnect, 0);
}

void mqtt_client_free(struct mqtt_client *c) {
    if (!c)
        return;
    detach(c);
    if (c->mosq) {
        (void)mosquitto_disconnect(c->mosq);
        mosquitto_destroy(c->mosq);
    }
    timer_free(c->misc);
    timer_free(c->reconnect);
    strlist_free(&c->subscribed);
    for (size_t i = 0; i < ARRAY_LEN(c->memory); i++)
        free(c->memory[i]);
    free(c->address.host);
    free(c);
}
