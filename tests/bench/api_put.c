/* Writes ConfigMaps to an API server as fast as it takes them, over so many connections at once, and tells how many a
 * second were answered. They are called m0, m1, ... in namespace default, and each has the one value:
 *
 *     api_put --kubeconfig admin.kubeconfig --count 2000 --value round-1 [--parallel 8] [--create] */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "kube/client.h"
#include "net/loop.h"

#include <getopt.h>
#include <stdio.h>

struct bench {
    struct loop *loop;
    struct kube_client *kube;
    const char *value;
    bool create;
    int64_t count, parallel;
    int64_t started, done;
};

static void die(const char *why) {
    (void)fprintf(stderr, "api_put: %s\n", why);
    exit(1);
}

static void start_one(struct bench *b);

static void on_done(void *arg, struct kube_result *r) {
    struct bench *b = arg;
    if (r->error.code != ERR_NONE)
        die(error_text(&r->error));
    b->done++;
    if (b->started < b->count)
        start_one(b);
    else if (b->done == b->count)
        loop_stop(b->loop);
}

static void start_one(struct bench *b) {
    char path[128], body[512];
    long long i = b->started++;
    int len = snprintf(body, sizeof body,
                       "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m%lld\"},"
                       "\"data\":{\"value\":\"%s\"}}",
                       i, b->value);
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/default/configmaps");
    if (!b->create)
        (void)snprintf(path, sizeof path, "/api/v1/namespaces/default/configmaps/m%lld", i);
    const struct kube_request r = {.verb = b->create ? "POST" : "PUT",
                                   .path = path,
                                   .body = bytes_of(body, (size_t)len),
                                   .try_once = true,
                                   .done = on_done,
                                   .arg = b};
    kube_call(b->kube, &r);
}

static int64_t number(const char *text) {
    int64_t n;
    if (parse_i64(bytes_str(text), 1, 1000000, &n) < 0)
        die("a number is wrong");
    return n;
}

int main(int argc, char **argv) {
    static const struct option flags[] = {{"kubeconfig", 1, NULL, 'k'}, {"count", 1, NULL, 'n'},
                                          {"value", 1, NULL, 'v'},      {"parallel", 1, NULL, 'p'},
                                          {"create", 0, NULL, 'c'},     {NULL, 0, NULL, 0}};
    struct bench b = {.value = "x", .count = 1, .parallel = 8};
    struct kube_config config = {0};
    struct error err = ERROR_INIT;
    const char *kubeconfig = "";
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        switch (flag) {
        case 'k':
            kubeconfig = optarg;
            break;
        case 'n':
            b.count = number(optarg);
            break;
        case 'v':
            b.value = optarg;
            break;
        case 'p':
            b.parallel = number(optarg);
            break;
        case 'c':
            b.create = true;
            break;
        default:
            return 2;
        }
    }
    b.loop = loop_new();
    if (kube_config_load(kubeconfig, &config, &err) < 0 ||
        !(b.kube = kube_client_new(b.loop, &config, "api_put", &err)))
        die(error_text(&err));
    int64_t begin = clock_mono_ms();
    for (int64_t i = 0; i < b.parallel && b.started < b.count; i++)
        start_one(&b);
    loop_run(b.loop);
    int64_t ms = clock_mono_ms() - begin;
    (void)printf("%lld answered in %lld ms: %lld /s\n", (long long)b.count, (long long)ms,
                 (long long)(b.count * 1000 / (ms > 0 ? ms : 1)));
    kube_client_free(b.kube);
    kube_config_free(&config);
    loop_free(b.loop);
    return 0;
}
