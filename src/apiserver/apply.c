/* Server-side apply: the body, and how it changes an object (embedded-api.md 4.6). The algebra is in kube/apply.h. */
#include "apiserver/write.h"

#include "base/str.h"
#include "base/yaml.h"
#include "kube/apply.h"
#include "kube/object.h"

/* ---- the body --------------------------------------------------------------------------------------------------- */

/* JSON or YAML, as the content type says; kubectl and client-go send JSON. */
static yyjson_doc *parse_body(struct draft *t) {
    struct error err = ERROR_INIT;
    struct bytes body = bytes_trim(t->w->body);
    yyjson_doc *doc = NULL;
    if (body.len > 0 && body.ptr[0] == '{') {
        doc = json_parse(body, API_BODY_MAX, &err);
    } else {
        struct yaml_doc yaml = {0};
        if (yaml_parse(body, "the body", &yaml, &err) == 0)
            doc = TAKE(yaml.json);
        yaml_doc_free(&yaml);
    }
    if (!doc)
        fail_bad_request(t->f, "error decoding the applied object: %s", error_text(&err));
    return doc;
}

static int check_body(struct draft *t, yyjson_val *body) {
    const struct kind *k = t->w->kind;
    _cleanup_(free_p) char *api_version = kind_api_version(k);
    const char *version = str_or(json_str(body, "apiVersion"), ""), *kind = str_or(json_str(body, "kind"), "");
    const char *name = object_name(body);
    if (!yyjson_is_obj(body))
        return fail_bad_request(t->f, "the applied configuration is not an object");
    if (strcmp(version, api_version) != 0 || strcmp(kind, k->kind) != 0)
        return fail_bad_request(t->f,
                                "Incorrect version specified in apply patch. Specified patch version: %s, %s; "
                                "expected: %s, %s",
                                version, kind, api_version, k->kind);
    if (*name && strcmp(name, t->w->name) != 0)
        return fail_bad_request(t->f, "the name of the object (%s) does not match the name on the URL (%s)", name,
                                t->w->name);
    if (yyjson_arr_size(json_get(body, "metadata", "managedFields")) > 0)
        return fail_bad_request(t->f, "metadata.managedFields must be nil");
    return 0;
}

/* What the endpoint does not write is not applied by it. */
static void keep_endpoint_part(const struct draft *t, yyjson_mut_val *config) {
    bool status = strcmp(t->w->subresource, "status") == 0;
    if (!status) {
        if (t->w->kind->has_status)
            json_remove(config, "status");
        return;
    }
    static const char *const kept[] = {"apiVersion", "kind", "metadata", "status"};
    yyjson_mut_obj_iter it = yyjson_mut_obj_iter_with(config);
    for (yyjson_mut_val *key; (key = yyjson_mut_obj_iter_next(&it));) {
        bool keep = false;
        for (size_t i = 0; i < ARRAY_LEN(kept); i++)
            keep = keep || strcmp(yyjson_mut_get_str(key), kept[i]) == 0;
        if (!keep)
            yyjson_mut_obj_iter_remove(&it);
    }
    yyjson_mut_val *meta = yyjson_mut_obj_get(config, "metadata");
    static const char *const dropped[] = {"labels", "annotations", "finalizers", "ownerReferences"};
    for (size_t i = 0; i < ARRAY_LEN(dropped); i++)
        json_remove(meta, dropped[i]);
}

/* Elements of lists that are merged by keys must have them, each once. */
static int check_elements(struct draft *t, const struct field_tree *config) {
    const struct kind *k = t->w->kind;
    _cleanup_(buf_free) struct buf path = BUF_INIT(8192);
    uint32_t bad = FIELD_NONE;
    const char *what = "duplicate entries for the key";
    for (uint32_t n = 1; n < config->count && bad == FIELD_NONE; n++)
        if (config->nodes[n].step == 'i')
            bad = n, what = "an element of this list lacks a key field";
    if (bad == FIELD_NONE)
        bad = field_tree_duplicate(config);
    if (bad == FIELD_NONE)
        return 0;
    field_tree_path(config, bad, &path);
    return fail_bad_request(t->f, "failed to create typed patch object (%s/%s; %s/%s, Kind=%s): %s: %s", t->w->ns,
                            t->w->name, k->group, k->version, k->kind, str_or(path.ptr, ""), what);
}

int apply_decode(struct draft *t) {
    const struct kind *k = t->w->kind;
    struct error err = ERROR_INIT;
    if (str_empty(t->w->manager)) {
        fail_cause(t->f, "FieldValueRequired", "fieldManager", "Required value: is required for apply patch");
        return fail_invalid(t->f, "meta.k8s.io", "PatchOptions", "");
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = parse_body(t);
    if (!body || check_body(t, yyjson_doc_get_root(body)) < 0)
        return -1;
    _cleanup_(strlist_free) struct strlist unknown = {0};
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *config = kind_decode(k, d, yyjson_doc_get_root(body), &unknown, &err);
    if (!config) {
        fail_cause(t->f, "FieldValueInvalid", "patch", "Invalid value: %s", error_text(&err));
        return fail_invalid(t->f, k->group, k->kind, t->w->name);
    }
    keep_endpoint_part(t, config);
    t->config = yyjson_mut_val_imut_copy(config, NULL);
    _cleanup_(field_tree_free) struct field_tree tree;
    field_tree_init(&tree, yyjson_doc_get_root(t->config), managed_topology(k));
    if (body_report_unknown(t, &unknown, true) < 0)
        return -1;
    return check_elements(t, &tree);
}

/* ---- conflicts -------------------------------------------------------------------------------------------------- */

/* One manager's conflicts: its causes, and its lines of the message. */
static void tell_manager(struct draft *t, const struct apply *a, size_t manager, const struct apply_conflict *found,
                         size_t n, struct buf *message) {
    _cleanup_(buf_free) struct buf who = BUF_INIT(1024);
    manager_describe(&a->owned->managers[manager], &who);
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        if (!(found[i].owners >> manager & 1))
            continue;
        _cleanup_(buf_free) struct buf path = BUF_INIT(8192);
        field_tree_path(a->live, found[i].node, &path);
        fail_cause(t->f, "FieldManagerConflict", path.ptr, "conflict with %s", who.ptr);
        if (first)
            buf_addf(message, "%sconflicts with %s:", message->len ? "\n" : "", who.ptr);
        first = false;
        buf_addf(message, "\n- %s", path.ptr);
    }
}

static size_t pairs_of(const struct apply_conflict *found, size_t n) {
    size_t pairs = 0;
    for (size_t i = 0; i < n; i++)
        pairs += (size_t)__builtin_popcountll(found[i].owners);
    return pairs;
}

static int refuse_conflicts(struct draft *t, const struct apply *a, const struct apply_conflict *found, size_t n) {
    const struct kind *k = t->w->kind;
    _cleanup_(buf_free) struct buf message = BUF_INIT(256u << 10);
    fail_clear(t->f);
    for (size_t i = 0; i < a->owned->count; i++)
        tell_manager(t, a, i, found, n, &message);
    struct fail_cause *causes = TAKE(t->f->causes);
    size_t pairs = pairs_of(found, n);
    fail_conflict(t->f, k->group, k->plural, t->w->name, "");
    free(t->f->message);
    t->f->message = pairs == 1 ? xasprintf("Apply failed with 1 conflict: %s: %s", causes->message, causes->field)
                               : xasprintf("Apply failed with %zu conflicts: %s", pairs, message.ptr);
    t->f->causes = causes;
    return -1;
}

/* ---- onto what there is ----------------------------------------------------------------------------------------- */

/* Names, and what the applier takes for granted: checked as those of any update. */
static void take_preconditions(struct draft *t) {
    yyjson_val *meta = json_get(yyjson_doc_get_root(t->config), "metadata");
    static const char *const checked[] = {"name", "namespace", "uid", "resourceVersion"};
    for (size_t i = 0; i < ARRAY_LEN(checked); i++)
        if (!str_empty(json_str(meta, checked[i])))
            json_set_str(t->d, json_ensure_obj(t->d, t->obj, "metadata"), checked[i], json_str(meta, checked[i]));
}

static int merge(struct draft *t, const struct apply *a) {
    const struct kind *k = t->w->kind;
    struct error err = ERROR_INIT;
    size_t n;
    struct apply_conflict *found = apply_conflicts(a, &n);
    int r = n > 0 && !t->w->force ? refuse_conflicts(t, a, found, n) : 0;
    free(found);
    if (r < 0)
        return -1;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *merged = yyjson_mut_val_imut_copy(apply_merge(a, d), NULL);
    t->d = yyjson_mut_doc_new(NULL);
    t->obj = kind_decode(k, t->d, yyjson_doc_get_root(merged), NULL, &err);
    if (!t->obj)
        return fail_bad_request(t->f, "the applied object is no %s: %s", k->kind, error_text(&err));
    take_preconditions(t);
    return 0;
}

int apply_to_old(struct draft *t) {
    struct topology topology = managed_topology(t->w->kind);
    if (!t->old) {
        t->d = yyjson_mut_doc_new(NULL);
        t->obj = yyjson_val_mut_copy(t->d, yyjson_doc_get_root(t->config));
        if (!json_mut_str(t->obj, "metadata", "uid"))
            return 0;
        return fail_conflict(t->f, t->w->kind->group, t->w->kind->plural, t->w->name,
                             "the object has a uid, but there is no such object");
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *stored = record_parse(t->old);
    _cleanup_(field_tree_free) struct field_tree live, config;
    _cleanup_(ownership_free) struct ownership owned;
    field_tree_init(&live, yyjson_doc_get_root(stored), topology);
    field_tree_init(&config, yyjson_doc_get_root(t->config), topology);
    struct apply a = {.live = &live, .owned = &owned, .config = &config};
    managed_before(t, &owned, &live, &a.applier);
    return merge(t, &a);
}
