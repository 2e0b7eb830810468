/* Memory of one idle TLS WebSocket session: a server with client certificates, as CloudHub's, and n clients in a child
 * process that connect and stay silent.
 *
 *     ws_idle [connections]      (default 2000)
 *
 * Prints the server's resident memory per connection after each has exchanged one message. */
#include "base/mem.h"
#include "base/str.h"
#include "net/metrics.h"
#include "net/websocket.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static struct tls_ctx *tls;
static struct buf ca_key = BUF_INIT(8192), ca = BUF_INIT(8192), key = BUF_INIT(8192), cert = BUF_INIT(8192);
static unsigned wanted, opened, greeted;

static void must(int rc, const struct error *err) {
    if (rc < 0)
        panic("%s", err->msg);
}

static long rss_kb(void) {
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        panic("no /proc/self/statm");
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void make_certificates(void) {
    struct error err = ERROR_INIT;
    static const char *const sans[] = {"127.0.0.1", NULL};
    must(x509_new_key(&ca_key, &err), &err);
    must(x509_new_ca("KubeEdge", buf_bytes(&ca_key), &ca, &err), &err);
    must(x509_new_key(&key, &err), &err);
    struct x509_sign sign = {
        .ca_cert_pem = buf_bytes(&ca),
        .ca_key_pem = buf_bytes(&ca_key),
        .lifetime_s = 3600,
        .server_auth = true,
        .client_auth = true,
        .sans = sans,
    };
    struct x509_subject who = {.common_name = "system:node:edge-1", .organization = "system:nodes"};
    must(x509_sign_key(&sign, buf_bytes(&key), &who, &cert, &err), &err);
}

/* ---- the server ---- */

struct session {
    struct ws *ws;
};

static void greet(void *arg, struct bytes payload, bool binary) {
    struct session *s = arg;
    must(ws_send(s->ws, payload, binary, NULL), &(struct error){.msg = "cannot answer"});
    if (++greeted == wanted)
        loop_stop(loop);
}

static void session_closed(void *arg, unsigned code, const struct error *why) {
    panic("a session ended: %s", why->msg);
}

static const struct ws_handlers session_handlers = {.message = greet, .closed = session_closed};

static void serve(void *arg, struct http_request *r) {
    struct session *s = NEW(struct session);
    struct ws_options o = {
        .handlers = &session_handlers, .arg = s, .max_message = 16 << 20, .read_timeout_ms = 60 * 1000};
    s->ws = ws_accept(r, NULL, &o);
}

static const struct http_route routes[] = {{1u << HTTP_M_GET, "/*", HTTP_AUTH_CLIENT_CERT, 0, serve}};

/* ---- the clients ---- */

static uint16_t port;
static unsigned next;

static void connect_one(void);

static void client_open(void *arg) {
    struct session *s = arg;
    must(ws_send(s->ws, BYTES_LIT("{\"header\":{\"msg_id\":\"1\"}}\n"), false, NULL), &(struct error){0});
}

static void client_message(void *arg, struct bytes payload, bool binary) {
    if (++opened < wanted)
        connect_one();
}

static const struct ws_handlers client_handlers = {
    .open = client_open, .message = client_message, .closed = session_closed};

static void connect_one(void) {
    static const char *const headers[] = {"node_id: edge-1", "project_id: x", "ConnectionUse: msg", NULL};
    struct error err = ERROR_INIT;
    char url[64];
    if (next++ >= wanted)
        return;
    snprintf(url, sizeof(url), "wss://127.0.0.1:%u/x/edge-1/events", port);
    struct session *s = NEW(struct session);
    struct ws_options o = {.handlers = &client_handlers, .arg = s, .max_message = 1 << 20};
    s->ws = ws_connect(loop, url, tls, headers, 0, &o, &err);
    must(s->ws ? 0 : -1, &err);
}

static void run_clients(void) {
    struct error err = ERROR_INIT;
    struct tls_client_options o = {.ca_pem = buf_bytes(&ca), .cert_pem = buf_bytes(&cert), .key_pem = buf_bytes(&key)};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    loop = loop_new();
    tls = tls_client_ctx(&o, &err);
    must(tls ? 0 : -1, &err);
    for (int i = 0; i < 50; i++) /* so many at a time */
        connect_one();
    loop_run(loop);
}

static void stop(void *arg) {
    loop_stop(arg);
}

int main(int argc, char **argv) {
    uint64_t n = 2000;
    if (argc > 1 && (parse_u64(bytes_str(argv[1]), 100000, &n) < 0 || n == 0))
        panic("usage: %s [connections]", argv[0]);
    wanted = (unsigned)n;
    struct error err = ERROR_INIT;
    make_certificates();
    int pipe_fds[2];
    if (pipe(pipe_fds) < 0)
        panic("pipe");
    pid_t child = fork();
    if (child == 0) {
        if (read(pipe_fds[0], &port, sizeof(port)) != sizeof(port))
            _exit(1);
        run_clients();
        _exit(0);
    }
    struct tls_server_options to = {
        .cert_pem = buf_bytes(&cert),
        .key_pem = buf_bytes(&key),
        .client_ca_pem = buf_bytes(&ca),
        .require_client_cert = true,
    };
    loop = loop_new();
    tls = tls_server_ctx(&to, &err);
    must(tls ? 0 : -1, &err);
    struct http_server_options ho = {.routes = routes, .n_routes = 1, .listen = {.address = "127.0.0.1", .tls = tls}};
    struct http_server *server = http_server_new(loop, &ho, &err);
    must(server ? 0 : -1, &err);
    long before = rss_kb();
    port = http_server_port(server);
    if (write(pipe_fds[1], &port, sizeof(port)) != sizeof(port))
        panic("write");
    loop_run(loop);
    struct timer *settle = timer_new(loop, stop, loop);
    timer_set(settle, 500);
    loop_run(loop);
    long after = rss_kb();
    printf("%u idle TLS WebSocket sessions: %ld KB before, %ld KB after, %.2f KB each\n", wanted, before, after,
           (double)(after - before) / wanted);
    malloc_trim(0);
    printf("after malloc_trim: %.2f KB each\n", (double)(rss_kb() - before) / wanted);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
