/* The node's own figures, from /proc. Blocks: task pool only. */
#include "base/file.h"
#include "base/str.h"
#include "edge/edged/node_facts.h"
#include "edge/edged/stats_collect.h"

#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TEXT_MAX (1u << 20)

int64_t proc_stat_busy_ticks(struct bytes stat) {
    struct bytes line, fields[16];
    if (!bytes_cut(stat, '\n', &line, NULL) || !bytes_starts_with(line, "cpu "))
        return -1;
    line = bytes_trim(bytes_of(line.ptr + 4, line.len - 4));
    size_t n = bytes_split(line, ' ', fields, ARRAY_LEN(fields));
    int64_t sum = 0, v;
    for (size_t i = 0; i < n && i < 8; i++) { /* user nice system idle iowait irq softirq steal; guests are in user */
        if (parse_i64(fields[i], 0, INT64_MAX / 16, &v) < 0)
            return -1;
        if (i != 3 && i != 4)
            sum += v;
    }
    return sum;
}

bool net_dev_bytes(struct bytes net_dev, const char *interface, int64_t *rx, int64_t *tx) {
    struct bytes line, name, rest;
    while (bytes_cut(net_dev, '\n', &line, &net_dev)) {
        if (!bytes_cut(line, ':', &name, &rest) || !bytes_eq_str(bytes_trim(name), interface))
            continue;
        int64_t values[9];
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            rest = bytes_trim(rest);
            struct bytes word = rest, after = BYTES_EMPTY;
            (void)bytes_cut(rest, ' ', &word, &after);
            rest = after;
            if (parse_i64(word, 0, INT64_MAX, &values[i]) < 0)
                return false;
        }
        *rx = values[0];
        *tx = values[8];
        return true;
    }
    return false;
}

static int64_t boot_time(struct bytes stat) {
    struct bytes line;
    int64_t s;
    while (bytes_cut(stat, '\n', &line, &stat))
        if (bytes_starts_with(line, "btime ") && parse_i64(bytes_of(line.ptr + 6, line.len - 6), 0, INT64_MAX, &s) == 0)
            return s;
    return 0;
}

static void read_memory(struct node_stats *n) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(TEXT_MAX);
    if (file_read("/proc/meminfo", &text, NULL) < 0)
        return;
    struct bytes m = buf_bytes(&text);
    int64_t total = meminfo_field(m, "MemTotal"), idle = meminfo_field(m, "Inactive(file)");
    n->use.usage = total - meminfo_field(m, "MemFree");
    n->use.working_set = n->use.usage > idle ? n->use.usage - idle : 0;
    n->use.rss = meminfo_field(m, "AnonPages");
    n->memory_available = total - n->use.working_set;
}

void node_use_read(struct node_stats *n) {
    _cleanup_(buf_free) struct buf stat = BUF_INIT(TEXT_MAX), route = BUF_INIT(TEXT_MAX), dev = BUF_INIT(TEXT_MAX);
    n->use = (struct cpu_memory){.cpu_ns = -1, .usage = -1, .working_set = -1, .rss = -1};
    if (file_read("/proc/stat", &stat, NULL) == 0) {
        int64_t ticks = proc_stat_busy_ticks(buf_bytes(&stat)), hz = sysconf(_SC_CLK_TCK);
        if (ticks >= 0 && hz > 0)
            n->use.cpu_ns = ticks * (1000000000 / hz);
        n->booted_s = boot_time(buf_bytes(&stat));
    }
    read_memory(n);
    n->interface[0] = '\0';
    if (file_read("/proc/net/route", &route, NULL) == 0 && file_read("/proc/net/dev", &dev, NULL) == 0 &&
        (!default_route_interface(buf_bytes(&route), n->interface, sizeof(n->interface)) ||
         !net_dev_bytes(buf_bytes(&dev), n->interface, &n->rx_bytes, &n->tx_bytes)))
        n->interface[0] = '\0';
}

void fs_usage_read(const char *path, struct fs_usage *out) {
    struct statvfs st;
    *out = (struct fs_usage){.used = -1};
    if (statvfs(path, &st) < 0)
        return;
    out->capacity = (int64_t)(st.f_blocks * st.f_frsize);
    out->available = (int64_t)(st.f_bavail * st.f_frsize);
    out->used = (int64_t)((st.f_blocks - st.f_bfree) * st.f_frsize);
    out->inodes = (int64_t)st.f_files;
    out->inodes_free = (int64_t)st.f_favail;
}
