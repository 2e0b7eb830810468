/* Event loop: one per thread, on libevent.
 *
 * Everything in net/ belongs to one loop and is used only on that loop's thread, except where a function says "any
 * thread". Callbacks run on the loop thread, never from inside the call that started the operation: a function that
 * fails returns -1 at once, all else is told later. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;

struct loop;
struct loop *loop_new(void);
void loop_free(struct loop *l); /* after loop_run returned; runs no more callbacks */
void loop_run(struct loop *l);  /* until loop_stop */
void loop_stop(struct loop *l); /* any thread */
struct event_base *loop_base(struct loop *l);
bool loop_is_current(const struct loop *l); /* is this the thread that runs it (or nobody runs it yet)? */

/* Runs fn(arg) on the loop thread, in the order of the calls of each posting thread. Any thread. This is the mailbox
 * between threads. Posted work that has not run when the loop is freed is dropped: its drop function, if any, is called
 * instead. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);
void loop_post_full(struct loop *l, void (*fn)(void *arg), void (*drop)(void *arg), void *arg);

/* One-shot or repeating timer. It may be set again or freed from its own callback. */
struct timer;
struct timer *timer_new(struct loop *l, void (*fn)(void *arg), void *arg);
void timer_set(struct timer *t,
               int64_t ms); /* once, ms from now; replaces what was set; <= 0 means as soon as possible */
void timer_every(struct timer *t, int64_t ms); /* repeating */
void timer_stop(struct timer *t);
bool timer_pending(const struct timer *t);
void timer_free(struct timer *t); /* NULL is fine */

/* Watches a descriptor that the caller owns and closes after fdwatch_free. */
enum { FD_READ = 1, FD_WRITE = 2 };
struct fdwatch;
struct fdwatch *fdwatch_new(struct loop *l, int fd, unsigned what, void (*fn)(void *arg, unsigned what), void *arg);
void fdwatch_free(struct fdwatch *w);

/* fn runs on the loop thread when the signal arrives. One loop per signal. Freed with the loop. */
void loop_on_signal(struct loop *l, int signo, void (*fn)(void *arg, int signo), void *arg);

/* Backoff with full jitter: delays grow from first_ms, doubling up to max_ms, each drawn from [d/2, d]. */
struct backoff {
    int64_t first_ms, max_ms, current_ms;
};
#define BACKOFF(first, max) ((struct backoff){(first), (max), 0})
int64_t backoff_next_ms(struct backoff *b);
void backoff_reset(struct backoff *b);
