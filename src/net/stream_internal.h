/* The inside of a stream, shared by stream.c (reading, writing, ending), stream_tls.c, stream_connect.c and
 * listener.c. */
#pragma once

#include "net/loop_internal.h"
#include "net/stream.h"

#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <sys/types.h>

enum stream_state {
    STREAM_DIALING,   /* resolving, connecting */
    STREAM_HANDSHAKE, /* TLS */
    STREAM_OPEN,
    STREAM_FINISHING, /* owner is gone; what is queued is being written */
    STREAM_LINGERING, /* our side is shut; what the peer still sends is thrown away until it closes too */
    STREAM_CLOSED,
};

struct chunk;
struct dial;
struct quota;

struct stream {
    struct loop *loop;
    const struct stream_handlers *handlers;
    void *arg;
    int fd;
    uint8_t state;
    uint8_t depth;       /* event callbacks of this stream on the stack: freeing waits for them */
    bool freed : 1;      /* by the owner, while depth > 0 */
    bool paused : 1;     /* by the owner */
    bool held : 1;       /* max_pending reached */
    bool full : 1;       /* high_water passed */
    bool show_again : 1; /* pending bytes are to be shown from the loop */
    bool resumed : 1;    /* stream_resume was called since the handler was last entered */
    bool read_wants_write : 1, write_wants_read : 1; /* TLS */
    bool is_client : 1;
    SSL *ssl;
    struct tls_ctx *tls;
    char *peer_cert; /* DER; servers only */
    size_t peer_cert_len;
    char *peer_subject;  /* its common name, organization and other ones, each with its end; NULL: not asked for yet */
    struct quota *quota; /* of the listener it came from */
    struct dial *dial;   /* while STREAM_DIALING */
    char *peer;          /* "10.0.0.7:41234" */
    char *pending;       /* read, not consumed by the handler yet */
    size_t pending_len;
    struct chunk *out, *out_last;
    size_t queued;
    size_t max_pending, high_water;
    int read_ms, write_ms;
    int user_timeout_ms, keepalive_s;
    int64_t last_read_ms, last_write_ms, end_ms; /* end_ms: for what happens once: connecting, finishing. 0: none */
    int64_t armed_ms;                            /* when the deadline timer fires; 0: not set */
    struct event readable, writable, later, deadline;
    struct loop_owned owned; /* while finishing */
};

struct stream *stream_new(struct loop *l, const struct stream_options *o);
/* Takes the connected descriptor; starts TLS if ssl is set. */
void stream_attach(struct stream *s, int fd);
void stream_await_connect(struct stream *s, int fd); /* dial_writable is called when it is decided */
void stream_open(struct stream *s);
/* Ends the stream and tells the owner. Only from the stream's own event callbacks. */
void stream_end(struct stream *s, const struct error *why);
void stream_enter(struct stream *s);
void stream_leave(struct stream *s);                 /* s may be gone afterwards */
void stream_later(struct stream *s);                 /* work from the loop, in this round */
void stream_end_at(struct stream *s, int64_t in_ms); /* deadline for connecting or finishing; 0: none */

/* stream_connect.c */
struct sockaddr;
char *peer_text(const struct sockaddr *sa); /* "10.0.0.7:41234" or "[::1]:80"; NULL for others. Owned */
void dial_step(struct stream *s);           /* from the loop */
void dial_writable(struct stream *s);
void dial_deadline(struct stream *s);
void dial_free(struct dial *d);

/* listener.c */
void quota_release(struct quota *q);

/* stream_tls.c: results of reading and writing besides a number of bytes */
enum { IO_AGAIN = -1, IO_FAILED = -2, IO_EOF = 0 };
/* server_name NULL: server side. */
int tls_begin(struct stream *s, struct tls_ctx *tls, const char *server_name, struct error *err) MUST_CHECK;
int tls_handshake(struct stream *s, struct error *err); /* 1 done, IO_AGAIN, IO_FAILED */
ssize_t tls_read(struct stream *s, char *to, size_t size, struct error *err);
ssize_t tls_write(struct stream *s, const char *from, size_t n, struct error *err);
bool tls_has_more(const struct stream *s);
void tls_goodbye(struct stream *s);
