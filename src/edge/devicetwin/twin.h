/* A device at the edge and its twins: what was asked for (expected), what is (actual), their versions, and the JSON
 * that tells of them (devices.md 3.5, 3.6). Sans-IO. */
#pragma once

#include "base/json.h"

#include <uthash.h>

#define TWIN_NAME_MAX 128
#define TWIN_VALUE_MAX 512       /* what MQTT may report */
#define TWIN_VALUE_MAX_DMI 65536 /* what a mapper may */
#define TWIN_PER_DEVICE 4096     /* a client that invents names is stopped here */
#define TWIN_JSON_MAX (16u << 20)

struct twin_part {
    char *value; /* NULL: absent */
    int64_t timestamp;
    int64_t cloud, edge; /* versions; edge 0: never set here */
};

enum twin_sync {
    TWIN_SYNCED,
    TWIN_UNSENT,
    TWIN_SENT
}; /* to the cloud: known there, to be sent, sent and not confirmed */

struct twin {
    char *name, *type;
    struct twin_part expected, actual;
    bool optional, deleted;
    bool dirty; /* differs from the database */
    enum twin_sync sync;
    UT_hash_handle hh;
};

struct twin_device {
    char *id;                                          /* "<ns>/<name>" */
    const char *name;                                  /* within id */
    char *description, *state, *last_online, *message; /* NULL: none */
    struct twin *twins;
    bool dirty; /* the row of the device itself */
    enum twin_sync state_sync;
    /* devicetwin.c's: the report that is on its way */
    char *report_id;
    int64_t report_ms;
    bool queued, row_queued;
    struct twin_device *next_report, *next_row;
    UT_hash_handle hh, hh_report;
};

struct twin_device *twin_device_new(struct bytes id);
void twin_device_free(struct twin_device *d);
struct twin *twin_find(const struct twin_device *d, const char *name);

/* Who says so: MQTT clients are held to the original's limits, mappers may send any text and name type and time. */
enum twin_origin { TWIN_FROM_MQTT, TWIN_FROM_MAPPER, TWIN_FROM_CLOUD };

/* Applies {"twin":{...}}: all of it or, with ERR_INVALID, nothing. now: ms. result and document get the inner objects
 * of the messages of that name ({} of twins); either may be NULL. *changed: is there a document? */
int twin_update(struct twin_device *d, yyjson_val *request, enum twin_origin origin, int64_t now, struct buf *result,
                struct buf *document, bool *changed, struct error *err) MUST_CHECK;

/* {} of all twins, as twin/get shows them. */
void twin_write_all(const struct twin_device *d, struct buf *out);
/* The delta: false if expected and actual agree. delta: {} of values, twins: {} of twins with an expected value. */
bool twin_write_delta(const struct twin_device *d, struct buf *delta, struct buf *twins);
/* {} of what the cloud does not know: these become TWIN_SENT. False if there is nothing. */
bool twin_write_report(struct twin_device *d, struct buf *out);
/* The report has arrived, or is lost and must be sent again. */
void twin_report_done(struct twin_device *d, bool arrived);
bool twin_has_report(const struct twin_device *d);

/* Rows of the tables, as MetaManager keeps them (JSON objects named after the columns). */
void twin_write_device_row(const struct twin_device *d, struct buf *out);
void twin_write_row(const struct twin_device *d, const struct twin *t, struct buf *out);
void twin_read_row(struct twin_device *d, yyjson_val *row);

/* A member by its name in any case; the last one counts, as in Go. NULL if there is none. */
yyjson_val *twin_member(yyjson_val *object, const char *name);
/* Is it a state that a device may report? */
bool twin_state_known(const char *state);
