/* Jobs: pods that run to their end, as often as asked for (embedded-api.md 6.5).
 *
 * Each pod is counted exactly once: it carries a finalizer; its uid is first written into the status, then the
 * finalizer goes, and when it is gone the uid leaves the status and the number grows. A pod on a silent node keeps its
 * place. */
#include "apiserver/controllers/job.h"

#include "base/clock.h"
#include "base/str.h"
#include "kube/object.h"

#define FINALIZER "batch.kubernetes.io/job-tracking"
#define COMPONENT "job-controller"
#define BURST 500
#define BACKOFF_S 10
#define BACKOFF_MAX_S 600

struct jobs {
    struct apiserver *s;
    struct view *view;
    struct resource *objects, *pod_objects;
    const struct kind *kind, *pods;
    struct reconciler *queue, *strays; /* strays: pods whose Job is gone */
};

struct working { /* one look */
    struct jobs *x;
    struct item *it;
    yyjson_val *job;
    struct pod_view **pods;
    size_t n;
    struct job_numbers numbers;
    bool uncounted; /* some pod is not counted to its end */
    yyjson_mut_doc *d;
    yyjson_mut_val *succeeded, *failed; /* uids in status.uncountedTerminatedPods */
};

/* ---- what to do ---- */

static int64_t min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

struct job_decision job_decide(const struct job_numbers *n) {
    struct job_decision d = {0};
    bool enough = n->completions < 0 ? n->succeeded > 0 && n->active == 0 : n->succeeded >= n->completions;
    int64_t failures = n->failed + (n->restarts_count ? n->restarts : 0);
    if (failures > n->backoff_limit) {
        d.failed = "BackoffLimitExceeded", d.message = "Job has reached the specified backoff limit";
    } else if (n->late) {
        d.failed = "DeadlineExceeded", d.message = "Job was active longer than specified deadline";
    } else if (enough) {
        d.complete = true;
    }
    if (d.failed || d.complete || n->suspended) {
        d.stop = n->active > 0;
        return d;
    }
    int64_t want = n->completions < 0 ? (n->succeeded > 0 ? n->active : n->parallelism)
                                      : min(n->parallelism, n->completions - n->succeeded);
    if (n->active > want)
        d.remove = n->active - want;
    if (n->active >= want)
        return d;
    if (n->failed > 0 && n->last_failure_s > 0) {
        int64_t delay = n->failed > 7 ? BACKOFF_MAX_S : min((int64_t)BACKOFF_S << (n->failed - 1), BACKOFF_MAX_S);
        int64_t left = n->last_failure_s + delay - n->now_s;
        if (left > 0) {
            d.again_s = left;
            return d;
        }
    }
    d.create = min(want - n->active, BURST);
    return d;
}

/* ---- counting ---- */

static bool lists(yyjson_val *list, const char *uid) {
    size_t i, n;
    yyjson_val *v;
    yyjson_arr_foreach (list, i, n, v)
        if (str_eq(yyjson_get_str(v), uid))
            return true;
    return false;
}

/* The uids of one list of the status: those whose pod has lost its finalizer are counted and leave the list. */
static int64_t settle_list(struct working *w, const char *key, yyjson_mut_val *keep, struct strlist *tracked) {
    size_t i, n;
    yyjson_val *uid;
    int64_t counted = 0;
    yyjson_arr_foreach (json_get(w->job, "status", "uncountedTerminatedPods", key), i, n, uid) {
        if (strlist_has(tracked, str_or(yyjson_get_str(uid), ""))) {
            yyjson_mut_arr_append(keep, yyjson_val_mut_copy(w->d, uid));
            w->uncounted = true;
        } else {
            counted++;
        }
    }
    return counted;
}

static void count_finished(struct working *w, const struct pod_view *p, struct strlist *tracked) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(p->rec);
    yyjson_val *pod = yyjson_doc_get_root(doc), *had = json_get(w->job, "status", "uncountedTerminatedPods");
    const char *uid = object_uid(pod);
    bool good = p->phase == PHASE_SUCCEEDED;
    strlist_add(tracked, uid);
    w->uncounted = true;
    if (lists(json_get(had, "succeeded"), uid) || lists(json_get(had, "failed"), uid))
        item_drop_finalizer(w->it, w->x->pods, pod, FINALIZER);
    else
        yyjson_mut_arr_add_strcpy(w->d, good ? w->succeeded : w->failed, uid);
}

/* Active pods, and those that have ended but are not yet counted. */
static void count(struct working *w) {
    _cleanup_(strlist_free) struct strlist tracked = {0};
    struct job_numbers *n = &w->numbers;
    for (size_t i = 0; i < w->n; i++) {
        const struct pod_view *p = w->pods[i];
        if (p->tracked && !pod_active(p))
            count_finished(w, p, &tracked);
        if (!pod_active(p) && p->phase != PHASE_SUCCEEDED && p->finished_s > n->last_failure_s)
            n->last_failure_s = p->finished_s;
        n->active += pod_active(p);
        n->restarts += pod_active(p) ? p->restarts : 0;
    }
    int64_t succeeded = settle_list(w, "succeeded", w->succeeded, &tracked);
    int64_t failed = settle_list(w, "failed", w->failed, &tracked);
    n->succeeded = json_int_or(json_get(w->job, "status", "succeeded"), 0) + succeeded;
    n->failed = json_int_or(json_get(w->job, "status", "failed"), 0) + failed;
}

/* ---- status ---- */

static bool is_true(yyjson_val *job, const char *type) {
    return str_eq(json_str(condition_of(job, type), "status"), "True");
}

static void add_conditions(struct working *w, yyjson_mut_val *list, const struct job_decision *d) {
    size_t i, n;
    yyjson_val *c;
    bool was_suspended = is_true(w->job, "Suspended"), is_suspended = w->numbers.suspended;
    yyjson_arr_foreach (json_get(w->job, "status", "conditions"), i, n, c)
        if (!str_eq(json_str(c, "type"), "Suspended"))
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(w->d, c));
    if (is_suspended || was_suspended || condition_of(w->job, "Suspended"))
        condition_add(w->d, list, w->job,
                      &(struct new_condition){"Suspended", is_suspended ? "True" : "False",
                                              is_suspended ? "JobSuspended" : "JobResumed",
                                              is_suspended ? "Job suspended" : "Job resumed", "lastProbeTime", false});
    if (d->failed)
        condition_add(w->d, list, w->job,
                      &(struct new_condition){"Failed", "True", d->failed, d->message, "lastProbeTime", false});
    else if (d->complete)
        condition_add(w->d, list, w->job,
                      &(struct new_condition){"Complete", "True", "CompletionsReached",
                                              "Reached expected number of succeeded pods", "lastProbeTime", false});
}

static void write_status(struct working *w, const struct job_decision *d, const char *start) {
    yyjson_mut_val *status = yyjson_mut_obj(w->d), *conditions = yyjson_mut_arr(w->d);
    const struct job_numbers *n = &w->numbers;
    char now[RFC3339_SIZE];
    int64_t ready = 0;
    for (size_t i = 0; i < w->n; i++)
        ready += pod_active(w->pods[i]) && w->pods[i]->ready;
    bool over = d->failed || d->complete;
    add_conditions(w, conditions, d);
    if (yyjson_mut_arr_size(conditions))
        json_set(w->d, status, "conditions", conditions);
    if (start)
        json_set_str(w->d, status, "startTime", start);
    if (d->complete)
        json_set_str(w->d, status, "completionTime", rfc3339_now(now));
    if (n->active && !over)
        json_set_int(w->d, status, "active", n->active);
    if (n->succeeded)
        json_set_int(w->d, status, "succeeded", n->succeeded);
    if (n->failed)
        json_set_int(w->d, status, "failed", n->failed);
    json_set_int(w->d, status, "ready", over ? 0 : ready);
    yyjson_mut_val *uncounted = json_ensure_obj(w->d, status, "uncountedTerminatedPods");
    if (yyjson_mut_arr_size(w->succeeded))
        json_set(w->d, uncounted, "succeeded", w->succeeded);
    if (yyjson_mut_arr_size(w->failed))
        json_set(w->d, uncounted, "failed", w->failed);
    item_status(w->it, w->x->kind, w->job, w->d, status);
    if (d->failed)
        event_about_object(w->x->s, w->job, "Warning", d->failed, COMPONENT, d->message);
    else if (d->complete)
        event_about_object(w->x->s, w->job, "Normal", "Completed", COMPONENT, "Job completed");
}

/* ---- pods ---- */

static void create_pods(struct working *w, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
        _cleanup_(free_p) char *why = NULL;
        yyjson_mut_val *pod = child_pod(d, w->job, json_get(w->job, "spec", "template"));
        yyjson_mut_arr_add_str(d, json_ensure_arr(d, json_ensure_obj(d, pod, "metadata"), "finalizers"), FINALIZER);
        if (child_create(w->it, w->x->pods, pod, &why) == 0)
            continue;
        _cleanup_(free_p) char *message = xasprintf("Error creating: %s", str_or(why, ""));
        event_about_object(w->x->s, w->job, "Warning", "FailedCreate", COMPONENT, message);
        return;
    }
}

static void delete_pods(struct working *w, int64_t n) {
    for (size_t i = w->n; i-- > 0 && n > 0;) {
        const struct pod_view *p = w->pods[i];
        if (!pod_active(p))
            continue;
        n--;
        /* Nobody's failure: not to be counted. */
        _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(p->rec);
        item_drop_finalizer(w->it, w->x->pods, yyjson_doc_get_root(doc), FINALIZER);
        if (item_delete(w->it, w->x->pods, p->rec->ns, p->rec->name, NULL, PROPAGATE_BACKGROUND) < 0)
            return;
        _cleanup_(free_p) char *message = xasprintf("Deleted pod: %s", p->rec->name);
        event_about_object(w->x->s, w->job, "Normal", "SuccessfulDelete", COMPONENT, message);
    }
}

/* ---- one look ---- */

static int64_t time_or(const char *text, int64_t fallback) {
    int64_t ns;
    return text && rfc3339_parse(bytes_str(text), &ns) == 0 ? ns / 1000000000 : fallback;
}

/* Over: nothing is left but to delete it when its time to live is up. */
static void expire(struct jobs *x, struct item *it, yyjson_val *job) {
    yyjson_val *ttl = json_get(job, "spec", "ttlSecondsAfterFinished");
    if (!ttl || object_deleting(job))
        return;
    yyjson_val *end = condition_of(job, is_true(job, "Complete") ? "Complete" : "Failed");
    int64_t now = clock_wall_s(), left = time_or(json_str(end, "lastTransitionTime"), now) + json_int_or(ttl, 0) - now;
    if (left > 0)
        item_again(it, left);
    else if (item_delete(it, x->kind, it->ns, it->name, object_uid(job), PROPAGATE_BACKGROUND) < 0)
        item_again(it, 1);
}

static void read_spec(struct working *w, const char **start, char now[RFC3339_SIZE]) {
    struct job_numbers *n = &w->numbers;
    yyjson_val *spec = json_get(w->job, "spec");
    n->parallelism = json_int_or(json_get(spec, "parallelism"), 1);
    n->completions = json_int_or(json_get(spec, "completions"), -1);
    n->backoff_limit = json_int_or(json_get(spec, "backoffLimit"), 6);
    n->restarts_count = str_eq(json_str(spec, "template", "spec", "restartPolicy"), "OnFailure");
    n->suspended = json_bool_or(json_get(spec, "suspend"), false);
    n->now_s = clock_wall_s();
    *start = json_str(w->job, "status", "startTime");
    if (n->suspended || is_true(w->job, "Suspended"))
        *start = NULL; /* the deadline begins again */
    if (!*start && !n->suspended)
        *start = rfc3339_now(now);
    int64_t deadline = json_int_or(json_get(spec, "activeDeadlineSeconds"), 0);
    if (!deadline || !*start)
        return;
    int64_t left = time_or(*start, n->now_s) + deadline - n->now_s;
    n->late = left <= 0;
    if (left > 0)
        item_again(w->it, left);
}

static void work_on(struct working *w) {
    const char *start;
    char now[RFC3339_SIZE];
    bool over = is_true(w->job, "Complete") || is_true(w->job, "Failed");
    read_spec(w, &start, now);
    count(w);
    struct job_decision d = over ? (struct job_decision){.stop = w->numbers.active > 0} : job_decide(&w->numbers);
    if (w->uncounted)
        d.failed = NULL, d.complete = false; /* when all are counted */
    if (over)
        expire(w->x, w->it, w->job);
    if (d.stop || d.remove)
        delete_pods(w, d.stop ? BURST : d.remove);
    if (!object_deleting(w->job) && !over)
        create_pods(w, w->uncounted ? 0 : d.create);
    if (d.again_s)
        item_again(w->it, d.again_s);
    if (!over)
        write_status(w, &d, start);
}

static void look(void *self, struct item *it, struct record *rec, yyjson_val *job) {
    struct jobs *x = self;
    _cleanup_(selector_free_p) struct selector *s = NULL;
    if (!job || selector_from_object(json_get(job, "spec", "selector"), &s, NULL) < 0)
        return;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    struct working w = {.x = x, .it = it, .job = job, .d = d};
    w.succeeded = yyjson_mut_arr(d);
    w.failed = yyjson_mut_arr(d);
    w.pods = children_claim(it, x->view, x->pods, job, s, &w.n);
    work_on(&w);
    free(w.pods);
}

/* A pod whose Job is gone or over is not held by our finalizer. */
static void look_at_stray(void *self, struct item *it, struct record *rec, yyjson_val *pod) {
    struct jobs *x = self;
    struct pod_view *p = pod ? view_pod(x->view, it->ns, it->name) : NULL;
    if (!p || !p->tracked)
        return;
    struct record *owner = strcmp(p->owner_kind, "Job") == 0 ? storage_get(x->objects, it->ns, p->owner_name) : NULL;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = owner ? record_parse(owner) : NULL;
    yyjson_val *job = doc ? yyjson_doc_get_root(doc) : NULL;
    if (job && strcmp(object_uid(job), p->owner_uid) == 0 && !object_deleting(job) && !is_true(job, "Complete") &&
        !is_true(job, "Failed"))
        return;
    item_drop_finalizer(it, x->pods, pod, FINALIZER);
}

/* ---- life ---- */

static void pod_changed(void *self, const struct pod_view *was, struct pod_view *is) {
    struct jobs *x = self;
    children_pod_changed(x->queue, x->objects, "Job", was, is);
    if (is && is->tracked && !pod_active(is))
        reconciler_mark(x->strays, x->pod_objects, is->rec->ns, is->rec->name);
    if (!was && is && strcmp(is->owner_kind, "Job") == 0) {
        const struct event_about about = {"batch/v1", "Job", is->rec->ns, is->owner_name, is->owner_uid};
        _cleanup_(free_p) char *message = xasprintf("Created pod: %s", is->rec->name);
        controller_event(x->s, &about, "Normal", "SuccessfulCreate", COMPONENT, message);
    }
}

/* The Job waits for the node's return: nothing else would say so. */
static void node_changed(void *self, struct node_view *node, bool existed) {
    struct jobs *x = self;
    for (struct pod_view *p = node->ready || !existed ? NULL : node->pods; p; p = p->node_next) {
        if (!pod_active(p) || strcmp(p->owner_kind, "Job") != 0)
            continue;
        const struct event_about about = {"batch/v1", "Job", p->rec->ns, p->owner_name, p->owner_uid};
        _cleanup_(free_p) char *message =
            xasprintf("Pod %s is on node %s, which is not ready: the Job waits for it", p->rec->name, node->name);
        controller_event(x->s, &about, "Warning", "WaitingForNode", COMPONENT, message);
    }
}

static void mark_strays(struct jobs *x, const char *uid) {
    for (struct pod_view *p = view_pods_of(x->view, uid); p; p = p->owner_next)
        if (p->tracked)
            reconciler_mark(x->strays, x->pod_objects, p->rec->ns, p->rec->name);
}

static void change(void *self, const struct change *c) {
    struct jobs *x = self;
    if (c->resource != x->objects)
        return;
    const struct record *rec = c->new_ ? c->new_ : c->old;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *job = yyjson_doc_get_root(doc);
    if (c->new_)
        reconciler_mark(x->queue, x->objects, rec->ns, rec->name);
    if (!c->new_ || object_deleting(job) || is_true(job, "Complete") || is_true(job, "Failed"))
        mark_strays(x, object_uid(job));
}

static void work(void *self) {
    struct jobs *x = self;
    reconciler_work(x->queue);
    reconciler_work(x->strays);
}

static void tick(void *self, int64_t now_ms) {
    struct jobs *x = self;
    reconciler_tick(x->queue, now_ms);
    reconciler_tick(x->strays, now_ms);
}

static void *new (struct apiserver *s) {
    struct jobs *x = NEW(struct jobs);
    x->s = s;
    x->view = s->view;
    x->objects = controller_resource(s, "batch", "jobs");
    x->pod_objects = controller_resource(s, "", "pods");
    x->kind = server_kind(s, "batch", "v1", "jobs");
    x->pods = server_kind(s, "", "v1", "pods");
    x->queue = reconciler_new(s, look, x);
    x->strays = reconciler_new(s, look_at_stray, x);
    view_listen(s->view, (struct view_listener){.pod = pod_changed, .node = node_changed, .self = x});
    reconciler_mark_all(x->queue, x->objects, NULL);
    for (struct pod_view *p = view_pods(s->view); p; p = p->hh.next)
        if (p->tracked && !pod_active(p))
            reconciler_mark(x->strays, x->pod_objects, p->rec->ns, p->rec->name);
    return x;
}

static void release(void *self) {
    struct jobs *x = self;
    reconciler_free(x->queue);
    reconciler_free(x->strays);
    free(x);
}

const struct controller_type job_controller = {
    .name = "job", .new = new, .change = change, .work = work, .tick = tick, .free = release};
