#define LOG_COMPONENT "cloudhub"
#include "cloud/cloudhub/https.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/metrics.h"
#include "net/stream.h"

#define CERT_MAX (1u << 20)

struct hub_https {
    struct hub_https_options o;
    struct http_server *api, *monitor;
    struct metric *issued, *refused;
};

static void answer_bytes(struct http_request *r, const struct buf *b) {
    http_respond(r, 200, "application/octet-stream", buf_bytes(b));
}

static void get_ca(void *arg, struct http_request *r) {
    struct hub_https *h = arg;
    answer_bytes(r, &h->o.pki->ca_cert_der);
}

/* ---- /edge.crt ---- */

static void refuse(struct hub_https *h, struct http_request *r, int status, const char *node, const char *text) {
    metric_add(h->refused, 1);
    log_warn("certificate refused: %s node=%s addr=%s", text, str_or(node, "-"), stream_peer_addr(http_stream(r)));
    if (status == 500)
        http_respondf(r, 500, "failed to sign certs for edgenode %s, err: fail to signCerts, err: %s", str_or(node, ""),
                      text);
    else
        http_respondf(r, status, "%s", text);
}

static void get_edge_cert(void *arg, struct http_request *r) {
    struct hub_https *h = arg;
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *node = bytes_dup(http_header(r, "NodeName", NULL));
    _cleanup_(buf_free) struct buf cert = BUF_INIT(CERT_MAX);
    bool verified = false, server, client;
    if (stream_peer_cert(http_stream(r), &cert, &verified, &err) < 0 && err.code != ERR_NOT_FOUND) {
        refuse(h, r, 401, node, error_text(&err));
        return;
    }
    if (edge_cert_authenticate(h->o.pki, node, buf_bytes(&cert), http_header(r, "Authorization", NULL), clock_wall_s(),
                               &err) < 0) {
        refuse(h, r, 401, node, error_text(&err));
        return;
    }
    if (!dns_subdomain_valid(bytes_str(node))) {
        refuse(h, r, 400, NULL, "header NodeName is missing or not a node name");
        return;
    }
    if (edge_csr_check(node, http_body(r), &err) < 0 ||
        edge_cert_usages(http_header(r, "ExtKeyUsages", NULL), &server, &client, &err) < 0) {
        refuse(h, r, err.code == ERR_DENIED ? 403 : 500, node, error_text(&err));
        return;
    }
    _cleanup_(buf_free) struct buf der = BUF_INIT(CERT_MAX);
    if (hub_pki_sign_edge(h->o.pki, h->o.config, node, http_body(r), server, client, &der, &err) < 0) {
        refuse(h, r, 500, node, error_text(&err));
        return;
    }
    metric_add(h->issued, 1);
    log_info("certificate issued node=%s addr=%s by=%s", node, stream_peer_addr(http_stream(r)),
             cert.len > 0 ? "certificate" : "token");
    answer_bytes(r, &der);
}

/* ---- /node/{name} ---- */

/* The request may vanish before the API server has answered. */
struct node_lookup {
    struct http_request *request; /* NULL once it is gone */
};

static void lookup_closed(void *arg) {
    struct node_lookup *l = arg;
    l->request = NULL;
}

static void on_node(void *arg, struct kube_result *k) {
    struct node_lookup *l = arg;
    struct http_request *r = l->request;
    free(l);
    if (!r)
        return;
    http_on_close(r, NULL, NULL);
    if (k->error.code == ERR_NONE)
        http_respondf(r, 200, "Node found");
    else if (k->error.code == ERR_NOT_FOUND)
        http_respondf(r, 404, "Node not found");
    else
        http_respondf(r, 500, "Failed to query node information");
}

static void get_node(void *arg, struct http_request *r) {
    struct hub_https *h = arg;
    struct bytes path = http_path(r);
    const size_t prefix = strlen("/node/");
    struct bytes name = bytes_of(path.ptr + prefix, path.len - prefix);
    if (name.len == 0) {
        http_respondf(r, 400, "nodename parameter is required");
        return;
    }
    if (!dns_subdomain_valid(name)) {
        http_respondf(r, 404, "Node not found");
        return;
    }
    struct node_lookup *l = NEW(struct node_lookup);
    l->request = r;
    http_on_close(r, lookup_closed, l);
    _cleanup_(free_p) char *node = bytes_dup(name);
    _cleanup_(free_p) char *url = kube_path("", "v1", NULL, "nodes", node, NULL);
    const struct kube_request k = {.verb = "GET", .path = url, .timeout_ms = 10000, .done = on_node, .arg = l};
    kube_call(h->o.kube, &k);
}

/* ---- health, metrics ---- */

static void get_healthz(void *arg, struct http_request *r) {
    http_respondf(r, 200, "ok");
}

static void get_readyz(void *arg, struct http_request *r) {
    struct hub_https *h = arg;
    if (h->o.ready(h->o.arg))
        http_respondf(r, 200, "ok");
    else
        http_respondf(r, 503, "not ready");
}

static void get_metrics(void *arg, struct http_request *r) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(4u << 20);
    if (metrics_write(&out) < 0)
        http_respondf(r, 500, "too many metrics");
    else
        http_respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_bytes(&out));
}

/* The texts are the original's (wire-protocol.md 4.1). */
static void error_page(void *arg, struct http_request *r, int status, const char *reason) {
    const char *text = status == 404 ? "Page Not Found" : status == 405 ? "Method Not Allowed" : reason;
    http_respondf(r, status, "%d: %s", status, text);
}

#define GET (1u << HTTP_M_GET)

const struct http_route hub_https_routes[] = {
    {GET, "/ca.crt", HTTP_AUTH_NONE, 0, get_ca},
    {GET, "/ca.crt/", HTTP_AUTH_NONE, 0, get_ca},
    {GET, "/edge.crt", HTTP_AUTH_HANDLER, CERT_MAX, get_edge_cert},
    {GET, "/edge.crt/", HTTP_AUTH_HANDLER, CERT_MAX, get_edge_cert},
    {GET, "/node/*", HTTP_AUTH_NONE, 0, get_node}, /* keadm asks before a node has any credentials */
    {GET, "/healthz", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/readyz", HTTP_AUTH_NONE, 0, get_readyz},
};
const size_t hub_https_n_routes = ARRAY_LEN(hub_https_routes);

/* On its own address, by default of this machine only. */
static const struct http_route monitor_routes[] = {
    {GET, "/metrics", HTTP_AUTH_NONE, 0, get_metrics},
    {GET, "/healthz", HTTP_AUTH_NONE, 0, get_healthz},
    {GET, "/readyz", HTTP_AUTH_NONE, 0, get_readyz},
};

static int start_api(struct hub_https *h, struct error *err) {
    const struct hub_pki *p = h->o.pki;
    const struct tls_server_options to = {.cert_pem = buf_bytes(&p->server_cert_pem),
                                          .key_pem = buf_bytes(&p->server_key_pem),
                                          .client_ca_pem = buf_bytes(&p->ca_cert_pem),
                                          .accept_unverified_client_cert = true};
    struct tls_ctx *tls = tls_server_ctx(&to, err);
    if (!tls)
        return error_wrap(err, "CloudHub's certificate");
    const struct http_server_options so = {.routes = hub_https_routes,
                                           .n_routes = hub_https_n_routes,
                                           .arg = h,
                                           .listen = {.address = h->o.config->hub.https_address,
                                                      .port = (uint16_t)h->o.config->hub.https_port,
                                                      .tls = tls},
                                           .error_page = error_page};
    h->api = http_server_new(h->o.loop, &so, err);
    tls_ctx_free(tls);
    return h->api ? 0 : error_wrap(err, "modules.cloudHub.https");
}

static int start_monitor(struct hub_https *h, struct error *err) {
    const char *address = h->o.config->monitor.bind_address;
    if (str_empty(address))
        return 0;
    const char *colon = strrchr(address, ':');
    int64_t port = 0;
    if (!colon || parse_i64(bytes_str(colon + 1), 1, 65535, &port) < 0)
        return error_set(err, ERR_INVALID, "commonConfig.monitorServer.bindAddress: \"%s\" is not <IP address>:<port>",
                         address);
    size_t len = (size_t)(colon - address);
    bool brackets = len >= 2 && address[0] == '[' && address[len - 1] == ']';
    _cleanup_(free_p) char *host = brackets ? xstrndup(address + 1, len - 2) : xstrndup(address, len);
    const struct http_server_options so = {.routes = monitor_routes,
                                           .n_routes = ARRAY_LEN(monitor_routes),
                                           .arg = h,
                                           .listen = {.address = host, .port = (uint16_t)port},
                                           .error_page = error_page};
    h->monitor = http_server_new(h->o.loop, &so, err);
    return h->monitor ? 0 : error_wrap(err, "commonConfig.monitorServer.bindAddress");
}

int hub_https_start(struct hub_https **out, const struct hub_https_options *o, struct error *err) {
    struct hub_https *h = NEW(struct hub_https);
    h->o = *o;
    h->issued = metric_get(METRIC_COUNTER, "cloudhub_certificates_issued_total", "Edge certificates signed.", NULL);
    h->refused = metric_get(METRIC_COUNTER, "cloudhub_certificates_refused_total",
                            "Requests for edge certificates refused.", NULL);
    if ((o->config->hub.https_enable && start_api(h, err) < 0) || start_monitor(h, err) < 0) {
        hub_https_stop(h);
        return -1;
    }
    *out = h;
    return 0;
}

void hub_https_stop(struct hub_https *h) {
    if (!h)
        return;
    if (h->api)
        http_server_free(h->api);
    if (h->monitor)
        http_server_free(h->monitor);
    free(h);
}
