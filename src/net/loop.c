#define LOG_COMPONENT "loop"
#include "net/loop.h"

#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/loop_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct post {
    struct post *next;
    void (*fn)(void *arg);
    void (*drop)(void *arg);
    void *arg;
};

struct signal_watch {
    struct signal_watch *next;
    struct event ev;
    void (*fn)(void *arg, int signo);
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event wake;
    int wake_fd;
    atomic_bool running;
    pthread_t thread;
    struct signal_watch *signals;
    struct loop_owned *owned;
    char *scratch;

    pthread_mutex_t lock; /* guards what follows */
    struct post *head, **tail;
};

static struct post *take_posts(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    struct post *p = TAKE(l->head);
    l->tail = &l->head;
    pthread_mutex_unlock(&l->lock);
    return p;
}

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    struct loop *l = arg;
    uint64_t count;
    ssize_t ignored UNUSED = read(l->wake_fd, &count, sizeof(count));
    for (struct post *p = take_posts(l), *next; p; p = next) {
        next = p->next;
        p->fn(p->arg);
        free(p);
    }
}

struct loop *loop_new(void) {
    signal(SIGPIPE, SIG_IGN); /* a peer that is gone is told by write()'s answer */
    struct loop *l = NEW(struct loop);
    struct event_config *cfg = event_config_new();
    if (!cfg || event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) < 0)
        panic("libevent: no memory");
    l->base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!l->base || l->wake_fd < 0)
        panic("cannot make an event loop: %s", strerror(errno));
    l->tail = &l->head;
    pthread_mutex_init(&l->lock, NULL);
    event_assign(&l->wake, l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
    event_add(&l->wake, NULL);
    return l;
}

void loop_free(struct loop *l) {
    if (!l)
        return;
    while (l->owned) { /* closes streams that were left to finish by themselves */
        struct loop_owned *o = l->owned;
        loop_disown(l, o);
        o->release(o);
    }
    for (struct post *p = take_posts(l), *next; p; p = next) {
        next = p->next;
        if (p->drop)
            p->drop(p->arg);
        free(p);
    }
    for (struct signal_watch *s = l->signals, *next; s; s = next) {
        next = s->next;
        event_del(&s->ev);
        free(s);
    }
    event_del(&l->wake);
    close(l->wake_fd);
    event_base_free(l->base);
    pthread_mutex_destroy(&l->lock);
    free(l->scratch);
    free(l);
}

void loop_run(struct loop *l) {
    l->thread = pthread_self();
    atomic_store(&l->running, true);
    event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
    atomic_store(&l->running, false);
}

static void stop_now(void *arg) {
    struct loop *l = arg;
    event_base_loopbreak(l->base);
}

void loop_stop(struct loop *l) {
    loop_post(l, stop_now, l);
}

struct event_base *loop_base(struct loop *l) {
    return l->base;
}

bool loop_is_current(const struct loop *l) {
    return !atomic_load(&l->running) || pthread_equal(l->thread, pthread_self());
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg) {
    loop_post_full(l, fn, NULL, arg);
}

void loop_post_full(struct loop *l, void (*fn)(void *arg), void (*drop)(void *arg), void *arg) {
    struct post *p = NEW(struct post);
    *p = (struct post){.fn = fn, .drop = drop, .arg = arg};
    pthread_mutex_lock(&l->lock);
    bool was_empty = !l->head;
    *l->tail = p;
    l->tail = &p->next;
    /* Written under the lock: after it is released, the loop's owner may already have freed the loop. */
    if (was_empty) {
        uint64_t one = 1;
        ssize_t ignored UNUSED = write(l->wake_fd, &one, sizeof(one));
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---- for net/ itself ---- */

char *loop_scratch(struct loop *l) {
    if (!l->scratch)
        l->scratch = xmalloc(LOOP_SCRATCH_SIZE);
    return l->scratch;
}

void loop_own(struct loop *l, struct loop_owned *o, void (*release)(struct loop_owned *o)) {
    o->release = release;
    o->prev = NULL;
    o->next = l->owned;
    if (l->owned)
        l->owned->prev = o;
    l->owned = o;
}

void loop_disown(struct loop *l, struct loop_owned *o) {
    if (!o->release)
        return;
    if (o->prev)
        o->prev->next = o->next;
    else if (l->owned == o)
        l->owned = o->next;
    if (o->next)
        o->next->prev = o->prev;
    o->prev = o->next = NULL;
}

/* ---- timers ---- */

struct timer {
    struct event ev;
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
};

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    struct timer *t = arg;
    t->fn(t->arg); /* may have freed t */
}

struct timer *timer_new(struct loop *l, void (*fn)(void *arg), void *arg) {
    struct timer *t = NEW(struct timer);
    t->loop = l;
    t->fn = fn;
    t->arg = arg;
    event_assign(&t->ev, l->base, -1, 0, on_timer, t);
    return t;
}

static struct timeval ms_to_timeval(int64_t ms) {
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

static void timer_start(struct timer *t, int64_t ms, short flags) {
    struct timeval tv = ms_to_timeval(ms > 0 ? ms : 0);
    event_del(&t->ev);
    event_assign(&t->ev, t->loop->base, -1, flags, on_timer, t);
    event_add(&t->ev, &tv);
}

void timer_set(struct timer *t, int64_t ms) {
    timer_start(t, ms, 0);
}

void timer_every(struct timer *t, int64_t ms) {
    timer_start(t, ms > 1 ? ms : 1, EV_PERSIST);
}

void timer_stop(struct timer *t) {
    event_del(&t->ev);
}

bool timer_pending(const struct timer *t) {
    return event_pending(&t->ev, EV_TIMEOUT, NULL) != 0;
}

void timer_free(struct timer *t) {
    if (!t)
        return;
    event_del(&t->ev);
    free(t);
}

/* ---- descriptors and signals ---- */

struct fdwatch {
    struct event ev;
    void (*fn)(void *arg, unsigned what);
    void *arg;
};

static void on_fd(evutil_socket_t fd, short what, void *arg) {
    struct fdwatch *w = arg;
    w->fn(w->arg, (what & EV_READ ? (unsigned)FD_READ : 0u) | (what & EV_WRITE ? (unsigned)FD_WRITE : 0u));
}

struct fdwatch *fdwatch_new(struct loop *l, int fd, unsigned what, void (*fn)(void *arg, unsigned what), void *arg) {
    struct fdwatch *w = NEW(struct fdwatch);
    w->fn = fn;
    w->arg = arg;
    short flags = (short)(EV_PERSIST | (what & FD_READ ? EV_READ : 0) | (what & FD_WRITE ? EV_WRITE : 0));
    event_assign(&w->ev, l->base, fd, flags, on_fd, w);
    event_add(&w->ev, NULL);
    return w;
}

void fdwatch_free(struct fdwatch *w) {
    if (!w)
        return;
    event_del(&w->ev);
    free(w);
}

static void on_signal(evutil_socket_t signo, short what, void *arg) {
    struct signal_watch *s = arg;
    s->fn(s->arg, (int)signo);
}

void loop_on_signal(struct loop *l, int signo, void (*fn)(void *arg, int signo), void *arg) {
    struct signal_watch *s = NEW(struct signal_watch);
    s->fn = fn;
    s->arg = arg;
    s->next = l->signals;
    l->signals = s;
    evsignal_assign(&s->ev, l->base, signo, on_signal, s);
    event_add(&s->ev, NULL);
}

/* ---- backoff ---- */

int64_t backoff_next_ms(struct backoff *b) {
    int64_t d = b->current_ms > 0 ? b->current_ms * 2 : b->first_ms;
    if (d > b->max_ms)
        d = b->max_ms;
    b->current_ms = d;
    int64_t half = d / 2;
    return half + (int64_t)random_below((uint64_t)(d - half) + 1);
}

void backoff_reset(struct backoff *b) {
    b->current_ms = 0;
}
