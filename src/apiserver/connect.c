#define LOG_COMPONENT "apiserver"
#include "apiserver/connect.h"

#include "base/log.h"
#include "base/str.h"

#include <strings.h>
#include <utlist.h>

#define HEAD_MAX (128u << 10)
#define ANSWER_MS 30000
#define REFUSAL_MAX 4096
#define REFUSAL_MS 3000

/* ---- the door ---- */

int node_door_new(struct node_door **out, struct loop *l, const struct pki *pki, const char *data_dir, uint16_t port,
                  struct error *err) {
    static const char *const sans[] = {"localhost", "127.0.0.1", NULL};
    static const struct pki_identity me = {
        .file = "apiserver-kubelet-client", .user = "kube-apiserver-kubelet-client", .group = "system:masters"};
    _cleanup_(free_p) char *dir = xasprintf("%s/pki", data_dir);
    _cleanup_(buf_free) struct buf cert = BUF_INIT(HEAD_MAX), door_cert = BUF_INIT(HEAD_MAX);
    _cleanup_(buf_free_secret) struct buf key = BUF_INIT(HEAD_MAX), door_key = BUF_INIT(HEAD_MAX);
    (void)l;
    if (pki_issue_identity(pki, dir, &me, &cert, &key, err) < 0 ||
        pki_open_server(pki, dir, NODE_DOOR_CERT, sans, &door_cert, &door_key, err) < 0)
        return -1;
    const struct tls_client_options o = {
        .ca_pem = buf_bytes(&pki->ca_cert), .cert_pem = buf_bytes(&cert), .key_pem = buf_bytes(&key)};
    struct tls_ctx *tls = tls_client_ctx(&o, err);
    if (!tls)
        return -1;
    struct node_door *d = NEW(struct node_door);
    d->tls = tls;
    d->port = port;
    *out = d;
    return 0;
}

void node_door_free(struct node_door *d) {
    if (!d)
        return;
    while (d->connects)
        connect_free(d->connects);
    tls_ctx_free(d->tls);
    free(d);
}

/* ---- one connection ---- */

void connect_free(struct connect *c) {
    DL_DELETE(c->door->connects, c);
    if (c->http)
        http_on_close(c->http, NULL, NULL);
    http_dial_free(c->dial);
    stream_free(c->node);
    stream_free(c->client);
    ws_free(c->ws);
    channels_free(c->channels);
    timer_free(c->deadline);
    buf_free(&c->refusal);
    free(c->node_name);
    free(c);
}

static void client_gone(void *arg) {
    connect_free(arg);
}

static void refuse(struct connect *c, int status, const char *text) {
    struct fail f = {0};
    struct http_request *r = c->http;
    if (status == 400)
        fail_bad_request(&f, "%s", text);
    else if (status == 404)
        fail_set(&f, 404, "NotFound", "%s", text);
    else if (status == 422)
        fail_set(&f, 422, "Invalid", "%s", text);
    else
        fail_set(&f, 500, "InternalError", "Internal error occurred: %s", text);
    connect_free(c);
    answer_fail(r, &f);
}

/* ---- the node's own refusal: its text ---- */

static void refusal_over(struct connect *c) {
    struct bytes text = bytes_trim(buf_bytes(&c->refusal));
    _cleanup_(free_p) char *why = text.len ? bytes_dup(text) : xasprintf("node \"%s\" gave no reason", c->node_name);
    refuse(c, http_dial_status(c->dial), why);
}

static size_t refusal_data(void *arg, struct bytes in) {
    struct connect *c = arg;
    size_t n = REFUSAL_MAX - c->refusal.len < in.len ? REFUSAL_MAX - c->refusal.len : in.len;
    buf_add(&c->refusal, in.ptr, n);
    if (c->refusal.len >= c->refusal_len)
        refusal_over(c);
    return in.len;
}

static void refusal_closed(void *arg, const struct error *why) {
    refusal_over(arg);
}

static void refusal_late(void *arg) {
    refusal_over(arg);
}

static const struct stream_handlers REFUSAL = {.data = refusal_data, .closed = refusal_closed};

static void read_refusal(struct connect *c) {
    uint64_t length = REFUSAL_MAX;
    struct bytes given = http_dial_header(c->dial, "Content-Length");
    buf_init(&c->refusal, REFUSAL_MAX);
    if (given.len > 0 && parse_u64(given, REFUSAL_MAX, &length) < 0)
        length = REFUSAL_MAX;
    c->refusal_len = (size_t)length;
    if (length == 0) {
        refusal_over(c);
        return;
    }
    c->deadline = timer_new(stream_loop(http_stream(c->http)), refusal_late, c);
    timer_set(c->deadline, REFUSAL_MS);
    c->node = http_dial_take(c->dial);
    stream_set_handlers(c->node, &REFUSAL, c);
}

static void on_answer(void *arg, const struct error *err) {
    struct connect *c = arg;
    if (err) {
        _cleanup_(free_p) char *why =
            xasprintf("error dialing backend: node \"%s\" cannot be reached: %s", c->node_name, error_text(err));
        refuse(c, 502, why);
    } else if (http_dial_status(c->dial) == (c->form == CONNECT_PLAIN ? 200 : 101)) {
        (c->form == CONNECT_CHANNELS ? connect_channels : connect_pipe)(c);
    } else {
        read_refusal(c);
    }
}

/* ---- what is asked for ---- */

static const struct connect_row {
    const char *plural, *subresource, *kubelet;
    bool container; /* it is about one container */
    bool streams;   /* stdin, stdout, stderr */
} ROWS[] = {
    {"pods", "log", "containerLogs", true, false}, {"pods", "exec", "exec", true, true},
    {"pods", "attach", "attach", true, true},      {"pods", "portforward", "portForward", false, false},
    {"nodes", "proxy", NULL, false, false},
};

static const struct connect_row *row_of(const struct call *c) {
    for (size_t i = 0; !*c->kind->group && i < ARRAY_LEN(ROWS); i++)
        if (strcmp(c->kind->plural, ROWS[i].plural) == 0 && strcmp(c->path.subresource, ROWS[i].subresource) == 0)
            return &ROWS[i];
    return NULL;
}

bool connect_wanted(const struct call *c) {
    return row_of(c) != NULL;
}

static yyjson_val *find_container(yyjson_val *pod, const char *name) {
    static const char *const lists[] = {"containers", "initContainers", "ephemeralContainers"};
    size_t j, n;
    yyjson_val *c;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        yyjson_arr_foreach (json_get(pod, "spec", lists[i]), j, n, c)
            if (str_eq(json_str(c, "name"), name))
                return c;
    return NULL;
}

static int must_name_container(struct call *c, yyjson_val *containers) {
    _cleanup_(buf_free) struct buf names = BUF_INIT(4096);
    size_t i, n;
    yyjson_val *k;
    yyjson_arr_foreach (containers, i, n, k)
        buf_addf(&names, "%s%s", i ? " " : "", str_or(json_str(k, "name"), ""));
    return fail_bad_request(&c->fail, "a container name must be specified for pod %s, choose one of: [%s]",
                            c->path.name, names.len ? names.ptr : "");
}

/* The container that is meant; owned. NULL: refused. */
static char *choose_container(struct call *c, yyjson_val *pod) {
    _cleanup_(free_p) char *asked = NULL;
    struct error err = ERROR_INIT;
    yyjson_val *containers = json_get(pod, "spec", "containers");
    const char *usual = json_str(pod, "metadata", "annotations", "kubectl.kubernetes.io/default-container");
    if (query_text(http_query(c->http), "container", &asked, &err) < 0) {
        fail_bad_request(&c->fail, "%s", error_text(&err));
        return NULL;
    }
    if (str_empty(asked) && yyjson_arr_size(containers) == 1)
        return xstrdup(str_or(json_str(yyjson_arr_get_first(containers), "name"), ""));
    if (str_empty(asked) && usual && find_container(pod, usual))
        return xstrdup(usual);
    if (str_empty(asked))
        (void)must_name_container(c, containers);
    else if (!find_container(pod, asked))
        fail_bad_request(&c->fail, "container %s is not valid for pod %s", asked, c->path.name);
    else
        return TAKE(asked);
    return NULL;
}

/* The parameters of the client as the kubelet calls them. */
static int translate_query(struct call *c, const struct connect_row *row, struct buf *out) {
    static const char *const names[][2] = {
        {"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}, {"tty", "tty"}};
    struct bytes rest = http_query(c->http), part, name;
    bool any = false;
    for (size_t i = 0; row->streams && i < ARRAY_LEN(names); i++)
        if (query_flag(http_query(c->http), names[i][0])) {
            buf_addf(out, "%s%s=1", out->len ? "&" : "", names[i][1]);
            any |= i < 3;
        }
    if (row->streams && !any)
        return fail_bad_request(&c->fail, "you must specify at least 1 of stdin, stdout, stderr");
    while (rest.ptr && list_next(&rest, '&', &part)) {
        struct bytes value = BYTES_EMPTY;
        if (!bytes_cut(part, '=', &name, &value))
            name = part;
        if (bytes_eq_str(name, "ports"))
            buf_addf(out, "%sport=%.*s", out->len ? "&" : "", (int)value.len, value.ptr);
        else if (row->streams ? bytes_eq_str(name, "command")
                              : !bytes_eq_str(name, "container") && !bytes_eq_str(name, "pretty"))
            buf_addf(out, "%s%.*s", out->len ? "&" : "", (int)part.len, part.ptr);
    }
    if (out->overflowed)
        return fail_set(&c->fail, 414, "RequestURITooLong", "the query is too long");
    return 0;
}

/* Path and query for the kubelet, and the pod's node. */
static int pod_target(struct call *c, const struct connect_row *row, yyjson_val *pod, struct buf *path) {
    _cleanup_(free_p) char *container = row->container ? choose_container(c, pod) : NULL;
    _cleanup_(buf_free) struct buf query = BUF_INIT(HEAD_MAX / 2);
    if ((row->container && !container) || translate_query(c, row, &query) < 0)
        return -1;
    if (str_empty(json_str(pod, "spec", "nodeName")))
        return fail_bad_request(&c->fail, "pod %s does not have a host assigned", c->path.name);
    buf_addf(path, "/%s/%s/%s", row->kubelet, c->path.ns, c->path.name);
    if (container)
        buf_addf(path, "/%s", container);
    if (query.len > 0)
        buf_addf(path, "?%s", query.ptr);
    return 0;
}

/* ---- the request to the node ---- */

static enum connect_form form_of(struct http_request *r, bool streams) {
    struct bytes protocols = http_header(r, "Sec-WebSocket-Protocol", NULL), part, rest = protocols;
    if (!http_is_upgrade(r))
        return CONNECT_PLAIN;
    while (http_wants_upgrade(r, "websocket") && rest.ptr && list_next(&rest, ',', &part))
        if (bytes_eq_str(bytes_trim(part), "SPDY/3.1+portforward.k8s.io"))
            return CONNECT_TUNNEL;
    rest = protocols;
    while (http_wants_upgrade(r, "websocket") && streams && rest.ptr && list_next(&rest, ',', &part))
        for (const char *const *p = CONNECT_CHANNEL_PROTOCOLS; *p; p++)
            if (bytes_eq_str(bytes_trim(part), *p))
                return CONNECT_CHANNELS;
    return CONNECT_UPGRADE;
}

static bool is_upgrade_header(struct bytes name) {
    static const char *const prefixes[] = {"Connection", "Upgrade", "X-Stream-Protocol-Version", "Sec-WebSocket-"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (name.len >= strlen(prefixes[i]) && strncasecmp(name.ptr, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* Nothing of the client's own credentials goes to the node. */
static void write_head(struct buf *head, struct http_request *r, enum connect_form form, const char *path,
                       const char *host) {
    struct bytes name, value;
    bool spdy = form == CONNECT_TUNNEL || form == CONNECT_CHANNELS;
    buf_addf(head, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: selvage-apiserver/" SELVAGE_VERSION "\r\n",
             spdy ? "POST" : http_method_name(r), path, host);
    if (spdy)
        buf_addf(head, "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: %s\r\n",
                 form == CONNECT_TUNNEL ? "portforward.k8s.io" : "v4.channel.k8s.io");
    for (unsigned i = 0; form == CONNECT_UPGRADE && (name = http_header_at(r, i, &value)).len > 0; i++)
        if (is_upgrade_header(name))
            buf_addf(head, "%.*s: %.*s\r\n", (int)name.len, name.ptr, (int)value.len, value.ptr);
    if (form == CONNECT_PLAIN)
        buf_add_str(head, "Connection: close\r\n");
    buf_add_str(head, "\r\n");
}

static void go(struct call *call, const struct connect_row *row, const char *node, const char *path) {
    struct connect *c = NEW(struct connect);
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf head = BUF_INIT(HEAD_MAX);
    c->door = call->s->nodes;
    c->http = call->http;
    c->form = form_of(call->http, row->streams);
    c->node_name = xstrdup(node);
    buf_init(&c->refusal, REFUSAL_MAX);
    DL_APPEND(c->door->connects, c);
    http_on_close(c->http, client_gone, c);
    write_head(&head, c->http, c->form, path, node);
    const struct http_dial_options o = {.host = "127.0.0.1",
                                        .port = c->door->port,
                                        .tls = c->door->tls,
                                        .request = buf_bytes(&head),
                                        .timeout_ms = ANSWER_MS,
                                        .done = on_answer,
                                        .arg = c};
    if (buf_check(&head, &err, "the request to the node") == 0)
        c->dial = http_dial_new(stream_loop(http_stream(c->http)), &o, &err);
    if (!c->dial)
        on_answer(c, &err);
}

static int find_target(struct call *c, const struct connect_row *row, struct buf *path, char **node) {
    struct record *rec = storage_get(kind_resource(c->s, c->kind), c->path.ns, c->path.name);
    if (!rec)
        return fail_not_found(&c->fail, "", c->kind->plural, c->path.name);
    if (!c->s->nodes)
        return fail_set(&c->fail, 501, "NotImplemented", "nodes are not reached from here: no stream server is set up");
    if (row->kubelet) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *pod = record_parse(rec);
        if (pod_target(c, row, yyjson_doc_get_root(pod), path) < 0)
            return -1;
        *node = xstrdup(json_str(yyjson_doc_get_root(pod), "spec", "nodeName"));
        return 0;
    }
    struct bytes query = http_query(c->http);
    *node = xstrdup(c->path.name);
    struct bytes rest = http_path(c->http);
    for (unsigned i = 0; i < 6; i++) /* "/api/v1/nodes/<name>/proxy/", as it was sent */
        if (!bytes_cut(rest, '/', NULL, &rest))
            rest = BYTES_EMPTY;
    buf_addf(path, "/%.*s%s%.*s", (int)rest.len, rest.len ? rest.ptr : "", query.len ? "?" : "", (int)query.len,
             query.len ? query.ptr : "");
    return buf_check(path, NULL, "") < 0 ? fail_set(&c->fail, 414, "RequestURITooLong", "the path is too long") : 0;
}

void connect_serve(struct call *c) {
    const struct connect_row *row = row_of(c);
    _cleanup_(buf_free) struct buf path = BUF_INIT(HEAD_MAX / 2);
    _cleanup_(free_p) char *node = NULL;
    if (find_target(c, row, &path, &node) < 0) {
        answer_fail(c->http, &c->fail);
        return;
    }
    if (row->kubelet && strcmp(row->subresource, "log") != 0 && !http_is_upgrade(c->http)) {
        fail_bad_request(&c->fail, "Upgrade request required");
        answer_fail(c->http, &c->fail);
        return;
    }
    go(c, row, node, path.ptr);
}
