/* HTTP/1.1 server on llhttp (strict), over streams: keep-alive, pipelining, chunked both ways, body limits, upgrades.
 *
 * Routes stand in one static table per server, with authentication and body limit, so that a test can walk it. A
 * request lives from its handler's call until the answer is finished; then it is gone, also when the peer vanished: a
 * handler that answers later registers http_on_close to learn of that. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"
#include "net/stream.h"

struct http_server;
struct http_request;

enum http_method {
    HTTP_M_GET,
    HTTP_M_HEAD,
    HTTP_M_POST,
    HTTP_M_PUT,
    HTTP_M_PATCH,
    HTTP_M_DELETE,
    HTTP_M_OPTIONS,
    HTTP_M_OTHER
};

enum http_auth {
    HTTP_AUTH_NONE,        /* public */
    HTTP_AUTH_CLIENT_CERT, /* a verified client certificate is needed: 401 otherwise, before the handler */
    HTTP_AUTH_HANDLER,     /* the handler decides (token or certificate) */
};

struct http_route {
    unsigned methods; /* bits 1u << HTTP_M_GET ... ; 0: every method */
    const char *path; /* exact; with a trailing '*': prefix. The first row that fits wins */
    enum http_auth auth;
    size_t max_body; /* bytes; a larger body is answered 413 before the handler sees it. 0: no body allowed */
    /* Called with the whole body received. */
    void (*handle)(void *arg, struct http_request *r);
};

struct http_server_options {
    const struct http_route *routes;
    size_t n_routes;
    void *arg;                      /* for the handlers */
    struct listener_options listen; /* accepted and arg are set by the server */
    size_t max_header_bytes;        /* 0: 64 KiB; larger: 431 */
    int idle_timeout_ms;            /* between requests; 0: 120 s */
    int request_timeout_ms;         /* from the first byte of a request to its last; 0: 30 s */
    /* Called instead of a plain 404/405/413/400 page, if set: for a server whose errors have a form of their own. It
     * must answer. */
    void (*error_page)(void *arg, struct http_request *r, int status, const char *reason);
};

struct http_server *http_server_new(struct loop *l, const struct http_server_options *o, struct error *err) MUST_CHECK;
uint16_t http_server_port(const struct http_server *s);
void http_server_set_tls(struct http_server *s, struct tls_ctx *tls);
/* Stops listening; ends connections, those with a request under way after at most grace_ms. */
void http_server_stop(struct http_server *s, int grace_ms);
/* Ends everything at once; requests under way are told by http_on_close. Not from a handler. */
void http_server_free(struct http_server *s);

/* ---- the request: borrowed views, valid while the request lives ---- */
enum http_method http_method(const struct http_request *r);
const char *http_method_name(const struct http_request *r);
struct bytes http_target(const struct http_request *r); /* as sent, with the query */
struct bytes http_path(const struct http_request *r);   /* not decoded, without the query */
struct bytes http_query(const struct http_request *r);
/* The first header of that name (case-insensitive); empty with *found false if absent. found may be NULL. */
struct bytes http_header(const struct http_request *r, const char *name, bool *found);
/* Header number i as sent: its name, empty past the last one. */
struct bytes http_header_at(const struct http_request *r, unsigned i, struct bytes *value);
struct bytes http_body(const struct http_request *r);
struct stream *http_stream(const struct http_request *r); /* for the peer's certificate and address */
void *http_server_arg(const struct http_request *r);
/* Called if the connection ends before the answer is finished: r is invalid once fn has returned. Not called
 * afterwards. One per request; NULL takes it back. A request without it outlives its connection until it is answered,
 * which then goes nowhere. */
void http_on_close(struct http_request *r, void (*fn)(void *arg), void *arg);

/* ---- the answer ---- */
/* Adds a header of the answer, before http_respond or http_start. Line breaks in it abort. */
void http_add_header(struct http_request *r, const char *name, const char *value);
/* A whole answer. Ends the request: r is invalid afterwards. Body is copied. content_type NULL: none. */
void http_respond(struct http_request *r, int status, const char *content_type, struct bytes body);
void http_respondf(struct http_request *r, int status, const char *fmt, ...) PRINTF_LIKE(3, 4); /* text/plain */
/* A streamed answer: http_start, any number of http_write, http_end. length < 0: chunked. http_write returns 1 when the
 * peer is slow: wait for `drained`. */
void http_start(struct http_request *r, int status, const char *content_type, int64_t length);
int http_write(struct http_request *r, struct bytes data);
void http_on_drained(struct http_request *r, void (*fn)(void *arg), void *arg);
void http_end(struct http_request *r); /* r is invalid afterwards */
/* Breaks the connection off: for a streamed answer that cannot be finished. r is invalid afterwards. */
void http_abort(struct http_request *r);
/* Answers an upgrade request (101 with the extra headers added before) and hands the stream over; bytes that came after
 * the request are shown to the new handlers. r is invalid afterwards; the caller owns the stream. NULL (r still valid)
 * if the request was no upgrade. */
struct stream *http_upgrade(struct http_request *r, const char *protocol);
/* Hands the stream over with nothing answered: for proxies, whose peer writes the answer, head and all. r is invalid
 * afterwards; the caller owns the stream. */
struct stream *http_take_stream(struct http_request *r);
bool http_is_upgrade(const struct http_request *r); /* to whichever protocol */
bool http_wants_upgrade(const struct http_request *r, const char *protocol);

const char *http_status_text(int status);
