/* Load on a Kubernetes API server from one thread: keep-alive TLS connections with the kubeconfig's client certificate.
 *
 *     api_load --kubeconfig F [--clients 64] [--seconds 5 | --count N] [--size 1024] [--pipeline 1] [--kind configmaps]
 *              [--pid P] create|get|update|watch
 *
 * create, get and update are repeated by every client as fast as the answers come, each connection with `pipeline`
 * requests on their way. get and update use the objects that a create with the same --clients left. watch opens
 * `clients` watches, changes one object 20 times, and tells how long it took until all had the change.
 *
 * Prints one line of "name value" pairs, two blanks between them. Any answer but 2xx ends it. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "kube/client.h"
#include "net/stream.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPELINE_MAX 64
#define SAMPLES_MAX (4u << 20)
#define WATCH_ROUNDS 20
#define REQUEST_MAX (4u << 20)

enum job { JOB_CREATE, JOB_GET, JOB_UPDATE, JOB_WATCH };
static const char *const job_names[] = {"create", "get", "update", "watch"};

struct load;
struct client {
    struct load *load;
    struct stream *stream;
    int64_t number, asked; /* requests sent */
    int64_t sent_us[PIPELINE_MAX];
    unsigned first, waiting; /* ring of sent_us */
    bool watching;           /* its head has come */
    char last;               /* byte, of a watch */
};

struct load {
    struct loop *loop;
    struct kube_config config;
    struct tls_ctx *tls;
    char *host;
    uint16_t port;
    enum job job;
    bool pods;
    int64_t n_clients, seconds, count, size, pipeline, pid;
    struct client *clients;
    struct client writer; /* changes what the watches wait for */
    char *filler;
    int64_t started, done, begun_us, end_us;
    uint32_t *samples;
    size_t n_samples;
    int64_t heard, rounds, changed_us;
    double server_cpu;
};

static int64_t clock_mono_us(void) {
    return clock_mono_ns() / 1000;
}

static _Noreturn void die(const char *doing, const char *why) {
    (void)fprintf(stderr, "api_load: %s: %s\n", doing, why);
    exit(1);
}

/* CPU seconds that the server has used. */
static double cpu_of(int64_t pid) {
    if (pid == 0)
        return 0;
    char path[64];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%" PRId64 "/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        die("read", path);
    fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void sample(struct load *l, int64_t us) {
    if (l->n_samples < SAMPLES_MAX)
        l->samples[l->n_samples++] = (uint32_t)us;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(const struct load *l, double p) {
    return l->n_samples ? l->samples[(size_t)((double)(l->n_samples - 1) * p)] / 1000.0 : 0;
}

static void report(struct load *l) {
    struct rusage own;
    double took = (double)(l->end_us - l->begun_us) / 1e6, server = cpu_of(l->pid) - l->server_cpu;
    getrusage(RUSAGE_SELF, &own);
    qsort(l->samples, l->n_samples, sizeof(l->samples[0]), by_size);
    if (l->job == JOB_WATCH)
        printf("watches %" PRId64 "  p50 ms %.1f  max ms %.1f", l->n_clients, percentile_ms(l, 0.5),
               percentile_ms(l, 1));
    else
        printf("%ss %" PRId64 "  per second %.0f  p50 ms %.2f  p99 ms %.2f", job_names[l->job], l->done,
               (double)l->done / took, percentile_ms(l, 0.5), percentile_ms(l, 0.99));
    if (l->pid && l->done)
        printf("  server cpu us each %.1f", server * 1e6 / (double)l->done);
    printf("  own cpu s %.2f\n", (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                                     (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6);
    (void)fflush(stdout);
    loop_stop(l->loop);
}

/* ---- requests ---- */

static void object_text(struct buf *out, const struct load *l, const char *name, int64_t version) {
    if (l->pods)
        buf_addf(out,
                 "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\","
                 "\"labels\":{\"app\":\"load\",\"version\":\"%" PRId64 "\"}},\"spec\":{\"schedulerName\":\"none\","
                 "\"containers\":[{\"name\":\"main\",\"image\":\"example.org/load:1\",\"env\":[{\"name\":\"FILL\","
                 "\"value\":\"%s\"}],\"resources\":{\"requests\":{\"cpu\":\"10m\",\"memory\":\"16Mi\"}}}]}}",
                 name, version, l->filler);
    else
        buf_addf(out,
                 "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
                 "\"default\"},\"data\":{\"version\":\"%" PRId64 "\",\"fill\":\"%s\"}}",
                 name, version, l->filler);
}

static void send_request(struct client *c, const char *method, const char *name, int64_t version) {
    struct load *l = c->load;
    bool write = strcmp(method, "GET") != 0;
    _cleanup_(buf_free) struct buf body = BUF_INIT(REQUEST_MAX), head = BUF_INIT(REQUEST_MAX);
    if (write)
        object_text(&body, l, name, version);
    buf_addf(&head,
             "%s /api/v1/namespaces/default/%s%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: api_load/1\r\n"
             "Accept: application/json\r\n",
             method, l->pods ? "pods" : "configmaps", strcmp(method, "POST") == 0 ? "" : "/",
             strcmp(method, "POST") == 0 ? "" : name, l->host);
    if (write)
        buf_addf(&head, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    buf_add_str(&head, "\r\n");
    buf_add(&head, body.ptr, body.len);
    c->sent_us[(c->first + c->waiting++) % PIPELINE_MAX] = clock_mono_us();
    stream_write(c->stream, head.ptr, head.len);
}

static void send_next(struct client *c) {
    struct load *l = c->load;
    char name[64];
    if (l->end_us || (l->count && l->started >= l->count) ||
        (!l->count && clock_mono_us() > l->begun_us + l->seconds * 1000000))
        return;
    l->started++;
    int64_t i = c->asked++;
    if (l->job == JOB_CREATE)
        snprintf(name, sizeof(name), "load-%" PRId64 "-%" PRId64, c->number, i);
    else
        snprintf(name, sizeof(name), "load-%" PRId64 "-0", c->number);
    static const char *const methods[] = {"POST", "GET", "PUT"};
    send_request(c, methods[l->job], name, i + 1);
}

/* ---- answers ---- */

/* A whole answer in front of in? Gives its length, or 0. */
static size_t whole_answer(struct bytes in) {
    const char *end = memmem(in.ptr, in.len, "\r\n\r\n", 4);
    if (!end)
        return 0;
    struct bytes head = bytes_of(in.ptr, (size_t)(end - in.ptr) + 2), line;
    if (head.len < 12 || in.ptr[9] != '2')
        die("answer", xasprintf("%.*s", (int)in.len, in.ptr));
    const char *length = memmem(head.ptr, head.len, "Content-Length: ", 16);
    if (!length)
        die("answer", "no Content-Length");
    int64_t n;
    struct bytes digits = bytes_of(length + 16, (size_t)(head.ptr + head.len - length) - 16);
    if (!bytes_cut(digits, '\r', &line, NULL) || parse_i64(line, 0, REQUEST_MAX, &n) < 0)
        die("answer", "Content-Length");
    size_t whole = (size_t)(end - in.ptr) + 4 + (size_t)n;
    return in.len >= whole ? whole : 0;
}

static size_t on_answers(void *arg, struct bytes in) {
    struct client *c = arg;
    struct load *l = c->load;
    size_t used = 0;
    for (size_t n; (n = whole_answer(bytes_of(in.ptr + used, in.len - used))) > 0;) {
        used += n;
        if (c == &l->writer) { /* the watches tell the rest */
            c->waiting--;
            continue;
        }
        sample(l, clock_mono_us() - c->sent_us[c->first]);
        c->first = (c->first + 1) % PIPELINE_MAX;
        c->waiting--;
        l->done++;
        send_next(c);
        if (l->done == l->started && !l->end_us) {
            l->end_us = clock_mono_us();
            report(l);
        }
    }
    return used;
}

static void change(struct load *l) {
    l->heard = 0;
    l->changed_us = clock_mono_us();
    send_request(&l->writer, "PUT", "load-0-0", l->rounds + 2 + clock_mono_us());
}

static void change_later(void *arg) {
    change(arg);
}

static void heard(struct load *l) {
    if (++l->heard < l->n_clients)
        return;
    if (l->rounds > 0) /* the first are those that each watch began with */
        sample(l, clock_mono_us() - l->changed_us);
    else
        l->begun_us = clock_mono_us();
    l->done++;
    if (l->end_us)
        return;
    if (l->rounds++ < WATCH_ROUNDS) {
        loop_post(l->loop, change_later, l);
        return;
    }
    l->end_us = clock_mono_us();
    report(l);
}

static size_t on_events(void *arg, struct bytes in) {
    struct client *c = arg;
    size_t at = 0;
    if (!c->watching) {
        const char *end = memmem(in.ptr, in.len, "\r\n\r\n", 4);
        if (!end)
            return 0;
        at = (size_t)(end - in.ptr) + 4;
        c->watching = true;
    }
    for (const char *p; (p = memchr(in.ptr + at, '\n', in.len - at)); at = (size_t)(p - in.ptr) + 1)
        if ((p > in.ptr ? p[-1] : c->last) == '}') /* the end of an event, not of a chunk */
            heard(c->load);
    c->last = in.ptr[in.len - 1];
    return in.len;
}

/* ---- connections ---- */

static void on_ready(void *arg) {
    struct client *c = arg;
    struct load *l = c->load;
    if (l->job == JOB_WATCH && c != &l->writer) {
        _cleanup_(free_p) char *ask =
            xasprintf("GET /api/v1/namespaces/default/%s?watch=1&fieldSelector=metadata.name%%3Dload-0-0 HTTP/1.1\r\n"
                      "Host: %s\r\nAccept: application/json\r\n\r\n",
                      l->pods ? "pods" : "configmaps", l->host);
        stream_write(c->stream, ask, strlen(ask));
        return;
    }
    if (l->job == JOB_WATCH || ++l->heard < l->n_clients)
        return;
    l->begun_us = clock_mono_us(); /* all are connected */
    l->server_cpu = cpu_of(l->pid);
    for (int64_t d = 0; d < l->pipeline; d++)
        for (int64_t i = 0; i < l->n_clients; i++)
            send_next(&l->clients[i]);
}

static void on_closed(void *arg, const struct error *why) {
    die("connection closed", error_text(why));
}

static const struct stream_handlers answer_handlers = {.ready = on_ready, .data = on_answers, .closed = on_closed};
static const struct stream_handlers watch_handlers = {.ready = on_ready, .data = on_events, .closed = on_closed};

static void open_client(struct client *c, struct load *l, int64_t number, const struct stream_handlers *h) {
    struct error err = ERROR_INIT;
    c->load = l;
    c->number = number;
    const struct stream_options o = {
        .handlers = h, .arg = c, .connect_timeout_ms = 60 * 1000, .max_pending = REQUEST_MAX};
    c->stream = stream_connect(l->loop, l->host, l->port, l->tls, NULL, &o, &err);
    if (!c->stream)
        die("connect", err.msg);
}

static void run(struct load *l) {
    const struct tls_client_options o = {.ca_pem = buf_bytes(&l->config.ca_pem),
                                         .cert_pem = buf_bytes(&l->config.cert_pem),
                                         .key_pem = buf_bytes(&l->config.key_pem)};
    struct error err = ERROR_INIT;
    struct bytes host, port, url = bytes_str(l->config.server);
    uint64_t number;
    if (!bytes_starts_with(url, "https://") || !bytes_cut(bytes_of(url.ptr + 8, url.len - 8), ':', &host, &port) ||
        parse_u64(port, 65535, &number) < 0)
        die("kubeconfig", "the server is not https://address:port");
    l->host = bytes_dup(host);
    l->port = (uint16_t)number;
    if (!(l->tls = tls_client_ctx(&o, &err)))
        die("TLS", err.msg);
    l->loop = loop_new();
    l->clients = xcalloc((size_t)l->n_clients, sizeof(struct client));
    l->samples = xcalloc(SAMPLES_MAX, sizeof(uint32_t));
    l->filler = xcalloc(1, (size_t)l->size + 1);
    memset(l->filler, 'x', (size_t)l->size);
    if (l->job == JOB_WATCH)
        open_client(&l->writer, l, -1, &answer_handlers);
    for (int64_t i = 0; i < l->n_clients; i++)
        open_client(&l->clients[i], l, i, l->job == JOB_WATCH ? &watch_handlers : &answer_handlers);
    loop_run(l->loop);
}

static int64_t number(const char *text) {
    int64_t n;
    if (parse_i64(bytes_str(text), 0, 1000000000, &n) < 0)
        die("not a number", text);
    return n;
}

static void parse(struct load *l, int argc, char **argv) {
    static const struct option flags[] = {
        {"kubeconfig", 1, NULL, 'k'}, {"clients", 1, NULL, 'c'}, {"seconds", 1, NULL, 's'},
        {"count", 1, NULL, 'n'},      {"size", 1, NULL, 'b'},    {"pipeline", 1, NULL, 'p'},
        {"kind", 1, NULL, 't'},       {"pid", 1, NULL, 'i'},     {NULL, 0, NULL, 0}};
    struct error err = ERROR_INIT;
    const char *kubeconfig = NULL;
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;)
        switch (flag) {
        case 'k':
            kubeconfig = optarg;
            break;
        case 'c':
            l->n_clients = number(optarg);
            break;
        case 's':
            l->seconds = number(optarg);
            break;
        case 'n':
            l->count = number(optarg);
            break;
        case 'b':
            l->size = number(optarg);
            break;
        case 'p':
            l->pipeline = number(optarg);
            break;
        case 't':
            l->pods = strcmp(optarg, "pods") == 0;
            break;
        case 'i':
            l->pid = number(optarg);
            break;
        default:
            exit(2);
        }
    for (l->job = JOB_CREATE; l->job <= JOB_WATCH; l->job++)
        if (optind < argc && strcmp(argv[optind], job_names[l->job]) == 0)
            break;
    if (!kubeconfig || l->job > JOB_WATCH || l->n_clients < 1 || l->pipeline < 1 || l->pipeline > PIPELINE_MAX ||
        l->size > REQUEST_MAX / 2)
        die("usage", "--kubeconfig F [options] create|get|update|watch");
    if (kube_config_load(kubeconfig, &l->config, &err) < 0)
        die("kubeconfig", err.msg);
}

int main(int argc, char **argv) {
    struct load l = {.n_clients = 64, .seconds = 5, .size = 1024, .pipeline = 1};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    parse(&l, argc, argv);
    run(&l);
    return 0;
}
