/* edgecore: one process per edge node. */
#define LOG_COMPONENT "edgecore"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "edge/bus.h"
#include "edge/devicetwin/devicetwin.h"
#include "edge/dmi/dmi.h"
#include "edge/edge_config.h"
#include "edge/edged/edged.h"
#include "edge/edgehub/edgehub.h"
#include "edge/edgestream/edgestream.h"
#include "edge/eventbus/eventbus.h"
#include "edge/metamanager/metamanager.h"
#include "edge/monitor.h"
#include "edge/settle.h"
#include "net/loop.h"
#include "net/pool.h"

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POOL_THREADS 2
#define SETTLE_MS 3000 /* start-up is over: what it needed can go */
#define STOP_POLL_MS 5
#define STOP_TIMEOUT_MS 5000
#define PRINT_MAX (1u << 20)

enum { EXIT_USAGE = 2 };

struct edgecore {
    struct loop *loop;
    struct pool *pool;
    struct bus *bus;
    struct edge_config config;
    struct metamanager *metamanager;
    struct edged *edged;
    struct edgehub *edgehub;
    struct devicetwin *devicetwin;
    struct dmi *dmi;
    struct eventbus *eventbus;
    struct edgestream *edgestream;
    struct monitor *monitor;
    struct timer *stopping, *settling;
    int64_t stop_waited_ms;
};

/* ---- components ---- */

static bool metamanager_wanted(const struct edgecore *e) {
    return e->config.meta.enable;
}
static int metamanager_make(struct edgecore *e, struct error *err) {
    e->metamanager = metamanager_new(e->loop, e->pool, e->bus, &e->config, err);
    return e->metamanager ? metamanager_start(e->metamanager, err) : -1;
}
static void metamanager_end(struct edgecore *e) {
    metamanager_stop(e->metamanager);
}
static void metamanager_drop(struct edgecore *e) {
    metamanager_free(e->metamanager);
}

static bool edged_wanted(const struct edgecore *e) {
    return e->config.edged.enable;
}
static int edged_make(struct edgecore *e, struct error *err) {
    e->edged = edged_new(e->loop, e->pool, e->bus, &e->config, err);
    return e->edged ? edged_start(e->edged, err) : -1;
}
static void edged_end(struct edgecore *e) {
    edged_stop(e->edged);
}
static void edged_drop(struct edgecore *e) {
    edged_free(e->edged);
}

static bool devicetwin_wanted(const struct edgecore *e) {
    return e->config.devicetwin.enable && e->config.meta.enable;
}
static int devicetwin_make(struct edgecore *e, struct error *err) {
    e->devicetwin = devicetwin_new(e->loop, e->bus, &e->config);
    devicetwin_start(e->devicetwin);
    return 0;
}
static void devicetwin_end(struct edgecore *e) {
    devicetwin_stop(e->devicetwin);
}
static void devicetwin_drop(struct edgecore *e) {
    devicetwin_free(e->devicetwin);
}

static int dmi_make(struct edgecore *e, struct error *err) {
    e->dmi = dmi_new(e->loop, e->bus, &e->config);
    return dmi_start(e->dmi, err);
}
static void dmi_end(struct edgecore *e) {
    dmi_stop(e->dmi);
}
static void dmi_drop(struct edgecore *e) {
    dmi_free(e->dmi);
}

static bool eventbus_wanted(const struct edgecore *e) {
    return e->config.eventbus.enable;
}
static int eventbus_make(struct edgecore *e, struct error *err) {
    e->eventbus = eventbus_new(e->loop, e->bus, &e->config, err);
    if (e->eventbus)
        eventbus_start(e->eventbus);
    return e->eventbus ? 0 : -1;
}
static void eventbus_end(struct edgecore *e) {
    eventbus_stop(e->eventbus);
}
static void eventbus_drop(struct edgecore *e) {
    eventbus_free(e->eventbus);
}

static bool edgehub_wanted(const struct edgecore *e) {
    return e->config.hub.enable;
}
static int edgehub_make(struct edgecore *e, struct error *err) {
    e->edgehub = edgehub_new(e->loop, e->bus, &e->config, err);
    return e->edgehub ? edgehub_start(e->edgehub, err) : -1;
}
static void edgehub_end(struct edgecore *e) {
    edgehub_stop(e->edgehub);
}
static void edgehub_drop(struct edgecore *e) {
    edgehub_free(e->edgehub);
}

static const char *not_ready(void *arg) {
    const struct edgecore *e = arg;
    if (e->stopping)
        return "edgecore is stopping";
    if (e->metamanager && !metamanager_storing(e->metamanager))
        return "the edge database cannot be written to";
    return e->edged ? edged_not_ready(e->edged) : NULL;
}

static bool monitor_wanted(const struct edgecore *e) {
    return e->config.edged.read_only_port > 0;
}
static int monitor_make(struct edgecore *e, struct error *err) {
    e->monitor = monitor_new(e->loop, &e->config.edged, e->edged ? edged_stats(e->edged) : NULL, not_ready, e);
    return 0;
}
static void monitor_end(struct edgecore *e) {
    monitor_free(TAKE(e->monitor));
}
static void monitor_drop(struct edgecore *e) {
    monitor_free(e->monitor);
}

/* It carries requests to Edged, with EdgeHub's certificate. */
static bool edgestream_wanted(const struct edgecore *e) {
    return e->config.stream.enable && e->config.edged.enable && e->config.hub.enable;
}
static int edgestream_make(struct edgecore *e, struct error *err) {
    struct kubelet kubelet = edged_kubelet(e->edged);
    e->edgestream = edgestream_new(e->loop, &e->config, &kubelet);
    edgehub_on_tls(e->edgehub, edgestream_set_tls, e->edgestream);
    return 0;
}
static void edgestream_end(struct edgecore *e) {
    edgestream_stop(e->edgestream);
}
static void edgestream_drop(struct edgecore *e) {
    edgestream_free(e->edgestream);
}

/* In start order; stopped in the reverse one. */
static const struct component {
    const char *name;
    bool (*wanted)(const struct edgecore *e);
    int (*make)(struct edgecore *e, struct error *err);
    void (*end)(struct edgecore *e);
    void (*drop)(struct edgecore *e);
} COMPONENTS[] = {
    {"metamanager", metamanager_wanted, metamanager_make, metamanager_end, metamanager_drop},
    {"edged", edged_wanted, edged_make, edged_end, edged_drop},
    {"devicetwin", devicetwin_wanted, devicetwin_make, devicetwin_end, devicetwin_drop},
    {"dmi", devicetwin_wanted, dmi_make, dmi_end, dmi_drop},
    {"eventbus", eventbus_wanted, eventbus_make, eventbus_end, eventbus_drop},
    {"edgehub", edgehub_wanted, edgehub_make, edgehub_end, edgehub_drop},
    {"edgestream", edgestream_wanted, edgestream_make, edgestream_end, edgestream_drop},
    {"monitor", monitor_wanted, monitor_make, monitor_end, monitor_drop},
};

static int start_components(struct edgecore *e, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(COMPONENTS); i++)
        if (COMPONENTS[i].wanted(e) && COMPONENTS[i].make(e, err) < 0)
            return -1;
    return 0;
}

/* ---- stopping: containers are left running ---- */

static void wait_until_stored(void *arg) {
    struct edgecore *e = arg;
    e->stop_waited_ms += STOP_POLL_MS;
    if (!e->metamanager || metamanager_idle(e->metamanager) || e->stop_waited_ms > STOP_TIMEOUT_MS)
        loop_stop(e->loop);
}

static void on_signal(void *arg, int signo) {
    struct edgecore *e = arg;
    if (e->stopping)
        return;
    log_info("stopping; containers go on running signal=%s", strsignal(signo));
    for (size_t i = ARRAY_LEN(COMPONENTS); i > 0; i--)
        if (COMPONENTS[i - 1].wanted(e))
            COMPONENTS[i - 1].end(e);
    e->stopping = timer_new(e->loop, wait_until_stored, e);
    timer_every(e->stopping, STOP_POLL_MS);
}

static void drop_all(struct edgecore *e) {
    pool_free(e->pool); /* first: nothing works on what the components own any more */
    for (size_t i = ARRAY_LEN(COMPONENTS); i > 0; i--)
        COMPONENTS[i - 1].drop(e);
    timer_free(e->stopping);
    timer_free(e->settling);
    bus_free(e->bus);
    loop_free(e->loop);
    edge_config_free(&e->config);
}

/* ---- start ---- */

/* Under memory pressure the kernel should take a container, not the process that restarts them. */
static void set_oom_score(int64_t score) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || dprintf(fd, "%lld", (long long)score) < 0)
        log_debug("the OOM score could not be set");
    if (fd >= 0)
        close(fd);
}

/* One arena, and memory given back: the process idles most of its life. */
static void keep_memory_small(void) {
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, 64 * 1024);
    mallopt(M_MMAP_THRESHOLD, 64 * 1024);
}

static void settle(void *arg) {
    settle_memory();
}

static int run(const char *config_path) {
    struct edgecore e = {0};
    struct error err = ERROR_INIT;
    keep_memory_small();
    (void)signal(SIGPIPE, SIG_IGN);
    if (edge_config_load(&e.config, config_path, &err) < 0) {
        log_error("%s", error_text(&err));
        edge_config_free(&e.config);
        return EXIT_FAILURE;
    }
    log_info("edgecore starts version=" SELVAGE_VERSION " node=%s", e.config.edged.node_name);
    set_oom_score(e.config.edged.oom_score_adj);
    e.loop = loop_new();
    e.pool = pool_new(POOL_THREADS, "edge-pool");
    e.bus = bus_new(e.loop);
    loop_on_signal(e.loop, SIGTERM, on_signal, &e);
    loop_on_signal(e.loop, SIGINT, on_signal, &e);
    e.settling = timer_new(e.loop, settle, NULL);
    timer_set(e.settling, SETTLE_MS);
    int rc = start_components(&e, &err);
    if (rc == 0)
        loop_run(e.loop);
    drop_all(&e);
    if (rc < 0)
        log_error("%s", error_text(&err));
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_config(bool minimal) {
    struct edge_config c = {0};
    struct error err = ERROR_INIT;
    _cleanup_(buf_free) struct buf text = BUF_INIT(PRINT_MAX);
    int rc = edge_config_defaults(&c, &err) < 0 || edge_config_print(&c, minimal, &text) < 0 ? -1 : 0;
    if (rc == 0)
        (void)fwrite(text.ptr, 1, text.len, stdout);
    else
        log_error("%s", error_text(&err));
    edge_config_free(&c);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static const char HELP[] = "edgecore runs the pods of one edge node and keeps it connected to a KubeEdge cloudcore.\n"
                           "\n"
                           "Usage: edgecore [flags]\n"
                           "\n"
                           "  --config FILE       configuration (default " EDGE_CONFIG_DEFAULT_PATH ")\n"
                           "  --defaultconfig     print all settings with their defaults, and exit\n"
                           "  --minconfig         print the settings that are usually changed, and exit\n"
                           "  --log-level LEVEL   error, warn, info (default) or debug\n"
                           "  --version           print the version, and exit\n"
                           "  --help              print this, and exit\n"
                           "\n"
                           "A join token in " EDGE_BOOTSTRAP_FILE " is used before the one in the configuration.\n";

static bool set_log_level(const char *name) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            log_set_level((enum log_level)i);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    enum { CONFIG = 1, DEFAULT, MINIMAL, LEVEL, VERSION, HELP_FLAG };
    static const struct option flags[] = {
        {"config", required_argument, NULL, CONFIG},
        {"defaultconfig", no_argument, NULL, DEFAULT},
        {"minconfig", no_argument, NULL, MINIMAL},
        {"log-level", required_argument, NULL, LEVEL},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP_FLAG},
        {NULL, 0, NULL, 0},
    };
    const char *config = EDGE_CONFIG_DEFAULT_PATH;
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case CONFIG:
            config = optarg;
            break;
        case DEFAULT:
        case MINIMAL:
            return print_config(flag == MINIMAL);
        case LEVEL:
            if (set_log_level(optarg))
                break;
            (void)fprintf(stderr, "edgecore: --log-level is %s: it must be error, warn, info or debug\n", optarg);
            return EXIT_USAGE;
        case VERSION:
            (void)puts("edgecore " SELVAGE_VERSION " (KubeEdge 1.23)");
            return EXIT_SUCCESS;
        case HELP_FLAG:
            (void)fputs(HELP, stdout);
            return EXIT_SUCCESS;
        default:
            (void)fputs("edgecore: see edgecore --help\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "edgecore: unexpected argument %s; see edgecore --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return run(config);
}
