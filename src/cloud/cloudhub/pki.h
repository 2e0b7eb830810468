/* The CA of the fleet, CloudHub's certificate and the join token (wire-protocol.md 4.4 to 4.6).
 *
 * They live in Secrets of namespace kubeedge, shared by all cloudcores of a cluster. A Secret is created only if it is
 * absent, and what is there wins: two cloudcores that start together agree on one CA, and an existing CA is never
 * replaced, for every edge trusts it by its hash. */
#pragma once

#include "cloud/config.h"
#include "kube/client.h"
#include "net/tls.h"

#define PKI_NAMESPACE "kubeedge"

struct hub_pki {
    struct buf ca_cert_pem, ca_cert_der;
    struct buf ca_key_pem, ca_key_der; /* SEC 1; the token's key as well */
    struct buf server_cert_pem, server_key_pem;
};

/* Reads or makes all of it; waits for the API server (see sync_call.h). Local PEM files named in the configuration come
 * first; half a pair, and a CA other than the one in the Secret, are refused. */
int hub_pki_load(struct hub_pki *p, struct loop *l, struct kube_client *k, const struct cloud_config *c,
                 struct error *err) MUST_CHECK;
void hub_pki_free(struct hub_pki *p);

/* A join token that lives for two refresh periods. */
int hub_pki_new_token(const struct hub_pki *p, const struct cloud_config *c, struct buf *out,
                      struct error *err) MUST_CHECK;

/* Signs the request of a node. use_server, use_client: extended key usages asked for. */
int hub_pki_sign_edge(const struct hub_pki *p, const struct cloud_config *c, const char *node, struct bytes csr_der,
                      bool use_server, bool use_client, struct buf *cert_der, struct error *err) MUST_CHECK;

/* NULL-terminated list of what the server certificate must name; free() it, not its items. */
const char **hub_pki_sans(const struct cloud_config *c);

/* Renews tokensecret every refresh period, on the control loop, until stopped. */
struct token_keeper;
struct token_keeper *token_keeper_start(struct loop *l, struct kube_client *k, const struct hub_pki *p,
                                        const struct cloud_config *c);
void token_keeper_stop(struct token_keeper *t); /* NULL is fine */
