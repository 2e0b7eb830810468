#include "cloud/sync_call.h"

struct waiting {
    struct loop *loop;
    struct sync_answer *out;
    struct error error;
    bool done;
};

static void on_done(void *arg, struct kube_result *r) {
    struct waiting *w = arg;
    w->out->status = r->status;
    w->out->body = r->body;
    w->out->doc = TAKE(r->doc);
    w->error = r->error;
    w->done = true;
    loop_stop(w->loop);
}

int sync_call(struct loop *l, struct kube_client *k, const struct kube_request *r, struct sync_answer *out,
              struct error *err) {
    struct waiting w = {.loop = l, .out = out, .error = ERROR_INIT};
    struct kube_request copy = *r;
    *out = (struct sync_answer){0};
    copy.try_once = true; /* the caller says that it waits, and tries again */
    copy.done = on_done;
    copy.arg = &w;
    struct kube_call *call = kube_call(k, &copy);
    loop_run(l);
    if (!w.done) {
        kube_call_cancel(call);
        return error_set(err, ERR_CANCELLED, "stopped while waiting for the API server");
    }
    if (w.error.code == ERR_NONE)
        return 0;
    return error_set(err, w.error.code, "%s", error_text(&w.error));
}

void sync_answer_free(struct sync_answer *a) {
    yyjson_doc_free(a->doc);
    *a = (struct sync_answer){0};
}

static void on_time(void *arg) {
    struct waiting *w = arg;
    w->done = true;
    loop_stop(w->loop);
}

int sync_wait(struct loop *l, int64_t ms, struct error *err) {
    struct waiting w = {.loop = l};
    struct timer *t = timer_new(l, on_time, &w);
    timer_set(t, ms);
    loop_run(l);
    timer_free(t);
    return w.done ? 0 : error_set(err, ERR_CANCELLED, "stopped while waiting for the API server");
}
