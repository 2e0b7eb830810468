/* The status of PodDisruptionBudgets: what kubectl shows, and what eviction is asked about. */
#include "apiserver/budget.h"
#include "apiserver/controllers/children.h"
#include "base/str.h"
#include "kube/object.h"

struct budgets {
    struct apiserver *s;
    struct resource *objects;
    const struct kind *kind;
    struct reconciler *queue;
};

static void look(void *self, struct item *it, struct record *rec, yyjson_val *pdb) {
    struct budgets *x = self;
    struct budget b;
    if (!pdb || budget_count(x->s, pdb, &b) < 0)
        return;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *status = yyjson_mut_obj(d), *conditions = yyjson_mut_arr(d);
    bool allowed = budget_allowed(&b) > 0;
    const struct {
        const char *key;
        int64_t value;
    } members[] = {
        {"observedGeneration", json_int_or(json_get(pdb, "metadata", "generation"), 0)},
        {"disruptionsAllowed", budget_allowed(&b)},
        {"currentHealthy", b.healthy},
        {"desiredHealthy", b.desired},
        {"expectedPods", b.expected},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        json_set_int(d, status, members[i].key, members[i].value);
    condition_add(d, conditions, pdb,
                  &(struct new_condition){"DisruptionAllowed", allowed ? "True" : "False",
                                          allowed ? "SufficientPods" : "InsufficientPods", NULL, NULL, false});
    json_set(d, status, "conditions", conditions);
    item_status(it, x->kind, pdb, d, status);
}

static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct budgets *x = self;
    if (x->objects->objects.count > 0)
        reconciler_mark_all(x->queue, x->objects, (is ? is : was)->rec->ns);
}

static void change(void *self, const struct change *c) {
    struct budgets *x = self;
    if (c->resource == x->objects && c->new_)
        reconciler_mark(x->queue, x->objects, c->new_->ns, c->new_->name);
}

static void work(void *self) {
    struct budgets *x = self;
    reconciler_work(x->queue);
}

static void tick(void *self, int64_t now_ms) {
    struct budgets *x = self;
    reconciler_tick(x->queue, now_ms);
}

static void *new (struct apiserver *s) {
    struct budgets *x = NEW(struct budgets);
    x->s = s;
    x->objects = controller_resource(s, "policy", "poddisruptionbudgets");
    x->kind = server_kind(s, "policy", "v1", "poddisruptionbudgets");
    x->queue = reconciler_new(s, look, x);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .self = x});
    reconciler_mark_all(x->queue, x->objects, NULL);
    return x;
}

static void release(void *self) {
    struct budgets *x = self;
    reconciler_free(x->queue);
    free(x);
}

const struct controller_type budget_controller = {
    .name = "budget", .new = new, .change = change, .work = work, .tick = tick, .free = release};
