/* The kubelet's HTTP API of this node (streams.md 2), without a socket: whoever carries requests here (EdgeStream)
 * opens calls, and is handed the answers as bytes. One loop. */
#pragma once

#include "base/bytes.h"
#include "wire/tunnel.h"

struct kubelet_call;

/* Who asked. */
struct kubelet_caller {
    /* A piece of the answer, TUNNEL_CHUNK bytes or a little more. Returns 1 when the way is full: nothing more until
     * kubelet_call_room. */
    int (*data)(void *arg, struct bytes piece);
    /* So many bytes of the input have left us. */
    void (*consumed)(void *arg, size_t n);
    /* The answer is over. The call is gone once this returns. */
    void (*ended)(void *arg);
};

struct kubelet_call_ops {
    void (*input)(struct kubelet_call *c, struct bytes piece); /* after an upgrade: what the client says */
    void (*room)(struct kubelet_call *c);
    void (*cancel)(struct kubelet_call *c); /* the client is gone: no callback afterwards, c is invalid */
};
struct kubelet_call { /* begins each kind of call */
    const struct kubelet_call_ops *ops;
};

/* What EdgeStream is given by whoever serves the API (Edged). */
struct kubelet {
    /* head: the answer begins with an HTTP/1.1 head and ends so that a broken one can be told; else only the body.
     * NULL: the answer was given at once, by `data`, and is over; `ended` is not called. */
    struct kubelet_call *(*open)(void *arg, const struct tunnel_request *r, bool head,
                                 const struct kubelet_caller *caller, void *caller_arg);
    void *arg;
};

static inline void kubelet_call_input(struct kubelet_call *c, struct bytes piece) {
    c->ops->input(c, piece);
}
static inline void kubelet_call_room(struct kubelet_call *c) {
    c->ops->room(c);
}
static inline void kubelet_call_cancel(struct kubelet_call *c) {
    c->ops->cancel(c);
}
