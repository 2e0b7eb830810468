#include "apiserver/account_token.h"
#include "apiserver/call.h"
#include "apiserver/connect.h"

#include "base/str.h"
#include "net/metrics.h"

#define TEXT_MAX (64u << 20)

static void call_free(struct call *c) {
    api_path_free(&c->path);
    identity_free(&c->id);
    query_options_free(&c->q);
    fail_clear(&c->fail);
}

static void serve_get(struct call *c) {
    uint64_t asked;
    struct record *rec = storage_get(kind_resource(c->s, c->kind), c->path.ns, c->path.name);
    if (check_rv_asked(c->s, c->q.rv, &asked, &c->fail) < 0) {
        answer_fail(c->http, &c->fail);
        return;
    }
    if (!rec) {
        fail_not_found(&c->fail, c->kind->group, c->kind->plural, c->path.name);
        answer_fail(c->http, &c->fail);
        return;
    }
    if (strcmp(c->path.subresource, "scale") == 0) {
        size_t len;
        _cleanup_(free_p) char *text = scale_text(rec, &len);
        answer_json(c->http, 200, bytes_of(text, len), c->q.pretty);
        return;
    }
    if (c->form == FORM_UNMANAGED && !kind_needs_conversion(c->kind)) {
        answer_json(c->http, 200, record_text(rec), c->q.pretty);
        return;
    }
    _cleanup_(buf_free) struct buf out = BUF_INIT(TEXT_MAX);
    render_object(&out, c->kind, rec, 0, c->form, c->q.include, true);
    answer_json(c->http, 200, buf_bytes(&out), c->q.pretty);
}

/* A collection request from the call; NULL: refused and answered. */
static struct collection *new_collection(struct call *c) {
    struct collection *l = NEW(struct collection);
    l->s = c->s;
    l->http = c->http;
    l->kind = kind_ref(c->kind);
    l->ns = *c->path.ns ? xstrdup(c->path.ns) : NULL;
    l->name = *c->path.name ? xstrdup(c->path.name) : NULL;
    l->form = c->form;
    l->q = c->q;
    c->q = (struct query_options){0};
    if (collection_prepare(l, &c->fail) == 0)
        return l;
    collection_free(l);
    answer_fail(c->http, &c->fail);
    return NULL;
}

/* ---- which verb ---- */

static const struct verb_row {
    unsigned bit;
    const char *name;
} verbs[] = {
    {VERB_CREATE, "create"}, {VERB_DELETE, "delete"}, {VERB_DELETECOLLECTION, "deletecollection"},
    {VERB_GET, "get"},       {VERB_LIST, "list"},     {VERB_PATCH, "patch"},
    {VERB_UPDATE, "update"}, {VERB_WATCH, "watch"},
};

static const char *verb_name(unsigned bit) {
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (verbs[i].bit == bit)
            return verbs[i].name;
    return "unknown";
}

/* 0: the method does not go with such a path. */
static unsigned verb_of(const struct call *c) {
    bool named = *c->path.name;
    switch (http_method(c->http)) {
    case HTTP_M_GET:
        if (c->q.watch && !*c->path.subresource)
            return VERB_WATCH;
        return named ? VERB_GET : VERB_LIST;
    case HTTP_M_POST:
        return !named || *c->path.subresource ? VERB_CREATE : 0;
    case HTTP_M_PUT:
        return named ? VERB_UPDATE : 0;
    case HTTP_M_PATCH:
        return named ? VERB_PATCH : 0;
    case HTTP_M_DELETE:
        return named ? VERB_DELETE : VERB_DELETECOLLECTION;
    default:
        return 0;
    }
}

static int no_such_path(struct call *c) {
    return fail_set(&c->fail, 404, "NotFound", "the server could not find the requested resource");
}

/* The kind, and whether path and verb suit it. */
static int find_kind(struct call *c, unsigned *verb) {
    struct api_path *p = &c->path;
    c->kind = kinds_find(c->s->kinds, bytes_str(p->group), bytes_str(p->version), bytes_str(p->resource));
    if (!c->kind || (*p->rest && strcmp(p->subresource, "proxy") != 0))
        return no_such_path(c);
    if ((*p->ns && !c->kind->namespaced) || (*p->name && !*p->ns && c->kind->namespaced))
        return no_such_path(c);
    const struct kind_subresource *sub = *p->subresource ? kind_subresource(c->kind, bytes_str(p->subresource)) : NULL;
    if (*p->subresource && !sub)
        return no_such_path(c);
    *verb = verb_of(c);
    bool everywhere = c->kind->namespaced && !*p->ns;
    if (!*verb || !((sub ? sub->verbs : c->kind->verbs) & *verb) || (everywhere && !(*verb & (VERB_LIST | VERB_WATCH))))
        return fail_not_allowed(&c->fail, *verb ? verb_name(*verb) : http_method_name(c->http), p->group, p->resource);
    return 0;
}

static int authorize(struct call *c, unsigned verb) {
    const struct access a = {.verb = verb_name(verb),
                             .group = c->path.group,
                             .resource = c->path.resource,
                             .subresource = c->path.subresource,
                             .ns = c->path.ns,
                             .name = c->path.name,
                             .field_selector = c->q.field_selector};
    return auth_allowed(c->s, &c->id, &a) ? 0 : auth_refuse(&c->id, &a, &c->fail);
}

/* A write to an object that is not there, where that creates it, takes the permission to create. */
static int authorize_creation(struct call *c, unsigned verb) {
    bool applies = verb == VERB_PATCH && body_type_of(http_header(c->http, "Content-Type", NULL)) == BODY_APPLY_PATCH;
    if (*c->path.subresource || !(applies || (verb == VERB_UPDATE && c->kind->create_on_update)) ||
        storage_latest(c->s->storage, kind_resource(c->s, c->kind), c->path.ns, c->path.name))
        return 0;
    return authorize(c, VERB_CREATE);
}

static int choose_form(struct call *c, unsigned verb) {
    unsigned allowed = FORM_BIT(FORM_JSON) | FORM_BIT(FORM_TABLE);
    if (verb == VERB_LIST)
        allowed |= FORM_BIT(FORM_PARTIAL_LIST);
    else
        allowed |= FORM_BIT(FORM_PARTIAL);
    if (!(verb & (VERB_GET | VERB_LIST | VERB_WATCH)))
        allowed &= ~FORM_BIT(FORM_TABLE);
    if (negotiate(http_header(c->http, "Accept", NULL), allowed, &c->form) == 0)
        return 0;
    return fail_set(&c->fail, 406, "NotAcceptable",
                    "only the following media types are accepted: application/json, "
                    "application/json;as=Table;g=meta.k8s.io;v=v1, "
                    "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1",
                    verb == VERB_LIST ? "List" : "");
}

static int prepare(struct call *c, unsigned *verb) {
    if (auth_identify(c->s, c->http, &c->id, &c->fail) < 0 ||
        query_options_read(&c->q, http_query(c->http), &c->fail) < 0 || find_kind(c, verb) < 0 ||
        authorize(c, *verb) < 0 || authorize_creation(c, *verb) < 0 ||
        (!connect_wanted(c) && choose_form(c, *verb) < 0))
        return -1;
    c->q.pretty = wants_pretty(c->http);
    return 0;
}

static void count_request(unsigned verb) {
    static struct metric *counters[ARRAY_LEN(verbs)];
    static const char *const labels[ARRAY_LEN(verbs)] = {
        "verb=\"create\"", "verb=\"delete\"", "verb=\"deletecollection\"", "verb=\"get\"",
        "verb=\"list\"",   "verb=\"patch\"",  "verb=\"update\"",           "verb=\"watch\""};
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (verbs[i].bit == verb) {
            if (!counters[i])
                counters[i] =
                    metric_get(METRIC_COUNTER, "apiserver_requests_total", "Requests for resources.", labels[i]);
            metric_add(counters[i], 1);
        }
}

static void dispatch(struct call *c, unsigned verb) {
    struct collection *l = NULL;
    count_request(verb);
    if (connect_wanted(c)) {
        connect_serve(c);
        return;
    }
    if (review_serve(c->s, c->http, c->kind, c->path.ns, &c->id))
        return;
    if (verb == VERB_CREATE && strcmp(c->path.subresource, "token") == 0) {
        token_request_serve(c);
        return;
    }
    if ((verb & (VERB_LIST | VERB_WATCH | VERB_DELETECOLLECTION)) && !(l = new_collection(c)))
        return;
    switch (verb) {
    case VERB_LIST:
        list_serve(l);
        break;
    case VERB_WATCH:
        watch_serve(l);
        break;
    case VERB_DELETECOLLECTION:
        serve_delete_collection(c, l);
        break;
    case VERB_GET:
        serve_get(c);
        break;
    case VERB_CREATE:
        serve_write(c, WRITE_CREATE);
        break;
    case VERB_UPDATE:
        serve_write(c, WRITE_UPDATE);
        break;
    case VERB_PATCH:
        serve_write(c, WRITE_PATCH);
        break;
    default:
        serve_write(c, WRITE_DELETE);
        break;
    }
}

static void handle_api(void *arg, struct http_request *r) {
    struct apiserver *s = arg;
    struct call c = {.s = s, .http = r};
    struct error err = ERROR_INIT;
    unsigned verb = 0;
    answer_headers(r);
    if (api_path_parse(http_path(r), &c.path, &err) < 0) {
        if (err.code == ERR_NOT_FOUND) {
            serve_documents(s, r);
            return;
        }
        fail_bad_request(&c.fail, "%s", error_text(&err));
        answer_fail(r, &c.fail);
    } else if (prepare(&c, &verb) < 0) {
        answer_fail(r, &c.fail);
    } else {
        dispatch(&c, verb);
    }
    call_free(&c);
}

const struct http_route api_routes[] = {
    {1u << HTTP_M_GET, "/healthz*", HTTP_AUTH_NONE, 0, handle_health},
    {1u << HTTP_M_GET, "/livez*", HTTP_AUTH_NONE, 0, handle_health},
    {1u << HTTP_M_GET, "/readyz*", HTTP_AUTH_NONE, 0, handle_health},
    {1u << HTTP_M_GET, "/version", HTTP_AUTH_NONE, 0, handle_version},
    {1u << HTTP_M_GET, "/metrics", HTTP_AUTH_HANDLER, 0, handle_metrics},
    /* Everything else needs an identity, which handle_api asks for first. */
    {0, "/*", HTTP_AUTH_HANDLER, API_BODY_MAX, handle_api},
};
const size_t api_routes_count = ARRAY_LEN(api_routes);
