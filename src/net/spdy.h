/* SPDY/3.1 as container runtimes speak it (streams.md 2.7), client side, sans-IO: opens streams, frames what is said in
 * them, reads what comes. The peer's header blocks say nothing that is needed, and are passed over. */
#pragma once

#include "base/bytes.h"

#define SPDY_FRAME_MAX (32u << 10) /* data that we put into one frame */

struct spdy;
struct spdy *spdy_new(void);
void spdy_free(struct spdy *s);

/* Frames, appended to out; -1 over its maximum. IDs are odd and grow. The first has one header. */
int spdy_open(struct spdy *s, uint32_t id, const char *name, const char *value, struct buf *out);
int spdy_data(uint32_t id, bool fin, struct bytes data, struct buf *out); /* data: SPDY_FRAME_MAX at most */
int spdy_ping(uint32_t id, struct buf *out);

enum spdy_event_kind {
    SPDY_MORE,   /* all was consumed */
    SPDY_REPLY,  /* the stream stands */
    SPDY_DATA,   /* a piece of it; fin: nothing more comes in that stream */
    SPDY_RESET,  /* the stream is over */
    SPDY_PINGED, /* answer with the same ID, unless it is odd: then it is the answer to ours */
    SPDY_GOAWAY, /* no new streams */
    SPDY_BAD,    /* not SPDY/3, or a control frame of an absurd size */
};
struct spdy_event {
    enum spdy_event_kind kind;
    uint32_t id;
    bool fin;
    struct bytes data; /* borrowed from the input */
};
/* Consumes from the front of *in. */
struct spdy_event spdy_read(struct spdy *s, struct bytes *in);
