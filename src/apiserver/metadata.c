#include "apiserver/write.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"
#include "kube/object.h"

#define GENERATED_TRIES 8
#define GENERATED_SUFFIX 5
#define GENERATED_PREFIX_MAX 58

static yyjson_mut_val *meta_of(const struct draft *t) {
    return json_ensure_obj(t->d, t->obj, "metadata");
}

static const char *meta_str(const struct draft *t, const char *key) {
    return str_or(json_mut_str(t->obj, "metadata", key), "");
}

/* ---- names ---- */

/* A name that is free, from the prefix. */
static int generate_name(struct draft *t, const char *prefix) {
    char name[GENERATED_PREFIX_MAX + GENERATED_SUFFIX + 1];
    size_t n = strlen(prefix) < GENERATED_PREFIX_MAX ? strlen(prefix) : GENERATED_PREFIX_MAX;
    memcpy(name, prefix, n);
    for (unsigned i = 0; i < GENERATED_TRIES; i++) {
        random_name_suffix(name + n, GENERATED_SUFFIX);
        if (!storage_latest(t->w->s->storage, t->resource, t->w->ns, name)) {
            json_set_str(t->d, meta_of(t), "name", name);
            return 0;
        }
    }
    fail_exists(t->f, t->w->kind->group, t->w->kind->plural, prefix);
    t->f->retry_after_s = 1;
    return -1;
}

static int settle_namespace(struct draft *t) {
    const char *ns = meta_str(t, "namespace");
    if (!t->w->kind->namespaced) {
        json_remove(meta_of(t), "namespace");
        return 0;
    }
    if (*ns && strcmp(ns, t->w->ns) != 0)
        return fail_bad_request(t->f, "the namespace of the provided object does not match the namespace sent on the "
                                      "request");
    json_set_str(t->d, meta_of(t), "namespace", t->w->ns);
    return 0;
}

static int settle_name(struct draft *t) {
    const char *name = meta_str(t, "name"), *prefix = meta_str(t, "generateName");
    if (*t->w->name && *name && strcmp(name, t->w->name) != 0)
        return fail_bad_request(t->f, "the name of the object (%s) does not match the name on the URL (%s)", name,
                                t->w->name);
    if (*t->w->name && !*name)
        json_set_str(t->d, meta_of(t), "name", t->w->name);
    else if (!*name && *prefix)
        return generate_name(t, prefix);
    return 0;
}

int metadata_create(struct draft *t) {
    static const char *const server_owned[] = {
        "uid",      "creationTimestamp", "generation",     "deletionTimestamp", "deletionGracePeriodSeconds",
        "selfLink", "managedFields",     "resourceVersion"};
    yyjson_mut_val *meta = meta_of(t);
    const char *rv = meta_str(t, "resourceVersion");
    if (*rv && strcmp(rv, "0") != 0)
        return fail_bad_request(t->f, "resourceVersion should not be set on objects to be created");
    if (settle_namespace(t) < 0 || settle_name(t) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(server_owned); i++)
        json_remove(meta, server_owned[i]);
    char uid[UUID_SIZE], now[RFC3339_SIZE];
    json_set_str(t->d, meta, "uid", uuid_v4(uid));
    json_set_str(t->d, meta, "creationTimestamp", rfc3339_now(now));
    if (t->w->kind->generation != GENERATION_NONE)
        json_set_int(t->d, meta, "generation", 1);
    return 0;
}

/* ---- updates ---- */

/* The member of the old metadata takes the place of the new one's. */
static void keep_old(struct draft *t, const char *key) {
    yyjson_mut_val *meta = meta_of(t);
    yyjson_val *v = json_get(yyjson_doc_get_root(t->old_doc), "metadata", key);
    if (v)
        json_set(t->d, meta, key, yyjson_val_mut_copy(t->d, v));
    else
        json_remove(meta, key);
}

static int check_uid(struct draft *t) {
    const char *uid = meta_str(t, "uid"), *have = object_uid(yyjson_doc_get_root(t->old_doc));
    if (!*uid || strcmp(uid, have) == 0)
        return 0;
    _cleanup_(free_p) char *why =
        xasprintf("Precondition failed: UID in precondition: %s, UID in object meta: %s", uid, have);
    return fail_conflict(t->f, t->w->kind->group, t->w->kind->plural, t->w->name, why);
}

static int check_rv(struct draft *t) {
    const struct kind *k = t->w->kind;
    const char *rv = meta_str(t, "resourceVersion");
    if (!*rv || strcmp(rv, "0") == 0) {
        if (k->unconditional_update || t->w->verb == WRITE_PATCH)
            return 0;
        fail_cause(t->f, "FieldValueInvalid", "metadata.resourceVersion",
                   "Invalid value: 0: must be specified for an update");
        return fail_invalid(t->f, k->group, k->kind, t->w->name);
    }
    uint64_t asked;
    if (parse_u64(bytes_str(rv), UINT64_MAX, &asked) < 0) {
        fail_cause(t->f, "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: \"%.64s\": must be a number",
                   rv);
        return fail_invalid(t->f, k->group, k->kind, t->w->name);
    }
    if (asked == t->old->rev)
        return 0;
    return fail_conflict(t->f, k->group, k->plural, t->w->name,
                         "the object has been modified; please apply your changes to the latest version and try again");
}

int metadata_update(struct draft *t) {
    static const char *const kept[] = {"uid",        "creationTimestamp", "generateName",
                                       "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
                                       "selfLink",   "managedFields"};
    if (!*meta_str(t, "name"))
        return fail_bad_request(t->f, "the object has no name; the name on the URL is %s", t->w->name);
    if (settle_name(t) < 0 || settle_namespace(t) < 0 || check_uid(t) < 0 || check_rv(t) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        keep_old(t, kept[i]);
    return 0;
}

/* ---- status ---- */

static void take_member(yyjson_mut_doc *d, yyjson_mut_val *to, const char *key, yyjson_mut_val *value) {
    if (value)
        json_set(d, to, key, yyjson_mut_val_mut_copy(d, value));
    else
        json_remove(to, key);
}

/* The agents put labels and annotations of their node and pods into status writes. */
static bool status_takes_metadata(const struct kind *k) {
    return !k->custom && !*k->group && (strcmp(k->plural, "nodes") == 0 || strcmp(k->plural, "pods") == 0);
}

/* The old object, with the parts named by the subresource from the new one. */
static void keep_to_subresource(struct draft *t, const char *const *path, size_t n) {
    yyjson_mut_val *kept = yyjson_val_mut_copy(t->d, yyjson_doc_get_root(t->old_doc)), *to = kept, *from = t->obj;
    for (size_t i = 0; i + 1 < n; i++) {
        to = json_ensure_obj(t->d, to, path[i]);
        from = yyjson_mut_obj_get(from, path[i]);
    }
    take_member(t->d, to, path[n - 1], from ? yyjson_mut_obj_get(from, path[n - 1]) : NULL);
    if (strcmp(path[0], "status") == 0 && status_takes_metadata(t->w->kind)) {
        yyjson_mut_val *meta = json_ensure_obj(t->d, kept, "metadata");
        take_member(t->d, meta, "labels", json_mut_get(t->obj, "metadata", "labels"));
        take_member(t->d, meta, "annotations", json_mut_get(t->obj, "metadata", "annotations"));
    }
    t->obj = kept;
}

int separate_status(struct draft *t) {
    static const char *const status[] = {"status"}, *const finalize[] = {"spec", "finalizers"};
    const char *sub = t->w->subresource;
    if (strcmp(sub, "status") == 0) {
        keep_to_subresource(t, status, ARRAY_LEN(status));
    } else if (strcmp(sub, "finalize") == 0) {
        keep_to_subresource(t, finalize, ARRAY_LEN(finalize));
    } else if (t->w->kind->has_status) {
        yyjson_val *old = yyjson_obj_get(yyjson_doc_get_root(t->old_doc), "status");
        if (old)
            json_set(t->d, t->obj, "status", yyjson_val_mut_copy(t->d, old));
        else
            json_remove(t->obj, "status");
    }
    return 0;
}

static bool part_counts(const struct kind *k, const char *key) {
    static const char *const never[] = {"apiVersion", "kind", "metadata"};
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        if (strcmp(key, never[i]) == 0)
            return false;
    if (k->generation == GENERATION_SPEC)
        return strcmp(key, "spec") == 0;
    return k->generation == GENERATION_NOT_METADATA || strcmp(key, "status") != 0;
}

/* Is there a member of a that counts and differs in b? */
static bool differs(const struct kind *k, yyjson_val *a, yyjson_val *b) {
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach (a, i, n, key, value) {
        yyjson_val *other = yyjson_obj_get(b, yyjson_get_str(key));
        if (part_counts(k, yyjson_get_str(key)) && (!other || !json_equal(value, other)))
            return true;
    }
    return false;
}

void update_generation(struct draft *t) {
    const struct kind *k = t->w->kind;
    if (k->generation == GENERATION_NONE || strcmp(t->w->subresource, "status") == 0)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *now = yyjson_mut_val_imut_copy(t->obj, NULL);
    yyjson_val *a = yyjson_doc_get_root(now), *b = yyjson_doc_get_root(t->old_doc);
    if (differs(k, a, b) || differs(k, b, a))
        json_set_int(t->d, meta_of(t), "generation", json_int_or(json_get(b, "metadata", "generation"), 0) + 1);
}

/* ---- namespaces ---- */

int namespace_check(struct draft *t) {
    struct apiserver *s = t->w->s;
    if (!t->w->kind->namespaced)
        return 0;
    struct resource *namespaces = storage_resource(s->storage, "", "namespaces");
    struct record *ns = storage_latest(s->storage, namespaces, "", t->w->ns);
    if (!ns)
        return fail_not_found(t->f, "", "namespaces", t->w->ns);
    static const char deleting[] = "\"deletionTimestamp\"";
    if (!memmem(ns->text, ns->len, deleting, sizeof(deleting) - 1))
        return 0; /* as nearly always */
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(ns);
    if (!object_deleting(yyjson_doc_get_root(doc)))
        return 0;
    _cleanup_(free_p) char *why =
        xasprintf("unable to create new content in namespace %s because it is being terminated", t->w->ns);
    fail_forbidden(t->f, t->w->kind->group, t->w->kind->plural, meta_str(t, "name"), why);
    fail_cause(t->f, "NamespaceTerminating", "metadata.namespace", "namespace %s is being terminated", t->w->ns);
    return -1;
}
