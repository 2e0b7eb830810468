#include "kube/client.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "kube/object.h"

#include <utlist.h>

#define DEFAULT_TIMEOUT_MS 30000
#define DEFAULT_MAX_BODY (32 * 1024 * 1024)
#define MAX_CONNECTIONS 64 /* watches hold one each */
#define TOKEN_MAX_AGE_MS 60000
#define MAX_TOKEN (64 * 1024)
#define MAX_HEADERS 8
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 5000

/* No part of ours looks at managedFields, and they are a third of an object. Servers that don't know the parameter
 * ignore it. */
static const char accept_json[] = "Accept: application/json;managedFields=none, application/json";

struct kube_client {
    struct loop *loop;
    struct http_client *http;
    char *server;
    char *token_file;
    struct buf token; /* "Authorization: Bearer ..." or empty */
    int64_t token_read_ms;
    struct kube_call *calls;
    unsigned busy;
    bool freed;
};

struct kube_call {
    struct kube_client *client;
    struct http_call *http; /* NULL while waiting for the next attempt */
    char *verb, *url, *content_type, *as_node;
    struct buf body;
    size_t max_body;
    bool try_once;
    int64_t deadline;    /* monotonic ms */
    struct timer *timer; /* until the next attempt, or until `refused` is told */
    struct backoff backoff;
    struct error refused; /* the request could not even be started */
    void (*done)(void *arg, struct kube_result *r);
    void *arg;
    struct kube_call *prev, *next;
};

/* ---- credentials
 * ------------------------------------------------------------------------------------------------------ */

static void set_token(struct kube_client *k, struct bytes token) {
    struct bytes t = bytes_trim(token);
    buf_clear(&k->token);
    if (t.len == 0)
        return;
    buf_add_str(&k->token, "Authorization: Bearer ");
    buf_add_bytes(&k->token, t);
}

/* A projected token changes every hour or so. One that cannot be read at the moment is used on. */
static void refresh_token(struct kube_client *k) {
    int64_t now = clock_mono_ms();
    if (!k->token_file || (k->token_read_ms && now - k->token_read_ms < TOKEN_MAX_AGE_MS))
        return;
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(MAX_TOKEN);
    k->token_read_ms = now;
    if (file_read(k->token_file, &text, NULL) == 0)
        set_token(k, buf_bytes(&text));
}

/* ---- one attempt
 * ------------------------------------------------------------------------------------------------------ */

static void call_done(void *arg, const struct http_result *r);

static void call_free(struct kube_call *call) {
    DL_DELETE(call->client->calls, call);
    timer_free(call->timer);
    free(call->verb);
    free(call->url);
    free(call->content_type);
    free(call->as_node);
    buf_free_secret(&call->body);
    free(call);
}

static void client_destroy(struct kube_client *k) {
    free(k->server);
    free(k->token_file);
    buf_free_secret(&k->token);
    free(k);
}

static void enter(struct kube_client *k) {
    k->busy++;
}

static void leave(struct kube_client *k) {
    if (--k->busy == 0 && k->freed)
        client_destroy(k);
}

/* Ends the call. Its owner may free the client meanwhile: the caller has entered it. */
static void call_finish(struct kube_call *call, struct kube_result *r) {
    struct kube_client *k = call->client;
    void (*done)(void *, struct kube_result *) = call->done;
    void *arg = call->arg;
    call_free(call);
    if (done && !k->freed)
        done(arg, r);
    yyjson_doc_free(r->doc);
}

static void call_refused(struct kube_call *call, const struct error *why) {
    call->refused = *why;
    timer_set(call->timer, 0);
}

static void call_attempt(struct kube_call *call) {
    struct kube_client *k = call->client;
    _cleanup_(free_p) char *type = NULL, *user = NULL;
    const char *headers[MAX_HEADERS] = {accept_json};
    size_t n = 1;
    refresh_token(k);
    if (k->token.len > 0)
        headers[n++] = k->token.ptr;
    if (call->body.len > 0)
        headers[n++] = type = xasprintf("Content-Type: %s", call->content_type);
    if (call->as_node) {
        headers[n++] = user = xasprintf("Impersonate-User: system:node:%s", call->as_node);
        headers[n++] = "Impersonate-Group: system:nodes";
    }
    int64_t left = call->deadline - clock_mono_ms();
    struct http_call_options o = {.method = call->verb,
                                  .url = call->url,
                                  .headers = headers,
                                  .body = buf_bytes(&call->body),
                                  .max_body = call->max_body,
                                  .timeout_ms = left > 1 ? (int)left : 1,
                                  .done = call_done,
                                  .arg = call};
    struct error err = ERROR_INIT;
    call->http = http_call(k->http, &o, &err);
    if (!call->http)
        call_refused(call, &err);
}

/* May the request be sent again? Reads always; writes only if the server surely has not acted on them. */
static bool may_retry(const struct kube_call *call, const struct http_result *r) {
    bool reads = str_eq(call->verb, "GET");
    if (call->try_once)
        return false;
    if (r->status == 0) {
        bool passing = r->error.code == ERR_UNAVAILABLE || r->error.code == ERR_TIMEOUT;
        return passing && (reads || r->not_sent);
    }
    return r->status == 429 || (reads && (r->status == 502 || r->status == 503 || r->status == 504));
}

/* True when another attempt is under way within the deadline. */
static bool retry(struct kube_call *call, const struct http_result *r) {
    if (!may_retry(call, r))
        return false;
    int64_t wait = backoff_next_ms(&call->backoff);
    if (r->retry_after_s > 0 && wait < (int64_t)r->retry_after_s * 1000)
        wait = (int64_t)r->retry_after_s * 1000;
    if (clock_mono_ms() + wait >= call->deadline)
        return false;
    timer_set(call->timer, wait);
    return true;
}

static void parse_answer(const struct kube_call *call, const struct http_result *r, struct kube_result *out) {
    if (r->body.len > 0 && bytes_starts_with(r->content_type, "application/json")) {
        out->doc = json_parse(r->body, call->max_body, &out->error);
        out->body = out->doc ? yyjson_doc_get_root(out->doc) : NULL;
    }
    if (r->status >= 300) {
        out->error = (struct error)ERROR_INIT;
        error_from_status(&out->error, r->status, r->body);
    }
    if (out->error.code)
        error_wrap(&out->error, "%s %.*s", call->verb, (int)strcspn(call->url, "?"), call->url);
}

static void call_done(void *arg, const struct http_result *r) {
    struct kube_call *call = arg;
    struct kube_client *k = call->client;
    struct kube_result result = {.status = r->status, .retry_after_s = r->retry_after_s};
    call->http = NULL;
    if (r->status == 401)
        k->token_read_ms = 0; /* perhaps it was replaced: read it again for the next request */
    if (retry(call, r))
        return;
    enter(k);
    if (r->status == 0) {
        error_set(&result.error, r->error.code, "%s %s", call->verb, r->error.msg);
    } else {
        parse_answer(call, r, &result);
    }
    call_finish(call, &result);
    leave(k);
}

static void call_timer(void *arg) {
    struct kube_call *call = arg;
    struct kube_client *k = call->client;
    if (!call->refused.code) {
        call_attempt(call);
        return;
    }
    struct kube_result result = {.error = call->refused, .retry_after_s = -1};
    enter(k);
    call_finish(call, &result);
    leave(k);
}

/* ---- calls
 * -------------------------------------------------------------------------------------------------------------- */

static char *make_url(const struct kube_client *k, const char *path, const char *query) {
    return str_empty(query) ? xasprintf("%s%s", k->server, path) : xasprintf("%s%s?%s", k->server, path, query);
}

struct kube_call *kube_call(struct kube_client *k, const struct kube_request *r) {
    struct kube_call *call = NEW(struct kube_call);
    call->client = k;
    call->verb = xstrdup(r->verb);
    call->url = make_url(k, r->path, r->query);
    call->content_type = xstrdup(str_or(r->content_type, "application/json"));
    call->as_node = xstrdup_null(r->as_node);
    call->body = BUF_INIT(r->body.len);
    buf_add_bytes(&call->body, r->body);
    call->max_body = r->max_body ? r->max_body : DEFAULT_MAX_BODY;
    call->try_once = r->try_once;
    call->deadline = clock_mono_ms() + (r->timeout_ms > 0 ? r->timeout_ms : DEFAULT_TIMEOUT_MS);
    call->backoff = BACKOFF(RETRY_FIRST_MS, RETRY_MAX_MS);
    call->done = r->done;
    call->arg = r->arg;
    call->timer = timer_new(k->loop, call_timer, call);
    DL_APPEND(k->calls, call);
    call_attempt(call);
    return call;
}

void kube_call_cancel(struct kube_call *c) {
    if (!c)
        return;
    http_call_cancel(c->http);
    call_free(c);
}

struct http_call *kube_stream(struct kube_client *k, const struct kube_stream *s, struct error *err) {
    _cleanup_(free_p) char *url = make_url(k, s->path, s->query);
    const char *headers[3] = {accept_json};
    refresh_token(k);
    if (k->token.len > 0)
        headers[1] = k->token.ptr;
    struct http_call_options o = {.method = "GET",
                                  .url = url,
                                  .headers = headers,
                                  .timeout_ms = -1,
                                  .idle_timeout_ms = s->idle_timeout_ms,
                                  .data = s->data,
                                  .started = s->started,
                                  .done = s->done,
                                  .arg = s->arg};
    return http_call(k->http, &o, err);
}

/* ---- the client
 * ---------------------------------------------------------------------------------------------------------- */

struct kube_client *kube_client_new(struct loop *l, const struct kube_config *c, const char *user_agent,
                                    struct error *err) {
    struct http_client_options o = {.tls = {.ca_pem = buf_bytes(&c->ca_pem),
                                            .cert_pem = buf_bytes(&c->cert_pem),
                                            .key_pem = buf_bytes(&c->key_pem)},
                                    .user_agent = user_agent,
                                    .max_connections = MAX_CONNECTIONS};
    struct http_client *http = http_client_new(l, &o, err);
    if (!http)
        return NULL;
    struct kube_client *k = NEW(struct kube_client);
    k->loop = l;
    k->http = http;
    k->server = xstrdup(c->server);
    k->token = BUF_INIT(MAX_TOKEN + 64);
    k->token_file = xstrdup_null(c->token_file);
    if (c->token)
        set_token(k, bytes_str(c->token));
    return k;
}

void kube_client_free(struct kube_client *k) {
    if (!k)
        return;
    struct kube_call *call, *next;
    enter(k);
    k->freed = true;
    http_client_free(k->http);
    DL_FOREACH_SAFE (k->calls, call, next)
        call_free(call);
    leave(k);
}

struct loop *kube_client_loop(struct kube_client *k) {
    return k->loop;
}

static void add_part(struct buf *out, const char *part) {
    if (str_empty(part))
        return;
    buf_add_char(out, '/');
    percent_encode(bytes_str(part), out);
}

char *kube_path(const char *group, const char *version, const char *ns, const char *plural, const char *name,
                const char *sub) {
    struct buf out = BUF_INIT(16 * 1024);
    buf_add_str(&out, str_empty(group) ? "/api" : "/apis");
    add_part(&out, group);
    add_part(&out, version);
    if (!str_empty(ns)) {
        buf_add_str(&out, "/namespaces");
        add_part(&out, ns);
    }
    add_part(&out, plural);
    add_part(&out, name);
    add_part(&out, sub);
    return buf_take(&out, NULL);
}
