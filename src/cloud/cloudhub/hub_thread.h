/* Private to cloudhub/: the state of one hub thread, shared by hub_thread.c (mailbox, sockets, timers) and session.c.
 */
#pragma once

#include "cloud/cloudhub/internal.h"

#include <uthash.h>

/* One connection of one node. Found by number, never by node name: the end of a replaced connection must not be taken
 * for the end of the new one. */
struct session {
    struct hub_thread *thread;
    uint64_t id;
    char *node;
    struct ws *ws;
    struct node_queue *queue; /* NULL until attached */
    int64_t last_heard;       /* of anything, monotonic ms */
    unsigned open_requests;
    bool paused;
    bool garbled;                /* it sent a message that could not be read, and that was told */
    struct session *prev, *next; /* in the thread's list, longest silent first */
    UT_hash_handle hh;
};

struct hub_thread {
    struct hub_thread_options o;
    struct loop *loop;
    struct http_server *server;
    pthread_t id;
    struct timer *silence;    /* looks for sessions without a sign of life */
    struct timer *resend;     /* set while something is on its way */
    struct timer *leave;      /* ends the loop */
    struct session *sessions; /* list */
    struct session *by_id;    /* hash */
    uint64_t last_session;
};

void session_accept(void *arg, struct http_request *r); /* route handler of the WebSocket port */
struct session *session_find(struct hub_thread *t, uint64_t id);
void session_attach(struct session *s, struct node_queue *q);
void session_put(struct session *s, struct hub_item *item);
void session_pump(struct session *s, int64_t now_ms); /* writes what may be written */
void session_request_done(struct session *s);
void session_heard(struct session *s); /* it lives: to the end of the list */
/* Closes the connection with a code and a reason, gives the queue back to the control thread, frees. */
void session_end(struct session *s, unsigned code, const char *reason);
