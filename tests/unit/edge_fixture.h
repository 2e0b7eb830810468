/* A loop, a pool and a bus for tests of edge components, with stand-ins for the components around the one under test
 * that remember what they were sent. */
#pragma once

#include "base/file.h"
#include "base/mem.h"
#include "edge/bus.h"
#include "edge/edge_config.h"
#include "net/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define INBOX_MAX 4096

struct inbox {
    struct message *messages[INBOX_MAX];
    size_t count;
};

struct edge_fixture {
    struct loop *loop;
    struct pool *pool;
    struct bus *bus;
    struct edge_config config;
    char dir[64];
    struct inbox cloud, edged;
    struct timer *poll;
    bool (*until)(void *arg);
    void *until_arg;
    int polls_left;
};

static inline void inbox_take(void *arg, struct message *m) {
    struct inbox *in = arg;
    assert_true(in->count < INBOX_MAX);
    in->messages[in->count++] = m;
}

static inline void inbox_clear(struct inbox *in) {
    for (size_t i = 0; i < in->count; i++)
        message_free(in->messages[i]);
    in->count = 0;
}

static inline void fixture_poll(void *arg) {
    struct edge_fixture *f = arg;
    if (f->until(f->until_arg) || --f->polls_left <= 0)
        loop_stop(f->loop);
}

/* Runs the loop until the condition holds; fails the test if it does not within some seconds. */
static inline void run_until(struct edge_fixture *f, bool (*condition)(void *arg), void *arg) {
    f->until = condition;
    f->until_arg = arg;
    f->polls_left = 20000;
    timer_every(f->poll, 1);
    loop_run(f->loop);
    timer_stop(f->poll);
    assert_true(condition(arg));
}

struct count_condition {
    const struct inbox *inbox;
    size_t count;
};
static inline bool has_count(void *arg) {
    struct count_condition *c = arg;
    return c->inbox->count >= c->count;
}
static inline void run_until_count(struct edge_fixture *f, const struct inbox *in, size_t count) {
    run_until(f, has_count, &(struct count_condition){in, count});
}

static inline bool one_round_passed(void *arg) {
    return ++*(int *)arg > 3;
}
/* A few rounds of the loop: for what must NOT happen. */
static inline void run_a_little(struct edge_fixture *f) {
    int rounds = 0;
    run_until(f, one_round_passed, &rounds);
}

static inline struct edge_fixture *fixture_new(void) {
    struct edge_fixture *f = NEW(struct edge_fixture);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/selvage-edge-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->loop = loop_new();
    f->pool = pool_new(2, "test");
    f->bus = bus_new(f->loop);
    f->poll = timer_new(f->loop, fixture_poll, f);
    f->config.database = xasprintf("%s/edge.db", f->dir);
    f->config.meta.enable = true;
    f->config.meta.remote_query_timeout_s = 60;
    bus_register(f->bus, MODULE_EDGED, inbox_take, &f->edged);
    bus_register(f->bus, MODULE_WEBSOCKET, inbox_take, &f->cloud);
    return f;
}

static inline void fixture_free(struct edge_fixture *f) {
    inbox_clear(&f->cloud);
    inbox_clear(&f->edged);
    timer_free(f->poll);
    bus_free(f->bus);
    loop_free(f->loop);
    free(f->config.database);
    assert_int_equal(dir_remove(f->dir, NULL), 0);
    free(f);
}
