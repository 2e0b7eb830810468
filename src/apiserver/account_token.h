/* Tokens of service accounts: JSON Web Tokens signed by the server's own key (embedded-api.md 7.1). A token is good
 * while its time runs, its account is there with the uid that it names, and so is the object it is bound to. */
#pragma once

#include "apiserver/auth.h"
#include "base/json.h"

#define TOKEN_ISSUER "https://kubernetes.default.svc.cluster.local"

struct token_keeper;
/* Reads <dir>/sa.key, or makes it (mode 0600). Blocks: start only. */
int token_keeper_open(struct token_keeper **out, const char *dir, struct error *err) MUST_CHECK;
void token_keeper_free(struct token_keeper *k);

/* See auth_token. */
int account_token_check(struct apiserver *s, struct bytes token, const struct strlist *audiences, struct identity *out,
                        struct strlist *matched, struct error *err) MUST_CHECK;

struct call;
/* token_request.c: answers POST serviceaccounts/<name>/token. */
void token_request_serve(struct call *c);

struct token_claims { /* of a token to be made; all borrowed */
    const char *ns, *account, *account_uid;
    yyjson_val *audiences;                           /* list of strings */
    const char *bound_kind, *bound_name, *bound_uid; /* bound_kind "": to nothing but the account */
    const char *node, *node_uid;                     /* where the pod is that it is bound to; NULL: unknown */
    int64_t now, lifetime_s;
};
/* The signed token. Owned. */
int account_token_make(struct apiserver *s, const struct token_claims *claims, char **out,
                       struct error *err) MUST_CHECK;

/* Documents for those who verify tokens themselves. */
void account_token_jwks(const struct apiserver *s, struct buf *out);
void account_token_configuration(struct buf *out);
