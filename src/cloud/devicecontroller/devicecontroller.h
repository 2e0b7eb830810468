/* DeviceController: Devices and DeviceModels down to their nodes; what the nodes report of devices up into the
 * DeviceStatus and the Device's status (devices.md 2). On the control loop. */
#pragma once

#include "cloud/cloudhub/cloudhub.h"

struct devicecontroller;

struct devicecontroller_options {
    struct loop *loop;
    struct kube_client *kube;
};
struct devicecontroller *devicecontroller_new(const struct devicecontroller_options *o);
void devicecontroller_start(struct devicecontroller *c); /* begins to list and watch */
void devicecontroller_free(struct devicecontroller *c);  /* NULL is fine */
/* From now on nodes are reached through hub; NULL: no longer. */
void devicecontroller_set_hub(struct devicecontroller *c, struct cloudhub *hub);

/* CloudHub's handlers. */
void devicecontroller_connected(struct devicecontroller *c, const char *node);
/* A message whose source is "twin". Takes the request. */
void devicecontroller_request(struct devicecontroller *c, struct hub_request *r);
