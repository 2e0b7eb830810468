#define LOG_COMPONENT "net"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/resolve.h"
#include "net/stream_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,
    ACCEPTS_PER_EVENT = 64, /* then others have their turn */
    RETRY_MS = 100,         /* after running out of descriptors */
    KEEPALIVE_S = 15,
    DEFAULT_HANDSHAKE_MS = 10 * 1000,
};

/* Counts the connections of a listener; outlives it. */
struct quota {
    size_t used, max;
    struct listener *listener; /* NULL: freed */
};

struct handshake {
    struct handshake *prev, *next;
    struct listener *listener;
    struct stream *stream;
};

struct listener {
    struct loop *loop;
    struct listener_options options;
    struct tls_ctx *tls;
    char *unix_path;
    int fd;
    uint16_t port;
    struct fdwatch *watch; /* NULL while accepting is paused */
    struct timer *retry;
    struct log_once out_of_files;
    struct quota *quota;
    struct handshake *handshakes;
};

static void on_connections(void *arg, unsigned what);

static void resume(struct listener *ls) {
    if (!ls->watch && (ls->quota->max == 0 || ls->quota->used < ls->quota->max))
        ls->watch = fdwatch_new(ls->loop, ls->fd, FD_READ, on_connections, ls);
}

static void pause_accepting(struct listener *ls) {
    fdwatch_free(TAKE(ls->watch));
}

static void on_retry(void *arg) {
    resume(arg);
}

void quota_release(struct quota *q) {
    if (!q)
        return;
    q->used--;
    if (q->listener)
        resume(q->listener);
    else if (q->used == 0)
        free(q);
}

/* ---- accepting ---- */

static void handshake_free(struct handshake *h) {
    if (h->prev)
        h->prev->next = h->next;
    else
        h->listener->handshakes = h->next;
    if (h->next)
        h->next->prev = h->prev;
    free(h);
}

static size_t no_data(void *arg, struct bytes in) {
    return 0;
}

static void shaken(void *arg) {
    struct handshake *h = arg;
    struct listener *ls = h->listener;
    struct stream *s = h->stream;
    handshake_free(h);
    ls->options.accepted(ls->options.arg, s);
}

static void handshake_failed(void *arg, const struct error *why) {
    struct handshake *h = arg;
    log_debug("connection from %s: %s", stream_peer_addr(h->stream), error_text(why));
    stream_free(h->stream);
    handshake_free(h);
}

static const struct stream_handlers handshake_handlers = {
    .ready = shaken,
    .data = no_data,
    .closed = handshake_failed,
};

static void start_handshake(struct listener *ls, struct stream *s) {
    struct handshake *h = NEW(struct handshake);
    h->listener = ls;
    h->stream = s;
    h->next = ls->handshakes;
    if (h->next)
        h->next->prev = h;
    ls->handshakes = h;
    s->arg = h;
}

static void accept_one(struct listener *ls, int fd, const struct sockaddr *peer) {
    int ms = ls->options.handshake_timeout_ms;
    struct stream_options o = {
        .handlers = &handshake_handlers,
        .connect_timeout_ms = ms ? ms : DEFAULT_HANDSHAKE_MS,
    };
    struct stream *s = stream_new(ls->loop, &o);
    s->quota = ls->quota;
    s->quota->used++;
    s->peer = peer_text(peer);
    struct error err = ERROR_INIT;
    if (ls->tls && tls_begin(s, ls->tls, NULL, &err) < 0)
        panic("TLS: %s", err.msg);
    if (ls->tls)
        start_handshake(ls, s);
    stream_attach(s, fd);
    if (!ls->tls)
        ls->options.accepted(ls->options.arg, s);
}

static void accept_failed(struct listener *ls, int errnum) {
    if (errnum == EAGAIN || errnum == EINTR || errnum == ECONNABORTED || errnum == EPROTO)
        return;
    log_once_failed(&ls->out_of_files, LOG_COMPONENT, "cannot accept connections on port %u: %s", ls->port,
                    strerror(errnum));
    pause_accepting(ls);
    timer_set(ls->retry, RETRY_MS);
}

static void on_connections(void *arg, unsigned what) {
    struct listener *ls = arg;
    struct quota *q = ls->quota;
    q->used++; /* keeps q while `accepted` may free the listener */
    for (int i = 0; i < ACCEPTS_PER_EVENT && q->listener && ls->watch; i++) {
        if (q->max > 0 && q->used - 1 >= q->max) {
            pause_accepting(ls);
            break;
        }
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof(peer);
        int fd = accept4(ls->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            accept_failed(ls, errno);
            break;
        }
        log_once_recovered(&ls->out_of_files, LOG_COMPONENT, "accepting connections on port %u again", ls->port);
        accept_one(ls, fd, (struct sockaddr *)&peer);
    }
    if (q->listener)
        q->used--; /* not quota_release: that would resume after accept_failed */
    else
        quota_release(q);
}

/* ---- sockets ---- */

static int bind_failed(int errnum, const char *where, struct error *err) {
    if (errnum == EADDRINUSE)
        return error_set(err, ERR_EXISTS, "%s is in use by another program", where);
    return error_set_errno(err, errnum, "listen on %s", where);
}

static uint16_t bound_port(int fd) {
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    getsockname(fd, (struct sockaddr *)&sa, &len);
    if (sa.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&sa)->sin6_port);
    return sa.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&sa)->sin_port) : 0;
}

/* Accepted sockets inherit these. */
static void set_tcp_options(int fd, const struct listener_options *o, int family) {
    int on = 1, off = 0, idle = KEEPALIVE_S, probes = 3;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (o->reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static int listen_tcp(const struct listener_options *o, struct error *err) {
    const char *address = str_or(o->address, "0.0.0.0");
    struct addrinfo *a = resolve_numeric(address, o->port);
    if (!a)
        return error_set(err, ERR_INVALID, "\"%s\" is no IP address to listen on", address);
    char where[96];
    snprintf(where, sizeof(where), "port %u on %s", o->port, address);
    _cleanup_(close_fd_p) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd;
    if (fd >= 0) {
        set_tcp_options(fd, o, a->ai_family);
        rc = bind(fd, a->ai_addr, a->ai_addrlen);
    }
    freeaddrinfo(a);
    if (rc < 0 || listen(fd, BACKLOG) < 0)
        return bind_failed(errno, where, err);
    int result = fd;
    fd = -1;
    return result;
}

/* A socket file that nobody listens on is left over from a crash. */
static bool socket_is_dead(const struct sockaddr_un *sa) {
    _cleanup_(close_fd_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 && errno == ECONNREFUSED;
}

static int listen_unix(const struct listener_options *o, struct error *err) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(o->unix_path) >= sizeof(sa.sun_path))
        return error_set(err, ERR_INVALID, "the path %s is too long for a unix socket", o->unix_path);
    memcpy(sa.sun_path, o->unix_path, strlen(o->unix_path));
    _cleanup_(close_fd_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return bind_failed(errno, o->unix_path, err);
    if (socket_is_dead(&sa))
        unlink(sa.sun_path);
    /* The permissions are right before anybody can connect, which takes listen(). */
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        chmod(sa.sun_path, o->unix_mode ? (mode_t)o->unix_mode : 0600) < 0 || listen(fd, BACKLOG) < 0)
        return bind_failed(errno, o->unix_path, err);
    int result = fd;
    fd = -1;
    return result;
}

/* ---- public ---- */

struct listener *listener_new(struct loop *l, const struct listener_options *o, struct error *err) {
    int fd = o->unix_path ? listen_unix(o, err) : listen_tcp(o, err);
    if (fd < 0)
        return NULL;
    struct listener *ls = NEW(struct listener);
    ls->loop = l;
    ls->options = *o;
    ls->unix_path = xstrdup_null(o->unix_path);
    ls->tls = tls_ctx_ref(o->tls);
    ls->fd = fd;
    ls->port = bound_port(fd);
    ls->retry = timer_new(l, on_retry, ls);
    ls->quota = NEW(struct quota);
    ls->quota->max = o->max_connections;
    ls->quota->listener = ls;
    resume(ls);
    return ls;
}

uint16_t listener_port(const struct listener *ls) {
    return ls->port;
}

void listener_set_tls(struct listener *ls, struct tls_ctx *tls) {
    tls_ctx_ref(tls);
    tls_ctx_free(ls->tls);
    ls->tls = tls;
}

void listener_free(struct listener *ls) {
    if (!ls)
        return;
    ls->quota->listener = NULL;
    ls->quota->used++;
    while (ls->handshakes) {
        stream_free(ls->handshakes->stream);
        handshake_free(ls->handshakes);
    }
    quota_release(ls->quota);
    pause_accepting(ls);
    timer_free(ls->retry);
    if (ls->unix_path)
        unlink(ls->unix_path);
    close(ls->fd);
    tls_ctx_free(ls->tls);
    free(ls->unix_path);
    free(ls);
}
