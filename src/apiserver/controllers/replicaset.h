#pragma once

#include "apiserver/controllers/children.h"

/* A pod that may be deleted. */
struct victim {
    struct pod_view *pod;
    int64_t siblings; /* on its node, itself included */
};
/* Puts the pods in the order in which they should go (embedded-api.md 6.2). */
void replicaset_victims(struct victim *list, size_t n);
