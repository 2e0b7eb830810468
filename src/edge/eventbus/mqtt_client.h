/* One connection to an MQTT broker, kept up: libmosquitto on the loop. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"
#include "net/loop.h"

#define MQTT_PAYLOAD_MAX (1u << 20)
#define MQTT_TOPIC_MAX 1024

struct mqtt_client;
struct mqtt_client_options {
    const char *url;       /* tcp://, mqtt://, ssl://, tls://, tcps://, mqtts://, unix:// */
    const char *client_id; /* "" or NULL: made up */
    const char *user, *password;
    const char *ca_file, *cert_file,
        *key_file; /* of TLS schemes; "" or NULL: the system's CAs, no client certificate */
    int qos;       /* of what is published */
    bool retain;
    const char *what; /* for the log: "external broker" */
    void (*connected)(void *arg);
    /* Of this payload and topic, borrowed. What we published ourselves is not told. */
    void (*message)(void *arg, const char *topic, struct bytes payload);
    void *arg;
};
/* ERR_INVALID: the URL. Nothing is connected before mqtt_client_start. The options' strings are copied. */
struct mqtt_client *mqtt_client_new(struct loop *l, const struct mqtt_client_options *o, struct error *err) MUST_CHECK;
void mqtt_client_start(struct mqtt_client *c);
void mqtt_client_free(struct mqtt_client *c); /* NULL is fine */
bool mqtt_client_connected(const struct mqtt_client *c);

/* Subscriptions live as long as the connection: `connected` makes them anew. */
void mqtt_client_subscribe(struct mqtt_client *c, const char *topic);
void mqtt_client_unsubscribe(struct mqtt_client *c, const char *topic);
/* Dropped, and counted, where there is no connection or a broker does not keep up. */
void mqtt_client_publish(struct mqtt_client *c, const char *topic, struct bytes payload);

/* Where a broker is. Sans-IO. */
struct mqtt_address {
    char *host; /* the path of unix:// */
    int port;   /* 0: a unix socket */
    bool tls;
};
int mqtt_address_parse(const char *url, struct mqtt_address *out, struct error *err) MUST_CHECK;
