#include "cloud/config.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#define AT(member) offsetof(struct cloud_config, member)
#define STRING(path, member, value) \
    { path, CFG_STRING, AT(member), 0, 0, value, false }
#define BOOLEAN(path, member, value) \
    { path, CFG_BOOL, AT(member), 0, 0, value, false }
#define NUMBER(path, member, low, high, value) \
    { path, CFG_INT, AT(member), low, high, value, false }
#define IGNORED(path) \
    { path, CFG_IGNORED, 0, 0, 0, NULL, false }
#define HUB "modules.cloudHub."

static const struct config_key keys[] = {
    {"commonConfig.monitorServer.bindAddress", CFG_STRING, AT(monitor.bind_address), 0, 0, "127.0.0.1:9091", false},
    IGNORED("commonConfig.monitorServer.enableProfiling"),
    IGNORED("commonConfig.tunnelPort"),
    IGNORED("featureGates"),
    {"kubeAPIConfig.master", CFG_STRING, AT(kube_api.master), 0, 0, "\"\"", false},
    {"kubeAPIConfig.kubeConfig", CFG_STRING, AT(kube_api.kube_config), 0, 0, "\"\"", true},
    IGNORED("kubeAPIConfig.contentType"),
    IGNORED("kubeAPIConfig.qps"),
    IGNORED("kubeAPIConfig.burst"),

    {HUB "enable", CFG_BOOL, AT(hub.enable), 0, 0, "true", true},
    NUMBER(HUB "keepaliveInterval", hub.keepalive_interval_s, 1, 86400, "30"),
    {HUB "nodeLimit", CFG_INT, AT(hub.node_limit), 1, 1000000, "1000", true},
    {HUB "tlsCAFile", CFG_STRING, AT(hub.ca_file), 0, 0, "/etc/kubeedge/ca/rootCA.crt", true},
    {HUB "tlsCAKeyFile", CFG_STRING, AT(hub.ca_key_file), 0, 0, "/etc/kubeedge/ca/rootCA.key", true},
    {HUB "tlsCertFile", CFG_STRING, AT(hub.cert_file), 0, 0, "/etc/kubeedge/certs/server.crt", true},
    {HUB "tlsPrivateKeyFile", CFG_STRING, AT(hub.key_file), 0, 0, "/etc/kubeedge/certs/server.key", true},
    IGNORED(HUB "writeTimeout"),
    IGNORED(HUB "quic"),
    IGNORED(HUB "unixsocket"),
    BOOLEAN(HUB "websocket.enable", hub.websocket_enable, "true"),
    STRING(HUB "websocket.address", hub.websocket_address, "0.0.0.0"),
    {HUB "websocket.port", CFG_INT, AT(hub.websocket_port), 1, 65535, "10000", true},
    BOOLEAN(HUB "https.enable", hub.https_enable, "true"),
    STRING(HUB "https.address", hub.https_address, "0.0.0.0"),
    {HUB "https.port", CFG_INT, AT(hub.https_port), 1, 65535, "10002", true},
    {HUB "advertiseAddress", CFG_STRINGS, AT(hub.advertise_addresses), 0, 0, NULL, true},
    {HUB "dnsNames", CFG_STRINGS, AT(hub.dns_names), 0, 0, NULL, false},
    NUMBER(HUB "edgeCertSigningDuration", hub.edge_cert_days, 1, 36500, "365"),
    NUMBER(HUB "tokenRefreshDuration", hub.token_refresh_hours, 1, 87600, "12"),
    BOOLEAN(HUB "authorization.enable", hub.authorization_enable, "false"),
    BOOLEAN(HUB "authorization.debug", hub.authorization_debug, "true"),
    IGNORED(HUB "authorization.modes"),
    NUMBER(HUB "threads", hub.threads, 0, 256, "0"),

    BOOLEAN("modules.edgeController.enable", edge_controller.enable, "true"),
    NUMBER("modules.edgeController.nodeUpdateFrequency", edge_controller.node_update_frequency_s, 1, 86400, "10"),
    IGNORED("modules.edgeController.buffer"),
    IGNORED("modules.edgeController.load"),

    BOOLEAN("modules.cloudStream.enable", stream.enable, "true"),
    {"modules.cloudStream.tunnelPort", CFG_INT, AT(stream.tunnel_port), 1, 65535, "10004", true},
    STRING("modules.cloudStream.tlsTunnelCAFile", stream.tunnel_ca_file, "/etc/kubeedge/ca/rootCA.crt"),
    STRING("modules.cloudStream.tlsTunnelCertFile", stream.tunnel_cert_file, "/etc/kubeedge/certs/server.crt"),
    STRING("modules.cloudStream.tlsTunnelPrivateKeyFile", stream.tunnel_key_file, "/etc/kubeedge/certs/server.key"),
    {"modules.cloudStream.streamPort", CFG_INT, AT(stream.stream_port), 1, 65535, "10003", true},
    IGNORED("modules.cloudStream.tlsStreamCAFile"),
    STRING("modules.cloudStream.tlsStreamCertFile", stream.stream_cert_file, "/etc/kubeedge/certs/stream.crt"),
    STRING("modules.cloudStream.tlsStreamPrivateKeyFile", stream.stream_key_file, "/etc/kubeedge/certs/stream.key"),
    BOOLEAN("modules.deviceController.enable", device_controller.enable, "true"),
    IGNORED("modules.deviceController.buffer"),
    IGNORED("modules.deviceController.load"),
    IGNORED("modules.dynamicController"),
    IGNORED("modules.iptablesManager"),
    IGNORED("modules.router"),
    IGNORED("modules.syncController"),
    IGNORED("modules.taskManager"),
};

const struct config_schema cloud_config_schema = {
    .api_version = "cloudcore.config.kubeedge.io/v1alpha1",
    .kind = "CloudCore",
    .keys = keys,
    .n_keys = ARRAY_LEN(keys),
};

/* This machine's first address that others may reach: what goes into the server certificate when nothing is said. */
static void add_local_address(struct strlist *out) {
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        all = NULL;
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK) ||
            !(i->ifa_flags & IFF_UP))
            continue;
        char text[INET_ADDRSTRLEN];
        struct sockaddr_in a;
        memcpy(&a, i->ifa_addr, sizeof a);
        if (inet_ntop(AF_INET, &a.sin_addr, text, sizeof text)) {
            strlist_add(out, text);
            break;
        }
    }
    if (all)
        freeifaddrs(all);
    if (out->count == 0)
        strlist_add(out, "127.0.0.1");
}

static bool is_address(const char *s) {
    struct in6_addr a;
    return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

static int check(const struct cloud_config *c, const char *path, struct error *err) {
    const char *file = path ? path : "configuration";
    if (!is_address(c->hub.websocket_address))
        return error_set(err, ERR_INVALID, "%s: " HUB "websocket.address: \"%s\" is not an IP address", file,
                         c->hub.websocket_address);
    if (!is_address(c->hub.https_address))
        return error_set(err, ERR_INVALID, "%s: " HUB "https.address: \"%s\" is not an IP address", file,
                         c->hub.https_address);
    if (!str_empty(c->kube_api.kube_config) && c->kube_api.kube_config[0] != '/')
        return error_set(err, ERR_INVALID, "%s: kubeAPIConfig.kubeConfig: \"%s\" must be an absolute path", file,
                         c->kube_api.kube_config);
    return 0;
}

int cloud_config_load(struct cloud_config *c, const char *path, struct error *err) {
    if (config_defaults(&cloud_config_schema, c, err) < 0)
        return -1;
    if (path && config_load(&cloud_config_schema, path, c, err) < 0)
        return -1;
    if (c->hub.advertise_addresses.count == 0)
        add_local_address(&c->hub.advertise_addresses);
    return check(c, path, err);
}

void cloud_config_free(struct cloud_config *c) {
    config_free(&cloud_config_schema, c);
}
