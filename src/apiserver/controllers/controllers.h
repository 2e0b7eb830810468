/* The controllers that the embedded server needs (embedded-api.md section 6), on its own loop.
 *
 * All are level-triggered: a change only marks what is to be looked at, the decision is taken from the present state
 * after the commit, and is written through the same path as a client's write. They never wait, and repeat nothing that
 * would change nothing. */
#pragma once

#include "apiserver/write.h"

struct controllers;
struct controllers *controllers_new(struct apiserver *s);
void controllers_free(struct controllers *c);
/* About once a second. */
void controllers_tick(struct controllers *c);

/* One controller: a row of the table in controllers.c. Every function may be NULL but new and free. */
struct controller_type {
    const char *name;
    void *(*new)(struct apiserver *s);
    void (*change)(void *self, const struct change *c); /* mark only: other changes of the commit may follow */
    void (*work)(void *self);                           /* after each commit, and once at start */
    void (*tick)(void *self, int64_t now_ms);
    void (*free)(void *self);
};
extern const struct controller_type scheduler_controller, node_controller, namespace_controller,
    serviceaccount_controller, event_ttl_controller, crd_controller, replicaset_controller, deployment_controller,
    daemonset_controller, job_controller, endpoints_controller, garbage_controller, pod_gc_controller,
    service_ips_controller, budget_controller, cluster_role_controller;

/* ---- for the controllers ---- */

/* The resource of a built-in kind: changes are told apart by it. */
struct resource *controller_resource(struct apiserver *s, const char *group, const char *plural);
/* Submits w with its kind found by group, version and plural; a refusal is logged at debug level (the state has moved
 * on; the next change brings the next look). 0 if done will be called. */
int controller_write(struct write *w, struct apiserver *s, const char *group, const char *version, const char *plural);
/* Deletes one object, with its default grace. */
/* As controller_write, of a kind that is at hand; a refusal is the caller's, who clears f. */
int controller_submit(struct write *w, struct apiserver *s, const struct kind *k, struct fail *f) MUST_CHECK;
/* The kind whose objects the resource stores; NULL if it is served no more. */
const struct kind *controller_kind(struct apiserver *s, const struct resource *r);
void controller_delete(struct apiserver *s, const struct kind *k, const struct record *rec);
bool record_deleting(const struct record *rec);

/* An Event about an object. type "Normal" or "Warning". */
struct event_about {
    const char *api_version, *kind, *ns, *name, *uid;
};
void controller_event(struct apiserver *s, const struct event_about *about, const char *type, const char *reason,
                      const char *component, const char *message);
