#define LOG_COMPONENT "edgecore"

#include "edge/monitor.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/http_server.h"
#include "net/metrics.h"

#define METRICS_MAX (1u << 20)
#define MAX_CONNECTIONS 16
#define IDLE_MS 30000
#define RETRY_MS 10000

struct monitor {
    struct loop *loop;
    const struct edged_config *config;
    monitor_ready *ready;
    void *arg;
    struct http_server *server;
    struct timer *retry;
    struct log_once trouble;
};

static void get_healthz(void *arg, struct http_request *r) {
    http_respondf(r, 200, "ok");
}

static void get_readyz(void *arg, struct http_request *r) {
    struct monitor *m = arg;
    const char *why = m->ready(m->arg);
    if (why)
        http_respondf(r, 503, "not ready: %s\n", why);
    else
        http_respondf(r, 200, "ok");
}

static void get_metrics(void *arg, struct http_request *r) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(METRICS_MAX);
    if (metrics_write(&out) < 0)
        http_respondf(r, 500, "too many metrics");
    else
        http_respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_bytes(&out));
}

#define GET (1u << HTTP_M_GET | 1u << HTTP_M_HEAD)

static const struct http_route ROUTES[] = {
    {GET, "/metrics", HTTP_AUTH_NONE, 0, get_metrics},      {GET, "/healthz", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/healthz/ping", HTTP_AUTH_NONE, 0, get_healthz}, {GET, "/healthz/syncloop", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/readyz", HTTP_AUTH_NONE, 0, get_readyz},
};

static void start(void *arg) {
    struct monitor *m = arg;
    struct error err = ERROR_INIT;
    struct http_server_options o = {.routes = ROUTES,
                                    .n_routes = ARRAY_LEN(ROUTES),
                                    .arg = m,
                                    .listen = {.address = m->config->read_only_address,
                                               .port = (uint16_t)m->config->read_only_port,
                                               .max_connections = MAX_CONNECTIONS},
                                    .idle_timeout_ms = IDLE_MS};
    m->server = http_server_new(m->loop, &o, &err);
    if (m->server) {
        log_once_recovered(&m->trouble, LOG_COMPONENT, "metrics and health are served port=%lld",
                           (long long)m->config->read_only_port);
        return;
    }
    log_once_failed(&m->trouble, LOG_COMPONENT,
                    "metrics and health are not served: %s; free the port, or set "
                    "modules.edged.tailoredKubeletConfig.readOnlyPort to another one (0: none); trying again",
                    error_text(&err));
    timer_set(m->retry, RETRY_MS);
}

struct monitor *monitor_new(struct loop *l, const struct edged_config *c, monitor_ready *ready, void *arg) {
    struct monitor *m = NEW(struct monitor);
    m->loop = l;
    m->config = c;
    m->ready = ready;
    m->arg = arg;
    m->retry = timer_new(l, start, m);
    start(m);
    return m;
}

void monitor_free(struct monitor *m) {
    if (!m)
        return;
    if (m->server)
        http_server_free(m->server);
    timer_free(m->retry);
    free(m);
}
