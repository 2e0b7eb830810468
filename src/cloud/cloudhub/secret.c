#include "cloud/cloudhub/secret.h"

#include "base/str.h"
#include "cloud/cloudhub/pki.h"
#include "kube/object.h"

char *secret_text(const char *name, const char *rv, const struct secret_field *fields, size_t n, size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_doc_set_root(d, root);
    json_set_str(d, root, "apiVersion", "v1");
    json_set_str(d, root, "kind", "Secret");
    json_set_str(d, root, "type", "Opaque");
    yyjson_mut_val *meta = json_ensure_obj(d, root, "metadata");
    json_set_str(d, meta, "name", name);
    json_set_str(d, meta, "namespace", PKI_NAMESPACE);
    if (rv)
        json_set_str(d, meta, "resourceVersion", rv);
    yyjson_mut_val *data = json_ensure_obj(d, root, "data");
    for (size_t i = 0; i < n; i++) {
        _cleanup_(buf_free_secret) struct buf text = BUF_INIT(1 << 20);
        (void)base64_encode(fields[i].value, &text);
        json_set_str(d, data, fields[i].key, text.ptr ? text.ptr : "");
    }
    return json_write_mut(root, len);
}

int secret_get(struct loop *l, struct kube_client *k, const char *name, struct sync_answer *out, struct error *err) {
    _cleanup_(free_p) char *path = kube_path("", "v1", PKI_NAMESPACE, "secrets", name, NULL);
    const struct kube_request r = {.verb = "GET", .path = path};
    if (sync_call(l, k, &r, out, err) < 0) {
        sync_answer_free(out);
        return error_wrap(err, "reading Secret %s/%s", PKI_NAMESPACE, name);
    }
    return 0;
}

int secret_create_or_get(struct loop *l, struct kube_client *k, const char *name, const struct secret_field *fields,
                         size_t n, struct sync_answer *out, struct error *err) {
    struct error why = ERROR_INIT;
    size_t len;
    _cleanup_(free_p) char *path = kube_path("", "v1", PKI_NAMESPACE, "secrets", NULL, NULL);
    _cleanup_(free_p) char *text = secret_text(name, NULL, fields, n, &len);
    const struct kube_request r = {.verb = "POST", .path = path, .body = bytes_of(text, len)};
    if (sync_call(l, k, &r, out, &why) == 0)
        return 0;
    int status = out->status;
    sync_answer_free(out);
    if (status == 409) {
        /* There before we came, or being made at this moment and not to be seen yet: then it is tried again. */
        if (secret_get(l, k, name, out, err) == 0)
            return 0;
        if (err->code == ERR_NOT_FOUND)
            err->code = ERR_UNAVAILABLE;
        return -1;
    }
    /* Not found is the namespace, which the other one is making. */
    return error_set(err, why.code == ERR_NOT_FOUND ? ERR_UNAVAILABLE : why.code, "creating Secret %s/%s: %s",
                     PKI_NAMESPACE, name, error_text(&why));
}

int secret_replace(struct loop *l, struct kube_client *k, const char *name, const struct sync_answer *old,
                   const struct secret_field *fields, size_t n, struct error *err) {
    size_t len;
    struct sync_answer a;
    _cleanup_(free_p) char *path = kube_path("", "v1", PKI_NAMESPACE, "secrets", name, NULL);
    _cleanup_(free_p) char *text = secret_text(name, object_rv(old->body), fields, n, &len);
    const struct kube_request r = {.verb = "PUT", .path = path, .body = bytes_of(text, len)};
    int rc = sync_call(l, k, &r, &a, err);
    sync_answer_free(&a);
    return rc < 0 ? error_wrap(err, "updating Secret %s/%s", PKI_NAMESPACE, name) : 0;
}

int secret_value(const struct sync_answer *s, const char *name, const char *key, struct buf *out, struct error *err) {
    const char *text = json_str(s->body, "data", key);
    buf_clear(out);
    if (str_empty(text) || base64_decode(bytes_str(text), out) < 0 || out->len == 0)
        return error_set(
            err, ERR_INVALID,
            "Secret %s/%s has no usable value at data.%s: restore it from a backup, or delete the Secret to "
            "have a new one made",
            PKI_NAMESPACE, name, key);
    return 0;
}

int namespace_ensure(struct loop *l, struct kube_client *k, struct error *err) {
    static const char body[] =
        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"" PKI_NAMESPACE "\"}}";
    struct sync_answer a;
    struct error why = ERROR_INIT;
    _cleanup_(free_p) char *one = kube_path("", "v1", NULL, "namespaces", PKI_NAMESPACE, NULL);
    _cleanup_(free_p) char *all = kube_path("", "v1", NULL, "namespaces", NULL, NULL);
    const struct kube_request get = {.verb = "GET", .path = one};
    int rc = sync_call(l, k, &get, &a, &why);
    sync_answer_free(&a);
    if (rc == 0)
        return 0;
    if (why.code == ERR_NOT_FOUND) {
        const struct kube_request post = {.verb = "POST", .path = all, .body = BYTES_LIT(body)};
        rc = sync_call(l, k, &post, &a, &why);
        int status = a.status;
        sync_answer_free(&a);
        if (rc == 0 || status == 409)
            return 0;
    }
    return error_set(err, why.code, "namespace %s: %s", PKI_NAMESPACE, error_text(&why));
}
