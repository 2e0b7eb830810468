/* CloudHub: the cloud's end of the connections to the nodes (wire-protocol.md 4, 5).
 *
 * One control thread (the loop given here) knows which node is connected where and holds the queues of nodes that are
 * not; hub threads own sockets, TLS, WebSocket framing, and the queues of the nodes connected to them. They talk by
 * loop_post only. All functions here are for the control thread. */
#pragma once

#include "cloud/cloudhub/pki.h"
#include "cloud/config.h"
#include "wire/message.h"

struct cloudhub;

/* A message from a node that wants something. The handler owns it and ends it with hub_request_done, after any number
 * of answers. The session reads no further while too many are open: that is the back-pressure on a node. */
struct hub_request {
    struct cloudhub *hub;
    unsigned thread;
    uint64_t session;
    char *node; /* whose session it came by: proven by its certificate */
    struct message *message;
    bool part; /* of a request that is answered in parts, and counted once */
};
/* Sends m (wire form; consumed) to the session that asked, if it still exists. */
void hub_request_answer(const struct hub_request *r, struct message *m);
void hub_request_done(struct hub_request *r); /* frees it */

struct cloudhub_options {
    struct loop *loop;
    const struct cloud_config *config;
    const struct hub_pki *pki;      /* outlives the hub */
    struct bytes kubernetes_ca_pem; /* what a query for k8s/ca.crt gets */
    void (*connected)(void *arg, const char *node);
    void (*disconnected)(void *arg, const char *node);
    void (*request)(void *arg, struct hub_request *r);
    void *arg;
};

/* Listens and starts the threads. ERR_EXISTS: the port is in use. */
int cloudhub_start(struct cloudhub **out, const struct cloudhub_options *o, struct error *err) MUST_CHECK;
/* Ends all sessions (1001, going away), joins the threads, frees. */
void cloudhub_stop(struct cloudhub *h);

/* Queues m (wire form; consumed) for the node: now, if it is connected; else when it comes back. For a node that never
 * connected here nothing is kept: it is told everything when it connects. */
void cloudhub_send(struct cloudhub *h, const char *node, struct message *m);
bool cloudhub_connected(const struct cloudhub *h, const char *node);
/* The node was deleted: its session ends, what waited for it is dropped. */
void cloudhub_forget(struct cloudhub *h, const char *node);
