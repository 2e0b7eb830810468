/* The CustomResourceDefinitions of manifests/crds, built into cloudcore: a standalone cloud brings them along. Over
 * another API server they are the administrator's to apply. */
#pragma once

#include "kube/client.h"

/* Makes those that are missing and renews those that differ; waits for it, so only while starting. */
int crds_install(struct loop *l, struct kube_client *k, struct error *err) MUST_CHECK;
