/* Aggregated ClusterRoles: their rules are those of the ClusterRoles that their selectors match. */
#include "apiserver/controllers/controllers.h"

#include "kube/object.h"
#include "kube/selector.h"

#define GROUP "rbac.authorization.k8s.io"

struct cluster_roles {
    struct apiserver *s;
    struct resource *stored;
    bool dirty;
};

static void change(void *self, const struct change *c) {
    struct cluster_roles *x = self;
    x->dirty |= c->resource == x->stored;
}

struct gathering {
    yyjson_val *selectors;
    const char *name; /* of the role that gathers */
    yyjson_mut_doc *d;
    yyjson_mut_val *rules;
};

static bool matches(yyjson_val *selectors, yyjson_val *labels) {
    size_t i, n;
    yyjson_val *s;
    yyjson_arr_foreach (selectors, i, n, s) {
        _cleanup_(selector_free_p) struct selector *selector = NULL;
        if (selector_from_object(s, &selector, NULL) == 0 && selector_match_labels(selector, labels))
            return true;
    }
    return false;
}

static bool has_rule(yyjson_mut_val *rules, yyjson_val *rule) {
    size_t i, n;
    yyjson_mut_val *v;
    yyjson_mut_arr_foreach (rules, i, n, v) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(v, NULL);
        if (json_equal(yyjson_doc_get_root(doc), rule))
            return true;
    }
    return false;
}

static void gather(void *arg, struct record *rec) {
    struct gathering *g = arg;
    if (strcmp(rec->name, g->name) == 0)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *role = yyjson_doc_get_root(doc), *rule;
    size_t i, n;
    if (!matches(g->selectors, object_labels(role)))
        return;
    yyjson_arr_foreach (json_get(role, "rules"), i, n, rule)
        if (!has_rule(g->rules, rule))
            yyjson_mut_arr_append(g->rules, yyjson_val_mut_copy(g->d, rule));
}

static void aggregate(void *self, struct record *rec) {
    static const char key[] = "\"aggregationRule\":{";
    struct cluster_roles *x = self;
    if (!memmem(rec->text, rec->len, key, sizeof(key) - 1))
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec), *wanted = NULL;
    yyjson_val *role = yyjson_doc_get_root(doc);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct gathering g = {json_get(role, "aggregationRule", "clusterRoleSelectors"), rec->name, d, yyjson_mut_arr(d)};
    recordmap_each(&x->stored->objects, NULL, gather, &g);
    wanted = yyjson_mut_val_imut_copy(g.rules, NULL);
    yyjson_val *present = json_get(role, "rules");
    if (json_equal(yyjson_doc_get_root(wanted), present) || (!present && yyjson_mut_arr_size(g.rules) == 0))
        return;
    yyjson_mut_val *o = yyjson_val_mut_copy(d, role);
    json_set(d, o, "rules", g.rules);
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(o, &len);
    struct write w = {.verb = WRITE_UPDATE, .ns = "", .name = rec->name, .body = bytes_of(text, len)};
    x->dirty |= controller_write(&w, x->s, GROUP, "v1", "clusterroles") < 0;
}

static void work(void *self) {
    struct cluster_roles *x = self;
    if (!x->dirty)
        return;
    x->dirty = false;
    recordmap_each(&x->stored->objects, NULL, aggregate, x);
}

static void *new (struct apiserver *s) {
    struct cluster_roles *x = NEW(struct cluster_roles);
    x->s = s;
    x->stored = controller_resource(s, GROUP, "clusterroles");
    x->dirty = true;
    return x;
}

const struct controller_type cluster_role_controller = {
    .name = "clusterrole", .new = new, .change = change, .work = work, .free = free};
