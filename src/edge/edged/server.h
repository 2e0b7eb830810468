/* Edged's side of edge/kubelet.h: which request goes where, and how answers are written. Private to server*.c. */
#pragma once

#include "edge/edged/pod_worker.h"
#include "edge/kubelet.h"

/* The answer of one call. */
struct answer {
    const struct kubelet_caller *caller;
    void *arg;
    bool head; /* write an HTTP head, and the body in chunks */
};

/* A whole answer, its text as the kubelet's. */
void answer_error(const struct answer *a, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);
void answer_start(const struct answer *a, const char *content_type);
int answer_piece(const struct answer *a, struct bytes piece); /* 1: full */
void answer_end(const struct answer *a); /* the last byte; the caller is not told by it that the call is over */

/* A request that names a container of a pod: "/exec/<ns>/<pod>[/<uid>]/<container>". Strings are owned. */
struct target {
    char *ns, *pod, *uid, *container;
};
void target_free(struct target *t);
/* The pod, or NULL: answered. */
struct pod_worker *target_pod(struct pods *ps, const struct target *t, const struct answer *a);
/* And its container, or NULL: answered. */
struct worker_container *target_container(struct pods *ps, const struct target *t, const struct answer *a);

/* The `open` of struct kubelet; arg is the struct pods. */
struct kubelet_call *server_open(void *arg, const struct tunnel_request *r, bool head,
                                 const struct kubelet_caller *caller, void *caller_arg);

/* Each opens a call, or answers at once and returns NULL. */
struct kubelet_call *logs_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                               const struct answer *a);
struct kubelet_call *exec_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                               const struct answer *a);
struct kubelet_call *attach_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                                 const struct answer *a);
struct kubelet_call *port_forward_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                                       const struct answer *a);
/* server_stats.c: /stats/summary and /metrics/resource. NULL with *known false: the path is something else. */
struct kubelet_call *stats_open(struct pods *ps, const struct tunnel_request *r, const struct answer *a, bool *known);
