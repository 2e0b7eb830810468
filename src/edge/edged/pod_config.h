/* From a pod to the requests that CRI takes. Pure: everything that must be looked up is handed in.
 *
 * Results are malloc'd messages, freed with CRI_FREE. */
#pragma once

#include "edge/edged/cri.h"
#include "edge/edged/env.h"
#include "edge/edged/resources.h"

struct dns_settings {
    const struct strlist *cluster_dns; /* clusterDNS */
    const char *cluster_domain;
    struct strlist host_servers, host_searches, host_options; /* of the node's resolv.conf */
};
/* The node's resolv.conf; a missing file gives an empty configuration. */
void resolv_conf_parse(struct bytes text, struct dns_settings *out);
void dns_settings_free(struct dns_settings *d);

struct pod_config_context {
    struct field_context field;
    const struct dns_settings *dns;
    const struct resource_policy *resources;
    const char *pod_dir;       /* <root>/pods/<uid> */
    const char *logs_dir;      /* podLogsDir */
    const char *cgroup_parent; /* NULL: the runtime's own choice */
    bool seccomp_default, cgroup_v2;
};

Cri__PodSandboxConfig *sandbox_config(const struct pod_config_context *c, uint32_t attempt,
                                      struct error *err) MUST_CHECK;
char *pod_log_dir(const char *logs_dir, const struct pod *p); /* <logs>/<ns>_<name>_<uid>; owned */
char *pod_hostname(const struct pod_config_context *c);       /* owned */
/* The pod's /etc/hosts. host_file: the node's, used by pods on the host's network. */
void pod_hosts_file(const struct pod_config_context *c, struct bytes host_file, struct buf *out);

/* What the image says that matters to a container's configuration. */
struct image_facts {
    const char *image_ref; /* what CreateContainer is to use */
    int64_t uid;           /* -1: not said, or a user name */
    const char *username;  /* "" */
};

struct container_config_input {
    yyjson_val *container;
    const struct object_set *objects;
    const struct image_facts *image;
    int64_t restarts;
    const char *term_log; /* host file for the termination message; NULL: none */
    /* Folder in which sub paths are bound: <sub_path_dir>/<index of the mount>. */
    const char *sub_path_dir;
    const char *target_id; /* whose processes an ephemeral container sees; NULL: its own */
};
Cri__ContainerConfig *container_config(const struct pod_config_context *c, const struct container_config_input *in,
                                       struct error *err) MUST_CHECK;
/* subPath (or subPathExpr, expanded) of a volume mount; NULL if it has none. Owned. */
char *mount_sub_path(yyjson_val *mount, const struct env *env);
Cri__LinuxContainerSecurityContext *container_security(const struct pod_config_context *c, yyjson_val *container,
                                                       const struct image_facts *image, struct error *err) MUST_CHECK;
Cri__SecurityProfile *seccomp_profile(const struct pod *p, yyjson_val *container, bool runtime_default);
Cri__NamespaceOption *pod_namespaces(const struct pod *p);
Cri__SELinuxOption *selinux_options(yyjson_val *v);
void add_supplemental_groups(const struct pod *p, int64_t **list, size_t *n);
