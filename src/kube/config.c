#include "kube/client.h"

#include "base/file.h"
#include "base/str.h"
#include "base/yaml.h"

#include <stdio.h>

#define MAX_CONFIG (1024 * 1024)
#define MAX_PEM (1024 * 1024)
#define MAX_TOKEN (64 * 1024)
#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

void kube_config_free(struct kube_config *c) {
    free(c->server);
    buf_free(&c->ca_pem);
    buf_free(&c->cert_pem);
    buf_free_secret(&c->key_pem);
    free(c->token);
    free(c->token_file);
    free(c->namespace_);
    *c = (struct kube_config){0};
}

static void config_init(struct kube_config *c) {
    *c = (struct kube_config){.ca_pem = BUF_INIT(MAX_PEM), .cert_pem = BUF_INIT(MAX_PEM), .key_pem = BUF_INIT(MAX_PEM)};
}

/* What is being read: for messages, and for what file names are relative to. */
struct source {
    const char *name;
    const char *folder;
};

static char *resolve(const struct source *s, const char *file) {
    return file[0] == '/' ? xstrdup(file) : xasprintf("%s/%s", s->folder, file);
}

/* The entry called `name` of a list of {name, <member>: {...}}; NULL with err filled if it is missing. */
static yyjson_val *find_entry(const struct source *s, yyjson_val *root, const char *list, const char *member,
                              const char *name, struct error *err) {
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach (json_get(root, list), i, n, item) {
        if (str_eq(json_str(item, "name"), name)) {
            yyjson_val *v = json_get(item, member);
            if (v && yyjson_is_obj(v))
                return v;
        }
    }
    error_set(err, ERR_NOT_FOUND, "%s: no %s named \"%s\"", s->name, member, name);
    return NULL;
}

/* PEM from <key>-data (base64) or from the file that <key> names; data wins, as everywhere. Absent: nothing is added.
 */
static int read_pem(const struct source *s, yyjson_val *from, const char *key, struct buf *out, struct error *err) {
    char data_key[64];
    snprintf(data_key, sizeof data_key, "%s-data", key);
    const char *data = json_str(from, data_key);
    const char *file = json_str(from, key);
    if (!str_empty(data)) {
        if (base64_decode(bytes_str(data), out) < 0)
            return error_set(err, ERR_INVALID, "%s: %s is not base64, or larger than %d bytes", s->name, data_key,
                             MAX_PEM);
        return 0;
    }
    if (str_empty(file))
        return 0;
    _cleanup_(free_p) char *path = resolve(s, file);
    if (file_read(path, out, err) < 0)
        return error_wrap(err, "%s: %s", s->name, key);
    return 0;
}

static int set_server(struct kube_config *out, const char *name, const char *server, struct error *err) {
    if (str_empty(server))
        return error_set(err, ERR_INVALID, "%s: the cluster has no server", name);
    if (str_starts_with(server, "http://"))
        return error_set(err, ERR_UNSUPPORTED, "%s: server %s is not https: the API server must be reached over TLS",
                         name, server);
    if (!str_starts_with(server, "https://") || strlen(server) == strlen("https://"))
        return error_set(err, ERR_INVALID, "%s: server \"%s\" is not an https:// URL", name, server);
    out->server = xstrdup(server);
    for (size_t n = strlen(out->server); n > 0 && out->server[n - 1] == '/'; n--)
        out->server[n - 1] = 0;
    return 0;
}

static int read_cluster(const struct source *s, yyjson_val *cluster, struct kube_config *out, struct error *err) {
    if (json_bool_or(json_get(cluster, "insecure-skip-tls-verify"), false))
        return error_set(err, ERR_UNSUPPORTED,
                         "%s: insecure-skip-tls-verify is not supported: put the CA of the API server into "
                         "certificate-authority instead",
                         s->name);
    if (!str_empty(json_str(cluster, "tls-server-name")))
        return error_set(err, ERR_UNSUPPORTED, "%s: tls-server-name is not supported: use the name in server", s->name);
    if (!str_empty(json_str(cluster, "proxy-url")))
        return error_set(err, ERR_UNSUPPORTED, "%s: proxy-url is not supported: set https_proxy in the environment",
                         s->name);
    if (set_server(out, s->name, json_str(cluster, "server"), err) < 0)
        return -1;
    return read_pem(s, cluster, "certificate-authority", &out->ca_pem, err);
}

static int read_user(const struct source *s, yyjson_val *user, struct kube_config *out, struct error *err) {
    static const struct {
        const char *key, *instead;
    } refused[] = {
        {"exec", "programs are not run for credentials"},
        {"auth-provider", "auth providers are gone from Kubernetes too"},
        {"username", "passwords are gone from Kubernetes too"},
        {"as", "impersonation of a fixed user is not offered"},
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (json_get(user, refused[i].key))
            return error_set(err, ERR_UNSUPPORTED,
                             "%s: %s is not supported (%s): use a client certificate, a token or a tokenFile", s->name,
                             refused[i].key, refused[i].instead);
    if (read_pem(s, user, "client-certificate", &out->cert_pem, err) < 0 ||
        read_pem(s, user, "client-key", &out->key_pem, err) < 0)
        return -1;
    if ((out->cert_pem.len == 0) != (out->key_pem.len == 0))
        return error_set(err, ERR_INVALID, "%s: client-certificate and client-key go together", s->name);
    const char *file = json_str(user, "tokenFile"), *token = json_str(user, "token");
    if (!str_empty(file))
        out->token_file = resolve(s, file);
    else if (!str_empty(token))
        out->token = xstrdup(token);
    return 0;
}

static int read_config(const struct source *s, yyjson_val *root, struct kube_config *out, struct error *err) {
    const char *current = json_str(root, "current-context");
    if (str_empty(current))
        return error_set(err, ERR_INVALID, "%s: no current-context: is it a kubeconfig?", s->name);
    yyjson_val *context = find_entry(s, root, "contexts", "context", current, err);
    if (!context)
        return -1;
    const char *cluster_name = json_str(context, "cluster"), *user_name = json_str(context, "user");
    yyjson_val *cluster = find_entry(s, root, "clusters", "cluster", str_or(cluster_name, ""), err);
    if (!cluster || read_cluster(s, cluster, out, err) < 0)
        return -1;
    out->namespace_ = xstrdup(str_or(json_str(context, "namespace"), "default"));
    if (str_empty(user_name))
        return 0;
    yyjson_val *user = find_entry(s, root, "users", "user", user_name, err);
    return user ? read_user(s, user, out, err) : -1;
}

int kube_config_parse(struct bytes yaml, const char *name, const char *folder, struct kube_config *out,
                      struct error *err) {
    _cleanup_(yaml_doc_free) struct yaml_doc doc = {0};
    struct kube_config c;
    struct source s = {name, folder};
    if (yaml.len > MAX_CONFIG)
        return error_set(err, ERR_TOO_LARGE, "%s: larger than %d bytes", name, MAX_CONFIG);
    if (yaml_parse(yaml, name, &doc, err) < 0)
        return -1;
    config_init(&c);
    if (read_config(&s, yyjson_doc_get_root(doc.json), &c, err) < 0) {
        kube_config_free(&c);
        return -1;
    }
    *out = c;
    return 0;
}

int kube_config_load(const char *path, struct kube_config *out, struct error *err) {
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(MAX_CONFIG);
    if (file_read(path, &text, err) < 0)
        return error_wrap(err, "kubeconfig");
    const char *slash = strrchr(path, '/');
    _cleanup_(free_p) char *folder = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
    return kube_config_parse(buf_bytes(&text), path, folder, out, err);
}

static int read_service_account(const char *folder, struct kube_config *c, struct error *err) {
    _cleanup_(free_p) char *ca = xasprintf("%s/ca.crt", folder);
    _cleanup_(free_p) char *ns = xasprintf("%s/namespace", folder);
    _cleanup_(buf_free_secret) struct buf token = BUF_INIT(MAX_TOKEN);
    _cleanup_(buf_free) struct buf name = BUF_INIT(1024);
    c->token_file = xasprintf("%s/token", folder);
    if (file_read(c->token_file, &token, err) < 0 || file_read(ca, &c->ca_pem, err) < 0)
        return error_wrap(err, "in-cluster configuration");
    if (file_read(ns, &name, NULL) < 0)
        buf_clear(&name);
    struct bytes trimmed = bytes_trim(buf_bytes(&name));
    c->namespace_ = trimmed.len > 0 ? bytes_dup(trimmed) : xstrdup("default");
    return 0;
}

int kube_config_service_account(const char *folder, const char *host, const char *port, struct kube_config *out,
                                struct error *err) {
    struct kube_config c;
    int64_t n;
    if (str_empty(host) || parse_i64(bytes_str(port), 1, 65535, &n) < 0)
        return error_set(err, ERR_NOT_FOUND,
                         "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
                         "name a kubeconfig instead");
    config_init(&c);
    bool v6 = strchr(host, ':') && host[0] != '[';
    c.server = xasprintf("https://%s%s%s:%lld", v6 ? "[" : "", host, v6 ? "]" : "", (long long)n);
    if (read_service_account(folder, &c, err) < 0) {
        kube_config_free(&c);
        return -1;
    }
    *out = c;
    return 0;
}

int kube_config_in_cluster(struct kube_config *out, struct error *err) {
    return kube_config_service_account(SERVICE_ACCOUNT, getenv("KUBERNETES_SERVICE_HOST"),
                                       getenv("KUBERNETES_SERVICE_PORT"), out, err);
}
