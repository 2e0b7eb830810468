#include "edge/edged/pod_config.h"

#include "base/clock.h"
#include "edge/edged/runtime_view.h"
#include "edge/edged/volumes.h"
#include "kube/object.h"

#define HOSTNAME_MAX 63
#define DNS_MAX_SERVERS 3
#define DNS_MAX_SEARCHES 32
#define RESOLV_MAX_WORDS 64

/* ---- DNS ---- */

void dns_settings_free(struct dns_settings *d) {
    strlist_free(&d->host_servers);
    strlist_free(&d->host_searches);
    strlist_free(&d->host_options);
}

static void add_words(struct bytes rest, struct strlist *out) {
    struct bytes word;
    while (rest.len > 0) {
        size_t n = 0;
        while (n < rest.len && (unsigned char)rest.ptr[n] > ' ')
            n++;
        word = bytes_of(rest.ptr, n);
        rest = n < rest.len ? bytes_of(rest.ptr + n + 1, rest.len - n - 1) : BYTES_EMPTY;
        if (word.len > 0 && word.len < 256 && out->count < RESOLV_MAX_WORDS)
            strlist_add_take(out, bytes_dup(word));
    }
}

void resolv_conf_parse(struct bytes text, struct dns_settings *out) {
    struct bytes line;
    while (text.len > 0) {
        if (!bytes_cut(text, '\n', &line, &text)) {
            line = text;
            text = BYTES_EMPTY;
        }
        line = bytes_trim(line);
        if (bytes_starts_with(line, "nameserver ") || bytes_starts_with(line, "nameserver\t")) {
            add_words(bytes_of(line.ptr + 10, line.len - 10), &out->host_servers);
        } else if (bytes_starts_with(line, "search ") || bytes_starts_with(line, "search\t")) {
            strlist_free(&out->host_searches); /* the last one counts */
            add_words(bytes_of(line.ptr + 6, line.len - 6), &out->host_searches);
        } else if (bytes_starts_with(line, "options ") || bytes_starts_with(line, "options\t")) {
            strlist_free(&out->host_options);
            add_words(bytes_of(line.ptr + 7, line.len - 7), &out->host_options);
        }
    }
}

static void add_unique(char ***list, size_t *n, const char *s, size_t max) {
    for (size_t i = 0; i < *n; i++)
        if (str_eq((*list)[i], s))
            return;
    if (*n < max)
        cri_add_string(list, n, s);
}

static void cluster_dns(const struct pod_config_context *c, Cri__DNSConfig *d) {
    const char *domain = str_or(c->dns->cluster_domain, "");
    for (size_t i = 0; i < c->dns->cluster_dns->count; i++)
        add_unique(&d->servers, &d->n_servers, c->dns->cluster_dns->items[i], DNS_MAX_SERVERS);
    if (*domain) {
        _cleanup_(free_p) char *ns = xasprintf("%s.svc.%s", c->field.pod->ns, domain);
        _cleanup_(free_p) char *svc = xasprintf("svc.%s", domain);
        add_unique(&d->searches, &d->n_searches, ns, DNS_MAX_SEARCHES);
        add_unique(&d->searches, &d->n_searches, svc, DNS_MAX_SEARCHES);
        add_unique(&d->searches, &d->n_searches, domain, DNS_MAX_SEARCHES);
    }
    cri_add_string(&d->options, &d->n_options, "ndots:5");
}

static void add_dns_config(yyjson_val *config, Cri__DNSConfig *d) {
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(config, "nameservers"), i, max, v) {
        if (yyjson_is_str(v))
            add_unique(&d->servers, &d->n_servers, yyjson_get_str(v), DNS_MAX_SERVERS);
    }
    yyjson_arr_foreach (yyjson_obj_get(config, "searches"), i, max, v) {
        if (yyjson_is_str(v))
            add_unique(&d->searches, &d->n_searches, yyjson_get_str(v), DNS_MAX_SEARCHES);
    }
    yyjson_arr_foreach (yyjson_obj_get(config, "options"), i, max, v) {
        const char *name = json_str(v, "name"), *value = json_str(v, "value");
        if (str_empty(name))
            continue;
        _cleanup_(free_p) char *option = value ? xasprintf("%s:%s", name, value) : xstrdup(name);
        size_t len = strlen(name);
        for (size_t k = 0; k < d->n_options; k++) /* the pod's own value replaces an inherited one */
            if (strncmp(d->options[k], name, len) == 0 && (d->options[k][len] == ':' || !d->options[k][len])) {
                free(d->options[k]);
                d->options[k] = TAKE(option);
                break;
            }
        if (option)
            cri_add_string(&d->options, &d->n_options, option);
    }
}

static Cri__DNSConfig *dns_config(const struct pod_config_context *c) {
    const struct pod *p = c->field.pod;
    const char *policy = str_or(json_str(p->spec, "dnsPolicy"), "ClusterFirst");
    Cri__DNSConfig *d = CRI_NEW(Cri__DNSConfig, cri__dnsconfig__init);
    bool cluster =
        str_eq(policy, "ClusterFirstWithHostNet") || (str_eq(policy, "ClusterFirst") && !pod_host_network(p));
    if (!str_eq(policy, "None")) {
        if (cluster && c->dns->cluster_dns->count > 0) {
            cluster_dns(c, d);
        } else {
            for (size_t i = 0; i < c->dns->host_servers.count; i++)
                add_unique(&d->servers, &d->n_servers, c->dns->host_servers.items[i], DNS_MAX_SERVERS);
            for (size_t i = 0; i < c->dns->host_options.count; i++)
                cri_add_string(&d->options, &d->n_options, c->dns->host_options.items[i]);
        }
        for (size_t i = 0; i < c->dns->host_searches.count; i++)
            add_unique(&d->searches, &d->n_searches, c->dns->host_searches.items[i], DNS_MAX_SEARCHES);
    }
    add_dns_config(yyjson_obj_get(p->spec, "dnsConfig"), d);
    return d;
}

/* ---- names ---- */

char *pod_log_dir(const char *logs_dir, const struct pod *p) {
    return xasprintf("%s/%s_%s_%s", logs_dir, p->ns, p->name, p->uid);
}

static char *fqdn(const struct pod_config_context *c, const char *hostname) {
    const char *subdomain = json_str(c->field.pod->spec, "subdomain");
    if (str_empty(subdomain))
        return NULL;
    return xasprintf("%s.%s.%s.svc.%s", hostname, subdomain, c->field.pod->ns, str_or(c->dns->cluster_domain, ""));
}

char *pod_hostname(const struct pod_config_context *c) {
    const struct pod *p = c->field.pod;
    const char *own = json_str(p->spec, "hostname");
    char *name = xstrndup(str_or(own, p->name), HOSTNAME_MAX);
    for (size_t n = strlen(name); n > 0 && (name[n - 1] == '-' || name[n - 1] == '.'); n--)
        name[n - 1] = '\0';
    if (json_bool_or(yyjson_obj_get(p->spec, "setHostnameAsFQDN"), false)) {
        char *full = fqdn(c, name);
        if (full) {
            free(name);
            return full;
        }
    }
    return name;
}

void pod_hosts_file(const struct pod_config_context *c, struct bytes host_file, struct buf *out) {
    const struct pod *p = c->field.pod;
    if (pod_host_network(p)) {
        buf_add_str(out, "# Kubernetes-managed hosts file (host network).\n");
        buf_add_bytes(out, host_file);
    } else {
        buf_add_str(out, "# Kubernetes-managed hosts file.\n"
                         "127.0.0.1\tlocalhost\n"
                         "::1\tlocalhost ip6-localhost ip6-loopback\n"
                         "fe00::0\tip6-localnet\n"
                         "fe00::0\tip6-mcastprefix\n"
                         "fe00::1\tip6-allnodes\n"
                         "fe00::2\tip6-allrouters\n");
        _cleanup_(free_p) char *host = pod_hostname(c);
        _cleanup_(free_p) char *full = str_empty(json_str(p->spec, "subdomain")) ? NULL : fqdn(c, host);
        for (size_t i = 0; i < c->field.pod_ips->count; i++)
            buf_addf(out, "%s\t%s%s%s\n", c->field.pod_ips->items[i], full ? full : "", full ? "\t" : "", host);
    }
    size_t i, max, j, n;
    yyjson_val *alias, *name;
    yyjson_val *aliases = yyjson_obj_get(p->spec, "hostAliases");
    if (yyjson_arr_size(aliases) > 0)
        buf_add_str(out, "\n# Entries added by HostAliases.\n");
    yyjson_arr_foreach (aliases, i, max, alias) {
        buf_add_str(out, str_or(json_str(alias, "ip"), ""));
        yyjson_arr_foreach (yyjson_obj_get(alias, "hostnames"), j, n, name)
            buf_addf(out, "\t%s", str_or(yyjson_get_str(name), ""));
        buf_add_char(out, '\n');
    }
}

/* ---- the sandbox ---- */

static void add_ports(const struct pod *p, Cri__PodSandboxConfig *s) {
    static const char *const lists[] = {"initContainers", "containers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i, max, j, n;
        yyjson_val *container, *port;
        yyjson_arr_foreach (yyjson_obj_get(p->spec, lists[l]), i, max, container) {
            if (l == 0 && !container_is_sidecar(container))
                continue;
            yyjson_arr_foreach (yyjson_obj_get(container, "ports"), j, n, port) {
                int64_t host = json_int_or(yyjson_obj_get(port, "hostPort"), 0);
                int64_t inner = json_int_or(yyjson_obj_get(port, "containerPort"), 0);
                const char *protocol = str_or(json_str(port, "protocol"), "TCP");
                if (pod_host_network(p) || inner <= 0 || inner > 65535 || host < 0 || host > 65535)
                    continue;
                Cri__PortMapping *m = CRI_NEW(Cri__PortMapping, cri__port_mapping__init);
                m->protocol = str_eq(protocol, "UDP")    ? CRI__PROTOCOL__UDP
                              : str_eq(protocol, "SCTP") ? CRI__PROTOCOL__SCTP
                                                         : CRI__PROTOCOL__TCP;
                m->container_port = (int32_t)inner;
                m->host_port = (int32_t)host;
                m->host_ip = xstrdup(str_or(json_str(port, "hostIP"), ""));
                s->port_mappings = xreallocarray(s->port_mappings, s->n_port_mappings + 1, sizeof(m));
                s->port_mappings[s->n_port_mappings++] = m;
            }
        }
    }
}

static void add_map(yyjson_val *map, Cri__KeyValue ***list, size_t *n) {
    size_t i, max;
    yyjson_val *key, *val;
    yyjson_obj_foreach (map, i, max, key, val) {
        if (yyjson_is_str(val))
            cri_add_pair(list, n, yyjson_get_str(key), yyjson_get_str(val));
    }
}

Cri__NamespaceOption *pod_namespaces(const struct pod *p) {
    Cri__NamespaceOption *o = CRI_NEW(Cri__NamespaceOption, cri__namespace_option__init);
    o->network = pod_host_network(p) ? CRI__NAMESPACE_MODE__NODE : CRI__NAMESPACE_MODE__POD;
    o->ipc =
        json_bool_or(yyjson_obj_get(p->spec, "hostIPC"), false) ? CRI__NAMESPACE_MODE__NODE : CRI__NAMESPACE_MODE__POD;
    o->pid = json_bool_or(yyjson_obj_get(p->spec, "hostPID"), false)                 ? CRI__NAMESPACE_MODE__NODE
             : json_bool_or(yyjson_obj_get(p->spec, "shareProcessNamespace"), false) ? CRI__NAMESPACE_MODE__POD
                                                                                     : CRI__NAMESPACE_MODE__CONTAINER;
    return o;
}

static bool has_privileged(const struct pod *p) {
    static const char *const lists[] = {"initContainers", "containers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i, max;
        yyjson_val *c;
        yyjson_arr_foreach (yyjson_obj_get(p->spec, lists[l]), i, max, c) {
            if (json_bool_or(json_get(c, "securityContext", "privileged"), false))
                return true;
        }
    }
    return false;
}

void add_supplemental_groups(const struct pod *p, int64_t **list, size_t *n) {
    yyjson_val *groups = json_get(p->spec, "securityContext", "supplementalGroups");
    int64_t fs_group = pod_fs_group(p);
    size_t i, max;
    yyjson_val *g;
    *list = xcalloc(yyjson_arr_size(groups) + 1, sizeof(**list));
    if (fs_group >= 0)
        (*list)[(*n)++] = fs_group;
    yyjson_arr_foreach (groups, i, max, g) {
        if (yyjson_is_int(g))
            (*list)[(*n)++] = yyjson_get_sint(g);
    }
}

static Cri__Int64Value *int_value(yyjson_val *v) {
    if (!yyjson_is_int(v))
        return NULL;
    Cri__Int64Value *i = CRI_NEW(Cri__Int64Value, cri__int64_value__init);
    i->value = yyjson_get_sint(v);
    return i;
}

static Cri__LinuxSandboxSecurityContext *sandbox_security(const struct pod_config_context *c) {
    const struct pod *p = c->field.pod;
    yyjson_val *sc = yyjson_obj_get(p->spec, "securityContext");
    Cri__LinuxSandboxSecurityContext *s =
        CRI_NEW(Cri__LinuxSandboxSecurityContext, cri__linux_sandbox_security_context__init);
    s->namespace_options = pod_namespaces(p);
    s->privileged = has_privileged(p);
    s->run_as_user = int_value(yyjson_obj_get(sc, "runAsUser"));
    s->run_as_group = s->run_as_user ? int_value(yyjson_obj_get(sc, "runAsGroup")) : NULL;
    s->selinux_options = selinux_options(yyjson_obj_get(sc, "seLinuxOptions"));
    add_supplemental_groups(p, &s->supplemental_groups, &s->n_supplemental_groups);
    /* The pause process is ours, not the user's: always under the runtime's own profile, as the kubelet does. */
    s->seccomp = CRI_NEW(Cri__SecurityProfile, cri__security_profile__init);
    return s;
}

Cri__PodSandboxConfig *sandbox_config(const struct pod_config_context *c, uint32_t attempt, struct error *err) {
    const struct pod *p = c->field.pod;
    Cri__PodSandboxConfig *s = CRI_NEW(Cri__PodSandboxConfig, cri__pod_sandbox_config__init);
    s->metadata = CRI_NEW(Cri__PodSandboxMetadata, cri__pod_sandbox_metadata__init);
    s->metadata->name = xstrdup(p->name);
    s->metadata->namespace_ = xstrdup(p->ns);
    s->metadata->uid = xstrdup(p->uid);
    s->metadata->attempt = attempt;
    if (!pod_host_network(p)) /* else the host's holds, and runc refuses to set one */
        s->hostname = pod_hostname(c);
    s->log_directory = pod_log_dir(c->logs_dir, p);
    s->dns_config = dns_config(c);
    add_ports(p, s);
    add_map(object_labels(p->obj), &s->labels, &s->n_labels);
    cri_add_pair(&s->labels, &s->n_labels, LABEL_POD_NAME, p->name);
    cri_add_pair(&s->labels, &s->n_labels, LABEL_POD_NAMESPACE, p->ns);
    cri_add_pair(&s->labels, &s->n_labels, LABEL_POD_UID, p->uid);
    add_map(object_annotations(p->obj), &s->annotations, &s->n_annotations);
    cri_add_pair(&s->annotations, &s->n_annotations, "kubernetes.io/config.source", "api");
    s->linux = CRI_NEW(Cri__LinuxPodSandboxConfig, cri__linux_pod_sandbox_config__init);
    if (c->cgroup_parent)
        s->linux->cgroup_parent = xstrdup(c->cgroup_parent);
    s->linux->security_context = sandbox_security(c);
    size_t i, max;
    yyjson_val *sysctl;
    yyjson_arr_foreach (json_get(p->spec, "securityContext", "sysctls"), i, max, sysctl)
        cri_add_pair(&s->linux->sysctls, &s->linux->n_sysctls, str_or(json_str(sysctl, "name"), ""),
                     str_or(json_str(sysctl, "value"), ""));
    if (strlen(s->hostname) > HOSTNAME_MAX + 1) {
        error_set(err, ERR_INVALID, "hostname %s is longer than 64 characters", s->hostname);
        CRI_FREE(s);
        return NULL;
    }
    return s;
}
