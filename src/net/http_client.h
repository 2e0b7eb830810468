/* HTTP client on libcurl's multi interface, on a loop: keep-alive pool, streaming answers, client certificates.
 *
 * Verification cannot be turned off, but for tls.insecure_bootstrap. HTTP/1.1 only; redirects are not followed. Proxies
 * are taken from the environment (https_proxy, no_proxy) as usual. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"
#include "net/tls.h"

struct http_client;
struct http_call;

struct http_client_options {
    struct tls_client_options tls; /* the bytes are copied */
    const char *user_agent;
    unsigned max_connections; /* to one host; 0: 8. Calls beyond it wait */
};
struct http_client *http_client_new(struct loop *l, const struct http_client_options *o, struct error *err) MUST_CHECK;
void http_client_free(struct http_client *c); /* cancels all calls without calling back */

struct http_result {
    int status;        /* 0: no answer, see error */
    struct bytes body; /* empty for streamed calls */
    struct bytes content_type;
    int retry_after_s;  /* -1: none */
    struct error error; /* code ERR_NONE when an answer came, whatever its status */
    bool not_sent;      /* with status 0: there was no connection, the server has seen nothing of the request */
};

struct http_call_options {
    const char *method; /* "GET", ... */
    const char *url;    /* http:// or https://; or with unix_socket set, http://localhost/... over that socket */
    const char *unix_socket;
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    struct bytes body;          /* copied. Sent also with GET (wire-protocol.md 4.3) */
    size_t max_body;            /* of the answer; more is ERR_TOO_LARGE. 0: 4 MiB. Of a streamed call: of one piece */
    int timeout_ms;             /* for the whole call; 0: 60 s; < 0: none (watches) */
    int idle_timeout_ms;        /* no byte received for so long: ERR_TIMEOUT. 0: none */
    /* All of these are called on the loop, never from inside http_call. A call, or the client, may be cancelled or
     * freed in any of them. Views are valid during the callback.
     *
     * Streamed calls: status first (once), then pieces. With `data` set nothing is collected. For statuses other than
     * 2xx the body is collected and given to `done` instead. Return false from data to cancel. */
    bool (*data)(void *arg, struct bytes piece);
    void (*started)(void *arg, int status);
    void (*done)(void *arg, const struct http_result *r); /* once, unless cancelled; also after data returned false */
    void *arg;
};
/* NULL only for a malformed URL, method or header. */
struct http_call *http_call(struct http_client *c, const struct http_call_options *o, struct error *err) MUST_CHECK;
void http_call_cancel(struct http_call *call); /* no callback afterwards; invalid after done */
