/* Private to dmi/. */
#pragma once

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/dmi/convert.h"
#include "edge/dmi/dmi.h"
#include "kube/object.h"
#include "net/grpc.h"

#include <uthash.h>

enum dmi_kind { DMI_MODEL, DMI_DEVICE, DMI_N_KINDS };
enum { DMI_MAPPERS = DMI_N_KINDS }; /* the last step of loading */

struct dmi_object {
    struct dmi *dmi;
    char *key; /* "<ns>/<name>" */
    yyjson_doc *doc;
    char *protocol;  /* devices: whose mapper serves it */
    bool complained; /* its status says what is wrong */
    UT_hash_handle hh;
};

struct dmi {
    struct loop *loop;
    struct bus *bus;
    char *path;
    struct grpc_server *server;
    struct dmi_object *objects[DMI_N_KINDS];
    struct mapper *mappers; /* by protocol */
    struct waiting *waiting;
    struct bus_request *loading;
    int load_step;
    struct timer *grace;
};

struct dmi_object *dmi_find(const struct dmi *d, enum dmi_kind kind, const char *key);
yyjson_val *dmi_value(const struct dmi_object *o);
struct dmi_object *dmi_model_of(const struct dmi *d, const struct dmi_object *device);
/* NULL with what is wrong, in words for the device's status. */
Dmi__Device *dmi_merged(const struct dmi *d, const struct dmi_object *device, struct error *err);
/* Tells in the device's status what keeps it from being served; NULL: nothing any more. */
void dmi_complain(struct dmi *d, struct dmi_object *device, const char *text);

/* ---- mappers.c: calls to the mappers, in order and one at a time for each, repeated until they are heard ---- */
enum mapper_call {
    CALL_REGISTER_DEVICE,
    CALL_UPDATE_DEVICE,
    CALL_REMOVE_DEVICE,
    CALL_CREATE_MODEL,
    CALL_UPDATE_MODEL,
    CALL_REMOVE_MODEL,
    N_MAPPER_CALLS,
};
struct mapper *mapper_find(const struct dmi *d, const char *protocol);
/* It is at this socket, and, if it was given all devices, knows them: what waited for it is dropped. */
void mapper_registered(struct dmi *d, const char *protocol, const char *address, bool knows_all);
/* No such mapper: nothing happens; it is told everything when it registers. */
void mapper_queue(struct dmi *d, const char *protocol, enum mapper_call what, const char *key);
void mapper_remove(struct dmi *d, const char *protocol, const char *key); /* of a device */
void mappers_free(struct dmi *d);
