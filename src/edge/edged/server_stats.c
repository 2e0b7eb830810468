/* /stats/summary and /metrics/resource (streams.md 2.4). */
#include "edge/edged/server.h"
#include "edge/edged/stats.h"

struct stats_call {
    struct kubelet_call base;
    struct answer answer;
    struct stats_request *request;
    struct buf text; /* what waits for room */
    bool prometheus;
};

static void call_free(struct stats_call *c) {
    stats_cancel(c->request);
    buf_free(&c->text);
    free(c);
}

static void send_on(struct stats_call *c) {
    while (c->text.len > 0) {
        size_t n = c->text.len < TUNNEL_CHUNK ? c->text.len : TUNNEL_CHUNK;
        int full = answer_piece(&c->answer, bytes_of(c->text.ptr, n));
        buf_drop_front(&c->text, n);
        if (full)
            return;
    }
    const struct answer a = c->answer;
    call_free(c);
    answer_end(&a);
    a.caller->ended(a.arg);
}

static void on_stats(void *arg, struct bytes text) {
    struct stats_call *c = arg;
    c->request = NULL;
    buf_init(&c->text, text.len + 1);
    buf_add_bytes(&c->text, text);
    answer_start(&c->answer, c->prometheus ? "text/plain; version=0.0.4" : "application/json");
    send_on(c);
}

static void on_input(struct kubelet_call *base, struct bytes piece) {
}

static void on_room(struct kubelet_call *base) {
    struct stats_call *c = CONTAINER_OF(base, struct stats_call, base);
    if (!c->request)
        send_on(c);
}

static void on_cancel(struct kubelet_call *base) {
    call_free(CONTAINER_OF(base, struct stats_call, base));
}

static const struct kubelet_call_ops OPS = {.input = on_input, .room = on_room, .cancel = on_cancel};

struct kubelet_call *stats_open(struct pods *ps, const struct tunnel_request *r, const struct answer *a, bool *known) {
    bool summary = strcmp(r->path, "/stats/summary") == 0 || strcmp(r->path, "/stats/summary/") == 0;
    _cleanup_(buf_free) struct buf only = BUF_INIT(16);
    *known = summary || strcmp(r->path, "/metrics/resource") == 0;
    if (!*known)
        return NULL;
    struct stats_call *c = NEW(struct stats_call);
    *c = (struct stats_call){.base = {&OPS}, .answer = *a, .prometheus = !summary};
    bool cpu_only =
        query_get(bytes_str(r->query), "only_cpu_and_memory", &only) && bytes_eq_str(buf_bytes(&only), "true");
    enum stats_form form = !summary ? STATS_RESOURCE : cpu_only ? STATS_SUMMARY_CPU_ONLY : STATS_SUMMARY;
    c->request = stats_ask(ps->stats, form, on_stats, c);
    return &c->base;
}
