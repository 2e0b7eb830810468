/* CloudHub's HTTPS API on port 10002 (wire-protocol.md 4), and the metrics server. On the control loop. */
#pragma once

#include "cloud/cloudhub/pki.h"
#include "net/http_server.h"

struct hub_https;
struct hub_https_options {
    struct loop *loop;
    const struct cloud_config *config;
    const struct hub_pki *pki;
    struct kube_client *kube;
    bool (*ready)(void *arg); /* for /readyz */
    void *arg;
};
int hub_https_start(struct hub_https **out, const struct hub_https_options *o, struct error *err) MUST_CHECK;
void hub_https_stop(struct hub_https *h); /* NULL is fine */

/* The whole API: who may call what, with how large a body. Public so that a test can walk it. */
extern const struct http_route hub_https_routes[];
extern const size_t hub_https_n_routes;

/* May the bearer of these get a certificate? Sans-IO. cert: the client certificate in PEM, empty if none;
 * authorization: the header. ERR_DENIED with the text of wire-protocol.md 4.3. */
int edge_cert_authenticate(const struct hub_pki *p, const char *node, struct bytes cert_pem, struct bytes authorization,
                           int64_t now, struct error *err) MUST_CHECK;
/* Is that a request of this node for itself? ERR_INVALID: cannot be read; ERR_DENIED: another subject. */
int edge_csr_check(const char *node, struct bytes csr_der, struct error *err) MUST_CHECK;
/* Header ExtKeyUsages: a JSON array of 1 (serverAuth) and 2 (clientAuth); empty: clientAuth. */
int edge_cert_usages(struct bytes header, bool *server, bool *client, struct error *err) MUST_CHECK;
