/* gRPC client over a unix socket (or TCP, plain): nghttp2 + protobuf-c. Unary and server-streaming calls.
 *
 * A channel connects when it is first used and again by itself after a failure (backoff 50 ms to 5 s); calls made
 * meanwhile wait up to their deadline. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"

#include <protobuf-c/protobuf-c.h>

struct grpc_channel;
struct grpc_call;

/* The status codes of gRPC. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

/* target: "unix:///run/containerd/containerd.sock", "/run/x.sock" or "127.0.0.1:1234". */
struct grpc_channel *grpc_channel_new(struct loop *l, const char *target, struct error *err) MUST_CHECK;
void grpc_channel_free(struct grpc_channel *c); /* cancels all calls without calling back */
/* Told at each change, and of the first connection that fails; connected false carries the reason. */
void grpc_channel_on_state(struct grpc_channel *c, void (*fn)(void *arg, bool connected, const struct error *why),
                           void *arg);

/* `status` is a gRPC status code; err holds the server's text as it was sent, with the nearest error code. Without a
 * connection until the deadline, the status is UNAVAILABLE and err says why there was none. A request that the server
 * says it has not looked at (GOAWAY, REFUSED_STREAM) is sent again by itself. */
struct grpc_call_options {
    const char *method;              /* "/runtime.v1.RuntimeService/Version" */
    const ProtobufCMessage *request; /* packed before grpc_call returns */
    const ProtobufCMessageDescriptor *response_type;
    int timeout_ms;     /* 0: 10 s; < 0: none. Sent as grpc-timeout as well */
    size_t max_message; /* of one answer message; 0: 16 MiB */
    /* Unary: called once. reply is NULL on failure; borrowed. err is NULL on success. */
    void (*done)(void *arg, int status, const ProtobufCMessage *reply, const struct error *err);
    /* Server streaming, if set: each message (borrowed); `done` ends the call with a NULL reply. */
    void (*message)(void *arg, const ProtobufCMessage *message);
    void *arg;
};
struct grpc_call *grpc_call(struct grpc_channel *c,
                            const struct grpc_call_options *o); /* never NULL: failures come by done */
void grpc_call_cancel(struct grpc_call *call);                  /* no callback afterwards; invalid after done */
