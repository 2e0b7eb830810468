/* What this machine is and has, read from /proc, /sys and /etc. Blocks briefly (statvfs): on the task pool. */
#pragma once

#include "base/error.h"
#include "edge/edge_config.h"

#include <stdint.h>

#define NODE_HUGEPAGE_SIZES 4

struct node_facts {
    char machine_id[64], system_uuid[64], boot_id[64];
    char kernel[128], os_image[128];
    const char *architecture; /* as Go names it: "amd64" */
    char ip[64];              /* "" if none was found */
    int64_t cpus;
    int64_t memory, memory_available; /* bytes */
    int64_t disk, disk_available;     /* bytes, of the root directory's filesystem */
    int64_t inodes, inodes_free;      /* 0: the filesystem does not count them */
    int64_t pids_max, pids_running;   /* 0: unknown */
    struct {
        int64_t size_kib, pages;
    } hugepages[NODE_HUGEPAGE_SIZES];
    size_t n_hugepages;
    bool cgroup_v2;
};

void node_facts_read(const struct edged_config *c, struct node_facts *out);
/* Only what changes by itself: memory, disk, inodes, processes. */
void node_amounts_read(const struct edged_config *c, struct node_facts *out);

/* Parts, for tests. */
int64_t meminfo_field(struct bytes meminfo, const char *name); /* in bytes; 0 if absent */
void os_release_name(struct bytes os_release, char *out, size_t size);
/* The interface of the default route in the text of /proc/net/route; false if there is none. */
bool default_route_interface(struct bytes route, char *out, size_t size);
