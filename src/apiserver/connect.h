/* Subresources that lead to a node: pods/log, exec, attach, portforward, nodes/proxy (embedded-api.md 8).
 *
 * This server is here what kube-apiserver is: a client of the kubelet's HTTP API, with a client certificate. It finds
 * the kubelets of all nodes at one address, cloudcore's stream server. What a client has upgraded its connection to is
 * not looked into, with one exception: WebSocket channels are translated to SPDY for the container runtime. */
#pragma once

#include "apiserver/call.h"
#include "apiserver/pki.h"
#include "net/http_dial.h"
#include "net/websocket.h"

#define NODE_DOOR_CERT "cloudstream" /* <data>/pki/cloudstream.crt: shown by the stream server */

/* The way to the nodes. */
struct node_door {
    struct tls_ctx *tls;
    uint16_t port;
    struct connect *connects; /* all that are open */
};
int node_door_new(struct node_door **out, struct loop *l, const struct pki *pki, const char *data_dir, uint16_t port,
                  struct error *err) MUST_CHECK;
void node_door_free(struct node_door *d); /* ends what is open; NULL is fine */

bool connect_wanted(const struct call *c);
void connect_serve(struct call *c); /* answers, now or later */

/* ---- for connect*.c ---- */

enum connect_form {
    CONNECT_PLAIN,    /* an answer that streams */
    CONNECT_UPGRADE,  /* passed on as it is */
    CONNECT_TUNNEL,   /* SPDY cut into WebSocket messages */
    CONNECT_CHANNELS, /* WebSocket channels, to be SPDY streams */
};

struct connect {
    struct node_door *door;
    enum connect_form form;
    struct http_request *http; /* NULL once its connection is ours */
    struct http_dial *dial;
    char *node_name;
    struct stream *node, *client;
    struct ws *ws; /* instead of client */
    struct channels *channels;
    struct buf refusal;
    size_t refusal_len; /* expected */
    struct timer *deadline;
    struct connect *prev, *next;
};

void connect_free(struct connect *c); /* cuts both sides off */
/* connect_pipe.c: the node has agreed; takes both connections and pumps until one of them ends. */
void connect_pipe(struct connect *c);
/* connect_channels.c: the same between WebSocket channels and SPDY streams. */
extern const char *const CONNECT_CHANNEL_PROTOCOLS[]; /* NULL-terminated */
void connect_channels(struct connect *c);
void channels_free(struct channels *ch); /* NULL is fine */
