/* gRPC server over a unix socket: nghttp2 + protobuf-c. Unary calls, answered at once or later. On the loop thread.
 *
 * Every method stands in the caller's table; anything else is answered UNIMPLEMENTED, what cannot be unpacked
 * INVALID_ARGUMENT, what is longer than max_message RESOURCE_EXHAUSTED. The :authority is not looked at: gRPC clients
 * put there what they like for a socket's path. */
#pragma once

#include "net/grpc.h"

struct grpc_server;
struct grpc_request; /* one call; ended by grpc_reply or grpc_reply_error, also when its caller has gone meanwhile */

struct grpc_method {
    const char *path; /* "/v1beta1.DeviceManagerService/MapperRegister" */
    const ProtobufCMessageDescriptor *request_type;
    /* message is borrowed and gone when this returns. */
    void (*handle)(void *arg, struct grpc_request *r, const ProtobufCMessage *message);
};

struct grpc_server_options {
    const char *unix_path; /* an old socket there that nobody listens on is replaced */
    unsigned unix_mode;    /* permissions of the socket */
    const struct grpc_method *methods;
    size_t n_methods;
    void *arg;
    size_t max_message;     /* of one request; 0: 4 MiB */
    size_t max_connections; /* 0: 256 */
};
struct grpc_server *grpc_server_new(struct loop *l, const struct grpc_server_options *o, struct error *err) MUST_CHECK;
/* Closes all connections. Requests that are still held may be replied to afterwards: nobody hears it. */
void grpc_server_free(struct grpc_server *s);

void grpc_reply(struct grpc_request *r, const ProtobufCMessage *reply);
/* status is a gRPC status code other than OK. */
void grpc_reply_error(struct grpc_request *r, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);
