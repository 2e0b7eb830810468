#include "cloud/cloudhub/https.h"
#include "cloud/cloudhub/identity.h"
#include "wire/token.h"

static int check_client_cert(const struct hub_pki *p, const char *node, struct bytes cert_pem, struct error *err) {
    struct error why = ERROR_INIT;
    struct x509_info info;
    struct bytes named;
    if (x509_verify_client(cert_pem, buf_bytes(&p->ca_cert_pem), &why) < 0 ||
        x509_cert_info(cert_pem, &info, &why) < 0 || identity_node(&info.subject, &named, &why) < 0)
        return error_set(err, ERR_DENIED, "failed to verify the certificate for edgenode: %s, err: %s", node,
                         error_text(&why));
    if (!bytes_eq_str(named, node))
        return error_set(
            err, ERR_DENIED,
            "failed to verify the certificate for edgenode: %s, err: request node name is not match with the "
            "certificate",
            node);
    return 0;
}

int edge_cert_authenticate(const struct hub_pki *p, const char *node, struct bytes cert_pem, struct bytes authorization,
                           int64_t now, struct error *err) {
    if (cert_pem.len > 0)
        return check_client_cert(p, node, cert_pem, err);
    if (authorization.len == 0)
        return error_set(err, ERR_DENIED, "token validation failure, token is empty");
    struct bytes parts[2];
    if (bytes_split(authorization, ' ', parts, 2) != 2)
        return error_set(err, ERR_DENIED, "token validation failure, token cannot be split");
    struct error why = ERROR_INIT;
    if (join_token_verify(parts[1], buf_bytes(&p->ca_key_der), now, &why) < 0)
        return error_set(err, ERR_DENIED, "token validation failure, err: %s", error_text(&why));
    return 0;
}

int edge_csr_check(const char *node, struct bytes csr_der, struct error *err) {
    struct x509_subject subject;
    struct error why = ERROR_INIT;
    struct bytes named;
    if (x509_csr_subject(csr_der, &subject, &why) < 0)
        return error_set(err, ERR_INVALID, "failed to parse csr, err: %s", error_text(&why));
    if (str_empty(subject.common_name))
        return error_set(err, ERR_INVALID, "must specify a CommonName");
    if (identity_node(&subject, &named, NULL) < 0 || !bytes_eq_str(named, node))
        return error_set(err, ERR_DENIED, "the certificate request is for O=%s, CN=%s, not for node %s",
                         subject.organization, subject.common_name, node);
    return 0;
}

int edge_cert_usages(struct bytes header, bool *server, bool *client, struct error *err) {
    *server = false;
    *client = header.len == 0;
    if (header.len == 0)
        return 0;
    struct error why = ERROR_INIT;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *d = json_parse(header, 4096, &why);
    yyjson_val *list = yyjson_doc_get_root(d);
    if (!yyjson_is_arr(list))
        return error_set(err, ERR_INVALID, "unmarshal http header ExtKeyUsages fail, err: %s",
                         d ? "not an array" : error_text(&why));
    if (yyjson_arr_size(list) == 0)
        return error_set(err, ERR_INVALID, "must specify at least one ExtKeyUsage");
    size_t i, n;
    yyjson_val *v;
    yyjson_arr_foreach (list, i, n, v) {
        int64_t usage = json_int_or(v, -1);
        if (usage != 1 && usage != 2)
            return error_set(err, ERR_INVALID, "ExtKeyUsages may hold 1 (serverAuth) and 2 (clientAuth) only");
        *(usage == 1 ? server : client) = true;
    }
    return 0;
}
