#include "apiserver/controllers/rollout.h"

#include "apiserver/controllers/children.h"

static int64_t min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

void rollout_limits(struct rollout *r, yyjson_val *spec) {
    yyjson_val *rolling = json_get(spec, "strategy", "rollingUpdate");
    r->replicas = json_int_or(json_get(spec, "replicas"), 1);
    r->paused = json_bool_or(json_get(spec, "paused"), false);
    r->recreate = str_eq(json_str(spec, "strategy", "type"), "Recreate");
    r->surge = r->recreate ? 0 : amount_of(json_get(rolling, "maxSurge"), r->replicas, true, 1);
    r->unavailable = r->recreate ? 0 : amount_of(json_get(rolling, "maxUnavailable"), r->replicas, false, 1);
    if (r->surge == 0 && r->unavailable == 0)
        r->unavailable = 1;
    r->unavailable = min(r->unavailable, r->replicas);
}

static int64_t total(const struct rollout_set *sets, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += sets[i].next;
    return sum;
}

/* ---- the number of replicas has changed midway, or nothing but that may happen ---- */

/* The only one that has replicas, or the newest where none has; NULL where several have. */
static struct rollout_set *only_active(struct rollout_set *sets, size_t n) {
    struct rollout_set *active = NULL, *newest = NULL;
    for (size_t i = 0; i < n; i++) {
        if (sets[i].next > 0 && active)
            return NULL;
        if (sets[i].next > 0)
            active = &sets[i];
        if (!newest || sets[i].is_new || !newest->is_new)
            newest = &sets[i];
    }
    return active ? active : newest;
}

/* Each gets its share of what is added or taken, the largest and newest first, and what rounding leaves over. */
static void scale_shares(const struct rollout *r, struct rollout_set *sets, size_t n) {
    int64_t allowed = r->replicas > 0 ? r->replicas + r->surge : 0, change = allowed - total(sets, n), done = 0;
    struct rollout_set *largest = NULL;
    for (size_t i = n; i-- > 0;) {
        struct rollout_set *s = &sets[i];
        if (s->next == 0)
            continue;
        int64_t was = s->max_replicas > 0 ? s->max_replicas : total(sets, n);
        int64_t share = was > 0 ? (s->next * allowed + was / 2) / was - s->next : 0, left = change - done;
        if (!largest || s->next > largest->next)
            largest = s;
        share = change > 0 ? min(share < 0 ? 0 : share, left) : share > 0 ? 0 : share < left ? left : share;
        s->next += share;
        done += share;
    }
    if (largest && done != change)
        largest->next = largest->next + change - done < 0 ? 0 : largest->next + change - done;
}

static bool replicas_changed(const struct rollout *r, const struct rollout_set *sets, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (sets[i].want > 0 && sets[i].desired > 0 && sets[i].desired != r->replicas)
            return true;
    return false;
}

static void scale(const struct rollout *r, struct rollout_set *sets, size_t n, struct rollout_set *new_set) {
    struct rollout_set *only = only_active(sets, n);
    if (only) {
        only->next = r->replicas;
    } else if (new_set && new_set->want == r->replicas && new_set->available == r->replicas) {
        for (size_t i = 0; i < n; i++)
            if (!sets[i].is_new)
                sets[i].next = 0;
    } else if (!r->recreate) {
        scale_shares(r, sets, n);
    }
}

/* ---- rolling ---- */

static bool grow_new(const struct rollout *r, struct rollout_set *sets, size_t n, struct rollout_set *new_set) {
    int64_t room = r->replicas + r->surge - total(sets, n), before = new_set->next;
    if (new_set->next > r->replicas)
        new_set->next = r->replicas;
    else if (room > 0)
        new_set->next += min(room, r->replicas - new_set->next);
    return new_set->next != before;
}

static void shrink_old(const struct rollout *r, struct rollout_set *sets, size_t n, const struct rollout_set *new_set) {
    int64_t least = r->replicas - r->unavailable, available = 0;
    int64_t budget = total(sets, n) - least - (new_set->next - new_set->available);
    for (size_t i = 0; i < n; i++)
        available += sets[i].available;
    for (size_t i = 0; i < n && budget > 0; i++) { /* what does not work anyway */
        int64_t unhealthy = sets[i].next - sets[i].available;
        if (sets[i].is_new || unhealthy <= 0)
            continue;
        int64_t take = min(unhealthy, budget);
        sets[i].next -= take;
        budget -= take;
    }
    int64_t spare = min(available - least, budget);
    for (size_t i = 0; i < n && spare > 0; i++) {
        if (sets[i].is_new)
            continue;
        int64_t take = min(sets[i].next, spare);
        sets[i].next -= take;
        spare -= take;
    }
}

static void recreate(const struct rollout *r, struct rollout_set *sets, size_t n, struct rollout_set *new_set) {
    bool gone = !r->old_pods;
    for (size_t i = 0; i < n; i++) {
        if (sets[i].is_new)
            continue;
        gone = gone && sets[i].want == 0;
        sets[i].next = 0;
    }
    if (new_set && gone)
        new_set->next = r->replicas;
}

void rollout_divide(const struct rollout *r, struct rollout_set *sets, size_t n) {
    struct rollout_set *new_set = NULL;
    for (size_t i = 0; i < n; i++) {
        sets[i].next = sets[i].want;
        if (sets[i].is_new)
            new_set = &sets[i];
    }
    if (r->paused || replicas_changed(r, sets, n))
        scale(r, sets, n, new_set);
    else if (r->recreate)
        recreate(r, sets, n, new_set);
    else if (new_set && !grow_new(r, sets, n, new_set))
        shrink_old(r, sets, n, new_set);
}

int64_t rollout_first(const struct rollout *r, const struct rollout_set *sets, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += sets[i].want;
    if (r->recreate)
        return sum == 0 && !r->old_pods ? r->replicas : 0;
    int64_t room = r->replicas + r->surge - sum;
    return room < 0 ? 0 : min(room, r->replicas);
}
