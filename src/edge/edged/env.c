#include "edge/edged/env.h"

#define ENV_VALUE_MAX (2u << 20)
#define ENV_MAX 10000

void env_set(struct env *e, const char *name, const char *value) {
    for (size_t i = 0; i < e->count; i++)
        if (str_eq(e->vars[i].name, name)) {
            char *copy = xstrdup(value);
            e->bytes += strlen(copy) - strlen(e->vars[i].value);
            free(e->vars[i].value);
            e->vars[i].value = copy;
            return;
        }
    if (e->count == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 16;
        e->vars = xreallocarray(e->vars, e->cap, sizeof(*e->vars));
    }
    e->vars[e->count++] = (struct env_var){xstrdup(name), xstrdup(value)};
    e->bytes += strlen(name) + strlen(value);
}

static int check_size(const struct env *e, struct error *err) {
    if (e->count > ENV_MAX || e->bytes > ENV_TOTAL_MAX)
        return error_set(err, ERR_TOO_LARGE, "the environment has more than %d variables or %u bytes", ENV_MAX,
                         ENV_TOTAL_MAX);
    return 0;
}

const char *env_get(const struct env *e, const char *name) {
    for (size_t i = 0; i < e->count; i++)
        if (str_eq(e->vars[i].name, name))
            return e->vars[i].value;
    return NULL;
}

void env_free(struct env *e) {
    for (size_t i = 0; i < e->count; i++) {
        free(e->vars[i].name);
        free(e->vars[i].value);
    }
    free(e->vars);
    *e = (struct env){0};
}

char *env_expand(const struct env *e, const char *text) {
    struct buf out = BUF_INIT(ENV_VALUE_MAX);
    const char *last = strrchr(text, ')'); /* so that no search for one runs in vain */
    for (const char *s = text; *s; s++) {
        const char *end;
        if (*s != '$' || !s[1]) {
            buf_add_char(&out, *s);
        } else if (s[1] == '$') {
            buf_add_char(&out, '$');
            s++;
        } else if (s[1] == '(' && s < last && (end = strchr(s, ')')) != NULL) {
            _cleanup_(free_p) char *name = xstrndup(s + 2, (size_t)(end - s) - 2);
            const char *value = env_get(e, name);
            if (value)
                buf_add_str(&out, value);
            else
                buf_add(&out, s, (size_t)(end - s) + 1);
            s = end;
        } else {
            buf_add_char(&out, *s);
        }
    }
    return buf_take(&out, NULL);
}

/* Secret data is base64; a ConfigMap's is plain. Values with a NUL in them cannot be an environment's. */
static int add_value(enum object_kind kind, yyjson_val *v, struct buf *out, struct error *err) {
    struct bytes text = bytes_of(yyjson_get_str(v), yyjson_get_len(v));
    if (kind == OBJ_CONFIGMAP)
        return buf_add_bytes(out, text);
    if (base64_decode(text, out) < 0)
        return error_set(err, ERR_INVALID, "secret data is not base64");
    return 0;
}

static int from_object(const struct object_set *s, enum object_kind kind, yyjson_val *source, const char *prefix,
                       struct env *out, struct error *err) {
    const char *name = json_str(source, "name");
    const struct object_entry *e = object_set_get(s, kind, name);
    if (!e || !e->obj) {
        if (json_bool_or(yyjson_obj_get(source, "optional"), false) && (!e || e->error.code == ERR_NOT_FOUND))
            return 0;
        return error_set(err, ERR_NOT_FOUND, "%s", e ? error_text(&e->error) : "reference without a name");
    }
    size_t i, max;
    yyjson_val *key, *val;
    yyjson_obj_foreach (yyjson_obj_get(e->obj, "data"), i, max, key, val) {
        const char *k = yyjson_get_str(key);
        if (!*k || strchr(k, '='))
            continue;
        _cleanup_(buf_free) struct buf value = BUF_INIT(ENV_VALUE_MAX);
        if (add_value(kind, val, &value, err) < 0)
            return -1;
        _cleanup_(free_p) char *full = xasprintf("%s%s", str_or(prefix, ""), k);
        env_set(out, full, value.len ? value.ptr : "");
        if (check_size(out, err) < 0)
            return -1;
    }
    return 0;
}

static int key_ref(const struct object_set *s, enum object_kind kind, yyjson_val *ref, const char *ns, struct buf *out,
                   bool *absent, struct error *err) {
    const char *name = json_str(ref, "name"), *key = str_or(json_str(ref, "key"), "");
    bool optional = json_bool_or(yyjson_obj_get(ref, "optional"), false);
    const struct object_entry *e = object_set_get(s, kind, name);
    *absent = false;
    if (!e || !e->obj) {
        if (optional && (!e || e->error.code == ERR_NOT_FOUND)) {
            *absent = true;
            return 0;
        }
        return error_set(err, ERR_NOT_FOUND, "%s", e ? error_text(&e->error) : "reference without a name");
    }
    yyjson_val *v = json_get(e->obj, "data", key);
    if (!v && kind == OBJ_CONFIGMAP && (v = json_get(e->obj, "binaryData", key)) != NULL)
        kind = OBJ_SECRET; /* base64 as well */
    if (!v) {
        *absent = optional;
        return optional ? 0
                        : error_set(err, ERR_NOT_FOUND, "couldn't find key %s in %s %s/%s", key,
                                    kind == OBJ_CONFIGMAP ? "ConfigMap" : "Secret", ns, name);
    }
    return add_value(kind, v, out, err);
}

static int from_ref(const struct field_context *c, yyjson_val *container, yyjson_val *from,
                    const struct object_set *objects, struct buf *out, bool *absent, struct error *err) {
    yyjson_val *ref;
    *absent = false;
    if ((ref = yyjson_obj_get(from, "fieldRef")))
        return field_ref_value(c, json_str(ref, "fieldPath"), out, err);
    if ((ref = yyjson_obj_get(from, "resourceFieldRef")))
        return resource_ref_value(c, container, ref, out, err);
    if ((ref = yyjson_obj_get(from, "configMapKeyRef")))
        return key_ref(objects, OBJ_CONFIGMAP, ref, c->pod->ns, out, absent, err);
    if ((ref = yyjson_obj_get(from, "secretKeyRef")))
        return key_ref(objects, OBJ_SECRET, ref, c->pod->ns, out, absent, err);
    return error_set(err, ERR_UNSUPPORTED, "env: valueFrom of an unknown kind");
}

int env_build(const struct field_context *c, yyjson_val *container, const struct object_set *objects, struct env *out,
              struct error *err) {
    size_t i, max;
    yyjson_val *e, *src;
    yyjson_arr_foreach (yyjson_obj_get(container, "envFrom"), i, max, e) {
        const char *prefix = json_str(e, "prefix");
        if ((src = yyjson_obj_get(e, "configMapRef")) && from_object(objects, OBJ_CONFIGMAP, src, prefix, out, err) < 0)
            return -1;
        if ((src = yyjson_obj_get(e, "secretRef")) && from_object(objects, OBJ_SECRET, src, prefix, out, err) < 0)
            return -1;
    }
    yyjson_arr_foreach (yyjson_obj_get(container, "env"), i, max, e) {
        const char *name = json_str(e, "name");
        if (check_size(out, err) < 0)
            return -1;
        if (str_empty(name) || strchr(name, '='))
            return error_set(err, ERR_INVALID, "env[%zu] has no usable name", i);
        yyjson_val *from = yyjson_obj_get(e, "valueFrom");
        if (!from || yyjson_is_null(from)) {
            _cleanup_(free_p) char *value = env_expand(out, str_or(json_str(e, "value"), ""));
            env_set(out, name, value);
            continue;
        }
        _cleanup_(buf_free) struct buf value = BUF_INIT(ENV_VALUE_MAX);
        bool absent;
        if (from_ref(c, container, from, objects, &value, &absent, err) < 0)
            return -1;
        if (!absent)
            env_set(out, name, value.len ? value.ptr : "");
    }
    return check_size(out, err);
}
