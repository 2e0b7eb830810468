#include "edge/edged/pressure.h"

#include "kube/quantity.h"

static const struct {
    const char *name, *resource;
    enum pressure_kind kind;
} signals[N_SIGNALS] = {
    [SIGNAL_MEMORY] = {"memory.available", "memory", PRESSURE_MEMORY},
    [SIGNAL_NODEFS] = {"nodefs.available", "ephemeral-storage", PRESSURE_DISK},
    [SIGNAL_NODEFS_INODES] = {"nodefs.inodesFree", "inodes", PRESSURE_DISK},
    [SIGNAL_IMAGEFS] = {"imagefs.available", "ephemeral-storage", PRESSURE_DISK},
    [SIGNAL_IMAGEFS_INODES] = {"imagefs.inodesFree", "inodes", PRESSURE_DISK},
    [SIGNAL_PIDS] = {"pid.available", "pids", PRESSURE_PIDS},
};

/* Signals that a kubelet knows, and that say nothing of their own here: the runtime's writable layers are measured with
 * its images, and pods as a whole have no limit to be near to. */
static const char *const without_effect[] = {"allocatableMemory.available", "containerfs.available",
                                             "containerfs.inodesFree"};

enum pressure_kind pressure_kind_of(enum pressure_signal s) {
    return signals[s].kind;
}

const char *pressure_resource(enum pressure_signal s) {
    return signals[s].resource;
}

const char *pressure_condition(enum pressure_kind k) {
    static const char *const names[N_PRESSURES] = {"MemoryPressure", "DiskPressure", "PIDPressure"};
    return names[k];
}

/* ---- configuration ---- */

/* "100Mi" or "10%". */
static int parse_amount(const char *text, int64_t *amount, int64_t *percent, struct error *err) {
    struct bytes b = bytes_str(text);
    struct quantity q;
    *percent = -1;
    *amount = 0;
    if (bytes_ends_with(b, "%")) {
        if (parse_i64(bytes_of(b.ptr, b.len - 1), 0, 100, percent) < 0)
            return error_set(err, ERR_INVALID, "%s is no percentage of 0 to 100 without a fraction", text);
        return 0;
    }
    if (quantity_parse(b, &q, err) < 0)
        return -1;
    *amount = quantity_value(q);
    return *amount < 0 ? error_set(err, ERR_INVALID, "%s is negative", text) : 0;
}

static int find_signal(const char *name, size_t len) {
    for (int s = 0; s < N_SIGNALS; s++)
        if (bytes_eq_str(bytes_of(name, len), signals[s].name))
            return s;
    return -1;
}

static bool is_without_effect(struct bytes name) {
    for (size_t i = 0; i < ARRAY_LEN(without_effect); i++)
        if (bytes_eq_str(name, without_effect[i]))
            return true;
    return false;
}

static int add_threshold(struct pressure *p, const struct edged_config *c, enum pressure_signal s, bool hard,
                         const char *value, struct error *err) {
    struct pressure_threshold t = {.signal = s, .hard = hard};
    int64_t percent, ns;
    if (parse_amount(value, &t.amount, &t.percent, err) < 0)
        return -1;
    const char *reclaim = config_map_get(&c->eviction_min_reclaim, signals[s].name);
    if (reclaim && (parse_amount(reclaim, &t.reclaim, &percent, err) < 0 || percent >= 0))
        return error_set(err, ERR_INVALID, "evictionMinimumReclaim[%s] must be a quantity", signals[s].name);
    const char *grace = config_map_get(&c->eviction_soft_grace, signals[s].name);
    if (!hard) {
        if (!grace || parse_duration(bytes_str(grace), &ns) < 0 || ns < 0)
            return error_set(err, ERR_INVALID,
                             "evictionSoftGracePeriod[%s] must give the time for which the soft threshold may be "
                             "passed, for example 1m30s",
                             signals[s].name);
        t.grace_ms = ns / 1000000;
    }
    p->thresholds[p->n_thresholds++] = t;
    return 0;
}

static int add_map(struct pressure *p, const struct edged_config *c, const struct strlist *map, bool hard,
                   struct error *err) {
    const char *key = hard ? "evictionHard" : "evictionSoft";
    bool seen[N_SIGNALS] = {false};
    for (size_t i = 0; i < map->count; i++) {
        struct bytes name, value;
        if (!bytes_cut(bytes_str(map->items[i]), '=', &name, &value) || is_without_effect(name))
            continue;
        int s = find_signal(name.ptr, name.len);
        if (s < 0 || seen[s])
            return error_set(err, ERR_INVALID, "modules.edged.tailoredKubeletConfig.%s: %s signal %.*s", key,
                             s < 0 ? "unknown" : "repeated", (int)name.len, name.ptr);
        seen[s] = true;
        if (add_threshold(p, c, (enum pressure_signal)s, hard, value.ptr, err) < 0) {
            (void)error_wrap(err, "modules.edged.tailoredKubeletConfig.%s[%s]", key, signals[s].name);
            return -1;
        }
    }
    return 0;
}

int pressure_init(struct pressure *p, const struct edged_config *c, struct error *err) {
    *p = (struct pressure){.transition_ms = c->eviction_transition_ms};
    return add_map(p, c, &c->eviction_hard, true, err) < 0 ? -1 : add_map(p, c, &c->eviction_soft, false, err);
}

/* ---- readings ---- */

int64_t pressure_threshold_value(const struct pressure_threshold *t, int64_t capacity) {
    return t->percent >= 0 ? capacity / 100 * t->percent : t->amount;
}

static bool is_met(const struct pressure_threshold *t, const struct signal_reading *r) {
    if (r->capacity <= 0)
        return false;
    int64_t need = pressure_threshold_value(t, r->capacity);
    return r->available < (t->since_ms && t->reclaim <= INT64_MAX - need ? need + t->reclaim : need);
}

/* a is more urgent than b, which may be NULL. */
static bool more_urgent(const struct pressure_threshold *a, const struct pressure_threshold *b) {
    if (!b || a->hard != b->hard)
        return !b || a->hard;
    return a->signal < b->signal;
}

const struct pressure_threshold *pressure_observe(struct pressure *p, const struct signal_reading r[N_SIGNALS],
                                                  int64_t now_ms) {
    const struct pressure_threshold *act = NULL;
    for (size_t i = 0; i < p->n_thresholds; i++) {
        struct pressure_threshold *t = &p->thresholds[i];
        if (!is_met(t, &r[t->signal])) {
            t->since_ms = 0;
            continue;
        }
        if (!t->since_ms)
            t->since_ms = now_ms;
        if (now_ms - t->since_ms < t->grace_ms)
            continue;
        p->last_met_ms[pressure_kind_of(t->signal)] = now_ms;
        if (more_urgent(t, act))
            act = t;
    }
    for (int k = 0; k < N_PRESSURES; k++)
        p->under[k] = p->last_met_ms[k] && now_ms - p->last_met_ms[k] <= p->transition_ms;
    return act;
}
