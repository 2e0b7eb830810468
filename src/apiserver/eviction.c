/* The subresource eviction: a deletion that asks the disruption budgets first (embedded-api.md 4.5). */
#include "apiserver/budget.h"
#include "apiserver/controllers/view.h"
#include "apiserver/write.h"
#include "base/str.h"
#include "kube/object.h"
#include "kube/selector.h"

/* ---- budgets ---- */

static int64_t amount(yyjson_val *v, int64_t total) {
    const char *text = yyjson_get_str(v);
    size_t len = text ? strlen(text) : 0;
    int64_t n = 0;
    if (yyjson_is_int(v))
        return json_int_or(v, 0);
    if (len > 1 && text[len - 1] == '%' && parse_i64(bytes_of(text, len - 1), 0, 1000000, &n) == 0)
        return (total * n + 99) / 100;
    return 0;
}

static bool is_healthy(struct apiserver *s, struct resource *pods, const struct pod_view *p) {
    struct record *latest = storage_latest(s->storage, pods, p->rec->ns, p->rec->name);
    return latest && p->ready && pod_active(p) &&
           (latest == p->rec || !memmem(latest->text, latest->len, "\"deletionTimestamp\":\"", 21));
}

int budget_count(struct apiserver *s, yyjson_val *pdb, struct budget *out) {
    _cleanup_(selector_free_p) struct selector *selector = NULL;
    struct resource *pods = storage_resource(s->storage, "", "pods");
    yyjson_val *min = json_get(pdb, "spec", "minAvailable"), *max = json_get(pdb, "spec", "maxUnavailable");
    *out = (struct budget){0};
    if (selector_from_object(json_get(pdb, "spec", "selector"), &selector, NULL) < 0)
        return -1;
    for (struct pod_view *p = view_pods(s->view); p; p = p->hh.next) {
        if (strcmp(p->rec->ns, object_namespace(pdb)) != 0 || pod_finished(p) ||
            !selector_match_labels(selector, pod_labels(p)))
            continue;
        out->expected++;
        out->healthy += is_healthy(s, pods, p);
    }
    out->desired = max ? out->expected - amount(max, out->expected) : amount(min, out->expected);
    if (out->desired < 0)
        out->desired = 0;
    return 0;
}

static int check_budget(struct draft *t, const struct record *rec, yyjson_val *pod) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    _cleanup_(selector_free_p) struct selector *selector = NULL;
    yyjson_val *pdb = yyjson_doc_get_root(doc);
    struct budget b;
    if (selector_from_object(json_get(pdb, "spec", "selector"), &selector, NULL) < 0 ||
        !selector_match_labels(selector, object_labels(pod)) || budget_count(t->w->s, pdb, &b) < 0 ||
        budget_allowed(&b) > 0)
        return 0;
    struct pod_view *p = view_pod(t->w->s->view, object_namespace(pod), object_name(pod));
    if (p && !p->ready && b.healthy >= b.desired && b.desired > 0)
        return 0; /* what does not work may go as long as enough others do */
    fail_cause(t->f, "DisruptionBudget", "", "The disruption budget %s needs %lld healthy pods and has %lld currently",
               rec->name, (long long)b.desired, (long long)b.healthy);
    return fail_set(t->f, 429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.");
}

static int check_budgets(struct draft *t, yyjson_val *pod) {
    struct resource *budgets = storage_resource(t->w->s->storage, "policy", "poddisruptionbudgets");
    const char *phase = str_or(json_str(pod, "status", "phase"), "");
    size_t n;
    int rc = 0;
    if (object_deleting(pod) || strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0 ||
        strcmp(phase, "Pending") == 0)
        return 0;
    struct record **records = recordmap_snapshot(&budgets->objects, object_namespace(pod), &n);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = check_budget(t, records[i], pod);
    recordmap_free_snapshot(records, n);
    return rc;
}

/* ---- the request ---- */

int write_eviction(struct draft *t) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *body = NULL;
    if (body_parse(t->w->body, t->w->body_type, &body, t->f) < 0)
        return -1;
    yyjson_val *eviction = body ? yyjson_doc_get_root(body) : NULL, *options = json_get(eviction, "deleteOptions");
    const char *kind = json_str(eviction, "kind"), *name = object_name(eviction);
    if (!yyjson_is_obj(eviction) || (!str_empty(kind) && strcmp(kind, "Eviction") != 0))
        return fail_bad_request(t->f, "the body of the request is not an Eviction");
    if (*name && strcmp(name, t->w->name) != 0)
        return fail_bad_request(t->f, "the name of the object (%s) does not match the name on the URL (%s)", name,
                                t->w->name);
    t->old = record_ref(storage_latest(t->w->s->storage, t->resource, t->w->ns, t->w->name));
    if (!t->old)
        return fail_not_found(t->f, "", "pods", t->w->name);
    t->old_doc = record_parse(t->old);
    t->w->delete.grace_s = -1;
    if (yyjson_is_obj(options) && delete_options_read(&t->w->delete, options, &t->w->dry_run, t->f) < 0)
        return -1;
    if (check_budgets(t, yyjson_doc_get_root(t->old_doc)) < 0)
        return -1;
    return write_delete(t);
}
