/* Connects many nodes to a cloudcore and tells what they cost it: admissions per second and CPU time per admission,
 * resident memory per idle node, and the share of a core that their heartbeats take. Certificates are signed here,
 * before the clock starts, with the CA from Secret kubeedge/casecret:
 *
 *     ws_nodes --ca ca.crt --ca-key ca.key --server 127.0.0.1:10000 --pid <pid of cloudcore> --nodes 5000
 *              [--hold SECONDS] [--heartbeat SECONDS] [--leases]
 *
 * With --leases a heartbeat is not only the keepalive of the session, but also the renewal of the node's Lease, which
 * goes through EdgeController to the API server and back. CA files may be PEM or the DER of the Secret. */
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
#include <unistd.h>

#define AT_ONCE 64 /* handshakes under way */
#define TICK_MS 100

struct bench;
struct bench_node {
    struct bench *bench;
    struct ws *ws;
    struct tls_ctx *tls; /* until it connects */
    bool in;
    bool asked;     /* a lease request is on its way */
    char lease[24]; /* its resourceVersion; empty: not made yet */
};
struct bench {
    struct loop *loop;
    struct timer *end, *tick;
    const char *server;
    int64_t nodes, hold_s, heartbeat_s, pid;
    bool leases;
    struct buf ca, ca_key, key;
    struct bench_node *all;
    int64_t started, connected, under_way, failed;
    int64_t next_beat, beats, renewals, skipped;
    int64_t rss_before, begin_ms, hold_ms;
    double cpu_before, cpu_hold;
};

static int read_proc(int64_t pid, const char *what, struct buf *text) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%lld/%s", (long long)pid, what);
    return file_read(path, text, NULL);
}

static int64_t rss_kib(int64_t pid) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(1 << 16);
    long kib = -1;
    if (read_proc(pid, "status", &text) < 0)
        return -1;
    const char *at = strstr(text.ptr, "VmRSS:");
    if (at && sscanf(at, "VmRSS: %ld", &kib) != 1)
        kib = -1;
    return kib;
}

static double cpu_seconds(int64_t pid) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(1 << 16);
    unsigned long user = 0, system = 0;
    if (read_proc(pid, "stat", &text) < 0)
        return 0;
    const char *at = strrchr(text.ptr, ')');
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void die(const struct error *err) {
    (void)fprintf(stderr, "%s\n", error_text(err));
    exit(1);
}

/* ---- what a node says ---- */

static void send_message(struct bench_node *n, const struct message_fields *f) {
    struct message *m = message_new(f);
    _cleanup_(buf_free) struct buf text = BUF_INIT(4096);
    (void)message_encode(m, &text);
    message_free(m);
    if (ws_send(n->ws, buf_bytes(&text), false, NULL) < 0)
        n->bench->failed++;
}

static void send_control(struct bench_node *n, const char *operation) {
    send_message(n, &(struct message_fields){.source = MODULE_WEBSOCKET,
                                             .group = GROUP_RESOURCE,
                                             .operation = operation,
                                             .resource = "node",
                                             .content_string = "ping"});
}

static void send_lease(struct bench_node *n) {
    char resource[64], content[512], now[RFC3339_SIZE], version[64] = "";
    long long number = n - n->bench->all;
    if (n->asked) {
        n->bench->skipped++;
        return;
    }
    if (*n->lease)
        (void)snprintf(version, sizeof version, ",\"resourceVersion\":\"%s\"", n->lease);
    rfc3339_now(now);
    (void)snprintf(resource, sizeof resource, "kube-node-lease/lease/bench-%lld", number);
    int len =
        snprintf(content, sizeof content,
                 "{\"metadata\":{\"name\":\"bench-%lld\",\"namespace\":\"kube-node-lease\"%s},\"spec\":{"
                 "\"holderIdentity\":\"bench-%lld\",\"leaseDurationSeconds\":40,\"renewTime\":\"%.19s.000000Z\"}}",
                 number, version, number, now);
    n->asked = true;
    send_message(n, &(struct message_fields){.source = "edged",
                                             .group = GROUP_RESOURCE,
                                             .operation = *n->lease ? OP_UPDATE : OP_INSERT,
                                             .resource = resource,
                                             .content_text = bytes_of(content, (size_t)len)});
}

static void on_lease(struct bench_node *n, struct bytes payload) {
    struct error err = ERROR_INIT;
    _cleanup_(message_free_p) struct message *m = NULL;
    n->asked = false;
    if (message_decode(payload, &m, &err) < 0)
        die(&err);
    if (str_empty(m->resource_version)) {
        (void)fprintf(stderr, "lease refused: %.*s\n", (int)payload.len, payload.ptr);
        exit(1);
    }
    (void)snprintf(n->lease, sizeof n->lease, "%s", m->resource_version);
    n->bench->renewals++;
}

/* Each tick a share of the nodes, so that the heartbeats are as evenly spread as those of a fleet. */
static void on_tick(void *arg) {
    struct bench *b = arg;
    int64_t share = b->started * TICK_MS / (b->heartbeat_s * 1000) + 1;
    for (int64_t i = 0; i < share; i++) {
        struct bench_node *n = &b->all[b->next_beat++ % b->started];
        if (!n->ws || !n->in)
            continue;
        send_control(n, OP_KEEPALIVE);
        b->beats++;
        if (b->leases)
            send_lease(n);
    }
}

/* ---- coming in ---- */

static void start_more(struct bench *b);

static void report_admission(struct bench *b) {
    double seconds = (double)(clock_mono_ms() - b->begin_ms) / 1000, n = (double)b->connected;
    (void)printf("nodes %lld  failed %lld  admissions/s %.0f  cpu ms per admission %.2f\n", (long long)b->connected,
                 (long long)b->failed, n / seconds, 1000 * (cpu_seconds(b->pid) - b->cpu_before) / n);
    (void)fflush(stdout);
}

static void report_hold(struct bench *b) {
    double seconds = (double)(clock_mono_ms() - b->hold_ms) / 1000, n = (double)b->connected;
    int64_t rss = rss_kib(b->pid);
    (void)printf("rss before %lld KiB  after %lld KiB  per node %.1f KiB\n", (long long)b->rss_before, (long long)rss,
                 (double)(rss - b->rss_before) / n);
    (void)printf("heartbeats/s %.0f  leases/s %.0f  late %lld  failed %lld  cpu %% of a core %.1f\n",
                 (double)b->beats / seconds, (double)b->renewals / seconds, (long long)b->skipped, (long long)b->failed,
                 100 * (cpu_seconds(b->pid) - b->cpu_hold) / seconds);
    (void)fflush(stdout);
}

static void all_in(struct bench *b) {
    report_admission(b);
    b->hold_ms = clock_mono_ms();
    b->cpu_hold = cpu_seconds(b->pid);
    b->beats = b->renewals = b->skipped = 0;
    timer_set(b->end, b->hold_s * 1000);
}

static void finished_one(struct bench *b) {
    b->under_way--;
    if (b->connected + b->failed == b->nodes)
        all_in(b);
    else
        start_more(b);
}

static void on_open(void *arg) {
    send_control(arg, "ping"); /* answered once the session is in */
}

static bool has(struct bytes text, const char *part) {
    return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

/* What else a cloudcore tells a node that connects is not for us. */
static void on_message(void *arg, struct bytes payload, bool binary) {
    struct bench_node *n = arg;
    if (!n->in && has(payload, "\"content\":\"ack\"")) {
        n->in = true;
        n->bench->connected++;
        finished_one(n->bench);
    } else if (n->asked && has(payload, "/lease/")) {
        on_lease(n, payload);
    }
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

/* Certificate and TLS context of a node; made in advance, since making them costs more than the handshake. */
static void prepare_one(struct bench *b, int64_t i) {
    struct x509_subject s = {.organization = "system:nodes"};
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf cert = BUF_INIT(1 << 16);
    (void)snprintf(s.common_name, sizeof s.common_name, "system:node:bench-%lld", (long long)i);
    const struct x509_sign sign = {.ca_cert_pem = buf_bytes(&b->ca),
                                   .ca_key_pem = buf_bytes(&b->ca_key),
                                   .lifetime_s = 86400,
                                   .client_auth = true};
    if (x509_sign_key(&sign, buf_bytes(&b->key), &s, &cert, &err) < 0)
        die(&err);
    const struct tls_client_options to = {
        .ca_pem = buf_bytes(&b->ca), .cert_pem = buf_bytes(&cert), .key_pem = buf_bytes(&b->key)};
    b->all[i].bench = b;
    b->all[i].tls = tls_client_ctx(&to, &err);
    if (!b->all[i].tls)
        die(&err);
}

static void start_one(struct bench *b, int64_t i) {
    struct bench_node *n = &b->all[i];
    struct error err = ERROR_INIT;
    char url[256], header[128];
    (void)snprintf(url, sizeof url, "wss://%s/bench/bench-%lld/events", b->server, (long long)i);
    (void)snprintf(header, sizeof header, "node_id: bench-%lld", (long long)i);
    const char *headers[] = {header, "project_id: bench", "ConnectionUse: msg", NULL};
    const struct ws_options o = {.handlers = &handlers, .arg = n, .max_message = MESSAGE_MAX};
    b->under_way++;
    n->ws = ws_connect(b->loop, url, n->tls, headers, 60000, &o, &err);
    tls_ctx_free(TAKE(n->tls));
    if (!n->ws)
        die(&err);
}

static void start_more(struct bench *b) {
    while (b->under_way < AT_ONCE && b->started < b->nodes)
        start_one(b, b->started++);
}

static void on_end(void *arg) {
    struct bench *b = arg;
    report_hold(b);
    loop_stop(b->loop);
}

/* ---- the command line ---- */

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

static void parse(struct bench *b, int argc, char **argv) {
    static const struct option flags[] = {
        {"ca", 1, NULL, 'c'},        {"ca-key", 1, NULL, 'k'}, {"server", 1, NULL, 's'},
        {"pid", 1, NULL, 'p'},       {"nodes", 1, NULL, 'n'},  {"hold", 1, NULL, 'h'},
        {"heartbeat", 1, NULL, 'b'}, {"leases", 0, NULL, 'l'}, {NULL, 0, NULL, 0}};
    const char *ca = NULL, *ca_key = NULL;
    struct error err = ERROR_INIT;
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        switch (flag) {
        case 'c':
            ca = optarg;
            break;
        case 'k':
            ca_key = optarg;
            break;
        case 's':
            b->server = optarg;
            break;
        case 'p':
            b->pid = number(optarg);
            break;
        case 'n':
            b->nodes = number(optarg);
            break;
        case 'h':
            b->hold_s = number(optarg);
            break;
        case 'b':
            b->heartbeat_s = number(optarg);
            break;
        case 'l':
            b->leases = true;
            break;
        default:
            exit(2);
        }
    }
    if (b->nodes < 1 || b->heartbeat_s < 1)
        exit(2);
    if (read_pem(ca, x509_cert_der_to_pem, &b->ca, &err) < 0 ||
        read_pem(ca_key, x509_key_der_to_pem, &b->ca_key, &err) < 0)
        die(&err);
}

int main(int argc, char **argv) {
    struct bench b = {.server = "127.0.0.1:10000", .nodes = 1000, .hold_s = 30, .heartbeat_s = 15};
    struct error err = ERROR_INIT;
    struct rlimit limit;
    parse(&b, argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    buf_init(&b.key, 1 << 16);
    if (x509_new_key(&b.key, &err) < 0)
        die(&err);
    b.all = xcalloc((size_t)b.nodes, sizeof *b.all);
    for (int64_t i = 0; i < b.nodes; i++)
        prepare_one(&b, i);
    b.loop = loop_new();
    b.end = timer_new(b.loop, on_end, &b);
    b.tick = timer_new(b.loop, on_tick, &b);
    b.rss_before = rss_kib(b.pid);
    b.cpu_before = cpu_seconds(b.pid);
    b.begin_ms = clock_mono_ms();
    start_more(&b);
    timer_every(b.tick, TICK_MS);
    loop_run(b.loop);
    return b.failed ? 1 : 0;
}
