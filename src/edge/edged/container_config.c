#include "edge/edged/pod_config.h"

#include "edge/edged/runtime_view.h"
#include "edge/edged/volumes.h"

/* ---- security ---- */

static yyjson_val *security_value(const struct pod *p, yyjson_val *container, const char *key) {
    yyjson_val *v = json_get(container, "securityContext", key);
    if (!v || yyjson_is_null(v))
        v = json_get(p->spec, "securityContext", key);
    return v && !yyjson_is_null(v) ? v : NULL;
}

static Cri__Int64Value *int64_value(int64_t n) {
    Cri__Int64Value *v = CRI_NEW(Cri__Int64Value, cri__int64_value__init);
    v->value = n;
    return v;
}

static Cri__SecurityProfile *profile_of(yyjson_val *v, const char *localhost_prefix) {
    Cri__SecurityProfile *s = CRI_NEW(Cri__SecurityProfile, cri__security_profile__init);
    const char *type = json_str(v, "type");
    s->profile_type = str_eq(type, "RuntimeDefault") ? CRI__PROFILE_TYPE__RuntimeDefault
                      : str_eq(type, "Localhost")    ? CRI__PROFILE_TYPE__Localhost
                                                     : CRI__PROFILE_TYPE__Unconfined;
    if (s->profile_type == CRI__PROFILE_TYPE__Localhost)
        s->localhost_ref = xasprintf("%s%s", localhost_prefix, str_or(json_str(v, "localhostProfile"), ""));
    return s;
}

Cri__SecurityProfile *seccomp_profile(const struct pod *p, yyjson_val *container, bool runtime_default) {
    yyjson_val *v = security_value(p, container, "seccompProfile");
    if (v)
        return profile_of(v, "/var/lib/kubelet/seccomp/");
    Cri__SecurityProfile *s = CRI_NEW(Cri__SecurityProfile, cri__security_profile__init);
    s->profile_type = runtime_default ? CRI__PROFILE_TYPE__RuntimeDefault : CRI__PROFILE_TYPE__Unconfined;
    return s;
}

Cri__SELinuxOption *selinux_options(yyjson_val *v) {
    if (!yyjson_is_obj(v))
        return NULL;
    Cri__SELinuxOption *o = CRI_NEW(Cri__SELinuxOption, cri__selinux_option__init);
    o->user = xstrdup(str_or(json_str(v, "user"), ""));
    o->role = xstrdup(str_or(json_str(v, "role"), ""));
    o->type = xstrdup(str_or(json_str(v, "type"), ""));
    o->level = xstrdup(str_or(json_str(v, "level"), ""));
    return o;
}

static void add_capabilities(yyjson_val *caps, Cri__Capability *out) {
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(caps, "add"), i, max, v)
        cri_add_string(&out->add_capabilities, &out->n_add_capabilities, str_or(yyjson_get_str(v), ""));
    yyjson_arr_foreach (yyjson_obj_get(caps, "drop"), i, max, v)
        cri_add_string(&out->drop_capabilities, &out->n_drop_capabilities, str_or(yyjson_get_str(v), ""));
}

/* The parts of /proc and /sys that the kubelet hides from containers that are not privileged. */
static void add_masked_paths(Cri__LinuxContainerSecurityContext *s) {
    static const char *const masked[] = {"/proc/asound",     "/proc/acpi",        "/proc/interrupts",
                                         "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
                                         "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                                         "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (size_t i = 0; i < ARRAY_LEN(masked); i++)
        cri_add_string(&s->masked_paths, &s->n_masked_paths, masked[i]);
    for (size_t i = 0; i < ARRAY_LEN(readonly); i++)
        cri_add_string(&s->readonly_paths, &s->n_readonly_paths, readonly[i]);
}

static int check_non_root(const struct pod *p, yyjson_val *container, const struct image_facts *image,
                          struct error *err) {
    if (!json_bool_or(security_value(p, container, "runAsNonRoot"), false))
        return 0;
    int64_t user = json_int_or(security_value(p, container, "runAsUser"), -1);
    if (user > 0)
        return 0;
    if (user == 0)
        return error_set(err, ERR_INVALID, "container's runAsUser breaks non-root policy");
    if (image->uid > 0)
        return 0;
    if (!str_empty(image->username))
        return error_set(
            err, ERR_INVALID,
            "container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root",
            image->username);
    return error_set(err, ERR_INVALID, "container has runAsNonRoot and image will run as root");
}

static void set_user(const struct pod *p, yyjson_val *container, const struct image_facts *image,
                     Cri__LinuxContainerSecurityContext *s) {
    int64_t user = json_int_or(security_value(p, container, "runAsUser"), -1);
    int64_t group = json_int_or(security_value(p, container, "runAsGroup"), -1);
    if (user >= 0)
        s->run_as_user = int64_value(user);
    else if (image->uid >= 0)
        s->run_as_user = int64_value(image->uid);
    else if (!str_empty(image->username))
        s->run_as_username = xstrdup(image->username);
    if (group >= 0) {
        s->run_as_group = int64_value(group);
        if (!s->run_as_user && !s->run_as_username) /* CRI wants a user beside a group */
            s->run_as_user = int64_value(0);
    }
}

Cri__LinuxContainerSecurityContext *container_security(const struct pod_config_context *c, yyjson_val *container,
                                                       const struct image_facts *image, struct error *err) {
    const struct pod *p = c->field.pod;
    yyjson_val *sc = yyjson_obj_get(container, "securityContext");
    if (check_non_root(p, container, image, err) < 0)
        return NULL;
    Cri__LinuxContainerSecurityContext *s =
        CRI_NEW(Cri__LinuxContainerSecurityContext, cri__linux_container_security_context__init);
    s->namespace_options = pod_namespaces(p);
    s->privileged = json_bool_or(yyjson_obj_get(sc, "privileged"), false);
    s->readonly_rootfs = json_bool_or(yyjson_obj_get(sc, "readOnlyRootFilesystem"), false);
    yyjson_val *caps = yyjson_obj_get(sc, "capabilities");
    bool admin = false;
    if (yyjson_is_obj(caps)) {
        s->capabilities = CRI_NEW(Cri__Capability, cri__capability__init);
        add_capabilities(caps, s->capabilities);
        for (size_t i = 0; i < s->capabilities->n_add_capabilities; i++)
            admin |= str_eq(s->capabilities->add_capabilities[i], "SYS_ADMIN") ||
                     str_eq(s->capabilities->add_capabilities[i], "CAP_SYS_ADMIN");
    }
    s->no_new_privs = yyjson_is_false(yyjson_obj_get(sc, "allowPrivilegeEscalation")) && !s->privileged && !admin;
    set_user(p, container, image, s);
    s->selinux_options = selinux_options(security_value(p, container, "seLinuxOptions"));
    add_supplemental_groups(p, &s->supplemental_groups, &s->n_supplemental_groups);
    if (str_eq(json_str(p->spec, "securityContext", "supplementalGroupsPolicy"), "Strict"))
        s->supplemental_groups_policy = CRI__SUPPLEMENTAL_GROUPS_POLICY__Strict;
    s->seccomp = seccomp_profile(p, container, c->seccomp_default);
    yyjson_val *apparmor = security_value(p, container, "appArmorProfile");
    if (apparmor)
        s->apparmor = profile_of(apparmor, "");
    if (!s->privileged)
        add_masked_paths(s);
    return s;
}

/* ---- mounts ---- */

char *mount_sub_path(yyjson_val *mount, const struct env *env) {
    const char *plain = json_str(mount, "subPath"), *expr = json_str(mount, "subPathExpr");
    if (!str_empty(expr))
        return env_expand(env, expr);
    return str_empty(plain) ? NULL : xstrdup(plain);
}

static Cri__Mount *new_mount(Cri__ContainerConfig *cc, const char *host, const char *inside, bool read_only) {
    Cri__Mount *m = CRI_NEW(Cri__Mount, cri__mount__init);
    m->host_path = xstrdup(host);
    m->container_path = xstrdup(inside);
    m->readonly = read_only;
    cc->mounts = xreallocarray(cc->mounts, cc->n_mounts + 1, sizeof(m));
    cc->mounts[cc->n_mounts++] = m;
    return m;
}

static int add_mount(const struct pod_config_context *c, const struct container_config_input *in, size_t index,
                     yyjson_val *mount, const struct env *env, Cri__ContainerConfig *cc, struct error *err) {
    const char *name = json_str(mount, "name"), *inside = json_str(mount, "mountPath");
    _cleanup_(free_p) char *host = volume_host_path(c->field.pod, c->pod_dir, name);
    if (!host)
        return error_set(err, ERR_INVALID, "volumeMounts[%zu]: the pod has no volume \"%s\"", index, str_or(name, ""));
    if (str_empty(inside))
        return error_set(err, ERR_INVALID, "volumeMounts[%zu]: no mountPath", index);
    _cleanup_(free_p) char *sub = mount_sub_path(mount, env);
    if (sub) {
        if (!volume_path_valid(sub))
            return error_set(err, ERR_INVALID, "volumeMounts[%zu]: subPath is not allowed", index);
        free(host);
        host = xasprintf("%s/%zu", in->sub_path_dir, index);
    }
    _cleanup_(free_p) char *absolute = inside[0] == '/' ? xstrdup(inside) : xasprintf("/%s", inside);
    Cri__Mount *m =
        new_mount(cc, host, absolute,
                  json_bool_or(yyjson_obj_get(mount, "readOnly"), false) || volume_is_read_only(c->field.pod, name));
    const char *propagation = json_str(mount, "mountPropagation");
    m->propagation = str_eq(propagation, "HostToContainer") ? CRI__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER
                     : str_eq(propagation, "Bidirectional") ? CRI__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL
                                                            : CRI__MOUNT_PROPAGATION__PROPAGATION_PRIVATE;
    const char *recursive = json_str(mount, "recursiveReadOnly");
    if (str_eq(recursive, "Enabled"))
        return error_set(err, ERR_UNSUPPORTED, "volumeMounts[%zu].recursiveReadOnly: Enabled is not supported", index);
    return 0;
}

static bool mounts_at(yyjson_val *container, const char *path) {
    size_t i, max;
    yyjson_val *m;
    yyjson_arr_foreach (yyjson_obj_get(container, "volumeMounts"), i, max, m) {
        if (str_eq(json_str(m, "mountPath"), path))
            return true;
    }
    return false;
}

static int add_mounts(const struct pod_config_context *c, const struct container_config_input *in,
                      const struct env *env, Cri__ContainerConfig *cc, struct error *err) {
    size_t i, max;
    yyjson_val *m;
    yyjson_arr_foreach (yyjson_obj_get(in->container, "volumeMounts"), i, max, m) {
        if (add_mount(c, in, i, m, env, cc, err) < 0)
            return -1;
    }
    if (!mounts_at(in->container, "/etc/hosts")) {
        _cleanup_(free_p) char *hosts = xasprintf("%s/etc-hosts", c->pod_dir);
        new_mount(cc, hosts, "/etc/hosts",
                  json_bool_or(json_get(in->container, "securityContext", "readOnlyRootFilesystem"), false));
    }
    if (in->term_log)
        new_mount(cc, in->term_log, str_or(json_str(in->container, "terminationMessagePath"), "/dev/termination-log"),
                  false);
    return 0;
}

/* ---- the container ---- */

static int add_strings(yyjson_val *list, const struct env *env, char ***out, size_t *n, struct error *err) {
    size_t i, max, bytes = 0;
    yyjson_val *v;
    yyjson_arr_foreach (list, i, max, v) {
        _cleanup_(free_p) char *text = env_expand(env, str_or(yyjson_get_str(v), ""));
        bytes += strlen(text);
        if (bytes > ENV_TOTAL_MAX)
            return error_set(err, ERR_TOO_LARGE, "command or args have more than %u bytes", ENV_TOTAL_MAX);
        cri_add_string(out, n, text);
    }
    return 0;
}

static void add_labels(const struct pod_config_context *c, const struct container_config_input *in,
                       Cri__ContainerConfig *cc) {
    const struct pod *p = c->field.pod;
    cri_add_pair(&cc->labels, &cc->n_labels, LABEL_POD_NAME, p->name);
    cri_add_pair(&cc->labels, &cc->n_labels, LABEL_POD_NAMESPACE, p->ns);
    cri_add_pair(&cc->labels, &cc->n_labels, LABEL_POD_UID, p->uid);
    cri_add_pair(&cc->labels, &cc->n_labels, LABEL_CONTAINER_NAME, json_str(in->container, "name"));
    char text[32];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)container_hash(in->container));
    cri_add_pair(&cc->annotations, &cc->n_annotations, ANNOTATION_HASH, text);
    snprintf(text, sizeof(text), "%lld", (long long)in->restarts);
    cri_add_pair(&cc->annotations, &cc->n_annotations, ANNOTATION_RESTARTS, text);
    cri_add_pair(&cc->annotations, &cc->n_annotations, ANNOTATION_TERM_PATH,
                 str_or(json_str(in->container, "terminationMessagePath"), "/dev/termination-log"));
    cri_add_pair(&cc->annotations, &cc->n_annotations, ANNOTATION_TERM_POLICY,
                 str_or(json_str(in->container, "terminationMessagePolicy"), "File"));
    snprintf(text, sizeof(text), "%lld", (long long)pod_grace_seconds(p));
    cri_add_pair(&cc->annotations, &cc->n_annotations, ANNOTATION_GRACE, text);
}

static Cri__LinuxContainerResources *linux_resources(const struct pod_config_context *c, yyjson_val *container) {
    struct linux_resources r;
    container_resources(c->field.pod, container, c->resources, &r);
    Cri__LinuxContainerResources *out = CRI_NEW(Cri__LinuxContainerResources, cri__linux_container_resources__init);
    out->cpu_period = r.cpu_period_us;
    out->cpu_quota = r.cpu_quota_us;
    out->cpu_shares = r.cpu_shares;
    out->memory_limit_in_bytes = r.memory_bytes;
    out->oom_score_adj = r.oom_score_adj;
    if (c->cgroup_v2) /* the container dies as a whole, not one of its processes */
        cri_add_pair(&out->unified, &out->n_unified, "memory.oom.group", "1");
    return out;
}

Cri__ContainerConfig *container_config(const struct pod_config_context *c, const struct container_config_input *in,
                                       struct error *err) {
    _cleanup_(env_free) struct env env = {0};
    if (env_build(&c->field, in->container, in->objects, &env, err) < 0)
        return NULL;
    Cri__ContainerConfig *cc = CRI_NEW(Cri__ContainerConfig, cri__container_config__init);
    const char *name = json_str(in->container, "name");
    cc->metadata = CRI_NEW(Cri__ContainerMetadata, cri__container_metadata__init);
    cc->metadata->name = xstrdup(name);
    cc->metadata->attempt = (uint32_t)in->restarts;
    cc->image = CRI_NEW(Cri__ImageSpec, cri__image_spec__init);
    cc->image->image = xstrdup(in->image->image_ref);
    cc->image->user_specified_image = xstrdup(str_or(json_str(in->container, "image"), ""));
    cc->working_dir = xstrdup(str_or(json_str(in->container, "workingDir"), ""));
    for (size_t i = 0; i < env.count; i++)
        cri_add_pair(&cc->envs, &cc->n_envs, env.vars[i].name, env.vars[i].value);
    add_labels(c, in, cc);
    cc->log_path = xasprintf("%s/%lld.log", name, (long long)in->restarts);
    cc->stdin = json_bool_or(yyjson_obj_get(in->container, "stdin"), false);
    cc->stdin_once = json_bool_or(yyjson_obj_get(in->container, "stdinOnce"), false);
    cc->tty = json_bool_or(yyjson_obj_get(in->container, "tty"), false);
    cc->linux = CRI_NEW(Cri__LinuxContainerConfig, cri__linux_container_config__init);
    cc->linux->resources = linux_resources(c, in->container);
    cc->linux->security_context = container_security(c, in->container, in->image, err);
    if (in->target_id && cc->linux->security_context) {
        cc->linux->security_context->namespace_options->pid = CRI__NAMESPACE_MODE__TARGET;
        cc->linux->security_context->namespace_options->target_id = xstrdup(in->target_id);
    }
    if (!cc->linux->security_context ||
        add_strings(yyjson_obj_get(in->container, "command"), &env, &cc->command, &cc->n_command, err) < 0 ||
        add_strings(yyjson_obj_get(in->container, "args"), &env, &cc->args, &cc->n_args, err) < 0 ||
        add_mounts(c, in, &env, cc, err) < 0) {
        CRI_FREE(cc);
        return NULL;
    }
    return cc;
}
