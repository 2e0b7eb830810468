/* Validation of values against a structural schema, and of structural schemas themselves. */
#include "apiserver/crd.h"
#include "apiserver/field_errors.h"
#include "apiserver/pattern.h"
#include "base/str.h"
#include "kube/field_tree.h"
#include "kube/members.h"

#include <math.h>

#define SCHEMA_MAX_DEPTH 64

#define PATTERN_BUDGET 50000000 /* steps for all values of an object together: a quarter of a second */

/* The patterns of the schema, each compiled once for an object. */
struct patterns {
    struct {
        const char *text; /* where it stands in the schema */
        struct pattern *compiled;
    } items[32];
    size_t count;
    uint64_t budget;
};
struct walk {
    struct field_errors *errors;
    struct buf path;
    struct patterns *patterns;
};

static void patterns_free(struct patterns *p) {
    for (size_t i = 0; i < p->count; i++)
        pattern_free(p->items[i].compiled);
}

static void check_value(struct walk *w, yyjson_val *schema, yyjson_val *v, unsigned depth);

static bool flag(yyjson_val *schema, const char *name) {
    return json_bool_or(yyjson_obj_get(schema, name), false);
}

static void bad(struct walk *w, yyjson_val *v, const char *detail) {
    field_errors_value(w->errors, FIELD_INVALID, field_path_text(&w->path), v, detail);
}

/* ---- scalars ---------------------------------------------------------------------------------------------------- */

/* NULL: a pattern of a kind that is not offered, which the writer of the CRD was told. */
static const struct pattern *pattern_of(struct patterns *known, const char *text) {
    for (size_t i = 0; i < known->count; i++)
        if (known->items[i].text == text)
            return known->items[i].compiled;
    if (known->count == ARRAY_LEN(known->items))
        pattern_free(known->items[--known->count].compiled);
    struct pattern *p = pattern_compile(text, NULL);
    known->items[known->count].text = text;
    known->items[known->count++].compiled = p;
    return p;
}

static void check_pattern(struct walk *w, yyjson_val *v, const char *text) {
    const struct pattern *p = pattern_of(w->patterns, text);
    if (!p || pattern_matches(p, json_bytes(v), &w->patterns->budget))
        return;
    _cleanup_(free_p) char *detail = xasprintf(w->patterns->budget ? "%s in body should match '%s'"
                                                                   : "%s in body is too long to be held against '%s'",
                                               field_path_text(&w->path), text);
    bad(w, v, detail);
}

static size_t count_characters(const char *s) {
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void check_bound(struct walk *w, yyjson_val *schema, yyjson_val *v, const char *name, double value, int sign,
                        const char *what) {
    yyjson_val *bound = yyjson_obj_get(schema, name);
    if (!yyjson_is_num(bound))
        return;
    double limit = yyjson_get_num(bound);
    bool exclusive = flag(schema, sign > 0 ? "exclusiveMinimum" : "exclusiveMaximum");
    if (sign * (value - limit) > 0 || (value == limit && !exclusive))
        return;
    _cleanup_(free_p) char *detail = xasprintf("%s in body should be %s than %s%.15g", field_path_text(&w->path), what,
                                               exclusive ? "" : "or equal to ", limit);
    bad(w, v, detail);
}

static void check_limit(struct walk *w, yyjson_val *schema, yyjson_val *v, size_t size, const char *min,
                        const char *max, const char *unit) {
    int64_t low = json_int_or(yyjson_obj_get(schema, min), 0),
            high = json_int_or(yyjson_obj_get(schema, max), INT64_MAX);
    if ((int64_t)size < low) {
        _cleanup_(free_p) char *detail =
            xasprintf("%s in body should have at least %lld %s", field_path_text(&w->path), (long long)low, unit);
        bad(w, v, detail);
    } else if ((int64_t)size > high) {
        field_errors_add(w->errors, yyjson_is_str(v) ? FIELD_TOO_LONG : FIELD_TOO_MANY, field_path_text(&w->path),
                         "%zu: must have at most %lld %s", size, (long long)high, unit);
    }
}

static void check_format(struct walk *w, yyjson_val *schema, yyjson_val *v) {
    const char *format = json_str(schema, "format"), *text = yyjson_get_str(v);
    if (!format || crd_format_fits(format, text))
        return;
    _cleanup_(free_p) char *detail = xasprintf("%s in body must be of type %s", field_path_text(&w->path), format);
    bad(w, v, detail);
}

static void check_scalar(struct walk *w, yyjson_val *schema, yyjson_val *v) {
    const char *pattern = json_str(schema, "pattern");
    if (yyjson_is_str(v)) {
        check_limit(w, schema, v, count_characters(yyjson_get_str(v)), "minLength", "maxLength", "characters");
        if (pattern)
            check_pattern(w, v, pattern);
        check_format(w, schema, v);
    } else if (yyjson_is_num(v)) {
        double value = yyjson_get_num(v);
        yyjson_val *multiple = yyjson_obj_get(schema, "multipleOf");
        check_bound(w, schema, v, "minimum", value, 1, "greater");
        check_bound(w, schema, v, "maximum", value, -1, "less");
        if (yyjson_is_num(multiple) && yyjson_get_num(multiple) > 0 && fmod(value, yyjson_get_num(multiple)) != 0)
            bad(w, v, "should be a multiple of what the schema says");
    }
}

static void check_enum(struct walk *w, yyjson_val *schema, yyjson_val *v) {
    yyjson_val *allowed = yyjson_obj_get(schema, "enum");
    _cleanup_(buf_free) struct buf list = BUF_INIT(4096);
    yyjson_arr_iter it = yyjson_arr_iter_with(allowed);
    if (!yyjson_is_arr(allowed))
        return;
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&it));) {
        if (json_equal(e, v))
            return;
        _cleanup_(free_p) char *text = json_write(e, NULL);
        buf_addf(&list, "%s%s", list.len ? ", " : "", text);
    }
    _cleanup_(free_p) char *detail = xasprintf("supported values: %s", list.ptr ? list.ptr : "");
    field_errors_value(w->errors, FIELD_NOT_SUPPORTED, field_path_text(&w->path), v, detail);
}

/* ---- lists and objects ------------------------------------------------------------------------------------------ */

struct element {
    char *key; /* NULL where it lacks a key, which is told elsewhere */
    size_t index;
};

static int compare_elements(const void *pa, const void *pb) {
    const struct element *a = pa, *b = pb;
    int c = strcmp(str_or(a->key, ""), str_or(b->key, ""));
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static void check_unique(struct walk *w, yyjson_val *schema, yyjson_val *v) {
    const struct topology list = topology_custom(schema);
    enum topology_kind kind = topology_kind(&list, v);
    size_t n = yyjson_arr_size(v), i = 0;
    if (kind != TOPOLOGY_LIST_MAP && kind != TOPOLOGY_SET)
        return;
    struct element *elements = xcalloc(n + 1, sizeof *elements);
    bool *again = xcalloc(n + 1, sizeof *again);
    yyjson_arr_iter it = yyjson_arr_iter_with(v);
    for (yyjson_val *e; (e = yyjson_arr_iter_next(&it)); i++)
        elements[i] = (struct element){kind == TOPOLOGY_SET ? json_write(e, NULL) : field_tree_key(&list, e), i};
    qsort(elements, n, sizeof *elements, compare_elements);
    for (i = 1; i < n; i++)
        again[elements[i].index] = elements[i].key && str_eq(elements[i].key, elements[i - 1].key);
    it = yyjson_arr_iter_with(v);
    for (i = 0; i < n; i++) {
        yyjson_val *e = yyjson_arr_iter_next(&it);
        size_t len = field_path_index(&w->path, i);
        if (again[i])
            field_errors_value(w->errors, FIELD_DUPLICATE, field_path_text(&w->path), e, "");
        field_path_pop(&w->path, len);
    }
    for (i = 0; i < n; i++)
        free(elements[i].key);
    free(elements);
    free(again);
}

static void check_list(struct walk *w, yyjson_val *schema, yyjson_val *v, unsigned depth) {
    yyjson_val *items = json_get(schema, "items");
    size_t i = 0;
    check_limit(w, schema, v, yyjson_arr_size(v), "minItems", "maxItems", "items");
    check_unique(w, schema, v);
    yyjson_arr_iter it = yyjson_arr_iter_with(v);
    for (yyjson_val *e; yyjson_is_obj(items) && (e = yyjson_arr_iter_next(&it)); i++) {
        size_t len = field_path_index(&w->path, i);
        check_value(w, items, e, depth - 1);
        field_path_pop(&w->path, len);
    }
}

static void check_object(struct walk *w, yyjson_val *schema, yyjson_val *v, unsigned depth) {
    yyjson_val *properties = json_get(schema, "properties"),
               *additional = yyjson_obj_get(schema, "additionalProperties");
    check_limit(w, schema, v, yyjson_obj_size(v), "minProperties", "maxProperties", "properties");
    yyjson_arr_iter required = yyjson_arr_iter_with(yyjson_obj_get(schema, "required"));
    for (yyjson_val *name; (name = yyjson_arr_iter_next(&required));) {
        if (!yyjson_is_str(name) || yyjson_obj_get(v, yyjson_get_str(name)))
            continue;
        size_t len = field_path_push(&w->path, yyjson_get_str(name));
        field_errors_add(w->errors, FIELD_REQUIRED, field_path_text(&w->path), "%s", "");
        field_path_pop(&w->path, len);
    }
    yyjson_obj_iter it = yyjson_obj_iter_with(v);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *inner = yyjson_obj_get(properties, yyjson_get_str(key));
        if (!inner && yyjson_is_obj(additional))
            inner = additional;
        if (!inner || (w->path.len == 0 && str_eq(yyjson_get_str(key), "metadata")))
            continue;
        size_t len = field_path_push(&w->path, yyjson_get_str(key));
        check_value(w, inner, yyjson_obj_iter_get_val(key), depth - 1);
        field_path_pop(&w->path, len);
    }
}

/* ---- any value -------------------------------------------------------------------------------------------------- */

static bool is_valid(struct walk *w, yyjson_val *schema, yyjson_val *v, unsigned depth) {
    _cleanup_(field_errors_free) struct field_errors errors = {0};
    struct walk scratch = {.errors = &errors, .path = BUF_INIT(PATH_MAX_LEN), .patterns = w->patterns};
    buf_add_str(&scratch.path, field_path_text(&w->path));
    check_value(&scratch, schema, v, depth);
    buf_free(&scratch.path);
    return errors.count == 0;
}

static void check_junctors(struct walk *w, yyjson_val *schema, yyjson_val *v, unsigned depth) {
    yyjson_val *any = yyjson_obj_get(schema, "anyOf"), *one = yyjson_obj_get(schema, "oneOf"),
               *not = yyjson_obj_get(schema, "not");
    size_t matched = 0;
    yyjson_arr_iter it = yyjson_arr_iter_with(yyjson_obj_get(schema, "allOf"));
    for (yyjson_val *s; (s = yyjson_arr_iter_next(&it));)
        check_value(w, s, v, depth - 1);
    it = yyjson_arr_iter_with(any);
    for (yyjson_val *s; (s = yyjson_arr_iter_next(&it));)
        matched += is_valid(w, s, v, depth - 1);
    if (yyjson_arr_size(any) > 0 && matched == 0)
        bad(w, v, "must validate at least one schema (anyOf)");
    matched = 0;
    it = yyjson_arr_iter_with(one);
    for (yyjson_val *s; (s = yyjson_arr_iter_next(&it));)
        matched += is_valid(w, s, v, depth - 1);
    if (yyjson_arr_size(one) > 0 && matched != 1)
        bad(w, v, "must validate one and only one schema (oneOf)");
    if (yyjson_is_obj(not ) && is_valid(w, not, v, depth - 1))
        bad(w, v, "must not validate the schema (not)");
}

static bool type_fits(yyjson_val *schema, yyjson_val *v) {
    const char *type = json_str(schema, "type");
    if (flag(schema, "x-kubernetes-int-or-string"))
        return yyjson_is_int(v) || yyjson_is_str(v);
    if (str_empty(type))
        return true;
    if (str_eq(type, "integer"))
        return yyjson_is_int(v) || (yyjson_is_real(v) && floor(yyjson_get_real(v)) == yyjson_get_real(v));
    return (str_eq(type, "string") && yyjson_is_str(v)) || (str_eq(type, "number") && yyjson_is_num(v)) ||
           (str_eq(type, "boolean") && yyjson_is_bool(v)) || (str_eq(type, "object") && yyjson_is_obj(v)) ||
           (str_eq(type, "array") && yyjson_is_arr(v));
}

static void check_value(struct walk *w, yyjson_val *schema, yyjson_val *v, unsigned depth) {
    if (depth == 0 || !yyjson_is_obj(schema))
        return;
    if (yyjson_is_null(v) && flag(schema, "nullable"))
        return;
    if (!type_fits(schema, v)) {
        _cleanup_(free_p) char *detail =
            xasprintf("%s in body must be of type %s: \"%s\"", field_path_text(&w->path),
                      flag(schema, "x-kubernetes-int-or-string") ? "integer,string" : json_str(schema, "type"),
                      yyjson_is_null(v)   ? "null"
                      : yyjson_is_obj(v)  ? "object"
                      : yyjson_is_arr(v)  ? "array"
                      : yyjson_is_str(v)  ? "string"
                      : yyjson_is_bool(v) ? "boolean"
                                          : "number");
        field_errors_value(w->errors, FIELD_TYPE_INVALID, field_path_text(&w->path), v, detail);
        return;
    }
    check_enum(w, schema, v);
    check_scalar(w, schema, v);
    if (yyjson_is_arr(v))
        check_list(w, schema, v, depth);
    else if (yyjson_is_obj(v))
        check_object(w, schema, v, depth);
    check_junctors(w, schema, v, depth);
}

void crd_schema_validate(const struct crd_schema *s, yyjson_val *obj, struct field_errors *e) {
    _cleanup_(patterns_free) struct patterns patterns = {.budget = PATTERN_BUDGET};
    struct walk w = {.errors = e, .path = BUF_INIT(PATH_MAX_LEN), .patterns = &patterns};
    check_value(&w, s->root, obj, SCHEMA_MAX_DEPTH);
    buf_free(&w.path);
}

/* ---- the schema itself ------------------------------------------------------------------------------------------ */

static void check_schema(struct walk *w, yyjson_val *s, struct strlist *warnings, unsigned depth);

static void check_inner(struct walk *w, yyjson_val *s, const char *name, struct strlist *warnings, unsigned depth) {
    yyjson_val *inner = yyjson_obj_get(s, name);
    if (!yyjson_is_obj(inner))
        return;
    size_t len = field_path_push(&w->path, name);
    check_schema(w, inner, warnings, depth);
    field_path_pop(&w->path, len);
}

static void forbid(struct walk *w, const char *name, const char *why) {
    size_t len = field_path_push(&w->path, name);
    field_errors_add(w->errors, FIELD_FORBIDDEN, field_path_text(&w->path), "%s", why);
    field_path_pop(&w->path, len);
}

static void check_type(struct walk *w, yyjson_val *s) {
    static const char *const types[] = {"array", "boolean", "integer", "number", "object", "string", NULL};
    const char *type = str_or(json_str(s, "type"), "");
    bool known = false;
    for (size_t i = 0; types[i]; i++)
        known = known || str_eq(type, types[i]);
    size_t len = field_path_push(&w->path, "type");
    if (!*type && !flag(s, "x-kubernetes-int-or-string") && !flag(s, "x-kubernetes-preserve-unknown-fields"))
        field_errors_add(w->errors, FIELD_REQUIRED, field_path_text(&w->path),
                         "must not be empty for specified object fields");
    else if (*type && !known)
        field_errors_unsupported(w->errors, field_path_text(&w->path), type, types);
    field_path_pop(&w->path, len);
    if (str_eq(type, "array") && !yyjson_is_obj(yyjson_obj_get(s, "items"))) {
        len = field_path_push(&w->path, "items");
        field_errors_add(w->errors, FIELD_REQUIRED, field_path_text(&w->path), "must be specified as a schema");
        field_path_pop(&w->path, len);
    }
}

static void warn_unenforced(struct walk *w, yyjson_val *s, struct strlist *warnings) {
    const char *pattern = json_str(s, "pattern");
    if (yyjson_arr_size(yyjson_obj_get(s, "x-kubernetes-validations")) > 0 && warnings)
        strlist_add_take(warnings,
                         xasprintf("%s.x-kubernetes-validations: rules are stored but not enforced by this server",
                                   field_path_text(&w->path)));
    if (!pattern)
        return;
    struct error err = ERROR_INIT;
    struct pattern *p = pattern_compile(pattern, &err);
    size_t len = field_path_push(&w->path, "pattern");
    if (!p && err.code == ERR_INVALID) {
        _cleanup_(free_p) char *detail = xasprintf("must be a valid regular expression: %s", error_text(&err));
        bad(w, yyjson_obj_get(s, "pattern"), detail);
    } else if (!p && warnings) {
        strlist_add_take(warnings, xasprintf("%s: this pattern is stored but not enforced by this server: %s",
                                             field_path_text(&w->path), error_text(&err)));
    }
    field_path_pop(&w->path, len);
    pattern_free(p);
}

static void check_default(struct walk *w, yyjson_val *s, unsigned depth) {
    yyjson_val *value = yyjson_obj_get(s, "default");
    if (!value)
        return;
    size_t len = field_path_push(&w->path, "default");
    check_value(w, s, value, depth);
    field_path_pop(&w->path, len);
}

static void check_schema(struct walk *w, yyjson_val *s, struct strlist *warnings, unsigned depth) {
    static const char *const forbidden[] = {"$ref", "definitions", "dependencies",
                                            "id",   "$schema",     "patternProperties"};
    if (depth == 0) {
        field_errors_add(w->errors, FIELD_FORBIDDEN, field_path_text(&w->path), "nested too deeply");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
        if (yyjson_obj_get(s, forbidden[i]))
            forbid(w, forbidden[i], "is not supported");
    if (flag(s, "uniqueItems"))
        forbid(w, "uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    if (yyjson_is_false(yyjson_obj_get(s, "additionalProperties")))
        forbid(w, "additionalProperties", "additionalProperties cannot be set to false");
    if (yyjson_obj_get(s, "additionalProperties") && yyjson_obj_size(json_get(s, "properties")) > 0)
        forbid(w, "additionalProperties", "additionalProperties and properties are mutual exclusive");
    check_type(w, s);
    warn_unenforced(w, s, warnings);
    check_default(w, s, depth);
    check_inner(w, s, "items", warnings, depth - 1);
    check_inner(w, s, "additionalProperties", warnings, depth - 1);
    size_t len = field_path_push(&w->path, "properties");
    yyjson_obj_iter it = yyjson_obj_iter_with(json_get(s, "properties"));
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        size_t inner = field_path_key(&w->path, yyjson_get_str(key));
        check_schema(w, yyjson_obj_iter_get_val(key), warnings, depth - 1);
        field_path_pop(&w->path, inner);
    }
    field_path_pop(&w->path, len);
}

void crd_schema_check(yyjson_val *schema, const char *path, struct field_errors *e, struct strlist *warnings) {
    _cleanup_(patterns_free) struct patterns patterns = {.budget = PATTERN_BUDGET};
    struct walk w = {.errors = e, .path = BUF_INIT(PATH_MAX_LEN), .patterns = &patterns};
    buf_add_str(&w.path, path);
    if (!str_eq(json_str(schema, "type"), "object")) {
        size_t len = field_path_push(&w.path, "type");
        field_errors_add(e, FIELD_INVALID, field_path_text(&w.path), "\"%s\": must be object at the root",
                         str_or(json_str(schema, "type"), ""));
        field_path_pop(&w.path, len);
    }
    check_schema(&w, schema, warnings, SCHEMA_MAX_DEPTH);
    buf_free(&w.path);
}
