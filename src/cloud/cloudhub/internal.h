/* Private to cloudhub/: what the control thread and the hub threads tell each other. */
#pragma once

#define LOG_COMPONENT "cloudhub"

#include "base/log.h"
#include "cloud/cloudhub/cloudhub.h"
#include "cloud/cloudhub/queue.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/metrics.h"
#include "net/websocket.h"

#include <pthread.h>

struct hub_thread;

/* ---- control thread to hub thread ---- */
enum hub_command_kind {
    HUB_ATTACH, /* session may begin: here is its queue */
    HUB_DETACH, /* end the session, give its queue back */
    HUB_REFUSE, /* end a session that was never attached */
    HUB_SEND,   /* item for the node of the session */
    HUB_ANSWER, /* item for the session alone */
    HUB_DONE,   /* one of its requests is finished */
    HUB_STOP,   /* end everything and leave */
};
struct hub_command {
    enum hub_command_kind kind;
    struct hub_thread *thread;
    uint64_t session;
    struct node_queue *queue; /* ATTACH: moves */
    struct hub_item *item;    /* SEND, ANSWER: moves */
    char *node;               /* ATTACH, SEND: to give queue or item back */
    unsigned close_code;      /* DETACH, REFUSE */
    const char *reason;       /* literal */
};
void hub_thread_post(struct hub_thread *t, struct hub_command c);

/* ---- hub thread to control thread ---- */
enum hub_event_kind {
    HUB_CONNECTED, /* a node with a proper certificate is there and waits for ATTACH or REFUSE */
    HUB_DETACHED,  /* its session is over; the queue comes back (NULL if it has none yet) */
    HUB_RETURNED,  /* the session had ended before the item came */
    HUB_REQUEST,
};
struct hub_event {
    struct cloudhub *hub;
    enum hub_event_kind kind;
    unsigned thread;
    uint64_t session;
    char *node;
    struct node_queue *queue;
    struct hub_item *item;
    struct message *message;
};
void cloudhub_post(struct cloudhub *h, struct hub_event e);

/* ---- hub threads ---- */
struct hub_thread_options {
    struct cloudhub *hub;
    unsigned index;
    const char *address;
    uint16_t port;
    bool reuse_port;
    struct tls_ctx *tls;
    int64_t keepalive_ms;
    const char *kubernetes_ca; /* text; outlives the thread */
};
int hub_thread_start(struct hub_thread **out, const struct hub_thread_options *o, struct error *err) MUST_CHECK;
void hub_thread_join(struct hub_thread *t); /* after HUB_STOP was posted; frees */

/* Counters that both sides change. */
struct hub_metrics {
    struct metric *connected, *accepted, *refused, *received, *sent, *resent, *acknowledged, *malformed, *edge_errors;
};
const struct hub_metrics *hub_metrics(void);
