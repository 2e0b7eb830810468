/* From a worker to its status. */
#include "base/clock.h"
#include "edge/edged/pod_worker.h"

/* Nothing runs, and nothing will. */
static bool has_ended(const struct pod_worker *w) {
    if (w->stage == STAGE_RUN)
        return false;
    for (size_t i = 0; i < w->n_containers; i++)
        if (worker_container_running(&w->containers[i]) || w->containers[i].busy)
            return false;
    return w->stage != STAGE_STOP || !w->deleting;
}

void worker_publish(struct pod_worker *w) {
    struct pods *ps = w->pods;
    if (!w->pod || w->removed)
        return;
    bool finish = w->deleting && w->cleaned;
    yyjson_val *base = status_sync_base(ps->status, w->uid);
    bool known_final = phase_is_final(json_str(base, "phase"));
    struct strlist none = {0};
    const struct rt_sandbox *s = rt_current_sandbox(&w->rt);
    struct container_view *views = xcalloc(w->n_containers, sizeof(*views));
    size_t n_views = w->n_containers;
    while (n_views > 0 && w->containers[n_views - 1].role == ROLE_EPHEMERAL) /* they are the last */
        n_views--;
    for (size_t i = 0; i < w->n_containers; i++) {
        struct worker_container *c = &w->containers[i];
        const struct rt_container *r = rt_newest(&w->rt, c->name, NULL);
        views[i] = (struct container_view){.spec = c->spec,
                                           .role = c->role,
                                           .current = r,
                                           .last = r ? rt_newest(&w->rt, c->name, r) : NULL,
                                           .started = c->started && !c->hook_failed,
                                           .ready = c->ready && c->started && !c->busy};
        if (w->stage == STAGE_RUN) {
            views[i].waiting_reason = c->waiting_reason;
            views[i].waiting_message = c->waiting_message;
        }
    }
    struct status_input in = {.pod = w->pod,
                              .old_status = base,
                              .runtime_name = ps->runtime_name,
                              .node = &ps->node,
                              .pod_ips = s && s->ready ? worker_ips(w) : &none,
                              .sandbox_ready = s && s->ready && w->stage == STAGE_RUN,
                              .views = views,
                              .n_views = n_views,
                              .ephemeral = views + n_views,
                              .n_ephemeral = w->n_containers - n_views,
                              .ended = has_ended(w),
                              .failed_reason = w->failed_reason,
                              .failed_message = w->failed_message,
                              .start_s = w->start_s,
                              .now_s = clock_wall_s()};
    /* A final phase is final: what the API has stays, whatever of the containers is left. */
    if (!known_final)
        status_sync_set(ps->status, w->pod, pod_status_build(&in));
    free(views);
    if (finish)
        status_sync_finish(ps->status, w->pod);
}
