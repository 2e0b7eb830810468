/* A queue of objects to look at: marked when something about them changed, looked at once after the commit, again when
 * asked for or, if a write failed, after a delay that doubles.
 *
 * While writes that a look submitted are on their way, the object is not looked at again: the next look sees what they
 * did, so that nothing is created or deleted twice. */
#pragma once

#include "apiserver/controllers/controllers.h"

struct reconciler;
struct item { /* an object that is looked at */
    struct reconciler *of;
    struct resource *resource;
    const char *ns, *name;
};

/* look: obj is the object as committed, NULL if it is gone; rec its record. */
typedef void reconcile_look(void *self, struct item *it, struct record *rec, yyjson_val *obj);
struct reconciler *reconciler_new(struct apiserver *s, reconcile_look *look, void *self);
void reconciler_free(struct reconciler *r);
void reconciler_mark(struct reconciler *r, struct resource *resource, const char *ns, const char *name);
void reconciler_mark_all(struct reconciler *r, struct resource *resource, const char *ns); /* ns NULL: of all */
void reconciler_work(struct reconciler *r);
void reconciler_tick(struct reconciler *r, int64_t now_ms);

/* ---- while looking at an object ---- */

/* Looks again in so many seconds at the latest. */
void item_again(struct item *it, int64_t in_s);
/* Looks again after a delay that doubles each time: something was refused. */
void item_failed(struct item *it);
/* A write, counted. -1: refused; why is the text of the refusal, owned by the caller, and may be NULL. */
int item_write(struct item *it, struct write *w, const struct kind *k, char **why);
/* Writes the object's status where it differs from what obj has. */
void item_status(struct item *it, const struct kind *k, yyjson_val *obj, yyjson_mut_doc *d, yyjson_mut_val *status);
/* Merge-patches another object. uid may be NULL. */
int item_patch(struct item *it, const struct kind *k, const char *ns, const char *name, const char *subresource,
               yyjson_mut_val *patch);
/* Deletes, if it is still the object of that uid. */
int item_delete(struct item *it, const struct kind *k, const char *ns, const char *name, const char *uid,
                enum propagation how);
/* Takes a finalizer from another object, as it was seen. */
void item_drop_finalizer(struct item *it, const struct kind *k, yyjson_val *obj, const char *finalizer);
