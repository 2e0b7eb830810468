#include "cloud/options.h"

#include "base/log.h"
#include "base/str.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/kubeedge/config/cloudcore.yaml"

enum flag {
    FLAG_CONFIG = 256,
    FLAG_DEFAULTS,
    FLAG_MINIMUM,
    FLAG_VERSION,
    FLAG_HELP,
    FLAG_STANDALONE,
    FLAG_DATA_DIR,
    FLAG_API_ADDRESS,
    FLAG_API_PORT,
    FLAG_ADMIN_KUBECONFIG,
    FLAG_NODE_GRACE,
    FLAG_VERBOSE,
};

static const struct option flags[] = {
    {"config", required_argument, NULL, FLAG_CONFIG},
    {"defaultconfig", no_argument, NULL, FLAG_DEFAULTS},
    {"minconfig", no_argument, NULL, FLAG_MINIMUM},
    {"version", no_argument, NULL, FLAG_VERSION},
    {"help", no_argument, NULL, FLAG_HELP},
    {"standalone", no_argument, NULL, FLAG_STANDALONE},
    {"data-dir", required_argument, NULL, FLAG_DATA_DIR},
    {"apiserver-address", required_argument, NULL, FLAG_API_ADDRESS},
    {"apiserver-port", required_argument, NULL, FLAG_API_PORT},
    {"admin-kubeconfig", required_argument, NULL, FLAG_ADMIN_KUBECONFIG},
    {"node-monitor-grace-period", required_argument, NULL, FLAG_NODE_GRACE},
    {"verbose", no_argument, NULL, FLAG_VERBOSE},
    {NULL, 0, NULL, 0},
};

void cloud_options_help(void) {
    (void)fputs("cloudcore: the cloud side of an edge fleet.\n"
                "\n"
                "  --config FILE            configuration; default " DEFAULT_CONFIG ",\n"
                "                           with --standalone: built-in defaults\n"
                "  --defaultconfig          print a configuration with every key and its default\n"
                "  --minconfig              print the keys that are usually changed\n"
                "  --version                print the version\n"
                "  --help                   print this\n"
                "  --verbose                log every request\n"
                "\n"
                "  cloudcore backup [--data-dir DIR] FILE\n"
                "                           copies database and keys of --standalone, also while it runs\n"
                "  cloudcore restore [--data-dir DIR] FILE\n"
                "                           puts them back; not while it runs\n"
                "\n"
                "Without a Kubernetes cluster:\n"
                "  --standalone             also serve the Kubernetes API, from this process\n"
                "  --data-dir DIR           where its database and keys are; default /var/lib/selvage\n"
                "  --apiserver-address IP   where it listens; default 0.0.0.0\n"
                "  --apiserver-port PORT    default 6443\n"
                "  --admin-kubeconfig FILE  where to write the kubeconfig for kubectl;\n"
                "                           default DIR/admin.kubeconfig\n"
                "  --node-monitor-grace-period SECONDS\n"
                "                           a node that gives no sign of life for so long is not\n"
                "                           Ready; default 40\n",
                stdout);
}

static int set_port(struct cloud_options *o, const char *text, struct error *err) {
    int64_t port;
    if (parse_i64(bytes_str(text), 1, 65535, &port) < 0)
        return error_set(err, ERR_INVALID, "--apiserver-port: \"%s\" is not a port (1 to 65535)", text);
    o->apiserver_port = (uint16_t)port;
    return 0;
}

static int set_node_grace(struct cloud_options *o, const char *text, struct error *err) {
    int64_t seconds;
    if (parse_i64(bytes_str(text), 1, 86400, &seconds) < 0)
        return error_set(err, ERR_INVALID, "--node-monitor-grace-period: \"%s\" is no number of seconds (1 to 86400)",
                         text);
    o->node_grace_s = (int)seconds;
    return 0;
}

static int apply(struct cloud_options *o, int flag, const char *value, struct error *err) {
    switch (flag) {
    case FLAG_CONFIG:
        o->config = value;
        return 0;
    case FLAG_DEFAULTS:
        o->action = CLOUD_PRINT_DEFAULTS;
        return 0;
    case FLAG_MINIMUM:
        o->action = CLOUD_PRINT_MINIMUM;
        return 0;
    case FLAG_VERSION:
        o->action = CLOUD_PRINT_VERSION;
        return 0;
    case FLAG_HELP:
        o->action = CLOUD_PRINT_HELP;
        return 0;
    case FLAG_STANDALONE:
        o->standalone = true;
        return 0;
    case FLAG_DATA_DIR:
        o->data_dir = value;
        return 0;
    case FLAG_API_ADDRESS:
        o->apiserver_address = value;
        return 0;
    case FLAG_API_PORT:
        return set_port(o, value, err);
    case FLAG_ADMIN_KUBECONFIG:
        o->admin_kubeconfig = value;
        return 0;
    case FLAG_NODE_GRACE:
        return set_node_grace(o, value, err);
    case FLAG_VERBOSE:
        log_set_level(LOG_DEBUG);
        return 0;
    default:
        return -1;
    }
}

/* "backup FILE", "restore FILE" */
static int read_command(struct cloud_options *o, char **words, int n, struct error *err) {
    bool backup = strcmp(words[0], "backup") == 0;
    if (!backup && strcmp(words[0], "restore") != 0)
        return 0;
    if (n != 2)
        return error_set(err, ERR_INVALID, "%s needs one file: cloudcore %s --data-dir DIR FILE", words[0], words[0]);
    o->action = backup ? CLOUD_BACKUP : CLOUD_RESTORE;
    o->backup = words[1];
    return 0;
}

int cloud_options_parse(struct cloud_options *o, int argc, char **argv, struct error *err) {
    *o = (struct cloud_options){
        .data_dir = "/var/lib/selvage", .apiserver_address = "0.0.0.0", .apiserver_port = 6443, .node_grace_s = 40};
    opterr = 0;
    optind = 1;
    for (;;) {
        int at = optind;
        int flag = getopt_long(argc, argv, ":", flags, NULL);
        if (flag == -1)
            break;
        if (flag == '?')
            return error_set(err, ERR_INVALID, "unknown flag %s: see --help", argv[at]);
        if (flag == ':')
            return error_set(err, ERR_INVALID, "flag %s needs a value: see --help", argv[at]);
        if (apply(o, flag, optarg, err) < 0)
            return -1;
    }
    if (optind < argc && read_command(o, argv + optind, argc - optind, err) < 0)
        return -1;
    if (optind < argc && o->action != CLOUD_BACKUP && o->action != CLOUD_RESTORE)
        return error_set(err, ERR_INVALID, "unexpected argument %s: see --help", argv[optind]);
    if (!o->config && !o->standalone)
        o->config = DEFAULT_CONFIG;
    return 0;
}
