#include "net/http_client.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <utlist.h>

#define DEFAULT_MAX_BODY (4 * 1024 * 1024)
#define DEFAULT_TIMEOUT_MS 60000
#define CONNECT_TIMEOUT_MS 10000
#define MAX_HEADER_BYTES (64 * 1024)
/* A peer that vanished is noticed within about a minute, also where nothing is being sent. */
#define KEEPALIVE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define USER_TIMEOUT_MS 30000

struct http_client {
    struct loop *loop;
    CURLM *multi;
    struct timer *timer;   /* curl's own */
    struct timer *settle;  /* brings settle_calls about soon */
    struct watch *watches; /* curl's sockets */
    struct http_call *calls;
    struct buf ca, cert, key;
    bool system_roots, insecure;
    char *user_agent;
    unsigned busy; /* our handlers or curl on the stack: curl must not be called, nothing may be freed */
    bool freed;    /* http_client_free was called meanwhile */
};

/* A socket of curl's that the loop watches. */
struct watch {
    struct http_client *client;
    curl_socket_t fd;
    struct fdwatch *fdwatch;
    struct watch *prev, *next;
};

enum call_state { CALL_NEW, CALL_RUNNING, CALL_FINISHED };

struct http_call {
    struct http_client *client;
    CURL *easy;
    enum call_state state;
    struct curl_slist *headers;
    char *url;
    struct buf body; /* of the request */
    size_t body_sent;
    struct buf answer;
    size_t max_body;
    size_t header_bytes;
    struct timer *idle;
    int idle_timeout_ms;
    int64_t last_byte; /* monotonic ms */
    bool (*data)(void *arg, struct bytes piece);
    void (*started)(void *arg, int status);
    void (*done)(void *arg, const struct http_result *r);
    void *arg;
    bool begun;             /* the final status was told */
    bool cancelled;         /* by its owner: nothing is called any more */
    struct error own_error; /* our reason to end it, if any */
    char curl_error[CURL_ERROR_SIZE];
    struct http_call *prev, *next;
};

static void enter(struct http_client *c);
static void leave(struct http_client *c);

static void call_free(struct http_call *call) {
    DL_DELETE(call->client->calls, call);
    timer_free(call->idle);
    if (call->easy)
        curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    buf_free_secret(&call->body);
    buf_free(&call->answer);
    free(call->url);
    free(call);
}

/* ---- curl's sockets and timer on the loop ---------------------------------------------------------------------------
 */

static void collect_finished(struct http_client *c);

static void drive(struct http_client *c, curl_socket_t fd, int what) {
    int running;
    enter(c);
    curl_multi_socket_action(c->multi, fd, what, &running);
    collect_finished(c);
    leave(c);
}

static void socket_event(void *arg, unsigned what) {
    const struct watch *w = arg;
    drive(w->client, w->fd, ((what & FD_READ) ? CURL_CSELECT_IN : 0) | ((what & FD_WRITE) ? CURL_CSELECT_OUT : 0));
}

static void timer_event(void *arg) {
    drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void watch_free(struct watch *w) {
    DL_DELETE(w->client->watches, w);
    fdwatch_free(w->fdwatch);
    free(w);
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    struct http_client *c = arg;
    struct watch *w = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (w)
            watch_free(w);
        curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    if (!w) {
        w = NEW(struct watch);
        w->client = c;
        w->fd = fd;
        DL_APPEND(c->watches, w);
        curl_multi_assign(c->multi, fd, w);
    }
    unsigned flags = ((what & CURL_POLL_IN) ? FD_READ : 0u) | ((what & CURL_POLL_OUT) ? FD_WRITE : 0u);
    fdwatch_free(w->fdwatch);
    w->fdwatch = flags ? fdwatch_new(c->loop, fd, flags, socket_event, w) : NULL;
    return 0;
}

static int timer_callback(CURLM *multi, long timeout_ms, void *arg) {
    struct http_client *c = arg;
    if (timeout_ms < 0)
        timer_stop(c->timer);
    else
        timer_set(c->timer, timeout_ms);
    return 0;
}

/* ---- the answer -----------------------------------------------------------------------------------------------------
 */

static int status_of(const struct http_call *call) {
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

static bool is_streamed(const struct http_call *call, int status) {
    return call->data && status >= 200 && status < 300;
}

/* curl shows the lines of the header one by one, the empty one at its end included; trailers and interim answers too.
 */
static size_t header_callback(char *line, size_t size, size_t n, void *arg) {
    struct http_call *call = arg;
    size_t len = size * n;
    if (call->cancelled)
        return 0;
    call->last_byte = clock_mono_ms();
    call->header_bytes += len;
    if (call->header_bytes > MAX_HEADER_BYTES) {
        error_set(&call->own_error, ERR_TOO_LARGE, "the answer's header is larger than %d bytes", MAX_HEADER_BYTES);
        return 0;
    }
    int status = status_of(call);
    if (!call->begun && len <= 2 && status >= 200) {
        call->begun = true;
        if (call->started)
            call->started(call->arg, status);
    }
    return call->cancelled ? 0 : len;
}

static size_t write_callback(char *p, size_t size, size_t n, void *arg) {
    struct http_call *call = arg;
    size_t len = size * n;
    if (call->cancelled)
        return 0;
    call->last_byte = clock_mono_ms();
    if (is_streamed(call, status_of(call))) {
        if (!call->data(call->arg, bytes_of(p, len)) && !call->cancelled)
            error_set(&call->own_error, ERR_CANCELLED, "stopped by the reader");
        return call->cancelled || call->own_error.code ? 0 : len;
    }
    if (buf_add(&call->answer, p, len) < 0) {
        error_set(&call->own_error, ERR_TOO_LARGE, "the answer is larger than %zu bytes", call->max_body);
        return 0;
    }
    return len;
}

/* ---- the request's body ---------------------------------------------------------------------------------------------
 */

static size_t read_callback(char *out, size_t size, size_t n, void *arg) {
    struct http_call *call = arg;
    size_t left = call->body.len - call->body_sent, len = size * n < left ? size * n : left;
    memcpy(out, call->body.ptr + call->body_sent, len);
    call->body_sent += len;
    return len;
}

/* When a connection that is used again turns out to be dead, curl sends the request once more on a new one, unless it
 * cannot start the body over. For writes it shall not: the server may have acted on the first one. */
static int seek_callback(void *arg, curl_off_t offset, int origin) {
    return CURL_SEEKFUNC_FAIL;
}

/* ---- its end
 * ---------------------------------------------------------------------------------------------------------- */

static enum error_code code_of_curl(CURLcode code) {
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_ISSUER_ERROR:
        return ERR_DENIED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CACERT_BADFILE:
        return ERR_INVALID;
    case CURLE_FILESIZE_EXCEEDED:
        return ERR_TOO_LARGE;
    default:
        return ERR_UNAVAILABLE;
    }
}

/* Did the connection fail before any byte of the request could have left? */
static bool never_sent(const struct http_call *call, CURLcode code) {
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY)
        return true;
    long sent = 0;
    curl_easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent);
    return sent == 0;
}

/* What went wrong, in words that stay the same while it does: curl's own tell how many milliseconds passed. */
static void describe(const struct http_call *call, CURLcode code, struct error *err) {
    long os_errno = 0;
    curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &os_errno);
    if (code == CURLE_COULDNT_CONNECT && os_errno)
        error_set(err, code_of_curl(code), "cannot connect: %s", strerror((int)os_errno));
    else if (code == CURLE_SEND_FAIL_REWIND)
        error_set(err, ERR_UNAVAILABLE, "the connection was closed before an answer came");
    else if (code == CURLE_OPERATION_TIMEDOUT)
        error_set(err, code_of_curl(code), "no %s in time", never_sent(call, code) ? "connection" : "answer");
    else
        error_set(err, code_of_curl(code), "%s", str_or(call->curl_error, curl_easy_strerror(code)));
}

static int retry_after(const struct http_call *call) {
    struct curl_header *h;
    int64_t seconds;
    if (curl_easy_header(call->easy, "Retry-After", 0, CURLH_HEADER, -1, &h) != CURLHE_OK ||
        parse_i64(bytes_trim(bytes_str(h->value)), 0, 86400, &seconds) < 0)
        return -1;
    return (int)seconds;
}

/* Tells the owner of a call that is over, and forgets it. */
static void finish_call(struct http_call *call, CURLcode code) {
    struct http_result r = {.retry_after_s = -1};
    char *content_type = NULL;
    call->state = CALL_FINISHED;
    if (call->idle)
        timer_stop(call->idle);
    if (call->own_error.code) {
        r.error = call->own_error;
    } else if (code != CURLE_OK) {
        r.not_sent = never_sent(call, code);
        describe(call, code, &r.error);
    } else {
        r.status = status_of(call);
        curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &content_type);
        r.content_type = bytes_str(content_type);
        r.retry_after_s = retry_after(call);
        r.body = buf_bytes(&call->answer);
    }
    if (r.error.code) /* without the query: it may hold what is nobody's business */
        error_wrap(&r.error, "%.*s", (int)strcspn(call->url, "?"), call->url);
    if (!call->cancelled && call->done)
        call->done(call->arg, &r);
}

static void collect_finished(struct http_client *c) {
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
        struct http_call *call = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result; /* m does not outlive the removal */
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        if (call->state == CALL_RUNNING)
            finish_call(call, code);
    }
}

/* An idle call is looked at when its time may be up, not at each byte. */
static void idle_event(void *arg) {
    struct http_call *call = arg;
    int64_t left = call->last_byte + call->idle_timeout_ms - clock_mono_ms();
    if (left > 0) {
        timer_set(call->idle, left);
        return;
    }
    struct http_client *c = call->client;
    enter(c);
    error_set(&call->own_error, ERR_TIMEOUT, "nothing received for %d ms", call->idle_timeout_ms);
    finish_call(call, CURLE_OPERATION_TIMEDOUT);
    leave(c);
}

/* ---- the client
 * ------------------------------------------------------------------------------------------------------ */

static void client_destroy(struct http_client *c) {
    struct http_call *call, *next;
    struct watch *w, *next_watch;
    DL_FOREACH_SAFE (c->calls, call, next) {
        if (call->state != CALL_NEW)
            curl_multi_remove_handle(c->multi, call->easy);
        call_free(call);
    }
    curl_multi_cleanup(c->multi);
    DL_FOREACH_SAFE (c->watches, w, next_watch)
        watch_free(w);
    timer_free(c->timer);
    timer_free(c->settle);
    buf_free(&c->ca);
    buf_free(&c->cert);
    buf_free_secret(&c->key);
    free(c->user_agent);
    free(c);
}

static void enter(struct http_client *c) {
    c->busy++;
}

/* Nobody is inside curl or a handler now: calls are given to curl, and taken from it. */
static void settle_calls(struct http_client *c) {
    struct http_call *call, *next;
    DL_FOREACH_SAFE (c->calls, call, next) {
        if (call->state == CALL_FINISHED || call->cancelled) {
            if (call->state != CALL_NEW)
                curl_multi_remove_handle(c->multi, call->easy);
            call_free(call);
        } else if (call->state == CALL_NEW) {
            call->state = CALL_RUNNING;
            curl_multi_add_handle(c->multi, call->easy);
        }
    }
}

static void leave(struct http_client *c) {
    if (c->busy == 1 && !c->freed)
        settle_calls(c);
    if (--c->busy == 0 && c->freed)
        client_destroy(c);
}

static void settle_event(void *arg) {
    enter(arg);
    leave(arg);
}

static void curl_start(void) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        panic("libcurl does not start");
}

struct http_client *http_client_new(struct loop *l, const struct http_client_options *o, struct error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, curl_start);
    if ((o->tls.cert_pem.len == 0) != (o->tls.key_pem.len == 0)) {
        error_set(err, ERR_INVALID, "HTTP client: a client certificate and its key go together");
        return NULL;
    }
    struct http_client *c = NEW(struct http_client);
    c->loop = l;
    c->ca = BUF_INIT(o->tls.ca_pem.len);
    c->cert = BUF_INIT(o->tls.cert_pem.len);
    c->key = BUF_INIT(o->tls.key_pem.len);
    buf_add_bytes(&c->ca, o->tls.ca_pem);
    buf_add_bytes(&c->cert, o->tls.cert_pem);
    buf_add_bytes(&c->key, o->tls.key_pem);
    c->system_roots = o->tls.use_system_roots || o->tls.ca_pem.len == 0;
    c->insecure = o->tls.insecure_bootstrap;
    c->user_agent = xstrdup(str_or(o->user_agent, "selvage/" SELVAGE_VERSION));
    c->timer = timer_new(l, timer_event, c);
    c->settle = timer_new(l, settle_event, c);
    c->multi = curl_multi_init();
    if (!c->multi)
        panic("out of memory for an HTTP client");
    long connections = o->max_connections ? (long)o->max_connections : 8;
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, connections);
    return c;
}

void http_client_free(struct http_client *c) {
    if (!c)
        return;
    struct http_call *call;
    enter(c);
    c->freed = true;
    DL_FOREACH (c->calls, call)
        call->cancelled = true;
    leave(c);
}

/* ---- calls
 * ------------------------------------------------------------------------------------------------------------ */

static bool is_token(const char *s) {
    if (str_empty(s))
        return false;
    for (; *s; s++)
        if (!((*s >= 'A' && *s <= 'Z') || (*s >= 'a' && *s <= 'z') || *s == '-'))
            return false;
    return true;
}

static int check_text(const char *s, bool blanks, const char *what, struct error *err) {
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (*p == ' ' && !blanks))
            return error_set(err, ERR_INVALID, "HTTP request: control character or blank in its %s", what);
    return 0;
}

static int check_options(const struct http_call_options *o, struct error *err) {
    if (!is_token(o->method))
        return error_set(err, ERR_INVALID, "HTTP request: \"%s\" is not a method", str_or(o->method, ""));
    if (!o->url || !(str_starts_with(o->url, "https://") || str_starts_with(o->url, "http://")))
        return error_set(err, ERR_INVALID, "HTTP request: \"%s\" is not an http:// or https:// URL",
                         str_or(o->url, ""));
    if (check_text(o->url, false, "URL", err) < 0)
        return -1;
    for (size_t i = 0; o->headers && o->headers[i]; i++)
        if (check_text(o->headers[i], true, "header", err) < 0)
            return -1;
    return 0;
}

static int tune_socket(void *arg, curl_socket_t fd, curlsocktype purpose) {
    unsigned ms = USER_TIMEOUT_MS;
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms); /* fails harmlessly for unix sockets */
    return CURL_SOCKOPT_OK;
}

/* curl_easy_setopt fails here only for lack of memory, or for an option that this libcurl was built without. */
#define SET(easy, option, value)                                         \
    do {                                                                 \
        CURLcode set_ = curl_easy_setopt((easy), (option), (value));     \
        if (set_ != CURLE_OK)                                            \
            panic("libcurl: " #option ": %s", curl_easy_strerror(set_)); \
    } while (0)

static void set_tls(struct http_call *call, CURL *e) {
    struct http_client *c = call->client;
    struct curl_blob ca = {c->ca.ptr, c->ca.len, CURL_BLOB_NOCOPY};
    struct curl_blob cert = {c->cert.ptr, c->cert.len, CURL_BLOB_NOCOPY};
    struct curl_blob key = {c->key.ptr, c->key.len, CURL_BLOB_NOCOPY};
    SET(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(e, CURLOPT_SSL_VERIFYPEER, c->insecure ? 0L : 1L);
    SET(e, CURLOPT_SSL_VERIFYHOST, c->insecure ? 0L : 2L);
    if (ca.len > 0)
        SET(e, CURLOPT_CAINFO_BLOB, &ca);
    if (!c->system_roots)
        SET(e, CURLOPT_CAPATH, NULL); /* the folder of system roots would be trusted beside the blob */
    if (cert.len > 0) {
        SET(e, CURLOPT_SSLCERT_BLOB, &cert);
        SET(e, CURLOPT_SSLKEY_BLOB, &key);
    }
}

static bool has_header(const char *const *headers, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; headers && headers[i]; i++)
        if (strncasecmp(headers[i], name, n) == 0 && headers[i][n] == ':')
            return true;
    return false;
}

static void add_header(struct http_call *call, const char *line) {
    struct curl_slist *list = curl_slist_append(call->headers, line);
    if (!list)
        panic("out of memory for HTTP headers");
    call->headers = list;
}

static void set_request(struct http_call *call, CURL *e, const struct http_call_options *o) {
    for (size_t i = 0; o->headers && o->headers[i]; i++)
        add_header(call, o->headers[i]);
    if (str_eq(o->method, "HEAD")) {
        SET(e, CURLOPT_NOBODY, 1L);
    } else if (o->body.len > 0 || str_eq(o->method, "POST")) {
        SET(e, CURLOPT_POST, 1L);
        SET(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
        if (o->body.len == 0 || str_eq(o->method, "GET")) {
            SET(e, CURLOPT_POSTFIELDS, call->body.ptr ? call->body.ptr : "");
        } else {
            SET(e, CURLOPT_READFUNCTION, read_callback);
            SET(e, CURLOPT_READDATA, (void *)call);
            SET(e, CURLOPT_SEEKFUNCTION, seek_callback);
        }
        if (!has_header(o->headers, "Content-Type"))
            add_header(call, "Content-Type:"); /* curl would say that it is a form */
        add_header(call, "Expect:");
    }
    if (!str_eq(o->method, "HEAD"))
        SET(e, CURLOPT_CUSTOMREQUEST, o->method);
    SET(e, CURLOPT_HTTPHEADER, call->headers);
    SET(e, CURLOPT_USERAGENT, call->client->user_agent);
    SET(e, CURLOPT_URL, call->url);
    if (o->unix_socket) {
        SET(e, CURLOPT_UNIX_SOCKET_PATH, o->unix_socket);
        SET(e, CURLOPT_PROXY, "");
    }
}

static void set_behaviour(struct http_call *call, CURL *e, const struct http_call_options *o) {
    int timeout_ms = o->timeout_ms ? o->timeout_ms : DEFAULT_TIMEOUT_MS;
    SET(e, CURLOPT_PRIVATE, (void *)call);
    SET(e, CURLOPT_ERRORBUFFER, call->curl_error);
    SET(e, CURLOPT_NOSIGNAL, 1L);
    SET(e, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(e, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    SET(e, CURLOPT_TIMEOUT_MS, timeout_ms > 0 ? (long)timeout_ms : 0L);
    SET(e, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(e, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    SET(e, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
    SET(e, CURLOPT_SOCKOPTFUNCTION, tune_socket);
    SET(e, CURLOPT_HEADERFUNCTION, header_callback);
    SET(e, CURLOPT_HEADERDATA, (void *)call);
    SET(e, CURLOPT_WRITEFUNCTION, write_callback);
    SET(e, CURLOPT_WRITEDATA, (void *)call);
}

struct http_call *http_call(struct http_client *c, const struct http_call_options *o, struct error *err) {
    if (check_options(o, err) < 0)
        return NULL;
    struct http_call *call = NEW(struct http_call);
    call->client = c;
    call->url = xstrdup(o->url);
    call->max_body = o->max_body ? o->max_body : DEFAULT_MAX_BODY;
    call->answer = BUF_INIT(call->max_body);
    call->body = BUF_INIT(o->body.len);
    buf_add_bytes(&call->body, o->body);
    call->data = o->data;
    call->started = o->started;
    call->done = o->done;
    call->arg = o->arg;
    call->idle_timeout_ms = o->idle_timeout_ms;
    call->last_byte = clock_mono_ms();
    call->easy = curl_easy_init();
    if (!call->easy)
        panic("out of memory for an HTTP request");
    set_behaviour(call, call->easy, o);
    set_tls(call, call->easy);
    set_request(call, call->easy, o);
    if (o->idle_timeout_ms > 0) {
        call->idle = timer_new(c->loop, idle_event, call);
        timer_set(call->idle, o->idle_timeout_ms);
    }
    DL_APPEND(c->calls, call);
    timer_set(c->settle, 0);
    return call;
}

void http_call_cancel(struct http_call *call) {
    if (!call || call->cancelled)
        return;
    call->cancelled = true;
    if (call->idle)
        timer_stop(call->idle);
    timer_set(call->client->settle, 0);
}
