#define LOG_COMPONENT "edged"
#include "edge/edged/image_gc.h"

#include "base/clock.h"
#include "base/log.h"

#include <sys/statvfs.h>

#define PASS_MIN_MS 10000
#define PASS_MAX_MS (5 * 60 * 1000)
#define INFO_MAX (1u << 20)

/* What is remembered of an image between passes. */
struct known_image {
    char *id;
    int64_t size, first_seen_ms, last_used_ms;
    bool listed, in_use, pinned;
    UT_hash_handle hh;
};

struct image_gc {
    struct pods *pods;
    struct timer *timer;
    struct known_image *images;
    bool busy;
    bool reclaim_all; /* of this pass */

    char *mountpoint, *sandbox_image; /* as the last pass was told */

    /* of the pass under way */
    int64_t capacity, available;
    struct strlist used, victims;
    int64_t wanted, freed;

    void (*reclaimed)(void *arg, int64_t freed); /* NULL: nobody waits */
    void *reclaimed_arg;
};

/* ---- which go ---- */

static int by_last_use(const void *a, const void *b) {
    const struct image_candidate *x = a, *y = b;
    if (x->last_used_ms != y->last_used_ms)
        return x->last_used_ms < y->last_used_ms ? -1 : 1;
    return x->first_seen_ms < y->first_seen_ms ? -1 : x->first_seen_ms > y->first_seen_ms;
}

int64_t image_gc_choose(struct image_candidate *list, size_t n, int64_t now_ms, int64_t min_age_ms, int64_t max_age_ms,
                        int64_t wanted) {
    int64_t chosen = 0;
    qsort(list, n, sizeof(*list), by_last_use);
    for (size_t i = 0; i < n; i++) {
        struct image_candidate *c = &list[i];
        if (c->in_use || c->pinned || now_ms - c->first_seen_ms < min_age_ms)
            continue;
        int64_t idle = now_ms - (c->last_used_ms ? c->last_used_ms : c->first_seen_ms);
        if (chosen >= wanted && !(max_age_ms > 0 && idle > max_age_ms))
            continue;
        c->chosen = true;
        chosen += c->size;
    }
    return chosen;
}

/* ---- a pass ---- */

static void begin_pass(void *arg);

static void pass_end(struct image_gc *g) {
    bool asked_meanwhile = g->reclaimed && !g->reclaim_all;
    strlist_free(&g->used);
    strlist_free(&g->victims);
    g->busy = false;
    if (asked_meanwhile) {
        begin_pass(g);
        return;
    }
    void (*told)(void *, int64_t) = TAKE(g->reclaimed);
    int64_t ms = g->pods->config->image_gc_min_age_ms;
    timer_set(g->timer, ms < PASS_MIN_MS ? PASS_MIN_MS : ms > PASS_MAX_MS ? PASS_MAX_MS : ms);
    if (told)
        told(g->reclaimed_arg, g->freed);
}

static void pass_failed(struct image_gc *g, const char *what, const struct error *err) {
    log_debug("unused images are not looked for: %s: %s", what, error_text(err));
    pass_end(g);
}

static void remove_next(struct image_gc *g);

static void on_removed(void *arg, int status, const void *reply, const struct error *err) {
    struct image_gc *g = arg;
    const char *id = g->victims.items[0];
    struct known_image *i;
    HASH_FIND_STR(g->images, id, i);
    if (reply) {
        log_info("removed an image that nothing uses image=%s bytes=%lld", id, (long long)(i ? i->size : 0));
        g->freed += i ? i->size : 0;
    } else {
        log_warn("image not removed: %s", error_text(err));
    }
    strlist_remove(&g->victims, id);
    remove_next(g);
}

static void remove_next(struct image_gc *g) {
    if (g->victims.count == 0) {
        if (g->freed < g->wanted && !g->reclaim_all)
            log_warn(
                "the images' disk is fuller than imageGCHighThresholdPercent, and unused images do not make up for "
                "it freed=%lld wanted=%lld",
                (long long)g->freed, (long long)g->wanted);
        pass_end(g);
        return;
    }
    Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;
    Cri__RemoveImageRequest q = CRI__REMOVE_IMAGE_REQUEST__INIT;
    spec.image = g->victims.items[0];
    q.image = &spec;
    cri_call(g->pods->cri, CRI_REMOVE_IMAGE, &q, 0, on_removed, g);
}

static void choose(struct image_gc *g) {
    const struct edged_config *c = g->pods->config;
    size_t n = HASH_COUNT(g->images), k = 0;
    struct image_candidate *list = xcalloc(n + 1, sizeof(*list));
    struct known_image *i, *tmp;
    HASH_ITER (hh, g->images, i, tmp)
        list[k++] = (struct image_candidate){.id = i->id,
                                             .size = i->size,
                                             .first_seen_ms = i->first_seen_ms,
                                             .last_used_ms = i->last_used_ms,
                                             .in_use = i->in_use,
                                             .pinned = i->pinned};
    (void)image_gc_choose(list, n, clock_mono_ms(), c->image_gc_min_age_ms, c->image_gc_max_age_ms, g->wanted);
    for (k = 0; k < n; k++)
        if (list[k].chosen)
            strlist_add(&g->victims, list[k].id);
    free(list);
    remove_next(g);
}

static bool is_used(const struct image_gc *g, const Cri__Image *image) {
    if (strlist_has(&g->used, image->id))
        return true;
    for (size_t i = 0; i < image->n_repo_tags; i++)
        if (strlist_has(&g->used, image->repo_tags[i]))
            return true;
    for (size_t i = 0; i < image->n_repo_digests; i++)
        if (strlist_has(&g->used, image->repo_digests[i]))
            return true;
    return false;
}

static void see_image(struct image_gc *g, const Cri__Image *image) {
    struct known_image *i;
    int64_t now = clock_mono_ms();
    HASH_FIND_STR(g->images, image->id, i);
    if (!i) {
        i = NEW(struct known_image);
        i->id = xstrdup(image->id);
        i->first_seen_ms = now;
        HASH_ADD_KEYPTR(hh, g->images, i->id, strlen(i->id), i);
    }
    i->listed = true;
    i->size = image->size > INT64_MAX / 2 ? 0 : (int64_t)image->size;
    i->in_use = is_used(g, image);
    i->pinned = image->pinned;
    for (size_t t = 0; t < image->n_repo_tags; t++)
        i->pinned |= g->sandbox_image && str_eq(image->repo_tags[t], g->sandbox_image);
    if (i->in_use)
        i->last_used_ms = now;
}

static void on_images(void *arg, int status, const void *reply, const struct error *err) {
    struct image_gc *g = arg;
    const Cri__ListImagesResponse *r = reply;
    if (!r) {
        pass_failed(g, "list images", err);
        return;
    }
    struct known_image *i, *tmp;
    HASH_ITER (hh, g->images, i, tmp)
        i->listed = false;
    for (size_t k = 0; k < r->n_images; k++)
        if (!str_empty(r->images[k]->id))
            see_image(g, r->images[k]);
    HASH_ITER (hh, g->images, i, tmp) {
        if (i->listed)
            continue;
        HASH_DEL(g->images, i);
        free(i->id);
        free(i);
    }
    choose(g);
}

static void on_containers(void *arg, int status, const void *reply, const struct error *err) {
    struct image_gc *g = arg;
    const Cri__ListContainersResponse *r = reply;
    if (!r) {
        pass_failed(g, "list containers", err);
        return;
    }
    for (size_t i = 0; i < r->n_containers; i++) {
        const Cri__Container *c = r->containers[i];
        if (!str_empty(c->image_ref))
            strlist_add(&g->used, c->image_ref);
        if (c->image && !str_empty(c->image->image))
            strlist_add(&g->used, c->image->image);
    }
    Cri__ListImagesRequest q = CRI__LIST_IMAGES_REQUEST__INIT;
    cri_call(g->pods->cri, CRI_LIST_IMAGES, &q, 0, on_images, g);
}

/* containerd before 1.7 does not pin its sandbox image, but tells its name in the verbose status. */
static void on_status(void *arg, int status, const void *reply, const struct error *err) {
    struct image_gc *g = arg;
    const Cri__StatusResponse *r = reply;
    const char *info = r ? cri_pair_get(r->info, r->n_info, "config") : NULL;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *config = info ? json_parse(bytes_str(info), INFO_MAX, NULL) : NULL;
    const char *image = json_str(yyjson_doc_get_root(config), "sandboxImage");
    if (image) {
        free(g->sandbox_image);
        g->sandbox_image = xstrdup(image);
    }
    Cri__ListContainersRequest q = CRI__LIST_CONTAINERS_REQUEST__INIT;
    cri_call(g->pods->cri, CRI_LIST_CONTAINERS, &q, 0, on_containers, g);
}

static void measure_disk(void *arg) {
    struct image_gc *g = arg;
    struct statvfs st;
    if (g->mountpoint && statvfs(g->mountpoint, &st) == 0) {
        g->capacity = (int64_t)(st.f_blocks * st.f_frsize);
        g->available = (int64_t)(st.f_bavail * st.f_frsize);
    }
}

static void disk_measured(void *arg) {
    struct image_gc *g = arg;
    const struct edged_config *c = g->pods->config;
    if (g->reclaim_all)
        g->wanted = INT64_MAX;
    else if (g->capacity > 0 && 100 - g->available / (g->capacity / 100 + 1) >= c->image_gc_high_percent)
        g->wanted = g->capacity / 100 * (100 - c->image_gc_low_percent) - g->available;
    Cri__StatusRequest q = CRI__STATUS_REQUEST__INIT;
    q.verbose = true;
    cri_call(g->pods->cri, CRI_STATUS, &q, 0, on_status, g);
}

static void on_fs_info(void *arg, int status, const void *reply, const struct error *err) {
    struct image_gc *g = arg;
    const Cri__ImageFsInfoResponse *r = reply;
    if (!r) {
        pass_failed(g, "ask for the images' disk", err);
        return;
    }
    free(TAKE(g->mountpoint));
    if (r->n_image_filesystems > 0 && r->image_filesystems[0]->fs_id)
        g->mountpoint = xstrdup(r->image_filesystems[0]->fs_id->mountpoint);
    pool_submit(g->pods->pool, g->pods->loop, measure_disk, disk_measured, g);
}

static void begin_pass(void *arg) {
    struct image_gc *g = arg;
    if (g->busy)
        return;
    g->busy = true;
    g->wanted = g->freed = g->capacity = 0;
    g->reclaim_all = g->reclaimed != NULL;
    Cri__ImageFsInfoRequest q = CRI__IMAGE_FS_INFO_REQUEST__INIT;
    cri_call(g->pods->cri, CRI_IMAGE_FS_INFO, &q, 0, on_fs_info, g);
}

void image_gc_reclaim(struct image_gc *g, void (*done)(void *arg, int64_t freed), void *arg) {
    g->reclaimed = done;
    g->reclaimed_arg = arg;
    begin_pass(g); /* or after the one under way */
}

const char *image_gc_mountpoint(const struct image_gc *g) {
    return g->mountpoint;
}

struct image_gc *image_gc_new(struct pods *ps) {
    struct image_gc *g = NEW(struct image_gc);
    g->pods = ps;
    g->timer = timer_new(ps->loop, begin_pass, g);
    timer_set(g->timer, PASS_MIN_MS); /* ages count from the first look */
    return g;
}

void image_gc_free(struct image_gc *g) {
    if (!g)
        return;
    struct known_image *i, *tmp;
    HASH_ITER (hh, g->images, i, tmp) {
        HASH_DEL(g->images, i);
        free(i->id);
        free(i);
    }
    strlist_free(&g->used);
    strlist_free(&g->victims);
    free(g->mountpoint);
    free(g->sandbox_image);
    timer_free(g->timer);
    free(g);
}
