/* What the controllers know of pods, nodes and owners without parsing them again: a digest of each pod and node, found
 * by name, by owner and by node, and who owns what among all objects. Follows the committed state.
 *
 * Every change of a pod or node is parsed once, here; controllers are told of the digest before and after. */
#pragma once

#include "apiserver/controllers/amounts.h"
#include "apiserver/controllers/controllers.h"

#include <uthash.h>

enum pod_phase { PHASE_PENDING, PHASE_RUNNING, PHASE_UNKNOWN, PHASE_SUCCEEDED, PHASE_FAILED };

struct host_port {
    char *ip; /* "" and "0.0.0.0" mean all */
    char protocol[8];
    int64_t port;
};

struct node_view;
struct owner;
struct pod_view {
    struct record *rec; /* the version that this was read from */
    enum pod_phase phase;
    bool deleting, ready, wants_node;
    int64_t ready_since_s, created_s, finished_s; /* 0: never */
    int64_t restarts, deletion_cost, priority;
    int64_t completion_index;                  /* of an indexed Job; -1: none */
    char *owner_kind, *owner_name, *owner_uid; /* of the controller; "" if it has none */
    char *node;                                /* "" if none */
    char *hash;                                /* pod-template-hash or controller-revision-hash; "" */
    char *wanted_node;                         /* a DaemonSet's pod: the node that its affinity names; "" */
    char *ip;                                  /* "" */
    yyjson_doc *labels;                        /* an object; NULL if there are none */
    struct amounts requests;
    struct host_port *ports;
    size_t n_ports;
    bool tracked; /* has the finalizer of Job tracking */
    /* private to view.c */
    struct owner *of;
    struct pod_view *owner_prev, *owner_next, *node_prev, *node_next;
    UT_hash_handle hh;
    char key[];
};
static inline bool pod_finished(const struct pod_view *p) {
    return p->phase >= PHASE_SUCCEEDED;
}
static inline bool pod_active(const struct pod_view *p) {
    return !pod_finished(p) && !p->deleting;
}
static inline yyjson_val *pod_labels(const struct pod_view *p) {
    return p->labels ? yyjson_doc_get_root(p->labels) : NULL;
}
/* Ready since at least min_ready_s; if not yet, *in_s is lowered to when it will be. */
bool pod_available(const struct pod_view *p, int64_t min_ready_s, int64_t now_s, int64_t *in_s);

struct node_view {
    char *name;
    yyjson_doc
        *doc;   /* metadata {name, labels}, spec {taints, unschedulable}, images; NULL: there is no such node (yet) */
    char *text; /* of doc, to see whether it changed */
    bool ready;
    struct amounts allocatable, used;
    struct pod_view *pods; /* bound to it, the finished ones too; linked by node_next */
    int64_t siblings;      /* the scheduler's, while it decides */
    int64_t gone_ms;       /* monotonic: since when it does not exist; 0: it does */
    UT_hash_handle hh;
};

struct view;
struct view *view_new(struct apiserver *s); /* from what is stored */
void view_free(struct view *v);
void view_change(struct view *v, const struct change *c);

/* was NULL: new; is NULL: gone. `was` is no longer in the view. For nodes only what matters here counts as a change:
 * it is told with what the node was in text, NULL if it did not exist. */
struct view_listener {
    void (*pod)(void *self, const struct pod_view *was, struct pod_view *is);
    void (*node)(void *self, struct node_view *node, bool existed);
    void *self;
};
void view_listen(struct view *v, struct view_listener l);

struct pod_view *view_pod(struct view *v, const char *ns, const char *name); /* NULL if there is none */
struct pod_view *view_pods(struct view *v);                                  /* all, linked by hh.next */
struct node_view *view_nodes(struct view *v); /* all that exist or have pods, by hh.next */
struct node_view *view_node(struct view *v, const char *name);
/* The pods that the object of this uid controls; linked by owner_next. */
struct pod_view *view_pods_of(struct view *v, const char *owner_uid);
/* The pods of a namespace that nobody controls; linked by owner_next. */
struct pod_view *view_orphans(struct view *v, const char *ns);

/* An object that names another one as its owner. */
struct dependent {
    struct resource *resource;
    struct record *rec; /* the version that names it */
    struct dependent *prev, *next;
};
struct dependent *view_dependents(struct view *v, const char *owner_uid); /* linked by next */
