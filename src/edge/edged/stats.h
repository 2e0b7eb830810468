/* What the node, its pods and its containers use, as a kubelet tells it: the Summary API and /metrics/resource
 * (streams.md 2.4). Measured when somebody asks, at most once a second; nothing is measured when nobody does. */
#pragma once

#include "edge/edged/image_gc.h"
#include "edge/edged/pods.h"

enum stats_form {
    STATS_SUMMARY,          /* JSON */
    STATS_SUMMARY_CPU_ONLY, /* JSON, only CPU and memory */
    STATS_RESOURCE,         /* Prometheus text */
};

struct stats;
struct stats *stats_new(struct pods *ps, struct image_gc *images);
void stats_free(struct stats *s); /* after pool and CRI; who waits is not called. NULL is fine */
/* done(arg, text) is called once, later; text is borrowed. CPU rates are those since the question before, or over the
 * first tenth of a second where there was none. */
struct stats_request;
struct stats_request *stats_ask(struct stats *s, enum stats_form form, void (*done)(void *arg, struct bytes text),
                                void *arg);
void stats_cancel(struct stats_request *r); /* done is not called; NULL is fine */
