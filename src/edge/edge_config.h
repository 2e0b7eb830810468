/* edgecore.yaml (KubeEdge's edgecore.config.kubeedge.io/v1alpha2) as a struct. Filled once at start, then read-only:
 * every component may keep a pointer to it until exit. */
#pragma once

#include "base/config.h"

/* modules.edged and its tailoredKubeletConfig. Durations are milliseconds; strings are "" or NULL where unset (use
 * str_empty / str_or). */
struct edged_config {
    bool enable;
    bool report_event;
    char *node_namespace;      /* registerNodeNamespace: namespace part of the start-up pod query */
    char *interface_name;      /* customInterfaceName: take nodeIP from this interface */
    char *node_name;           /* hostnameOverride; the host name where unset, always set after edge_config_load */
    char *node_ip;             /* nodeIP, may be unset */
    char *root_directory;      /* rootDirectory: volumes, as the kubelet lays them out */
    struct strlist labels;     /* nodeLabels, key=value */
    bool register_node;        /* registerNode */
    bool register_schedulable; /* registerSchedulable */
    char *register_taints;     /* registerWithTaints: JSON array, NULL if unset */
    int64_t gc_min_age_ms;     /* minimumGCAge: dead containers younger than this are kept */
    int64_t gc_per_container;  /* maxPerPodContainerCount: dead instances kept of each container */
    int64_t gc_total;          /* maxContainerCount: in total, -1 unlimited */
    char *sandbox_image;       /* podSandboxImage: no effect, the runtime decides */

    char *static_pod_path;   /* staticPodPath */
    char *pod_logs_dir;      /* podLogsDir */
    char *read_only_address; /* address of the read-only server */
    int64_t read_only_port;
    int64_t sync_frequency_ms, file_check_frequency_ms;
    int64_t registry_pull_qps, registry_burst;
    bool serialize_image_pulls;
    int64_t max_parallel_image_pulls; /* 0: unset */
    int64_t oom_score_adj;            /* of edgecore */
    char *cluster_domain;
    struct strlist cluster_dns;
    char *resolv_conf;
    int64_t status_update_ms, status_report_ms; /* nodeStatusUpdateFrequency, nodeStatusReportFrequency */
    int64_t lease_duration_s;                   /* nodeLeaseDurationSeconds */
    int64_t image_gc_min_age_ms, image_gc_max_age_ms, image_gc_high_percent, image_gc_low_percent;
    char *cgroup_root, *cgroup_driver; /* the runtime's own answer wins over cgroup_driver */
    bool cgroups_per_qos;
    bool cpu_cfs_quota;
    int64_t cpu_cfs_quota_period_ms;
    int64_t runtime_request_timeout_ms;
    int64_t max_pods, pods_per_core, pod_pids_limit;
    char *pod_cidr;
    int64_t status_max_images;
    struct strlist eviction_hard, eviction_soft; /* "memory.available=100Mi", "nodefs.available=10%" */
    struct strlist eviction_soft_grace;          /* "memory.available=1m30s" */
    struct strlist eviction_min_reclaim;         /* "nodefs.available=500Mi" */
    int64_t eviction_transition_ms;              /* evictionPressureTransitionPeriod */
    int64_t eviction_max_grace_s;                /* evictionMaxPodGracePeriod, of soft evictions */
    struct strlist system_reserved, kube_reserved;
    bool controller_attach_detach; /* enableControllerAttachDetach */
    bool fail_cgroup_v1;
    char *log_max_size; /* containerLogMaxSize, a quantity */
    int64_t log_max_files;
    int64_t log_monitor_ms;
    struct strlist allowed_unsafe_sysctls;
    bool seccomp_default;
    int64_t shutdown_grace_ms, shutdown_grace_critical_ms;
    char *runtime_endpoint, *image_endpoint; /* "unix:///run/containerd/containerd.sock" */
};

struct edgehub_config {
    bool enable;
    int64_t heartbeat_s;
    char *project_id;
    char *ca_file, *cert_file, *key_file;
    bool websocket, quic;
    int64_t handshake_timeout_s, read_deadline_s, write_deadline_s;
    char *server;      /* websocket.server: host:port */
    char *token;       /* join token; NULL where unset */
    char *http_server; /* https://host:10002 */
    bool rotate_certificates;
};

struct metamanager_config {
    bool enable;
    int64_t remote_query_timeout_s;
};

struct eventbus_config {
    bool enable;
    int64_t mode; /* mqttMode: 0 internal broker, 1 both, 2 external */
    char *external_url, *internal_url;
    int64_t qos; /* of what is published into the internal broker */
    bool retain;
    int64_t session_queue; /* mqttSessionQueueSize */
    char *client_id;       /* mqttSubClientID: one connection serves both ways */
    char *user, *password;
    bool tls_enable;
    char *tls_ca_file, *tls_cert_file, *tls_key_file;
};

struct devicetwin_config {
    bool enable;
    char *dmi_socket; /* dmiSockPath; see dmi_socket_path */
};

struct edgestream_config {
    bool enable;
    int64_t handshake_timeout_s;
    char *server; /* host:port; where unset: EdgeHub's host, port 10004 */
};

struct edge_config {
    char *path;                   /* the file it came from */
    char *database;               /* database.dataSource */
    struct strlist feature_gates; /* known, none has an effect yet */
    char *token_file; /* where the token was found if not in the file itself: bootstrap-edgecore.conf; else NULL */
    struct edgehub_config hub;
    struct edged_config edged;
    struct metamanager_config meta;
    struct eventbus_config eventbus;
    struct devicetwin_config devicetwin;
    struct edgestream_config stream;
};

#define EDGE_CONFIG_DEFAULT_PATH "/etc/kubeedge/config/edgecore.yaml"
#define EDGE_BOOTSTRAP_FILE "/etc/kubeedge/bootstrap-edgecore.conf"

/* Defaults, then the file, then what comes from the host (node name), the bootstrap file and the checks between keys.
 * Messages name file, line and key. */
int edge_config_load(struct edge_config *c, const char *path, struct error *err) MUST_CHECK;
/* The same with another bootstrap file: for tests. */
int edge_config_load_from(struct edge_config *c, const char *path, const char *bootstrap, struct error *err) MUST_CHECK;
/* Defaults only, as --defaultconfig and --minconfig print them. */
int edge_config_defaults(struct edge_config *c, struct error *err) MUST_CHECK;
int edge_config_print(const struct edge_config *c, bool minimal, struct buf *out) MUST_CHECK;
void edge_config_free(struct edge_config *c);

/* The token has served: blanks it in the configuration file (that line only, the rest of the file stays byte for byte)
 * and removes the bootstrap file. A file that cannot be written is not an error for the caller to stop at. */
int edge_config_forget_token(struct edge_config *c, struct error *err) MUST_CHECK;
