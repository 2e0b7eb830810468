/* CloudStream: carries requests for the kubelets of edge nodes, kubectl logs and exec among them, from an API server
 * to the nodes, through the connection that each node has opened (streams.md 1).
 *
 * Two HTTPS servers on a thread of their own: the tunnel server for nodes, the stream server for API servers. The
 * stream server takes certificates of the API server's CA only, and of those the ones of system:masters and
 * kubeadm:cluster-admins: whoever gets in may run commands in any pod. */
#pragma once

#include "cloud/config.h"
#include "kube/client.h"

struct cloudstream;

struct cloudstream_options { /* copied; what is pointed to must stay until cloudstream_start returns */
    const struct cloud_config *config;
    const struct kube_config *kube_config;                /* must stay until cloudstream_stop */
    struct bytes ca_pem, server_cert_pem, server_key_pem; /* of the fleet */
    /* The stream server: its certificate, and where it listens. */
    struct bytes stream_cert_pem, stream_key_pem;
    const char *stream_address;
};

int cloudstream_start(struct cloudstream **out, const struct cloudstream_options *o, struct error *err) MUST_CHECK;
void cloudstream_stop(struct cloudstream *c); /* joins the thread; NULL is fine */
