/* Connects many nodes to a cloudcore and tells what they cost it: admissions per second, and resident memory per idle
 * node. Certificates are signed here, with the CA from Secret kubeedge/casecret:
 *
 *     ws_nodes --ca ca.crt --ca-key ca.key --server 127.0.0.1:10000 --pid <pid of cloudcore> --nodes 5000 [--hold
 * SECONDS]
 *
 * CA files may be PEM or the DER of the Secret. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/loop.h"
#include "net/tls.h"
#include "net/websocket.h"
#include "wire/message.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#define AT_ONCE 64 /* handshakes under way */

struct bench;
struct bench_node {
    struct bench *bench;
    struct ws *ws;
    bool in;
};
struct bench {
    struct loop *loop;
    struct timer *timer, *heartbeat;
    const char *server;
    int64_t nodes, hold_s, pid;
    struct buf ca, ca_key, key;
    struct bench_node *all;
    int64_t started, connected, under_way, failed;
    int64_t rss_before, begin_ms;
};

static int64_t rss_kib(int64_t pid) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(1 << 16);
    char path[64];
    int64_t kib = -1;
    (void)snprintf(path, sizeof path, "/proc/%lld/status", (long long)pid);
    if (file_read(path, &text, NULL) < 0)
        return -1;
    const char *at = strstr(text.ptr, "VmRSS:");
    if (at && sscanf(at, "VmRSS: %ld", &kib) != 1)
        kib = -1;
    return kib;
}

static void start_more(struct bench *b);

static void send_message(struct bench_node *n, const char *operation) {
    const struct message_fields f = {.source = MODULE_WEBSOCKET,
                                     .group = GROUP_RESOURCE,
                                     .operation = operation,
                                     .resource = "node",
                                     .content_string = "ping"};
    struct message *m = message_new(&f);
    _cleanup_(buf_free) struct buf text = BUF_INIT(4096);
    (void)message_encode(m, &text);
    message_free(m);
    if (ws_send(n->ws, buf_bytes(&text), false, NULL) < 0)
        n->bench->failed++;
}

static void on_open(void *arg) {
    send_message(arg, "ping"); /* answered once the session is in */
}

static void report(struct bench *b) {
    double seconds = (double)(clock_mono_ms() - b->begin_ms) / 1000;
    int64_t rss = rss_kib(b->pid);
    (void)printf("nodes %lld  failed %lld  admissions/s %.0f  rss before %lld KiB  after %lld KiB  per node %.1f KiB\n",
                 (long long)b->connected, (long long)b->failed, (double)b->connected / seconds,
                 (long long)b->rss_before, (long long)rss,
                 (double)(rss - b->rss_before) / (double)(b->connected ? b->connected : 1));
    (void)fflush(stdout);
}

static void finished_one(struct bench *b) {
    b->under_way--;
    if (b->connected + b->failed == b->nodes) {
        report(b);
        timer_set(b->timer, b->hold_s * 1000);
    } else {
        start_more(b);
    }
}

static void on_message(void *arg, struct bytes payload, bool binary) {
    struct bench_node *n = arg;
    if (n->in)
        return;
    n->in = true;
    n->bench->connected++;
    finished_one(n->bench);
}

static void on_closed(void *arg, unsigned code, const struct error *why) {
    struct bench_node *n = arg;
    if (n->bench->failed < 3)
        (void)fprintf(stderr, "closed: %u %s\n", code, error_text(why));
    n->bench->failed++;
    ws_free(TAKE(n->ws));
    if (!n->in)
        finished_one(n->bench);
}

static const struct ws_handlers handlers = {.open = on_open, .message = on_message, .closed = on_closed};

static void start_one(struct bench *b, int64_t i) {
    struct x509_subject s = {.organization = "system:nodes"};
    struct bench_node *n = &b->all[i];
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf cert = BUF_INIT(1 << 16);
    char url[256], header[128];
    (void)snprintf(s.common_name, sizeof s.common_name, "system:node:bench-%lld", (long long)i);
    (void)snprintf(url, sizeof url, "wss://%s/bench/bench-%lld/events", b->server, (long long)i);
    (void)snprintf(header, sizeof header, "node_id: bench-%lld", (long long)i);
    const struct x509_sign sign = {.ca_cert_pem = buf_bytes(&b->ca),
                                   .ca_key_pem = buf_bytes(&b->ca_key),
                                   .lifetime_s = 86400,
                                   .client_auth = true};
    const char *headers[] = {header, "project_id: bench", "ConnectionUse: msg", NULL};
    const struct ws_options o = {.handlers = &handlers, .arg = n, .max_message = MESSAGE_MAX};
    n->bench = b;
    b->under_way++;
    struct tls_ctx *tls = NULL;
    if (x509_sign_key(&sign, buf_bytes(&b->key), &s, &cert, &err) == 0) {
        const struct tls_client_options to = {
            .ca_pem = buf_bytes(&b->ca), .cert_pem = buf_bytes(&cert), .key_pem = buf_bytes(&b->key)};
        tls = tls_client_ctx(&to, &err);
    }
    if (tls)
        n->ws = ws_connect(b->loop, url, tls, headers, 60000, &o, &err);
    if (tls)
        tls_ctx_free(tls);
    if (!n->ws) {
        (void)fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
}

static void start_more(struct bench *b) {
    while (b->under_way < AT_ONCE && b->started < b->nodes)
        start_one(b, b->started++);
}

static void on_heartbeat(void *arg) {
    struct bench *b = arg;
    for (int64_t i = 0; i < b->started; i++)
        if (b->all[i].ws && b->all[i].in)
            send_message(&b->all[i], OP_KEEPALIVE);
}

static void on_timer(void *arg) {
    struct bench *b = arg;
    report(b);
    loop_stop(b->loop);
}

/* PEM as it is; DER turned into PEM. */
static int read_pem(const char *path, int (*from_der)(struct bytes, struct buf *, struct error *), struct buf *out,
                    struct error *err) {
    buf_init(out, 1 << 16);
    if (!path)
        return error_set(err, ERR_INVALID, "--ca and --ca-key are needed");
    if (file_read(path, out, err) < 0)
        return -1;
    if (bytes_starts_with(buf_bytes(out), "-----"))
        return 0;
    _cleanup_(buf_free) struct buf der = *out;
    buf_init(out, 1 << 16);
    return from_der(buf_bytes(&der), out, err);
}

static int64_t number(const char *text) {
    int64_t n;
    if (parse_i64(bytes_str(text), 0, 1000000000, &n) < 0) {
        (void)fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv) {
    static const struct option flags[] = {{"ca", 1, NULL, 'c'},  {"ca-key", 1, NULL, 'k'}, {"server", 1, NULL, 's'},
                                          {"pid", 1, NULL, 'p'}, {"nodes", 1, NULL, 'n'},  {"hold", 1, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct bench b = {.server = "127.0.0.1:10000", .nodes = 1000, .hold_s = 5};
    struct error err = ERROR_INIT;
    const char *ca = NULL, *ca_key = NULL;
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        switch (flag) {
        case 'c':
            ca = optarg;
            break;
        case 'k':
            ca_key = optarg;
            break;
        case 's':
            b.server = optarg;
            break;
        case 'p':
            b.pid = number(optarg);
            break;
        case 'n':
            b.nodes = number(optarg);
            break;
        case 'h':
            b.hold_s = number(optarg);
            break;
        default:
            return 2;
        }
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    buf_init(&b.key, 1 << 16);
    if (read_pem(ca, x509_cert_der_to_pem, &b.ca, &err) < 0 ||
        read_pem(ca_key, x509_key_der_to_pem, &b.ca_key, &err) < 0 || x509_new_key(&b.key, &err) < 0) {
        (void)fprintf(stderr, "%s\n", error_text(&err));
        return 1;
    }
    b.loop = loop_new();
    b.timer = timer_new(b.loop, on_timer, &b);
    b.heartbeat = timer_new(b.loop, on_heartbeat, &b);
    timer_every(b.heartbeat, 10000);
    b.all = xcalloc((size_t)b.nodes, sizeof *b.all);
    b.rss_before = rss_kib(b.pid);
    b.begin_ms = clock_mono_ms();
    start_more(&b);
    loop_run(b.loop);
    return b.failed ? 1 : 0;
}
