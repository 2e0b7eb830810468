#include "apiserver/call.h"

#include "base/str.h"
#include "kube/object.h"

#define MANAGER_MAX 128
#define TEXT_MAX (64u << 20)

/* Waits for a write; the client may have gone meanwhile. */
struct waiting {
    struct http_request *http; /* NULL: gone */
    const struct kind *kind;   /* referenced */
    enum answer_form form;
    enum table_include include;
    bool pretty, status_only; /* bindings and evictions are answered with a Status */
    bool scale;               /* answered with a Scale */
};

static void client_gone(void *arg) {
    struct waiting *a = arg;
    a->http = NULL;
}

static void waiting_free(struct waiting *a) {
    kind_unref(a->kind);
    free(a);
}

static void answer_removed(struct waiting *a, const struct write_result *res) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(res->rec);
    size_t len;
    _cleanup_(free_p) char *status = success_status(200, a->kind->group, a->kind->plural, res->rec->name,
                                                    object_uid(yyjson_doc_get_root(doc)), &len);
    answer_json(a->http, res->code, bytes_of(status, len), a->pretty);
}

static void answer_object(struct waiting *a, const struct write_result *res) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(TEXT_MAX);
    if (a->scale) {
        size_t len;
        _cleanup_(free_p) char *text = scale_text(res->rec, &len);
        answer_json(a->http, res->code, bytes_of(text, len), a->pretty);
        return;
    }
    render_object(&out, a->kind, res->rec, res->rev, a->form, a->include, true);
    answer_json(a->http, res->code, buf_bytes(&out), a->pretty);
}

static void write_done(void *arg, struct write_result *res) {
    struct waiting *a = arg;
    struct http_request *r = a->http;
    if (r) {
        http_on_close(r, NULL, NULL);
        answer_warnings(r, &res->warnings);
        if (res->fail.code) {
            answer_fail(r, &res->fail);
        } else if (a->status_only) {
            size_t len;
            _cleanup_(free_p) char *status = success_status(201, NULL, NULL, NULL, NULL, &len);
            answer_json(r, 201, bytes_of(status, len), a->pretty);
        } else if (res->removed && res->code == 200 && !a->kind->delete_returns_object) {
            answer_removed(a, res);
        } else {
            answer_object(a, res);
        }
    }
    waiting_free(a);
}

static int read_dry_run(struct bytes query, bool *dry_run, struct fail *f) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *v = NULL;
    if (query_text(query, "dryRun", &v, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    if (str_empty(v))
        return 0;
    *dry_run = true;
    if (strcmp(v, "All") == 0)
        return 0;
    fail_cause(f, "FieldValueNotSupported", "dryRun", "Unsupported value: \"%.32s\": supported values: \"All\"", v);
    return fail_invalid(f, "meta.k8s.io", "CreateOptions", "");
}

/* Who writes: as the request says, else the program's name in its User-Agent. An applier has to say it. */
static int read_manager(struct http_request *r, enum body_type type, char **out, struct fail *f) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *manager = NULL;
    if (query_text(http_query(r), "fieldManager", &manager, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    if (manager && strlen(manager) > MANAGER_MAX) {
        fail_cause(f, "FieldValueTooLong", "fieldManager", "Too long: may not be more than %d bytes", MANAGER_MAX);
        return fail_invalid(f, "meta.k8s.io", "PatchOptions", "");
    }
    for (const char *p = str_or(manager, ""); *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            fail_cause(f, "FieldValueInvalid", "fieldManager",
                       "Invalid value: should only contain printable characters");
            return fail_invalid(f, "meta.k8s.io", "PatchOptions", "");
        }
    if (str_empty(manager) && type != BODY_APPLY_PATCH) {
        struct bytes name;
        bytes_cut(http_header(r, "User-Agent", NULL), '/', &name, NULL);
        *out = bytes_dup(bytes_of(name.ptr, utf8_valid(name) ? (name.len < MANAGER_MAX ? name.len : MANAGER_MAX) : 0));
    } else {
        *out = TAKE(manager);
    }
    return 0;
}

static int read_force(struct bytes query, const struct write *w, bool *out, struct fail *f) {
    *out = query_flag(query, "force");
    if (!*out || (w->verb == WRITE_PATCH && w->body_type == BODY_APPLY_PATCH) || w->verb != WRITE_PATCH)
        return 0;
    fail_cause(f, "FieldValueForbidden", "force", "Forbidden: may not be specified for non-apply patch");
    return fail_invalid(f, "meta.k8s.io", "PatchOptions", "");
}

static int read_field_validation(struct bytes query, enum field_validation *out, struct fail *f) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *v = NULL;
    if (query_text(query, "fieldValidation", &v, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    if (str_empty(v) || strcmp(v, "Warn") == 0)
        *out = FIELDS_WARN;
    else if (strcmp(v, "Strict") == 0)
        *out = FIELDS_STRICT;
    else if (strcmp(v, "Ignore") == 0)
        *out = FIELDS_IGNORE;
    else {
        fail_cause(f, "FieldValueNotSupported", "fieldValidation",
                   "Unsupported value: \"%.32s\": supported values: \"Ignore\", \"Strict\", \"Warn\"", v);
        return fail_invalid(f, "meta.k8s.io", "CreateOptions", "");
    }
    return 0;
}

/* The query's delete options, as a body would have them. They count only where there is no body. */
static int delete_options_of_query(struct bytes query, struct delete_options *o, bool *dry_run, struct fail *f) {
    struct error err = ERROR_INIT;
    _cleanup_(free_p) char *grace = NULL, *policy = NULL;
    if (query_text(query, "gracePeriodSeconds", &grace, &err) < 0 ||
        query_text(query, "propagationPolicy", &policy, &err) < 0)
        return fail_bad_request(f, "%s", error_text(&err));
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_doc_set_root(d, root);
    int64_t seconds;
    if (!str_empty(grace)) {
        if (parse_i64(bytes_str(grace), INT64_MIN, INT64_MAX, &seconds) < 0)
            return fail_bad_request(f, "gracePeriodSeconds is not a number");
        json_set_int(d, root, "gracePeriodSeconds", seconds);
    }
    if (!str_empty(policy))
        json_set_str(d, root, "propagationPolicy", policy);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_doc_imut_copy(d, NULL);
    return delete_options_read(o, yyjson_doc_get_root(doc), dry_run, f);
}

static int read_delete_options(struct call *c, struct delete_options *o, bool *dry_run) {
    *o = (struct delete_options){.grace_s = -1};
    struct bytes query = http_query(c->http), body = http_body(c->http);
    if (read_dry_run(query, dry_run, &c->fail) < 0)
        return -1;
    if (body.len == 0)
        return delete_options_of_query(query, o, dry_run, &c->fail);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
    if (body_parse(body, body_type_of(http_header(c->http, "Content-Type", NULL)), &doc, &c->fail) < 0)
        return -1;
    return delete_options_read(o, yyjson_doc_get_root(doc), dry_run, &c->fail);
}

void serve_write(struct call *c, enum write_verb verb) {
    struct http_request *r = c->http;
    struct write w = {.s = c->s,
                      .kind = c->kind,
                      .verb = verb,
                      .user = &c->id,
                      .ns = c->path.ns,
                      .name = c->path.name,
                      .subresource = c->path.subresource,
                      .body_type = body_type_of(http_header(r, "Content-Type", NULL)),
                      .body = http_body(r),
                      .delete = {.grace_s = -1},
                      .done = write_done};
    int rc = verb == WRITE_DELETE ? read_delete_options(c, &w.delete, &w.dry_run)
                                  : read_dry_run(http_query(r), &w.dry_run, &c->fail);
    _cleanup_(free_p) char *manager = NULL;
    if (rc < 0 || read_field_validation(http_query(r), &w.fields, &c->fail) < 0 ||
        read_force(http_query(r), &w, &w.force, &c->fail) < 0 || read_manager(r, w.body_type, &manager, &c->fail) < 0) {
        delete_options_free(&w.delete);
        answer_fail(r, &c->fail);
        return;
    }
    w.manager = manager;
    struct waiting *a = NEW(struct waiting);
    a->http = r;
    a->kind = kind_ref(c->kind);
    a->form = c->form;
    a->include = c->q.include;
    a->pretty = wants_pretty(r);
    a->status_only = verb == WRITE_CREATE && *c->path.subresource;
    a->scale = strcmp(c->path.subresource, "scale") == 0;
    w.arg = a;
    if (write_submit(&w, &c->fail) < 0) {
        waiting_free(a);
        answer_fail(r, &c->fail);
        return;
    }
    http_on_close(r, client_gone, a);
}

/* ---- deletecollection ---- */

static void collection_deleted(void *arg, const struct error *failed) {
    struct waiting *a = arg;
    struct fail f = {0};
    if (a->http) {
        http_on_close(a->http, NULL, NULL);
        if (failed) {
            fail_unavailable(&f, error_text(failed));
            answer_fail(a->http, &f);
        } else {
            size_t len;
            _cleanup_(free_p) char *status = success_status(200, NULL, NULL, NULL, NULL, &len);
            answer_json(a->http, 200, bytes_of(status, len), a->pretty);
        }
    }
    waiting_free(a);
}

/* Deletes one that the selectors match; what has gone meanwhile is fine. */
static int delete_one(struct call *c, const struct record *rec, const struct delete_options *o, bool dry_run) {
    struct write w = {.s = c->s,
                      .kind = c->kind,
                      .verb = WRITE_DELETE,
                      .ns = rec->ns,
                      .name = rec->name,
                      .subresource = "",
                      .dry_run = dry_run,
                      .delete = {.grace_s = o->grace_s, .propagation = o->propagation}};
    if (write_submit(&w, &c->fail) == 0)
        return 0;
    if (c->fail.code != 404)
        return -1;
    fail_clear(&c->fail);
    return 0;
}

static int delete_all(struct call *c, const struct collection *list) {
    struct delete_options o;
    bool dry_run = false;
    int rc = read_delete_options(c, &o, &dry_run);
    size_t n = 0;
    struct record **records = rc == 0 ? recordmap_snapshot(&kind_resource(c->s, c->kind)->objects, list->ns, &n) : NULL;
    for (size_t i = 0; i < n && rc == 0; i++) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = NULL;
        if (collection_match(list, records[i], &doc))
            rc = delete_one(c, records[i], &o, dry_run);
    }
    recordmap_free_snapshot(records, n);
    delete_options_free(&o);
    return rc;
}

void serve_delete_collection(struct call *c, struct collection *list) {
    int rc = delete_all(c, list);
    collection_free(list);
    if (rc < 0) {
        answer_fail(c->http, &c->fail);
        return;
    }
    struct waiting *a = NEW(struct waiting);
    a->http = c->http;
    a->kind = kind_ref(c->kind);
    a->pretty = wants_pretty(c->http);
    http_on_close(c->http, client_gone, a);
    storage_barrier(c->s->storage, collection_deleted, a);
}
