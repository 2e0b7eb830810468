/* The Node object of this machine: registration, status, lease (resource-sync.md 7.5). Part of edged; asks the cloud
 * through "metamanager" on the bus. Loop thread only. */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"
#include "edge/edged/pressure.h"
#include "net/pool.h"

/* What edged knows of the container runtime. Strings are borrowed for the call. */
struct node_runtime {
    const char *version; /* "containerd://1.7.24"; "" while unknown */
    /* Why the node is not ready: runtime or network down, first pod list not there yet, ... NULL: ready. */
    const char *not_ready;
};

struct node_agent;
struct node_agent *node_agent_new(struct loop *l, struct pool *p, struct bus *b, const struct edge_config *c);
/* Begins to register as soon as node_agent_set_runtime was called once and the cloud is connected. */
void node_agent_start(struct node_agent *n);
/* Call at every probe of the runtime (5 s): only changes cause traffic, and they are sent at once. */
void node_agent_set_runtime(struct node_agent *n, const struct node_runtime *r);
/* What the node is short of; a change is sent at once. */
void node_agent_set_pressure(struct node_agent *n, const bool pressure[N_PRESSURES]);
/* The node's first address, for hostIP; "" until found. */
const char *node_agent_ip(const struct node_agent *n);
const char *node_agent_uid(const struct node_agent *n); /* of the Node object; "" until known */
int64_t node_agent_allocatable_cpu_milli(const struct node_agent *n);
int64_t node_agent_allocatable_memory(const struct node_agent *n);
void node_agent_free(struct node_agent *n);
