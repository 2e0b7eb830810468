#include "apiserver/rbac.h"

#include "base/str.h"
#include "kube/object.h"

#include <uthash.h>

#define TUPLES_MAX 20000 /* single permissions of a role that somebody grants */

struct role { /* stored; key is "ns/name", "/name" of a ClusterRole */
    yyjson_doc *doc;
    yyjson_val *rules;
    UT_hash_handle hh;
    char key[];
};

enum subject_kind { SUBJECT_GROUP, SUBJECT_USER };
struct grant { /* of a role to one subject */
    enum subject_kind kind;
    char *subject, *ns; /* ns "": everywhere */
    yyjson_val *rules;  /* of the role */
};

struct rbac {
    struct role *roles;
    struct grant *grants; /* sorted by kind, subject, namespace */
    size_t n_grants, cap_grants;
};

/* ---- compiling -------------------------------------------------------------------------------------------------- */

static void add_role(void *arg, struct record *rec) {
    struct rbac *x = arg;
    size_t ns = strlen(rec->ns), name = strlen(rec->name);
    struct role *r = xcalloc(1, sizeof *r + ns + name + 2);
    memcpy(r->key, rec->ns, ns);
    r->key[ns] = '/';
    memcpy(r->key + ns + 1, rec->name, name);
    r->doc = record_parse(rec);
    r->rules = json_get(yyjson_doc_get_root(r->doc), "rules");
    HASH_ADD_STR(x->roles, key, r);
}

yyjson_val *rbac_role_rules(const struct rbac *x, const char *kind, const char *ns, const char *name) {
    struct role *r;
    _cleanup_(free_p) char *key = xasprintf("%s/%s", str_eq(kind, "Role") ? ns : "", name);
    HASH_FIND_STR(x->roles, key, r);
    return r ? r->rules : NULL;
}

static void add_grant(struct rbac *x, const char *ns, yyjson_val *subject, yyjson_val *rules) {
    const char *kind = json_str(subject, "kind"), *name = str_or(json_str(subject, "name"), "");
    if (x->n_grants == x->cap_grants) {
        x->cap_grants = x->cap_grants ? 2 * x->cap_grants : 64;
        x->grants = xreallocarray(x->grants, x->cap_grants, sizeof *x->grants);
    }
    struct grant g = {.kind = str_eq(kind, "Group") ? SUBJECT_GROUP : SUBJECT_USER, .rules = rules};
    if (str_eq(kind, "ServiceAccount"))
        g.subject = xasprintf("system:serviceaccount:%s:%s", str_or(json_str(subject, "namespace"), ns), name);
    else if (str_eq(kind, "Group") || str_eq(kind, "User"))
        g.subject = xstrdup(name);
    else
        return;
    g.ns = xstrdup(ns);
    x->grants[x->n_grants++] = g;
}

static void add_binding(void *arg, struct record *rec) {
    struct rbac *x = arg;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *root = yyjson_doc_get_root(doc), *subject;
    size_t i, n;
    /* A binding to a role that is not there (yet) grants nothing. */
    yyjson_val *rules =
        rbac_role_rules(x, json_str(root, "roleRef", "kind"), rec->ns, str_or(json_str(root, "roleRef", "name"), ""));
    yyjson_arr_foreach (rules ? json_get(root, "subjects") : NULL, i, n, subject)
        add_grant(x, rec->ns, subject, rules);
}

static int compare(enum subject_kind kind, const char *subject, const char *ns, const struct grant *g) {
    if (kind != g->kind)
        return kind < g->kind ? -1 : 1;
    int c = strcmp(subject, g->subject);
    return c ? c : strcmp(ns, g->ns);
}

static int compare_grants(const void *a, const void *b) {
    const struct grant *g = a;
    return compare(g->kind, g->subject, g->ns, b);
}

struct rbac *rbac_compile(const struct rbac_sources *from) {
    struct rbac *x = NEW(struct rbac);
    recordmap_each(from->roles, NULL, add_role, x);
    recordmap_each(from->cluster_roles, NULL, add_role, x);
    recordmap_each(from->role_bindings, NULL, add_binding, x);
    recordmap_each(from->cluster_role_bindings, NULL, add_binding, x);
    if (x->n_grants > 1)
        qsort(x->grants, x->n_grants, sizeof *x->grants, compare_grants);
    return x;
}

void rbac_free(struct rbac *x) {
    struct role *r, *next;
    if (!x)
        return;
    HASH_ITER (hh, x->roles, r, next) {
        HASH_DEL(x->roles, r);
        yyjson_doc_free(r->doc);
        free(r);
    }
    for (size_t i = 0; i < x->n_grants; i++) {
        free(x->grants[i].subject);
        free(x->grants[i].ns);
    }
    free(x->grants);
    free(x);
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

typedef bool rule_fn(void *arg, yyjson_val *rule);

/* false: fn wants no more. */
static bool each_of(const struct rbac *x, enum subject_kind kind, const char *subject, const char *ns, rule_fn *fn,
                    void *arg) {
    size_t low = 0, high = x->n_grants;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare(kind, subject, ns, &x->grants[mid]) > 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < x->n_grants && compare(kind, subject, ns, &x->grants[low]) == 0; low++) {
        size_t i, n;
        yyjson_val *rule;
        yyjson_arr_foreach (x->grants[low].rules, i, n, rule)
            if (!fn(arg, rule))
                return false;
    }
    return true;
}

static bool each_in(const struct rbac *x, const struct identity *id, const char *ns, rule_fn *fn, void *arg) {
    if (!each_of(x, SUBJECT_USER, id->user, ns, fn, arg))
        return false;
    for (size_t i = 0; i < id->groups.count; i++)
        if (!each_of(x, SUBJECT_GROUP, id->groups.items[i], ns, fn, arg))
            return false;
    return true;
}

void rbac_each_rule(const struct rbac *x, const struct identity *id, const char *ns, rule_fn *fn, void *arg) {
    if (each_in(x, id, "", fn, arg) && *ns)
        each_in(x, id, ns, fn, arg);
}

static bool has(yyjson_val *rule, const char *key, const char *value) {
    size_t i, n;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(rule, key), i, n, v)
        if (yyjson_equals_str(v, "*") || yyjson_equals_str(v, value))
            return true;
    return false;
}

static bool has_resource(yyjson_val *rule, const char *resource, const char *subresource) {
    size_t i, n;
    yyjson_val *v;
    size_t len = strlen(resource);
    yyjson_arr_foreach (yyjson_obj_get(rule, "resources"), i, n, v) {
        const char *s = yyjson_get_str(v);
        if (!s)
            continue;
        if (strcmp(s, "*") == 0 || (!*subresource && strcmp(s, resource) == 0))
            return true;
        if (!*subresource)
            continue;
        bool any = s[0] == '*' && s[1] == '/' && strcmp(s + 2, subresource) == 0;
        bool same = strncmp(s, resource, len) == 0 && s[len] == '/' && strcmp(s + len + 1, subresource) == 0;
        if (any || same)
            return true;
    }
    return false;
}

/* No names means all of them. */
static bool has_name(yyjson_val *rule, const char *name) {
    yyjson_val *names = yyjson_obj_get(rule, "resourceNames"), *v;
    size_t i, n;
    if (yyjson_arr_size(names) == 0)
        return true;
    yyjson_arr_foreach (names, i, n, v)
        if (*name && yyjson_equals_str(v, name))
            return true;
    return false;
}

static bool has_path(yyjson_val *rule, const char *path) {
    size_t i, n;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(rule, "nonResourceURLs"), i, n, v) {
        const char *s = yyjson_get_str(v);
        size_t len = yyjson_get_len(v);
        if (s && (strcmp(s, path) == 0 || (len > 0 && s[len - 1] == '*' && strncmp(s, path, len - 1) == 0)))
            return true;
    }
    return false;
}

static bool rule_allows(yyjson_val *rule, const struct access *a) {
    if (!has(rule, "verbs", a->verb))
        return false;
    if (a->path)
        return has_path(rule, a->path);
    return has(rule, "apiGroups", a->group) && has_resource(rule, a->resource, a->subresource) &&
           has_name(rule, a->name);
}

struct question {
    const struct access *a;
    bool allowed;
};

static bool ask(void *arg, yyjson_val *rule) {
    struct question *q = arg;
    q->allowed = rule_allows(rule, q->a);
    return !q->allowed;
}

bool rbac_allowed(const struct rbac *x, const struct identity *id, const struct access *a) {
    struct question q = {.a = a};
    rbac_each_rule(x, id, a->path ? "" : a->ns, ask, &q);
    return q.allowed;
}

/* ---- who may grant what ----------------------------------------------------------------------------------------- */

/* One permission of the rule, and whether it is had. */
struct coverage {
    const struct rbac *x;
    const struct identity *id;
    const char *ns;
    size_t asked;
};

static bool covered(struct coverage *c, struct access *a, const char *resource) {
    char name[512];
    if (resource) {
        const char *slash = strchr(resource, '/');
        size_t len = slash ? (size_t)(slash - resource) : strlen(resource);
        if (len >= sizeof(name))
            return false;
        memcpy(name, resource, len);
        name[len] = 0;
        a->resource = name;
        a->subresource = slash ? slash + 1 : "";
    }
    return ++c->asked <= TUPLES_MAX && rbac_allowed(c->x, c->id, a);
}

static bool resources_covered(struct coverage *c, yyjson_val *rule, struct access *a) {
    yyjson_val *names = yyjson_obj_get(rule, "resourceNames"), *group, *resource, *name;
    size_t i, n, j, m, k, l;
    yyjson_arr_foreach (yyjson_obj_get(rule, "apiGroups"), i, n, group)
        yyjson_arr_foreach (yyjson_obj_get(rule, "resources"), j, m, resource) {
            a->group = str_or(yyjson_get_str(group), "");
            a->name = "";
            if (yyjson_arr_size(names) == 0 && !covered(c, a, str_or(yyjson_get_str(resource), "")))
                return false;
            yyjson_arr_foreach (names, k, l, name) {
                a->name = str_or(yyjson_get_str(name), "");
                if (!covered(c, a, str_or(yyjson_get_str(resource), "")))
                    return false;
            }
        }
    return true;
}

static bool rule_covered(struct coverage *c, yyjson_val *rule) {
    yyjson_val *verb, *path;
    size_t i, n, j, m;
    yyjson_arr_foreach (yyjson_obj_get(rule, "verbs"), i, n, verb) {
        struct access a = {.verb = str_or(yyjson_get_str(verb), ""), .ns = c->ns};
        if (!resources_covered(c, rule, &a))
            return false;
        yyjson_arr_foreach (yyjson_obj_get(rule, "nonResourceURLs"), j, m, path) {
            a.path = str_or(yyjson_get_str(path), "");
            if (!covered(c, &a, NULL))
                return false;
        }
    }
    return true;
}

bool rbac_covers(const struct rbac *x, const struct identity *id, const char *ns, yyjson_val *rules, char **missing) {
    struct coverage c = {.x = x, .id = id, .ns = ns};
    size_t i, n;
    yyjson_val *rule;
    yyjson_arr_foreach (rules, i, n, rule)
        if (!rule_covered(&c, rule)) {
            *missing = json_write(rule, NULL);
            return false;
        }
    return true;
}
