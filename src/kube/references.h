/* What a pod spec refers to. Sans-IO. */
#pragma once

#include "kube/location.h"

#define MIRROR_ANNOTATION "kubernetes.io/config.mirror" /* a static pod of the node, shown in the cloud */

/* Calls fn for each reference of the pod, possibly several times for the same object. Names only: all are in the pod's
 * namespace. Ordinary, init and ephemeral containers count alike. */
void pod_references(yyjson_val *pod, void (*fn)(void *arg, enum location_kind kind, const char *name), void *arg);
