/* REST client for any Kubernetes API server, JSON only, on a loop; and where its credentials come from. */
#pragma once

#include "base/json.h"
#include "net/http_client.h"

struct kube_client;

struct kube_config {
    char *server; /* https://host:port[/prefix] */
    struct buf ca_pem, cert_pem, key_pem;
    char *token;
    char *token_file; /* read again at least once a minute */
    char *namespace_; /* default namespace */
};
void kube_config_free(struct kube_config *c);
/* current-context of a kubeconfig: client certificate and key, token, tokenFile, CA, each as data or file (relative to
 * the kubeconfig). Refused with a sentence that says what to do: exec plugins, auth providers,
 * insecure-skip-tls-verify, http:// servers. */
int kube_config_load(const char *path, struct kube_config *out, struct error *err) MUST_CHECK;
/* The same from its text; folder is what relative file names in it are relative to. name is used in messages. */
int kube_config_parse(struct bytes yaml, const char *name, const char *folder, struct kube_config *out,
                      struct error *err) MUST_CHECK;
/* In-cluster: KUBERNETES_SERVICE_HOST/PORT and the service account's files. */
int kube_config_in_cluster(struct kube_config *out, struct error *err) MUST_CHECK;
/* The same with the files in another folder. */
int kube_config_service_account(const char *folder, const char *host, const char *port, struct kube_config *out,
                                struct error *err) MUST_CHECK;

struct kube_client *kube_client_new(struct loop *l, const struct kube_config *c, const char *user_agent,
                                    struct error *err) MUST_CHECK;
void kube_client_free(struct kube_client *k); /* cancels its calls and streams without calling back */

struct kube_result {
    int status;         /* HTTP; 0: no answer */
    yyjson_val *body;   /* parsed JSON answer (object or Status), NULL if none. Borrowed */
    yyjson_doc *doc;    /* holds body; TAKE it to keep it */
    struct error error; /* ERR_NONE for 2xx; else by error_from_status, or why there was no answer */
    int retry_after_s;  /* -1: none */
};
struct kube_request {
    const char *verb;         /* "GET", "POST", "PUT", "PATCH", "DELETE" */
    const char *path;         /* "/api/v1/namespaces/x/pods/y"; see kube_path */
    const char *query;        /* without '?', or NULL */
    const char *content_type; /* NULL: application/json */
    struct bytes body;        /* copied */
    int timeout_ms;           /* 0: 30 s */
    size_t max_body;          /* of the answer; 0: 32 MiB */
    bool try_once;            /* no retries: for callers that have their own */
    /* Impersonate-User/-Group: a node's own identity (system:node:<n>, system:nodes); NULL: ours */
    const char *as_node;
    void (*done)(void *arg, struct kube_result *r); /* may be NULL */
    void *arg;
};
#define KUBE_STRATEGIC_MERGE "application/strategic-merge-patch+json"
#define KUBE_MERGE_PATCH "application/merge-patch+json"

/* 429, 502, 503, 504 and connection failures of GETs are tried again with backoff (Retry-After honoured) within the
 * timeout; writes only when the connection was refused or the server said 429. */
struct kube_call;
struct kube_call *kube_call(struct kube_client *k,
                            const struct kube_request *r); /* never NULL: failures come by done */
void kube_call_cancel(struct kube_call *c);

/* A streamed GET with our credentials (watches, logs): see http_call_options for the handlers. Cancel it with
 * http_call_cancel. No retries, no deadline. NULL only for a malformed path or query. */
struct kube_stream {
    const char *path, *query;
    int idle_timeout_ms;
    bool (*data)(void *arg, struct bytes piece);
    void (*started)(void *arg, int status);
    void (*done)(void *arg, const struct http_result *r);
    void *arg;
};
struct http_call *kube_stream(struct kube_client *k, const struct kube_stream *s, struct error *err) MUST_CHECK;

/* "/api/v1" or "/apis/<group>/<version>" + [/namespaces/<ns>]/<plural>[/<name>][/<sub>], percent-encoded; owned. NULL
 * or "" parts are left out. */
char *kube_path(const char *group, const char *version, const char *ns, const char *plural, const char *name,
                const char *sub);
struct loop *kube_client_loop(struct kube_client *k);
