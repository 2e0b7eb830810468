#define LOG_COMPONENT "edged"
#include "edge/edged/status_sync.h"

#include "base/log.h"
#include "kube/object.h"
#include "kube/patch.h"
#include "wire/resource.h"

#include <uthash.h>

#define SEND_TIMEOUT_MS 30000
#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS 30000

struct entry {
    struct status_sync *sync;
    char *uid, *ns, *name;
    char *cloud_uid;        /* of the API server's object; NULL: a static pod without a mirror */
    yyjson_doc *known;      /* the API server's status */
    yyjson_mut_doc *wanted; /* ours; NULL: none yet */
    yyjson_doc *sent;       /* in flight */
    struct bus_request *request;
    struct timer *retry;
    struct backoff backoff;
    bool told;   /* what is wanted was sent, and not refused: what the API server made of it is not to be repeated */
    bool finish; /* delete when the status is there */
    bool ask;    /* send something even if nothing differs: the answer tells whether the pod is still wanted */
    UT_hash_handle hh;
};

struct status_sync {
    struct loop *loop;
    struct bus *bus;
    void (*rebuild)(void *arg, const char *uid);
    void *arg;
    struct entry *entries;
};

static void try_send(struct entry *e);

static void on_retry(void *arg) {
    try_send(arg);
}

static void on_connected(void *arg, bool connected) {
    struct status_sync *s = arg;
    if (!connected || !s->bus)
        return;
    struct entry *e, *tmp;
    HASH_ITER (hh, s->entries, e, tmp) {
        backoff_reset(&e->backoff);
        if (e->request) { /* asked over the old connection: its answer may never come, and asking twice is harmless */
            bus_request_cancel(e->request);
            e->request = NULL;
            e->told = false;
        }
        e->ask = true; /* it may have been deleted meanwhile, and the cloud have forgotten to say so */
        timer_set(e->retry, 0);
    }
}

struct status_sync *status_sync_new(struct loop *l, struct bus *b, void (*rebuild)(void *arg, const char *uid),
                                    void *arg) {
    struct status_sync *s = NEW(struct status_sync);
    s->loop = l;
    s->rebuild = rebuild;
    s->arg = arg;
    s->bus = b;
    bus_on_connected(b, on_connected, s);
    return s;
}

static struct entry *find(struct status_sync *s, const char *uid) {
    struct entry *e;
    HASH_FIND_STR(s->entries, uid, e);
    return e;
}

static struct entry *ensure(struct status_sync *s, const struct pod *p) {
    struct entry *e = find(s, p->uid);
    if (e)
        return e;
    e = NEW(struct entry);
    e->sync = s;
    e->uid = xstrdup(p->uid);
    e->ns = xstrdup(p->ns);
    e->name = xstrdup(p->name);
    e->cloud_uid = p->is_static ? NULL : xstrdup(p->uid);
    e->backoff = BACKOFF(RETRY_FIRST_MS, RETRY_MAX_MS);
    e->retry = timer_new(s->loop, on_retry, e);
    HASH_ADD_KEYPTR(hh, s->entries, e->uid, strlen(e->uid), e);
    return e;
}

static void entry_free(struct entry *e) {
    HASH_DEL(e->sync->entries, e);
    if (e->request)
        bus_request_cancel(e->request);
    timer_free(e->retry);
    yyjson_doc_free(e->known);
    yyjson_mut_doc_free(e->wanted);
    yyjson_doc_free(e->sent);
    free(e->uid);
    free(e->cloud_uid);
    free(e->ns);
    free(e->name);
    free(e);
}

void status_sync_forget(struct status_sync *s, const char *uid) {
    struct entry *e = find(s, uid);
    if (e)
        entry_free(e);
}

void status_sync_free(struct status_sync *s) {
    if (!s)
        return;
    struct entry *e, *tmp;
    HASH_ITER (hh, s->entries, e, tmp)
        entry_free(e);
    free(s);
}

static yyjson_doc *copy_val(yyjson_val *v) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(d, v ? yyjson_val_mut_copy(d, v) : yyjson_mut_obj(d));
    yyjson_doc *out = yyjson_mut_doc_imut_copy(d, NULL);
    yyjson_mut_doc_free(d);
    return out;
}

static void set_known(struct entry *e, yyjson_val *status) {
    e->told = false;
    yyjson_doc *doc = copy_val(status);
    yyjson_doc_free(e->known);
    e->known = doc;
}

void status_sync_known(struct status_sync *s, const struct pod *p) {
    struct entry *e = ensure(s, p);
    if (!p->is_static && !e->request) /* while a patch is under way its answer is newer */
        set_known(e, yyjson_obj_get(p->obj, "status"));
}

void status_sync_mirror(struct status_sync *s, const char *uid, const char *mirror_uid, yyjson_val *status) {
    struct entry *e = find(s, uid);
    if (!e)
        return;
    bool same = str_eq(e->cloud_uid, mirror_uid);
    if (!same) {
        free(e->cloud_uid);
        e->cloud_uid = xstrdup_null(mirror_uid);
    }
    if (!same || !e->request)
        set_known(e, status);
    timer_set(e->retry, 0);
    s->rebuild(s->arg, e->uid);
}

yyjson_val *status_sync_base(struct status_sync *s, const char *uid) {
    struct entry *e = find(s, uid);
    return e ? yyjson_doc_get_root(e->known) : NULL;
}

/* ---- sending ---- */

static void again_later(struct entry *e) {
    e->told = false;
    timer_set(e->retry, backoff_next_ms(&e->backoff));
}

static struct message *request_for(struct entry *e, const char *type, const char *operation, const char *string,
                                   struct bytes json) {
    _cleanup_(buf_free) struct buf resource = BUF_INIT(1024);
    resource_format(&resource, e->ns, type, e->name);
    return message_new(&(struct message_fields){.source = MODULE_EDGED,
                                                .group = GROUP_META,
                                                .operation = operation,
                                                .resource = resource.ptr,
                                                .content_string = string,
                                                .content_text = json});
}

/* {"metadata":{"uid":...},"status":...}: with the UID in both, it is never part of a difference; it is added after. */
static yyjson_doc *as_pod(yyjson_mut_doc *status_doc, yyjson_val *status) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    yyjson_mut_doc_set_root(d, root);
    json_set(d, root, "status",
             status_doc ? yyjson_mut_val_mut_copy(d, yyjson_mut_doc_get_root(status_doc))
             : status   ? yyjson_val_mut_copy(d, status)
                        : yyjson_mut_obj(d));
    yyjson_doc *out = yyjson_mut_doc_imut_copy(d, NULL);
    yyjson_mut_doc_free(d);
    return out;
}

/* The API server keeps conditions in another order than ours: that alone is no news. */
static bool only_reorders(yyjson_mut_val *patch) {
    size_t i, max;
    yyjson_mut_val *key, *val;
    yyjson_mut_obj_foreach (yyjson_mut_obj_get(patch, "status"), i, max, key, val) {
        if (!str_starts_with(yyjson_mut_get_str(key), "$setElementOrder/"))
            return false;
    }
    return true;
}

/* The patch text; NULL if nothing differs (or nothing can be said). Owned. */
static char *make_patch(struct entry *e) {
    const struct schema_type *t = schema_find("", "v1", "Pod");
    yyjson_doc *from = as_pod(NULL, yyjson_doc_get_root(e->known)), *to = as_pod(e->wanted, NULL);
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *patch = NULL;
    struct error err = ERROR_INIT;
    char *text = NULL;
    if (!t || patch_diff_strategic(d, t, yyjson_doc_get_root(from), yyjson_doc_get_root(to), &patch, &err) < 0) {
        log_error("status of pod %s/%s cannot be sent: %s", e->ns, e->name,
                  t ? error_text(&err) : "the Pod type is not in the schema");
    } else if (patch && !only_reorders(patch)) {
        yyjson_mut_val *meta = json_ensure_obj(d, patch, "metadata");
        json_set_str(d, meta, "uid", e->cloud_uid);
        text = json_write_mut(patch, NULL);
    }
    yyjson_doc_free(from);
    yyjson_doc_free(to);
    yyjson_mut_doc_free(d);
    return text;
}

static bool is_gone(yyjson_val *status) {
    const char *reason = json_str(status, "reason");
    return str_eq(reason, "NotFound") || json_int_or(yyjson_obj_get(status, "code"), 0) == 404;
}

static void on_patched(void *arg, struct message *answer, const struct error *err) {
    struct entry *e = arg;
    e->request = NULL;
    yyjson_doc *sent = TAKE(e->sent);
    yyjson_val *refused = answer ? message_content_error(answer) : NULL;
    e->ask &= !answer || (refused && !is_gone(refused));
    if (!answer || str_eq(answer->operation, OP_ERROR)) {
        log_debug("status of pod %s/%s not stored yet: %s", e->ns, e->name, error_text(err));
        again_later(e);
    } else if (refused && is_gone(refused)) {
        log_debug("pod %s/%s is gone from the cloud; its status is not needed", e->ns, e->name);
        yyjson_doc_free(e->known);
        e->known = TAKE(sent);
        timer_set(e->retry, e->finish ? 0 : RETRY_MAX_MS);
    } else if (refused) {
        log_warn("status of pod %s/%s refused: %s", e->ns, e->name, str_or(json_str(refused, "message"), ""));
        again_later(e);
    } else {
        yyjson_val *object = json_get(answer->content, "Object");
        backoff_reset(&e->backoff);
        if (str_eq(object_uid(object), e->cloud_uid) && yyjson_obj_get(object, "status")) {
            bool told = e->told;
            set_known(e, yyjson_obj_get(object, "status"));
            e->told = told;
        } else {
            yyjson_doc_free(e->known);
            e->known = TAKE(sent);
        }
        timer_set(e->retry, 0); /* anything newer meanwhile? */
        e->sync->rebuild(e->sync->arg, e->uid);
    }
    yyjson_doc_free(sent);
    message_free(answer);
}

static void on_deleted(void *arg, struct message *answer, const struct error *err) {
    struct entry *e = arg;
    e->request = NULL;
    yyjson_val *refused = answer ? message_content_error(answer) : NULL;
    if (refused)
        log_warn("deletion of pod %s/%s refused: %s", e->ns, e->name, str_or(json_str(refused, "message"), ""));
    message_free(answer);
    again_later(e); /* until the cloud's own delete makes us forget it */
}

static void send_delete(struct entry *e) {
    _cleanup_(free_p) char *json =
        xasprintf("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"gracePeriodSeconds\":0,\"preconditions\":"
                  "{\"uid\":\"%s\"}}",
                  e->uid);
    e->request = bus_request(e->sync->bus, MODULE_METAMANAGER, request_for(e, "pod", OP_DELETE, NULL, bytes_str(json)),
                             SEND_TIMEOUT_MS, on_deleted, e);
}

static void try_send(struct entry *e) {
    if (e->request || !e->cloud_uid)
        return;
    _cleanup_(free_p) char *patch = e->wanted && !e->told ? make_patch(e) : NULL;
    if (!patch && e->finish) { /* also where the API had a final status before we started, so that none is wanted */
        send_delete(e);
        return;
    }
    if (!patch && e->ask)
        patch = xasprintf("{\"metadata\":{\"uid\":\"%s\"}}", e->cloud_uid);
    if (!patch)
        return;
    e->told = true;
    yyjson_doc_free(e->sent);
    e->sent = e->wanted ? yyjson_mut_doc_imut_copy(e->wanted, NULL) : copy_val(yyjson_doc_get_root(e->known));
    e->request = bus_request(e->sync->bus, MODULE_METAMANAGER, request_for(e, "podpatch", OP_PATCH, patch, BYTES_EMPTY),
                             SEND_TIMEOUT_MS, on_patched, e);
}

void status_sync_set(struct status_sync *s, const struct pod *p, yyjson_mut_doc *status) {
    struct entry *e = ensure(s, p);
    bool same = e->wanted && json_mut_equal(yyjson_mut_doc_get_root(e->wanted), yyjson_mut_doc_get_root(status));
    yyjson_mut_doc_free(e->wanted);
    e->wanted = status;
    if (same)
        return;
    e->told = false;
    try_send(e);
}

void status_sync_finish(struct status_sync *s, const struct pod *p) {
    struct entry *e = ensure(s, p);
    if (e->finish)
        return;
    e->finish = true;
    try_send(e);
}
