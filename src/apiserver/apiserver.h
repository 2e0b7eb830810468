/* The embedded Kubernetes API server of `cloudcore --standalone`: one process, one machine, SQLite underneath.
 *
 * It runs on threads of its own (one loop for requests, cache, watches and controllers; one writer for the database)
 * and is talked to by HTTPS only, with the kubeconfig files that it writes: there is no back door.
 *
 * In the data folder (made with mode 0700): api.db, and pki/ with its own CA, the server's certificate, and the client
 * certificates of the kubeconfigs. Keys have mode 0600. What was answered with 2xx is on disk. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct apiserver;

struct apiserver_options {
    const char *data_dir;
    const char *address; /* to listen on; NULL: 127.0.0.1 */
    uint16_t port;       /* 0: any free one, see apiserver_port */
    /* The host in the kubeconfigs' server URL; NULL: address, or 127.0.0.1 where that is a wildcard. */
    const char *advertise_address;
    const char *const *extra_sans; /* names and addresses for the server's certificate; NULL-terminated, or NULL */
    const char *admin_kubeconfig;  /* where to write it (mode 0600); NULL: <data_dir>/admin.kubeconfig */
    bool no_controllers;           /* only the API: for tests and benches */
    int node_grace_s;              /* a node without a renewed lease for so long is not Ready; 0: 40 */
    /* Where the kubelets of all nodes are reached on this machine: the port of cloudcore's stream server. 0: nowhere */
    uint16_t node_port;
    int event_ttl_s; /* Events are dropped when untouched for so long; 0: 3600 */
};

/* Makes what is missing in the data folder, loads the database, listens, writes the kubeconfigs. Ready to serve when it
 * returns; blocks until then (well under two seconds with 50,000 objects). ERR_EXISTS: the port is in use; ERR_INVALID:
 * the database is damaged; ERR_UNSUPPORTED: it was written by a newer version. The options are copied. */
int apiserver_start(struct apiserver **out, const struct apiserver_options *o, struct error *err) MUST_CHECK;
uint16_t apiserver_port(const struct apiserver *s);
/* Path of the kubeconfig for cloudcore itself: user system:cloudcore, which may do what the ClusterRole of that name
 * and those of manifests/rbac.yaml say. Owned by the server. */
const char *apiserver_component_kubeconfig(const struct apiserver *s);
/* The certificate and key files that whoever serves node_port must show. Owned by the server. */
const char *apiserver_node_cert(const struct apiserver *s);
const char *apiserver_node_key(const struct apiserver *s);
/* Finishes the writes under way, ends watches and connections, joins the threads, frees. Call it from any thread but
 * its own. NULL is fine. */
void apiserver_stop(struct apiserver *s);
