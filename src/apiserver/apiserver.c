#define LOG_COMPONENT "apiserver"
#include "apiserver/apiserver.h"

#include "apiserver/account_token.h"
#include "apiserver/auth.h"
#include "apiserver/backup.h"
#include "apiserver/bootstrap_policy.h"
#include "apiserver/connect.h"
#include "apiserver/controllers/controllers.h"
#include "apiserver/pki.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define TICK_MS 1000
#define GOODBYE_MS 300 /* for answers that are still being written when the server stops */

/* The server as its owner holds it: the loop thread's part, and what start and stop need around it. */
struct running {
    struct apiserver s;
    pthread_t thread;
    bool thread_started;
    sem_t ready; /* posted by the loop thread once the bootstrap objects are on disk */
    struct error bootstrap;
    struct resource *crds;
    struct timer *goodbye;
    struct tls_ctx *tls;
    char *admin_kubeconfig, *component_kubeconfig, *node_cert, *node_key;
    uint16_t port;
    int lock; /* of the data folder */
};

static struct running *outer(struct apiserver *s) {
    return CONTAINER_OF(s, struct running, s);
}

const struct kind *server_kind(const struct apiserver *s, const char *group, const char *version, const char *plural) {
    const struct kind *k = kinds_find(s->kinds, bytes_str(group), bytes_str(version), bytes_str(plural));
    if (!k)
        panic("apiserver: no kind %s/%s %s", group, version, plural);
    return k;
}

/* ---- what is there at the first start ---- */

static void bootstrapped(void *arg, const struct error *failed) {
    struct running *r = arg;
    if (failed)
        r->bootstrap = *failed;
    sem_post(&r->ready);
}

static void bootstrap(void *arg) {
    static const char *const namespaces[] = {"default", "kube-system", "kube-public", "kube-node-lease", "kubeedge"};
    struct running *r = arg;
    struct resource *stored = storage_resource(r->s.storage, "", "namespaces");
    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
        if (storage_latest(r->s.storage, stored, "", namespaces[i]))
            continue;
        _cleanup_(free_p) char *body = xasprintf("{\"metadata\":{\"name\":\"%s\"}}", namespaces[i]);
        struct write w = {.verb = WRITE_CREATE, .ns = "", .name = "", .body = bytes_str(body)};
        if (controller_write(&w, &r->s, "", "v1", "namespaces") < 0)
            error_set(&r->bootstrap, ERR_INTERNAL, "make the namespace %s", namespaces[i]);
    }
    if (!r->bootstrap.code)
        bootstrap_policy(&r->s);
    storage_barrier(r->s.storage, bootstrapped, r);
}

/* ---- the loop thread ---- */

static void tick(void *arg) {
    struct apiserver *s = arg;
    watch_hub_tick(s->watches);
    if (s->controllers)
        controllers_tick(s->controllers);
    storage_compact(s->storage);
}

static void on_change(void *arg, const struct change *c) {
    struct running *r = arg;
    authorizer_change(r->s.authorizer, c);
    if (c->resource == r->crds)
        crd_changed(&r->s, c->old, c->new_);
}

static void load_crd(void *arg, struct record *rec) {
    crd_changed(arg, NULL, rec);
}

static void *loop_thread(void *arg) {
    struct running *r = arg;
    pthread_setname_np(pthread_self(), "apiserver");
    loop_run(r->s.loop);
    return NULL;
}

/* ---- starting ---- */

/* Everything a client may call us. NULL-terminated; free the array. */
static const char **make_sans(const struct apiserver_options *o, const char *address, const char *host_name) {
    static const char *const always[] = {"localhost",
                                         "127.0.0.1",
                                         "::1",
                                         "kubernetes",
                                         "kubernetes.default",
                                         "kubernetes.default.svc",
                                         "kubernetes.default.svc.cluster.local"};
    size_t n = 0, extra = 0;
    while (o->extra_sans && o->extra_sans[extra])
        extra++;
    const char **sans = xcalloc(ARRAY_LEN(always) + extra + 4, sizeof(char *));
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        sans[n++] = always[i];
    for (size_t i = 0; i < extra; i++)
        sans[n++] = o->extra_sans[i];
    if (dns_subdomain_valid(bytes_str(host_name)))
        sans[n++] = host_name;
    if (strcmp(address, "0.0.0.0") != 0 && strcmp(address, "::") != 0)
        sans[n++] = address;
    if (o->advertise_address)
        sans[n++] = o->advertise_address;
    return sans;
}

static int open_pki(struct pki *pki, const struct apiserver_options *o, const char *address, struct error *err) {
    char host_name[256] = "";
    if (gethostname(host_name, sizeof(host_name) - 1) < 0)
        host_name[0] = 0;
    for (char *p = host_name; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    _cleanup_(free_p) char *dir = xasprintf("%s/pki", o->data_dir);
    const char **sans = make_sans(o, address, host_name);
    int rc = pki_open(pki, dir, sans, err);
    free(sans);
    return rc;
}

/* Half of the descriptors that the process may have: nodes and files need the others. Over it, clients wait until
 * somebody leaves. */
static size_t max_connections(void) {
    struct rlimit l;
    return getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur != RLIM_INFINITY ? (size_t)l.rlim_cur / 2 : 10000;
}

static int listen_tls(struct running *r, const struct pki *pki, const char *address, uint16_t port, struct error *err) {
    const struct tls_server_options tls = {.cert_pem = buf_bytes(&pki->server_cert),
                                           .key_pem = buf_bytes(&pki->server_key),
                                           .client_ca_pem = buf_bytes(&pki->ca_cert)};
    r->tls = tls_server_ctx(&tls, err);
    if (!r->tls)
        return -1;
    const struct http_server_options o = {
        .routes = api_routes,
        .n_routes = api_routes_count,
        .arg = &r->s,
        .listen = {.address = address, .port = port, .tls = r->tls, .max_connections = max_connections()},
        .error_page = api_error_page};
    r->s.http = http_server_new(r->s.loop, &o, err);
    if (!r->s.http)
        return -1;
    r->port = http_server_port(r->s.http);
    return 0;
}

static int write_kubeconfigs(struct running *r, const struct pki *pki, const struct apiserver_options *o,
                             const char *address, struct error *err) {
    _cleanup_(free_p) char *dir = xasprintf("%s/pki", o->data_dir);
    const char *host = o->advertise_address;
    if (!host)
        host = strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0 ? "127.0.0.1" : address;
    _cleanup_(free_p) char *url =
        xasprintf(strchr(host, ':') ? "https://[%s]:%u" : "https://%s:%u", host, (unsigned)r->port);
    const struct pki_identity admin = {"admin", "kubernetes-admin", "system:masters", r->admin_kubeconfig};
    const struct pki_identity component = {"cloudcore", "system:cloudcore", "", r->component_kubeconfig};
    if (pki_write_kubeconfig(pki, dir, &admin, url, err) < 0)
        return -1;
    return pki_write_kubeconfig(pki, dir, &component, url, err);
}

static int open_storage(struct running *r, const struct apiserver_options *o, struct error *err) {
    _cleanup_(free_p) char *path = xasprintf("%s/api.db", o->data_dir);
    int64_t begun = clock_mono_ms();
    const struct storage_options so = {.loop = r->s.loop, .path = path};
    if (storage_open(&r->s.storage, &so, err) < 0)
        return -1;
    r->crds = storage_resource(r->s.storage, "apiextensions.k8s.io", "customresourcedefinitions");
    log_info("database open file=%s revision=%" PRIu64 " ms=%" PRId64, path, storage_revision(r->s.storage),
             clock_mono_ms() - begun);
    return 0;
}

static int open_tokens(struct apiserver *s, const struct apiserver_options *o, struct error *err) {
    _cleanup_(free_p) char *dir = xasprintf("%s/pki", o->data_dir);
    return token_keeper_open(&s->tokens, dir, err);
}

static int start(struct running *r, const struct apiserver_options *o, struct error *err) {
    const char *address = str_or(o->address, "127.0.0.1");
    struct apiserver *s = &r->s;
    struct pki pki;
    if (dir_make(o->data_dir, 0700, err) < 0 || (r->lock = data_dir_lock(o->data_dir, err)) < 0 ||
        open_pki(&pki, o, address, err) < 0)
        return -1;
    int rc = -1;
    s->ca_pem = bytes_dup(buf_bytes(&pki.ca_cert));
    s->loop = loop_new();
    s->kinds = kinds_new();
    if (open_storage(r, o, err) < 0)
        goto out;
    if (open_tokens(s, o, err) < 0)
        goto out;
    s->authorizer = authorizer_new(s);
    s->watches = watch_hub_new(s);
    recordmap_each(&r->crds->objects, NULL, load_crd, s);
    storage_on_change(s->storage, on_change, r);
    if (!o->no_controllers)
        s->controllers = controllers_new(s);
    s->tick = timer_new(s->loop, tick, s);
    timer_every(s->tick, TICK_MS);
    if (o->node_port && node_door_new(&s->nodes, s->loop, &pki, o->data_dir, o->node_port, err) < 0)
        goto out;
    if (listen_tls(r, &pki, address, o->port, err) < 0 || write_kubeconfigs(r, &pki, o, address, err) < 0)
        goto out;
    loop_post(s->loop, bootstrap, r);
    if (pthread_create(&r->thread, NULL, loop_thread, r) != 0)
        panic("apiserver: cannot start the loop thread");
    r->thread_started = true;
    while (sem_wait(&r->ready) < 0)
        continue;
    rc = r->bootstrap.code ? error_set(err, r->bootstrap.code, "first objects: %s", r->bootstrap.msg) : 0;
out:
    pki_free(&pki);
    return rc;
}

int apiserver_start(struct apiserver **out, const struct apiserver_options *o, struct error *err) {
    struct running *r = NEW(struct running);
    sem_init(&r->ready, 0, 0);
    r->lock = -1;
    r->s.started_ms = clock_mono_ms();
    r->s.node_grace_s = o->node_grace_s ? o->node_grace_s : 40;
    r->s.event_ttl_s = o->event_ttl_s ? o->event_ttl_s : 3600;
    r->admin_kubeconfig =
        o->admin_kubeconfig ? xstrdup(o->admin_kubeconfig) : xasprintf("%s/admin.kubeconfig", o->data_dir);
    r->component_kubeconfig = xasprintf("%s/cloudcore.kubeconfig", o->data_dir);
    r->node_cert = xasprintf("%s/pki/" NODE_DOOR_CERT ".crt", o->data_dir);
    r->node_key = xasprintf("%s/pki/" NODE_DOOR_CERT ".key", o->data_dir);
    if (start(r, o, err) < 0) {
        apiserver_stop(&r->s);
        return error_wrap(err, "API server");
    }
    log_info("API server ready port=%u data=%s kubeconfig=%s", (unsigned)r->port, o->data_dir, r->admin_kubeconfig);
    *out = &r->s;
    return 0;
}

uint16_t apiserver_port(const struct apiserver *s) {
    return outer((struct apiserver *)s)->port;
}

const char *apiserver_component_kubeconfig(const struct apiserver *s) {
    return outer((struct apiserver *)s)->component_kubeconfig;
}

const char *apiserver_node_cert(const struct apiserver *s) {
    return outer((struct apiserver *)s)->node_cert;
}

const char *apiserver_node_key(const struct apiserver *s) {
    return outer((struct apiserver *)s)->node_key;
}

/* ---- stopping: what was submitted is committed and answered, then connections end, then the loop ---- */

static void leave_loop(void *arg) {
    struct running *r = arg;
    loop_stop(r->s.loop);
}

static void all_stored(void *arg, const struct error *failed) {
    struct running *r = arg;
    watch_hub_end_all(r->s.watches);
    http_server_stop(r->s.http, GOODBYE_MS);
    r->goodbye = timer_new(r->s.loop, leave_loop, r);
    timer_set(r->goodbye, GOODBYE_MS);
}

static void begin_stop(void *arg) {
    struct running *r = arg;
    r->s.stopping = true;
    timer_stop(r->s.tick);
    storage_barrier(r->s.storage, all_stored, r);
}

void apiserver_stop(struct apiserver *s) {
    if (!s)
        return;
    struct running *r = outer(s);
    if (r->thread_started) {
        loop_post(s->loop, begin_stop, r);
        pthread_join(r->thread, NULL);
    }
    timer_free(s->tick);
    timer_free(r->goodbye);
    node_door_free(s->nodes);
    if (s->http)
        http_server_free(s->http);
    if (s->watches)
        watch_hub_free(s->watches);
    controllers_free(s->controllers);
    authorizer_free(s->authorizer);
    token_keeper_free(s->tokens);
    free(s->ca_pem);
    storage_close(s->storage);
    if (s->kinds)
        kinds_free(s->kinds);
    buf_free(&s->openapi_v2);
    if (s->loop)
        loop_free(s->loop);
    if (r->tls)
        tls_ctx_free(r->tls);
    sem_destroy(&r->ready);
    close_fd_p(&r->lock);
    free(r->admin_kubeconfig);
    free(r->component_kubeconfig);
    free(r->node_cert);
    free(r->node_key);
    free(r);
}
