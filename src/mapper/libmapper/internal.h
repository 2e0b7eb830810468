/* Private to libmapper. */
#pragma once

#define LOG_COMPONENT "mapper"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "dmi.pb-c.h"
#include "mapper/libmapper/mapper.h"
#include "net/grpc.h"
#include "net/loop.h"

#include <pthread.h>
#include <uthash.h>

struct mapper;

/* ---- settings.c ---- */
struct mapper_settings *settings_new(const Dmi__CustomizedValue *c);
void settings_free(struct mapper_settings *s);
enum mapper_type value_type(const char *name); /* of the model; unknown: STRING */
const char *value_type_name(enum mapper_type type);

/* ---- device.c: one device, in its bus's thread once it was handed over ---- */
struct property {
    char *name, *desired; /* desired "" : none */
    enum mapper_type type;
    bool writable, report;
    char *minimum, *maximum;
    int64_t cycle_ms, due_ms;
    struct mapper_settings *settings;
    void *prepared;
    bool broken; /* its settings are wrong: told in the state */
};
struct device {
    struct mapper *mapper;
    char *key, *ns, *name; /* key "<ns>/<name>" */
    char *fingerprint;     /* packed device and model: tells a change from a repetition */
    size_t fingerprint_len;
    struct mapper_settings *settings;
    struct property *properties;
    size_t n_properties;
    bool report_state;
    int64_t state_cycle_ms, state_due_ms;
    char *bus_key;
    char *fault; /* of its settings, in words; it is not opened as it is */

    /* in the thread */
    void *handle; /* NULL: closed */
    int64_t open_due_ms;
    struct backoff backoff;
    const char *state;
    char *message;
    bool removed; /* set by the loop thread under the bus's lock */
    struct device *prev, *next;
};
struct device *device_new(struct mapper *m, const Dmi__Device *d, const Dmi__DeviceModel *model);
void device_free(struct device *d);
/* Does what is due; gives when it wants to be called again (monotonic ms). */
int64_t device_run(struct device *d, int64_t now_ms);
void device_close(struct device *d);

/* ---- bus.c: the threads ---- */
struct bus;
/* The device is its bus's from now on. */
void buses_add(struct mapper *m, struct device *d);
/* Told to go; freed by its thread. */
void buses_remove(struct mapper *m, struct device *d);
void buses_stop(struct mapper *m); /* joins all threads */

/* ---- reports.c: to edgecore; newest wins while it does not answer ---- */
/* Any thread. Texts are copied. */
void report_value(struct device *d, const struct property *p, const char *text, int64_t timestamp_ms);
void report_state(struct device *d, const char *state, const char *message);
void reports_run(struct mapper *m); /* the connection is back */
void reports_free(struct mapper *m);

/* ---- mapper.c ---- */
struct known_device {
    struct device *device; /* owned by its bus */
    char *key;
    Dmi__Device *spec; /* as edgecore told it */
    bool seen;
    UT_hash_handle hh;
};
struct known_model {
    char *key;
    Dmi__DeviceModel *spec;
    UT_hash_handle hh;
};

struct mapper {
    const struct mapper_driver *driver;
    struct mapper_config {
        char *socket, *name, *version, *api_version, *protocol, *edgecore_socket;
    } config;
    struct loop *loop;
    struct grpc_channel *edgecore;
    struct grpc_server *server;
    struct grpc_call *registering;
    struct timer *again;
    struct backoff backoff;
    struct log_once link;
    bool registered;
    struct known_device *devices;
    struct known_model *models;
    struct bus *buses;
    struct remote *remotes; /* reports.c */
};
