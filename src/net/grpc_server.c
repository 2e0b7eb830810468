#define LOG_COMPONENT "grpc"

#include "net/grpc_server.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/grpc_serve.h"
#include "net/stream.h"

#include <utlist.h>

#define DEFAULT_MAX_MESSAGE (4u << 20)
#define DEFAULT_MAX_CONNECTIONS 256

struct connection {
    struct grpc_server *server;
    struct stream *stream;
    struct grpc_serve *serve;
    bool receiving; /* output follows when all that came was looked at */
    struct connection *prev, *next;
};

struct grpc_server {
    struct grpc_server_options o;
    struct listener *listener;
    struct connection *connections;
};

static void connection_end(struct connection *c) {
    DL_DELETE(c->server->connections, c);
    stream_free(c->stream);
    grpc_serve_free(c->serve);
    free(c);
}

/* False: the connection has ended. */
static bool flush(struct connection *c) {
    struct bytes out;
    struct error err = ERROR_INIT;
    for (;;) {
        if (grpc_serve_output(c->serve, &out, &err) < 0) {
            if (err.code != ERR_UNAVAILABLE)
                log_debug("connection given up: %s", error_text(&err));
            connection_end(c);
            return false;
        }
        if (out.len == 0)
            return true;
        if (stream_write(c->stream, out.ptr, out.len) != 0)
            return true; /* on_drained goes on */
    }
}

static void on_answered(void *arg) {
    struct connection *c = arg;
    if (!c->receiving)
        (void)flush(c);
}

static size_t on_data(void *arg, struct bytes in) {
    struct connection *c = arg;
    struct error err = ERROR_INIT;
    c->receiving = true;
    int rc = grpc_serve_receive(c->serve, in, &err);
    c->receiving = false;
    if (rc < 0) {
        log_debug("connection given up: %s", error_text(&err));
        connection_end(c);
    } else {
        (void)flush(c);
    }
    return in.len;
}

static void on_drained(void *arg) {
    (void)flush(arg);
}

static void on_closed(void *arg, const struct error *why) {
    connection_end(arg);
}

static void on_accepted(void *arg, struct stream *stream) {
    static const struct stream_handlers handlers = {.data = on_data, .drained = on_drained, .closed = on_closed};
    struct grpc_server *s = arg;
    struct connection *c = NEW(struct connection);
    c->server = s;
    c->stream = stream;
    c->serve = grpc_serve_new(&(struct grpc_serve_options){.methods = s->o.methods,
                                                           .n_methods = s->o.n_methods,
                                                           .max_message = s->o.max_message,
                                                           .handler_arg = s->o.arg,
                                                           .answered = on_answered,
                                                           .arg = c});
    DL_APPEND(s->connections, c);
    stream_set_handlers(stream, &handlers, c);
    (void)flush(c);
}

struct grpc_server *grpc_server_new(struct loop *l, const struct grpc_server_options *o, struct error *err) {
    struct grpc_server *s = NEW(struct grpc_server);
    s->o = *o;
    if (s->o.max_message == 0)
        s->o.max_message = DEFAULT_MAX_MESSAGE;
    const struct listener_options lo = {.unix_path = o->unix_path,
                                        .unix_mode = o->unix_mode,
                                        .max_connections =
                                            o->max_connections ? o->max_connections : DEFAULT_MAX_CONNECTIONS,
                                        .accepted = on_accepted,
                                        .arg = s};
    s->listener = listener_new(l, &lo, err);
    if (!s->listener) {
        free(s);
        return NULL;
    }
    return s;
}

void grpc_server_free(struct grpc_server *s) {
    if (!s)
        return;
    struct connection *c, *next;
    listener_free(s->listener);
    DL_FOREACH_SAFE (s->connections, c, next)
        connection_end(c);
    free(s);
}
