#include "edge/metamanager/meta_types.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define TOKEN_MAX_AGE_S (24 * 3600)
#define KEY_MAX 65536

static const struct meta_type TYPES[] = {
    {"pod", "pods", "", "v1", "Pod"},
    {"node", "nodes", "", "v1", "Node"},
    {"configmap", "configmaps", "", "v1", "ConfigMap"},
    {"secret", "secrets", "", "v1", "Secret"},
    {"service", "services", "", "v1", "Service"},
    {"endpoints", "endpoints", "", "v1", "Endpoints"},
    {"persistentvolume", "persistentvolumes", "", "v1", "PersistentVolume"},
    {"persistentvolumeclaim", "persistentvolumeclaims", "", "v1", "PersistentVolumeClaim"},
    {"endpointslice", "endpointslices", "discovery.k8s.io", "v1", "EndpointSlice"},
    {"volumeattachment", "volumeattachments", "storage.k8s.io", "v1", "VolumeAttachment"},
    {"lease", "leases", "coordination.k8s.io", "v1", "Lease"},
    {"leases", "leases", "coordination.k8s.io", "v1", "Lease"},
    {"certificatesigningrequest", "certificatesigningrequests", "certificates.k8s.io", "v1",
     "CertificateSigningRequest"},
    {"serviceaccounttoken", "tokenrequests", "authentication.k8s.io", "v1", "TokenRequest"},
    {"serviceaccountaccess", "serviceaccountaccesses", "policy.kubeedge.io", "v1alpha1", "ServiceAccountAccess"},
    {"device", "devices", "devices.kubeedge.io", "v1beta1", "Device"},
    {"devicemodel", "devicemodels", "devices.kubeedge.io", "v1beta1", "DeviceModel"},
};

const struct meta_type *meta_type_find(struct bytes type) {
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (bytes_eq_str(type, TYPES[i].type))
            return &TYPES[i];
    return NULL;
}

/* English plural of a kind that is not built in: custom resources nearly always follow it. */
static void add_plural(struct buf *out, const char *kind) {
    size_t n = strlen(kind);
    for (size_t i = 0; i < n; i++)
        (void)buf_add_char(out, kind[i] >= 'A' && kind[i] <= 'Z' ? (char)(kind[i] - 'A' + 'a') : kind[i]);
    if (bytes_ends_with(buf_bytes(out), "s") || bytes_ends_with(buf_bytes(out), "x") ||
        bytes_ends_with(buf_bytes(out), "ch") || bytes_ends_with(buf_bytes(out), "sh")) {
        (void)buf_add_str(out, "es");
    } else if (n > 1 && kind[n - 1] == 'y' && !strchr("aeiou", kind[n - 2])) {
        out->len--;
        (void)buf_add_str(out, "ies");
    } else {
        (void)buf_add_char(out, 's');
    }
}

int meta_coordinates(const struct resource *r, yyjson_val *object, struct meta_coordinates *out, struct error *err) {
    const struct meta_type *t = meta_type_find(r->type);
    const char *api_version = object_api_version(object), *kind = object_kind(object);
    _cleanup_(buf_free) struct buf plural = BUF_INIT(KEY_MAX);
    struct bytes group, version;
    if (t) {
        group = bytes_str(t->group);
        version = bytes_str(t->version);
        (void)buf_add_str(&plural, t->plural);
    } else if (!str_empty(api_version) && !str_empty(kind)) {
        if (!bytes_cut(bytes_str(api_version), '/', &group, &version)) {
            group = BYTES_EMPTY;
            version = bytes_str(api_version);
        }
        add_plural(&plural, kind);
    } else {
        return error_set(err, ERR_NOT_FOUND, "no kind is known for the type %.*s", (int)r->type.len, r->type.ptr);
    }
    _cleanup_(buf_free) struct buf key = BUF_INIT(KEY_MAX), gvr = BUF_INIT(KEY_MAX);
    (void)buf_addf(&key, "/%.*s/%.*s/%s/", group.len ? (int)group.len : 4, group.len ? group.ptr : "core",
                   (int)version.len, version.ptr, plural.ptr);
    (void)buf_add_bytes(&key, r->ns.len ? r->ns : BYTES_LIT("null"));
    (void)buf_add_char(&key, '/');
    (void)buf_add_bytes(&key, r->name);
    (void)buf_addf(&gvr, "%.*s/%.*s, Resource=%s", (int)group.len, group.len ? group.ptr : "", (int)version.len,
                   version.ptr, plural.ptr);
    if (buf_check(&plural, err, "plural") < 0 || buf_check(&key, err, "row key") < 0 ||
        buf_check(&gvr, err, "row key") < 0)
        return -1;
    out->key = buf_take(&key, NULL);
    out->group_version_resource = buf_take(&gvr, NULL);
    return 0;
}

void meta_coordinates_free(struct meta_coordinates *c) {
    free(c->key);
    free(c->group_version_resource);
    *c = (struct meta_coordinates){0};
}

char *meta_object_text(struct bytes type, yyjson_val *object, size_t *len) {
    const struct meta_type *t = meta_type_find(type);
    if (!t || !yyjson_is_obj(object) || (!str_empty(object_kind(object)) && !str_empty(object_api_version(object))))
        return json_write(object, len);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *copy = yyjson_val_mut_copy(d, object);
    json_set_str(d, copy, "kind", t->kind);
    _cleanup_(free_p) char *api_version =
        *t->group ? xasprintf("%s/%s", t->group, t->version) : xasprintf("%s", t->version);
    json_set_str(d, copy, "apiVersion", api_version);
    return json_write_mut(copy, len);
}

static void add_quoted(struct buf *out, const char *name, const char *s) {
    (void)buf_add_str(out, name);
    (void)json_append_string(out, bytes_str(str_or(s, "")));
}

char *meta_token_key(const struct resource *r, yyjson_val *token_request) {
    _cleanup_(buf_free) struct buf key = BUF_INIT(KEY_MAX);
    yyjson_val *spec = json_get(token_request, "spec"), *audiences = json_get(spec, "audiences"),
               *ref = json_get(spec, "boundObjectRef"), *a;
    (void)json_append_string(&key, r->name);
    (void)buf_add_char(&key, '/');
    (void)json_append_string(&key, r->ns);
    if (yyjson_arr_size(audiences) == 0) {
        (void)buf_add_str(&key, "/[]string(nil)/");
    } else {
        (void)buf_add_str(&key, "/[]string{");
        size_t i, n;
        yyjson_arr_foreach (audiences, i, n, a) {
            add_quoted(&key, i ? ", " : "", yyjson_get_str(a));
        }
        (void)buf_add_str(&key, "}/");
    }
    (void)buf_addf(&key, "%lld/v1.BoundObjectReference{",
                   (long long)json_int_or(json_get(spec, "expirationSeconds"), 0));
    add_quoted(&key, "Kind:", json_str(ref, "kind"));
    add_quoted(&key, ", APIVersion:", json_str(ref, "apiVersion"));
    add_quoted(&key, ", Name:", json_str(ref, "name"));
    add_quoted(&key, ", UID:", json_str(ref, "uid"));
    (void)buf_add_char(&key, '}');
    return buf_take(&key, NULL);
}

bool meta_token_fresh(yyjson_val *token_request, int64_t now) {
    const char *expiry = json_str(token_request, "status", "expirationTimestamp");
    int64_t ns;
    if (!expiry || rfc3339_parse(bytes_str(expiry), &ns) < 0)
        return false;
    int64_t life = json_int_or(json_get(token_request, "spec", "expirationSeconds"), 3600);
    int64_t left = ns / 1000000000 - now;
    return left > life / 5 && life - left < TOKEN_MAX_AGE_S;
}
