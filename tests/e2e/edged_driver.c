/* Edged alone on a bus, for tests/e2e/test_edged.py: the messages that it sends to MetaManager come out as lines of
 * standard output, and lines of standard input are given to it: answers by their parent id, all else as MetaManager
 * would pass it on. The pseudo resource "driver/connected" with content true or false sets the connection's state. */
#include "base/log.h"
#include "base/mem.h"
#include "edge/edged/edged.h"
#include "net/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct driver {
    struct loop *loop;
    struct bus *bus;
    struct buf in;
};

static void on_request(void *arg, struct message *m) {
    struct buf line = BUF_INIT(MESSAGE_MAX);
    message_encode(m, &line);
    for (size_t off = 0; off < line.len;) {
        ssize_t n = write(STDOUT_FILENO, line.ptr + off, line.len - off);
        if (n < 0 && errno != EINTR)
            break;
        off += n > 0 ? (size_t)n : 0;
    }
    buf_free(&line);
    message_free(m);
}

static void on_line(struct driver *d, struct bytes line) {
    struct message *m = NULL;
    struct error err = ERROR_INIT;
    if (message_decode(line, &m, &err) < 0) {
        log_error("driver: %s", err.msg);
        return;
    }
    if (str_eq(m->resource, "driver/connected")) {
        bus_publish_connected(d->bus, yyjson_is_true(m->content));
        message_free(m);
    } else if (str_empty(m->parent_id)) {
        bus_send(d->bus, MODULE_EDGED, m);
    } else if (!bus_reply(d->bus, m)) {
        message_free(m);
    }
}

static void on_input(void *arg, unsigned what) {
    struct driver *d = arg;
    char *room = buf_reserve(&d->in, 65536);
    ssize_t n = room ? read(STDIN_FILENO, room, 65536) : -1;
    if (n <= 0) {
        loop_stop(d->loop);
        return;
    }
    buf_commit(&d->in, (size_t)n);
    const char *nl;
    while ((nl = memchr(d->in.ptr, '\n', d->in.len)) != NULL) {
        size_t len = (size_t)(nl - d->in.ptr) + 1;
        on_line(d, bytes_of(d->in.ptr, len));
        buf_drop_front(&d->in, len);
    }
}

static void on_signal(void *arg, int signo) {
    loop_stop(((struct driver *)arg)->loop);
}

int main(int argc, char **argv) {
    struct edge_config config = {0};
    struct error err = ERROR_INIT;
    if (argc != 2 || edge_config_load(&config, argv[1], &err) < 0) {
        fprintf(stderr, "edged_driver: %s\n", error_text(&err));
        return 1;
    }
    struct driver d = {.loop = loop_new(), .in = BUF_INIT(MESSAGE_MAX)};
    struct pool *pool = pool_new(2, "edged");
    d.bus = bus_new(d.loop);
    bus_register(d.bus, MODULE_METAMANAGER, on_request, &d);
    struct edged *edged = edged_new(d.loop, pool, d.bus, &config, &err);
    if (!edged || edged_start(edged, &err) < 0) {
        fprintf(stderr, "edged_driver: %s\n", error_text(&err));
        return 1;
    }
    struct fdwatch *input = fdwatch_new(d.loop, STDIN_FILENO, FD_READ, on_input, &d);
    loop_on_signal(d.loop, SIGTERM, on_signal, &d);
    loop_run(d.loop);
    edged_stop(edged);
    pool_free(pool);
    fdwatch_free(input);
    edged_free(edged);
    bus_free(d.bus);
    loop_free(d.loop);
    buf_free(&d.in);
    edge_config_free(&config);
    return 0;
}
