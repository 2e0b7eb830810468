/* WebSocket (RFC 6455) on wslay, over a stream: server and client.
 *
 * Messages are whole: fragments are joined up to max_message; a longer one closes with 1009. Pings are answered. The
 * sans-IO part (frames in, events and frames out) is wslay's. Owner frees, at any moment, also inside callbacks. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/http_server.h"
#include "net/stream.h"

struct ws;

enum {
    WS_CLOSE_NORMAL = 1000,
    WS_CLOSE_GOING_AWAY = 1001,
    WS_CLOSE_PROTOCOL = 1002,
    WS_CLOSE_POLICY = 1008,
    WS_CLOSE_TOO_BIG = 1009,
    WS_CLOSE_INTERNAL = 1011,
    WS_CLOSE_TRY_LATER = 1013
};

struct ws_handlers {
    void (*open)(void *arg); /* clients: the handshake is done */
    void (*message)(void *arg, struct bytes payload, bool binary);
    void (*pong)(void *arg);    /* may be NULL */
    void (*drained)(void *arg); /* may be NULL: below the low-water mark again */
    /* The connection is over. why->code ERR_NONE: orderly close; close_code is what the peer sent, 1006 if none;
     * for clients an HTTP status other than 101 is told in why (ERR_DENIED for 401/403). */
    void (*closed)(void *arg, unsigned close_code, const struct error *why);
};

struct ws_options {
    const struct ws_handlers *handlers;
    void *arg;
    size_t max_message;  /* required */
    size_t fragment;     /* split what we send into frames of at most this many bytes; 0: never */
    size_t max_queued;   /* bytes waiting to be sent; ws_send refuses above it. 0: 4 MiB */
    int read_timeout_ms; /* nothing received at all for so long: closed with ERR_TIMEOUT. 0: none */
    int ping_every_ms;   /* 0: never */
};

/* Answers the handshake of r (400/403 with the reasons of wire-protocol.md 1.3 on failure: then NULL and r is
 * answered). extra headers may have been added to r. protocols: NULL-terminated list to choose from by the client's
 * order, or NULL. */
struct ws *ws_accept(struct http_request *r, const char *const *protocols, const struct ws_options *o);
/* url: wss://host:port/path or ws://. headers: "Name: value", NULL-terminated. */
struct ws *ws_connect(struct loop *l, const char *url, struct tls_ctx *tls, const char *const *headers,
                      int connect_timeout_ms, const struct ws_options *o, struct error *err) MUST_CHECK;
/* Queues one text message. 0; -1 when max_queued would be passed or the connection is over (ERR_UNAVAILABLE). */
int ws_send(struct ws *w, struct bytes payload, bool binary, struct error *err) MUST_CHECK;
size_t ws_queued(const struct ws *w);
void ws_ping(struct ws *w, struct bytes payload);
void ws_pause(struct ws *w); /* stop reading messages: back-pressure on the peer */
void ws_resume(struct ws *w);
/* Sends a close frame with code and reason (<= 123 bytes), closes the stream soon after, and frees. The owner lets go
 * now. */
void ws_close(struct ws *w, unsigned code, const char *reason);
void ws_free(struct ws *w); /* at once, without a close frame; NULL is fine */
struct stream *ws_stream(const struct ws *w);
const char *ws_protocol(const struct ws *w); /* chosen sub-protocol or NULL */
