/* One WebSocket to the cloud, kept open: connects, notices when it is dead, connects again. Loop thread.
 *
 * Attempts follow each other with jittered backoff from 1 s. How far the pauses grow depends on what was met: where
 * nobody answers (3 s at most) an attempt costs the cloud nothing, and the return of the link is to be noticed at once;
 * where somebody answered and refused, up to 30 s. An attempt whose TCP connection is not answered is cut short, so
 * that a link that returns does not wait for the kernel's next, ever rarer, retransmission. */
#pragma once

#include "net/loop.h"
#include "net/websocket.h"

struct link;

struct link_handlers {
    void (*up)(void *arg);
    void (*message)(void *arg, struct bytes text); /* need not be UTF-8 */
    void (*confirmed)(void *arg); /* the peer has read all that was sent before link_ask_confirmation */
    void (*room)(void *arg);      /* link_room may be true again */
    void (*down)(void *arg);      /* was up, is no longer */
    /* An attempt failed, or a link that was up broke: told before the next pause. */
    void (*failed)(void *arg, const struct error *why);
};

struct link_options {
    const char *url;
    const char *const *headers;
    const struct link_handlers *handlers;
    void *arg;
    int handshake_timeout_ms;
    int silence_ms; /* nothing received for so long: dead */
    int write_timeout_ms;
    size_t max_message;
    size_t max_queued; /* link_send refuses above it; 0: 1 MiB and the largest message */
    size_t room;       /* link_room until so much waits; 0: 1 MiB */
    int ping_every_ms; /* 0: never */
};

struct link *link_new(struct loop *l, const struct link_options *o);
/* Takes the context over: used from the next attempt on. The first call starts connecting. */
void link_set_tls(struct link *k, struct tls_ctx *tls);
/* The network has changed: try at once, or check at once that the link still works. */
void link_nudge(struct link *k);
bool link_is_up(const struct link *k);
bool link_room(const struct link *k);            /* up, and not too much waits to be sent */
const char *link_protocol(const struct link *k); /* of the WebSocket, chosen by the peer; NULL: none */
int link_send(struct link *k, struct bytes text, struct error *err) MUST_CHECK;
/* Asks the peer to say that it has read everything so far; it also proves that the link is alive. One question at a
 * time: false if one is open. */
bool link_ask_confirmation(struct link *k);
void link_pause(struct link *k, bool paused); /* stop reading */
/* What came makes no sense: closes, as if it had broken, and tries again. May be called inside the handlers. */
void link_restart(struct link *k);
/* Closes with a goodbye; no more attempts. */
void link_stop(struct link *k);
void link_free(struct link *k);
