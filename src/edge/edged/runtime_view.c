#include "edge/edged/runtime_view.h"

#include "base/mem.h"
#include "edge/edged/cri.h"

static void container_free(struct rt_container *c) {
    char *const strings[] = {c->id,    c->sandbox_id, c->name,      c->reason,  c->message,
                             c->image, c->image_id,   c->term_path, c->log_path};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
    free(c);
}

static void sandbox_free(struct rt_sandbox *s) {
    strlist_free(&s->ips);
    free(s->id);
    free(s);
}

void rt_pod_free(struct rt_pod *p) {
    while (p->containers) {
        struct rt_container *c = p->containers;
        p->containers = c->next;
        container_free(c);
    }
    while (p->sandboxes) {
        struct rt_sandbox *s = p->sandboxes;
        p->sandboxes = s->next;
        sandbox_free(s);
    }
}

struct rt_container *rt_container_find(const struct rt_pod *p, const char *id) {
    for (struct rt_container *c = p->containers; c; c = c->next)
        if (str_eq(c->id, id))
            return c;
    return NULL;
}

struct rt_container *rt_container_ensure(struct rt_pod *p, const char *id) {
    struct rt_container *c = rt_container_find(p, id);
    if (!c) {
        c = NEW(struct rt_container);
        c->id = xstrdup(id);
        c->next = p->containers;
        p->containers = c;
    }
    return c;
}

struct rt_sandbox *rt_sandbox_find(const struct rt_pod *p, const char *id) {
    for (struct rt_sandbox *s = p->sandboxes; s; s = s->next)
        if (str_eq(s->id, id))
            return s;
    return NULL;
}

struct rt_sandbox *rt_sandbox_ensure(struct rt_pod *p, const char *id) {
    struct rt_sandbox *s = rt_sandbox_find(p, id);
    if (!s) {
        s = NEW(struct rt_sandbox);
        s->id = xstrdup(id);
        s->next = p->sandboxes;
        p->sandboxes = s;
    }
    return s;
}

void rt_container_drop(struct rt_pod *p, const char *id) {
    for (struct rt_container **at = &p->containers; *at; at = &(*at)->next)
        if (str_eq((*at)->id, id)) {
            struct rt_container *c = *at;
            *at = c->next;
            container_free(c);
            return;
        }
}

void rt_sandbox_drop(struct rt_pod *p, const char *id) {
    for (struct rt_container **at = &p->containers; *at;) {
        struct rt_container *c = *at;
        if (str_eq(c->sandbox_id, id)) {
            *at = c->next;
            container_free(c);
        } else {
            at = &c->next;
        }
    }
    for (struct rt_sandbox **at = &p->sandboxes; *at; at = &(*at)->next)
        if (str_eq((*at)->id, id)) {
            struct rt_sandbox *s = *at;
            *at = s->next;
            sandbox_free(s);
            return;
        }
}

static bool newer(const struct rt_container *a, const struct rt_container *b) {
    return a->restarts != b->restarts ? a->restarts > b->restarts : a->created_ns > b->created_ns;
}

struct rt_container *rt_newest(const struct rt_pod *p, const char *name, const struct rt_container *before) {
    struct rt_container *best = NULL;
    for (struct rt_container *c = p->containers; c; c = c->next) {
        if (!str_eq(c->name, name) || c == before || (before && !newer(before, c)))
            continue;
        if (!best || newer(c, best))
            best = c;
    }
    return best;
}

struct rt_sandbox *rt_current_sandbox(const struct rt_pod *p) {
    struct rt_sandbox *best = NULL;
    for (struct rt_sandbox *s = p->sandboxes; s; s = s->next)
        if (!best || s->attempt > best->attempt || (s->attempt == best->attempt && s->created_ns > best->created_ns))
            best = s;
    return best;
}

static bool set_string(char **at, const char *value) {
    if (str_eq(*at, str_or(value, "")))
        return false;
    free(*at);
    *at = xstrdup(str_or(value, ""));
    return true;
}

static enum rt_state state_of(Cri__ContainerState s) {
    switch (s) {
    case CRI__CONTAINER_STATE__CONTAINER_CREATED:
        return RT_CREATED;
    case CRI__CONTAINER_STATE__CONTAINER_RUNNING:
        return RT_RUNNING;
    case CRI__CONTAINER_STATE__CONTAINER_EXITED:
        return RT_EXITED;
    default:
        return RT_UNKNOWN;
    }
}

static void read_annotations(struct rt_container *c, Cri__KeyValue *const *list, size_t n) {
    uint64_t hash = 0;
    const char *text = cri_pair_get(list, n, ANNOTATION_HASH);
    struct buf raw = BUF_INIT(8);
    if (text && strlen(text) == 16 && hex_decode(bytes_str(text), &raw) == 0)
        for (size_t i = 0; i < raw.len; i++)
            hash = hash << 8 | (unsigned char)raw.ptr[i];
    buf_free(&raw);
    c->hash = hash;
    if (parse_i64(bytes_str(cri_pair_get(list, n, ANNOTATION_RESTARTS)), 0, INT32_MAX, &c->restarts) < 0)
        c->restarts = 0;
    if (parse_i64(bytes_str(cri_pair_get(list, n, ANNOTATION_GRACE)), 0, INT32_MAX, &c->grace_s) < 0)
        c->grace_s = 30;
    set_string(&c->term_path, cri_pair_get(list, n, ANNOTATION_TERM_PATH));
    c->term_policy_logs = str_eq(cri_pair_get(list, n, ANNOTATION_TERM_POLICY), "FallbackToLogsOnError");
}

bool rt_container_listed(struct rt_pod *p, const Cri__Container *l) {
    bool known = rt_container_find(p, l->id) != NULL;
    struct rt_container *c = rt_container_ensure(p, l->id);
    enum rt_state state = state_of(l->state);
    c->seen = true;
    if (known && c->state == state && c->detailed)
        return false;
    c->state = state;
    c->detailed = false;
    c->created_ns = l->created_at;
    set_string(&c->sandbox_id, l->pod_sandbox_id);
    set_string(&c->name, cri_pair_get(l->labels, l->n_labels, LABEL_CONTAINER_NAME));
    read_annotations(c, l->annotations, l->n_annotations);
    return true;
}

bool rt_container_status(struct rt_pod *p, const char *sandbox_id, const Cri__ContainerStatus *s) {
    struct rt_container *c = rt_container_ensure(p, s->id);
    enum rt_state state = state_of(s->state);
    if (c->state == RT_EXITED && c->detailed && state != RT_EXITED)
        return false; /* an instance never runs twice: this answer was overtaken */
    bool changed = c->state != state || !c->detailed || c->started_ns != s->started_at || c->exit_code != s->exit_code;
    c->state = state;
    c->detailed = true;
    c->created_ns = s->created_at;
    c->started_ns = s->started_at;
    c->finished_ns = s->finished_at;
    c->exit_code = s->exit_code;
    if (sandbox_id)
        set_string(&c->sandbox_id, sandbox_id);
    set_string(&c->name, cri_pair_get(s->labels, s->n_labels, LABEL_CONTAINER_NAME));
    read_annotations(c, s->annotations, s->n_annotations);
    changed |= set_string(&c->reason, s->reason);
    changed |= set_string(&c->image, s->image ? s->image->image : NULL);
    changed |= set_string(&c->image_id, s->image_ref);
    set_string(&c->log_path, s->log_path);
    if (str_empty(c->message))
        changed |= set_string(&c->message, s->message);
    return changed;
}

bool rt_sandbox_listed(struct rt_pod *p, const Cri__PodSandbox *l) {
    bool known = rt_sandbox_find(p, l->id) != NULL;
    struct rt_sandbox *s = rt_sandbox_ensure(p, l->id);
    bool ready = l->state == CRI__POD_SANDBOX_STATE__SANDBOX_READY;
    s->seen = true;
    s->attempt = l->metadata ? l->metadata->attempt : 0;
    s->created_ns = l->created_at;
    if (known && s->ready == ready && s->detailed)
        return false;
    s->ready = ready;
    s->detailed = false;
    return true;
}

bool rt_sandbox_status(struct rt_pod *p, const Cri__PodSandboxStatus *st) {
    struct rt_sandbox *s = rt_sandbox_ensure(p, st->id);
    bool ready = st->state == CRI__POD_SANDBOX_STATE__SANDBOX_READY;
    bool changed = s->ready != ready || !s->detailed;
    s->ready = ready;
    s->detailed = true;
    s->attempt = st->metadata ? st->metadata->attempt : 0;
    s->created_ns = st->created_at;
    strlist_free(&s->ips);
    if (st->network && !str_empty(st->network->ip)) {
        strlist_add(&s->ips, st->network->ip);
        for (size_t i = 0; i < st->network->n_additional_ips; i++)
            if (!str_empty(st->network->additional_ips[i]->ip))
                strlist_add(&s->ips, st->network->additional_ips[i]->ip);
    }
    return changed;
}
