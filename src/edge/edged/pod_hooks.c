/* What lifecycle hooks and probes do: exec, httpGet, tcpSocket, grpc, sleep. */
#include "base/clock.h"
#include "edge/edged/pod_worker.h"
#include "health.pb-c.h"
#include "net/stream.h"

#define HEADERS_MAX 64
#define URL_MAX 65536

struct hook {
    struct worker_container *c;
    hook_done *done;
    void *arg;
    struct timer *timer;
    struct http_call *http;
    struct stream *tcp;
    struct grpc_channel *grpc;
    bool cancelled; /* an exec cannot be called back: its answer is ignored */
    struct error error;
};

static void hook_free(struct hook *h) {
    timer_free(h->timer);
    stream_free(h->tcp);
    if (h->grpc)
        grpc_channel_free(h->grpc);
    free(h);
}

static void finish(struct hook *h, const struct error *err) {
    struct worker_container *c = h->c;
    hook_done *done = h->done;
    void *arg = h->arg;
    struct error copy = err ? *err : (struct error)ERROR_INIT;
    bool failed = err != NULL;
    hook_free(h);
    done(c, failed ? &copy : NULL, arg);
}

static void on_exec(void *arg, int status, const void *reply, const struct error *err) {
    struct hook *h = arg;
    const Cri__ExecSyncResponse *r = reply;
    struct pod_worker *w = h->c->worker;
    if (h->cancelled) {
        hook_free(h);
        worker_op_end(w);
        return;
    }
    struct error failed = ERROR_INIT;
    if (!r)
        error_set(&failed, err ? err->code : ERR_INTERNAL, "%s", error_text(err));
    else if (r->exit_code != 0)
        error_set(&failed, ERR_INTERNAL, "command exited with %d: %.*s", (int)r->exit_code,
                  (int)(r->stderr.len > 200 ? 200 : r->stderr.len), (const char *)r->stderr.data);
    finish(h, failed.code ? &failed : NULL);
    worker_op_end(w);
}

static void run_exec(struct hook *h, yyjson_val *exec, const char *id, int64_t timeout_ms) {
    Cri__ExecSyncRequest r = CRI__EXEC_SYNC_REQUEST__INIT;
    size_t i, max;
    yyjson_val *word;
    yyjson_arr_foreach (yyjson_obj_get(exec, "command"), i, max, word)
        cri_add_string(&r.cmd, &r.n_cmd, str_or(yyjson_get_str(word), ""));
    _cleanup_(free_p) char *copy = xstrdup(id);
    r.container_id = copy;
    r.timeout = (timeout_ms + 999) / 1000;
    worker_op_begin(h->c->worker);
    cri_call(h->c->worker->pods->cri, CRI_EXEC_SYNC, &r, (int)timeout_ms + 5000, on_exec, h);
    for (i = 0; i < r.n_cmd; i++)
        free(r.cmd[i]);
    free(r.cmd);
}

static void on_http(void *arg, const struct http_result *r) {
    struct hook *h = arg;
    struct error failed = ERROR_INIT;
    h->http = NULL;
    if (r->status == 0)
        failed = r->error;
    else if (r->status >= 400)
        error_set(&failed, ERR_INTERNAL, "HTTP status %d", r->status);
    finish(h, failed.code ? &failed : NULL);
}

static int64_t port_number(yyjson_val *container, yyjson_val *port) {
    if (yyjson_is_int(port))
        return yyjson_get_sint(port);
    size_t i, max;
    yyjson_val *p;
    yyjson_arr_foreach (yyjson_obj_get(container, "ports"), i, max, p) {
        if (str_eq(json_str(p, "name"), yyjson_get_str(port)))
            return json_int_or(yyjson_obj_get(p, "containerPort"), 0);
    }
    return 0;
}

static const char *host_of(struct hook *h, yyjson_val *action) {
    const struct strlist *ips = worker_ips(h->c->worker);
    return str_or(json_str(action, "host"), ips->count ? ips->items[0] : "127.0.0.1");
}

static void on_tcp_ready(void *arg) {
    finish(arg, NULL);
}

static size_t on_tcp_data(void *arg, struct bytes in) {
    return in.len;
}

static void on_tcp_closed(void *arg, const struct error *why) {
    finish(arg, why);
}

static int run_tcp(struct hook *h, yyjson_val *action, int64_t timeout_ms, struct error *err) {
    static const struct stream_handlers handlers = {
        .ready = on_tcp_ready, .data = on_tcp_data, .closed = on_tcp_closed};
    struct stream_options o = {.handlers = &handlers, .arg = h, .connect_timeout_ms = (int)timeout_ms};
    int64_t port = port_number(h->c->spec, yyjson_obj_get(action, "port"));
    if (port <= 0 || port > 65535)
        return error_set(err, ERR_INVALID, "tcpSocket.port is no port");
    h->tcp = stream_connect(h->c->worker->pods->loop, host_of(h, action), (uint16_t)port, NULL, NULL, &o, err);
    return h->tcp ? 0 : -1;
}

/* "Name: value" lines; freed with strlist_free. Names and values with line breaks are left out. */
static void add_headers(yyjson_val *get, struct strlist *out) {
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(get, "httpHeaders"), i, max, v) {
        const char *name = json_str(v, "name"), *value = str_or(json_str(v, "value"), "");
        if (out->count < HEADERS_MAX && !str_empty(name) && !strpbrk(name, "\r\n:") && !strpbrk(value, "\r\n"))
            strlist_add_take(out, xasprintf("%s: %s", name, value));
    }
}

/* A pod's own certificate says nothing that its address does not: as everywhere, HTTPS here asks whether somebody
 * answers, not who. */
static struct http_client *client_for(struct pods *ps, bool https, struct error *err) {
    struct http_client **client = https ? &ps->https : &ps->http;
    struct http_client_options o = {.user_agent = "kube-lifecycle", .tls = {.insecure_bootstrap = https}};
    if (!*client)
        *client = http_client_new(ps->loop, &o, err);
    return *client;
}

static bool is_host(const char *host) {
    for (const char *s = host; *s; s++)
        if ((*s < '0' || *s > '9') && ((*s | 32) < 'a' || (*s | 32) > 'z') && !strchr(".-_:%", *s))
            return false;
    return *host != '\0';
}

char *hook_url(const char *scheme, const char *host, int64_t port, const char *path) {
    if (!is_host(host) || port <= 0 || port > 65535)
        return NULL;
    bool v6 = strchr(host, ':') != NULL;
    struct buf url = BUF_INIT(URL_MAX);
    buf_addf(&url, v6 ? "%s://[%s]:%lld%s" : "%s://%s:%lld%s", scheme, host, (long long)port,
             path[0] == '/' ? "" : "/");
    for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
        if (*s <= ' ' || *s >= 0x7f)
            buf_addf(&url, "%%%02X", *s);
        else
            buf_add_char(&url, (char)*s);
    }
    if (url.overflowed)
        buf_free(&url);
    return url.ptr;
}

static int run_http(struct hook *h, yyjson_val *get, int64_t timeout_ms, struct error *err) {
    bool https = str_eq(json_str(get, "scheme"), "HTTPS");
    struct http_client *client = client_for(h->c->worker->pods, https, err);
    if (!client)
        return -1;
    _cleanup_(free_p) char *url =
        hook_url(https ? "https" : "http", host_of(h, get), port_number(h->c->spec, yyjson_obj_get(get, "port")),
                 str_or(json_str(get, "path"), "/"));
    if (!url)
        return error_set(err, ERR_INVALID, "httpGet: host, port and path give no URL");
    struct strlist headers = {0};
    const char *list[HEADERS_MAX + 1] = {0};
    add_headers(get, &headers);
    for (size_t i = 0; i < headers.count; i++)
        list[i] = headers.items[i];
    struct http_call_options o = {.method = "GET",
                                  .url = url,
                                  .headers = list,
                                  .max_body = 65536,
                                  .timeout_ms = (int)timeout_ms,
                                  .done = on_http,
                                  .arg = h};
    h->http = http_call(client, &o, err);
    strlist_free(&headers);
    return h->http ? 0 : -1;
}

static void on_health(void *arg, int status, const ProtobufCMessage *reply, const struct error *err) {
    struct hook *h = arg;
    const GrpcHealth__HealthCheckResponse *r = (const GrpcHealth__HealthCheckResponse *)reply;
    struct error failed = ERROR_INIT;
    if (!r)
        error_set(&failed, err->code, "%s", error_text(err));
    else if (r->status != GRPC_HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        error_set(&failed, ERR_INTERNAL, "service unhealthy (responded with %d, SERVING is 1)", (int)r->status);
    finish(h, failed.code ? &failed : NULL);
}

static int run_grpc(struct hook *h, yyjson_val *grpc, int64_t timeout_ms, struct error *err) {
    const char *host = host_of(h, NULL);
    int64_t port = json_int_or(yyjson_obj_get(grpc, "port"), 0);
    if (port <= 0 || port > 65535)
        return error_set(err, ERR_INVALID, "grpc.port is no port");
    bool v6 = strchr(host, ':') != NULL;
    _cleanup_(free_p) char *target = xasprintf("%s%s%s:%lld", v6 ? "[" : "", host, v6 ? "]" : "", (long long)port);
    h->grpc = grpc_channel_new(h->c->worker->pods->loop, target, err);
    if (!h->grpc)
        return -1;
    _cleanup_(free_p) char *service = xstrdup(str_or(json_str(grpc, "service"), ""));
    GrpcHealth__HealthCheckRequest q = GRPC_HEALTH__HEALTH_CHECK_REQUEST__INIT;
    q.service = service;
    (void)grpc_call(h->grpc,
                    &(struct grpc_call_options){.method = "/grpc.health.v1.Health/Check",
                                                .request = &q.base,
                                                .response_type = &grpc_health__health_check_response__descriptor,
                                                .timeout_ms = (int)timeout_ms,
                                                .max_message = 65536,
                                                .done = on_health,
                                                .arg = h});
    return 0;
}

static void on_timer(void *arg) {
    struct hook *h = arg;
    finish(h, h->error.code ? &h->error : NULL);
}

struct hook *hook_run(struct worker_container *c, yyjson_val *handler, const char *container_id, int64_t timeout_ms,
                      hook_done *done, void *arg) {
    struct hook *h = NEW(struct hook);
    h->c = c;
    h->done = done;
    h->arg = arg;
    h->timer = timer_new(c->worker->pods->loop, on_timer, h);
    if (timeout_ms < 1000)
        timeout_ms = 1000;
    if (timeout_ms > 24 * 3600 * 1000)
        timeout_ms = 24 * 3600 * 1000;
    yyjson_val *exec = yyjson_obj_get(handler, "exec"), *get = yyjson_obj_get(handler, "httpGet");
    yyjson_val *tcp = yyjson_obj_get(handler, "tcpSocket"), *grpc = yyjson_obj_get(handler, "grpc");
    if (exec) {
        run_exec(h, exec, container_id, timeout_ms);
    } else if (get) {
        if (run_http(h, get, timeout_ms, &h->error) < 0)
            timer_set(h->timer, 0);
    } else if (tcp) {
        if (run_tcp(h, tcp, timeout_ms, &h->error) < 0)
            timer_set(h->timer, 0);
    } else if (grpc) {
        if (run_grpc(h, grpc, timeout_ms, &h->error) < 0)
            timer_set(h->timer, 0);
    } else {
        int64_t sleep_s = json_int_or(json_get(handler, "sleep", "seconds"), 0);
        timer_set(h->timer, sleep_s < timeout_ms / 1000 ? sleep_s * 1000 : timeout_ms);
    }
    return h;
}

void hook_cancel(struct hook *h) {
    if (!h)
        return;
    if (h->http) {
        http_call_cancel(h->http);
        hook_free(h);
    } else if (h->tcp || h->grpc || timer_pending(h->timer)) {
        hook_free(h);
    } else {
        h->cancelled = true;
    }
}
