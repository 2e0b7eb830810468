/* What streams need from their loop. Private to net/. */
#pragma once

#include "net/loop.h"

#include <stddef.h>

/* One buffer per loop that reads land in before they are shown to a handler, so that no connection keeps one of its
 * own. Its content is lost with the next read on the loop. */
enum { LOOP_SCRATCH_SIZE = 64 * 1024 };
char *loop_scratch(struct loop *l);

/* Things without an owner, such as streams that finish by themselves: released by loop_free. */
struct loop_owned {
    struct loop_owned *prev, *next;
    void (*release)(struct loop_owned *o);
};
void loop_own(struct loop *l, struct loop_owned *o, void (*release)(struct loop_owned *o));
void loop_disown(struct loop *l, struct loop_owned *o); /* fine if it was never owned (zeroed) */
