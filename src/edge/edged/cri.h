/* The container runtime over CRI v1: containerd 1.6 and newer, CRI-O. Asynchronous, on the loop. */
#pragma once

#include "base/str.h"
#include "cri.pb-c.h"
#include "net/grpc.h"

#define CRI_STATUS_OK 0
#define CRI_STATUS_NOT_FOUND 5
#define CRI_STATUS_UNIMPLEMENTED 12

enum cri_method {
    CRI_VERSION,
    CRI_STATUS,
    CRI_RUNTIME_CONFIG,
    CRI_RUN_SANDBOX,
    CRI_STOP_SANDBOX,
    CRI_REMOVE_SANDBOX,
    CRI_SANDBOX_STATUS,
    CRI_LIST_SANDBOXES,
    CRI_CREATE_CONTAINER,
    CRI_START_CONTAINER,
    CRI_STOP_CONTAINER,
    CRI_REMOVE_CONTAINER,
    CRI_LIST_CONTAINERS,
    CRI_CONTAINER_STATUS,
    CRI_EXEC_SYNC,
    CRI_EXEC,
    CRI_ATTACH,
    CRI_PORT_FORWARD,
    CRI_REOPEN_LOG,
    CRI_LIST_CONTAINER_STATS,
    CRI_LIST_IMAGES,
    CRI_IMAGE_STATUS,
    CRI_PULL_IMAGE,
    CRI_REMOVE_IMAGE,
    CRI_IMAGE_FS_INFO,
    CRI_N_METHODS
};

/* reply is the method's own response message, borrowed; NULL on failure, then err says which call and why. */
typedef void cri_done(void *arg, int status, const void *reply, const struct error *err);

struct cri;
/* image_endpoint NULL or equal: the runtime's. request_timeout_ms: for calls that give none. */
struct cri *cri_new(struct loop *l, const char *runtime_endpoint, const char *image_endpoint, int request_timeout_ms,
                    struct error *err) MUST_CHECK;
void cri_free(struct cri *c); /* no callbacks afterwards */
/* timeout_ms 0: the default. The request is encoded before this returns. done is always called, later. */
void cri_call(struct cri *c, enum cri_method m, const void *request, int timeout_ms, cri_done *done, void *arg);
struct grpc_channel *cri_channel(struct cri *c); /* of the runtime service */

/* Told that something happened to a container or sandbox: ask again for its state. From CRI's GetContainerEvents, or
 * from containerd's own event service where the runtime is older than that (containerd 1.6). `connected` false: the
 * stream broke, or the runtime has neither; it is tried again while there is hope. */
struct cri_events;
struct cri_events *cri_events_new(struct loop *l, struct cri *c, void (*changed)(void *arg, const char *id),
                                  void (*state)(void *arg, bool connected), void *arg);
void cri_events_start(struct cri_events *e, bool is_containerd); /* after the runtime answered */
void cri_events_free(struct cri_events *e);

/* ---- building requests: malloc'd messages, freed with protobuf_c_message_free_unpacked(m, NULL) ---- */
#define CRI_FREE(m) protobuf_c_message_free_unpacked((ProtobufCMessage *)(m), NULL)
#define CRI_NEW(type, init)     \
    __extension__({             \
        type *new_ = NEW(type); \
        init(new_);             \
        new_;                   \
    })
void cri_add_pair(Cri__KeyValue ***list, size_t *n, const char *key, const char *value);
void cri_add_string(char ***list, size_t *n, const char *value);
const char *cri_pair_get(Cri__KeyValue *const *list, size_t n, const char *key); /* NULL if absent */
