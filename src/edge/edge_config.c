#define LOG_COMPONENT "config"

#include "edge/edge_config.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (1u << 20)
#define TOKEN_MAX 4096

#define AT(member) offsetof(struct edge_config, member)
#define STRING(path_, member, def) \
    { .path = (path_), .type = CFG_STRING, .offset = AT(member), .default_value = (def) }
#define STRING_MIN(path_, member, def) \
    { .path = (path_), .type = CFG_STRING, .offset = AT(member), .default_value = (def), .minimal = true }
#define BOOL(path_, member, def) \
    { .path = (path_), .type = CFG_BOOL, .offset = AT(member), .default_value = (def) }
#define INT(path_, member, lo, hi, def) \
    { .path = (path_), .type = CFG_INT, .offset = AT(member), .min = (lo), .max = (hi), .default_value = (def) }
#define DURATION(path_, member, def) \
    { .path = (path_), .type = CFG_DURATION_MS, .offset = AT(member), .default_value = (def) }
#define LIST(path_, member, def) \
    { .path = (path_), .type = CFG_STRINGS, .offset = AT(member), .default_value = (def) }
#define MAP(path_, member, def) \
    { .path = (path_), .type = CFG_STRING_MAP, .offset = AT(member), .default_value = (def) }
#define IGNORED(path_) \
    { .path = (path_), .type = CFG_IGNORED }

#define KUBELET "modules.edged.tailoredKubeletConfig."
#define HUB "modules.edgeHub."
#define EVENTBUS "modules.eventBus."

/* Every key of the original, resource-sync.md 8.2 to 8.6, in its order. */
static const struct config_key KEYS[] = {
    IGNORED("edgecoreVersion"),
    MAP("featureGates", feature_gates, NULL),
    IGNORED("database.driverName"),
    IGNORED("database.aliasName"),
    STRING_MIN("database.dataSource", database, "/var/lib/kubeedge/edgecore.db"),
    IGNORED("modules.dbTest"),

    BOOL("modules.edged.enable", edged.enable, "true"),
    BOOL("modules.edged.reportEvent", edged.report_event, "false"),
    STRING("modules.edged.registerNodeNamespace", edged.node_namespace, "default"),
    STRING("modules.edged.customInterfaceName", edged.interface_name, NULL),
    STRING_MIN("modules.edged.hostnameOverride", edged.node_name, NULL),
    STRING("modules.edged.nodeIP", edged.node_ip, NULL),
    STRING("modules.edged.rootDirectory", edged.root_directory, "/var/lib/kubelet"),
    MAP("modules.edged.nodeLabels", edged.labels, NULL),
    BOOL("modules.edged.registerSchedulable", edged.register_schedulable, "true"),
    DURATION("modules.edged.minimumGCAge", edged.gc_min_age_ms, "0s"),
    INT("modules.edged.maxPerPodContainerCount", edged.gc_per_container, -1, INT32_MAX, "1"),
    INT("modules.edged.maxContainerCount", edged.gc_total, -1, INT32_MAX, "-1"),
    STRING("modules.edged.podSandboxImage", edged.sandbox_image, "kubeedge/pause:3.6"),
    IGNORED("modules.edged.runtimeCgroups"),
    IGNORED("modules.edged.experimentalMounterPath"),
    IGNORED("modules.edged.experimentalNodeAllocatableIgnoreEvictionThreshold"),
    IGNORED("modules.edged.seccompDefault"),
    IGNORED("modules.edged.windowsService"),
    IGNORED("modules.edged.windowsPriorityClass"),

    STRING(KUBELET "staticPodPath", edged.static_pod_path, "/etc/kubeedge/manifests"),
    STRING(KUBELET "podLogsDir", edged.pod_logs_dir, "/var/log/pods"),
    DURATION(KUBELET "syncFrequency", edged.sync_frequency_ms, "1m0s"),
    DURATION(KUBELET "fileCheckFrequency", edged.file_check_frequency_ms, "20s"),
    STRING(KUBELET "address", edged.read_only_address, "127.0.0.1"),
    INT(KUBELET "readOnlyPort", edged.read_only_port, 0, 65535, "10350"),
    INT(KUBELET "registryPullQPS", edged.registry_pull_qps, 0, INT32_MAX, "5"),
    INT(KUBELET "registryBurst", edged.registry_burst, 0, INT32_MAX, "10"),
    IGNORED(KUBELET "eventRecordQPS"),
    IGNORED(KUBELET "eventBurst"),
    IGNORED(KUBELET "enableDebuggingHandlers"),
    IGNORED(KUBELET "enableContentionProfiling"),
    INT(KUBELET "oomScoreAdj", edged.oom_score_adj, -1000, 1000, "-999"),
    STRING(KUBELET "clusterDomain", edged.cluster_domain, "cluster.local"),
    LIST(KUBELET "clusterDNS", edged.cluster_dns, NULL),
    IGNORED(KUBELET "streamingConnectionIdleTimeout"),
    DURATION(KUBELET "nodeStatusUpdateFrequency", edged.status_update_ms, "10s"),
    DURATION(KUBELET "nodeStatusReportFrequency", edged.status_report_ms, "5m0s"),
    INT(KUBELET "nodeLeaseDurationSeconds", edged.lease_duration_s, 1, INT32_MAX, "40"),
    DURATION(KUBELET "imageMinimumGCAge", edged.image_gc_min_age_ms, "2m0s"),
    DURATION(KUBELET "imageMaximumGCAge", edged.image_gc_max_age_ms, "0s"),
    INT(KUBELET "imageGCHighThresholdPercent", edged.image_gc_high_percent, 0, 100, "85"),
    INT(KUBELET "imageGCLowThresholdPercent", edged.image_gc_low_percent, 0, 100, "80"),
    IGNORED(KUBELET "volumeStatsAggPeriod"),
    IGNORED(KUBELET "kubeletCgroups"),
    IGNORED(KUBELET "systemCgroups"),
    STRING(KUBELET "cgroupRoot", edged.cgroup_root, NULL),
    BOOL(KUBELET "cgroupsPerQOS", edged.cgroups_per_qos, "true"),
    STRING(KUBELET "cgroupDriver", edged.cgroup_driver, "cgroupfs"),
    IGNORED(KUBELET "singleProcessOOMKill"),
    IGNORED(KUBELET "cpuManagerPolicy"),
    IGNORED(KUBELET "cpuManagerPolicyOptions"),
    IGNORED(KUBELET "cpuManagerReconcilePeriod"),
    IGNORED(KUBELET "memoryManagerPolicy"),
    IGNORED(KUBELET "topologyManagerPolicy"),
    IGNORED(KUBELET "topologyManagerScope"),
    IGNORED(KUBELET "topologyManagerPolicyOptions"),
    IGNORED(KUBELET "qosReserved"),
    DURATION(KUBELET "runtimeRequestTimeout", edged.runtime_request_timeout_ms, "2m0s"),
    IGNORED(KUBELET "hairpinMode"),
    INT(KUBELET "maxPods", edged.max_pods, 0, INT32_MAX, "110"),
    STRING(KUBELET "podCIDR", edged.pod_cidr, NULL),
    INT(KUBELET "podPidsLimit", edged.pod_pids_limit, -1, INT64_MAX, "-1"),
    STRING(KUBELET "resolvConf", edged.resolv_conf, "/etc/resolv.conf"),
    BOOL(KUBELET "cpuCFSQuota", edged.cpu_cfs_quota, "true"),
    DURATION(KUBELET "cpuCFSQuotaPeriod", edged.cpu_cfs_quota_period_ms, "100ms"),
    INT(KUBELET "nodeStatusMaxImages", edged.status_max_images, -1, INT32_MAX, "0"),
    IGNORED(KUBELET "maxOpenFiles"),
    IGNORED(KUBELET "contentType"),
    BOOL(KUBELET "serializeImagePulls", edged.serialize_image_pulls, "true"),
    INT(KUBELET "maxParallelImagePulls", edged.max_parallel_image_pulls, 0, INT32_MAX, "0"),
    MAP(KUBELET "evictionHard", edged.eviction_hard,
        "{memory.available: 100Mi, nodefs.available: 10%, nodefs.inodesFree: 5%, imagefs.available: 15%, "
        "imagefs.inodesFree: 5%}"),
    MAP(KUBELET "evictionSoft", edged.eviction_soft, NULL),
    MAP(KUBELET "evictionSoftGracePeriod", edged.eviction_soft_grace, NULL),
    DURATION(KUBELET "evictionPressureTransitionPeriod", edged.eviction_transition_ms, "5m0s"),
    INT(KUBELET "evictionMaxPodGracePeriod", edged.eviction_max_grace_s, 0, INT32_MAX, "0"),
    MAP(KUBELET "evictionMinimumReclaim", edged.eviction_min_reclaim, NULL),
    INT(KUBELET "podsPerCore", edged.pods_per_core, 0, INT32_MAX, "0"),
    BOOL(KUBELET "enableControllerAttachDetach", edged.controller_attach_detach, "true"),
    IGNORED(KUBELET "protectKernelDefaults"),
    IGNORED(KUBELET "makeIPTablesUtilChains"),
    IGNORED(KUBELET "iptablesMasqueradeBit"),
    IGNORED(KUBELET "iptablesDropBit"),
    IGNORED(KUBELET "featureGates"),
    IGNORED(KUBELET "failSwapOn"),
    IGNORED(KUBELET "memorySwap"),
    STRING(KUBELET "containerLogMaxSize", edged.log_max_size, "10Mi"),
    INT(KUBELET "containerLogMaxFiles", edged.log_max_files, 2, 1000, "5"),
    IGNORED(KUBELET "containerLogMaxWorkers"),
    DURATION(KUBELET "containerLogMonitorInterval", edged.log_monitor_ms, "10s"),
    IGNORED(KUBELET "configMapAndSecretChangeDetectionStrategy"),
    MAP(KUBELET "systemReserved", edged.system_reserved, NULL),
    MAP(KUBELET "kubeReserved", edged.kube_reserved, NULL),
    IGNORED(KUBELET "reservedSystemCPUs"),
    IGNORED(KUBELET "showHiddenMetricsForVersion"),
    IGNORED(KUBELET "systemReservedCgroup"),
    IGNORED(KUBELET "kubeReservedCgroup"),
    IGNORED(KUBELET "enforceNodeAllocatable"),
    LIST(KUBELET "allowedUnsafeSysctls", edged.allowed_unsafe_sysctls, NULL),
    IGNORED(KUBELET "volumePluginDir"),
    IGNORED(KUBELET "kernelMemcgNotification"),
    IGNORED(KUBELET "logging"),
    IGNORED(KUBELET "enableSystemLogHandler"),
    IGNORED(KUBELET "enableSystemLogQuery"),
    DURATION(KUBELET "shutdownGracePeriod", edged.shutdown_grace_ms, "0s"),
    DURATION(KUBELET "shutdownGracePeriodCriticalPods", edged.shutdown_grace_critical_ms, "0s"),
    IGNORED(KUBELET "shutdownGracePeriodByPodPriority"),
    IGNORED(KUBELET "crashLoopBackOff"),
    IGNORED(KUBELET "reservedMemory"),
    IGNORED(KUBELET "enableProfilingHandler"),
    IGNORED(KUBELET "enableDebugFlagsHandler"),
    BOOL(KUBELET "seccompDefault", edged.seccomp_default, "false"),
    IGNORED(KUBELET "memoryThrottlingFactor"),
    {.path = KUBELET "registerWithTaints", .type = CFG_JSON, .offset = AT(edged.register_taints)},
    BOOL(KUBELET "registerNode", edged.register_node, "true"),
    IGNORED(KUBELET "localStorageCapacityIsolation"),
    STRING_MIN(KUBELET "containerRuntimeEndpoint", edged.runtime_endpoint, "unix:///run/containerd/containerd.sock"),
    STRING(KUBELET "imageServiceEndpoint", edged.image_endpoint, "unix:///run/containerd/containerd.sock"),
    BOOL(KUBELET "failCgroupV1", edged.fail_cgroup_v1, "false"),

    BOOL(HUB "enable", hub.enable, "true"),
    INT(HUB "heartbeat", hub.heartbeat_s, 1, 3600, "15"),
    IGNORED(HUB "messageQPS"),
    IGNORED(HUB "messageBurst"),
    STRING(HUB "projectID", hub.project_id, "e632aba927ea4ac2b575ec1603d56f10"),
    STRING(HUB "tlsCaFile", hub.ca_file, "/etc/kubeedge/ca/rootCA.crt"),
    STRING(HUB "tlsCertFile", hub.cert_file, "/etc/kubeedge/certs/server.crt"),
    STRING(HUB "tlsPrivateKeyFile", hub.key_file, "/etc/kubeedge/certs/server.key"),
    BOOL(HUB "quic.enable", hub.quic, "false"),
    IGNORED(HUB "quic.handshakeTimeout"),
    IGNORED(HUB "quic.readDeadline"),
    IGNORED(HUB "quic.writeDeadline"),
    IGNORED(HUB "quic.server"),
    BOOL(HUB "websocket.enable", hub.websocket, "true"),
    INT(HUB "websocket.handshakeTimeout", hub.handshake_timeout_s, 1, 3600, "30"),
    INT(HUB "websocket.readDeadline", hub.read_deadline_s, 1, 3600, "15"),
    INT(HUB "websocket.writeDeadline", hub.write_deadline_s, 1, 3600, "15"),
    STRING_MIN(HUB "websocket.server", hub.server, "127.0.0.1:10000"),
    STRING_MIN(HUB "token", hub.token, ""),
    STRING_MIN(HUB "httpServer", hub.http_server, "https://127.0.0.1:10002"),
    BOOL(HUB "rotateCertificates", hub.rotate_certificates, "true"),

    BOOL(EVENTBUS "enable", eventbus.enable, "true"),
    INT(EVENTBUS "mqttMode", eventbus.mode, 0, 2, "2"),
    STRING_MIN(EVENTBUS "mqttServerExternal", eventbus.external_url, "tcp://127.0.0.1:1883"),
    STRING_MIN(EVENTBUS "mqttServerInternal", eventbus.internal_url, "tcp://127.0.0.1:1884"),
    INT(EVENTBUS "mqttQOS", eventbus.qos, 0, 2, "0"),
    BOOL(EVENTBUS "mqttRetain", eventbus.retain, "false"),
    INT(EVENTBUS "mqttSessionQueueSize", eventbus.session_queue, 1, 1000000, "100"),
    STRING(EVENTBUS "mqttSubClientID", eventbus.client_id, ""),
    IGNORED(EVENTBUS "mqttPubClientID"),
    STRING(EVENTBUS "mqttUsername", eventbus.user, ""),
    STRING(EVENTBUS "mqttPassword", eventbus.password, ""),
    BOOL(EVENTBUS "eventBusTLS.enable", eventbus.tls_enable, "false"),
    STRING(EVENTBUS "eventBusTLS.tlsMqttCAFile", eventbus.tls_ca_file, "/etc/kubeedge/ca/rootCA.crt"),
    STRING(EVENTBUS "eventBusTLS.tlsMqttCertFile", eventbus.tls_cert_file, "/etc/kubeedge/certs/server.crt"),
    STRING(EVENTBUS "eventBusTLS.tlsMqttPrivateKeyFile", eventbus.tls_key_file, "/etc/kubeedge/certs/server.key"),
    BOOL("modules.metaManager.enable", meta.enable, "true"),
    IGNORED("modules.metaManager.contextSendGroup"),
    IGNORED("modules.metaManager.contextSendModule"),
    INT("modules.metaManager.remoteQueryTimeout", meta.remote_query_timeout_s, 1, 3600, "60"),
    IGNORED("modules.metaManager.metaServer"),
    IGNORED("modules.serviceBus"),
    BOOL("modules.deviceTwin.enable", devicetwin.enable, "true"),
    STRING("modules.deviceTwin.dmiSockPath", devicetwin.dmi_socket, "/etc/kubeedge/"),
    BOOL("modules.edgeStream.enable", stream.enable, "true"),
    INT("modules.edgeStream.handshakeTimeout", stream.handshake_timeout_s, 1, 3600, "30"),
    IGNORED("modules.edgeStream.readDeadline"),
    IGNORED("modules.edgeStream.writeDeadline"),
    STRING("modules.edgeStream.server", stream.server, ""),
    IGNORED("modules.edgeStream.tlsTunnelCAFile"),
    IGNORED("modules.edgeStream.tlsTunnelCertFile"),
    IGNORED("modules.edgeStream.tlsTunnelPrivateKeyFile"),
    IGNORED("modules.taskManager"),
};

static const struct config_schema SCHEMA = {
    .api_version = "edgecore.config.kubeedge.io/v1alpha2",
    .kind = "EdgeCore",
    .keys = KEYS,
    .n_keys = ARRAY_LEN(KEYS),
};

static void set_string(char **where, const char *value) {
    free(*where);
    *where = xstrdup(value);
}

int edge_config_defaults(struct edge_config *c, struct error *err) {
    return config_defaults(&SCHEMA, c, err);
}

int edge_config_print(const struct edge_config *c, bool minimal, struct buf *out) {
    return config_print(&SCHEMA, c, minimal, out);
}

void edge_config_free(struct edge_config *c) {
    config_free(&SCHEMA, c);
    free(c->path);
    free(c->token_file);
    *c = (struct edge_config){0};
}

/* The node's name where the file gives none: the host's, in lower case as Kubernetes names are. */
static int name_from_host(struct edge_config *c, struct error *err) {
    char name[256];
    if (gethostname(name, sizeof(name)) < 0)
        return error_set(err, ERR_IO, "read the host name");
    name[sizeof(name) - 1] = 0;
    for (char *p = name; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    set_string(&c->edged.node_name, name);
    return 0;
}

/* A join token in the bootstrap file wins over the one in the configuration. */
static int read_bootstrap_token(struct edge_config *c, const char *path, struct error *err) {
    if (access(path, F_OK) != 0)
        return 0;
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(TOKEN_MAX);
    if (file_read(path, &text, err) < 0)
        return error_wrap(err, "read the join token");
    struct bytes token = bytes_trim(buf_bytes(&text));
    if (token.len == 0)
        return 0;
    free(c->hub.token);
    c->hub.token = bytes_dup(token);
    set_string(&c->token_file, path);
    return 0;
}

static bool is_host_port(const char *server) {
    const char *colon = server ? strrchr(server, ':') : NULL; /* the last one: "[::1]:10000" */
    int64_t port;
    return colon && colon > server && parse_i64(bytes_str(colon + 1), 1, 65535, &port) == 0;
}

/* The tunnel ends where EdgeHub's connection does, if nothing else is said. */
static void default_stream_server(struct edge_config *c) {
    const char *colon = c->hub.server ? strrchr(c->hub.server, ':') : NULL;
    if (!str_empty(c->stream.server) || !colon)
        return;
    free(c->stream.server);
    c->stream.server = xasprintf("%.*s:10004", (int)(colon - c->hub.server), c->hub.server);
}

static int check(const struct edge_config *c, struct error *err) {
    const char *file = c->path;
    if (!dns_subdomain_valid(bytes_str(c->edged.node_name)))
        return error_set(err, ERR_INVALID,
                         "%s: the node name \"%s\" is not a valid Kubernetes name: set modules.edged.hostnameOverride "
                         "to lower case letters, digits, '-' and '.'",
                         file, c->edged.node_name);
    if (c->edged.enable && !str_eq(c->edged.cgroup_driver, "cgroupfs") && !str_eq(c->edged.cgroup_driver, "systemd"))
        return error_set(err, ERR_INVALID,
                         "%s: modules.edged.tailoredKubeletConfig.cgroupDriver is \"%s\": it must be cgroupfs or "
                         "systemd",
                         file, str_or(c->edged.cgroup_driver, ""));
    if (c->hub.enable && (c->hub.quic || !c->hub.websocket))
        return error_set(err, ERR_UNSUPPORTED,
                         "%s: only the WebSocket transport is offered: set modules.edgeHub.websocket.enable to true "
                         "and modules.edgeHub.quic.enable to false",
                         file);
    if (c->hub.enable && !is_host_port(c->hub.server))
        return error_set(err, ERR_INVALID, "%s: modules.edgeHub.websocket.server is \"%s\": it must be host:port", file,
                         str_or(c->hub.server, ""));
    if (c->hub.enable && !str_starts_with(str_or(c->hub.http_server, ""), "https://"))
        return error_set(err, ERR_INVALID, "%s: modules.edgeHub.httpServer is \"%s\": it must be https://host:port",
                         file, str_or(c->hub.http_server, ""));
    if (c->stream.enable && !is_host_port(c->stream.server))
        return error_set(err, ERR_INVALID, "%s: modules.edgeStream.server is \"%s\": it must be host:port", file,
                         str_or(c->stream.server, ""));
    if (str_empty(c->database))
        return error_set(err, ERR_INVALID, "%s: database.dataSource is empty: name a file", file);
    return 0;
}

int edge_config_load(struct edge_config *c, const char *path, struct error *err) {
    return edge_config_load_from(c, path, EDGE_BOOTSTRAP_FILE, err);
}

int edge_config_load_from(struct edge_config *c, const char *path, const char *bootstrap, struct error *err) {
    if (config_defaults(&SCHEMA, c, err) < 0 || config_load(&SCHEMA, path, c, err) < 0)
        return -1;
    set_string(&c->path, path);
    if (str_empty(c->edged.node_name) && name_from_host(c, err) < 0)
        return -1;
    if (!c->hub.token)
        set_string(&c->hub.token, "");
    if (read_bootstrap_token(c, bootstrap, err) < 0)
        return -1;
    default_stream_server(c);
    return check(c, err);
}

/* Replaces the value on the line `token: ...` and keeps everything else, comments included. */
static int blank_token_line(struct bytes text, unsigned line, struct buf *out, struct error *err) {
    size_t start = 0;
    for (unsigned i = 1; i < line && start < text.len; i++) {
        const char *nl = memchr(text.ptr + start, '\n', text.len - start);
        start = nl ? (size_t)(nl - text.ptr) + 1 : text.len;
    }
    const char *nl = memchr(text.ptr + start, '\n', text.len - start);
    size_t end = nl ? (size_t)(nl - text.ptr) : text.len;
    struct bytes whole = bytes_of(text.ptr + start, end - start), key, name;
    if (!bytes_cut(whole, ':', &key, NULL))
        key = BYTES_EMPTY;
    name = bytes_trim(key);
    if (!bytes_eq_str(name, "token") && !bytes_eq_str(name, "\"token\""))
        return error_set(err, ERR_UNSUPPORTED, "the token does not stand on a line of its own");
    (void)buf_add(out, text.ptr, start + key.len);
    (void)buf_add_str(out, bytes_ends_with(bytes_trim(whole), ",") ? ": \"\"," : ": \"\"");
    (void)buf_add(out, text.ptr + end, text.len - end);
    return buf_check(out, err, "the configuration file");
}

static int blank_token_in_file(const char *path, struct error *err) {
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(CONFIG_FILE_MAX);
    _cleanup_(buf_free_secret) struct buf changed = BUF_INIT(CONFIG_FILE_MAX);
    struct yaml_doc doc = {0}, check_doc = {0};
    struct stat st;
    if (stat(path, &st) < 0 || file_read(path, &text, err) < 0)
        return error_set(err, ERR_IO, "read %s", path);
    if (yaml_parse(buf_bytes(&text), path, &doc, err) < 0)
        return -1;
    const char *token = json_str(yyjson_doc_get_root(doc.json), "modules", "edgeHub", "token");
    unsigned line = yaml_line(&doc, "modules.edgeHub.token");
    int rc = 0;
    if (!str_empty(token)) {
        rc = line ? blank_token_line(buf_bytes(&text), line, &changed, err)
                  : error_set(err, ERR_UNSUPPORTED, "the token's line was not found");
        if (rc == 0 && (rc = yaml_parse(buf_bytes(&changed), path, &check_doc, err)) == 0) {
            yyjson_val *root = yyjson_doc_get_root(check_doc.json);
            if (!str_empty(json_str(root, "modules", "edgeHub", "token")))
                rc = error_set(err, ERR_UNSUPPORTED, "the token takes more than one line");
            else
                rc = file_write_atomic(path, buf_bytes(&changed), st.st_mode & 07777, err);
            yaml_doc_free(&check_doc);
        }
    }
    yaml_doc_free(&doc);
    return rc < 0 ? error_wrap(err, "remove the join token from %s", path) : 0;
}

int edge_config_forget_token(struct edge_config *c, struct error *err) {
    if (c->hub.token) {
        explicit_bzero(c->hub.token, strlen(c->hub.token));
        c->hub.token[0] = 0;
    }
    int rc = 0;
    if (c->token_file && unlink(c->token_file) < 0)
        rc = error_set_errno(err, errno, "remove %s", c->token_file);
    if (blank_token_in_file(c->path, rc < 0 ? NULL : err) < 0)
        rc = -1;
    return rc;
}
