/* Every active namespace has a ServiceAccount "default", and a ConfigMap with the certificate that its pods verify the
 * server with. */
#include "apiserver/controllers/controllers.h"

#include "base/str.h"

#define ROOT_CA "kube-root-ca.crt"

struct accounts {
    struct apiserver *s;
    struct resource *namespaces, *accounts, *config_maps;
    bool dirty;
};

static void change(void *self, const struct change *c) {
    struct accounts *a = self;
    const struct record *rec = c->new_ ? c->new_ : c->old;
    if (c->resource == a->namespaces || (c->resource == a->accounts && !c->new_) ||
        (c->resource == a->config_maps && strcmp(rec->name, ROOT_CA) == 0))
        a->dirty = true;
}

static char *root_ca_body(const struct accounts *a, size_t *len) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(d), *meta = json_ensure_obj(d, o, "metadata");
    json_set_str(d, meta, "name", ROOT_CA);
    json_set_str(d, json_ensure_obj(d, meta, "annotations"), "kubernetes.io/description",
                 "The certificate that verifies the API server.");
    json_set_str(d, json_ensure_obj(d, o, "data"), "ca.crt", a->s->ca_pem);
    return json_write_mut(o, len);
}

static void ensure_root_ca(struct accounts *a, const char *ns) {
    struct record *rec = storage_latest(a->s->storage, a->config_maps, ns, ROOT_CA);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = rec ? record_parse(rec) : NULL;
    yyjson_val *data = json_get(yyjson_doc_get_root(doc), "data");
    if (yyjson_obj_size(data) == 1 && str_eq(json_str(data, "ca.crt"), a->s->ca_pem))
        return;
    size_t len;
    _cleanup_(free_p) char *body = root_ca_body(a, &len);
    struct write w = {
        .verb = rec ? WRITE_UPDATE : WRITE_CREATE, .ns = ns, .name = rec ? ROOT_CA : "", .body = bytes_of(body, len)};
    a->dirty |= controller_write(&w, a->s, "", "v1", "configmaps") < 0;
}

static void ensure(void *self, struct record *ns) {
    struct accounts *a = self;
    static const char body[] = "{\"metadata\":{\"name\":\"default\"}}";
    if (record_deleting(ns))
        return;
    ensure_root_ca(a, ns->name);
    if (storage_latest(a->s->storage, a->accounts, ns->name, "default"))
        return;
    struct write w = {.verb = WRITE_CREATE, .ns = ns->name, .name = "", .body = bytes_of(body, sizeof(body) - 1)};
    a->dirty |= controller_write(&w, a->s, "", "v1", "serviceaccounts") < 0;
}

static void work(void *self) {
    struct accounts *a = self;
    if (!a->dirty)
        return;
    a->dirty = false;
    recordmap_each(&a->namespaces->objects, NULL, ensure, a);
}

static void *new (struct apiserver *s) {
    struct accounts *a = NEW(struct accounts);
    a->s = s;
    a->namespaces = controller_resource(s, "", "namespaces");
    a->accounts = controller_resource(s, "", "serviceaccounts");
    a->config_maps = controller_resource(s, "", "configmaps");
    a->dirty = true;
    return a;
}

const struct controller_type serviceaccount_controller = {
    .name = "serviceaccount", .new = new, .change = change, .work = work, .free = free};
