#include "apiserver/openapi.h"

#include "apiserver/crd.h"

static void separate(struct buf *out, bool *any) {
    if (*any)
        buf_add_char(out, ',');
    *any = true;
}

static void add_gv_path(struct buf *out, const struct kind *k) {
    if (*k->group)
        buf_addf(out, "apis/%s/%s", k->group, k->version);
    else
        buf_addf(out, "api/%s", k->version);
}

static bool is_first_of_version(const struct kinds *ks, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (str_eq(kinds_at(ks, j)->group, kinds_at(ks, i)->group) &&
            str_eq(kinds_at(ks, j)->version, kinds_at(ks, i)->version))
            return false;
    return true;
}

static void write_index(const struct kinds *ks, struct buf *out) {
    bool any = false;
    buf_add_str(out, "{\"paths\":{");
    for (size_t i = 0; i < kinds_count(ks); i++) {
        if (!is_first_of_version(ks, i))
            continue;
        separate(out, &any);
        buf_add_char(out, '"');
        add_gv_path(out, kinds_at(ks, i));
        buf_add_str(out, "\":{\"serverRelativeURL\":\"/openapi/v3/");
        add_gv_path(out, kinds_at(ks, i));
        buf_addf(out, "?hash=%llu\"}", (unsigned long long)kinds_generation(ks));
    }
    buf_add_str(out, "}}");
}

/* ---- operations ------------------------------------------------------------------------------------------------- */

static void add_gvk(struct buf *out, const struct kind *k) {
    buf_addf(out, "{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}", k->group, k->version, k->kind);
}

/* kubectl looks for a patch operation of the kind with these parameters, and then leaves validation to the server. */
static void add_patch_path(struct buf *out, const struct kind *k) {
    buf_add_str(out, "\"/");
    add_gv_path(out, k);
    buf_addf(out,
             "%s/%s/{name}\":{\"patch\":{\"responses\":{\"200\":{\"description\":\"OK\"}},"
             "\"x-kubernetes-action\":\"patch\",\"x-kubernetes-group-version-kind\":",
             k->namespaced ? "/namespaces/{namespace}" : "", k->plural);
    add_gvk(out, k);
    buf_add_str(out, ",\"parameters\":[{\"name\":\"dryRun\",\"in\":\"query\",\"schema\":{\"type\":\"string\"}},"
                     "{\"name\":\"fieldValidation\",\"in\":\"query\",\"schema\":{\"type\":\"string\"}}]}}");
}

/* ---- schemas ---------------------------------------------------------------------------------------------------- */

static void add_type_name(struct buf *out, const struct schema_type *t) {
    const char *group = schema_type_group(t);
    buf_addf(out, "io.k8s.api.%s.%s.%s", *group ? group : "core", schema_strings + t->version, schema_type_name(t));
}

static void add_words(struct buf *out, const char *name, struct bytes words, char sep) {
    struct bytes word;
    buf_addf(out, ",\"%s\":[", name);
    for (bool more = true, first = true; more; first = false) {
        more = bytes_cut(words, sep, &word, &words);
        buf_addf(out, "%s\"%.*s\"", first ? "" : ",", (int)word.len, word.ptr);
    }
    buf_add_char(out, ']');
}

static void add_string_schema(struct buf *out, const struct schema_field *f) {
    buf_add_str(out, "{\"type\":\"string\"");
    if (*schema_field_enum(f))
        add_words(out, "enum", bytes_str(schema_field_enum(f)), ' ');
    buf_add_char(out, '}');
}

static void add_value_schema(struct buf *out, const struct schema_field *f) {
    static const char *const plain[] = {
        [FT_BOOL] = "{\"type\":\"boolean\"}",
        [FT_INT32] = "{\"type\":\"integer\",\"format\":\"int32\"}",
        [FT_INT64] = "{\"type\":\"integer\",\"format\":\"int64\"}",
        [FT_DOUBLE] = "{\"type\":\"number\",\"format\":\"double\"}",
        [FT_BYTES] = "{\"type\":\"string\",\"format\":\"byte\"}",
        [FT_QUANTITY] = "{\"type\":\"string\",\"description\":\"A quantity such as 100m or 64Mi.\"}",
        [FT_INT_OR_STRING] = "{\"type\":\"string\",\"format\":\"int-or-string\"}",
        [FT_TIME] = "{\"type\":\"string\",\"format\":\"date-time\"}",
        [FT_MICRO_TIME] = "{\"type\":\"string\",\"format\":\"date-time\"}",
        [FT_RAW] = "{\"type\":\"object\"}",
        [FT_STRINGS] = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
        [FT_SCHEMA_OR_ARRAY] = "{\"type\":\"object\"}",
        [FT_SCHEMA_OR_BOOL] = "{\"type\":\"object\"}",
        [FT_SCHEMA_OR_STRINGS] = "{\"type\":\"object\"}",
    };
    if (f->type == FT_MESSAGE) {
        buf_add_str(out, "{\"$ref\":\"#/components/schemas/");
        add_type_name(out, schema_field_message(f));
        buf_add_str(out, "\"}");
    } else if (f->type == FT_STRING) {
        add_string_schema(out, f);
    } else {
        buf_add_str(out, plain[f->type]);
    }
}

/* How patches and applies treat a list. */
static void add_list_extensions(struct buf *out, const struct schema_field *f) {
    static const char *const names[] = {[LIST_ATOMIC] = "atomic", [LIST_MAP] = "map", [LIST_SET] = "set"};
    if ((f->strategy & PATCH_MERGE) && f->merge_key)
        buf_addf(out, ",\"x-kubernetes-patch-strategy\":\"merge\",\"x-kubernetes-patch-merge-key\":\"%s\"",
                 schema_field_merge_key(f));
    if (f->list_type < ARRAY_LEN(names) && names[f->list_type])
        buf_addf(out, ",\"x-kubernetes-list-type\":\"%s\"", names[f->list_type]);
    if (f->list_type == LIST_MAP)
        add_words(out, "x-kubernetes-list-map-keys", bytes_str(schema_field_list_map_keys(f)), ',');
}

static void add_required(struct buf *out, const struct schema_type *t, bool *any) {
    for (size_t i = 0; i < t->n_fields; i++) {
        const struct schema_field *f = schema_field_at(t, i);
        if (f->inlined) {
            add_required(out, schema_field_message(f), any);
        } else if (!f->optional && *schema_field_name(f)) {
            buf_addf(out, "%s\"%s\"", *any ? "," : ",\"required\":[", schema_field_name(f));
            *any = true;
        }
    }
}

static void add_properties(struct buf *out, const struct schema_type *t, bool *any) {
    for (size_t i = 0; i < t->n_fields; i++) {
        const struct schema_field *f = schema_field_at(t, i);
        if (f->inlined) {
            add_properties(out, schema_field_message(f), any);
            continue;
        }
        separate(out, any);
        buf_addf(out, "\"%s\":", schema_field_name(f));
        if (f->shape == FS_LIST)
            buf_add_str(out, "{\"type\":\"array\",\"items\":");
        else if (f->shape == FS_MAP)
            buf_add_str(out, "{\"type\":\"object\",\"additionalProperties\":");
        add_value_schema(out, f);
        if (f->shape == FS_LIST)
            add_list_extensions(out, f);
        if (f->shape != FS_ONE)
            buf_add_char(out, '}');
    }
}

/* Marks t and all types that it leads to. */
static void mark(const struct schema_type *t, bool *marked) {
    size_t index = (size_t)(t - schema_types);
    if (marked[index])
        return;
    marked[index] = true;
    for (size_t i = 0; i < t->n_fields; i++)
        if (schema_field_message(schema_field_at(t, i)))
            mark(schema_field_message(schema_field_at(t, i)), marked);
}

static void add_builtin_schemas(const struct kinds *ks, const struct kind *const *list, size_t n, struct buf *out,
                                bool *any) {
    bool *marked = xcalloc(schema_n_types, sizeof *marked);
    for (size_t i = 0; i < n; i++)
        if (list[i]->type)
            mark(list[i]->type, marked);
    for (size_t t = 0; t < schema_n_types; t++) {
        const struct kind *kind = NULL;
        bool any_property = false;
        if (!marked[t])
            continue;
        for (size_t i = 0; i < n && !kind; i++)
            kind = list[i]->type == &schema_types[t] ? list[i] : NULL;
        separate(out, any);
        buf_add_char(out, '"');
        add_type_name(out, &schema_types[t]);
        buf_add_str(out, "\":{\"type\":\"object\",\"properties\":{");
        add_properties(out, &schema_types[t], &any_property);
        buf_add_char(out, '}');
        bool any_required = false;
        add_required(out, &schema_types[t], &any_required);
        if (any_required)
            buf_add_char(out, ']');
        if (kind) {
            buf_add_str(out, ",\"x-kubernetes-group-version-kind\":[");
            add_gvk(out, kind);
            buf_add_char(out, ']');
        }
        buf_add_char(out, '}');
    }
    free(marked);
}

/* A custom kind's schema is the CRD's own, with what every object has. */
static void add_custom_schema(const struct kind *k, struct buf *out, bool *any) {
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *schema = k->schema->root ? yyjson_val_mut_copy(d, k->schema->root) : yyjson_mut_obj(d);
    yyjson_mut_val *properties = json_ensure_obj(d, schema, "properties"), *gvk = yyjson_mut_obj(d);
    static const char *const always[] = {"apiVersion", "kind"};
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        json_set_str(d, json_ensure_obj(d, properties, always[i]), "type", "string");
    json_set_str(d, json_ensure_obj(d, properties, "metadata"), "type", "object");
    json_set_str(d, gvk, "group", k->group);
    json_set_str(d, gvk, "version", k->version);
    json_set_str(d, gvk, "kind", k->kind);
    yyjson_mut_arr_append(json_ensure_arr(d, schema, "x-kubernetes-group-version-kind"), gvk);
    separate(out, any);
    buf_addf(out, "\"%s.%s.%s\":", k->group, k->version, k->kind);
    json_append_mut(out, schema);
    yyjson_mut_doc_free(d);
}

static int write_version(const struct kinds *ks, struct bytes group, struct bytes version, struct buf *out) {
    const struct kind **list = xcalloc(kinds_count(ks) + 1, sizeof *list);
    size_t n = 0;
    bool any = false;
    for (size_t i = 0; i < kinds_count(ks); i++)
        if (bytes_eq_str(group, kinds_at(ks, i)->group) && bytes_eq_str(version, kinds_at(ks, i)->version))
            list[n++] = kinds_at(ks, i);
    if (n > 0) {
        buf_add_str(out,
                    "{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"Kubernetes\",\"version\":\"v1.32.0\"},\"paths\":{");
        for (size_t i = 0; i < n; i++) {
            separate(out, &any);
            add_patch_path(out, list[i]);
        }
        buf_add_str(out, "},\"components\":{\"schemas\":{");
        any = false;
        add_builtin_schemas(ks, list, n, out, &any);
        for (size_t i = 0; i < n; i++)
            if (list[i]->custom)
                add_custom_schema(list[i], out, &any);
        buf_add_str(out, "}}}");
    }
    free(list);
    return n > 0 ? 0 : -1;
}

int openapi_v3(const struct kinds *ks, struct bytes path, struct buf *out, struct error *err) {
    struct bytes parts[7];
    size_t n = bytes_split(path, '/', parts, ARRAY_LEN(parts)); /* "", openapi, v3, apis, group, version */
    int r = -1;
    if (bytes_eq_str(path, "/openapi/v3")) {
        write_index(ks, out);
        r = 0;
    } else if (bytes_starts_with(path, "/openapi/v3/") && n == 5 && bytes_eq_str(parts[3], "api")) {
        r = write_version(ks, BYTES_EMPTY, parts[4], out);
    } else if (bytes_starts_with(path, "/openapi/v3/") && n == 6 && bytes_eq_str(parts[3], "apis") &&
               parts[4].len > 0) {
        r = write_version(ks, parts[4], parts[5], out);
    }
    if (r < 0)
        return error_set(err, ERR_NOT_FOUND, "the server could not find the requested resource");
    return buf_check(out, err, "OpenAPI document");
}
