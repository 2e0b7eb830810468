#define LOG_COMPONENT "edgecore"

#include "edge/monitor.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/edged/stats.h"
#include "net/http_server.h"
#include "net/metrics.h"

#define METRICS_MAX (1u << 20)
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define MAX_CONNECTIONS 16
#define IDLE_MS 30000
#define RETRY_MS 10000

struct monitor {
    struct loop *loop;
    const struct edged_config *config;
    struct stats *stats;
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
        http_respond(r, 200, METRICS_TYPE, buf_bytes(&out));
}

/* ---- figures of use: measured, then answered ---- */

struct measuring {
    struct http_request *request;
    struct stats_request *asked;
    const char *content_type;
};

static void on_measured(void *arg, struct bytes text) {
    struct measuring *w = arg;
    http_on_close(w->request, NULL, NULL);
    http_respond(w->request, 200, w->content_type, text);
    free(w);
}

static void on_asker_gone(void *arg) {
    struct measuring *w = arg;
    stats_cancel(w->asked);
    free(w);
}

static void ask_stats(struct monitor *m, struct http_request *r, enum stats_form form, const char *content_type) {
    if (!m->stats) {
        http_respondf(r, 404, "this node runs no pods: modules.edged is not enabled\n");
        return;
    }
    struct measuring *w = NEW(struct measuring);
    *w = (struct measuring){.request = r, .content_type = content_type};
    w->asked = stats_ask(m->stats, form, on_measured, w);
    http_on_close(r, on_asker_gone, w);
}

static void get_summary(void *arg, struct http_request *r) {
    _cleanup_(buf_free) struct buf only = BUF_INIT(16);
    bool cpu_only = query_get(http_query(r), "only_cpu_and_memory", &only) && bytes_eq_str(buf_bytes(&only), "true");
    ask_stats(arg, r, cpu_only ? STATS_SUMMARY_CPU_ONLY : STATS_SUMMARY, "application/json");
}

static void get_resource(void *arg, struct http_request *r) {
    ask_stats(arg, r, STATS_RESOURCE, METRICS_TYPE);
}

#define GET (1u << HTTP_M_GET | 1u << HTTP_M_HEAD)

static const struct http_route ROUTES[] = {
    {GET, "/metrics", HTTP_AUTH_NONE, 0, get_metrics},
    {GET, "/healthz", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/healthz/ping", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/healthz/syncloop", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/readyz", HTTP_AUTH_NONE, 0, get_readyz},
    {GET, "/stats/summary", HTTP_AUTH_NONE, 0, get_summary},
    {GET, "/metrics/resource", HTTP_AUTH_NONE, 0, get_resource},
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

struct monitor *monitor_new(struct loop *l, const struct edged_config *c, struct stats *stats, monitor_ready *ready,
                            void *arg) {
    struct monitor *m = NEW(struct monitor);
    m->loop = l;
    m->config = c;
    m->stats = stats;
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
