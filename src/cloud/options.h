/* The command line of cloudcore. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum cloud_action {
    CLOUD_RUN,
    CLOUD_PRINT_HELP,
    CLOUD_PRINT_VERSION,
    CLOUD_PRINT_DEFAULTS,
    CLOUD_PRINT_MINIMUM,
    CLOUD_BACKUP,
    CLOUD_RESTORE
};

struct cloud_options {
    enum cloud_action action;
    const char *config; /* NULL: defaults (standalone only) */
    const char *backup; /* the file of CLOUD_BACKUP and CLOUD_RESTORE */
    bool standalone;
    const char *data_dir;
    const char *apiserver_address;
    uint16_t apiserver_port;
    const char *admin_kubeconfig; /* NULL: in the data folder */
    int node_grace_s;             /* a node without a sign of life for so long is not Ready */
};

/* Strings are those of argv. ERR_INVALID names the flag. */
int cloud_options_parse(struct cloud_options *o, int argc, char **argv, struct error *err) MUST_CHECK;
void cloud_options_help(void);
