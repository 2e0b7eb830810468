#include "net/metrics.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

struct metric {
    struct metric *next; /* those of one name stand together */
    enum metric_kind kind;
    const char *name, *help;
    char *labels; /* or NULL */
    _Atomic int64_t value;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list, not the values */
static struct metric *metrics;

struct metric *metric_get(enum metric_kind kind, const char *name, const char *help, const char *labels) {
    pthread_mutex_lock(&lock);
    struct metric **at = &metrics, **after_name = NULL;
    for (; *at; at = &(*at)->next) {
        if (!str_eq((*at)->name, name))
            continue;
        if (str_eq((*at)->labels, labels))
            break;
        after_name = &(*at)->next;
    }
    struct metric *m = *at;
    if (!m) {
        m = NEW(struct metric);
        m->kind = kind;
        m->name = name;
        m->help = help;
        m->labels = xstrdup_null(labels);
        if (after_name)
            at = after_name;
        m->next = *at;
        *at = m;
    }
    pthread_mutex_unlock(&lock);
    return m;
}

void metric_add(struct metric *m, int64_t n) {
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

void metric_set(struct metric *m, int64_t v) {
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}

int64_t metric_value(const struct metric *m) {
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* ---- the process's own ---- */

static int64_t resident_bytes(void) {
    int64_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*d %" SCNd64, &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static int64_t open_files(void) {
    int64_t n = -3; /* ".", ".." and the folder itself */
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n < 0 ? 0 : n;
}

static double start_time(void) {
    static double at; /* first asked for soon after the start; clock steps later on do not move it */
    if (at > 0)
        return at;
    unsigned long long ticks = 0;
    FILE *f = fopen("/proc/self/stat", "re");
    /* Our name stands in parentheses, and has no others in it. */
    if (!f || fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                     &ticks) != 1)
        ticks = 0;
    if (f)
        fclose(f);
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    double up = (double)boot.tv_sec + (double)boot.tv_nsec / 1e9;
    at = (double)clock_wall_ms() / 1e3 - up + (double)ticks / (double)sysconf(_SC_CLK_TCK);
    return at;
}

static int write_process(struct buf *out) {
    struct rusage u = {0};
    getrusage(RUSAGE_SELF, &u);
    double cpu =
        (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    return buf_addf(out,
                    "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
                    "# TYPE process_resident_memory_bytes gauge\n"
                    "process_resident_memory_bytes %" PRId64 "\n"
                    "# HELP process_cpu_seconds_total User and system CPU time spent in seconds.\n"
                    "# TYPE process_cpu_seconds_total counter\n"
                    "process_cpu_seconds_total %.6f\n"
                    "# HELP process_open_fds Number of open file descriptors.\n"
                    "# TYPE process_open_fds gauge\n"
                    "process_open_fds %" PRId64 "\n"
                    "# HELP process_start_time_seconds Start time of the process since the Unix epoch in seconds.\n"
                    "# TYPE process_start_time_seconds gauge\n"
                    "process_start_time_seconds %.2f\n"
                    "# HELP selvage_build_info Version of this program.\n"
                    "# TYPE selvage_build_info gauge\n"
                    "selvage_build_info{version=\"%s\"} 1\n",
                    resident_bytes(), cpu, open_files(), start_time(), SELVAGE_VERSION);
}

int metrics_write(struct buf *out) {
    pthread_mutex_lock(&lock);
    const char *last = NULL;
    for (const struct metric *m = metrics; m; m = m->next) {
        if (!str_eq(last, m->name))
            buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
                     m->kind == METRIC_COUNTER ? "counter" : "gauge");
        last = m->name;
        buf_addf(out, "%s%s%s%s %" PRId64 "\n", m->name, m->labels ? "{" : "", m->labels ? m->labels : "",
                 m->labels ? "}" : "", metric_value(m));
    }
    pthread_mutex_unlock(&lock);
    write_process(out);
    return out->overflowed ? -1 : 0;
}
