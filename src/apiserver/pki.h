/* The server's own certificate authority, its certificates and the kubeconfig files (embedded-api.md 7.4). Blocks:
 * start only. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

struct pki {
    struct buf ca_cert, ca_key;         /* signs the server's and the clients' certificates */
    struct buf server_cert, server_key; /* for the listener */
};

/* Reads <dir>/ca.crt, ca.key, server.crt and server.key, makes what is missing. The server's certificate is made anew,
 * with the same key, when it lacks one of the SANs (NULL-terminated) or nears its end. */
int pki_open(struct pki *p, const char *dir, const char *const *sans, struct error *err) MUST_CHECK;
void pki_free(struct pki *p);

struct pki_identity {
    const char *file;         /* "admin": <dir>/admin.crt and .key */
    const char *user, *group; /* group "": none */
    const char *kubeconfig;   /* where to */
};
/* Issues the identity if it is missing, of another CA, another user's, or has less than 90 days left, and writes the
 * kubeconfig (mode 0600) with everything inline. */
int pki_issue_identity(const struct pki *p, const char *dir, const struct pki_identity *id, struct buf *cert,
                       struct buf *key, struct error *err) MUST_CHECK; /* the same without kubeconfig */
/* A server certificate <dir>/<name>.crt, with its key, for the names in sans: as in pki_open. */
int pki_open_server(const struct pki *p, const char *dir, const char *name, const char *const *sans, struct buf *cert,
                    struct buf *key, struct error *err) MUST_CHECK;
int pki_write_kubeconfig(const struct pki *p, const char *dir, const struct pki_identity *id, const char *server_url,
                         struct error *err) MUST_CHECK;
