/* A thread per bus: its devices are called one at a time, and wait for nobody else's. */
#include "base/clock.h"
#include "mapper/libmapper/internal.h"

#include <time.h>
#include <utlist.h>

#define STACK_BYTES (256 * 1024)

struct bus {
    char *key;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct device *added;   /* under the lock: for the thread to take */
    struct device *devices; /* the thread's */
    bool stop;
    UT_hash_handle hh;
};

/* Gives false when the thread is to end. */
static bool take_changes(struct bus *b, int64_t until_ms) {
    struct device *d, *next;
    pthread_mutex_lock(&b->lock);
    bool removed = false;
    DL_FOREACH (b->devices, d)
        removed = removed || d->removed;
    if (!b->added && !b->stop && !removed && until_ms > clock_mono_ms()) {
        struct timespec t = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        if (until_ms == INT64_MAX)
            pthread_cond_wait(&b->changed, &b->lock);
        else
            pthread_cond_timedwait(&b->changed, &b->lock, &t);
    }
    DL_FOREACH_SAFE (b->added, d, next) {
        DL_DELETE(b->added, d);
        DL_APPEND(b->devices, d);
    }
    struct device *leaving = NULL;
    DL_FOREACH_SAFE (b->devices, d, next) {
        if (!d->removed && !b->stop)
            continue;
        DL_DELETE(b->devices, d);
        DL_APPEND(leaving, d);
    }
    bool stop = b->stop;
    pthread_mutex_unlock(&b->lock);
    DL_FOREACH_SAFE (leaving, d, next) {
        DL_DELETE(leaving, d);
        device_close(d);
        device_free(d);
    }
    return !stop;
}

static void *run(void *arg) {
    struct bus *b = arg;
    int64_t until = INT64_MAX;
    while (take_changes(b, until)) {
        struct device *d;
        until = INT64_MAX;
        DL_FOREACH (b->devices, d) {
            int64_t next = device_run(d, clock_mono_ms());
            if (next < until)
                until = next;
        }
    }
    return NULL;
}

static struct bus *bus_new(const char *key) {
    struct bus *b = NEW(struct bus);
    pthread_condattr_t monotonic;
    pthread_attr_t attr;
    b->key = xstrdup(key);
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (pthread_create(&b->thread, &attr, run, b) != 0)
        panic("no thread for the bus %s", key);
    pthread_attr_destroy(&attr);
    return b;
}

static struct bus *find(struct mapper *m, const char *key) {
    struct bus *b;
    HASH_FIND_STR(m->buses, key, b);
    return b;
}

void buses_add(struct mapper *m, struct device *d) {
    struct bus *b = find(m, d->bus_key);
    if (!b) {
        b = bus_new(d->bus_key);
        HASH_ADD_KEYPTR(hh, m->buses, b->key, strlen(b->key), b);
    }
    pthread_mutex_lock(&b->lock);
    DL_APPEND(b->added, d);
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

void buses_remove(struct mapper *m, struct device *d) {
    struct bus *b = find(m, d->bus_key);
    pthread_mutex_lock(&b->lock);
    d->removed = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

void buses_stop(struct mapper *m) {
    struct bus *b, *next;
    HASH_ITER (hh, m->buses, b, next) {
        pthread_mutex_lock(&b->lock);
        b->stop = true;
        pthread_cond_signal(&b->changed);
        pthread_mutex_unlock(&b->lock);
    }
    HASH_ITER (hh, m->buses, b, next) {
        pthread_join(b->thread, NULL);
        HASH_DEL(m->buses, b);
        pthread_mutex_destroy(&b->lock);
        pthread_cond_destroy(&b->changed);
        free(b->key);
        free(b);
    }
}
