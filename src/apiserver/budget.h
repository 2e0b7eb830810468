/* PodDisruptionBudgets: how many of their pods may go. */
#pragma once

#include "apiserver/server.h"

struct budget {
    int64_t expected, healthy, desired; /* pods: selected, working, that must stay so */
};
/* From the newest state, so that deletions that are on their way count. -1: its selector means nothing. */
int budget_count(struct apiserver *s, yyjson_val *pdb, struct budget *out) MUST_CHECK;
static inline int64_t budget_allowed(const struct budget *b) {
    return b->healthy > b->desired && b->expected > 0 ? b->healthy - b->desired : 0;
}
