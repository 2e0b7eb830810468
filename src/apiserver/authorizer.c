/* Whether somebody may: masters, then nodes, then RBAC; the first who says yes wins. */
#include "apiserver/auth.h"
#include "apiserver/rbac.h"
#include "apiserver/server.h"
#include "kube/location.h"
#include "kube/object.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"
#define NAME_FIELD "metadata.name="

struct authorizer {
    struct apiserver *s;
    struct resource *roles, *cluster_roles, *role_bindings, *cluster_role_bindings, *pods;
    struct rbac *rbac; /* NULL: something has changed since it was compiled */
    struct location *location;
};

static void load_pod(void *arg, struct record *rec) {
    struct authorizer *z = arg;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    location_set_pod(z->location, yyjson_doc_get_root(doc));
}

struct authorizer *authorizer_new(struct apiserver *s) {
    struct authorizer *z = NEW(struct authorizer);
    z->s = s;
    z->roles = storage_resource(s->storage, RBAC_GROUP, "roles");
    z->cluster_roles = storage_resource(s->storage, RBAC_GROUP, "clusterroles");
    z->role_bindings = storage_resource(s->storage, RBAC_GROUP, "rolebindings");
    z->cluster_role_bindings = storage_resource(s->storage, RBAC_GROUP, "clusterrolebindings");
    z->pods = storage_resource(s->storage, "", "pods");
    z->location = location_new();
    recordmap_each(&z->pods->objects, NULL, load_pod, z);
    return z;
}

void authorizer_free(struct authorizer *z) {
    if (!z)
        return;
    rbac_free(z->rbac);
    location_free(z->location);
    free(z);
}

/* Only pods that have a node count; looking for the word is much faster than parsing those that have none. */
static bool may_have_node(const struct record *rec) {
    static const char key[] = "\"nodeName\":";
    return memmem(rec->text, rec->len, key, sizeof(key) - 1);
}

void authorizer_change(struct authorizer *z, const struct change *c) {
    const struct resource *r = c->resource;
    if (r == z->roles || r == z->cluster_roles || r == z->role_bindings || r == z->cluster_role_bindings) {
        rbac_free(z->rbac);
        z->rbac = NULL;
    } else if (r == z->pods && !c->new_) {
        location_remove_pod(z->location, c->old->ns, c->old->name);
    } else if (r == z->pods && may_have_node(c->new_)) {
        load_pod(z, c->new_);
    }
}

const struct rbac *authorizer_rbac(struct authorizer *z) {
    const struct rbac_sources from = {&z->roles->objects, &z->cluster_roles->objects, &z->role_bindings->objects,
                                      &z->cluster_role_bindings->objects};
    if (!z->rbac)
        z->rbac = rbac_compile(&from);
    return z->rbac;
}

bool auth_selects(const char *selector, const char *field, const char *value) {
    struct bytes rest = bytes_str(selector), part;
    size_t len = strlen(field);
    for (bool more = rest.len > 0; more;) {
        more = bytes_cut(rest, ',', &part, &rest);
        if (part.len > len && memcmp(part.ptr, field, len) == 0 && part.ptr[len] == '=' &&
            bytes_eq_str(bytes_of(part.ptr + len + 1, part.len - len - 1), value))
            return true;
    }
    return false;
}

/* A list or watch of one object by its name is a question about that object. */
static char *selected_name(const struct access *a) {
    struct bytes rest = bytes_str(a->field_selector), part;
    for (bool more = rest.len > 0; more;) {
        more = bytes_cut(rest, ',', &part, &rest);
        if (bytes_starts_with(part, NAME_FIELD) && !bytes_starts_with(part, NAME_FIELD "="))
            return bytes_dup(bytes_of(part.ptr + sizeof(NAME_FIELD) - 1, part.len - sizeof(NAME_FIELD) + 1));
    }
    return NULL;
}

bool auth_allowed(struct apiserver *s, const struct identity *id, const struct access *asked) {
    struct access a = *asked;
    if (identity_has_group(id, GROUP_MASTERS))
        return true;
    _cleanup_(free_p) char *name = !a.path && !*a.name ? selected_name(&a) : NULL;
    if (name)
        a.name = name;
    const char *node = identity_node_name(id);
    if (node && !a.path && node_allowed(s, s->authorizer->location, node, &a))
        return true;
    return rbac_allowed(authorizer_rbac(s->authorizer), id, &a);
}

int auth_refuse(const struct identity *id, const struct access *a, struct fail *f) {
    if (a->path)
        return fail_set(f, 403, "Forbidden", "forbidden: User \"%s\" cannot %s path \"%s\"", id->user, a->verb,
                        a->path);
    _cleanup_(free_p) char *scope =
        *a->ns ? xasprintf("in the namespace \"%s\"", a->ns) : xstrdup("at the cluster scope");
    _cleanup_(free_p) char *why =
        xasprintf("User \"%s\" cannot %s resource \"%s%s%s\" in API group \"%s\" %s", id->user, a->verb, a->resource,
                  *a->subresource ? "/" : "", a->subresource, a->group, scope);
    return fail_forbidden(f, a->group, a->resource, a->name, why);
}
