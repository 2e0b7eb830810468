/* Who asks (authentication), and whether they may (authorisation): embedded-api.md 7. */
#pragma once

#include "apiserver/fail.h"
#include "base/str.h"
#include "net/http_server.h"

struct apiserver;
struct change;

#define GROUP_MASTERS "system:masters"
#define GROUP_NODES "system:nodes"
#define GROUP_AUTHENTICATED "system:authenticated"
#define NODE_USER_PREFIX "system:node:"
#define ACCOUNT_USER_PREFIX "system:serviceaccount:"

struct identity {
    char *user, *uid; /* uid may be NULL */
    struct strlist groups;
    struct strlist extra; /* key, value, key, value, ...: the values of a key follow each other */
};
void identity_free(struct identity *id);
bool identity_has_group(const struct identity *id, const char *group);
void identity_add_extra(struct identity *id, const char *key, const char *value);
/* The node whose agent this is; NULL: it is none. */
const char *identity_node_name(const struct identity *id);
/* A service account with its groups. */
void identity_set_account(struct identity *id, const char *ns, const char *name);

/* From the client certificate or the bearer token, and the Impersonate headers. Fails with 401, 403 or 400. */
int auth_identify(struct apiserver *s, struct http_request *r, struct identity *out, struct fail *f) MUST_CHECK;
/* The same for a token alone (TokenReview): ERR_DENIED or ERR_EXPIRED, err says why. audiences empty: the server's own;
 * those of them that the token is for are added to *matched, which may be NULL. */
int auth_token(struct apiserver *s, struct bytes token, const struct strlist *audiences, struct identity *out,
               struct strlist *matched, struct error *err) MUST_CHECK;

struct access {
    const char *verb; /* "get", "list", ... */
    const char *group, *resource, *subresource, *ns, *name;
    const char *field_selector; /* of list and watch; may be NULL */
    const char *path;           /* of a request for no resource; else NULL */
};
bool auth_allowed(struct apiserver *s, const struct identity *id, const struct access *a);
/* 403 in the words of kubectl's users. Always -1. */
int auth_refuse(const struct identity *id, const struct access *a, struct fail *f);
/* Does a field selector pin the field to this value? */
bool auth_selects(const char *selector, const char *field, const char *value);

/* What the answers are looked up in: the compiled rules of RBAC, and what the pods of each node use. */
struct authorizer;
struct authorizer *authorizer_new(struct apiserver *s);
void authorizer_free(struct authorizer *z);
void authorizer_change(struct authorizer *z, const struct change *c); /* a committed one */
const struct rbac *authorizer_rbac(struct authorizer *z);             /* as committed; until the next change */
/* node_rules.c: may the agent of a node? pods: of all nodes. */
struct location;
bool node_allowed(struct apiserver *s, const struct location *pods, const char *node, const struct access *a);
