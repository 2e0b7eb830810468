/* One HTTP/2 connection of a gRPC client without its socket: bytes in, bytes out, on nghttp2. Private to net/grpc.c and
 * the tests. What grpc.c adds is the socket, deadlines, and connecting again.
 *
 * Handlers are called from grpc_wire_receive and grpc_wire_output only. They may start and cancel exchanges, but must
 * not call these two functions or grpc_wire_free. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>

#define GRPC_PREFIX_SIZE 5 /* before each message: a compression flag and the length, big-endian */

struct grpc_wire;

/* One call on the connection. It stands in the caller's struct, which keeps it in place until `ended` was called or the
 * exchange was cancelled. */
struct grpc_exchange {
    const char *method;   /* "/package.Service/Method"; kept by the caller */
    struct bytes request; /* with its prefix; kept by the caller */
    int64_t timeout_ms;   /* told to the server; < 0: none */
    size_t max_message;   /* of one answer message */

    /* The connection's own; zeroed by the caller. */
    int32_t stream_id;
    size_t sent;
    unsigned char prefix[GRPC_PREFIX_SIZE];
    size_t prefix_len;
    size_t length; /* of the message being received */
    struct buf in;
    struct buf text;           /* grpc-message as received */
    int http_status;           /* 0: no answer yet */
    int grpc_status;           /* -1: not told */
    int verdict;               /* our own reason to give it up; -1: none */
    const char *verdict_text;  /* a literal */
    const char *content_fault; /* the answer is not gRPC: a literal */
    bool unsent;               /* the request never left */
};

struct grpc_wire_handlers {
    void (*settled)(void *arg);    /* the server's SETTINGS have come: it does speak HTTP/2 */
    void (*going_away)(void *arg); /* no new exchanges here; those under way go on */
    void (*message)(void *arg, struct grpc_exchange *x, struct bytes message);
    /* status: a gRPC status code, OK included. untouched: the server has not looked at the request, it may be sent
     * again elsewhere. */
    void (*ended)(void *arg, struct grpc_exchange *x, int status, const char *text, bool untouched);
};

struct grpc_wire *grpc_wire_new(const char *authority, const struct grpc_wire_handlers *handlers, void *arg);
void grpc_wire_free(struct grpc_wire *w); /* ends nothing: exchanges under way are forgotten */

/* -1: the connection is beyond use. */
int grpc_wire_receive(struct grpc_wire *w, struct bytes in, struct error *err) MUST_CHECK;
/* The next bytes to send, valid until the next call; empty when there is nothing to send now. */
int grpc_wire_output(struct grpc_wire *w, struct bytes *out, struct error *err) MUST_CHECK;
bool grpc_wire_finished(const struct grpc_wire *w); /* nothing will be sent or received any more */

/* -1: this connection takes no more exchanges. */
int grpc_wire_start(struct grpc_wire *w, struct grpc_exchange *x) MUST_CHECK;
void grpc_wire_cancel(struct grpc_wire *w, struct grpc_exchange *x); /* `ended` is not called */
void grpc_exchange_clear(struct grpc_exchange *x);                   /* frees what the connection kept in it */

/* The message, or NULL if it is not one of that type, or would take far more memory than it is long. Free it with
 * protobuf_c_message_free_unpacked(m, NULL). */
ProtobufCMessage *grpc_unpack(const ProtobufCMessageDescriptor *type, struct bytes in);
