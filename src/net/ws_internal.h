/* The inside of a WebSocket connection, shared by websocket.c and ws_handshake.c. */
#pragma once

#include "net/http_parse.h"
#include "net/websocket.h"
#include "net/ws_frames.h"

struct ws_opening; /* a client's handshake under way */

struct ws {
    struct stream *stream;
    const struct ws_handlers *handlers;
    void *arg;
    struct ws_reader reader;
    struct ws_opening *opening;
    struct timer *ping;
    char *protocol;
    size_t fragment, max_queued;
    int read_ms;
    uint8_t depth; /* callbacks on the stack: freeing waits for them */
    bool freed;
    bool paused;
    bool over;    /* `closed` was told */
    bool goodbye; /* a close frame was sent: let it reach the peer */
};

struct ws *ws_new(bool is_server, const struct ws_options *o);
/* The handshake is done: frames from here on. */
void ws_begin(struct ws *w, int ping_every_ms);
/* Ends the connection and tells the owner. Inside ws_enter/ws_leave only. */
void ws_over(struct ws *w, unsigned close_code, const struct error *why);

/* Consumes bytes of the server's answer. True: it is complete and good. */
bool ws_opening_data(struct ws *w, struct bytes *in);
void ws_opening_free(struct ws_opening *o);
int ws_opening_ping_ms(const struct ws_opening *o);
void ws_opening_send(struct ws *w);
extern const struct stream_handlers ws_stream_handlers;
