/* What a node reports of a device, and the status that comes of it (devices.md 2.6, 2.7). Sans-IO. */
#pragma once

#include "base/json.h"

#include <uthash.h>

enum report_kind { REPORT_TWIN, REPORT_STATE, REPORT_MEMBERSHIP, REPORT_UNKNOWN };

/* "device/<ns>/<name>/twin/edge_updated", ".../state/update", "membership/detail". ns and name are views. */
enum report_kind report_parse_resource(struct bytes resource, struct bytes *ns, struct bytes *name);

/* One property. The values are JSON text {"value":...,"metadata":{...}}, NULL where nothing was reported. */
struct twin_entry {
    char *name, *reported, *observed;
    UT_hash_handle hh;
};
struct device_state {
    struct twin_entry *twins; /* in the order of their first report */
    char *state, *last_online, *message;
};
void device_state_free(struct device_state *s);

/* Takes over what a report says; properties that the Device does not have are left out. ERR_INVALID: not a report. */
int device_state_apply(struct device_state *s, enum report_kind kind, yyjson_val *content, yyjson_val *device,
                       struct error *err) MUST_CHECK;
/* What a stored DeviceStatus says where nothing newer was reported. */
void device_state_fill(struct device_state *s, yyjson_val *status);
/* Drops properties that the Device no longer has: true if there were any. */
bool device_state_prune(struct device_state *s, yyjson_val *device);
/* "twins":[...],"state":...,"lastOnlineTime":... : members, without the braces. */
void device_state_write(const struct device_state *s, struct buf *out);
