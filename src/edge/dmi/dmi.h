/* DMI: the Device Mapper Interface. gRPC with mappers on unix sockets, both ways (devices.md 4). On the bus it is
 * "dmi". On the loop thread.
 *
 * Takes from DeviceTwin: <ns>/device/<name> and <ns>/devicemodel/<name> as they are stored or deleted, and a delete of
 * <ns>/<name> for a device that went away unseen. Sends mappers' reports to "twin". */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"

struct dmi;
struct dmi *dmi_new(struct loop *l, struct bus *b, const struct edge_config *c);
/* Reads what is stored, then listens. ERR_EXISTS: another edgecore has the socket. */
int dmi_start(struct dmi *d, struct error *err) MUST_CHECK;
void dmi_stop(struct dmi *d);
void dmi_free(struct dmi *d); /* NULL is fine */
