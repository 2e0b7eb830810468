/* Private to edgecontroller/. */
#pragma once

#define LOG_COMPONENT "edgecontroller"

#include "base/log.h"
#include "base/str.h"
#include "cloud/edgecontroller/answer.h"
#include "cloud/edgecontroller/authorize.h"
#include "cloud/edgecontroller/edgecontroller.h"
#include "kube/client.h"
#include "kube/object.h"
#include "kube/reflector.h"
#include "net/metrics.h"

struct downstream;

struct edgecontroller {
    struct edgecontroller_options o;
    struct cloudhub *hub; /* NULL until the hub runs */
    struct location *location;
    struct downstream *downstream;
    bool told_synced;
    struct metric *requests, *denied, *failed;
};

/* ---- downstream.c ---- */
struct downstream *downstream_new(struct edgecontroller *e);
void downstream_start(struct downstream *d);
void downstream_free(struct downstream *d);
bool downstream_synced(const struct downstream *d);
/* Everything that the node should have: its Node, its pods, what they use. */
void downstream_converge(struct downstream *d, const char *node);
bool downstream_is_edge_node(const struct downstream *d, const char *node);
/* Does the Node say already that its session is here? */
bool downstream_noted(const struct downstream *d, const char *node);
/* The pod as the API server told it last; NULL if there is none. */
yyjson_val *downstream_pod(const struct downstream *d, const char *ns, const char *name);
/* The pod is gone, or is another one now: tell the node to delete the one with that uid ("" if unknown). */
void downstream_delete_stale_pod(struct downstream *d, const char *node, const char *ns, const char *name,
                                 const char *uid);

/* ---- upstream.c: one request on its way ---- */
struct route;
struct upstream {
    struct edgecontroller *e;
    struct hub_request *hub;
    const struct route *route;
    struct edge_request r;
    char *ns, *type, *name; /* what r points to */
    yyjson_doc *content;    /* parsed string content; may be NULL */
    char *text;             /* scratch of the handler, freed at the end */
};

/* What is done with an allowed request. `found` is the object as it is now, for requests that were looked up. */
struct route {
    const char *type, *operations;
    enum answer_shape shape;
    bool silent; /* no answer on success: events */
    const char *group, *version, *plural;
    bool namespaced;
    void (*handle)(struct upstream *u, yyjson_val *found);
};

/* Each ends the request. */
void upstream_finish(struct upstream *u);
void upstream_answer_text(struct upstream *u, const char *resource, const char *rv, char *text, size_t len);
void upstream_succeed(struct upstream *u, yyjson_val *object); /* object gives the RV and, by shape, the content */
void upstream_fail(struct upstream *u, yyjson_val *status, const struct error *err);

/* An API call for u; done gets u as its argument. body is copied. */
struct upstream_call {
    const char *verb, *sub, *content_type;
    struct bytes body;
    bool as_cloud; /* never impersonate */
    bool collection;
    void (*done)(void *u, struct kube_result *r);
};
void upstream_call(struct upstream *u, const struct upstream_call *c);
/* The usual end: succeed or fail by the result. */
void upstream_done(void *u, struct kube_result *r);

/* ---- handlers ---- */
void handle_query(struct upstream *u, yyjson_val *found);       /* upstream.c */
void handle_create(struct upstream *u, yyjson_val *found);      /* upstream.c: POST of the content */
void handle_replace(struct upstream *u, yyjson_val *found);     /* upstream.c: PUT of the content */
void handle_token(struct upstream *u, yyjson_val *found);       /* upstream.c */
void handle_event_patch(struct upstream *u, yyjson_val *found); /* upstream.c */
void handle_node_insert(struct upstream *u, yyjson_val *found); /* upstream_node.c */
void handle_node_update(struct upstream *u, yyjson_val *found);
void handle_node_patch(struct upstream *u, yyjson_val *found);
void handle_nodestatus_insert(struct upstream *u, yyjson_val *found);
void handle_nodestatus_update(struct upstream *u, yyjson_val *found);
void handle_pod_patch(struct upstream *u, yyjson_val *found); /* upstream_pod.c */
void handle_pod_delete(struct upstream *u, yyjson_val *found);
void handle_podstatus(struct upstream *u, yyjson_val *found);
/* A pod that is not there: answers, and has the node delete it. */
void pod_not_found(struct upstream *u, const struct error *err, yyjson_val *status);

/* ---- objects.c: sans-IO ---- */
/* The object as it is sent down: without managedFields. Owned text. */
char *object_for_edge(yyjson_val *object, size_t *len);
/* Do two versions differ in more than status and bookkeeping? */
bool object_changed(yyjson_val *a, yyjson_val *b);
/* Cuts a patch to what an edge may change in a status: "status", and of metadata uid, resourceVersion and (of nodes)
 * annotations. uid, if not empty, is meant where the patch names no object. NULL if patch is none. */
char *status_patch_for_api(yyjson_val *patch, bool annotations, const char *uid, size_t *len);
/* The Node as it is created: name forced, annotation cloudcore set, labels that no node may give itself removed. With
 * `split`, labels under kubernetes.io are left out and returned as a merge patch in *labels (NULL if there are none).
 */
char *node_for_api(yyjson_val *node, const char *name, const char *cloud_address, bool split, size_t *len,
                   char **labels);
/* Labels and annotations of a Node as a merge patch, with the same exceptions. */
char *node_metadata_patch(yyjson_val *node, size_t *len);
