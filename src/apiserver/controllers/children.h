/* What controllers that make pods have in common: pods from templates, adoption and release, percentages. */
#pragma once

#include "apiserver/controllers/reconcile.h"
#include "apiserver/controllers/view.h"
#include "kube/selector.h"

/* "metadata.ownerReferences" of what obj controls. */
void child_owned_by(yyjson_mut_doc *d, yyjson_mut_val *child, yyjson_val *obj);
/* A pod from obj's template, named after obj; the caller may add to it. */
yyjson_mut_val *child_pod(yyjson_mut_doc *d, yyjson_val *obj, yyjson_val *template);
/* Creates it. -1: refused, and *why says so; owned. */
int child_create(struct item *it, const struct kind *k, yyjson_mut_val *child, char **why);

/* The pods that obj controls, those of its namespace that it adopts now (the selector finds them, nobody controls
 * them) being written. What it controls but no longer selects is released. Owned array of borrowed pods. */
struct pod_view **children_claim(struct item *it, struct view *v, const struct kind *pods, yyjson_val *obj,
                                 const struct selector *s, size_t *n);
/* Marks those of the resource that may have to do with an orphan that appeared or changed its labels. */
void children_pod_changed(struct reconciler *r, struct resource *resource, const char *kind, const struct pod_view *was,
                          const struct pod_view *is);

/* A number, or a percentage of total, rounded up or down; fallback where it is missing. */
int64_t amount_of(yyjson_val *v, int64_t total, bool up, int64_t fallback);
/* A short hash of a template, as in names and labels; collisions are told apart by count. buf has 11 bytes. */
#define TEMPLATE_HASH_SIZE 11
char *template_hash(yyjson_val *template, int64_t collisions, char buf[TEMPLATE_HASH_SIZE]);

/* The condition of that type, NULL if there is none. */
yyjson_val *condition_of(yyjson_val *obj, const char *type);
/* Adds a condition, with its times kept where its status (and all of it) stays. */
struct new_condition {
    const char *type, *status, *reason, *message;
    const char *update_time; /* member that changes with the reason; NULL: none */
    bool touched;            /* and changes now, though nothing else does */
};
void condition_add(yyjson_mut_doc *d, yyjson_mut_val *list, yyjson_val *obj, const struct new_condition *c);
void event_about_object(struct apiserver *s, yyjson_val *obj, const char *type, const char *reason,
                        const char *component, const char *message);
