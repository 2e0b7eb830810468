/* EventBus: between MQTT brokers and the components of edgecore (messaging.md 1). On the bus it is "eventbus". On the
 * loop thread.
 *
 * mqttMode 2: an external broker. 0: mosquitto as a child, on loopback. 1: both. */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"

struct eventbus;
struct eventbus *eventbus_new(struct loop *l, struct bus *b, const struct edge_config *c, struct error *err) MUST_CHECK;
void eventbus_start(struct eventbus *e); /* connects by itself, for as long as it takes */
void eventbus_stop(struct eventbus *e);
void eventbus_free(struct eventbus *e); /* NULL is fine */
