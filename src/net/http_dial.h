/* One HTTP/1.1 request on a connection of its own, which afterwards belongs to the caller: for proxies, and for
 * protocols that an upgrade leads to. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/stream.h"

struct http_dial;

struct http_dial_options {
    const char *host;
    uint16_t port;
    struct tls_ctx *tls;     /* NULL: plain */
    const char *server_name; /* what the certificate must name; NULL: host */
    struct bytes request;    /* head and all; copied */
    int timeout_ms;          /* until the answer's head is there */
    /* The head of an answer has come, or err says why not. Called once, from the loop. */
    void (*done)(void *arg, const struct error *err);
    void *arg;
};

struct http_dial *http_dial_new(struct loop *l, const struct http_dial_options *o, struct error *err) MUST_CHECK;
void http_dial_free(struct http_dial *d); /* at any time; closes the connection unless it was taken */

/* ---- after `done` without an error ---- */
int http_dial_status(const struct http_dial *d);
struct bytes http_dial_header(const struct http_dial *d, const char *name); /* empty if absent */
/* Header number i: its name, empty past the last one. */
struct bytes http_dial_header_at(const struct http_dial *d, unsigned i, struct bytes *value);
/* The connection: set handlers at once, they are shown what came after the head. May be called in `done`. */
struct stream *http_dial_take(struct http_dial *d);
