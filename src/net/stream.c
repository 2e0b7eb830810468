#include "net/stream.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/stream_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    DEFAULT_MAX_PENDING = 64 * 1024,
    DEFAULT_HIGH_WATER = 256 * 1024,
    DEFAULT_CONNECT_MS = 10 * 1000,
    CHUNK_FIRST = 2 * 1024 - (int)sizeof(void *) * 6, /* most answers fit; with malloc's share a round size */
    CHUNK_NEXT = 16 * 1024,                           /* a TLS record */
    READ_ROUNDS = 16,                                 /* then others have their turn */
    LINGER_MS = 2000,
};

/* A piece of what is queued for writing. */
struct chunk {
    struct chunk *next;
    size_t start, end, cap;
    char data[];
};

static void on_readable(evutil_socket_t fd, short what, void *arg);
static void on_writable(evutil_socket_t fd, short what, void *arg);
static void on_later(evutil_socket_t fd, short what, void *arg);
static void on_deadline(evutil_socket_t fd, short what, void *arg);

struct stream *stream_new(struct loop *l, const struct stream_options *o) {
    struct stream *s = NEW(struct stream);
    s->loop = l;
    s->handlers = o->handlers;
    s->arg = o->arg;
    s->fd = -1;
    s->max_pending = o->max_pending ? o->max_pending : DEFAULT_MAX_PENDING;
    s->high_water = o->high_water ? o->high_water : DEFAULT_HIGH_WATER;
    event_assign(&s->later, loop_base(l), -1, 0, on_later, s);
    event_assign(&s->deadline, loop_base(l), -1, 0, on_deadline, s);
    stream_end_at(s, o->connect_timeout_ms > 0 ? o->connect_timeout_ms : DEFAULT_CONNECT_MS);
    return s;
}

static void assign_events(struct stream *s, int fd) {
    s->fd = fd;
    event_assign(&s->readable, loop_base(s->loop), fd, EV_READ | EV_PERSIST, on_readable, s);
    event_assign(&s->writable, loop_base(s->loop), fd, EV_WRITE, on_writable, s);
}

void stream_await_connect(struct stream *s, int fd) {
    assign_events(s, fd);
    event_add(&s->writable, NULL);
}

void stream_attach(struct stream *s, int fd) {
    assign_events(s, fd);
    if (s->user_timeout_ms || s->keepalive_s)
        stream_set_tcp_timeouts(s, s->user_timeout_ms, s->keepalive_s);
    s->last_read_ms = s->last_write_ms = clock_mono_ms();
    if (s->ssl || !s->paused)
        event_add(&s->readable, NULL);
    if (!s->ssl) {
        s->state = STREAM_OPEN;
        stream_end_at(s, 0);
        return;
    }
    SSL_set_fd(s->ssl, fd);
    s->state = STREAM_HANDSHAKE;
    if (s->is_client)
        stream_later(s); /* the first flight */
}

/* ---- ending ---- */

static void drop_queue(struct stream *s) {
    for (struct chunk *c = s->out, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    s->out = s->out_last = NULL;
    s->queued = 0;
}

/* Gives back what a dead stream needs no more; the TLS state stays, for stream_peer_cert. */
static void shut(struct stream *s) {
    s->state = STREAM_CLOSED;
    event_del(&s->later);
    event_del(&s->deadline);
    if (s->fd >= 0) {
        event_del(&s->readable);
        event_del(&s->writable);
        close(s->fd);
        s->fd = -1;
    }
    dial_free(TAKE(s->dial));
    drop_queue(s);
}

static void destroy(struct stream *s) {
    shut(s);
    loop_disown(s->loop, &s->owned);
    quota_release(TAKE(s->quota));
    SSL_free(s->ssl);
    tls_ctx_free(s->tls);
    free(s->pending);
    free(s->peer);
    free(s->peer_cert);
    free(s->peer_subject);
    free(s);
}

void stream_enter(struct stream *s) {
    s->depth++;
}

void stream_leave(struct stream *s) {
    if (--s->depth == 0 && s->freed)
        destroy(s);
}

void stream_free(struct stream *s) {
    if (!s)
        return;
    if (s->depth == 0) {
        destroy(s);
        return;
    }
    s->freed = true;
    shut(s);
}

void stream_end(struct stream *s, const struct error *why) {
    bool ours = s->state == STREAM_FINISHING || s->state == STREAM_LINGERING;
    shut(s);
    if (ours)
        s->freed = true;
    else if (!s->freed)
        s->handlers->closed(s->arg, why);
}

static void release_finishing(struct loop_owned *o) {
    stream_free(CONTAINER_OF(o, struct stream, owned));
}

void stream_finish(struct stream *s, int timeout_ms) {
    if (!s)
        return;
    if (s->state != STREAM_OPEN) {
        stream_free(s);
        return;
    }
    s->state = STREAM_FINISHING;
    event_del(&s->readable);
    s->read_ms = s->write_ms = 0;
    loop_own(s->loop, &s->owned, release_finishing);
    stream_end_at(s, timeout_ms > 0 ? timeout_ms : 1);
    stream_later(s);
}

/* All is written: says goodbye. Closing with unread bytes in the kernel would reset the connection, and the peer might
 * lose the end of our answer; so its bytes are thrown away for a little while. */
static void linger(struct stream *s) {
    tls_goodbye(s);
    shutdown(s->fd, SHUT_WR);
    s->state = STREAM_LINGERING;
    event_add(&s->readable, NULL);
    int64_t left = s->end_ms - clock_mono_ms();
    stream_end_at(s, left < LINGER_MS ? (left > 0 ? left : 1) : LINGER_MS);
}

static void discard(struct stream *s) {
    ssize_t n = recv(s->fd, loop_scratch(s->loop), LOOP_SCRATCH_SIZE, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        stream_end(s, NULL);
}

/* ---- deadlines: one timer, set again only when it fires too early ---- */

static int64_t earlier(int64_t a, int64_t b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static bool may_read(const struct stream *s) {
    return s->state == STREAM_OPEN && !s->paused && !s->held;
}

static int64_t read_deadline(const struct stream *s) {
    return s->read_ms > 0 && may_read(s) ? s->last_read_ms + s->read_ms : 0;
}

static int64_t write_deadline(const struct stream *s) {
    return s->write_ms > 0 && s->queued > 0 ? s->last_write_ms + s->write_ms : 0;
}

static void arm_deadline(struct stream *s) {
    int64_t at = earlier(s->end_ms, earlier(read_deadline(s), write_deadline(s)));
    if (at == 0 || (s->armed_ms != 0 && s->armed_ms <= at))
        return; /* it fires early at worst, and looks again */
    s->armed_ms = at;
    int64_t ms = at - clock_mono_ms();
    if (ms < 1)
        ms = 1;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    event_add(&s->deadline, &tv);
}

void stream_end_at(struct stream *s, int64_t in_ms) {
    s->end_ms = in_ms > 0 ? clock_mono_ms() + in_ms : 0;
    arm_deadline(s);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg) {
    struct stream *s = arg;
    int64_t now = clock_mono_ms();
    const char *happened = NULL;
    stream_enter(s);
    s->armed_ms = 0;
    if (s->state == STREAM_DIALING)
        dial_deadline(s);
    else if (s->end_ms && now >= s->end_ms)
        happened = "no TLS handshake in time";
    else if (read_deadline(s) && now >= read_deadline(s))
        happened = "nothing was received for too long";
    else if (write_deadline(s) && now >= write_deadline(s))
        happened = "the peer takes nothing from us for too long";
    if (happened) {
        struct error err = ERROR_INIT;
        error_set(&err, ERR_TIMEOUT, "%s", happened);
        stream_end(s, &err);
    } else if (!s->freed && s->state != STREAM_CLOSED) {
        arm_deadline(s);
    }
    stream_leave(s);
}

void stream_set_timeouts(struct stream *s, int read_ms, int write_ms) {
    if (s->state > STREAM_OPEN)
        return;
    s->read_ms = read_ms;
    s->write_ms = write_ms;
    s->last_read_ms = s->last_write_ms = clock_mono_ms();
    arm_deadline(s);
}

void stream_set_tcp_timeouts(struct stream *s, int user_timeout_ms, int keepalive_s) {
    s->user_timeout_ms = user_timeout_ms;
    s->keepalive_s = keepalive_s;
    if (s->fd < 0)
        return; /* stream_attach does it */
    /* Refused on unix sockets, which do not need them. */
    int on = keepalive_s > 0, probes = 3;
    setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
    setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (on) {
        setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_s, sizeof(keepalive_s));
        setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPINTVL, &keepalive_s, sizeof(keepalive_s));
        setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    }
}

/* ---- reading ---- */

static void keep_pending(struct stream *s, const char *rest, size_t n) {
    if (n == 0) {
        free(TAKE(s->pending));
    } else if (rest != s->pending) {
        char *kept = xmemdup(rest, n);
        free(s->pending);
        s->pending = kept;
    }
    s->pending_len = n;
}

/* Shows the handler all that it has not consumed yet, with n new bytes at the end. */
static void show(struct stream *s, const char *fresh, size_t n) {
    struct bytes in = bytes_of(fresh, n);
    if (s->pending_len > 0) {
        s->pending = xrealloc(s->pending, s->pending_len + n);
        if (n > 0)
            memcpy(s->pending + s->pending_len, fresh, n);
        s->pending_len += n;
        in = bytes_of(s->pending, s->pending_len);
    }
    s->show_again = s->resumed = false;
    size_t used = s->handlers->data(s->arg, in);
    if (s->freed || s->state != STREAM_OPEN)
        return;
    if (used > in.len)
        panic("a stream handler consumed more than it was shown");
    keep_pending(s, in.ptr + used, in.len - used);
    if (s->pending_len > 0 && s->resumed) { /* from inside the handler, or by a new handler */
        s->show_again = true;
        stream_later(s);
    } else if (s->pending_len >= s->max_pending && !s->held) {
        s->held = true;
        event_del(&s->readable);
    }
}

static void end_of_input(struct stream *s, ssize_t n, const struct error *err) {
    struct error none = ERROR_INIT;
    error_set(&none, ERR_NONE, "the peer closed the connection");
    if (s->show_again) { /* a new handler has not seen yet what came before the end */
        show(s, NULL, 0);
        if (!may_read(s))
            return; /* the end is met again */
    }
    stream_end(s, n == IO_EOF ? &none : err);
}

static ssize_t read_fd(struct stream *s, char *to, size_t size, struct error *err) {
    if (s->ssl)
        return tls_read(s, to, size, err);
    ssize_t n = recv(s->fd, to, size, 0);
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EINTR)
        return IO_AGAIN;
    error_set_errno(err, errno, "read");
    err->code = ERR_UNAVAILABLE;
    return IO_FAILED;
}

static void flush(struct stream *s);

static void read_some(struct stream *s) {
    for (unsigned round = 0; round < READ_ROUNDS && may_read(s); round++) {
        struct error err = ERROR_INIT;
        char *scratch = loop_scratch(s->loop);
        ssize_t n = read_fd(s, scratch, LOOP_SCRATCH_SIZE, &err);
        if (n == IO_AGAIN) {
            if (s->read_wants_write)
                event_add(&s->writable, NULL);
            return;
        }
        if (n <= 0) {
            end_of_input(s, n, &err);
            return;
        }
        s->last_read_ms = clock_mono_ms();
        show(s, scratch, (size_t)n);
        if (s->queued > 0)
            flush(s);
        if (!tls_has_more(s))
            return; /* the kernel will tell */
    }
    if (may_read(s)) { /* more lies in the TLS layer, of which the kernel cannot tell: the next round of the loop */
        static const struct timeval soon = {0, 0};
        event_add(&s->later, &soon);
    }
}

void stream_pause(struct stream *s) {
    if (s->paused)
        return;
    s->paused = true;
    if (s->state == STREAM_OPEN)
        event_del(&s->readable);
}

void stream_resume(struct stream *s) {
    bool stopped = s->paused || s->held;
    s->paused = s->held = false;
    s->resumed = true;
    s->show_again = s->pending_len > 0;
    if (s->state != STREAM_OPEN)
        return;
    if (stopped) {
        s->last_read_ms = clock_mono_ms();
        event_add(&s->readable, NULL);
        arm_deadline(s);
    }
    if (s->show_again || tls_has_more(s))
        stream_later(s);
}

void stream_set_handlers(struct stream *s, const struct stream_handlers *h, void *arg) {
    s->handlers = h;
    s->arg = arg;
    if (s->state == STREAM_OPEN)
        stream_resume(s);
    else if (s->state == STREAM_CLOSED)
        stream_later(s); /* it closed under its old owner: the new one is told */
}

/* ---- writing ---- */

static struct chunk *chunk_for(struct stream *s, size_t n) {
    struct chunk *last = s->out_last;
    if (last && last->cap > last->end)
        return last;
    size_t cap = s->out ? CHUNK_NEXT : CHUNK_FIRST;
    if (cap < n)
        cap = n;
    struct chunk *c = xmalloc(sizeof(*c) + cap);
    *c = (struct chunk){.cap = cap};
    if (last)
        last->next = c;
    else
        s->out = c;
    s->out_last = c;
    return c;
}

int stream_write(struct stream *s, const void *p, size_t n) {
    if (s->state > STREAM_OPEN)
        return 0; /* `closed` has told it, or will */
    bool was_idle = s->queued == 0;
    for (const char *from = p; n > 0;) {
        struct chunk *c = chunk_for(s, n);
        size_t part = c->cap - c->end < n ? c->cap - c->end : n;
        memcpy(c->data + c->end, from, part);
        c->end += part;
        s->queued += part;
        from += part;
        n -= part;
    }
    if (was_idle && s->queued > 0 && s->state == STREAM_OPEN) {
        stream_later(s);
        if (s->write_ms > 0) {
            s->last_write_ms = clock_mono_ms();
            arm_deadline(s);
        }
    }
    if (s->queued > s->high_water)
        s->full = true;
    return s->full;
}

size_t stream_queued(const struct stream *s) {
    return s->queued;
}

static ssize_t write_fd(struct stream *s, const char *from, size_t n, struct error *err) {
    if (s->ssl)
        return tls_write(s, from, n, err);
    ssize_t rc = send(s->fd, from, n, MSG_NOSIGNAL);
    if (rc >= 0)
        return rc;
    if (errno == EAGAIN || errno == EINTR)
        return IO_AGAIN;
    error_set_errno(err, errno, "write");
    err->code = ERR_UNAVAILABLE;
    return IO_FAILED;
}

static void wrote(struct stream *s, size_t n) {
    struct chunk *c = s->out;
    c->start += n;
    s->queued -= n;
    if (c->start < c->end)
        return;
    s->out = c->next;
    if (!s->out)
        s->out_last = NULL;
    free(c);
}

static void flush(struct stream *s) {
    bool some = s->queued > 0;
    while (s->queued > 0) {
        struct error err = ERROR_INIT;
        ssize_t n = write_fd(s, s->out->data + s->out->start, s->out->end - s->out->start, &err);
        if (n == IO_AGAIN) {
            if (!s->write_wants_read)
                event_add(&s->writable, NULL);
            break;
        }
        if (n < 0) {
            stream_end(s, &err);
            return;
        }
        s->last_write_ms = clock_mono_ms();
        wrote(s, (size_t)n);
    }
    if (s->state == STREAM_FINISHING) {
        if (s->queued == 0)
            linger(s);
        return;
    }
    if (s->queued > 0 && !(s->full && s->queued <= s->high_water / 4))
        return;
    s->full = false;
    if (some && s->handlers->drained)
        s->handlers->drained(s->arg);
}

/* ---- events ---- */

void stream_open(struct stream *s) {
    s->state = STREAM_OPEN;
    stream_end_at(s, 0);
    if (s->handlers->ready)
        s->handlers->ready(s->arg);
}

static void shake_hands(struct stream *s) {
    struct error err = ERROR_INIT;
    int rc = tls_handshake(s, &err);
    if (rc == IO_FAILED) {
        stream_end(s, &err);
    } else if (rc == IO_AGAIN) {
        if (s->read_wants_write)
            event_add(&s->writable, NULL);
    } else {
        if (s->paused)
            event_del(&s->readable);
        stream_open(s);
        if (!s->freed && s->state == STREAM_OPEN)
            stream_later(s); /* what was queued meanwhile, and what came with the end of the handshake */
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg) {
    struct stream *s = arg;
    stream_enter(s);
    if (s->state == STREAM_HANDSHAKE)
        shake_hands(s);
    else if (s->state == STREAM_LINGERING)
        discard(s);
    else
        read_some(s);
    if (s->write_wants_read && (s->state == STREAM_OPEN || s->state == STREAM_FINISHING)) {
        s->write_wants_read = false;
        flush(s);
    }
    stream_leave(s);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) {
    struct stream *s = arg;
    stream_enter(s);
    if (s->state == STREAM_DIALING) {
        dial_writable(s);
    } else if (s->state == STREAM_HANDSHAKE) {
        shake_hands(s);
    } else {
        if (s->read_wants_write) {
            s->read_wants_write = false;
            read_some(s);
        }
        if (s->state == STREAM_OPEN || s->state == STREAM_FINISHING)
            flush(s);
    }
    stream_leave(s);
}

static void on_later(evutil_socket_t fd, short what, void *arg) {
    struct stream *s = arg;
    stream_enter(s);
    if (s->state == STREAM_DIALING) {
        dial_step(s);
    } else if (s->state == STREAM_HANDSHAKE) {
        shake_hands(s);
    } else if (s->state == STREAM_CLOSED) {
        struct error err = ERROR_INIT;
        error_set(&err, ERR_UNAVAILABLE, "the connection was closed before it was taken over");
        stream_end(s, &err);
    } else {
        if (s->show_again && may_read(s))
            show(s, NULL, 0);
        if ((s->state == STREAM_OPEN && s->queued > 0) || s->state == STREAM_FINISHING)
            flush(s);
        if (may_read(s) && tls_has_more(s))
            read_some(s);
    }
    stream_leave(s);
}

void stream_later(struct stream *s) {
    event_active(&s->later, EV_TIMEOUT, 0);
}

struct loop *stream_loop(const struct stream *s) {
    return s->loop;
}

bool stream_dialing(const struct stream *s) {
    return s->state == STREAM_DIALING;
}

const char *stream_peer_addr(const struct stream *s) {
    return s->peer ? s->peer : "unix";
}
