#include "net/resolve.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_LOOKUPS = 32, THREAD_STACK = 256 * 1024 };

/* Shared by its owner and its thread; the lock orders the thread's answer and the owner's loss of interest. */
struct resolve {
    struct loop *loop; /* NULL: cancelled */
    char *host;
    uint16_t port;
    void (*done)(void *arg, struct addrinfo *addresses, const struct error *err);
    void *arg;
    int gai_error;
    struct addrinfo *result;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned lookups;

static int lookup(const char *host, uint16_t port, int flags, struct addrinfo **out) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    *out = NULL;
    return getaddrinfo(host, service, &hints, out);
}

struct addrinfo *resolve_numeric(const char *host, uint16_t port) {
    struct addrinfo *list;
    return lookup(host, port, AI_NUMERICHOST, &list) == 0 ? list : NULL;
}

static void resolve_release(void *arg) {
    struct resolve *r = arg;
    if (r->result)
        freeaddrinfo(r->result);
    free(r->host);
    free(r);
}

static void deliver(void *arg) {
    struct resolve *r = arg;
    if (r->loop && r->gai_error == 0) {
        r->done(r->arg, TAKE(r->result), NULL);
    } else if (r->loop) {
        struct error err = ERROR_INIT;
        error_set(&err, r->gai_error == EAI_NONAME ? ERR_NOT_FOUND : ERR_UNAVAILABLE, "cannot resolve %s: %s", r->host,
                  gai_strerror(r->gai_error));
        r->done(r->arg, NULL, &err);
    }
    resolve_release(r);
}

static void *look_up(void *arg) {
    struct resolve *r = arg;
    r->gai_error = lookup(r->host, r->port, AI_ADDRCONFIG, &r->result);
    pthread_mutex_lock(&lock);
    lookups--;
    if (r->loop)
        loop_post_full(r->loop, deliver, resolve_release, r);
    else
        resolve_release(r);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int start_thread(struct resolve *r) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int rc = pthread_create(&thread, &attr, look_up, r);
    pthread_attr_destroy(&attr);
    return rc;
}

struct resolve *resolve_start(struct loop *l, const char *host, uint16_t port,
                              void (*done)(void *arg, struct addrinfo *addresses, const struct error *err), void *arg,
                              struct error *err) {
    pthread_mutex_lock(&lock);
    bool room = lookups < MAX_LOOKUPS;
    lookups += room;
    pthread_mutex_unlock(&lock);
    if (!room) {
        error_set(err, ERR_UNAVAILABLE, "cannot resolve %s: %d look-ups are waiting for DNS already", host,
                  MAX_LOOKUPS);
        return NULL;
    }
    struct resolve *r = NEW(struct resolve);
    *r = (struct resolve){.loop = l, .host = xstrdup(host), .port = port, .done = done, .arg = arg};
    if (start_thread(r) == 0)
        return r;
    error_set(err, ERR_UNAVAILABLE, "cannot resolve %s: no thread for it", host);
    resolve_release(r);
    pthread_mutex_lock(&lock);
    lookups--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

void resolve_cancel(struct resolve *r) {
    if (!r)
        return;
    pthread_mutex_lock(&lock);
    r->loop = NULL; /* the thread frees it, or what it has sent to the loop already */
    pthread_mutex_unlock(&lock);
}
