#define LOG_COMPONENT "edged"
#include "edge/edged/static_pods.h"

#include "base/file.h"
#include "base/log.h"
#include "edge/edged/pod_worker.h"
#include "edge/edged/static_files.h"
#include "kube/object.h"
#include "wire/resource.h"

#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

#define MIRROR_ANNOTATION "kubernetes.io/config.mirror"
#define SETTLE_MS 50 /* whoever writes a file writes it in several steps */
#define LINGER_MS 1000
#define ASK_TIMEOUT_MS 30000
#define EVENTS_BYTES 4096

/* One pod that a file describes, or described until its mirror is gone. */
struct static_pod {
    struct static_pods *set;
    char *file, *uid, *ns, *name;
    struct pod *waiting; /* not started: its predecessor of the same name has not ended yet */
    char *mirror;        /* the mirror pod, as JSON text */
    bool listed, dropped;
    char *mirror_uid; /* NULL: the cloud has none, as far as we know */
    struct bus_request *request;
    UT_hash_handle hh; /* by uid */
};

struct static_pods {
    struct pods *pods;
    const char *(*node_uid)(void *arg);
    void *node_arg;
    void (*first)(void *arg);
    void *first_arg;
    struct static_pod *items;
    struct static_files read; /* by the pool, or just now */
    bool reading, again;
    struct timer *look;
    int inotify;
    struct fdwatch *watch;
    struct strlist complaints; /* told */
    struct log_once folder;
};

static void mirrors(struct static_pods *s);

/* ---- asking the cloud ---- */

static void ask(struct static_pod *p, const char *operation, struct bytes json,
                void (*done)(void *arg, struct message *answer, const struct error *err)) {
    _cleanup_(buf_free) struct buf resource = BUF_INIT(1024);
    resource_format(&resource, p->ns, "pod", p->name);
    struct message *m = message_new(&(struct message_fields){.source = MODULE_EDGED,
                                                             .group = GROUP_META,
                                                             .operation = operation,
                                                             .resource = resource.ptr,
                                                             .content_text = json});
    p->request = bus_request(p->set->pods->bus, MODULE_METAMANAGER, m, ASK_TIMEOUT_MS, done, p);
}

static void set_mirror(struct static_pod *p, yyjson_val *mirror) {
    free(p->mirror_uid);
    p->mirror_uid = xstrdup_null(mirror ? object_uid(mirror) : NULL);
    if (!p->dropped)
        status_sync_mirror(p->set->pods->status, p->uid, p->mirror_uid, yyjson_obj_get(mirror, "status"));
}

static void on_created(void *arg, struct message *answer, const struct error *err) {
    struct static_pod *p = arg;
    p->request = NULL;
    yyjson_val *object = answer ? json_get(answer->content, "Object") : NULL;
    if (object && str_eq(object_annotation(object, MIRROR_ANNOTATION), p->uid))
        set_mirror(p, object);
    else if (answer)
        log_debug("mirror of static pod %s/%s not made: %s", p->ns, p->name,
                  str_or(json_str(message_content_error(answer), "message"), "the cloud has one of another pod"));
    message_free(answer);
}

static void on_removed(void *arg, struct message *answer, const struct error *err) {
    struct static_pod *p = arg;
    p->request = NULL;
    if (answer && !message_content_error(answer) && !str_eq(answer->operation, OP_ERROR))
        set_mirror(p, NULL);
    message_free(answer);
}

static void create_mirror(struct static_pod *p) {
    const char *node_uid = p->set->node_uid(p->set->node_arg);
    if (str_empty(node_uid))
        return;
    yyjson_doc *doc = json_parse(bytes_str(p->mirror), MESSAGE_MAX, NULL);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(doc, NULL);
    yyjson_doc_free(doc);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(d), *meta = json_ensure_obj(d, root, "metadata");
    json_remove(meta, "uid");
    json_set_str(d, json_ensure_obj(d, meta, "annotations"), MIRROR_ANNOTATION, p->uid);
    yyjson_mut_val *owner = yyjson_mut_arr_add_obj(d, json_ensure_arr(d, meta, "ownerReferences"));
    json_set_str(d, owner, "apiVersion", "v1");
    json_set_str(d, owner, "kind", "Node");
    json_set_str(d, owner, "name", p->set->pods->config->node_name);
    json_set_str(d, owner, "uid", node_uid);
    json_set_bool(d, owner, "controller", true);
    size_t len;
    _cleanup_(free_p) char *text = json_write_mut(root, &len);
    ask(p, OP_INSERT, bytes_of(text, len), on_created);
}

static void remove_mirror(struct static_pod *p, const char *mirror_uid) {
    _cleanup_(free_p) char *options =
        xasprintf("{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\",\"gracePeriodSeconds\":0,"
                  "\"preconditions\":{\"uid\":\"%s\"}}",
                  mirror_uid);
    ask(p, OP_DELETE, bytes_str(options), on_removed);
}

/* ---- the set ---- */

static void pod_drop(struct static_pod *p) {
    HASH_DEL(p->set->items, p);
    bus_request_cancel(p->request);
    pod_free(p->waiting);
    char *const strings[] = {p->file, p->uid, p->ns, p->name, p->mirror, p->mirror_uid};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
    free(p);
}

static bool name_is_taken(const struct static_pods *s, const struct static_pod *p) {
    struct pod_worker *w, *tmp;
    HASH_ITER (hh, s->pods->workers, w, tmp)
        if (w->pod && w->pod->is_static && str_eq(w->name, p->name) && str_eq(w->ns, p->ns))
            return true;
    return false;
}

/* Mirrors that lack are made, those of dropped pods go, once these have ended; pods start whose names are free. */
static void mirrors(struct static_pods *s) {
    struct static_pod *p, *tmp;
    bool lingers = false, online = bus_connected(s->pods->bus);
    HASH_ITER (hh, s->items, p, tmp) {
        if (p->waiting && !name_is_taken(s, p)) {
            pods_update(s->pods, TAKE(p->waiting));
            status_sync_mirror(s->pods->status, p->uid, p->mirror_uid, NULL);
        }
        lingers |=
            p->waiting || (p->dropped && pods_worker(s->pods, p->uid)) || (!p->mirror_uid && !p->dropped && online);
        if (p->request)
            continue;
        if (p->dropped && !pods_worker(s->pods, p->uid)) {
            if (!p->mirror_uid)
                pod_drop(p);
            else if (online)
                remove_mirror(p, p->mirror_uid);
        } else if (!p->dropped && !p->waiting && !p->mirror_uid && online) {
            create_mirror(p);
        }
    }
    timer_set(s->look, lingers ? LINGER_MS : s->pods->config->file_check_frequency_ms);
}

static void take_pod(struct static_pods *s, const struct static_file *f) {
    struct static_pod *p;
    HASH_FIND_STR(s->items, f->pod->uid, p);
    if (p && !p->dropped) {
        p->listed = true;
        return;
    }
    if (p)
        return; /* taken away and put back: when the old one has ended it starts again */
    p = NEW(struct static_pod);
    *p = (struct static_pod){.set = s,
                             .file = xstrdup(f->name),
                             .uid = xstrdup(f->pod->uid),
                             .ns = xstrdup(f->pod->ns),
                             .name = xstrdup(f->pod->name),
                             .mirror = json_write(f->pod->obj, NULL),
                             .listed = true};
    HASH_ADD_KEYPTR(hh, s->items, p->uid, strlen(p->uid), p);
    p->waiting = pod_new(f->pod->obj, NULL);
    if (p->waiting)
        p->waiting->is_static = true;
}

/* A file that cannot be read just now: what it described runs on. */
static void keep_pod(struct static_pods *s, const struct static_file *f) {
    struct static_pod *p, *tmp;
    HASH_ITER (hh, s->items, p, tmp)
        if (str_eq(p->file, f->name) && !p->dropped)
            p->listed = true;
    if (!strlist_has(&s->complaints, f->complaint))
        log_warn("static pod not taken: %s", f->complaint);
}

static void remember_complaints(struct static_pods *s) {
    strlist_free(&s->complaints);
    for (size_t i = 0; i < s->read.count; i++)
        if (s->read.items[i].complaint)
            strlist_add(&s->complaints, s->read.items[i].complaint);
}

static void was_read(void *arg) {
    struct static_pods *s = arg;
    struct static_pod *p, *tmp;
    s->reading = false;
    if (s->read.err.code != ERR_NONE) {
        log_once_failed(&s->folder, LOG_COMPONENT, "static pods stay as they are: %s", s->read.err.msg);
    } else {
        log_once_recovered(&s->folder, LOG_COMPONENT, "staticPodPath can be read again");
        HASH_ITER (hh, s->items, p, tmp)
            p->listed = false;
        for (size_t i = 0; i < s->read.count; i++) {
            if (s->read.items[i].pod)
                take_pod(s, &s->read.items[i]);
            else
                keep_pod(s, &s->read.items[i]);
        }
        remember_complaints(s);
        HASH_ITER (hh, s->items, p, tmp) {
            if (p->listed || p->dropped)
                continue;
            p->dropped = true;
            pods_remove(s->pods, p->uid);
        }
    }
    static_files_free(&s->read);
    mirrors(s);
    if (s->again)
        timer_set(s->look, SETTLE_MS);
    s->again = false;
    if (s->first)
        TAKE(s->first)(s->first_arg);
}

static void read_folder(void *arg) {
    struct static_pods *s = arg;
    static_files_read(s->pods->config->static_pod_path, s->pods->config->node_name, &s->read);
}

static void look(void *arg) {
    struct static_pods *s = arg;
    if (s->reading) {
        s->again = true;
        return;
    }
    s->reading = true;
    pool_submit(s->pods->pool, s->pods->loop, read_folder, was_read, s);
}

static void on_inotify(void *arg, unsigned what) {
    struct static_pods *s = arg;
    char events[EVENTS_BYTES];
    while (read(s->inotify, events, sizeof(events)) > 0)
        ;
    s->again |= s->reading;
    timer_set(s->look, SETTLE_MS);
}

static void on_connected(void *arg, bool connected) {
    struct static_pods *s = arg;
    if (connected && !s->reading)
        timer_set(s->look, SETTLE_MS);
}

void static_pods_mirror(struct static_pods *s, yyjson_val *mirror, bool gone) {
    const char *uid = object_annotation(mirror, MIRROR_ANNOTATION);
    struct static_pod *p = NULL;
    if (uid)
        HASH_FIND_STR(s->items, uid, p);
    if (!p) { /* of a file that is there no more */
        if (gone || str_empty(uid) || !bus_connected(s->pods->bus) ||
            !dns_label_valid(bytes_str(object_namespace(mirror))))
            return;
        p = NEW(struct static_pod);
        *p = (struct static_pod){.set = s,
                                 .file = xstrdup(""),
                                 .uid = xstrdup(uid),
                                 .ns = xstrdup(object_namespace(mirror)),
                                 .name = xstrdup(object_name(mirror)),
                                 .dropped = true};
        HASH_ADD_KEYPTR(hh, s->items, p->uid, strlen(p->uid), p);
    }
    if (gone && str_eq(p->mirror_uid, object_uid(mirror)))
        set_mirror(p, NULL);
    else if (!gone)
        set_mirror(p, mirror);
    if (!gone && object_deleting(mirror) && !p->request) /* somebody deleted the picture; the pod stays */
        remove_mirror(p, object_uid(mirror));
    if (!s->reading)
        timer_set(s->look, SETTLE_MS);
}

/* ---- life ---- */

struct static_pods *static_pods_new(struct pods *ps, const char *(*node_uid)(void *arg), void *arg) {
    struct static_pods *s = NEW(struct static_pods);
    *s = (struct static_pods){.pods = ps, .node_uid = node_uid, .node_arg = arg, .inotify = -1};
    s->look = timer_new(ps->loop, look, s);
    return s;
}

void static_pods_start(struct static_pods *s, void (*first)(void *arg), void *arg) {
    const char *folder = s->pods->config->static_pod_path;
    s->first = first;
    s->first_arg = arg;
    if (!str_empty(folder))
        (void)!dir_make(folder, 0755, NULL); /* so that it can be watched */
    s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (s->inotify >= 0 && !str_empty(folder) &&
        inotify_add_watch(s->inotify, folder, IN_CLOSE_WRITE | IN_MOVE | IN_DELETE | IN_ONLYDIR) >= 0)
        s->watch = fdwatch_new(s->pods->loop, s->inotify, FD_READ, on_inotify, s);
    bus_on_connected(s->pods->bus, on_connected, s);
    look(s);
}

void static_pods_free(struct static_pods *s) {
    if (!s)
        return;
    struct static_pod *p, *tmp;
    HASH_ITER (hh, s->items, p, tmp)
        pod_drop(p);
    bus_off_connected(s->pods->bus, on_connected, s);
    static_files_free(&s->read);
    strlist_free(&s->complaints);
    fdwatch_free(s->watch);
    if (s->inotify >= 0)
        close(s->inotify);
    timer_free(s->look);
    free(s);
}
