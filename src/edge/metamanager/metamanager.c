#define LOG_COMPONENT "metamanager"

#include "edge/metamanager/metamanager.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/metamanager/meta_internal.h"

#include <libgen.h>
#include <utlist.h>

/* One transaction takes what has come while the one before was committed, up to this. */
#define BATCH_JOBS 1024
#define BATCH_BYTES (8u << 20)
/* Above, the cloud is asked to wait; below half, to go on. */
#define WAITING_JOBS 4096
#define WAITING_BYTES (32u << 20)
#define RECALL_MS 60000  /* of connection, for the cloud to send what a damaged database had lost */
#define REFUSED_MS 30000 /* a disk that refused nothing for so long is in order; the cloud tries again much sooner */

struct batch {
    struct metamanager *mm;
    struct job *jobs;
    size_t bytes;
    bool wrote, rebuilt;
    struct error failed; /* why the file cannot be written to */
};

static void start_batch(struct metamanager *mm);

/* ---- on the store queue's thread ---- */

static int apply_all(struct batch *b, struct error *err) {
    struct meta_store *s = b->mm->store;
    struct job *j;
    LL_FOREACH (b->jobs, j)
        b->wrote = b->wrote || job_writes(j);
    if (b->wrote && meta_store_begin(s, err) < 0)
        return -1;
    LL_FOREACH (b->jobs, j) {
        if (job_apply(j, s, err) < 0) {
            if (b->wrote)
                meta_store_rollback(s);
            return -1;
        }
    }
    return b->wrote ? meta_store_commit(s, err) : 0;
}

static int apply_one(struct job *j, struct meta_store *s, struct error *err) {
    if (!job_writes(j))
        return job_apply(j, s, err);
    if (meta_store_begin(s, err) < 0)
        return -1;
    if (job_apply(j, s, err) == 0)
        return meta_store_commit(s, err);
    meta_store_rollback(s);
    return -1;
}

/* The fault is the file's (full, read-only, busy), so that every write would meet it. */
static bool is_of_file(const struct error *err) {
    return err->code == ERR_IO || err->code == ERR_UNAVAILABLE;
}

/* What one job meets is not the others' fault; and reads go well on a disk that is full. */
static void apply_each(struct batch *b) {
    struct meta_store *s = b->mm->store;
    struct job *j;
    LL_FOREACH (b->jobs, j) {
        struct error err = ERROR_INIT;
        if (b->failed.code != ERR_NONE && job_writes(j))
            j->failed = b->failed;
        else if (apply_one(j, s, &err) < 0)
            j->failed = err;
        if (job_writes(j) && is_of_file(&j->failed))
            b->failed = j->failed;
    }
}

static void batch_work(void *arg) {
    struct batch *b = arg;
    struct error err = ERROR_INIT;
    if (apply_all(b, &err) == 0)
        return;
    if (meta_store_is_damaged(b->mm->store)) {
        b->rebuilt = true;
        if (meta_store_rebuild(b->mm->store, &err) < 0)
            panic("the edge database was damaged, and no new one can be made: %s", error_text(&err));
        if (apply_all(b, &err) == 0)
            return;
    }
    apply_each(b);
}

/* ---- on the loop's thread ---- */

void meta_ack(struct metamanager *mm, const struct message *m) {
    struct message_fields f = {.operation = OP_RESPONSE, .content_string = "OK"};
    bus_send(mm->bus, MODULE_WEBSOCKET, message_response(m, m->source, m->group, &f));
}

/* The cloud only logs this; what matters is that it is no acknowledgement, so it sends the object again. */
static void refuse(struct metamanager *mm, const struct message *m, const struct error *why) {
    struct message_fields f = {.operation = OP_ERROR, .content_string = error_text(why)};
    bus_send(mm->bus, MODULE_WEBSOCKET, message_response(m, MODULE_METAMANAGER, m->group, &f));
}

/* By what it is, not by who sent it: a device that is sent again comes from another module of the cloud. */
static const char *component_for(const struct job *j) {
    if (bytes_eq_str(j->resource.type, "device") || bytes_eq_str(j->resource.type, "devicemodel"))
        return MODULE_TWIN;
    return bytes_eq_str(j->resource.type, "node") || strcmp(j->message->source, "policycontroller") == 0 ? NULL
                                                                                                         : MODULE_EDGED;
}

static void pass_on(struct metamanager *mm, struct job *j) {
    const char *to = component_for(j);
    if (!to)
        return;
    if (j->kind == JOB_PUT && j->put == META_STORED && strcmp(j->message->operation, OP_RESPONSE) != 0) {
        bus_send(mm->bus, to, TAKE(j->message));
    } else if (j->kind == JOB_DELETE && j->text) {
        const struct message *m = j->message;
        struct message_fields f = {.id = m->id,
                                   .source = m->source,
                                   .group = m->group,
                                   .operation = m->operation,
                                   .resource = m->resource,
                                   .resource_version = m->resource_version,
                                   .content_text = bytes_of(j->text, j->text_len)};
        bus_send(mm->bus, to, message_new(&f));
    }
}

static void downstream_done(struct metamanager *mm, struct job *j) {
    if (j->failed.code != ERR_NONE) {
        refuse(mm, j->message, &j->failed);
    } else {
        metric_add(mm->stored, 1);
        meta_ack(mm, j->message);
        pass_on(mm, j);
    }
    job_free(j);
}

/* A full disk may still have room for something small. */
static bool proves_room(const struct metamanager *mm, const struct batch *b) {
    return b->bytes >= mm->refused_bytes || clock_mono_ms() - mm->refused_ms > REFUSED_MS;
}

static void tell_of_disk(struct metamanager *mm, const struct batch *b) {
    const struct error *err = &b->failed;
    if (!b->wrote)
        return;
    if (err->code == ERR_NONE) {
        if (proves_room(mm, b))
            log_once_recovered(&mm->disk, LOG_COMPONENT, "the edge database takes writes again file=%s",
                               mm->config->database);
        return;
    }
    mm->refused_bytes = b->bytes;
    mm->refused_ms = clock_mono_ms();
    metric_add(mm->failed, 1);
    log_once_failed(&mm->disk, LOG_COMPONENT,
                    "nothing can be stored in the edge database, so nothing is acknowledged; pods go on running. Make "
                    "room, or make it writable file=%s: %s",
                    mm->config->database, error_text(err));
}

static void batch_done(void *arg) {
    struct batch *b = arg;
    struct metamanager *mm = b->mm;
    struct job *j, *next;
    mm->batch = NULL;
    mm->gaps = mm->gaps || b->rebuilt;
    tell_of_disk(mm, b);
    LL_FOREACH_SAFE (b->jobs, j, next) {
        if (j->kind == JOB_PUT || j->kind == JOB_DELETE)
            downstream_done(mm, j);
        else
            meta_request_done(mm, j);
    }
    free(b);
    start_batch(mm);
}

static void start_batch(struct metamanager *mm) {
    if (mm->batch || !mm->waiting)
        return;
    struct batch *b = NEW(struct batch);
    struct job *j, *last = NULL;
    size_t n = 0, bytes = 0;
    b->mm = mm;
    LL_FOREACH (mm->waiting, j) {
        if (n == BATCH_JOBS || (n > 0 && bytes + j->size > BATCH_BYTES))
            break;
        n++;
        bytes += j->size;
        last = j;
    }
    b->jobs = mm->waiting;
    b->bytes = bytes;
    mm->waiting = last->next;
    if (!mm->waiting)
        mm->waiting_end = &mm->waiting;
    last->next = NULL;
    mm->n_waiting -= n;
    mm->waiting_bytes -= bytes;
    mm->batch = b;
    if (mm->paused && mm->n_waiting < WAITING_JOBS / 2 && mm->waiting_bytes < WAITING_BYTES / 2) {
        mm->paused = false;
        bus_resume_downstream(mm->bus);
    }
    pool_queue_submit(mm->queue, mm->loop, batch_work, batch_done, b);
}

void meta_submit(struct metamanager *mm, struct job *j) {
    *mm->waiting_end = j;
    mm->waiting_end = &j->next;
    mm->n_waiting++;
    mm->waiting_bytes += j->size;
    if (!mm->paused && (mm->n_waiting > WAITING_JOBS || mm->waiting_bytes > WAITING_BYTES)) {
        mm->paused = true;
        bus_pause_downstream(mm->bus);
    }
    start_batch(mm);
}

bool meta_is_whole(struct metamanager *mm) {
    if (!mm->gaps)
        return true;
    if (!mm->connected_ms || clock_mono_ms() - mm->connected_ms < RECALL_MS)
        return false;
    mm->gaps = false;
    meta_submit(mm, job_new(JOB_WHOLE, NULL));
    return true;
}

static void on_connected(void *arg, bool connected) {
    struct metamanager *mm = arg;
    mm->connected_ms = connected ? clock_mono_ms() : 0;
}

static bool is_volume_operation(const char *operation) {
    return str_ends_with(operation, "volume");
}

/* An answer that came after its request had given up. If it is an object that the cloud counts on us to keep, it is
 * kept: on a slow link every answer may be late. One that was deleted meanwhile stays deleted. */
static void late_answer(struct metamanager *mm, struct message *m) {
    bool ok, object = yyjson_is_obj(m->content) && !content_is_wrapper(m->content, &ok) &&
                      !json_get(m->content, "ErrStatus") && *m->resource_version;
    if (object)
        meta_submit(mm, job_new(JOB_PUT, m));
    else
        message_free(m);
}

/* What the cloud sent. What is not understood is acknowledged all the same: it would block what comes after it. */
static void downstream(struct metamanager *mm, struct message *m) {
    struct resource r;
    if (is_volume_operation(m->operation)) {
        log_info("a volume request from the cloud is not served here operation=%s", m->operation);
        message_free(m);
        return;
    }
    bool known = resource_parse(bytes_str(m->resource), &r, NULL) == 0 && r.name.len > 0;
    if (known && strcmp(m->operation, OP_DELETE) == 0) {
        meta_submit(mm, job_new(JOB_DELETE, m));
        return;
    }
    if (known && yyjson_is_obj(m->content)) {
        if (strcmp(m->operation, OP_INSERT) == 0 || strcmp(m->operation, OP_UPDATE) == 0) {
            meta_submit(mm, job_new(JOB_PUT, m));
            return;
        }
        if (strcmp(m->operation, OP_RESPONSE) == 0) {
            late_answer(mm, m);
            return;
        }
    }
    log_debug("a message from the cloud is not understood resource=%s operation=%s source=%s", m->resource,
              m->operation, m->source);
    if (!*m->parent_id)
        meta_ack(mm, m);
    message_free(m);
}

static bool is_edge_component(const char *source) {
    static const char *const names[] = {MODULE_EDGED, MODULE_TWIN, "eventbus", "dmi"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(source, names[i]) == 0)
            return true;
    return false;
}

static void handle(void *arg, struct message *m) {
    struct metamanager *mm = arg;
    if (mm->stopped)
        message_free(m);
    else if (is_edge_component(m->source))
        meta_request(mm, m);
    else
        downstream(mm, m);
}

struct metamanager *metamanager_new(struct loop *l, struct pool *p, struct bus *b, const struct edge_config *c,
                                    struct error *err) {
    struct metamanager *mm = NEW(struct metamanager);
    mm->loop = l;
    mm->bus = b;
    mm->config = c;
    mm->waiting_end = &mm->waiting;
    _cleanup_(free_p) char *path = xstrdup(c->database);
    if (dir_make(dirname(path), 0700, err) < 0 || meta_store_open(&mm->store, c->database, err) < 0) {
        (void)error_wrap(err, "open the edge database %s", c->database);
        free(mm);
        return NULL;
    }
    mm->gaps = meta_store_has_gaps(mm->store);
    mm->queue = pool_queue_new(p);
    mm->stored =
        metric_get(METRIC_COUNTER, "selvage_metamanager_stored_total", "Objects from the cloud committed", NULL);
    mm->failed = metric_get(METRIC_COUNTER, "selvage_metamanager_failed_commits_total",
                            "Transactions of the edge database that failed", NULL);
    return mm;
}

int metamanager_start(struct metamanager *mm, struct error *err) {
    bus_register(mm->bus, MODULE_METAMANAGER, handle, mm);
    bus_on_connected(mm->bus, on_connected, mm);
    return 0;
}

void metamanager_stop(struct metamanager *mm) {
    mm->stopped = true;
}

bool metamanager_storing(const struct metamanager *mm) {
    return mm->disk.told == 0;
}

bool metamanager_idle(const struct metamanager *mm) {
    return !mm->batch && !mm->waiting;
}

void metamanager_free(struct metamanager *mm) {
    if (!mm)
        return;
    bus_unregister(mm->bus, MODULE_METAMANAGER);
    bus_off_connected(mm->bus, on_connected, mm);
    meta_requests_free(mm);
    struct job *j, *next;
    LL_FOREACH_SAFE (mm->waiting, j, next)
        job_free(j);
    if (mm->batch) {
        LL_FOREACH_SAFE (mm->batch->jobs, j, next)
            job_free(j);
        free(mm->batch);
    }
    pool_queue_free(mm->queue);
    meta_store_close(mm->store);
    free(mm);
}
