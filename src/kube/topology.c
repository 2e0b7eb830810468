#include "kube/topology.h"

#include "base/str.h"
#include "kube/members.h"

struct topology topology_builtin(const struct schema_type *t) {
    return (struct topology){.type = t};
}

struct topology topology_custom(yyjson_val *structural_schema) {
    return (struct topology){.custom = structural_schema};
}

/* ---- built-in types --------------------------------------------------------------------------------------------- */

static enum topology_kind struct_kind(const struct schema_field *f, const struct schema_type *type) {
    if (f && f->type != FT_MESSAGE)
        return TOPOLOGY_ATOMIC;
    return type->atomic && !(f && f->list_type == LIST_GRANULAR) ? TOPOLOGY_ATOMIC : TOPOLOGY_STRUCT;
}

static enum topology_kind builtin_kind(const struct topology *t, yyjson_val *value) {
    const struct schema_field *f = t->field;
    if (!f || t->element || f->shape == FS_ONE)
        return yyjson_is_obj(value) && t->type ? struct_kind(f, t->type) : TOPOLOGY_ATOMIC;
    if (f->shape == FS_MAP)
        return yyjson_is_obj(value) && f->list_type != LIST_ATOMIC ? TOPOLOGY_MAP : TOPOLOGY_ATOMIC;
    if (!yyjson_is_arr(value) || (f->list_type != LIST_MAP && f->list_type != LIST_SET))
        return TOPOLOGY_ATOMIC;
    return f->list_type == LIST_MAP ? TOPOLOGY_LIST_MAP : TOPOLOGY_SET;
}

static struct topology builtin_member(const struct topology *t, struct bytes name) {
    if (t->field && t->field->shape == FS_MAP && !t->element)
        return (struct topology){.type = t->type, .field = t->field, .element = true};
    const struct schema_field *f = t->type ? schema_field(t->type, name) : NULL;
    return (struct topology){.type = f ? schema_field_message(f) : NULL, .field = f};
}

/* ---- structural schemas ----------------------------------------------------------------------------------------- */

static enum topology_kind custom_kind(yyjson_val *schema, yyjson_val *value) {
    if (yyjson_is_obj(value)) {
        if (str_eq(json_str(schema, "x-kubernetes-map-type"), "atomic"))
            return TOPOLOGY_ATOMIC;
        return yyjson_is_obj(yyjson_obj_get(schema, "properties")) ? TOPOLOGY_STRUCT : TOPOLOGY_MAP;
    }
    const char *type = yyjson_is_arr(value) ? json_str(schema, "x-kubernetes-list-type") : NULL;
    if (str_eq(type, "map") && yyjson_arr_size(yyjson_obj_get(schema, "x-kubernetes-list-map-keys")) > 0)
        return TOPOLOGY_LIST_MAP;
    return str_eq(type, "set") ? TOPOLOGY_SET : TOPOLOGY_ATOMIC;
}

/* A member without a schema under preserve-unknown-fields gets none: it is not described. */
static yyjson_val *custom_member(yyjson_val *schema, struct bytes name) {
    yyjson_val *property = yyjson_obj_getn(json_get(schema, "properties"), name.ptr, name.len);
    yyjson_val *additional = yyjson_obj_get(schema, "additionalProperties");
    return property ? property : yyjson_is_obj(additional) ? additional : NULL;
}

/* ---- either ----------------------------------------------------------------------------------------------------- */

static bool described(const struct topology *t) {
    return t->type || t->field || t->custom;
}

enum topology_kind topology_kind(const struct topology *t, yyjson_val *value) {
    if (!yyjson_is_ctn(value))
        return TOPOLOGY_ATOMIC;
    if (t->custom)
        return custom_kind(t->custom, value);
    if (described(t))
        return builtin_kind(t, value);
    return yyjson_is_obj(value) ? TOPOLOGY_MAP : TOPOLOGY_ATOMIC;
}

struct topology topology_member(const struct topology *t, struct bytes name) {
    if (t->custom)
        return topology_custom(custom_member(t->custom, name));
    return described(t) ? builtin_member(t, name) : (struct topology){0};
}

bool topology_names(const struct topology *t, struct bytes name) {
    if (t->custom)
        return yyjson_obj_getn(json_get(t->custom, "properties"), name.ptr, name.len);
    return t->type && (t->element || !t->field || t->field->shape == FS_ONE) && schema_field(t->type, name);
}

struct topology topology_element(const struct topology *t) {
    if (t->custom)
        return topology_custom(json_get(t->custom, "items"));
    return (struct topology){.type = t->type, .field = t->field, .element = true};
}

static int compare_names(const void *pa, const void *pb) {
    const struct bytes *a = pa, *b = pb;
    int c = memcmp(a->ptr, b->ptr, a->len < b->len ? a->len : b->len);
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

size_t topology_keys(const struct topology *list, struct bytes keys[TOPOLOGY_MAX_KEYS]) {
    size_t n = 0;
    if (list->custom) {
        yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(list->custom, "x-kubernetes-list-map-keys"));
        for (yyjson_val *v; n < TOPOLOGY_MAX_KEYS && (v = yyjson_arr_iter_next(&it));)
            if (yyjson_is_str(v))
                keys[n++] = json_bytes(v);
    } else if (list->field) {
        n = bytes_split(bytes_str(schema_field_list_map_keys(list->field)), ',', keys, TOPOLOGY_MAX_KEYS);
        n = n < TOPOLOGY_MAX_KEYS ? n : TOPOLOGY_MAX_KEYS;
    }
    qsort(keys, n, sizeof(*keys), compare_names);
    return n;
}

char *topology_key_default(const struct topology *list, struct bytes key) {
    struct topology element = topology_element(list), member = topology_member(&element, key);
    if (member.custom) {
        yyjson_val *value = yyjson_obj_get(member.custom, "default");
        return value ? json_write(value, NULL) : NULL;
    }
    const char *text = member.field ? schema_field_default(member.field) : "";
    return *text ? xstrdup(text) : NULL;
}
