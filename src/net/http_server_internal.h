/* The inside of the HTTP server, shared by http_server.c (connections, routing) and http_answer.c. */
#pragma once

#include "net/http_parse.h"
#include "net/http_server.h"

enum http_phase {
    HTTP_RECEIVING,
    HTTP_HANDLING,  /* a handler has it */
    HTTP_STREAMING, /* http_start was called */
    HTTP_ENDED,     /* the peer is gone, or the server stops: the answer goes nowhere */
};

struct http_request {
    struct http_conn *conn;
    struct http_message message;
    const struct http_route *route; /* once the head is there */
    uint8_t phase;
    bool no_body; /* HEAD, 204, 304: what is written is swallowed */
    bool chunked; /* the answer */
    bool blocked; /* http_write said "full" */
    bool close_after;
    int64_t remaining; /* of an answer with a length; -1: unknown */
    struct buf extra;  /* added header lines */
    void (*on_close)(void *arg);
    void *on_close_arg;
    void (*on_drained)(void *arg);
    void *on_drained_arg;
};

struct http_conn {
    struct http_server *server;
    struct http_conn *prev, *next;
    struct stream *stream; /* NULL: handed over */
    struct http_request *request;
    struct timer *timer;
    struct http_parser parser;
    uint8_t depth; /* callbacks on the stack: freeing waits for them */
    bool freed;
    bool peer_gone; /* kept only until the handler has answered */
};

struct http_server {
    struct loop *loop;
    struct http_server_options options;
    struct listener *listener; /* NULL: stopped */
    struct timer *stop_timer;
    struct http_conn *conns;
};

/* The answer is complete: the request is gone, the connection goes on or is closed. */
void http_request_done(struct http_request *r);
void http_conn_free(struct http_conn *c);
