#define LOG_COMPONENT "cloudcore"

#include "cloud/crds.h"

#include "base/log.h"
#include "base/yaml.h"
#include "cloud/sync_call.h"
#include "crds_text.h"
#include "kube/object.h"

#define GROUP "apiextensions.k8s.io"
#define PLURAL "customresourcedefinitions"

static int renew(struct loop *l, struct kube_client *k, yyjson_val *crd, struct error *err) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d);
    json_set(d, patch, "spec", yyjson_val_mut_copy(d, json_get(crd, "spec")));
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(patch, &len);
    _cleanup_(free_p) char *path = kube_path(GROUP, "v1", NULL, PLURAL, object_name(crd), NULL);
    const struct kube_request r = {
        .verb = "PATCH", .path = path, .content_type = KUBE_MERGE_PATCH, .body = bytes_of(text, len)};
    struct sync_answer a = {0};
    int rc = sync_call(l, k, &r, &a, err);
    sync_answer_free(&a);
    return rc;
}

static int install(struct loop *l, struct kube_client *k, yyjson_val *crd, struct error *err) {
    size_t len;
    _cleanup_(free_p) char *text = json_write(crd, &len);
    _cleanup_(free_p) char *path = kube_path(GROUP, "v1", NULL, PLURAL, NULL, NULL);
    const struct kube_request r = {.verb = "POST", .path = path, .body = bytes_of(text, len)};
    struct sync_answer a = {0};
    struct error why = ERROR_INIT;
    int rc = sync_call(l, k, &r, &a, &why);
    sync_answer_free(&a);
    if (rc < 0 && why.code == ERR_EXISTS)
        return renew(l, k, crd, err);
    return rc < 0 ? error_set(err, why.code, "%s", error_text(&why)) : 0;
}

int crds_install(struct loop *l, struct kube_client *k, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(CRDS_TEXT); i++) {
        struct yaml_doc doc = {0};
        if (yaml_parse(bytes_str(CRDS_TEXT[i]), "built-in CRD", &doc, err) < 0)
            return -1;
        yyjson_val *crd = yyjson_doc_get_root(doc.json);
        int rc = install(l, k, crd, err);
        if (rc < 0)
            (void)error_wrap(err, "install the CRD %s", object_name(crd));
        yaml_doc_free(&doc);
        if (rc < 0)
            return -1;
    }
    return 0;
}
