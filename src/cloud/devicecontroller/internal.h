/* Private to devicecontroller/. */
#pragma once

#define LOG_COMPONENT "devicecontroller"

#include "base/log.h"
#include "base/str.h"
#include "cloud/devicecontroller/devicecontroller.h"
#include "cloud/devicecontroller/report.h"
#include "kube/client.h"
#include "kube/object.h"
#include "kube/reflector.h"
#include "net/metrics.h"

#include <uthash.h>

/* A Device, as far as it is not in the reflector's cache. */
struct device {
    struct devicecontroller *c;
    char *key; /* "<ns>/<name>" */
    const char *ns, *name;
    char *uid, *node; /* node "" where it has none */
    char *memory;     /* what ns and name point into */
    struct status_writer *writer;
    UT_hash_handle hh;
};

struct devicecontroller {
    struct devicecontroller_options o;
    struct cloudhub *hub; /* NULL until the hub runs */
    struct reflector *devices, *models;
    struct reflector *leftovers; /* DeviceStatuses, listed once */
    struct device *index;
    struct status_queue *queue;
    struct metric *sent, *reports, *denied;
};

struct device *device_find(const struct devicecontroller *c, const char *ns, const char *name);
/* The object as the API server told it last; NULL if it is gone. */
yyjson_val *device_object(const struct device *d);
yyjson_val *device_model(const struct device *d); /* NULL if there is none */

/* ---- devices.c: what the nodes are told ---- */
void devices_start(struct devicecontroller *c);
void devices_free(struct devicecontroller *c);
/* Everything that the node should have. */
void devices_converge(struct devicecontroller *c, const char *node);
/* The answer to the node's question which devices it has. */
void devices_send_membership(struct devicecontroller *c, const char *node);
/* The report with that message id is written down (or is of no interest): the node may forget it. */
void devices_confirm(struct devicecontroller *c, const char *node, const char *message_id);

/* ---- status.c: writes what was reported, one call per device at a time ---- */
struct status_queue *status_queue_new(struct devicecontroller *c);
void status_queue_free(struct status_queue *q);
/* A device has come: its DeviceStatus is made if it is missing. */
struct status_writer *status_writer_new(struct status_queue *q, struct device *d);
/* gone: the Device was deleted, and its DeviceStatus goes with it. */
void status_writer_free(struct status_writer *w, bool gone);
/* Takes in a report; confirmed under message_id once it is written. */
void status_writer_report(struct status_writer *w, yyjson_val *content, enum report_kind kind, const char *message_id);
/* The Device or its model has changed: other properties, another verdict. */
void status_writer_refresh(struct status_writer *w);
