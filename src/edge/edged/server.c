#include "edge/edged/server.h"

#include "net/http_server.h"

#include <inttypes.h>
#include <stdio.h>

#define TEXT_MAX 8192

/* ---- answers ---- */

static void put(const struct answer *a, const struct buf *b) {
    (void)a->caller->data(a->arg, buf_bytes(b));
}

void answer_error(const struct answer *a, int status, const char *fmt, ...) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(TEXT_MAX + 512);
    va_list ap;
    va_start(ap, fmt);
    _cleanup_(free_p) char *text = xvasprintf(fmt, ap);
    va_end(ap);
    size_t n = strlen(text) < TEXT_MAX ? strlen(text) : TEXT_MAX;
    if (a->head)
        buf_addf(&out,
                 "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                 "Connection: close\r\n\r\n",
                 status, http_status_text(status), n);
    buf_add(&out, text, n);
    put(a, &out);
}

void answer_start(const struct answer *a, const char *content_type) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(512);
    if (!a->head)
        return;
    buf_addf(&out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
             content_type);
    put(a, &out);
}

int answer_piece(const struct answer *a, struct bytes piece) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(piece.len + 32);
    if (piece.len == 0)
        return 0;
    if (!a->head)
        return a->caller->data(a->arg, piece);
    buf_addf(&out, "%zx\r\n", piece.len);
    buf_add_bytes(&out, piece);
    buf_add_str(&out, "\r\n");
    return a->caller->data(a->arg, buf_bytes(&out));
}

void answer_end(const struct answer *a) {
    if (a->head)
        (void)a->caller->data(a->arg, BYTES_LIT("0\r\n\r\n"));
}

/* ---- what a request names ---- */

void target_free(struct target *t) {
    free(t->ns);
    free(t->pod);
    free(t->uid);
    free(t->container);
    *t = (struct target){0};
}

struct pod_worker *target_pod(struct pods *ps, const struct target *t, const struct answer *a) {
    struct pod_worker *w, *tmp, *found = NULL;
    HASH_ITER (hh, ps->workers, w, tmp)
        if (w->pod && strcmp(w->ns, t->ns) == 0 && strcmp(w->name, t->pod) == 0 && (!t->uid || str_eq(w->uid, t->uid)))
            if (!found || !w->removed)
                found = w;
    if (!found)
        answer_error(a, 404, "pod \"%s\" in namespace \"%s\" is not on node \"%s\"\n", t->pod, t->ns,
                     ps->config->node_name);
    return found;
}

struct worker_container *target_container(struct pods *ps, const struct target *t, const struct answer *a) {
    struct pod_worker *w = target_pod(ps, t, a);
    struct worker_container *c = w ? worker_container_named(w, t->container) : NULL;
    if (w && !c)
        answer_error(a, 404, "container \"%s\" not found in pod \"%s\"\n", t->container, t->pod);
    return c;
}

/* ---- routes ---- */

static const struct route {
    const char *name;
    size_t min, max; /* segments after the name: namespace, pod[, UID][, container] */
    bool container;  /* the last one is a container */
    struct kubelet_call *(*open)(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                                 const struct answer *a);
} ROUTES[] = {
    {"containerLogs", 3, 3, true, logs_open},
    {"exec", 3, 4, true, exec_open},
    {"attach", 3, 4, true, attach_open},
    {"portForward", 2, 3, false, port_forward_open},
};

static char *decoded(struct bytes segment) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(1024);
    return percent_decode(segment, false, &out) < 0 || out.len == 0 ? NULL : buf_take(&out, NULL);
}

static bool read_target(const struct route *route, const struct bytes *segments, size_t n, struct target *t) {
    t->ns = decoded(segments[0]);
    t->pod = decoded(segments[1]);
    if (n == (route->container ? 4u : 3u))
        t->uid = decoded(segments[2]);
    if (route->container)
        t->container = decoded(segments[n - 1]);
    return t->ns && t->pod && (t->container || !route->container) && (t->uid || n == route->min);
}

struct kubelet_call *server_open(void *arg, const struct tunnel_request *r, bool head,
                                 const struct kubelet_caller *caller, void *caller_arg) {
    struct answer a = {.caller = caller, .arg = caller_arg, .head = head};
    struct bytes parts[6]; /* "", name, up to four segments */
    size_t n = bytes_split(bytes_str(r->path), '/', parts, ARRAY_LEN(parts));
    for (size_t i = 0; n > 2 && n <= ARRAY_LEN(parts) && i < ARRAY_LEN(ROUTES); i++) {
        const struct route *route = &ROUTES[i];
        if (!bytes_eq_str(parts[1], route->name) || n - 2 < route->min || n - 2 > route->max)
            continue;
        struct target t = {0};
        struct kubelet_call *c = NULL;
        if (read_target(route, parts + 2, n - 2, &t))
            c = route->open(arg, r, &t, &a);
        else
            answer_error(&a, 400, "the path names no pod\n");
        target_free(&t);
        return c;
    }
    bool known = false;
    struct kubelet_call *c = stats_open(arg, r, &a, &known);
    if (!known)
        answer_error(&a, 404, "404 page not found\n");
    return c;
}
