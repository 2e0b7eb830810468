/* Outgoing connections: resolve, try each address in turn within the one deadline. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/resolve.h"
#include "net/stream_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_HOST = 255 };

struct dial {
    struct resolve *lookup;     /* while resolving */
    struct addrinfo *addresses; /* all that were found */
    struct addrinfo *next;      /* to try after the one under way */
    struct sockaddr_un unix_addr;
    bool is_unix;
    bool begin;           /* dial_step has work */
    char *target;         /* for messages: "edge.example:10000" */
    int64_t try_until_ms; /* for the address under way */
    struct error last;
};

char *peer_text(const struct sockaddr *sa) {
    char ip[INET6_ADDRSTRLEN];
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        return xasprintf("%s:%u", inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip)), ntohs(in->sin_port));
    }
    if (sa->sa_family != AF_INET6)
        return NULL;
    const struct sockaddr_in6 *in6 = (const void *)sa;
    inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) /* "::ffff:10.0.0.7" */
        return xasprintf("%s:%u", strrchr(ip, ':') + 1, ntohs(in6->sin6_port));
    return xasprintf("[%s]:%u", ip, ntohs(in6->sin6_port));
}

void dial_free(struct dial *d) {
    if (!d)
        return;
    resolve_cancel(d->lookup);
    if (d->addresses)
        freeaddrinfo(d->addresses);
    free(d->target);
    free(d);
}

/* ---- connecting ---- */

static void fail(struct stream *s) {
    struct error err = s->dial->last;
    error_wrap(&err, "connect to %s", s->dial->target);
    stream_end(s, &err);
}

static void connected(struct stream *s, int fd) {
    dial_free(TAKE(s->dial));
    stream_attach(s, fd);
    if (s->ssl)
        return;
    stream_open(s);
    if (!s->freed && s->state == STREAM_OPEN && s->queued > 0)
        stream_later(s);
}

static void refused(struct stream *s, int errnum) {
    error_set_errno(&s->dial->last, errnum, "%s", stream_peer_addr(s));
    s->dial->last.code = ERR_UNAVAILABLE;
}

/* Starts one connection. 0: under way or done; -1: this address is out. */
static int try_address(struct stream *s, int family, const struct sockaddr *sa, socklen_t len) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) {
        refused(s, errno);
        return -1;
    }
    if (family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, sa, len) == 0) {
        connected(s, fd);
        return 0;
    }
    if (errno != EINPROGRESS) {
        refused(s, errno);
        close(fd);
        return -1;
    }
    stream_await_connect(s, fd);
    return 0;
}

static unsigned addresses_left(const struct addrinfo *a) {
    unsigned n = 0;
    for (; a; a = a->ai_next)
        n++;
    return n;
}

/* An address that does not answer gets its share of the time only. */
static void try_next(struct stream *s) {
    struct dial *d = s->dial;
    while (d->next) {
        struct addrinfo *a = d->next;
        int64_t now = clock_mono_ms();
        d->try_until_ms = now + (s->end_ms - now) / addresses_left(a);
        d->next = a->ai_next;
        free(s->peer);
        s->peer = peer_text(a->ai_addr);
        if (try_address(s, a->ai_family, a->ai_addr, a->ai_addrlen) == 0)
            return;
    }
    fail(s);
}

static void resolved(void *arg, struct addrinfo *addresses, const struct error *err) {
    struct stream *s = arg;
    stream_enter(s);
    s->dial->lookup = NULL;
    s->dial->addresses = s->dial->next = addresses;
    if (!addresses)
        s->dial->last = *err;
    try_next(s);
    stream_leave(s);
}

void dial_step(struct stream *s) {
    struct dial *d = s->dial;
    if (!d->begin)
        return;
    d->begin = false;
    if (!d->is_unix)
        try_next(s);
    else if (try_address(s, AF_UNIX, (const void *)&d->unix_addr, sizeof(d->unix_addr)) < 0)
        fail(s);
}

static void drop_attempt(struct stream *s) {
    event_del(&s->writable);
    close(s->fd);
    s->fd = -1;
}

void dial_writable(struct stream *s) {
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
        errnum = errno;
    if (errnum == 0) {
        connected(s, s->fd);
        return;
    }
    drop_attempt(s);
    refused(s, errnum);
    try_next(s);
}

void dial_deadline(struct stream *s) {
    struct dial *d = s->dial;
    int64_t now = clock_mono_ms();
    if (now >= s->end_ms) {
        error_set(&d->last, ERR_TIMEOUT, d->lookup ? "the name was not resolved in time" : "no answer in time");
        fail(s);
    } else if (s->fd >= 0 && now >= d->try_until_ms && d->next) {
        drop_attempt(s);
        try_next(s);
    }
}

/* ---- public ---- */

static struct stream *dial_new(struct loop *l, const struct stream_options *o, char *target) {
    struct stream *s = stream_new(l, o);
    s->dial = NEW(struct dial);
    s->dial->target = target;
    return s;
}

static int begin(struct stream *s, const char *host, uint16_t port, struct error *err) {
    struct dial *d = s->dial;
    d->addresses = d->next = resolve_numeric(host, port);
    if (d->addresses) {
        d->begin = true;
        stream_later(s);
        return 0;
    }
    d->lookup = resolve_start(s->loop, host, port, resolved, s, err);
    return d->lookup ? 0 : -1;
}

struct stream *stream_connect(struct loop *l, const char *host, uint16_t port, struct tls_ctx *tls,
                              const char *server_name, const struct stream_options *o, struct error *err) {
    if (str_empty(host) || strlen(host) > MAX_HOST || port == 0) {
        error_set(err, ERR_INVALID, "\"%.*s\" port %u is no address to connect to", MAX_HOST, host ? host : "", port);
        return NULL;
    }
    struct stream *s = dial_new(l, o, xasprintf(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port));
    if ((tls && tls_begin(s, tls, server_name ? server_name : host, err) < 0) || begin(s, host, port, err) < 0) {
        stream_free(s);
        return NULL;
    }
    return s;
}

struct stream *stream_connect_unix(struct loop *l, const char *path, const struct stream_options *o,
                                   struct error *err) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (str_empty(path) || strlen(path) >= sizeof(sa.sun_path)) {
        error_set(err, ERR_INVALID, "\"%s\" is no path for a unix socket (1 to %zu bytes)", path ? path : "",
                  sizeof(sa.sun_path) - 1);
        return NULL;
    }
    memcpy(sa.sun_path, path, strlen(path));
    struct stream *s = dial_new(l, o, xstrdup(path));
    s->dial->unix_addr = sa;
    s->dial->is_unix = s->dial->begin = true;
    stream_later(s);
    return s;
}
