/* The one way to change an object, for HTTP requests and controllers alike: decode, default, check, store
 * (embedded-api.md 1.10 to 1.16, 4). Admission of who may do it has happened before. */
#pragma once

#include "apiserver/server.h"
#include "kube/ownership.h"

enum write_verb { WRITE_CREATE, WRITE_UPDATE, WRITE_PATCH, WRITE_DELETE };
enum field_validation { FIELDS_WARN, FIELDS_STRICT, FIELDS_IGNORE };
enum propagation { PROPAGATE_DEFAULT, PROPAGATE_BACKGROUND, PROPAGATE_FOREGROUND, PROPAGATE_ORPHAN };

struct delete_options {
    int64_t grace_s; /* < 0: not given */
    enum propagation propagation;
    char *uid, *rv; /* preconditions; owned, NULL: none */
};
void delete_options_free(struct delete_options *o);
/* From a DeleteOptions object. */
int delete_options_read(struct delete_options *o, yyjson_val *body, bool *dry_run, struct fail *f) MUST_CHECK;

/* What became of it. Valid during the call of done. */
struct write_result {
    int code;                /* HTTP */
    struct record *rec;      /* the object as it is now, or as it was before it was removed; NULL: a Status is due */
    uint64_t rev;            /* where rec was removed: the revision of that; else 0 */
    bool removed;            /* the object is gone */
    struct strlist warnings; /* for Warning headers */
    struct fail fail;        /* code is 0 if all went well */
};

struct identity;
struct write {
    struct apiserver *s;
    const struct kind *kind;
    enum write_verb verb;
    const char *ns, *name, *subresource; /* "" where there is none */
    enum body_type body_type;
    const struct identity *user; /* who asks; NULL: the server itself */
    struct bytes body;           /* JSON, protobuf or a patch */
    bool dry_run;
    enum field_validation fields;
    const char *manager;          /* whom the written fields belong to; NULL: the server itself */
    bool force;                   /* an apply takes over what others own */
    struct delete_options delete; /* WRITE_DELETE; taken over */
    /* Called later, from the loop, once the outcome is on disk. NULL: nobody waits. */
    void (*done)(void *arg, struct write_result *r);
    void *arg;
};
/* 0: done will be called. -1: refused, f says why, done is not called. Everything in w is borrowed for the call only,
 * but for `delete`. warnings may be filled in both cases. */
int write_submit(struct write *w, struct fail *f) MUST_CHECK;

/* ---- between the files of the write path ---- */

/* A write being decided. */
struct draft {
    struct write *w;
    struct fail *f;
    struct resource *resource;
    struct record *old;  /* newest state, NULL if there is none */
    yyjson_doc *old_doc; /* its served form; NULL if old is */
    yyjson_mut_doc *d;   /* holds obj */
    yyjson_mut_val *obj; /* the object to be, served form */
    yyjson_doc *config;  /* what is applied, decoded; NULL: no apply */
    yyjson_doc *sent;    /* {"metadata":{"managedFields":[...]}} that the client wants; NULL: it said nothing */
    struct strlist warnings;
    int code;
};

/* body.c: the request's body as an object of the kind, into t->obj. */
int body_decode(struct draft *t) MUST_CHECK;
/* 415 where the kind does not take such a patch. */
int body_check_patch_type(const struct draft *t) MUST_CHECK;
/* patch applied to the old object, decoded. */
int body_patch(struct draft *t) MUST_CHECK;
/* What became of members that the kind does not have, as fieldValidation wants it. */
int body_report_unknown(struct draft *t, const struct strlist *unknown, bool patch) MUST_CHECK;
/* Any JSON or protobuf body (DeleteOptions, Binding, reviews); an empty one gives NULL and 0. */
int body_parse(struct bytes body, enum body_type type, yyjson_doc **out, struct fail *f) MUST_CHECK;

/* apply.c: what the body applies, into t->config; then laid over the old object, into t->obj, or the object to create
 * where there is no old one. */
int apply_decode(struct draft *t) MUST_CHECK;
int apply_to_old(struct draft *t) MUST_CHECK;

/* managed.c: who owns what, to be stored with the text; BYTES_EMPTY: the text stays as it is. *changed: owners differ
 * from those of the old object, times aside. */
int managed_settle(struct draft *t, struct bytes text, struct buf *owners, bool *changed) MUST_CHECK;
/* Who owned what of the old object (tree), and which of them the draft's applier is; -1: none. */
void managed_before(const struct draft *t, struct ownership *o, const struct field_tree *tree, int *applier);
/* The topology of the kind's objects, as stored. */
struct topology managed_topology(const struct kind *k);

/* metadata.c */
int metadata_create(struct draft *t) MUST_CHECK;
int metadata_update(struct draft *t) MUST_CHECK;
/* status and main object keep to their parts; generation. */
int separate_status(struct draft *t) MUST_CHECK;
void update_generation(struct draft *t);
int namespace_check(struct draft *t) MUST_CHECK;

/* write.c */
int store_draft(struct draft *t) MUST_CHECK;             /* validated: put, or nothing changed, or dry run */
int store_removal(struct draft *t, int code) MUST_CHECK; /* t->old goes */
int draft_validate(struct draft *t, const char *subresource) MUST_CHECK; /* 422 */
/* delete.c */
int write_delete(struct draft *t) MUST_CHECK;
bool nothing_holds(yyjson_mut_val *obj, const struct kind *k); /* deleting, and no finalizer or grace is left */
/* subresource.c */
int write_binding(struct draft *t) MUST_CHECK;
/* eviction.c */
int write_eviction(struct draft *t) MUST_CHECK;
/* scale.c; t->old is there */
int write_scale(struct draft *t) MUST_CHECK;
char *scale_text(const struct record *rec, size_t *len); /* the Scale of a stored object; owned */
/* admit_workloads.c: what a Service or Pod gets from what else there is */
int admit_workload(struct draft *t) MUST_CHECK;
