#define LOG_COMPONENT "eventbus"

#include "edge/eventbus/broker.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "edge/eventbus/mqtt_client.h"
#include "net/child.h"

#include <libgen.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONFIG_MAX 4096
#define STOP_MS 2000

struct broker {
    struct loop *loop;
    const struct edge_config *config;
    struct mqtt_address address;
    char *file;
    struct child *child;
    struct timer *again;
    struct backoff backoff;
    struct log_once missing;
};

/* Nobody but this machine reaches it, so it asks for no password; what it holds is told again, so it keeps nothing. */
static int write_config(struct broker *b, struct error *err) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(CONFIG_MAX);
    (void)buf_addf(&text,
                   "# Written by edgecore at each start.\n"
                   "listener %d %s\n"
                   "allow_anonymous true\n"
                   "persistence false\n"
                   "max_queued_messages %lld\n"
                   "max_packet_size %u\n"
                   "log_dest stderr\n"
                   "log_type error\n"
                   "log_type warning\n",
                   b->address.port, b->address.host, (long long)b->config->eventbus.session_queue,
                   MQTT_PAYLOAD_MAX + 4096);
    return file_write_atomic(b->file, buf_bytes(&text), 0644, err);
}

/* In /usr/sbin, which is not in everybody's PATH. */
static const char *program(void) {
    static const char *const places[] = {"/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return "mosquitto";
}

static void on_line(void *arg, struct bytes line) {
    (void)arg;
    log_info("mosquitto: %.*s", (int)line.len, line.ptr);
}

static void on_exit_of_child(void *arg, int status) {
    struct broker *b = arg;
    int64_t pause = backoff_next_ms(&b->backoff);
    log_warn("the internal MQTT broker has ended, starting it again status=%d after_ms=%lld",
             WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), (long long)pause);
    child_free(TAKE(b->child));
    timer_set(b->again, pause);
}

/* mosquitto gives up its privileges, and with them the kernel's promise to end it together with us: one that a killed
 * edgecore has left behind still has the port. */
static void end_orphan(const struct broker *b) {
    _cleanup_(buf_free) struct buf pid = BUF_INIT(32), command = BUF_INIT(CONFIG_MAX);
    _cleanup_(free_p) char *file = xasprintf("%s.pid", b->file);
    int64_t n;
    if (file_read(file, &pid, NULL) < 0 || parse_i64(bytes_trim(buf_bytes(&pid)), 2, INT32_MAX, &n) < 0)
        return;
    (void)unlink(file);
    _cleanup_(free_p) char *proc = xasprintf("/proc/%lld/cmdline", (long long)n);
    if (file_read(proc, &command, NULL) == 0 && memmem(command.ptr, command.len, b->file, strlen(b->file)))
        (void)kill((pid_t)n, SIGTERM);
}

static void remember_pid(const struct broker *b) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(32);
    _cleanup_(free_p) char *file = xasprintf("%s.pid", b->file);
    struct error err = ERROR_INIT;
    (void)buf_addf(&text, "%d\n", (int)child_pid(b->child));
    if (file_write_atomic(file, buf_bytes(&text), 0600, &err) < 0)
        log_warn("%s", error_text(&err));
}

static void start(void *arg) {
    struct broker *b = arg;
    struct error err = ERROR_INIT;
    const char *const argv[] = {program(), "-c", b->file, NULL};
    const struct child_options o = {
        .argv = argv, .line = on_line, .exited = on_exit_of_child, .arg = b, .die_with_parent = true};
    if (write_config(b, &err) == 0)
        b->child = child_start(b->loop, &o, &err);
    if (b->child) {
        remember_pid(b);
        log_once_recovered(&b->missing, LOG_COMPONENT, "the internal MQTT broker could be started");
        log_info("internal MQTT broker started pid=%d address=%s port=%d", (int)child_pid(b->child), b->address.host,
                 b->address.port);
        return;
    }
    if (err.code == ERR_NOT_FOUND)
        log_once_failed(&b->missing, LOG_COMPONENT,
                        "mosquitto is not installed: install the package mosquitto, or set modules.eventBus.mqttMode "
                        "to 2 for a broker of your own");
    else
        log_once_failed(&b->missing, LOG_COMPONENT, "the internal MQTT broker cannot be started: %s", error_text(&err));
    timer_set(b->again, backoff_next_ms(&b->backoff));
}

struct broker *broker_start(struct loop *l, const struct edge_config *c, struct error *err) {
    struct broker *b = NEW(struct broker);
    _cleanup_(free_p) char *folder = xstrdup(c->database);
    b->loop = l;
    b->config = c;
    b->backoff = BACKOFF(500, 10000);
    b->again = timer_new(l, start, b);
    b->file = xasprintf("%s/mosquitto.conf", dirname(folder));
    if (mqtt_address_parse(c->eventbus.internal_url, &b->address, err) < 0 || b->address.port == 0 || b->address.tls) {
        (void)error_set(err, ERR_INVALID, "modules.eventBus.mqttServerInternal: \"%s\" must be tcp://address:port",
                        c->eventbus.internal_url);
        broker_stop(b);
        return NULL;
    }
    end_orphan(b);
    start(b);
    return b;
}

void broker_stop(struct broker *b) {
    if (!b)
        return;
    if (b->child)
        child_free(b->child);
    timer_free(b->again);
    free(b->address.host);
    free(b->file);
    free(b);
}
