/* EdgeController: pods, ConfigMaps, Secrets and Nodes down to the nodes; what the nodes report and ask up to the API
 * server (resource-sync.md 1). On the control loop. */
#pragma once

#include "cloud/cloudhub/cloudhub.h"

struct edgecontroller;

struct edgecontroller_options {
    struct loop *loop;
    struct kube_client *kube;
    const struct cloud_config *config;
    void (*synced)(void *arg); /* once: everything was listed, nodes may come in */
    void *arg;
};
struct edgecontroller *edgecontroller_new(const struct edgecontroller_options *o);
void edgecontroller_start(struct edgecontroller *e); /* begins to list and watch */
void edgecontroller_free(struct edgecontroller *e);  /* NULL is fine */
/* From now on nodes are reached through hub; NULL: no longer. */
void edgecontroller_set_hub(struct edgecontroller *e, struct cloudhub *hub);
bool edgecontroller_synced(const struct edgecontroller *e);

/* CloudHub's handlers; arg is the struct edgecontroller. */
void edgecontroller_connected(void *arg, const char *node);
void edgecontroller_request(void *arg, struct hub_request *r);
