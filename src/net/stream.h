/* Byte streams: TCP or unix socket, plain or TLS, on libevent's events; and listeners.
 *
 * A stream belongs to one loop. It is freed by its owner only, with stream_free, at any moment, also inside its
 * callbacks. After `closed` was called nothing more is called; the owner still frees. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"
#include "net/tls.h"

struct stream;

struct stream_handlers {
    /* Connected, and the TLS handshake is done. Called once; not for accepted plain streams, which start connected. */
    void (*ready)(void *arg);
    /* Bytes arrived. Returns how many were consumed; the rest is shown again, in front of the next. With the rest at
     * stream_options.max_pending or more, reading pauses until stream_resume. */
    size_t (*data)(void *arg, struct bytes in);
    /* What was queued for writing has fallen below the low-water mark (a quarter) after having been above the high one,
     * or is empty. NULL is fine. */
    void (*drained)(void *arg);
    /* The peer closed (why->code == ERR_NONE), or the stream failed. */
    void (*closed)(void *arg, const struct error *why);
};

struct stream_options {
    const struct stream_handlers *handlers;
    void *arg;
    size_t max_pending;     /* unread bytes held for the handler; 0: 64 KiB */
    size_t high_water;      /* stream_write says "full" above this; 0: 256 KiB */
    int connect_timeout_ms; /* TCP and TLS handshake together; 0: 10 s */
};

/* Starts a connection. host is a name or an address; names are resolved off the loop thread. tls NULL: plain.
 * server_name is what the certificate must name (NULL: host). */
struct stream *stream_connect(struct loop *l, const char *host, uint16_t port, struct tls_ctx *tls,
                              const char *server_name, const struct stream_options *o, struct error *err) MUST_CHECK;
struct stream *stream_connect_unix(struct loop *l, const char *path, const struct stream_options *o,
                                   struct error *err) MUST_CHECK;
void stream_free(struct stream *s); /* closes at once; NULL is fine */
/* Writes what is queued (for at most timeout_ms), says goodbye in TLS, then closes and frees itself. The owner lets go
 * now. */
void stream_finish(struct stream *s, int timeout_ms);

/* Queues bytes (copied). Returns 0, or 1 when more than high_water is queued now: stop until `drained`. Never fails: a
 * dead stream tells so by `closed`. */
int stream_write(struct stream *s, const void *p, size_t n);
size_t stream_queued(const struct stream *s);
void stream_pause(struct stream *s);  /* stop reading: back-pressure */
void stream_resume(struct stream *s); /* read again; pending bytes are shown again from the loop */
/* Hands the stream to new handlers (protocol upgrade). Pending bytes are shown to them. */
void stream_set_handlers(struct stream *s, const struct stream_handlers *h, void *arg);

/* Deadlines: closed with ERR_TIMEOUT when nothing was received (or nothing could be written although something is
 * queued) for so long. 0: none. */
void stream_set_timeouts(struct stream *s, int read_ms, int write_ms);
/* TCP_USER_TIMEOUT and keepalive, so that a dead peer is noticed below us as well. */
void stream_set_tcp_timeouts(struct stream *s, int user_timeout_ms, int keepalive_s);

struct loop *stream_loop(const struct stream *s);
/* Is the peer's address still to be found or to answer (before TLS)? */
bool stream_dialing(const struct stream *s);
/* "10.0.0.7:41234" or "unix": for logs. */
const char *stream_peer_addr(const struct stream *s);
/* The peer's certificate, PEM, into out: ERR_NOT_FOUND if it sent none. *verified: it chained to our CA. */
int stream_peer_cert(const struct stream *s, struct buf *out, bool *verified, struct error *err) MUST_CHECK;
bool stream_peer_verified(const struct stream *s); /* it sent a certificate, and that chained to our CA */
int stream_peer_subject(struct stream *s, struct x509_subject *out, bool *verified, struct error *err) MUST_CHECK;

/* ---- listeners ---- */

struct listener;
struct listener_options {
    const char *address;      /* "0.0.0.0", "::", "127.0.0.1" */
    uint16_t port;            /* 0: any free one, see listener_port */
    const char *unix_path;    /* instead of address and port */
    unsigned unix_mode;       /* permissions, e.g. 0600 */
    bool reuse_port;          /* SO_REUSEPORT: one listener per thread */
    struct tls_ctx *tls;      /* NULL: plain. A reference is taken */
    size_t max_connections;   /* accepted and not yet freed; 0: no limit. Over it, accepting pauses */
    int handshake_timeout_ms; /* 0: 10 s */
    /* A connection has come (TLS handshake done). The callee owns it and must set handlers with stream_set_handlers at
     * once. */
    void (*accepted)(void *arg, struct stream *s);
    void *arg;
};
/* ERR_EXISTS with a plain sentence when the port is in use. */
struct listener *listener_new(struct loop *l, const struct listener_options *o, struct error *err) MUST_CHECK;
uint16_t listener_port(const struct listener *ls);
void listener_set_tls(struct listener *ls, struct tls_ctx *tls); /* for new connections */
void listener_free(struct listener *ls);                         /* accepted streams live on */
