/* What volumes.c plans and volume_fs.c makes. */
#pragma once

#include "edge/edged/volumes.h"

enum plan_kind { PLAN_DIR, PLAN_TMPFS, PLAN_HOST_PATH, PLAN_FILES };

struct planned_volume {
    char *name, *path;
    enum plan_kind kind;
    char *host_type;    /* PLAN_HOST_PATH */
    int64_t size_limit; /* PLAN_TMPFS; 0: the kernel's default */
    bool in_memory;     /* PLAN_FILES: on a tmpfs */
    struct volume_file *files;
    size_t n_files;
};

struct volume_plan {
    char *pod_dir;
    int64_t fs_group; /* -1: none */
    int64_t renew_at;
    struct planned_volume *volumes;
    size_t count;
};
