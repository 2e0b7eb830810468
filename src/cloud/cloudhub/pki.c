#define LOG_COMPONENT "cloudhub"
#include "cloud/cloudhub/pki.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cloud/cloudhub/identity.h"
#include "cloud/cloudhub/secret.h"
#include "wire/token.h"

#include <unistd.h>

#define CA_SECRET "casecret"
#define SERVER_SECRET "cloudcoresecret"
#define DAY_S (24 * 3600)
#define SERVER_LIFETIME_S (100LL * 364 * DAY_S)
#define PEM_MAX (256u << 10)

/* What hub_pki_load works with. */
struct loading {
    struct hub_pki *pki;
    struct loop *loop;
    struct kube_client *kube;
    const struct cloud_config *config;
};

/* Both files: 1, and read. None: 0. One of them: refused. */
static int read_local_pair(const char *cert_file, const char *key_file, struct buf *cert, struct buf *key,
                           struct error *err) {
    bool has_cert = !str_empty(cert_file) && access(cert_file, F_OK) == 0;
    bool has_key = !str_empty(key_file) && access(key_file, F_OK) == 0;
    if (!has_cert && !has_key)
        return 0;
    if (has_cert != has_key)
        return error_set(err, ERR_INVALID, "%s exists, but %s does not: put both files in place, or remove the one",
                         has_cert ? cert_file : key_file, has_cert ? key_file : cert_file);
    buf_clear(cert);
    buf_clear(key);
    if (file_read(cert_file, cert, err) < 0 || file_read(key_file, key, err) < 0)
        return -1;
    if (x509_check_pair(buf_bytes(cert), buf_bytes(key), err) < 0)
        return error_wrap(err, "%s and %s", cert_file, key_file);
    return 1;
}

/* ---- the CA ---- */

static int complete_ca(struct hub_pki *p, struct error *err) {
    if (x509_cert_pem_to_der(buf_bytes(&p->ca_cert_pem), &p->ca_cert_der, err) < 0 ||
        x509_key_pem_to_der(buf_bytes(&p->ca_key_pem), &p->ca_key_der, err) < 0)
        return error_wrap(err, "the CA");
    return 0;
}

static int ca_from_secret(struct hub_pki *p, const struct sync_answer *s, struct error *err) {
    if (secret_value(s, CA_SECRET, "cadata", &p->ca_cert_der, err) < 0 ||
        secret_value(s, CA_SECRET, "cakeydata", &p->ca_key_der, err) < 0)
        return -1;
    buf_clear(&p->ca_cert_pem);
    buf_clear(&p->ca_key_pem);
    if (x509_cert_der_to_pem(buf_bytes(&p->ca_cert_der), &p->ca_cert_pem, err) < 0 ||
        x509_key_der_to_pem(buf_bytes(&p->ca_key_der), &p->ca_key_pem, err) < 0 ||
        x509_check_pair(buf_bytes(&p->ca_cert_pem), buf_bytes(&p->ca_key_pem), err) < 0)
        return error_wrap(err, "Secret " PKI_NAMESPACE "/" CA_SECRET);
    return 0;
}

static int ca_to_secret(struct loading *l, struct sync_answer *out, struct error *err) {
    const struct secret_field fields[] = {{"cadata", buf_bytes(&l->pki->ca_cert_der)},
                                          {"cakeydata", buf_bytes(&l->pki->ca_key_der)}};
    return secret_create_or_get(l->loop, l->kube, CA_SECRET, fields, ARRAY_LEN(fields), out, err);
}

/* The Secret must hold the CA of the files: two CAs in one fleet lock edges out. */
static int check_same_ca(struct loading *l, struct error *err) {
    struct sync_answer s;
    if (ca_to_secret(l, &s, err) < 0)
        return -1;
    _cleanup_(buf_free) struct buf stored = BUF_INIT(PEM_MAX);
    int rc = secret_value(&s, CA_SECRET, "cadata", &stored, err);
    sync_answer_free(&s);
    if (rc < 0)
        return -1;
    if (!bytes_eq(buf_bytes(&stored), buf_bytes(&l->pki->ca_cert_der)))
        return error_set(
            err, ERR_CONFLICT,
            "the CA in %s is not the one in Secret " PKI_NAMESPACE "/" CA_SECRET
            ": move the files away if the edges trust the Secret's CA, delete the Secret if they trust the "
            "file's",
            l->config->hub.ca_file);
    return 0;
}

static int load_ca(struct loading *l, struct error *err) {
    struct hub_pki *p = l->pki;
    int local =
        read_local_pair(l->config->hub.ca_file, l->config->hub.ca_key_file, &p->ca_cert_pem, &p->ca_key_pem, err);
    if (local < 0)
        return -1;
    if (local > 0)
        return complete_ca(p, err) < 0 ? -1 : check_same_ca(l, err);

    struct sync_answer s;
    struct error why = ERROR_INIT;
    int rc = secret_get(l->loop, l->kube, CA_SECRET, &s, &why);
    if (rc < 0 && why.code != ERR_NOT_FOUND)
        return error_set(err, why.code, "%s", error_text(&why));
    if (rc < 0) {
        if (x509_new_key(&p->ca_key_pem, err) < 0 ||
            x509_new_ca("KubeEdge", buf_bytes(&p->ca_key_pem), &p->ca_cert_pem, err) < 0 || complete_ca(p, err) < 0 ||
            ca_to_secret(l, &s, err) < 0)
            return -1;
        log_info("no CA found: made one, kept in Secret " PKI_NAMESPACE "/" CA_SECRET);
    }
    /* What the Secret holds counts, also if we just tried to create it: another cloudcore may have been faster. */
    rc = ca_from_secret(p, &s, err);
    sync_answer_free(&s);
    return rc;
}

/* ---- the server certificate ---- */

const char **hub_pki_sans(const struct cloud_config *c) {
    const struct strlist *lists[] = {&c->hub.advertise_addresses, &c->hub.dns_names};
    const char **sans = xcalloc(lists[0]->count + lists[1]->count + 1, sizeof *sans);
    size_t n = 0;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            if (!str_empty(lists[l]->items[i])) /* the original's default list holds one empty name */
                sans[n++] = lists[l]->items[i];
    return sans;
}

/* The certificate that this process shows: its own addresses, on the key that all cloudcores share. */
static int sign_server(struct loading *l, const char *const *sans, struct error *err) {
    static const struct x509_subject subject = {.common_name = "KubeEdge", .organization = "KubeEdge"};
    struct hub_pki *p = l->pki;
    const struct x509_sign s = {.ca_cert_pem = buf_bytes(&p->ca_cert_pem),
                                .ca_key_pem = buf_bytes(&p->ca_key_pem),
                                .lifetime_s = SERVER_LIFETIME_S,
                                .server_auth = true,
                                .sans = sans};
    buf_clear(&p->server_cert_pem);
    if (x509_sign_key(&s, buf_bytes(&p->server_key_pem), &subject, &p->server_cert_pem, err) < 0)
        return error_wrap(err, "signing CloudHub's certificate");
    return 0;
}

static int server_fields(struct hub_pki *p, struct buf *cert_der, struct buf *key_der, struct secret_field fields[2],
                         struct error *err) {
    if (x509_cert_pem_to_der(buf_bytes(&p->server_cert_pem), cert_der, err) < 0 ||
        x509_key_pem_to_der(buf_bytes(&p->server_key_pem), key_der, err) < 0)
        return -1;
    fields[0] = (struct secret_field){"cloudcoredata", buf_bytes(cert_der)};
    fields[1] = (struct secret_field){"cloudcorekeydata", buf_bytes(key_der)};
    return 0;
}

/* Takes the key from the Secret and, if the certificate there lacks one of our addresses, stores the new one. */
static int server_from_secret(struct loading *l, struct sync_answer *s, const char *const *sans, struct error *err) {
    struct hub_pki *p = l->pki;
    _cleanup_(buf_free) struct buf cert = BUF_INIT(PEM_MAX);
    _cleanup_(buf_free_secret) struct buf key = BUF_INIT(PEM_MAX);
    if (secret_value(s, SERVER_SECRET, "cloudcoredata", &cert, err) < 0 ||
        secret_value(s, SERVER_SECRET, "cloudcorekeydata", &key, err) < 0)
        return -1;
    _cleanup_(buf_free) struct buf cert_pem = BUF_INIT(PEM_MAX);
    buf_clear(&p->server_key_pem);
    if (x509_key_der_to_pem(buf_bytes(&key), &p->server_key_pem, err) < 0 ||
        x509_cert_der_to_pem(buf_bytes(&cert), &cert_pem, err) < 0)
        return error_wrap(err, "Secret " PKI_NAMESPACE "/" SERVER_SECRET);
    if (sign_server(l, sans, err) < 0)
        return -1;
    if (x509_has_sans(buf_bytes(&cert_pem), sans))
        return 0;
    struct secret_field fields[2];
    buf_clear(&cert);
    buf_clear(&key);
    if (server_fields(p, &cert, &key, fields, err) < 0)
        return -1;
    struct error why = ERROR_INIT;
    if (secret_replace(l->loop, l->kube, SERVER_SECRET, s, fields, 2, &why) < 0)
        log_warn("the new certificate is used, but was not stored: %s", error_text(&why));
    else
        log_info("addresses changed: CloudHub's certificate was signed anew, with the same key");
    return 0;
}

static int load_server(struct loading *l, struct error *err) {
    struct hub_pki *p = l->pki;
    int local = read_local_pair(l->config->hub.cert_file, l->config->hub.key_file, &p->server_cert_pem,
                                &p->server_key_pem, err);
    if (local != 0)
        return local < 0 ? -1 : 0;
    _cleanup_(free_p) const char **sans = hub_pki_sans(l->config);
    struct sync_answer s;
    struct error why = ERROR_INIT;
    int rc = secret_get(l->loop, l->kube, SERVER_SECRET, &s, &why);
    if (rc < 0 && why.code != ERR_NOT_FOUND)
        return error_set(err, why.code, "%s", error_text(&why));
    if (rc < 0) {
        _cleanup_(buf_free) struct buf cert = BUF_INIT(PEM_MAX);
        _cleanup_(buf_free_secret) struct buf key = BUF_INIT(PEM_MAX);
        struct secret_field fields[2];
        if (x509_new_key(&p->server_key_pem, err) < 0 || sign_server(l, sans, err) < 0 ||
            server_fields(p, &cert, &key, fields, err) < 0 ||
            secret_create_or_get(l->loop, l->kube, SERVER_SECRET, fields, 2, &s, err) < 0)
            return -1;
    }
    rc = server_from_secret(l, &s, sans, err);
    sync_answer_free(&s);
    return rc;
}

int hub_pki_load(struct hub_pki *p, struct loop *loop, struct kube_client *k, const struct cloud_config *c,
                 struct error *err) {
    struct loading l = {p, loop, k, c};
    hub_pki_free(p);
    struct buf *all[] = {&p->ca_cert_pem, &p->ca_cert_der,     &p->ca_key_pem,
                         &p->ca_key_der,  &p->server_cert_pem, &p->server_key_pem};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_init(all[i], PEM_MAX);
    if (namespace_ensure(loop, k, err) < 0 || load_ca(&l, err) < 0 || load_server(&l, err) < 0)
        return -1;
    return 0;
}

void hub_pki_free(struct hub_pki *p) {
    buf_free(&p->ca_cert_pem);
    buf_free(&p->ca_cert_der);
    buf_free_secret(&p->ca_key_pem);
    buf_free_secret(&p->ca_key_der);
    buf_free(&p->server_cert_pem);
    buf_free_secret(&p->server_key_pem);
}

int hub_pki_new_token(const struct hub_pki *p, const struct cloud_config *c, struct buf *out, struct error *err) {
    int64_t expires = clock_wall_s() + 2 * c->hub.token_refresh_hours * 3600;
    return join_token_new(buf_bytes(&p->ca_cert_der), buf_bytes(&p->ca_key_der), expires, out, err);
}

int hub_pki_sign_edge(const struct hub_pki *p, const struct cloud_config *c, const char *node, struct bytes csr_der,
                      bool use_server, bool use_client, struct buf *cert_der, struct error *err) {
    struct x509_subject subject = {.organization = NODE_ORGANIZATION};
    (void)snprintf(subject.common_name, sizeof subject.common_name, NODE_NAME_PREFIX "%s", node);
    const struct x509_sign s = {.ca_cert_pem = buf_bytes(&p->ca_cert_pem),
                                .ca_key_pem = buf_bytes(&p->ca_key_pem),
                                .lifetime_s = c->hub.edge_cert_days * DAY_S,
                                .server_auth = use_server,
                                .client_auth = use_client};
    _cleanup_(buf_free) struct buf pem = BUF_INIT(PEM_MAX);
    if (x509_sign_csr(&s, csr_der, &subject, &pem, err) < 0)
        return -1;
    return x509_cert_pem_to_der(buf_bytes(&pem), cert_der, err);
}
