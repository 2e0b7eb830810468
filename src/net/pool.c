#include "net/pool.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>

struct task {
    struct task *next;
    struct pool_queue *queue; /* NULL: any order */
    struct loop *loop;
    void (*work)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

struct task_list {
    struct task *head, **tail;
};

struct pool {
    pthread_mutex_t lock; /* guards everything here, and the queues */
    pthread_cond_t more;
    struct task_list ready;
    struct pool_queue *queues;
    bool stopping;
    unsigned n_threads;
    pthread_t threads[];
};

struct pool_queue {
    struct pool *pool; /* NULL after pool_free */
    struct pool_queue *prev, *next;
    struct task_list waiting;
    bool busy; /* one of its tasks is ready or running */
};

static void list_init(struct task_list *l) {
    l->head = NULL;
    l->tail = &l->head;
}

static void list_push(struct task_list *l, struct task *t) {
    t->next = NULL;
    *l->tail = t;
    l->tail = &t->next;
}

static struct task *list_pop(struct task_list *l) {
    struct task *t = l->head;
    if (t && !(l->head = t->next))
        l->tail = &l->head;
    return t;
}

/* The next task of the queue may start now. Called with the lock held. */
static void queue_advance(struct pool *p, struct pool_queue *q) {
    struct task *t = list_pop(&q->waiting);
    q->busy = t != NULL;
    if (t) {
        list_push(&p->ready, t);
        pthread_cond_signal(&p->more);
    }
}

static void *worker(void *arg) {
    struct pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct task *t = NULL;
        while (!p->stopping && !(t = list_pop(&p->ready)))
            pthread_cond_wait(&p->more, &p->lock);
        if (!t)
            break;
        pthread_mutex_unlock(&p->lock);
        t->work(t->arg);
        pthread_mutex_lock(&p->lock);
        /* Told before the queue moves on, so that answers come in the order of the queue; and under the lock, so that
         * `done` may free the queue. */
        if (t->done)
            loop_post(t->loop, t->done, t->arg);
        if (t->queue)
            queue_advance(p, t->queue);
        free(t);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct pool *pool_new(unsigned threads, const char *name) {
    struct pool *p = xcalloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    list_init(&p->ready);
    p->n_threads = threads;
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&p->threads[i], NULL, worker, p) != 0)
            panic("cannot start a thread for the task pool %s", name);
        char label[16];
        snprintf(label, sizeof(label), "%.10s-%u", name, i % 1000);
        pthread_setname_np(p->threads[i], label);
    }
    return p;
}

static void drop_all(struct task_list *l) {
    for (struct task *t; (t = list_pop(l));)
        free(t);
}

void pool_free(struct pool *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    drop_all(&p->ready);
    for (struct pool_queue *q = p->queues; q; q = q->next) {
        drop_all(&q->waiting);
        q->pool = NULL;
    }
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static struct task *task_new(struct loop *l, void (*work)(void *), void (*done)(void *), void *arg) {
    struct task *t = NEW(struct task);
    *t = (struct task){.loop = l, .work = work, .done = done, .arg = arg};
    return t;
}

void pool_submit(struct pool *p, struct loop *l, void (*work)(void *arg), void (*done)(void *arg), void *arg) {
    struct task *t = task_new(l, work, done, arg);
    pthread_mutex_lock(&p->lock);
    list_push(&p->ready, t);
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}

struct pool_queue *pool_queue_new(struct pool *p) {
    struct pool_queue *q = NEW(struct pool_queue);
    q->pool = p;
    list_init(&q->waiting);
    pthread_mutex_lock(&p->lock);
    q->next = p->queues;
    if (p->queues)
        p->queues->prev = q;
    p->queues = q;
    pthread_mutex_unlock(&p->lock);
    return q;
}

void pool_queue_submit(struct pool_queue *q, struct loop *l, void (*work)(void *arg), void (*done)(void *arg),
                       void *arg) {
    struct task *t = task_new(l, work, done, arg);
    t->queue = q;
    pthread_mutex_lock(&q->pool->lock);
    list_push(&q->waiting, t);
    if (!q->busy)
        queue_advance(q->pool, q);
    pthread_mutex_unlock(&q->pool->lock);
}

void pool_queue_free(struct pool_queue *q) {
    if (!q)
        return;
    struct pool *p = q->pool;
    if (p) {
        pthread_mutex_lock(&p->lock);
        if (q->busy)
            panic("a task queue was freed with tasks in it");
        if (q->prev)
            q->prev->next = q->next;
        else
            p->queues = q->next;
        if (q->next)
            q->next->prev = q->prev;
        pthread_mutex_unlock(&p->lock);
    }
    free(q);
}
