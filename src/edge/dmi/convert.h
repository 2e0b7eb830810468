/* Device and DeviceModel objects as DMI messages (devices.md 1.7, 1.8, 4.4). Sans-IO. */
#pragma once

#include "base/json.h"
#include "dmi.pb-c.h"

/* The device merged with its model's settings. Free with protobuf_c_message_free_unpacked(&d->base, NULL).
 * ERR_INVALID names the value that a mapper cannot be given. */
Dmi__Device *dmi_device(yyjson_val *device, yyjson_val *model, struct error *err) MUST_CHECK;
Dmi__DeviceModel *dmi_model(yyjson_val *model);

/* {"event_id":"","twin":{...}} of a mapper's report. ERR_INVALID: what the report lacks. */
int dmi_report_json(const Dmi__ReportDeviceStatusRequest *q, struct buf *out, struct error *err) MUST_CHECK;
