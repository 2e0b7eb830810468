/* The inside of CloudStream. Everything belongs to its thread. */
#pragma once

#include "cloud/cloudstream/cloudstream.h"
#include "net/http_server.h"
#include "net/websocket.h"
#include "wire/tunnel.h"

#include <uthash.h>

struct relay;

/* One node's tunnel. */
struct tunnel {
    struct cloudstream *owner;
    struct ws *ws;
    char *node, *address;
    struct relay *relays; /* by id */
    bool windows;         /* the node knows flow control */
    unsigned holders;     /* relays that keep us from reading (only without flow control) */
    struct kube_call *advertising;
    struct timer *advertise; /* the port, in the Node's status: again, after a failure */
    struct backoff backoff;
    UT_hash_handle hh; /* by node, if it is the node's current one */
    struct tunnel *prev, *next;
};

/* One request of an API server. Its bytes go both ways as they are, from the request's head on. */
struct relay {
    uint64_t id;
    struct tunnel *tunnel;
    struct stream *client;
    int64_t window;     /* bytes that the node has room for */
    uint64_t owed;      /* bytes written to the client that the node was not told of */
    bool full;          /* the client is slow */
    bool paused;        /* we do not read from the client */
    struct timer *hold; /* of a tunnel without flow control: how long all others wait for this client */
    UT_hash_handle hh;
};

struct cloudstream {
    struct cloudstream_options o;
    struct loop *loop;
    struct kube_client *kube;
    struct http_server *tunnel_server, *stream_server;
    struct tunnel *by_node; /* uthash */
    struct tunnel *tunnels; /* all */
    struct lookup *lookups; /* pods being looked up */
    uint64_t last_id;
};

/* tunnel.c */
void tunnel_accept(void *arg, struct http_request *r);
void tunnel_end(struct tunnel *t, unsigned close_code, const char *why); /* frees it */
struct tunnel *tunnel_find(struct cloudstream *c, struct bytes node);    /* by name, else by address */
void tunnel_send(struct tunnel *t, const struct buf *frame);

/* relay.c */
/* Takes the request's connection over. */
void relay_begin(struct tunnel *t, struct http_request *r);
void relay_frame(struct tunnel *t, const struct tunnel_frame *f);
void relay_room(struct tunnel *t); /* the tunnel takes bytes again */
void relay_break(struct relay *r); /* the tunnel is gone: cuts the client off, so that it notices */

/* request.c */
void request_accept(void *arg, struct http_request *r);
void request_drop_all(struct cloudstream *c);
