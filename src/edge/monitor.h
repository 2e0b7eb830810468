/* What an operator may ask edgecore over HTTP, where the kubelet answers at KubeEdge's edge: tailoredKubeletConfig's
 * address and readOnlyPort (127.0.0.1:10350; port 0: nowhere).
 *
 *   GET /metrics    Prometheus text
 *   GET /healthz    200 while the loop runs; also /healthz/ping and /healthz/syncloop, which tools of the kubelet ask
 *   GET /stats/summary      JSON, the kubelet's Summary API; ?only_cpu_and_memory=true
 *   GET /metrics/resource   Prometheus text: CPU and memory of node, pods and containers
 *   GET /readyz     200 while pods can be started and stored; else 503 with the reason. Being offline is no reason:
 *                   selvage_edgehub_connected tells that
 *
 * Nothing is changed and nothing secret is shown by these, so they need no credentials. */
#pragma once

#include "edge/edge_config.h"
#include "net/loop.h"

struct monitor;
struct stats;

/* NULL: ready. Otherwise why not, valid until the next call. */
typedef const char *monitor_ready(void *arg);

/* stats: NULL where there is no Edged to ask. A port in use is tried again, since pods matter more than being watched.
 */
struct monitor *monitor_new(struct loop *l, const struct edged_config *c, struct stats *stats, monitor_ready *ready,
                            void *arg);
void monitor_free(struct monitor *m); /* NULL is fine */
