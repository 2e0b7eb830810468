/* Deployments: one ReplicaSet per template, and the way from one to the next (embedded-api.md 6.3). */
#include "apiserver/controllers/children.h"
#include "apiserver/controllers/rollout.h"
#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define SETS_MAX 256 /* ReplicaSets of one Deployment that are looked at */
#define HASH_LABEL "pod-template-hash"
#define REVISION "deployment.kubernetes.io/revision"
#define DESIRED "deployment.kubernetes.io/desired-replicas"
#define MAX_REPLICAS "deployment.kubernetes.io/max-replicas"
#define COMPONENT "deployment-controller"

struct deployments {
    struct apiserver *s;
    struct view *view;
    struct resource *objects, *sets;
    const struct kind *kind, *set_kind;
    struct reconciler *queue;
};

struct set { /* a ReplicaSet of the Deployment */
    yyjson_doc *doc;
    yyjson_val *rs;
    int64_t revision, replicas, ready, created_s;
    bool settled; /* its controller has seen its spec */
};

struct deploying { /* one look */
    struct deployments *x;
    struct item *it;
    yyjson_val *deployment;
    struct set sets[SETS_MAX];
    struct rollout_set numbers[SETS_MAX]; /* same order */
    size_t n;
    int new_set; /* index; -1: there is none */
    struct rollout rollout;
    bool created, collided;
};

/* ---- templates ---- */

static yyjson_val *template_of(yyjson_val *o) {
    return json_get(o, "spec", "template");
}

static bool same_template(yyjson_val *rs, yyjson_val *deployment) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *a = yyjson_val_mut_copy(d, template_of(rs)), *b = yyjson_val_mut_copy(d, template_of(deployment));
    json_remove(json_mut_get(a, "metadata", "labels"), HASH_LABEL);
    json_remove(json_mut_get(b, "metadata", "labels"), HASH_LABEL);
    return a && json_mut_equal(a, b);
}

static int64_t number_annotation(yyjson_val *o, const char *key) {
    const char *text = object_annotation(o, key);
    int64_t n;
    return text && parse_i64(bytes_str(text), 0, INT32_MAX, &n) == 0 ? n : 0;
}

/* ---- its ReplicaSets ---- */

static int64_t created_s(yyjson_val *o) {
    const char *text = json_str(o, "metadata", "creationTimestamp");
    int64_t ns;
    return text && rfc3339_parse(bytes_str(text), &ns) == 0 ? ns / 1000000000 : 0;
}

static void take_set(struct deploying *w, struct record *rec) {
    struct set s = {.doc = record_parse(rec)};
    s.rs = yyjson_doc_get_root(s.doc);
    if (object_deleting(s.rs)) {
        yyjson_doc_free(s.doc);
        return;
    }
    s.created_s = created_s(s.rs);
    s.revision = number_annotation(s.rs, REVISION);
    s.replicas = json_int_or(json_get(s.rs, "status", "replicas"), 0);
    s.ready = json_int_or(json_get(s.rs, "status", "readyReplicas"), 0);
    s.settled = json_int_or(json_get(s.rs, "status", "observedGeneration"), 0) >=
                json_int_or(json_get(s.rs, "metadata", "generation"), 0);
    w->sets[w->n++] = s;
}

static int by_age(const void *pa, const void *pb) {
    const struct set *a = pa, *b = pb;
    if (a->created_s != b->created_s)
        return a->created_s < b->created_s ? -1 : 1;
    return a->revision != b->revision ? (a->revision < b->revision ? -1 : 1)
                                      : strcmp(object_name(a->rs), object_name(b->rs));
}

static void gather(struct deploying *w) {
    for (struct dependent *d = view_dependents(w->x->view, object_uid(w->deployment)); d; d = d->next)
        if (d->resource == w->x->sets && w->n < SETS_MAX)
            take_set(w, d->rec);
    qsort(w->sets, w->n, sizeof(w->sets[0]), by_age);
    w->new_set = -1;
    for (size_t i = 0; i < w->n; i++) {
        yyjson_val *rs = w->sets[i].rs;
        if (w->new_set < 0 && same_template(rs, w->deployment))
            w->new_set = (int)i;
        w->numbers[i] = (struct rollout_set){
            .want = json_int_or(json_get(rs, "spec", "replicas"), 0),
            .available = json_int_or(json_get(rs, "status", "availableReplicas"), 0),
            .desired = number_annotation(rs, DESIRED),
            .max_replicas = number_annotation(rs, MAX_REPLICAS),
            .created_s = w->sets[i].created_s,
            .is_new = w->new_set == (int)i,
        };
    }
    for (size_t i = 0; i < w->n; i++)
        for (struct pod_view *p = view_pods_of(w->x->view, object_uid(w->sets[i].rs)); p; p = p->owner_next)
            w->rollout.old_pods |= (int)i != w->new_set && !pod_finished(p);
}

/* ReplicaSets that nobody controls and that the selector finds become ours: true if there are some. */
static bool adopt(struct deploying *w) {
    size_t n;
    bool any = false;
    _cleanup_(selector_free_p) struct selector *s = NULL;
    if (selector_from_object(json_get(w->deployment, "spec", "selector"), &s, NULL) < 0)
        return false;
    struct record **records = recordmap_snapshot(&w->x->sets->objects, w->it->ns, &n);
    for (size_t i = 0; i < n; i++) {
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(records[i]);
        yyjson_val *rs = yyjson_doc_get_root(doc);
        if (yyjson_arr_size(json_get(rs, "metadata", "ownerReferences")) || object_deleting(rs) ||
            !selector_match_labels(s, object_labels(rs)))
            continue;
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *patch = yyjson_mut_obj(d);
        child_owned_by(d, patch, w->deployment);
        json_set_str(d, json_ensure_obj(d, patch, "metadata"), "uid", object_uid(rs));
        any |= item_patch(w->it, w->x->set_kind, w->it->ns, records[i]->name, "", patch) == 0;
    }
    recordmap_free_snapshot(records, n);
    return any;
}

/* ---- annotations ---- */

static bool is_own_annotation(const char *key) {
    static const char *const own[] = {"kubectl.kubernetes.io/last-applied-configuration",
                                      REVISION,
                                      "deployment.kubernetes.io/revision-history",
                                      DESIRED,
                                      MAX_REPLICAS,
                                      "deprecated.deployment.rollback.to"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (str_eq(key, own[i]))
            return true;
    return false;
}

static void set_number(yyjson_mut_doc *d, yyjson_mut_val *o, const char *key, int64_t n) {
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)n);
    json_set_str(d, o, key, text);
}

/* What the ReplicaSet should have, where it differs from what it has; true if something does. */
static bool annotations_due(struct deploying *w, yyjson_mut_doc *d, yyjson_mut_val *to, yyjson_val *rs, bool is_new,
                            int64_t revision) {
    const struct rollout *r = &w->rollout;
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach (object_annotations(w->deployment), i, n, key, value) {
        const char *name = yyjson_get_str(key), *text = yyjson_get_str(value);
        if (is_new && !is_own_annotation(name) && text && !str_eq(text, rs ? object_annotation(rs, name) : NULL))
            json_set_str(d, to, name, text);
    }
    if (!rs || number_annotation(rs, DESIRED) != r->replicas)
        set_number(d, to, DESIRED, r->replicas);
    if (!rs || number_annotation(rs, MAX_REPLICAS) != r->replicas + r->surge)
        set_number(d, to, MAX_REPLICAS, r->replicas + r->surge);
    if (is_new && (!rs || number_annotation(rs, REVISION) != revision))
        set_number(d, to, REVISION, revision);
    return yyjson_mut_obj_size(to) > 0;
}

/* One more than that of all others; what it has if it is the highest already. */
static int64_t new_revision(const struct deploying *w) {
    int64_t highest = 0, own = w->new_set >= 0 ? w->sets[w->new_set].revision : 0;
    for (size_t i = 0; i < w->n; i++)
        if ((int)i != w->new_set && w->sets[i].revision > highest)
            highest = w->sets[i].revision;
    return own > highest ? own : highest + 1;
}

static void tell_revision(struct deploying *w, int64_t revision) {
    if (number_annotation(w->deployment, REVISION) == revision)
        return;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d), *meta = json_ensure_obj(d, patch, "metadata");
    json_set_str(d, meta, "uid", object_uid(w->deployment));
    set_number(d, json_ensure_obj(d, meta, "annotations"), REVISION, revision);
    if (item_patch(w->it, w->x->kind, w->it->ns, w->it->name, "", patch) < 0)
        return; /* looked at again when it has changed */
}

/* ---- a new ReplicaSet ---- */

static yyjson_mut_val *build_set(struct deploying *w, yyjson_mut_doc *d, const char *name, const char *hash,
                                 int64_t replicas, int64_t revision) {
    yyjson_mut_val *rs = yyjson_mut_obj(d), *meta = json_ensure_obj(d, rs, "metadata");
    yyjson_mut_val *spec = json_ensure_obj(d, rs, "spec");
    yyjson_val *from = json_get(w->deployment, "spec"), *labels = json_get(from, "template", "metadata", "labels");
    int64_t min_ready = json_int_or(json_get(from, "minReadySeconds"), 0);
    json_set_str(d, meta, "name", name);
    json_set(d, meta, "labels", labels ? yyjson_val_mut_copy(d, labels) : yyjson_mut_obj(d));
    json_set_str(d, json_ensure_obj(d, meta, "labels"), HASH_LABEL, hash);
    annotations_due(w, d, json_ensure_obj(d, meta, "annotations"), NULL, true, revision);
    child_owned_by(d, rs, w->deployment);
    json_set_int(d, spec, "replicas", replicas);
    if (min_ready)
        json_set_int(d, spec, "minReadySeconds", min_ready);
    json_set(d, spec, "selector", yyjson_val_mut_copy(d, json_get(from, "selector")));
    json_set_str(d, json_ensure_obj(d, json_ensure_obj(d, spec, "selector"), "matchLabels"), HASH_LABEL, hash);
    json_set(d, spec, "template", yyjson_val_mut_copy(d, json_get(from, "template")));
    yyjson_mut_val *template_meta = json_ensure_obj(d, json_ensure_obj(d, spec, "template"), "metadata");
    json_set_str(d, json_ensure_obj(d, template_meta, "labels"), HASH_LABEL, hash);
    return rs;
}

static void tell_scaled(struct deploying *w, const char *name, int64_t from, int64_t to) {
    _cleanup_(free_p) char *message = from < 0
                                          ? xasprintf("Scaled up replica set %s from 0 to %lld", name, (long long)to)
                                          : xasprintf("Scaled %s replica set %s from %lld to %lld",
                                                      to > from ? "up" : "down", name, (long long)from, (long long)to);
    event_about_object(w->x->s, w->deployment, "Normal", "ScalingReplicaSet", COMPONENT, message);
}

static void create_set(struct deploying *w, int64_t revision) {
    char hash[TEMPLATE_HASH_SIZE];
    int64_t collisions = json_int_or(json_get(w->deployment, "status", "collisionCount"), 0);
    int64_t replicas = rollout_first(&w->rollout, w->numbers, w->n);
    template_hash(template_of(w->deployment), collisions, hash);
    _cleanup_(free_p) char *name = xasprintf("%.240s-%s", w->it->name, hash), *why = NULL;
    if (storage_latest(w->x->s->storage, w->x->sets, w->it->ns, name)) {
        w->collided = true; /* another's, since ours with this template would have been found */
        return;
    }
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    if (child_create(w->it, w->x->set_kind, build_set(w, d, name, hash, replicas, revision), &why) == 0) {
        w->created = true;
        if (replicas)
            tell_scaled(w, name, -1, replicas);
        return;
    }
    _cleanup_(free_p) char *message = xasprintf("Failed to create new replica set \"%s\": %s", name, str_or(why, ""));
    event_about_object(w->x->s, w->deployment, "Warning", "ReplicaSetCreateError", COMPONENT, message);
}

/* ---- scaling ---- */

static void write_set(struct deploying *w, size_t i, int64_t revision) {
    yyjson_val *rs = w->sets[i].rs;
    const struct rollout_set *r = &w->numbers[i];
    bool is_new = (int)i == w->new_set;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = yyjson_mut_obj(d), *meta = json_ensure_obj(d, patch, "metadata");
    int64_t min_ready = json_int_or(json_get(w->deployment, "spec", "minReadySeconds"), 0);
    bool due = (is_new || r->next > 0 || r->next != r->want) &&
               annotations_due(w, d, json_ensure_obj(d, meta, "annotations"), rs, is_new, revision);
    if (r->next != r->want)
        json_set_int(d, json_ensure_obj(d, patch, "spec"), "replicas", r->next);
    if (is_new && json_int_or(json_get(rs, "spec", "minReadySeconds"), 0) != min_ready) {
        json_set_int(d, json_ensure_obj(d, patch, "spec"), "minReadySeconds", min_ready);
        due = true;
    }
    if (!due && r->next == r->want)
        return;
    json_set_str(d, meta, "uid", object_uid(rs));
    json_set_str(d, meta, "resourceVersion", object_rv(rs));
    if (item_patch(w->it, w->x->set_kind, w->it->ns, object_name(rs), "", patch) == 0 && r->next != r->want)
        tell_scaled(w, object_name(rs), r->want, r->next);
}

static void clean_up(struct deploying *w) {
    int64_t keep = json_int_or(json_get(w->deployment, "spec", "revisionHistoryLimit"), 10), old = 0;
    for (size_t i = 0; i < w->n; i++)
        old += (int)i != w->new_set && w->numbers[i].want == 0;
    for (int64_t over = old - keep; over > 0; over--) { /* the lowest revision goes first */
        int lowest = -1;
        for (size_t i = 0; i < w->n; i++) {
            bool idle = (int)i != w->new_set && w->numbers[i].want == 0 && w->numbers[i].next == 0 &&
                        w->sets[i].replicas == 0 && w->sets[i].settled && w->sets[i].revision >= 0;
            if (idle && (lowest < 0 || w->sets[i].revision < w->sets[lowest].revision))
                lowest = (int)i;
        }
        if (lowest < 0)
            return;
        yyjson_val *rs = w->sets[lowest].rs;
        if (item_delete(w->it, w->x->set_kind, w->it->ns, object_name(rs), object_uid(rs), PROPAGATE_BACKGROUND) < 0)
            return;
        w->sets[lowest].revision = -1;
    }
}

/* ---- status ---- */

struct totals {
    int64_t replicas, updated, ready, available;
};

static struct totals sum(const struct deploying *w) {
    struct totals t = {0};
    for (size_t i = 0; i < w->n; i++) {
        t.replicas += w->sets[i].replicas;
        t.ready += w->sets[i].ready;
        t.available += w->numbers[i].available;
        t.updated += (int)i == w->new_set ? w->sets[i].replicas : 0;
    }
    return t;
}

static int64_t had(const struct deploying *w, const char *key) {
    return json_int_or(json_get(w->deployment, "status", key), 0);
}

/* Has it moved since the last status? */
static bool progressed(const struct deploying *w, const struct totals *t) {
    return t->updated > had(w, "updatedReplicas") || t->ready > had(w, "readyReplicas") ||
           t->available > had(w, "availableReplicas") ||
           t->replicas - t->updated < had(w, "replicas") - had(w, "updatedReplicas");
}

/* Seconds until it counts as stuck; < 0: it does. */
static int64_t deadline_left(const struct deploying *w, yyjson_val *condition) {
    int64_t deadline = json_int_or(json_get(w->deployment, "spec", "progressDeadlineSeconds"), 600), since;
    const char *text = json_str(condition, "lastUpdateTime");
    if (deadline == INT32_MAX || !text || rfc3339_parse(bytes_str(text), &since) < 0)
        return INT32_MAX;
    return since / 1000000000 + deadline - clock_wall_s();
}

static void progressing(struct deploying *w, const struct totals *t, yyjson_mut_doc *d, yyjson_mut_val *list) {
    yyjson_val *had_condition = condition_of(w->deployment, "Progressing");
    const char *reason = str_or(json_str(had_condition, "reason"), "");
    const char *what = w->new_set >= 0 ? object_name(w->sets[w->new_set].rs) : w->it->name;
    const char *noun = w->new_set >= 0 ? "ReplicaSet" : "Deployment";
    struct new_condition c = {.type = "Progressing", .status = "True", .update_time = "lastUpdateTime"};
    _cleanup_(free_p) char *message = NULL;
    int64_t want = w->rollout.replicas, left;
    bool complete = w->new_set >= 0 && t->updated == want && t->replicas == want && t->available == want;
    if (w->rollout.paused) {
        c.status = "Unknown", c.reason = "DeploymentPaused", message = xstrdup("Deployment is paused");
    } else if (complete) {
        c.reason = "NewReplicaSetAvailable";
        message = xasprintf("%s \"%s\" has successfully progressed.", noun, what);
    } else if (w->created) {
        c.reason = "NewReplicaSetCreated", c.touched = true;
        message = xstrdup("Created new replica set");
    } else if (str_eq(reason, "NewReplicaSetAvailable") && t->replicas == t->updated && w->new_set >= 0) {
        c.reason = reason; /* it was complete; pods that fail later do not make it a rollout */
        message = xasprintf("%s \"%s\" has successfully progressed.", noun, what);
    } else if (progressed(w, t) || !had_condition || str_eq(reason, "DeploymentPaused") ||
               (str_eq(reason, "NewReplicaSetAvailable") && t->replicas != t->updated)) {
        c.reason = "ReplicaSetUpdated", c.touched = true;
        message = xasprintf("%s \"%s\" is progressing.", noun, what);
    } else if (str_eq(reason, "ProgressDeadlineExceeded") || (left = deadline_left(w, had_condition)) < 0) {
        c.status = "False", c.reason = "ProgressDeadlineExceeded";
        message = xasprintf("%s \"%s\" has timed out progressing.", noun, what);
    } else {
        c.status = str_or(json_str(had_condition, "status"), "True"), c.reason = reason;
        message = xstrdup(str_or(json_str(had_condition, "message"), ""));
        item_again(w->it, left + 1);
    }
    c.message = message;
    condition_add(d, list, w->deployment, &c);
}

static void write_status(struct deploying *w) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *status = yyjson_mut_obj(d), *conditions = yyjson_mut_arr(d);
    struct totals t = sum(w);
    int64_t unavailable = w->rollout.replicas - t.available, collisions = had(w, "collisionCount") + w->collided;
    const struct {
        const char *key;
        int64_t value;
    } members[] = {
        {"observedGeneration", json_int_or(json_get(w->deployment, "metadata", "generation"), 0)},
        {"replicas", t.replicas},
        {"updatedReplicas", t.updated},
        {"readyReplicas", t.ready},
        {"availableReplicas", t.available},
        {"unavailableReplicas", unavailable > 0 ? unavailable : 0},
        {"collisionCount", collisions},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (members[i].value)
            json_set_int(d, status, members[i].key, members[i].value);
    bool enough = t.available >= w->rollout.replicas - w->rollout.unavailable;
    condition_add(d, conditions, w->deployment,
                  &(struct new_condition){"Available", enough ? "True" : "False",
                                          enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
                                          enough ? "Deployment has minimum availability."
                                                 : "Deployment does not have minimum availability.",
                                          "lastUpdateTime", false});
    progressing(w, &t, d, conditions);
    json_set(d, status, "conditions", conditions);
    item_status(w->it, w->x->kind, w->deployment, d, status);
}

/* ---- one look ---- */

static void roll(struct deploying *w) {
    int64_t revision = new_revision(w);
    if (w->new_set < 0 && !w->rollout.paused) {
        if (adopt(w))
            return; /* looked at again when they are ours */
        create_set(w, revision);
    }
    if (!w->created) {
        rollout_divide(&w->rollout, w->numbers, w->n);
        for (size_t i = 0; i < w->n; i++)
            write_set(w, i, revision);
        clean_up(w);
    }
    if (w->created || w->new_set >= 0)
        tell_revision(w, revision);
}

static void look(void *self, struct item *it, struct record *rec, yyjson_val *deployment) {
    struct deployments *x = self;
    if (!deployment)
        return;
    struct deploying *w = NEW(struct deploying);
    w->x = x;
    w->it = it;
    w->deployment = deployment;
    rollout_limits(&w->rollout, json_get(deployment, "spec"));
    gather(w);
    if (!object_deleting(deployment))
        roll(w);
    write_status(w);
    for (size_t i = 0; i < w->n; i++)
        yyjson_doc_free(w->sets[i].doc);
    free(w);
}

/* ---- life ---- */

/* The Deployment that controls the ReplicaSet is looked at. */
static void mark_owner(struct deployments *x, const struct record *rec) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    size_t i, n;
    yyjson_val *ref;
    yyjson_arr_foreach (json_get(yyjson_doc_get_root(doc), "metadata", "ownerReferences"), i, n, ref)
        if (json_bool_or(json_get(ref, "controller"), false) && str_eq(json_str(ref, "kind"), "Deployment"))
            reconciler_mark(x->queue, x->objects, rec->ns, str_or(json_str(ref, "name"), ""));
}

static void change(void *self, const struct change *c) {
    struct deployments *x = self;
    if (c->resource == x->objects && c->new_)
        reconciler_mark(x->queue, x->objects, c->new_->ns, c->new_->name);
    else if (c->resource == x->sets)
        mark_owner(x, c->new_ ? c->new_ : c->old);
}

/* Recreate waits for the last pod of an old ReplicaSet to be gone. */
static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct deployments *x = self;
    if (is || !was || strcmp(was->owner_kind, "ReplicaSet") != 0)
        return;
    struct record *rs = storage_get(x->sets, was->rec->ns, was->owner_name);
    if (rs)
        mark_owner(x, rs);
}

static void work(void *self) {
    struct deployments *x = self;
    reconciler_work(x->queue);
}

static void tick(void *self, int64_t now_ms) {
    struct deployments *x = self;
    reconciler_tick(x->queue, now_ms);
}

static void *new (struct apiserver *s) {
    struct deployments *x = NEW(struct deployments);
    x->s = s;
    x->view = s->view;
    x->objects = controller_resource(s, "apps", "deployments");
    x->sets = controller_resource(s, "apps", "replicasets");
    x->kind = server_kind(s, "apps", "v1", "deployments");
    x->set_kind = server_kind(s, "apps", "v1", "replicasets");
    x->queue = reconciler_new(s, look, x);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .self = x});
    reconciler_mark_all(x->queue, x->objects, NULL);
    return x;
}

static void release(void *self) {
    struct deployments *x = self;
    reconciler_free(x->queue);
    free(x);
}

const struct controller_type deployment_controller = {
    .name = "deployment", .new = new, .change = change, .work = work, .tick = tick, .free = release};
