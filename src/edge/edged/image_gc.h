/* Removes images that nothing uses when their disk fills up: imageGCHighThresholdPercent, imageGCLowThresholdPercent,
 * imageMinimumGCAge, imageMaximumGCAge, as a kubelet does. What the runtime pins, and its sandbox image, stay. */
#pragma once

#include "edge/edged/pods.h"

struct image_gc;
struct image_gc *image_gc_new(struct pods *ps); /* its timer runs from now on */
void image_gc_free(struct image_gc *g);         /* after pool and CRI; NULL is fine */
/* A disk is short: removes every unused image that is old enough, now, or at the end of a pass that is under way.
 * done(arg, freed) is called once, later, with the bytes that the runtime said those images had. */
void image_gc_reclaim(struct image_gc *g, void (*done)(void *arg, int64_t freed), void *arg);
/* Where the runtime keeps its images; NULL until it told. Borrowed until the next turn of the loop. */
const char *image_gc_mountpoint(const struct image_gc *g);

/* ---- which go: pure ---- */

struct image_candidate {
    const char *id;
    int64_t size, first_seen_ms, last_used_ms; /* last_used 0: never seen in use */
    bool in_use, pinned, chosen;
};
/* Marks those to remove: the ones unused for longer than max_age_ms (0: no such limit), then, least recently used
 * first, until `wanted` bytes are chosen. None is younger than min_age_ms. Sorts the list. Returns the bytes chosen. */
int64_t image_gc_choose(struct image_candidate *list, size_t n, int64_t now_ms, int64_t min_age_ms, int64_t max_age_ms,
                        int64_t wanted);
