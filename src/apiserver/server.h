/* The server's parts, for each other. Everything belongs to the loop thread. */
#pragma once

#include "apiserver/apiserver.h"
#include "apiserver/fail.h"
#include "apiserver/kinds.h"
#include "apiserver/negotiate.h"
#include "apiserver/storage.h"
#include "apiserver/table.h"
#include "net/http_server.h"

#define API_BODY_MAX (3u << 20)
#define API_OBJECT_MAX (1536u << 10)

struct watch_hub;
struct controllers;
struct authorizer;
struct token_keeper;
struct node_door;
struct view;
struct service_ips;

struct apiserver {
    struct loop *loop;
    struct storage *storage;
    struct kinds *kinds;
    struct watch_hub *watches;
    struct controllers *controllers;
    struct authorizer *authorizer;
    struct token_keeper *tokens;
    char *ca_pem;      /* the certificate that verifies the server */
    struct view *view; /* of pods, nodes and owners, for the controllers */
    struct service_ips *service_ips;
    struct http_server *http;
    struct timer *tick;
    int64_t started_ms; /* monotonic */
    int node_grace_s, event_ttl_s;
    struct buf openapi_v2; /* kept from the first request on */
    uint64_t openapi_v2_generation;
    struct node_door *nodes; /* connect.h; NULL: no node can be reached */
    bool stopping;
};

/* Where the kind's objects are stored. */
static inline struct resource *kind_resource(const struct apiserver *s, const struct kind *k) {
    return storage_resource(s->storage, k->storage_group, k->storage_plural);
}
/* A built-in kind that is always there. */
const struct kind *server_kind(const struct apiserver *s, const char *group, const char *version, const char *plural);

/* The record in the kind's served form. Owned. */
yyjson_doc *served_doc(const struct kind *k, const struct record *rec, uint64_t rev);
/* managed.c: appends `,"managedFields":[...]` where somebody owns something. */
void managed_append(struct buf *out, const struct kind *k, const struct record *rec);
/* Appends the record as JSON; for kinds that need no conversion. bare: without kind and apiVersion. */
void render_json(struct buf *out, const struct kind *k, const struct record *rec, uint64_t rev, enum answer_form form,
                 bool bare);
/* Appends its served form, object, as JSON. */
void render_converted(struct buf *out, const struct kind *k, const struct record *rec, yyjson_val *object,
                      enum answer_form form);
/* Appends it in the form that the client wants; rev 0: the record's own. first_row: a Table with its columns. */
void render_object(struct buf *out, const struct kind *k, const struct record *rec, uint64_t rev, enum answer_form form,
                   enum table_include include, bool with_columns);

/* ---- requests (http.c, list.c, watch.c) ---- */
struct api_path;
/* What list and watch have in common. */
struct query_options {
    char *label_selector, *field_selector, *rv, *rv_match, *continue_;
    bool watch, bookmarks, has_initial_events, initial_events, pretty;
    int64_t timeout_s; /* 0: none */
    int64_t limit;     /* 0: none */
    enum table_include include;
};
/* Which part of a list, and of which state. */
struct list_page {
    uint64_t rev;                /* 0: the present */
    char *after_ns, *after_name; /* the last object of the page before; NULL: from the start */
    char *next;                  /* continue token of the page after; NULL: this is the last */
    size_t left;                 /* objects in the pages after; 0: not known */
};
struct collection { /* a list or watch request; freed by whoever answers it, with collection_free */
    struct apiserver *s;
    struct http_request *http;
    const struct kind *kind; /* referenced */
    char *ns;                /* NULL: all */
    char *name;              /* NULL: all; from the path or metadata.name= */
    enum answer_form form;
    struct query_options q;
    struct selector *labels, *fields;
    struct list_page page;
};
void collection_free(struct collection *c);
/* options.c: reads and checks the query (embedded-api.md 3.2). */
int query_options_read(struct query_options *q, struct bytes query, struct fail *f) MUST_CHECK;
void query_options_free(struct query_options *q);
/* The selectors, too, and the resourceVersion against what there is. */
int collection_prepare(struct collection *c, struct fail *f) MUST_CHECK;
/* A resourceVersion of get, list or watch: a number, and none of the future. 0 where unset. */
int check_rv_asked(const struct apiserver *s, const char *rv, uint64_t *out, struct fail *f) MUST_CHECK;
/* Does the record belong to it? doc is its served form, or NULL: parsed only if needed. */
bool collection_match(const struct collection *c, const struct record *rec, yyjson_doc **doc);
/* The present objects that it may be about, in order, the selectors not applied: see recordmap_snapshot. */
struct record **collection_snapshot(const struct collection *c, size_t *n);
/* page.c: limit, continue and resourceVersionMatch of a list; asked is its resourceVersion, 0 if none. */
int page_prepare(struct collection *c, uint64_t asked, struct fail *f) MUST_CHECK;
/* The objects of the page, as collection_snapshot. Where there is a limit, the selectors are applied already, for as
 * many as that; c->page is filled in. */
struct record **page_take(struct collection *c, size_t *n);
/* Owned. rev 0: continues with the latest state. */
char *continue_token(const struct collection *c, uint64_t rev, const char *ns, const char *name);
void list_page_free(struct list_page *p);
void list_serve(struct collection *c);  /* takes over c and answers */
void watch_serve(struct collection *c); /* takes over c and answers */

struct watch_hub *watch_hub_new(struct apiserver *s);
void watch_hub_free(struct watch_hub *h); /* after all watches were ended */
void watch_hub_end_all(struct watch_hub *h);
void watch_hub_tick(struct watch_hub *h); /* about once a second: timeouts and bookmarks */
/* Ends the watches of a kind that is served no more. */
void watch_hub_end_kind(struct watch_hub *h, const char *group, const char *plural);

extern const struct http_route api_routes[];
extern const size_t api_routes_count;
void api_error_page(void *arg, struct http_request *r, int status, const char *reason);
/* Answers with a Status and frees what f holds. */
void answer_fail(struct http_request *r, struct fail *f);
/* Indented for people with curl and browsers, as it is for programs. */
bool wants_pretty(const struct http_request *r);
void answer_json(struct http_request *r, int status, struct bytes json, bool pretty);
/* nonresource.c: everything that is no object. */
void handle_health(void *arg, struct http_request *r);
void handle_version(void *arg, struct http_request *r);
void handle_metrics(void *arg, struct http_request *r);
void serve_documents(struct apiserver *s, struct http_request *r);
/* reviews.c: true if the kind is a review; it is answered then. */
struct identity;
bool review_serve(struct apiserver *s, struct http_request *r, const struct kind *k, const char *ns,
                  const struct identity *id);

/* CRDs that are stored are served; called for each change of one, and at start. */
void crd_changed(struct apiserver *s, const struct record *old, const struct record *new_);
