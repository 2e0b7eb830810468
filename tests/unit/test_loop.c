#include "net_fixture.h"

#include "net/pool.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

struct log {
    struct loop *loop;
    struct timer *timer;
    struct pool *pool;
    struct pool_queue *queue;
    char text[4096 + 1];
    size_t len;
    int left, fd;
};

static void note(struct log *g, char c) {
    if (g->len < sizeof(g->text) - 1)
        g->text[g->len++] = c;
}

struct item {
    struct log *log;
    char c;
};

static void post_note(void *arg) {
    struct item *i = arg;
    note(i->log, i->c);
    if (--i->log->left == 0)
        loop_stop(i->log->loop);
}

static void *poster(void *arg) {
    struct item *items = arg;
    for (int i = 0; i < 1000; i++)
        loop_post(items->log->loop, post_note, items);
    return NULL;
}

static void posts_of_many_threads_all_arrive(void **state) {
    struct log g = {.loop = loop_new(), .left = 4000};
    struct item items[4] = {{&g, 'a'}, {&g, 'b'}, {&g, 'c'}, {&g, 'd'}};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, poster, &items[i]), 0);
    run_loop(g.loop);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    size_t a = 0;
    for (size_t i = 0; i < g.len; i++)
        a += g.text[i] == 'a';
    assert_int_equal(g.len, 4000);
    assert_int_equal(a, 1000);
    loop_free(g.loop);
}

static void posts_keep_their_order(void **state) {
    struct log g = {.loop = loop_new(), .left = 3};
    struct item items[3] = {{&g, '1'}, {&g, '2'}, {&g, '3'}};
    for (int i = 0; i < 3; i++)
        loop_post(g.loop, post_note, &items[i]);
    run_loop(g.loop);
    assert_string_equal(g.text, "123");
    loop_free(g.loop);
}

static void dropped(void *arg) {
    struct item *i = arg;
    note(i->log, 'd');
}

static void posts_that_never_ran_are_dropped(void **state) {
    struct log g = {.loop = loop_new(), .left = 1};
    struct item a = {&g, 'a'};
    loop_post_full(g.loop, post_note, dropped, &a);
    loop_post(g.loop, post_note, &a);
    loop_free(g.loop);
    assert_string_equal(g.text, "d");
}

static void on_tick(void *arg) {
    struct log *g = arg;
    note(g, 't');
    if (--g->left == 0) {
        timer_free(TAKE(g->timer)); /* from its own callback */
        loop_stop(g->loop);
    }
}

static void a_timer_repeats_until_it_is_freed(void **state) {
    struct log g = {.loop = loop_new(), .left = 3};
    g.timer = timer_new(g.loop, on_tick, &g);
    timer_every(g.timer, 1);
    assert_true(timer_pending(g.timer));
    run_loop(g.loop);
    settle(g.loop, 10);
    assert_string_equal(g.text, "ttt");
    loop_free(g.loop);
}

static void on_once(void *arg) {
    struct log *g = arg;
    note(g, 'o');
    if (--g->left > 0)
        timer_set(g->timer, 0); /* again, from its own callback */
    else
        loop_stop(g->loop);
}

static void a_timer_fires_once_unless_it_is_set_again(void **state) {
    struct log g = {.loop = loop_new(), .left = 2};
    g.timer = timer_new(g.loop, on_once, &g);
    timer_set(g.timer, 1);
    run_loop(g.loop);
    settle(g.loop, 10);
    assert_string_equal(g.text, "oo");
    timer_set(g.timer, 1);
    timer_stop(g.timer);
    assert_false(timer_pending(g.timer));
    settle(g.loop, 10);
    assert_string_equal(g.text, "oo");
    timer_free(g.timer);
    loop_free(g.loop);
}

static void on_pipe(void *arg, unsigned what) {
    struct log *g = arg;
    char byte;
    assert_int_equal(read(g->fd, &byte, 1), 1);
    note(g, what & FD_READ ? 'r' : '?');
    loop_stop(g->loop);
}

static void a_descriptor_is_watched(void **state) {
    struct log g = {.loop = loop_new()};
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    g.fd = fds[0];
    struct fdwatch *w = fdwatch_new(g.loop, fds[0], FD_READ, on_pipe, &g);
    settle(g.loop, 5);
    assert_int_equal(g.len, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    run_loop(g.loop);
    assert_string_equal(g.text, "r");
    fdwatch_free(w);
    close(fds[0]);
    close(fds[1]);
    loop_free(g.loop);
}

static void on_sig(void *arg, int signo) {
    struct log *g = arg;
    note(g, signo == SIGUSR1 ? 's' : '?');
    loop_stop(g->loop);
}

static void a_signal_is_told_on_the_loop(void **state) {
    struct log g = {.loop = loop_new()};
    loop_on_signal(g.loop, SIGUSR1, on_sig, &g);
    raise(SIGUSR1);
    run_loop(g.loop);
    assert_string_equal(g.text, "s");
    loop_free(g.loop);
}

static void backoff_doubles_up_to_its_maximum_with_jitter(void **state) {
    struct backoff b = BACKOFF(100, 1000);
    static const int64_t full[] = {100, 200, 400, 800, 1000, 1000};
    for (size_t i = 0; i < ARRAY_LEN(full); i++) {
        int64_t ms = backoff_next_ms(&b);
        assert_in_range(ms, full[i] / 2, full[i]);
    }
    backoff_reset(&b);
    assert_in_range(backoff_next_ms(&b), 50, 100);
}

/* ---- pool ---- */

struct job {
    struct log *log;
    int number;
    bool worked;
};

static void work(void *arg) {
    struct job *j = arg;
    assert_false(loop_is_current(j->log->loop));
    j->worked = true;
}

static void done(void *arg) {
    struct job *j = arg;
    assert_true(j->worked && loop_is_current(j->log->loop));
    note(j->log, (char)('a' + j->number));
    if (--j->log->left == 0) {
        pool_queue_free(TAKE(j->log->queue));
        loop_stop(j->log->loop);
    }
}

static void start_jobs(void *arg) {
    struct job *jobs = arg;
    for (int i = 0; i < 20; i++)
        pool_queue_submit(jobs->log->queue, jobs->log->loop, work, done, &jobs[i]);
}

static void tasks_of_a_queue_come_back_in_order(void **state) {
    struct log g = {.loop = loop_new(), .left = 20};
    struct pool *p = pool_new(3, "test");
    struct job jobs[20];
    g.queue = pool_queue_new(p);
    for (int i = 0; i < 20; i++)
        jobs[i] = (struct job){&g, i, false};
    loop_post(g.loop, start_jobs, jobs);
    run_loop(g.loop);
    assert_string_equal(g.text, "abcdefghijklmnopqrst");
    pool_free(p);
    loop_free(g.loop);
}

static void submit_one(void *arg) {
    struct job *j = arg;
    pool_submit(j->log->pool, j->log->loop, work, done, j);
}

static void a_task_runs_off_the_loop_and_is_told_on_it(void **state) {
    struct log g = {.loop = loop_new(), .left = 1};
    struct pool *p = pool_new(2, "test");
    g.pool = p;
    struct job j = {&g, 0, false};
    loop_post(g.loop, submit_one, &j);
    run_loop(g.loop);
    assert_string_equal(g.text, "a");
    pool_free(p);
    loop_free(g.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_many_threads_all_arrive),
        cmocka_unit_test(posts_keep_their_order),
        cmocka_unit_test(posts_that_never_ran_are_dropped),
        cmocka_unit_test(a_timer_repeats_until_it_is_freed),
        cmocka_unit_test(a_timer_fires_once_unless_it_is_set_again),
        cmocka_unit_test(a_descriptor_is_watched),
        cmocka_unit_test(a_signal_is_told_on_the_loop),
        cmocka_unit_test(backoff_doubles_up_to_its_maximum_with_jitter),
        cmocka_unit_test(tasks_of_a_queue_come_back_in_order),
        cmocka_unit_test(a_task_runs_off_the_loop_and_is_told_on_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
