/* One HTTP/2 connection of a gRPC server without its socket: bytes in, bytes out, on nghttp2. Private to
 * net/grpc_server.c and the tests. */
#pragma once

#include "net/grpc_server.h"

struct grpc_serve;
struct grpc_serve_options {
    const struct grpc_method *methods;
    size_t n_methods;
    size_t max_message;
    void *handler_arg;
    void (*answered)(void *arg); /* there is output; may be called from inside grpc_serve_receive */
    void *arg;
};
struct grpc_serve *grpc_serve_new(const struct grpc_serve_options *o);
void grpc_serve_free(struct grpc_serve *s); /* requests that are held outlive it */
/* -1: the connection is beyond use. */
int grpc_serve_receive(struct grpc_serve *s, struct bytes in, struct error *err) MUST_CHECK;
/* The next bytes to send, valid until the next call; empty when there is nothing to send now. */
int grpc_serve_output(struct grpc_serve *s, struct bytes *out, struct error *err) MUST_CHECK;
