/* Task pool: threads for what blocks (SQLite commits, file trees, DNS, waiting for processes). */
#pragma once

#include "net/loop.h"

struct pool;
struct pool *pool_new(unsigned threads, const char *name); /* name: up to 10 characters, shown by top -H */
/* Waits for running tasks, whose done is still posted; tasks that did not start are dropped without a call. Submit
 * nothing afterwards. */
void pool_free(struct pool *p);

/* Runs work(arg) on some pool thread, then done(arg) on the loop's thread. done may be NULL. */
void pool_submit(struct pool *p, struct loop *l, void (*work)(void *arg), void (*done)(void *arg), void *arg);

/* A queue whose tasks run one after the other, in order, on the pool's threads. */
struct pool_queue;
struct pool_queue *pool_queue_new(struct pool *p);
void pool_queue_submit(struct pool_queue *q, struct loop *l, void (*work)(void *arg), void (*done)(void *arg),
                       void *arg);
void pool_queue_free(struct pool_queue *q); /* when its last task was done, or after pool_free */
