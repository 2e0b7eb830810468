#include "apiserver/crd.h"

#include "kube/object.h"

#include <stdatomic.h>

/* A kind made of one version of a CRD. It holds a copy of the CRD, which everything in it points into. */
struct custom_kind {
    struct kind kind;
    atomic_uint references;
    yyjson_doc *crd;
    char *singular, *list_kind;
    const char **short_names, **categories;
    struct kind_column *columns;
    struct kind_subresource status;
    struct crd_schema schema;
};

static const char *const no_fields[] = {NULL};

static struct custom_kind *custom_of(const struct kind *k) {
    return CONTAINER_OF(k, struct custom_kind, kind);
}

const struct kind *kind_ref(const struct kind *k) {
    if (k && k->custom)
        atomic_fetch_add(&custom_of(k)->references, 1);
    return k;
}

void kind_unref(const struct kind *k) {
    if (!k || !k->custom)
        return;
    struct custom_kind *c = custom_of(k);
    if (atomic_fetch_sub(&c->references, 1) > 1)
        return;
    for (size_t i = 0; i < c->kind.n_columns; i++) {
        struct kind_column *column = &c->columns[i];
        free(column->name);
        free(column->type);
        free(column->format);
        free(column->description);
        free(column->json_path);
    }
    free(c->columns);
    free(c->singular);
    free(c->list_kind);
    free(c->short_names);
    free(c->categories);
    yyjson_doc_free(c->crd);
    free(c);
}

const char *crd_name_of(const struct kind *k) {
    return object_name(yyjson_doc_get_root(custom_of(k)->crd));
}

/* ---- versions --------------------------------------------------------------------------------------------------- */

/* v<major>[alpha|beta<minor>]; false for anything else. */
static bool parse_version(const char *s, int64_t *major, int *stability, int64_t *minor) {
    struct bytes rest = bytes_str(s);
    size_t n = 0;
    *stability = 2;
    *minor = 0;
    if (rest.len < 2 || rest.ptr[0] != 'v')
        return false;
    rest = bytes_of(rest.ptr + 1, rest.len - 1);
    while (n < rest.len && rest.ptr[n] >= '0' && rest.ptr[n] <= '9')
        n++;
    if (parse_i64(bytes_of(rest.ptr, n), 0, INT32_MAX, major) < 0)
        return false;
    rest = bytes_of(rest.ptr + n, rest.len - n);
    if (rest.len == 0)
        return true;
    *stability = bytes_starts_with(rest, "beta") ? 1 : 0;
    size_t word = *stability ? 4 : 5;
    if (!*stability && !bytes_starts_with(rest, "alpha"))
        return false;
    return parse_i64(bytes_of(rest.ptr + word, rest.len - word), 0, INT32_MAX, minor) == 0;
}

int crd_version_compare(const char *a, const char *b) {
    int64_t major_a, major_b, minor_a, minor_b;
    int stability_a, stability_b;
    bool known_a = parse_version(a, &major_a, &stability_a, &minor_a);
    bool known_b = parse_version(b, &major_b, &stability_b, &minor_b);
    if (known_a != known_b)
        return known_a ? -1 : 1;
    if (!known_a)
        return strcmp(a, b);
    if (stability_a != stability_b)
        return stability_b - stability_a;
    if (major_a != major_b)
        return major_a > major_b ? -1 : 1;
    return (minor_b > minor_a) - (minor_b < minor_a);
}

/* ---- kinds ------------------------------------------------------------------------------------------------------ */

/* NULL-terminated, borrowed strings. */
static const char **string_array(yyjson_val *list) {
    const char **out = xcalloc(yyjson_arr_size(list) + 1, sizeof *out);
    size_t n = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(list);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        if (yyjson_is_str(v))
            out[n++] = yyjson_get_str(v);
    return out;
}

static char *lower(const char *s) {
    char *out = xstrdup(s);
    for (char *p = out; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    return out;
}

static void read_columns(struct custom_kind *c, yyjson_val *list) {
    size_t n = yyjson_arr_size(list);
    c->columns = xcalloc(n + 1, sizeof *c->columns);
    yyjson_arr_iter it = yyjson_arr_iter_with(list);
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        c->columns[c->kind.n_columns++] = (struct kind_column){
            .name = xstrdup(str_or(json_str(v, "name"), "")),
            .type = xstrdup(str_or(json_str(v, "type"), "string")),
            .format = xstrdup(str_or(json_str(v, "format"), "")),
            .description = xstrdup(str_or(json_str(v, "description"), "")),
            .json_path = xstrdup(str_or(json_str(v, "jsonPath"), "")),
            .priority = json_int_or(json_get(v, "priority"), 0),
        };
    c->kind.columns = c->columns;
}

static struct custom_kind *make_kind(yyjson_val *crd, size_t number, const char *storage_version) {
    struct custom_kind *c = NEW(struct custom_kind);
    yyjson_mut_doc *copy = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(copy, yyjson_val_mut_copy(copy, crd));
    c->crd = yyjson_mut_doc_imut_copy(copy, NULL);
    yyjson_mut_doc_free(copy);
    yyjson_val *spec = json_get(yyjson_doc_get_root(c->crd), "spec"), *names = json_get(spec, "names");
    yyjson_val *version = yyjson_arr_get(json_get(spec, "versions"), number);
    yyjson_val *subresources = json_get(version, "subresources");
    const char *kind = json_str(names, "kind");
    bool status = yyjson_is_obj(json_get(subresources, "status"));
    atomic_init(&c->references, 1);
    c->singular = str_empty(json_str(names, "singular")) ? lower(kind) : xstrdup(json_str(names, "singular"));
    c->list_kind =
        str_empty(json_str(names, "listKind")) ? xasprintf("%sList", kind) : xstrdup(json_str(names, "listKind"));
    c->short_names = string_array(json_get(names, "shortNames"));
    c->categories = string_array(json_get(names, "categories"));
    c->schema.root = json_get(version, "schema", "openAPIV3Schema");
    c->status = (struct kind_subresource){.name = "status", .verbs = VERBS_STATUS};
    const char *stored = storage_version;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(spec, "versions")); /* the same text, of our copy */
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        if (str_eq(json_str(v, "name"), storage_version))
            stored = json_str(v, "name");
    c->kind = (struct kind){
        .group = json_str(spec, "group"),
        .version = json_str(version, "name"),
        .plural = json_str(names, "plural"),
        .singular = c->singular,
        .kind = kind = json_str(names, "kind"),
        .list_kind = c->list_kind,
        .short_names = c->short_names,
        .categories = c->categories,
        .namespaced = str_eq(json_str(spec, "scope"), "Namespaced"),
        .verbs = VERBS_FULL,
        .subresources = status ? &c->status : NULL,
        .n_subresources = status,
        .generation = status ? GENERATION_NOT_STATUS : GENERATION_NOT_METADATA,
        .has_status = status,
        .fields = no_fields,
        .storage_group = json_str(spec, "group"),
        .storage_version = stored,
        .storage_plural = json_str(names, "plural"),
        .custom = true,
        .schema = &c->schema,
    };
    read_columns(c, json_get(version, "additionalPrinterColumns"));
    return c;
}

size_t crd_kinds(yyjson_val *crd, const struct kind **out, size_t max) {
    yyjson_val *spec = json_get(crd, "spec");
    const char *storage = NULL;
    size_t n = 0, number = 0;
    if (str_empty(json_str(spec, "group")) || str_empty(json_str(spec, "names", "kind")) ||
        str_empty(json_str(spec, "names", "plural")))
        return 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(json_get(spec, "versions"));
    for (yyjson_val *v; (v = yyjson_arr_iter_next(&it));)
        if (json_bool_or(json_get(v, "storage"), false))
            storage = json_str(v, "name");
    it = yyjson_arr_iter_with(json_get(spec, "versions"));
    for (yyjson_val *v; storage && (v = yyjson_arr_iter_next(&it)); number++)
        if (n < max && json_bool_or(json_get(v, "served"), false) && json_str(v, "name"))
            out[n++] = &make_kind(crd, number, storage)->kind;
    return n;
}
