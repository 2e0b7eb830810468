#define LOG_COMPONENT "cloudstream"
#include "cloud/cloudstream/cloudstream.h"

#include "base/log.h"
#include "base/mem.h"
#include "cloud/cloudstream/internal.h"

#include <pthread.h>

struct running {
    struct cloudstream c;
    pthread_t thread;
    bool thread_started;
};

#define GET (1u << HTTP_M_GET)
#define POST (1u << HTTP_M_POST)

static const struct http_route tunnel_routes[] = {
    {GET, TUNNEL_PATH, HTTP_AUTH_CLIENT_CERT, 0, tunnel_accept},
    {GET, TUNNEL_PATH "/", HTTP_AUTH_CLIENT_CERT, 0, tunnel_accept},
};

static const struct http_route stream_routes[] = {
    {GET | POST, "/*", HTTP_AUTH_CLIENT_CERT, 0, request_accept},
};

static int serve_tunnels(struct cloudstream *c, struct error *err) {
    const struct tls_server_options to = {.cert_pem = c->o.server_cert_pem,
                                          .key_pem = c->o.server_key_pem,
                                          .client_ca_pem = c->o.ca_pem,
                                          .require_client_cert = true};
    struct tls_ctx *tls = tls_server_ctx(&to, err);
    if (!tls)
        return error_wrap(err, "the tunnel server's certificate");
    const struct http_server_options so = {.routes = tunnel_routes,
                                           .n_routes = ARRAY_LEN(tunnel_routes),
                                           .arg = c,
                                           .listen = {.address = c->o.config->hub.websocket_address,
                                                      .port = (uint16_t)c->o.config->stream.tunnel_port,
                                                      .tls = tls}};
    c->tunnel_server = http_server_new(c->loop, &so, err);
    tls_ctx_free(tls);
    return c->tunnel_server ? 0 : error_wrap(err, "modules.cloudStream.tunnelPort");
}

static int serve_requests(struct cloudstream *c, struct error *err) {
    const struct tls_server_options to = {.cert_pem = c->o.stream_cert_pem,
                                          .key_pem = c->o.stream_key_pem,
                                          .client_ca_pem = buf_bytes(&c->o.kube_config->ca_pem),
                                          .require_client_cert = true};
    struct tls_ctx *tls = tls_server_ctx(&to, err);
    if (!tls)
        return error_wrap(err, "the stream server's certificate");
    const struct http_server_options so = {
        .routes = stream_routes,
        .n_routes = ARRAY_LEN(stream_routes),
        .arg = c,
        .listen = {.address = c->o.stream_address, .port = (uint16_t)c->o.config->stream.stream_port, .tls = tls}};
    c->stream_server = http_server_new(c->loop, &so, err);
    tls_ctx_free(tls);
    return c->stream_server ? 0 : error_wrap(err, "modules.cloudStream.streamPort");
}

static void *run(void *arg) {
    struct running *r = arg;
    pthread_setname_np(pthread_self(), "cloudstream");
    loop_run(r->c.loop);
    return NULL;
}

static int start(struct running *r, struct error *err) {
    struct cloudstream *c = &r->c;
    c->loop = loop_new();
    c->kube = kube_client_new(c->loop, c->o.kube_config, "cloudcore/" SELVAGE_VERSION, err);
    if (!c->kube || serve_tunnels(c, err) < 0 || serve_requests(c, err) < 0)
        return -1;
    int rc = pthread_create(&r->thread, NULL, run, r);
    if (rc != 0)
        return error_set_errno(err, rc, "starting the thread of CloudStream");
    r->thread_started = true;
    return 0;
}

int cloudstream_start(struct cloudstream **out, const struct cloudstream_options *o, struct error *err) {
    struct running *r = NEW(struct running);
    r->c.o = *o;
    if (start(r, err) < 0) {
        cloudstream_stop(&r->c);
        return -1;
    }
    log_info("listening tunnel_port=%u stream_port=%u", http_server_port(r->c.tunnel_server),
             http_server_port(r->c.stream_server));
    *out = &r->c;
    return 0;
}

static void leave(void *arg) {
    struct cloudstream *c = arg;
    loop_stop(c->loop);
}

void cloudstream_stop(struct cloudstream *c) {
    if (!c)
        return;
    struct running *r = CONTAINER_OF(c, struct running, c);
    if (r->thread_started) {
        loop_post(c->loop, leave, c);
        pthread_join(r->thread, NULL);
    }
    request_drop_all(c);
    while (c->tunnels)
        tunnel_end(c->tunnels, WS_CLOSE_GOING_AWAY, "cloudcore is stopping");
    if (c->stream_server)
        http_server_free(c->stream_server);
    if (c->tunnel_server)
        http_server_free(c->tunnel_server);
    if (c->kube)
        kube_client_free(c->kube);
    loop_free(c->loop);
    free(r);
}
