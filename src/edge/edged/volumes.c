/* Planning: from the pod's volumes and its objects to folders, mounts and files. Pure. */
#include "edge/edged/volumes.h"

#include "base/clock.h"
#include "edge/edged/volume_plan.h"
#include "kube/quantity.h"

#define VOLUME_DATA_MAX (4u << 20)
#define MODE_DEFAULT 0644

void volume_plan_free(struct volume_plan *p) {
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++) {
        struct planned_volume *v = &p->volumes[i];
        for (size_t k = 0; k < v->n_files; k++) {
            free(v->files[k].path);
            if (v->files[k].data)
                explicit_bzero(v->files[k].data, v->files[k].len);
            free(v->files[k].data);
        }
        free(v->files);
        free(v->name);
        free(v->path);
        free(v->host_type);
    }
    free(p->volumes);
    free(p->pod_dir);
    free(p);
}

int64_t volume_plan_renew_at(const struct volume_plan *p) {
    return p->renew_at;
}

int64_t pod_fs_group(const struct pod *p) {
    return json_int_or(json_get(p->spec, "securityContext", "fsGroup"), -1);
}

static const char *const volume_types[][2] = {
    {"emptyDir", "empty-dir"},  {"configMap", "configmap"},      {"secret", "secret"},
    {"projected", "projected"}, {"downwardAPI", "downward-api"}, {"hostPath", NULL},
};

static yyjson_val *find_volume(const struct pod *p, const char *name) {
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "volumes"), i, max, v) {
        if (str_eq(json_str(v, "name"), name))
            return v;
    }
    return NULL;
}

/* Index into volume_types; a volume without any source is an emptyDir, as in the API. */
static size_t volume_type(yyjson_val *v) {
    for (size_t i = 0; i < ARRAY_LEN(volume_types); i++) {
        yyjson_val *source = yyjson_obj_get(v, volume_types[i][0]);
        if (source && !yyjson_is_null(source))
            return i;
    }
    return 0;
}

static char *path_of(yyjson_val *v, const char *pod_dir) {
    size_t t = volume_type(v);
    if (!volume_types[t][1])
        return xstrdup(str_or(json_str(v, "hostPath", "path"), "/nonexistent"));
    return xasprintf("%s/volumes/kubernetes.io~%s/%s", pod_dir, volume_types[t][1], json_str(v, "name"));
}

char *volume_host_path(const struct pod *p, const char *pod_dir, const char *name) {
    yyjson_val *v = find_volume(p, name);
    return v ? path_of(v, pod_dir) : NULL;
}

static bool refreshed(yyjson_val *v) {
    const char *t = volume_types[volume_type(v)][0];
    return !str_eq(t, "emptyDir") && !str_eq(t, "hostPath");
}

bool volume_is_read_only(const struct pod *p, const char *name) {
    yyjson_val *v = find_volume(p, name);
    return v && refreshed(v);
}

bool pod_has_refreshed_volumes(const struct pod *p) {
    size_t i, max;
    yyjson_val *v;
    yyjson_arr_foreach (yyjson_obj_get(p->spec, "volumes"), i, max, v) {
        if (refreshed(v))
            return true;
    }
    return false;
}

/* ---- files ---- */

static mode_t mode_or(yyjson_val *v, mode_t fallback) {
    int64_t n = json_int_or(v, -1);
    return n < 0 || n > 0777 ? fallback : (mode_t)n;
}

static int add_file(struct planned_volume *v, const char *path, struct buf *data, mode_t mode, struct error *err) {
    if (!volume_path_valid(path))
        return error_set(err, ERR_INVALID, "path \"%s\" is not allowed in a volume", str_or(path, ""));
    size_t i = 0;
    while (i < v->n_files && !str_eq(v->files[i].path, path))
        i++;
    if (i < v->n_files) { /* a later source of a projected volume wins */
        free(v->files[i].data);
    } else {
        v->files = xreallocarray(v->files, v->n_files + 1, sizeof(*v->files));
        v->files[v->n_files++] = (struct volume_file){.path = xstrdup(path)};
    }
    v->files[i].mode = mode;
    v->files[i].data = buf_take(data, &v->files[i].len);
    return 0;
}

static int decode_value(yyjson_val *val, bool base64, struct buf *out, struct error *err) {
    struct bytes text = bytes_of(yyjson_get_str(val), yyjson_get_len(val));
    if (!base64)
        return buf_add_bytes(out, text);
    if (base64_decode(text, out) < 0)
        return error_set(err, ERR_INVALID, "data is not base64");
    return 0;
}

static int add_key(struct planned_volume *v, const char *path, yyjson_val *val, bool base64, mode_t mode,
                   struct error *err) {
    struct buf data = BUF_INIT(VOLUME_DATA_MAX);
    if (decode_value(val, base64, &data, err) < 0 || add_file(v, path, &data, mode, err) < 0) {
        buf_free(&data);
        return -1;
    }
    return 0;
}

static int add_all_keys(struct planned_volume *v, yyjson_val *map, bool base64, mode_t mode, struct error *err) {
    size_t i, max;
    yyjson_val *key, *val;
    yyjson_obj_foreach (map, i, max, key, val) {
        if (add_key(v, yyjson_get_str(key), val, base64, mode, err) < 0)
            return -1;
    }
    return 0;
}

/* The files of one ConfigMap or Secret, whole or by items. */
static int add_object(struct planned_volume *v, const struct object_set *objects, enum object_kind kind,
                      const char *name, yyjson_val *source, mode_t mode, struct error *err) {
    bool optional = json_bool_or(yyjson_obj_get(source, "optional"), false), secret = kind == OBJ_SECRET;
    const struct object_entry *e = object_set_get(objects, kind, name);
    if (!e || !e->obj) {
        if (optional && (!e || e->error.code == ERR_NOT_FOUND))
            return 0;
        return error_set(err, e ? e->error.code : ERR_INVALID, "%s", e ? error_text(&e->error) : "no name given");
    }
    yyjson_val *data = yyjson_obj_get(e->obj, "data"), *binary = yyjson_obj_get(e->obj, "binaryData");
    yyjson_val *items = yyjson_obj_get(source, "items");
    if (yyjson_arr_size(items) == 0) {
        if (add_all_keys(v, data, secret, mode, err) < 0)
            return -1;
        return add_all_keys(v, secret ? NULL : binary, true, mode, err);
    }
    size_t i, max;
    yyjson_val *item;
    yyjson_arr_foreach (items, i, max, item) {
        const char *key = str_or(json_str(item, "key"), "");
        yyjson_val *val = yyjson_obj_get(data, key), *bin = secret ? NULL : yyjson_obj_get(binary, key);
        if (!val && !bin) {
            if (optional)
                continue;
            return error_set(err, ERR_NOT_FOUND, "%s \"%s\" references non-existent key: %s",
                             secret ? "secret" : "configmap", name, key);
        }
        if (add_key(v, json_str(item, "path"), val ? val : bin, secret || !val,
                    mode_or(yyjson_obj_get(item, "mode"), mode), err) < 0)
            return -1;
    }
    return 0;
}

static int add_downward(struct planned_volume *v, const struct field_context *c, yyjson_val *items, mode_t mode,
                        struct error *err) {
    size_t i, max;
    yyjson_val *item;
    yyjson_arr_foreach (items, i, max, item) {
        struct buf data = BUF_INIT(VOLUME_DATA_MAX);
        yyjson_val *field = yyjson_obj_get(item, "fieldRef"), *res = yyjson_obj_get(item, "resourceFieldRef");
        int rc = field ? field_ref_value(c, json_str(field, "fieldPath"), &data, err)
                       : resource_ref_value(c, NULL, res, &data, err);
        if (rc == 0)
            rc = add_file(v, json_str(item, "path"), &data, mode_or(yyjson_obj_get(item, "mode"), mode), err);
        buf_free(&data);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int add_token(struct volume_plan *plan, struct planned_volume *v, const struct pod *p,
                     const struct object_set *objects, yyjson_val *source, mode_t mode, struct error *err) {
    _cleanup_(free_p) char *name = token_entry_name(p, source);
    const struct object_entry *e = object_set_get(objects, OBJ_TOKEN, name);
    const char *token = e ? json_str(e->obj, "status", "token") : NULL;
    if (str_empty(token))
        return error_set(err, e ? e->error.code : ERR_NOT_FOUND, "%s",
                         e && e->error.msg[0] ? e->error.msg : "the cloud gave no service account token");
    int64_t expires_ns = 0, now = clock_wall_s();
    const char *when = json_str(e->obj, "status", "expirationTimestamp");
    if (when && rfc3339_parse(bytes_str(when), &expires_ns) == 0) {
        int64_t life = expires_ns / 1000000000 - now;
        int64_t renew = now + (life > 60 ? life * 8 / 10 : 60);
        if (plan->renew_at == 0 || renew < plan->renew_at)
            plan->renew_at = renew;
    }
    struct buf data = BUF_INIT(VOLUME_DATA_MAX);
    buf_add_str(&data, token);
    int rc = add_file(v, json_str(source, "path"), &data, mode, err);
    buf_free(&data);
    return rc;
}

static int add_projected(struct volume_plan *plan, struct planned_volume *v, const struct field_context *c,
                         const struct object_set *objects, yyjson_val *projected, struct error *err) {
    mode_t mode = mode_or(yyjson_obj_get(projected, "defaultMode"), MODE_DEFAULT);
    size_t i, max;
    yyjson_val *s, *src;
    yyjson_arr_foreach (yyjson_obj_get(projected, "sources"), i, max, s) {
        int rc = 0;
        if ((src = yyjson_obj_get(s, "configMap")))
            rc = add_object(v, objects, OBJ_CONFIGMAP, json_str(src, "name"), src, mode, err);
        if (rc == 0 && (src = yyjson_obj_get(s, "secret")))
            rc = add_object(v, objects, OBJ_SECRET, json_str(src, "name"), src, mode, err);
        if (rc == 0 && (src = yyjson_obj_get(s, "downwardAPI")))
            rc = add_downward(v, c, yyjson_obj_get(src, "items"), mode, err);
        if (rc == 0 && (src = yyjson_obj_get(s, "serviceAccountToken")))
            rc = add_token(plan, v, c->pod, objects, src, mode, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* ---- volumes ---- */

static int plan_empty_dir(struct planned_volume *v, yyjson_val *source, struct error *err) {
    v->kind = str_eq(json_str(source, "medium"), "Memory") ? PLAN_TMPFS : PLAN_DIR;
    const char *limit = json_str(source, "sizeLimit");
    struct quantity q;
    if (!str_empty(limit)) {
        if (quantity_parse(bytes_str(limit), &q, err) < 0)
            return error_wrap(err, "sizeLimit");
        v->size_limit = quantity_value(q);
    }
    return 0;
}

static int plan_volume(struct volume_plan *plan, struct planned_volume *v, const struct field_context *c,
                       const struct object_set *objects, yyjson_val *volume, struct error *err) {
    const char *type = volume_types[volume_type(volume)][0];
    yyjson_val *source = yyjson_obj_get(volume, type);
    mode_t mode = mode_or(yyjson_obj_get(source, "defaultMode"), MODE_DEFAULT);
    v->kind = PLAN_FILES;
    if (str_eq(type, "emptyDir"))
        return plan_empty_dir(v, source, err);
    if (str_eq(type, "hostPath")) {
        v->kind = PLAN_HOST_PATH;
        v->host_type = xstrdup(str_or(json_str(source, "type"), ""));
        return v->path[0] == '/' ? 0 : error_set(err, ERR_INVALID, "hostPath.path must be absolute");
    }
    if (str_eq(type, "configMap"))
        return add_object(v, objects, OBJ_CONFIGMAP, json_str(source, "name"), source, mode, err);
    v->in_memory = true; /* what may hold secrets never touches the disk */
    if (str_eq(type, "secret"))
        return add_object(v, objects, OBJ_SECRET, json_str(source, "secretName"), source, mode, err);
    if (str_eq(type, "downwardAPI"))
        return add_downward(v, c, yyjson_obj_get(source, "items"), mode, err);
    return add_projected(plan, v, c, objects, source, err);
}

struct volume_plan *volume_plan_new(const struct field_context *c, const struct object_set *objects,
                                    const char *pod_dir, struct error *err) {
    yyjson_val *list = yyjson_obj_get(c->pod->spec, "volumes");
    /* Cut to 32 bits it would name another group, root's among them. */
    if (pod_fs_group(c->pod) > INT32_MAX) {
        error_set(err, ERR_INVALID, "spec.securityContext.fsGroup: %lld is larger than %d",
                  (long long)pod_fs_group(c->pod), INT32_MAX);
        return NULL;
    }
    struct volume_plan *plan = NEW(struct volume_plan);
    plan->pod_dir = xstrdup(pod_dir);
    plan->fs_group = pod_fs_group(c->pod);
    plan->volumes = xcalloc(yyjson_arr_size(list) + 1, sizeof(*plan->volumes));
    size_t i, max;
    yyjson_val *volume;
    yyjson_arr_foreach (list, i, max, volume) {
        struct planned_volume *v = &plan->volumes[plan->count++];
        v->name = xstrdup(json_str(volume, "name"));
        v->path = path_of(volume, pod_dir);
        if (plan_volume(plan, v, c, objects, volume, err) < 0) {
            error_wrap(err, "volume \"%s\"", v->name);
            volume_plan_free(plan);
            return NULL;
        }
    }
    return plan;
}
