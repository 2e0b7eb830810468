/* WebSocket frames to messages and back, sans-IO, on wslay's frame layer. Private to net/.
 *
 * wslay's event layer is not used: it refuses text that is not UTF-8, which the original's tunnel sends, and it keeps
 * 8 KiB per connection. Here wslay's state exists only while a frame is incomplete, so an idle connection has none. */
#pragma once

#include "base/bytes.h"

#include <wslay/wslay.h>

enum ws_event {
    WS_EV_MORE,    /* all was consumed */
    WS_EV_MESSAGE, /* payload, binary */
    WS_EV_PING,
    WS_EV_PONG,
    WS_EV_CLOSE, /* close_code: what the peer sent, 1005 if none; payload: its reason */
    WS_EV_BAD,   /* close_code: what to tell the peer; reason: why */
};

struct ws_reader {
    struct ws_frame_state *frame; /* NULL between frames */
    struct buf message;           /* the fragments so far; max is the limit */
    bool is_server;               /* frames must be masked; else they must not */
    bool in_message, binary;
    bool message_shown; /* the buffer holds a message that the caller has seen */
    /* results, valid until the next call */
    struct bytes payload;
    bool payload_binary;
    unsigned close_code;
    const char *reason;
};

void ws_reader_init(struct ws_reader *r, bool is_server, size_t max_message);
void ws_reader_free(struct ws_reader *r);
/* Takes bytes off the front of *in up to the next event. */
enum ws_event ws_read(struct ws_reader *r, struct bytes *in);

/* Hands the frame's bytes to put, in pieces. opcode as wslay's; mask for clients. */
void ws_write_frame(bool fin, uint8_t opcode, bool mask, struct bytes payload,
                    void (*put)(void *arg, const void *p, size_t n), void *arg);
