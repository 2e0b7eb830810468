#include "apiserver/write.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define GRACE_MAX_S (365LL * 24 * 3600)

void delete_options_free(struct delete_options *o) {
    free(o->uid);
    free(o->rv);
    *o = (struct delete_options){.grace_s = -1};
}

static int read_propagation(struct delete_options *o, yyjson_val *body, struct fail *f) {
    const char *policy = json_str(body, "propagationPolicy");
    yyjson_val *orphan = yyjson_obj_get(body, "orphanDependents");
    if (policy && orphan) {
        fail_cause(f, "FieldValueInvalid", "propagationPolicy",
                   "Invalid value: \"%.32s\": orphanDependents and propagationPolicy cannot be both set", policy);
        return fail_invalid(f, "meta.k8s.io", "DeleteOptions", "");
    }
    if (!policy) {
        if (orphan)
            o->propagation = yyjson_is_true(orphan) ? PROPAGATE_ORPHAN : PROPAGATE_BACKGROUND;
        return 0;
    }
    if (strcmp(policy, "Background") == 0)
        o->propagation = PROPAGATE_BACKGROUND;
    else if (strcmp(policy, "Foreground") == 0)
        o->propagation = PROPAGATE_FOREGROUND;
    else if (strcmp(policy, "Orphan") == 0)
        o->propagation = PROPAGATE_ORPHAN;
    else {
        fail_cause(f, "FieldValueNotSupported", "propagationPolicy",
                   "Unsupported value: \"%.32s\": supported values: \"Foreground\", \"Background\", \"Orphan\"",
                   policy);
        return fail_invalid(f, "meta.k8s.io", "DeleteOptions", "");
    }
    return 0;
}

int delete_options_read(struct delete_options *o, yyjson_val *body, bool *dry_run, struct fail *f) {
    if (!yyjson_is_obj(body))
        return fail_bad_request(f, "the DeleteOptions are not an object");
    yyjson_val *grace = yyjson_obj_get(body, "gracePeriodSeconds");
    if (grace && !yyjson_is_null(grace)) {
        if (!yyjson_is_int(grace))
            return fail_bad_request(f, "gracePeriodSeconds is not a number");
        int64_t s = json_int_or(grace, GRACE_MAX_S);
        o->grace_s = s < 0 ? 1 : s > GRACE_MAX_S ? GRACE_MAX_S : s;
    }
    o->uid = xstrdup_null(json_str(body, "preconditions", "uid"));
    o->rv = xstrdup_null(json_str(body, "preconditions", "resourceVersion"));
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach (yyjson_obj_get(body, "dryRun"), i, n, item) {
        if (!str_eq(yyjson_get_str(item), "All")) {
            fail_cause(f, "FieldValueNotSupported", "dryRun", "Unsupported value: supported values: \"All\"");
            return fail_invalid(f, "meta.k8s.io", "DeleteOptions", "");
        }
        *dry_run = true;
    }
    return read_propagation(o, body, f);
}

static int check_preconditions(const struct draft *t, yyjson_val *old) {
    const struct delete_options *o = &t->w->delete;
    const struct kind *k = t->w->kind;
    if (o->uid && strcmp(o->uid, object_uid(old)) != 0) {
        _cleanup_(free_p) char *why = xasprintf(
            "Precondition failed: UID in precondition: %.64s, UID in object meta: %s", o->uid, object_uid(old));
        return fail_conflict(t->f, k->group, k->plural, t->w->name, why);
    }
    if (o->rv && strcmp(o->rv, object_rv(old)) != 0) {
        _cleanup_(free_p) char *why =
            xasprintf("Precondition failed: ResourceVersion in precondition: %.64s, ResourceVersion in object meta: %s",
                      o->rv, object_rv(old));
        return fail_conflict(t->f, k->group, k->plural, t->w->name, why);
    }
    return 0;
}

static bool is_core(const struct kind *k, const char *plural) {
    return !*k->group && strcmp(k->plural, plural) == 0;
}

static int check_protected(const struct draft *t) {
    static const char *const kept[] = {"default", "kube-system", "kube-public"};
    if (!is_core(t->w->kind, "namespaces"))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (strcmp(t->w->name, kept[i]) == 0)
            return fail_forbidden(t->f, "", "namespaces", t->w->name, "this namespace may not be deleted");
    return 0;
}

/* ---- finalizers ---- */

static void remove_finalizer(yyjson_mut_val *meta, const char *name) {
    yyjson_mut_val *list = yyjson_mut_obj_get(meta, "finalizers"), *item;
    yyjson_mut_arr_iter it;
    if (!list || !yyjson_mut_arr_iter_init(list, &it))
        return;
    while ((item = yyjson_mut_arr_iter_next(&it)))
        if (str_eq(yyjson_mut_get_str(item), name))
            yyjson_mut_arr_iter_remove(&it);
    if (yyjson_mut_arr_size(list) == 0)
        json_remove(meta, "finalizers");
}

static bool has_items(yyjson_mut_val *list) {
    return list && yyjson_mut_arr_size(list) > 0;
}

/* Finalizers that keep the object: its own, and a Namespace's in its spec. */
static bool is_finalized(yyjson_mut_val *obj, const struct kind *k) {
    if (has_items(json_mut_get(obj, "metadata", "finalizers")))
        return false;
    return !is_core(k, "namespaces") || !has_items(json_mut_get(obj, "spec", "finalizers"));
}

bool nothing_holds(yyjson_mut_val *obj, const struct kind *k) {
    yyjson_mut_val *meta = yyjson_mut_obj_get(obj, "metadata");
    if (!yyjson_mut_obj_get(meta, "deletionTimestamp") || !is_finalized(obj, k))
        return false;
    yyjson_mut_val *grace = yyjson_mut_obj_get(meta, "deletionGracePeriodSeconds");
    return !grace || yyjson_mut_get_sint(grace) == 0;
}

/* Foreground and Orphan are finalizers that the garbage collector answers to. */
static void apply_propagation(struct draft *t, yyjson_mut_val *meta) {
    enum propagation how = t->w->delete.propagation;
    if (how == PROPAGATE_DEFAULT)
        return;
    remove_finalizer(meta, "orphan");
    remove_finalizer(meta, "foregroundDeletion");
    if (how == PROPAGATE_BACKGROUND || t->w->kind->ttl_s || t->w->kind->create_on_update)
        return;
    yyjson_mut_arr_add_str(t->d, json_ensure_arr(t->d, meta, "finalizers"),
                           how == PROPAGATE_ORPHAN ? "orphan" : "foregroundDeletion");
}

/* ---- grace ---- */

static int64_t wanted_grace(const struct draft *t, yyjson_val *old) {
    if (!t->w->kind->graceful_delete || str_empty(json_str(old, "spec", "nodeName")))
        return 0;
    const char *phase = str_or(json_str(old, "status", "phase"), "");
    if (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0)
        return 0;
    if (t->w->delete.grace_s >= 0)
        return t->w->delete.grace_s;
    int64_t s = json_int_or(json_get(old, "spec", "terminationGracePeriodSeconds"), 30);
    return s < 0 ? 1 : s;
}

static void bump_generation(struct draft *t, yyjson_mut_val *meta) {
    yyjson_mut_val *g = yyjson_mut_obj_get(meta, "generation");
    if (g && yyjson_mut_get_sint(g) > 0)
        json_set_int(t->d, meta, "generation", yyjson_mut_get_sint(g) + 1);
}

static void mark_deleting(struct draft *t, yyjson_mut_val *meta, int64_t at_s, int64_t grace_s) {
    char text[RFC3339_SIZE];
    json_set_str(t->d, meta, "deletionTimestamp", rfc3339_seconds(at_s, text));
    json_set_int(t->d, meta, "deletionGracePeriodSeconds", grace_s);
}

/* Already deleting: the grace may only get shorter. True if something changed. */
static bool shorten(struct draft *t, yyjson_mut_val *meta, yyjson_val *old, int64_t grace_s) {
    yyjson_val *have = json_get(old, "metadata", "deletionGracePeriodSeconds");
    int64_t had = json_int_or(have, 0), due_ns = 0, now = clock_wall_s();
    const char *stamp = json_str(old, "metadata", "deletionTimestamp");
    if (grace_s >= had || !stamp || rfc3339_parse(bytes_str(stamp), &due_ns) < 0)
        return false;
    int64_t due = due_ns / 1000000000 - had + grace_s;
    mark_deleting(t, meta, due < now ? now : due, grace_s);
    return true;
}

static void mark_namespace(struct draft *t) {
    if (is_core(t->w->kind, "namespaces"))
        json_set_str(t->d, json_ensure_obj(t->d, t->obj, "status"), "phase", "Terminating");
}

int write_delete(struct draft *t) {
    yyjson_val *old = yyjson_doc_get_root(t->old_doc);
    if (check_protected(t) < 0 || check_preconditions(t, old) < 0)
        return -1;
    t->d = yyjson_mut_doc_new(NULL);
    t->obj = yyjson_val_mut_copy(t->d, old);
    t->code = 200;
    yyjson_mut_val *meta = json_ensure_obj(t->d, t->obj, "metadata");
    apply_propagation(t, meta);
    int64_t grace = wanted_grace(t, old);
    if (object_deleting(old)) {
        shorten(t, meta, old, grace);
    } else if (grace > 0 || !is_finalized(t->obj, t->w->kind)) {
        bump_generation(t, meta);
        mark_deleting(t, meta, clock_wall_s() + grace, grace);
        mark_namespace(t);
    } else {
        return store_removal(t, 200);
    }
    return store_draft(t);
}
