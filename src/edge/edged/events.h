/* Kubernetes Events about pods, told to the cloud if modules.edged.reportEvent is set (resource-sync.md 1.5, 7.3). */
#pragma once

#include "edge/bus.h"
#include "edge/edged/pod.h"

struct event_recorder;
struct event_recorder *event_recorder_new(struct bus *b, const char *node_name, bool enabled);
void event_recorder_free(struct event_recorder *r);
/* container: "" or NULL for the pod itself; init: among the init containers. The same event again within ten minutes is
 * sent as an update with a higher count. */
void event_record(struct event_recorder *r, const struct pod *p, const char *container, bool init, bool warning,
                  const char *reason, const char *message);
