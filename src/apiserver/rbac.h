/* Role-based access control, compiled: who has which rules where (embedded-api.md 7.2).
 *
 * A compiled index is immutable and has no reference to what it was made of, so that it may be asked from any thread;
 * who changes the stored roles and bindings compiles a new one. A question costs two binary searches for each of the
 * asker's names, and a walk over the rules that he has. */
#pragma once

#include "apiserver/auth.h"
#include "apiserver/recordmap.h"

struct rbac;

struct rbac_sources { /* as stored */
    const struct recordmap *roles, *cluster_roles, *role_bindings, *cluster_role_bindings;
};
struct rbac *rbac_compile(const struct rbac_sources *from);
void rbac_free(struct rbac *x); /* NULL is fine */

bool rbac_allowed(const struct rbac *x, const struct identity *id, const struct access *a);

/* Each PolicyRule that the identity has cluster-wide and, with ns, in that namespace; until fn says false. */
void rbac_each_rule(const struct rbac *x, const struct identity *id, const char *ns,
                    bool (*fn)(void *arg, yyjson_val *rule), void *arg);
/* Does the identity have all that the PolicyRules (a list) grant, in ns ("": cluster-wide)? If not, the first rule that
 * goes beyond is described in *missing (owned). Rules too many to tell count as missing. */
bool rbac_covers(const struct rbac *x, const struct identity *id, const char *ns, yyjson_val *rules, char **missing);
/* The rules of a stored role, NULL if there is no such role: kind is Role (of ns) or ClusterRole. */
yyjson_val *rbac_role_rules(const struct rbac *x, const char *kind, const char *ns, const char *name);
