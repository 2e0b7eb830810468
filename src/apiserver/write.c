#include "apiserver/write.h"

#include "apiserver/admit.h"
#include "apiserver/defaults.h"
#include "apiserver/validate.h"
#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

/* A decided write on its way to the disk. */
struct op {
    void (*done)(void *arg, struct write_result *r);
    void *arg;
    struct write_result result;
};

static void op_finish(struct op *op) {
    if (op->done)
        op->done(op->arg, &op->result);
    record_unref(op->result.rec);
    strlist_free(&op->result.warnings);
    fail_clear(&op->result.fail);
    free(op);
}

static void op_stored(void *arg, const struct error *failed) {
    struct op *op = arg;
    if (failed)
        fail_unavailable(&op->result.fail, error_text(failed));
    op_finish(op);
}

static struct op *op_new(struct draft *t, struct record *rec, int code) {
    struct op *op = NEW(struct op);
    op->done = t->w->done;
    op->arg = t->w->arg;
    op->result.rec = record_ref(rec);
    op->result.code = code;
    op->result.warnings = t->warnings;
    t->warnings = (struct strlist){0};
    return op;
}

/* ---- storing ---- */

#define STORED_MAX (API_OBJECT_MAX * 2) /* the object and who owns what in it */

/* Text and stored record mean the same, though their members stand in another order? */
static bool same_meaning(const struct record *old, struct bytes text) {
    if (record_same(old, text))
        return true;
    _cleanup_(record_unref_p) struct record *rec = record_new(old->ns, old->name, text, old->rev, NULL);
    if (!rec)
        return false;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *a = record_parse(old), *b = record_parse(rec);
    return json_equal(yyjson_doc_get_root(a), yyjson_doc_get_root(b));
}

static int stored_text(struct draft *t, char **text, size_t *len) {
    const struct kind *k = t->w->kind;
    if (kind_needs_conversion(k))
        kind_to_stored(k, t->d, t->obj);
    _cleanup_(free_p) char *api_version = str_empty(k->storage_group)
                                              ? xstrdup(k->storage_version)
                                              : xasprintf("%s/%s", k->storage_group, k->storage_version);
    *text = record_write(t->d, t->obj, api_version, k->kind, len);
    if (*len <= API_OBJECT_MAX)
        return 0;
    free(*text);
    *text = NULL;
    return fail_set(t->f, 413, "RequestEntityTooLarge", "Request entity too large: limit is %u", API_OBJECT_MAX);
}

int store_draft(struct draft *t) {
    struct storage *st = t->w->s->storage;
    _cleanup_(free_p) char *text = NULL;
    size_t len;
    if (t->old && nothing_holds(t->obj, t->w->kind))
        return store_removal(t, t->code);
    if (stored_text(t, &text, &len) < 0)
        return -1;
    _cleanup_(buf_free) struct buf stored = BUF_INIT(STORED_MAX), owners = BUF_INIT(STORED_MAX);
    bool same = t->old && same_meaning(t->old, bytes_of(text, len)), new_owners;
    if (managed_settle(t, same ? BYTES_EMPTY : bytes_of(text, len), &owners, &new_owners) < 0)
        return -1;
    if (same && !new_owners) {
        storage_barrier(st, op_stored, op_new(t, t->old, t->code));
        return 0;
    }
    uint64_t rev = t->w->dry_run ? (t->old ? t->old->rev : 0) : storage_next_revision(st);
    buf_add_bytes(&stored, same ? record_text(t->old) : bytes_of(text, len));
    if (owners.len > 0) {
        buf_add_char(&stored, '\n');
        buf_add_bytes(&stored, buf_bytes(&owners));
    }
    _cleanup_(record_unref_p) struct record *rec =
        record_new(t->w->kind->namespaced ? t->w->ns : "", json_mut_str(t->obj, "metadata", "name"), buf_bytes(&stored),
                   rev, NULL);
    if (!rec)
        panic("apiserver: an object was written in the wrong form");
    struct op *op = op_new(t, rec, t->code);
    if (t->w->dry_run)
        storage_barrier(st, op_stored, op);
    else
        storage_put(st, t->resource, rec, op_stored, op);
    return 0;
}

int store_removal(struct draft *t, int code) {
    struct storage *st = t->w->s->storage;
    struct op *op = op_new(t, t->old, code);
    op->result.removed = true;
    if (t->w->dry_run)
        storage_barrier(st, op_stored, op);
    else
        op->result.rev = storage_delete(st, t->resource, t->old->ns, t->old->name, op_stored, op);
    return 0;
}

/* ---- deciding ---- */

int draft_validate(struct draft *t, const char *subresource) {
    const struct kind *k = t->w->kind;
    struct field_errors errors = {0};
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(t->obj, NULL);
    yyjson_val *obj = yyjson_doc_get_root(doc);
    if (t->old)
        validate_update(k, subresource, obj, yyjson_doc_get_root(t->old_doc), &errors, &t->warnings);
    else
        validate_create(k, obj, &errors, &t->warnings);
    if (errors.count == 0)
        return 0;
    for (size_t i = 0; i < errors.count; i++)
        fail_cause(t->f, field_error_reason(errors.items[i].type), errors.items[i].field, "%s",
                   errors.items[i].message);
    field_errors_free(&errors);
    return fail_invalid(t->f, k->group, k->kind, object_name(obj));
}

static bool is_crd(const struct kind *k) {
    return strcmp(k->plural, "customresourcedefinitions") == 0 && strcmp(k->group, "apiextensions.k8s.io") == 0;
}

/* A CRD is accepted or not by the register of kinds, in the same write that creates or changes it. */
static void settle_crd(struct draft *t) {
    static const char finalizer[] = "customresourcecleanup.apiextensions.k8s.io";
    if (!is_crd(t->w->kind) || *t->w->subresource)
        return;
    yyjson_mut_val *meta = json_ensure_obj(t->d, t->obj, "metadata");
    if (!t->old)
        yyjson_mut_arr_add_str(t->d, json_ensure_arr(t->d, meta, "finalizers"), finalizer);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(t->obj, NULL);
    json_set(t->d, t->obj, "status", kinds_crd_status(t->w->s->kinds, t->d, yyjson_doc_get_root(doc), clock_wall_s()));
}

/* A kind whose CRD is being deleted takes no new objects. */
static int crd_check(struct draft *t) {
    const struct kind *k = t->w->kind;
    if (!k->custom)
        return 0;
    _cleanup_(free_p) char *name = xasprintf("%s.%s", k->plural, k->group);
    struct resource *crds = storage_resource(t->w->s->storage, "apiextensions.k8s.io", "customresourcedefinitions");
    struct record *crd = storage_latest(t->w->s->storage, crds, "", name);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = crd ? record_parse(crd) : NULL;
    if (doc && !object_deleting(yyjson_doc_get_root(doc)))
        return 0;
    return fail_not_allowed(t->f, "create (the definition of the resource is being deleted)", k->group, k->plural);
}

static int create_decoded(struct draft *t) {
    const struct kind *k = t->w->kind;
    if (namespace_check(t) < 0 || crd_check(t) < 0 || metadata_create(t) < 0)
        return -1;
    defaults_apply(k, t->d, t->obj);
    defaults_create(k, t->d, t->obj);
    if (admit_workload(t) < 0 || draft_validate(t, "") < 0 || admit_write(t) < 0)
        return -1;
    const char *name = json_mut_str(t->obj, "metadata", "name");
    struct record *there = storage_latest(t->w->s->storage, t->resource, t->w->ns, name);
    if (there)
        return fail_exists(t->f, k->group, k->plural, name);
    settle_crd(t);
    t->code = 201;
    return store_draft(t);
}

static int write_create(struct draft *t) {
    if (strcmp(t->w->subresource, "binding") == 0)
        return write_binding(t);
    if (strcmp(t->w->subresource, "eviction") == 0)
        return write_eviction(t);
    return body_decode(t) < 0 ? -1 : create_decoded(t);
}

static int find_old(struct draft *t) {
    t->old = record_ref(storage_latest(t->w->s->storage, t->resource, t->w->ns, t->w->name));
    if (t->old)
        t->old_doc = served_doc(t->w->kind, t->old, 0);
    return t->old ? 0 : -1;
}

static int write_change(struct draft *t) {
    const struct kind *k = t->w->kind;
    bool patch = t->w->verb == WRITE_PATCH, apply = patch && t->w->body_type == BODY_APPLY_PATCH;
    if (patch && body_check_patch_type(t) < 0)
        return -1;
    if (apply && apply_decode(t) < 0)
        return -1;
    if (find_old(t) < 0) {
        if (apply && !*t->w->subresource)
            return apply_to_old(t) < 0 ? -1 : create_decoded(t);
        if (patch || !k->create_on_update || *t->w->subresource)
            return fail_not_found(t->f, k->group, k->plural, t->w->name);
        return write_create(t);
    }
    if (strcmp(t->w->subresource, "scale") == 0)
        return write_scale(t);
    if ((apply   ? apply_to_old(t)
         : patch ? body_patch(t)
                 : body_decode(t)) < 0 ||
        metadata_update(t) < 0 || separate_status(t) < 0)
        return -1;
    defaults_apply(k, t->d, t->obj);
    if (admit_workload(t) < 0 || draft_validate(t, t->w->subresource) < 0 || admit_write(t) < 0)
        return -1;
    settle_crd(t);
    update_generation(t);
    t->code = 200;
    return store_draft(t);
}

static int decide(struct draft *t) {
    switch (t->w->verb) {
    case WRITE_CREATE:
        return write_create(t);
    case WRITE_UPDATE:
    case WRITE_PATCH:
        return write_change(t);
    case WRITE_DELETE:
        return find_old(t) < 0 ? fail_not_found(t->f, t->w->kind->group, t->w->kind->plural, t->w->name)
                               : write_delete(t);
    }
    return -1;
}

int write_submit(struct write *w, struct fail *f) {
    struct draft t = {.w = w, .f = f, .resource = kind_resource(w->s, w->kind)};
    int rc = w->s->stopping ? fail_unavailable(f, "the server is shutting down") : decide(&t);
    record_unref(t.old);
    yyjson_doc_free(t.old_doc);
    yyjson_doc_free(t.config);
    yyjson_doc_free(t.sent);
    yyjson_mut_doc_free(t.d);
    strlist_free(&t.warnings);
    delete_options_free(&w->delete);
    return rc;
}
