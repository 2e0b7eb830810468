#define LOG_COMPONENT "apiserver"
#include "apiserver/pki.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/tls.h"

#include <stdio.h>

#define PEM_MAX (64u << 10)
#define DAY_S (24 * 3600)
#define RENEW_WITH_LEFT_S (90 * DAY_S)

static char *file_path(const char *dir, const char *name, const char *suffix) {
    return xasprintf("%s/%s%s", dir, name, suffix);
}

/* 1: read, 0: there is none. */
static int read_if_there(const char *path, struct buf *out, struct error *err) {
    struct error e = ERROR_INIT;
    buf_init(out, PEM_MAX);
    if (file_read(path, out, &e) == 0)
        return 1;
    if (e.code == ERR_NOT_FOUND)
        return 0;
    if (err)
        *err = e;
    return error_wrap(err, "read %s", path);
}

static int read_or_make_key(const char *path, struct buf *key, struct error *err) {
    int rc = read_if_there(path, key, err);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    if (x509_new_key(key, err) < 0 || file_write_atomic(path, buf_bytes(key), 0600, err) < 0)
        return error_wrap(err, "make the key %s", path);
    log_info("made a key file=%s", path);
    return 0;
}

static int open_ca(struct pki *p, const char *dir, struct error *err) {
    _cleanup_(free_p) char *cert = file_path(dir, "ca", ".crt"), *key = file_path(dir, "ca", ".key");
    if (read_or_make_key(key, &p->ca_key, err) < 0)
        return -1;
    int rc = read_if_there(cert, &p->ca_cert, err);
    if (rc < 0)
        return -1;
    if (rc == 0 && (x509_new_ca("selvage-apiserver-ca", buf_bytes(&p->ca_key), &p->ca_cert, err) < 0 ||
                    file_write_atomic(cert, buf_bytes(&p->ca_cert), 0644, err) < 0))
        return error_wrap(err, "make the certificate authority %s", cert);
    if (x509_check_pair(buf_bytes(&p->ca_cert), buf_bytes(&p->ca_key), err) < 0)
        return error_wrap(err, "%s does not belong to %s; restore the pair from a backup", cert, key);
    return 0;
}

static bool has_days_left(struct bytes cert) {
    struct x509_info info;
    return x509_cert_info(cert, &info, NULL) == 0 && info.not_after - clock_wall_s() > RENEW_WITH_LEFT_S;
}

int pki_open_server(const struct pki *p, const char *dir, const char *name, const char *const *sans, struct buf *cert,
                    struct buf *key, struct error *err) {
    _cleanup_(free_p) char *cert_path = file_path(dir, name, ".crt"), *key_path = file_path(dir, name, ".key");
    if (read_or_make_key(key_path, key, err) < 0 || read_if_there(cert_path, cert, err) < 0)
        return -1;
    struct bytes have = buf_bytes(cert);
    if (have.len > 0 && x509_has_sans(have, sans) && has_days_left(have) &&
        x509_check_pair(have, buf_bytes(key), NULL) == 0)
        return 0;
    const struct x509_sign sign = {.ca_cert_pem = buf_bytes(&p->ca_cert),
                                   .ca_key_pem = buf_bytes(&p->ca_key),
                                   .lifetime_s = 825 * DAY_S,
                                   .server_auth = true,
                                   .sans = sans};
    struct x509_subject subject = {.common_name = ""};
    snprintf(subject.common_name, sizeof(subject.common_name), "selvage-%s", name);
    buf_clear(cert);
    if (x509_sign_key(&sign, buf_bytes(key), &subject, cert, err) < 0 ||
        file_write_atomic(cert_path, buf_bytes(cert), 0644, err) < 0)
        return error_wrap(err, "make the server certificate %s", cert_path);
    log_info("made the server certificate file=%s", cert_path);
    return 0;
}

int pki_open(struct pki *p, const char *dir, const char *const *sans, struct error *err) {
    buf_init(&p->ca_cert, PEM_MAX);
    buf_init(&p->ca_key, PEM_MAX);
    buf_init(&p->server_cert, PEM_MAX);
    buf_init(&p->server_key, PEM_MAX);
    if (dir_make(dir, 0700, err) < 0 || open_ca(p, dir, err) < 0 ||
        pki_open_server(p, dir, "server", sans, &p->server_cert, &p->server_key, err) < 0) {
        pki_free(p);
        return -1;
    }
    return 0;
}

void pki_free(struct pki *p) {
    buf_free(&p->ca_cert);
    buf_free_secret(&p->ca_key);
    buf_free(&p->server_cert);
    buf_free_secret(&p->server_key);
}

int pki_issue_identity(const struct pki *p, const char *dir, const struct pki_identity *id, struct buf *cert,
                       struct buf *key, struct error *err) {
    _cleanup_(free_p) char *cert_path = file_path(dir, id->file, ".crt"), *key_path = file_path(dir, id->file, ".key");
    if (read_or_make_key(key_path, key, err) < 0 || read_if_there(cert_path, cert, err) < 0)
        return -1;
    struct bytes have = buf_bytes(cert);
    struct x509_info info;
    if (have.len > 0 && has_days_left(have) && x509_cert_info(have, &info, NULL) == 0 &&
        strcmp(info.subject.common_name, id->user) == 0 && strcmp(info.subject.organization, id->group) == 0 &&
        x509_check_pair(have, buf_bytes(key), NULL) == 0 && x509_verify_client(have, buf_bytes(&p->ca_cert), NULL) == 0)
        return 0;
    const struct x509_sign sign = {.ca_cert_pem = buf_bytes(&p->ca_cert),
                                   .ca_key_pem = buf_bytes(&p->ca_key),
                                   .lifetime_s = 365 * DAY_S,
                                   .client_auth = true};
    struct x509_subject subject = {.common_name = ""};
    strncpy(subject.common_name, id->user, sizeof(subject.common_name) - 1);
    strncpy(subject.organization, id->group, sizeof(subject.organization) - 1);
    buf_clear(cert);
    if (x509_sign_key(&sign, buf_bytes(key), &subject, cert, err) < 0 ||
        file_write_atomic(cert_path, buf_bytes(cert), 0644, err) < 0)
        return error_wrap(err, "issue the client certificate %s", cert_path);
    return 0;
}

static void add_data(struct buf *out, const char *key, const struct buf *pem) {
    buf_addf(out, "    %s: ", key);
    base64_encode(buf_bytes(pem), out);
    buf_add_char(out, '\n');
}

int pki_write_kubeconfig(const struct pki *p, const char *dir, const struct pki_identity *id, const char *server_url,
                         struct error *err) {
    _cleanup_(buf_free) struct buf cert = BUF_INIT(PEM_MAX);
    _cleanup_(buf_free_secret) struct buf key = BUF_INIT(PEM_MAX);
    if (pki_issue_identity(p, dir, id, &cert, &key, err) < 0)
        return error_wrap(err, "identity %s", id->user);
    _cleanup_(buf_free_secret) struct buf out = BUF_INIT(4 * PEM_MAX);
    buf_addf(&out, "apiVersion: v1\nkind: Config\nclusters:\n- name: selvage\n  cluster:\n    server: %s\n",
             server_url);
    add_data(&out, "certificate-authority-data", &p->ca_cert);
    buf_addf(&out, "users:\n- name: %s\n  user:\n", id->file);
    add_data(&out, "client-certificate-data", &cert);
    add_data(&out, "client-key-data", &key);
    buf_addf(&out,
             "contexts:\n- name: selvage\n  context:\n    cluster: selvage\n    user: %s\ncurrent-context: selvage\n",
             id->file);
    if (buf_check(&out, err, "kubeconfig") < 0 || file_write_atomic(id->kubeconfig, buf_bytes(&out), 0600, err) < 0)
        return error_wrap(err, "write the kubeconfig %s", id->kubeconfig);
    return 0;
}
