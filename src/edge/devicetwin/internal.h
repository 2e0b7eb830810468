/* Private to devicetwin/. */
#pragma once

#define LOG_COMPONENT "devicetwin"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/devicetwin/devicetwin.h"
#include "edge/devicetwin/twin.h"
#include "net/metrics.h"

/* A message that goes out once what it tells of is stored. */
struct output {
    const char *to; /* NULL: an answer to a bus request */
    struct message *message;
    struct output *prev, *next;
};

struct devicetwin {
    struct loop *loop;
    struct bus *bus;
    const struct edge_config *config;
    struct twin_device *devices;

    /* keeper.c: what is to be stored, and what waits for it */
    struct twin_device *dirty;
    struct strlist removed;
    struct output *held, *covered; /* for the next save; by the one under way */
    struct bus_request *saving;
    char *saving_text; /* tried again until it is stored */
    struct timer *retry;
    struct log_once disk;

    /* cloud.c: reports on their way */
    struct twin_device *reports; /* by message id */
    struct twin_device *unsent;
    struct timer *resend;

    struct output *early; /* what came before the database was read */
    struct bus_request *loading;
    bool loaded, stopped;
    struct metric *updates, *refused;
};

/* ---- keeper.c ---- */
void keeper_changed(struct devicetwin *t, struct twin_device *d); /* some of its rows are dirty */
void keeper_removed(struct devicetwin *t, const char *id);
/* Sends m once everything that has changed until now is stored. to NULL: a bus reply. Takes m. */
void keeper_emit(struct devicetwin *t, const char *to, struct message *m);
void keeper_run(struct devicetwin *t); /* at the end of each event */
void keeper_free(struct devicetwin *t);

/* ---- cloud.c ---- */
void cloud_queue(struct devicetwin *t, struct twin_device *d); /* it has something that the cloud does not know */
void cloud_run(struct devicetwin *t);
void cloud_confirmed(struct devicetwin *t, const char *id);
void cloud_forget(struct devicetwin *t, struct twin_device *d);
void cloud_connected(struct devicetwin *t, bool connected);
void cloud_tick(struct devicetwin *t);

/* ---- requests.c: MQTT's and the mappers' ---- */
void request_from_mqtt(struct devicetwin *t, struct message *m);
void request_from_mapper(struct devicetwin *t, struct message *m);
void request_from_cloud(struct devicetwin *t, struct message *m); /* twin/cloud_updated */

/* ---- devicetwin.c ---- */
struct twin_device *devicetwin_find(struct devicetwin *t, struct bytes ns, struct bytes name);
/* "device":{...} as state messages have it, members only. */
void devicetwin_add_state(const struct twin_device *d, struct buf *out);
/* {"event_id":...,"timestamp":...  : the brace stays open. event_id NULL: a new one. */
void devicetwin_begin(struct buf *out, const char *event_id);
