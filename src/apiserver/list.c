#include "apiserver/server.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/selector.h"

#include <inttypes.h>
#include <stdio.h>

#define PIECE (128u << 10)    /* written at once */
#define PIECE_MAX (64u << 20) /* a piece ends after the object that fills it */
#define PRETTY_MAX (4u << 20)

/* Is the value written in the text as it stands? Not so booleans and numbers, which may be absent and still have one.
 */
static bool stands_in_text(const char *value) {
    int64_t number;
    return !str_empty(value) && !strpbrk(value, "\"\\/") && !str_eq(value, "true") && !str_eq(value, "false") &&
           parse_i64(bytes_str(value), INT64_MIN, INT64_MAX, &number) < 0;
}

/* Could the record's text hold every value that the field selector asks for? A search in bytes is far cheaper than
 * parsing, and most objects are none of the wanted node's. */
static bool may_match_fields(const struct selector *fields, const struct record *rec) {
    const char *equals;
    for (size_t i = 0; selector_field(fields, i, &equals); i++)
        if (stands_in_text(equals) && !memmem(rec->text, rec->len, equals, strlen(equals)))
            return false;
    return true;
}

bool collection_match(const struct collection *c, const struct record *rec, yyjson_doc **doc) {
    if ((c->ns && strcmp(c->ns, rec->ns) != 0) || (c->name && strcmp(c->name, rec->name) != 0))
        return false;
    if (selector_is_empty(c->labels) && selector_is_empty(c->fields))
        return true;
    if (c->fields && !may_match_fields(c->fields, rec))
        return false;
    if (!*doc)
        *doc = served_doc(c->kind, rec, 0);
    yyjson_val *object = yyjson_doc_get_root(*doc);
    struct kind_fields fields = {.kind = c->kind, .object = object};
    return selector_match_labels(c->labels, object_labels(object)) &&
           (!c->fields || selector_match_fields(c->fields, kind_fields_get, &fields));
}

struct record **collection_snapshot(const struct collection *c, size_t *n) {
    const struct resource *r = kind_resource(c->s, c->kind);
    if (!c->name || (!c->ns && c->kind->namespaced))
        return recordmap_snapshot(&r->objects, c->ns, n);
    struct record *rec = storage_get(r, str_or(c->ns, ""), c->name);
    *n = rec != NULL;
    if (!rec)
        return NULL;
    struct record **one = xmalloc(sizeof(struct record *));
    *one = record_ref(rec);
    return one;
}

/* A list on its way to the client, from a snapshot: what is not written yet is kept as references only. */
struct list_job {
    struct collection *c;
    struct record **records;
    size_t n, at;
    bool any;
    int64_t now;
    struct buf piece;
};

static void job_free(struct list_job *j) {
    recordmap_free_snapshot(j->records, j->n);
    buf_free(&j->piece);
    collection_free(j->c);
    free(j);
}

static void job_begin(struct list_job *j) {
    struct collection *c = j->c;
    char rev[24];
    snprintf(rev, sizeof(rev), "%" PRIu64, c->page.rev);
    const struct table_meta meta = {rev, c->page.next, (int64_t)c->page.left};
    if (c->form == FORM_TABLE) {
        table_begin(&j->piece, c->kind, &meta, true);
        return;
    }
    _cleanup_(free_p) char *api_version = kind_api_version(c->kind);
    bool partial = c->form == FORM_PARTIAL_LIST;
    buf_addf(&j->piece, "{\"kind\":\"%s\",\"apiVersion\":\"%s\",\"metadata\":{\"resourceVersion\":\"%s\"",
             partial ? "PartialObjectMetadataList" : c->kind->list_kind, partial ? "meta.k8s.io/v1" : api_version, rev);
    if (meta.continue_token)
        buf_addf(&j->piece, ",\"continue\":\"%s\"", meta.continue_token);
    if (meta.remaining)
        buf_addf(&j->piece, ",\"remainingItemCount\":%" PRId64, meta.remaining);
    buf_add_str(&j->piece, "},\"items\":[");
}

static void job_item(struct list_job *j, struct record *rec, yyjson_doc *doc) {
    struct collection *c = j->c;
    bool converted = kind_needs_conversion(c->kind);
    if (j->any && c->form != FORM_TABLE)
        buf_add_char(&j->piece, ',');
    if ((c->form == FORM_JSON || c->form == FORM_UNMANAGED) && !converted) {
        render_json(&j->piece, c->kind, rec, 0, c->form, !c->kind->custom);
        return;
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *own = doc ? NULL : served_doc(c->kind, rec, 0);
    yyjson_val *object = yyjson_doc_get_root(doc ? doc : own);
    if (c->form == FORM_TABLE)
        table_row(&j->piece, c->kind, object, c->q.include, j->now, !j->any);
    else if (c->form == FORM_PARTIAL_LIST)
        table_partial_metadata(&j->piece, object);
    else
        render_converted(&j->piece, c->kind, rec, object, c->form);
}

/* Adds objects until the piece is full (limit bytes) or all are in. */
static void job_fill(struct list_job *j, size_t limit) {
    for (; j->at < j->n && j->piece.len < limit; j->at++) {
        struct record *rec = j->records[j->at];
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
        if (collection_match(j->c, rec, &doc)) {
            job_item(j, rec, doc);
            j->any = true;
        }
        record_unref(rec);
        j->records[j->at] = NULL;
    }
    if (j->at < j->n)
        return;
    if (j->c->form == FORM_TABLE)
        table_end(&j->piece);
    else
        buf_add_str(&j->piece, "]}");
}

static void job_respond(struct list_job *j) {
    struct http_request *r = j->c->http;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc =
        j->c->q.pretty && j->piece.len < PRETTY_MAX ? yyjson_read(j->piece.ptr, j->piece.len, 0) : NULL;
    size_t len = 0;
    _cleanup_(free_p) char *pretty = doc ? json_write_pretty(yyjson_doc_get_root(doc), &len) : NULL;
    http_respond(r, 200, "application/json", pretty ? bytes_of(pretty, len) : buf_bytes(&j->piece));
    job_free(j);
}

static void job_closed(void *arg) {
    job_free(arg);
}

static void job_run(void *arg) {
    struct list_job *j = arg;
    struct http_request *r = j->c->http;
    for (;;) {
        int full = http_write(r, buf_bytes(&j->piece));
        buf_clear(&j->piece);
        if (j->at == j->n) {
            http_end(r);
            job_free(j);
            return;
        }
        job_fill(j, PIECE);
        if (full)
            return; /* job_run again when drained */
    }
}

void list_serve(struct collection *c) {
    struct list_job *j = NEW(struct list_job);
    j->c = c;
    j->now = clock_wall_s();
    buf_init(&j->piece, PIECE_MAX);
    j->records = page_take(c, &j->n);
    job_begin(j);
    job_fill(j, c->q.pretty ? PRETTY_MAX : PIECE);
    if (j->at == j->n) {
        job_respond(j);
        return;
    }
    http_start(c->http, 200, "application/json", -1);
    http_on_close(c->http, job_closed, j);
    http_on_drained(c->http, job_run, j);
    job_run(j);
}
