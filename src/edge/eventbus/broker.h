/* The internal broker: mosquitto as a child, on loopback, with a configuration of ours; started again when it ends. */
#pragma once

#include "edge/edge_config.h"
#include "net/loop.h"

struct broker;
/* ERR_INVALID: mqttServerInternal. The child is started at once; where there is no mosquitto, that is told, and tried
 * again. */
struct broker *broker_start(struct loop *l, const struct edge_config *c, struct error *err) MUST_CHECK;
void broker_stop(struct broker *b); /* NULL is fine */
