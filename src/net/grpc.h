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

/* target: "unix:///run/containerd/containerd.sock", "/run/x.sock" or "127.0.0.1:1234". */
struct grpc_channel *grpc_channel_new(struct loop *l, const char *target, struct error *err) MUST_CHECK;
void grpc_channel_free(struct grpc_channel *c); /* cancels all calls without calling back */
/* Told at each change; connected false carries the reason. */
void grpc_channel_on_state(struct grpc_channel *c, void (*fn)(void *arg, bool connected, const struct error *why),
                           void *arg);

/* gRPC status codes (0 OK, 5 NOT_FOUND, 14 UNAVAILABLE, 4 DEADLINE_EXCEEDED ...) in `status`; err holds its text. */
struct grpc_call_options {
    const char *method; /* "/runtime.v1.RuntimeService/Version" */
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *response_type;
    int timeout_ms;     /* 0: 10 s; < 0: none. Sent as grpc-timeout as well */
    size_t max_message; /* of one answer message; 0: 16 MiB */
    /* Unary: called once. reply is NULL on failure; borrowed. */
    void (*done)(void *arg, int status, const ProtobufCMessage *reply, const struct error *err);
    /* Server streaming, if set: each message (borrowed); `done` ends the call with a NULL reply. */
    void (*message)(void *arg, const ProtobufCMessage *message);
    void *arg;
};
struct grpc_call *grpc_call(struct grpc_channel *c,
                            const struct grpc_call_options *o); /* never NULL: failures come by done */
void grpc_call_cancel(struct grpc_call *call);                  /* no callback afterwards; invalid after done */
