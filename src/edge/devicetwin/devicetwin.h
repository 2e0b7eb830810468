/* DeviceTwin: which devices this node has, their states and twins; between MQTT, mappers and the cloud (devices.md 3).
 * On the bus it is "twin". On the loop thread.
 *
 * What it takes on the bus:
 *   source "bus" (EventBus)    resource is the MQTT topic, content the payload's text
 *   source "dmi"               device/<ns>/<name>/twin/update, .../state/update; answered by "OK" or an error once
 * stored from MetaManager           <ns>/device/<name>, <ns>/devicemodel/<name>: passed on to "dmi" from the cloud
 * membership, membership/detail, device/<ns>/<name>/twin/cloud_updated, confirmations */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"

struct devicetwin;
struct devicetwin *devicetwin_new(struct loop *l, struct bus *b, const struct edge_config *c);
void devicetwin_start(struct devicetwin *t); /* reads what is stored; messages wait until then */
void devicetwin_stop(struct devicetwin *t);
void devicetwin_free(struct devicetwin *t); /* NULL is fine */
