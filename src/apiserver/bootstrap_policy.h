/* The roles and bindings that are there from the start (embedded-api.md 7.2). */
#pragma once

struct apiserver;
/* Makes those that are missing; adds missing rules and subjects to the others, where
 * rbac.authorization.kubernetes.io/autoupdate is not set to "false". Submits writes, waits for nothing. */
void bootstrap_policy(struct apiserver *s);
