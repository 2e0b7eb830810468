/* /containerLogs (streams.md 2.2). Files are read on the pool, one piece at a time, as fast as the caller takes them.
 * A followed file is looked at now and then rather than watched: watches are few, and shared by everybody on the
 * machine. */
#include "base/clock.h"
#include "edge/edged/log_reader.h"
#include "edge/edged/server.h"

#define POLL_MIN_MS 20
#define POLL_MAX_MS 250

struct log_call {
    struct kubelet_call base;
    struct answer answer;
    struct pods *pods;
    char *uid, *container_id;
    struct log_reader *reader;
    bool follow;
    struct timer *poll;
    int poll_ms;
    bool busy, cancelled, full, started;
    bool stopped; /* the container had ended before the last read */
    struct buf piece;
    enum log_state state;
    int failed;
    struct error err;
};

static void read_on(struct log_call *c);

static void call_free(struct log_call *c) {
    log_reader_free(c->reader);
    timer_free(c->poll);
    buf_free(&c->piece);
    free(c->uid);
    free(c->container_id);
    free(c);
}

static void finish(struct log_call *c) {
    const struct answer a = c->answer;
    call_free(c);
    a.caller->ended(a.arg);
}

static bool container_runs(const struct log_call *c) {
    const struct pod_worker *w = pods_worker(c->pods, c->uid);
    const struct rt_container *r = w ? rt_container_find(&w->rt, c->container_id) : NULL;
    return r && r->state == RT_RUNNING;
}

static void on_poll(void *arg) {
    struct log_call *c = arg;
    c->stopped = !container_runs(c);
    read_on(c);
}

static void wait_for_more(struct log_call *c) {
    c->poll_ms = c->poll_ms * 2 < POLL_MAX_MS ? c->poll_ms * 2 : POLL_MAX_MS;
    timer_set(c->poll, c->poll_ms);
}

static void work(void *arg) {
    struct log_call *c = arg;
    c->failed = log_reader_next(c->reader, &c->piece, &c->state, &c->err);
}

static void fail(struct log_call *c) {
    if (!c->started)
        answer_error(&c->answer, c->err.code == ERR_NOT_FOUND ? 404 : 500, "%s\n", error_text(&c->err));
    finish(c);
}

static void done(void *arg) {
    struct log_call *c = arg;
    c->busy = false;
    if (c->cancelled) {
        call_free(c);
        return;
    }
    if (c->failed < 0) {
        fail(c);
        return;
    }
    if (!c->started)
        answer_start(&c->answer, "text/plain");
    c->started = true;
    if (c->piece.len > 0) {
        c->full = answer_piece(&c->answer, buf_bytes(&c->piece)) != 0;
        c->poll_ms = POLL_MIN_MS / 2;
    }
    if (c->state == LOG_OVER || (c->state == LOG_END && (!c->follow || c->stopped))) {
        answer_end(&c->answer);
        finish(c);
    } else if (c->state == LOG_END) {
        buf_free(&c->piece); /* nobody knows for how long there is nothing more */
        wait_for_more(c);
    } else if (!c->full) {
        read_on(c);
    }
}

static void read_on(struct log_call *c) {
    if (c->busy || c->full)
        return;
    c->busy = true;
    timer_stop(c->poll);
    buf_clear(&c->piece);
    pool_submit(c->pods->pool, c->pods->loop, work, done, c);
}

static void on_input(struct kubelet_call *base, struct bytes piece) {
}

static void on_room(struct kubelet_call *base) {
    struct log_call *c = CONTAINER_OF(base, struct log_call, base);
    bool was_full = c->full;
    c->full = false;
    if (was_full && !timer_pending(c->poll))
        read_on(c);
}

static void on_cancel(struct kubelet_call *base) {
    struct log_call *c = CONTAINER_OF(base, struct log_call, base);
    c->cancelled = true;
    if (!c->busy)
        call_free(c);
}

static const struct kubelet_call_ops OPS = {.input = on_input, .room = on_room, .cancel = on_cancel};

/* ---- which instance of the container ---- */

/* The instance whose log is meant, or NULL with why. */
static const struct rt_container *choose(const struct worker_container *c, bool previous, struct error *err) {
    const struct rt_container *now = worker_current(c);
    const struct rt_container *before = now ? rt_newest(&c->worker->rt, c->name, now) : NULL;
    const char *pod = c->worker->name;
    bool waits = !now || now->state == RT_CREATED || (now->state != RT_RUNNING && c->waiting_reason);
    const struct rt_container *ended = now && now->state == RT_EXITED ? now : before;
    if (previous) {
        const struct rt_container *last = waits ? ended : before;
        if (!last)
            error_set(err, ERR_INVALID, "previous terminated container \"%s\" in pod \"%s\" not found", c->name, pod);
        return last;
    }
    if (now && now->state != RT_CREATED)
        return now;
    if (!before)
        error_set(err, ERR_INVALID, "container \"%s\" in pod \"%s\" is waiting to start: %s", c->name, pod,
                  c->waiting_reason ? c->waiting_reason : "ContainerCreating");
    return before;
}

struct kubelet_call *logs_open(struct pods *ps, const struct tunnel_request *r, const struct target *t,
                               const struct answer *a) {
    struct log_options o;
    struct error err = ERROR_INIT;
    const struct worker_container *wc = target_container(ps, t, a);
    if (!wc)
        return NULL;
    if (log_options_read(bytes_str(r->query), clock_wall_ms() * 1000000, &o, &err) < 0) {
        answer_error(a, err.code == ERR_UNSUPPORTED ? 422 : 400, "%s\n", error_text(&err));
        return NULL;
    }
    const struct rt_container *rc = choose(wc, o.previous, &err);
    if (!rc || str_empty(rc->log_path)) {
        answer_error(a, 400, "%s", rc ? "the container runtime has not told yet where the log is" : error_text(&err));
        return NULL;
    }
    struct log_call *c = NEW(struct log_call);
    *c = (struct log_call){.base = {&OPS}, .answer = *a, .pods = ps, .poll_ms = POLL_MIN_MS / 2, .err = ERROR_INIT};
    c->uid = xstrdup(wc->worker->uid);
    c->container_id = xstrdup(rc->id);
    c->follow = o.follow;
    c->reader = log_reader_new(rc->log_path, &o);
    c->poll = timer_new(ps->loop, on_poll, c);
    buf_init(&c->piece, LOG_PIECE);
    c->stopped = !container_runs(c);
    read_on(c);
    return &c->base;
}
