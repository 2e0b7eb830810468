/* cloudcore: the cloud side. Reads its configuration, then starts the components of the table below in order; on
 * SIGTERM or SIGINT stops them in reverse. */
#define LOG_COMPONENT "cloudcore"
#include "apiserver/apiserver.h"
#include "apiserver/backup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cloud/cloudhub/cloudhub.h"
#include "cloud/cloudhub/https.h"
#include "cloud/cloudstream/cloudstream.h"
#include "cloud/config.h"
#include "cloud/crds.h"
#include "cloud/devicecontroller/devicecontroller.h"
#include "cloud/edgecontroller/edgecontroller.h"
#include "cloud/options.h"
#include "cloud/sync_call.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

struct cloudcore {
    struct cloud_options options;
    struct cloud_config config;
    struct loop *loop; /* the control thread: this one */
    struct apiserver *apiserver;
    struct kube_config kube_config;
    struct kube_client *kube;
    struct hub_pki pki;
    struct token_keeper *token_keeper;
    struct hub_https *https;
    struct cloudstream *stream;
    struct edgecontroller *edgecontroller;
    struct devicecontroller *devicecontroller; /* NULL: not enabled */
    struct cloudhub *hub;
    struct error failed; /* why the loop was left, if not by a signal */
    bool stopped;        /* by a signal */
};

/* ---- the embedded API server ---- */

static int start_apiserver(struct cloudcore *c, struct error *err) {
    if (!c->options.standalone)
        return 0;
    _cleanup_(free_p) const char **sans = hub_pki_sans(&c->config);
    const struct apiserver_options o = {.data_dir = c->options.data_dir,
                                        .address = c->options.apiserver_address,
                                        .port = c->options.apiserver_port,
                                        .extra_sans = sans,
                                        .admin_kubeconfig = c->options.admin_kubeconfig,
                                        .node_grace_s = c->options.node_grace_s,
                                        .node_port =
                                            c->config.stream.enable ? (uint16_t)c->config.stream.stream_port : 0};
    return apiserver_start(&c->apiserver, &o, err);
}

static void stop_apiserver(struct cloudcore *c) {
    apiserver_stop(c->apiserver);
}

/* ---- the client of whichever API server it is ---- */

static int load_kube_config(struct cloudcore *c, struct error *err) {
    const char *path = c->apiserver ? apiserver_component_kubeconfig(c->apiserver) : c->config.kube_api.kube_config;
    if (!str_empty(path))
        return kube_config_load(path, &c->kube_config, err);
    if (kube_config_in_cluster(&c->kube_config, err) < 0)
        return error_wrap(err, "no API server: set kubeAPIConfig.kubeConfig, or run with --standalone");
    return 0;
}

static int start_kube(struct cloudcore *c, struct error *err) {
    if (load_kube_config(c, err) < 0)
        return -1;
    c->kube = kube_client_new(c->loop, &c->kube_config, "cloudcore/" SELVAGE_VERSION, err);
    if (!c->kube)
        return -1;
    return c->apiserver ? crds_install(c->loop, c->kube, err) : 0;
}

static void stop_kube(struct cloudcore *c) {
    if (c->kube)
        kube_client_free(c->kube);
    kube_config_free(&c->kube_config);
}

/* ---- CA, certificate, token ---- */

static bool worth_waiting(const struct error *e) {
    return e->code == ERR_UNAVAILABLE || e->code == ERR_TIMEOUT || e->code == ERR_CONFLICT;
}

/* The embedded API server takes whoever has a certificate of its CA for who it says: the certificates that CloudHub
 * hands out for a token must be none. Asked before the CA of the files goes into the Secret, where it would stay. */
static int check_other_ca(const struct cloudcore *c, struct error *err) {
    const char *file = c->config.hub.ca_key_file;
    _cleanup_(buf_free_secret) struct buf key = BUF_INIT(256 << 10);
    if (!c->apiserver || str_empty(file) || file_read(file, &key, NULL) < 0 ||
        x509_check_pair(buf_bytes(&c->kube_config.ca_pem), buf_bytes(&key), NULL) < 0)
        return 0;
    return error_set(err, ERR_INVALID,
                     "%s is the key of the API server's CA: the edges need a CA of their own. Name other files in "
                     "modules.cloudHub.tlsCAFile and tlsCAKeyFile",
                     file);
}

static int start_pki(struct cloudcore *c, struct error *err) {
    struct backoff backoff = BACKOFF(500, 15000);
    struct log_once waiting = {0};
    struct error why = ERROR_INIT;
    if (check_other_ca(c, err) < 0)
        return -1;
    while (hub_pki_load(&c->pki, c->loop, c->kube, &c->config, &why) < 0) {
        if (!worth_waiting(&why) || (why.code == ERR_CONFLICT && access(c->config.hub.ca_file, F_OK) == 0))
            return error_set(err, why.code, "%s", error_text(&why));
        log_once_failed(&waiting, LOG_COMPONENT, "waiting for the API server: %s", error_text(&why));
        if (sync_wait(c->loop, backoff_next_ms(&backoff), err) < 0)
            return -1;
    }
    log_once_recovered(&waiting, LOG_COMPONENT, "the API server answers");
    c->token_keeper = token_keeper_start(c->loop, c->kube, &c->pki, &c->config);
    return 0;
}

static void stop_pki(struct cloudcore *c) {
    token_keeper_stop(c->token_keeper);
    hub_pki_free(&c->pki);
}

/* ---- EdgeController and CloudHub ---- */

static bool is_ready(void *arg) {
    const struct cloudcore *c = arg;
    return c->hub || (!c->config.hub.websocket_enable && edgecontroller_synced(c->edgecontroller));
}

static int start_https(struct cloudcore *c, struct error *err) {
    const struct hub_https_options o = {
        .loop = c->loop, .config = &c->config, .pki = &c->pki, .kube = c->kube, .ready = is_ready, .arg = c};
    return c->config.hub.enable ? hub_https_start(&c->https, &o, err) : 0;
}

static void stop_https(struct cloudcore *c) {
    hub_https_stop(c->https);
}

static void node_disconnected(void *arg, const char *node) {
    (void)arg;
    log_debug("node away node=%s", node);
}

static void node_connected(void *arg, const char *node) {
    struct cloudcore *c = arg;
    edgecontroller_connected(c->edgecontroller, node);
    if (c->devicecontroller)
        devicecontroller_connected(c->devicecontroller, node);
}

static void node_asks(void *arg, struct hub_request *r) {
    struct cloudcore *c = arg;
    if (c->devicecontroller && str_eq(r->message->source, MODULE_TWIN))
        devicecontroller_request(c->devicecontroller, r);
    else
        edgecontroller_request(c->edgecontroller, r);
}

/* Nodes come in once it is known what is theirs: before that, every request would have to be refused. */
static void open_hub(void *arg) {
    struct cloudcore *c = arg;
    if (!c->config.hub.enable || !c->config.hub.websocket_enable)
        return;
    const struct cloudhub_options o = {.loop = c->loop,
                                       .config = &c->config,
                                       .pki = &c->pki,
                                       .kubernetes_ca_pem = buf_bytes(&c->kube_config.ca_pem),
                                       .connected = node_connected,
                                       .disconnected = node_disconnected,
                                       .request = node_asks,
                                       .arg = c};
    if (cloudhub_start(&c->hub, &o, &c->failed) < 0) {
        loop_stop(c->loop);
        return;
    }
    edgecontroller_set_hub(c->edgecontroller, c->hub);
    if (c->devicecontroller)
        devicecontroller_set_hub(c->devicecontroller, c->hub);
    log_info("ready version=%s", SELVAGE_VERSION);
}

static int start_edgecontroller(struct cloudcore *c, struct error *err) {
    (void)err;
    const struct edgecontroller_options o = {
        .loop = c->loop, .kube = c->kube, .config = &c->config, .synced = open_hub, .arg = c};
    c->edgecontroller = edgecontroller_new(&o);
    edgecontroller_start(c->edgecontroller);
    return 0;
}

static int start_devicecontroller(struct cloudcore *c, struct error *err) {
    (void)err;
    if (!c->config.device_controller.enable)
        return 0;
    c->devicecontroller = devicecontroller_new(&(struct devicecontroller_options){.loop = c->loop, .kube = c->kube});
    devicecontroller_start(c->devicecontroller);
    return 0;
}

static void stop_devicecontroller(struct cloudcore *c) {
    devicecontroller_free(TAKE(c->devicecontroller));
}

static void stop_edgecontroller(struct cloudcore *c) {
    if (c->edgecontroller)
        edgecontroller_set_hub(c->edgecontroller, NULL);
    if (c->devicecontroller)
        devicecontroller_set_hub(c->devicecontroller, NULL);
    cloudhub_stop(c->hub);
    edgecontroller_free(c->edgecontroller);
}

/* ---- CloudStream ---- */

#define PEM_MAX (256u << 10)

/* Both files, if both can be read. */
static bool read_pair(const char *cert_file, const char *key_file, struct buf *cert, struct buf *key) {
    buf_clear(cert);
    buf_clear(key);
    return file_read(cert_file, cert, NULL) == 0 && file_read(key_file, key, NULL) == 0;
}

static int start_stream(struct cloudcore *c, struct error *err) {
    _cleanup_(buf_free) struct buf ca = BUF_INIT(PEM_MAX), cert = BUF_INIT(PEM_MAX), stream_cert = BUF_INIT(PEM_MAX);
    _cleanup_(buf_free_secret) struct buf key = BUF_INIT(PEM_MAX), stream_key = BUF_INIT(PEM_MAX);
    if (!c->config.stream.enable)
        return 0;
    struct cloudstream_options o = {.config = &c->config,
                                    .kube_config = &c->kube_config,
                                    .ca_pem = buf_bytes(&c->pki.ca_cert_pem),
                                    .server_cert_pem = buf_bytes(&c->pki.server_cert_pem),
                                    .server_key_pem = buf_bytes(&c->pki.server_key_pem),
                                    .stream_address = c->config.hub.https_address};
    if (file_read(c->config.stream.tunnel_ca_file, &ca, NULL) == 0)
        o.ca_pem = buf_bytes(&ca);
    if (read_pair(c->config.stream.tunnel_cert_file, c->config.stream.tunnel_key_file, &cert, &key)) {
        o.server_cert_pem = buf_bytes(&cert);
        o.server_key_pem = buf_bytes(&key);
    }
    o.stream_cert_pem = o.server_cert_pem;
    o.stream_key_pem = o.server_key_pem;
    if (c->apiserver) { /* it alone is to come, from this machine, and looks at the certificate */
        o.stream_address = "127.0.0.1";
        if (!read_pair(apiserver_node_cert(c->apiserver), apiserver_node_key(c->apiserver), &stream_cert, &stream_key))
            return error_set(err, ERR_IO, "read the certificate %s", apiserver_node_cert(c->apiserver));
    }
    if (c->apiserver ||
        read_pair(c->config.stream.stream_cert_file, c->config.stream.stream_key_file, &stream_cert, &stream_key)) {
        o.stream_cert_pem = buf_bytes(&stream_cert);
        o.stream_key_pem = buf_bytes(&stream_key);
    }
    return cloudstream_start(&c->stream, &o, err);
}

static void stop_stream(struct cloudcore *c) {
    cloudstream_stop(c->stream);
}

/* ---- the table ---- */

static const struct component {
    const char *name;
    int (*start)(struct cloudcore *c, struct error *err);
    void (*stop)(struct cloudcore *c);
} components[] = {
    {"apiserver", start_apiserver, stop_apiserver},
    {"kube client", start_kube, stop_kube},
    {"pki", start_pki, stop_pki},
    {"https", start_https, stop_https},
    {"cloudstream", start_stream, stop_stream},
    {"devicecontroller", start_devicecontroller, stop_devicecontroller},
    {"edgecontroller and cloudhub", start_edgecontroller, stop_edgecontroller},
};

static void on_signal(void *arg, int signo) {
    struct cloudcore *c = arg;
    log_info("stopping signal=%d", signo);
    c->stopped = true;
    loop_stop(c->loop);
}

/* Thousands of nodes are thousands of descriptors. */
static void raise_descriptor_limit(void) {
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &l);
    }
}

static int run(struct cloudcore *c) {
    struct error err = ERROR_INIT;
    size_t started = 0;
    c->loop = loop_new();
    loop_on_signal(c->loop, SIGTERM, on_signal, c);
    loop_on_signal(c->loop, SIGINT, on_signal, c);
    int rc = 0;
    while (rc == 0 && started < ARRAY_LEN(components))
        rc = components[started++].start(c, &err);
    if (rc == 0) {
        loop_run(c->loop);
        err = c->failed;
    }
    while (started > 0)
        components[--started].stop(c);
    loop_free(c->loop);
    if (c->stopped || err.code == ERR_NONE)
        return 0;
    log_error("%s", error_text(&err));
    return 1;
}

static int print_config(bool minimal) {
    struct cloud_config config = {0};
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf out = BUF_INIT(1 << 20);
    if (cloud_config_load(&config, NULL, &err) < 0 || config_print(&cloud_config_schema, &config, minimal, &out) < 0) {
        log_error("%s", error_text(&err));
        return 1;
    }
    (void)fwrite(out.ptr, 1, out.len, stdout);
    cloud_config_free(&config);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int backup_or_restore(const struct cloud_options *o) {
    bool backup = o->action == CLOUD_BACKUP;
    struct error err = ERROR_INIT;
    uint64_t revision;
    if ((backup ? apiserver_backup : apiserver_restore)(o->data_dir, o->backup, &revision, &err) < 0) {
        log_error("%s", error_text(&err));
        return 1;
    }
    log_info("%s data=%s file=%s revision=%" PRIu64, backup ? "backed up" : "restored", o->data_dir, o->backup,
             revision);
    return 0;
}

int main(int argc, char **argv) {
    struct cloudcore c = {.failed = ERROR_INIT};
    struct error err = ERROR_INIT;
    umask(077);
    if (cloud_options_parse(&c.options, argc, argv, &err) < 0) {
        log_error("%s", error_text(&err));
        return 2;
    }
    switch (c.options.action) {
    case CLOUD_PRINT_HELP:
        cloud_options_help();
        return 0;
    case CLOUD_PRINT_VERSION:
        (void)printf("cloudcore (Selvage) %s\n", SELVAGE_VERSION);
        return 0;
    case CLOUD_PRINT_DEFAULTS:
    case CLOUD_PRINT_MINIMUM:
        return print_config(c.options.action == CLOUD_PRINT_MINIMUM);
    case CLOUD_BACKUP:
    case CLOUD_RESTORE:
        return backup_or_restore(&c.options);
    case CLOUD_RUN:
        break;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    if (cloud_config_load(&c.config, c.options.config, &err) < 0) {
        log_error("%s", error_text(&err));
        return 1;
    }
    int rc = run(&c);
    cloud_config_free(&c.config);
    return rc;
}
