/* One measurement of everything, and how it is written. The writing is pure. */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpu_memory {
    int64_t cpu_ns;                  /* used since the start */
    int64_t cpu_rate;                /* billionths of a core, over the last interval; -1: not known yet */
    int64_t usage, working_set, rss; /* bytes; -1: not known */
};

struct fs_usage {
    int64_t capacity, available, inodes, inodes_free; /* 0: not known */
    int64_t used;                                     /* of this user of it; -1: not known */
};

struct container_stats {
    char *name, *id;
    int64_t started_s;
    struct cpu_memory use;
    int64_t layer, logs; /* bytes on disk */
};

struct pod_stats {
    char *uid, *ns, *name;
    int64_t started_s;
    struct cpu_memory use;
    int64_t disk; /* bytes: writable layers, logs, emptyDirs */
    int64_t pids;
    struct container_stats *containers;
    size_t n_containers;
};

struct node_stats {
    const char *name;
    int64_t now_ns, booted_s; /* wall clock */
    struct cpu_memory use;
    int64_t memory_available;
    int64_t pids, pids_max;
    int64_t rx_bytes, tx_bytes; /* of the interface */
    char interface[32];         /* of the default route; "" none */
    struct fs_usage fs, image_fs;
    struct pod_stats *pods;
    size_t n_pods;
};

/* stats_read.c: blocks, task pool only. */
void node_use_read(struct node_stats *n);
void fs_usage_read(const char *path, struct fs_usage *out);
/* Parts, for tests: ticks in which a processor was busy (-1: unreadable); the counters of an interface. */
int64_t proc_stat_busy_ticks(struct bytes stat);
bool net_dev_bytes(struct bytes net_dev, const char *interface, int64_t *rx, int64_t *tx);

/* stats_write.c */
void stats_write_summary(const struct node_stats *n, bool cpu_only, struct buf *out);
void stats_write_resource(const struct node_stats *n, struct buf *out);
