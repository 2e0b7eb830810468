#define LOG_COMPONENT "config"
#include "base/config.h"

#include "base/file.h"
#include "base/log.h"

#define CONFIG_FILE_MAX (1u << 20)
#define NS_PER_MS 1000000

struct load {
    const struct config_schema *schema;
    void *config;
    const char *file;
    const struct yaml_doc *doc;
    struct strlist ignored; /* keys of the file that have no effect here */
};

static void *field(const struct config_key *k, const void *config) {
    return (char *)(uintptr_t)config + k->offset;
}

/* "<file>:<line>: <key>: must be <allowed>, not <value>" */
static int refuse(const struct config_key *k, yyjson_val *v, const char *allowed, const char *where,
                  struct error *err) {
    _cleanup_(free_p) char *text = json_write(v, NULL);
    return error_set(err, ERR_INVALID, "%s%s: must be %s, not %.60s", where, k->path, allowed, text);
}

static void set_string(char **at, struct bytes s) {
    free(*at);
    *at = bytes_dup(s);
}

static struct bytes string_bytes(yyjson_val *v) {
    return bytes_of(yyjson_get_str(v), yyjson_get_len(v));
}

static int set_bool(const struct config_key *k, yyjson_val *v, bool *at, const char *where, struct error *err) {
    /* YAML 1.1 has more words for it than 1.2 */
    const char *s = yyjson_get_str(v);
    bool yes = str_case_eq(s, "yes") || str_case_eq(s, "on"), no = str_case_eq(s, "no") || str_case_eq(s, "off");
    if (!yyjson_is_bool(v) && !(s && (yes || no)))
        return refuse(k, v, "true or false", where, err);
    *at = s ? yes : yyjson_get_bool(v);
    return 0;
}

static int set_int(const struct config_key *k, yyjson_val *v, int64_t *at, const char *where, struct error *err) {
    bool any = k->min == 0 && k->max == 0;
    char allowed[80] = "a whole number";
    if (!any && k->max == INT64_MAX)
        snprintf(allowed, sizeof(allowed), "a whole number from %lld", (long long)k->min);
    else if (!any)
        snprintf(allowed, sizeof(allowed), "a whole number from %lld to %lld", (long long)k->min, (long long)k->max);
    if (!yyjson_is_int(v) || (yyjson_is_uint(v) && yyjson_get_uint(v) > INT64_MAX))
        return refuse(k, v, allowed, where, err);
    int64_t n = json_int_or(v, 0);
    if (!any && (n < k->min || n > k->max))
        return refuse(k, v, allowed, where, err);
    *at = n;
    return 0;
}

static int set_duration(const struct config_key *k, yyjson_val *v, int64_t *at, const char *where, struct error *err) {
    int64_t ns;
    if (!yyjson_is_str(v) || parse_duration(string_bytes(v), &ns) < 0 || ns < 0)
        return refuse(k, v, "a duration such as 10s, 1m30s or 500ms", where, err);
    *at = ns / NS_PER_MS;
    return 0;
}

static int set_strings(const struct config_key *k, yyjson_val *v, struct strlist *at, const char *where,
                       struct error *err) {
    size_t i, max;
    yyjson_val *item;
    if (!yyjson_is_arr(v))
        return refuse(k, v, "a list of strings", where, err);
    yyjson_arr_foreach (v, i, max, item) {
        if (!yyjson_is_str(item))
            return refuse(k, v, "a list of strings (put numbers and true/false in quotes)", where, err);
    }
    strlist_free(at);
    yyjson_arr_foreach (v, i, max, item) {
        strlist_add_take(at, bytes_dup(string_bytes(item)));
    }
    return 0;
}

/* Replaces the entry of that key, or adds one. */
static void map_put(struct strlist *map, const char *key, struct bytes value) {
    size_t n = strlen(key) + 1;
    struct buf text = BUF_INIT(n + value.len);
    buf_add_str(&text, key);
    buf_add_char(&text, '=');
    buf_add_bytes(&text, value);
    char *entry = buf_take(&text, NULL);
    for (size_t i = 0; i < map->count; i++) {
        if (strncmp(map->items[i], entry, n) != 0)
            continue;
        free(map->items[i]);
        map->items[i] = entry;
        return;
    }
    strlist_add_take(map, entry);
}

static int merge_map(const struct config_key *k, yyjson_val *v, struct strlist *at, const char *where,
                     struct error *err) {
    size_t i, max;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(v))
        return refuse(k, v, "a map of keys and values", where, err);
    yyjson_obj_foreach (v, i, max, key, value) {
        if (yyjson_is_ctn(value) || strchr(yyjson_get_str(key), '='))
            return refuse(k, v, "a map of keys (without '=') and plain values", where, err);
    }
    yyjson_obj_foreach (v, i, max, key, value) {
        size_t n;
        _cleanup_(free_p) char *text = json_write(value, &n);
        struct bytes plain = yyjson_is_str(value)    ? string_bytes(value)
                             : yyjson_is_null(value) ? BYTES_EMPTY
                                                     : bytes_of(text, n);
        map_put(at, yyjson_get_str(key), plain);
    }
    return 0;
}

/* where is what stands in front of an error: "edgecore.yaml:12: ". A null keeps what is there. */
static int set_value(const struct config_key *k, yyjson_val *v, void *config, const char *where, struct error *err) {
    void *at = field(k, config);
    if (yyjson_is_null(v))
        return 0;
    switch (k->type) {
    case CFG_STRING:
        if (!yyjson_is_str(v)) /* the value is not shown: it may be a password */
            return error_set(err, ERR_INVALID, "%s%s: must be a string (put numbers and true/false in quotes)", where,
                             k->path);
        set_string(at, string_bytes(v));
        return 0;
    case CFG_BOOL:
        return set_bool(k, v, at, where, err);
    case CFG_INT:
        return set_int(k, v, at, where, err);
    case CFG_DURATION_MS:
        return set_duration(k, v, at, where, err);
    case CFG_STRINGS:
        return set_strings(k, v, at, where, err);
    case CFG_STRING_MAP:
        return merge_map(k, v, at, where, err);
    case CFG_JSON: {
        _cleanup_(free_p) char *text = json_write(v, NULL);
        set_string(at, bytes_str(text));
        return 0;
    }
    case CFG_IGNORED:
        return 0;
    }
    return error_set(err, ERR_INTERNAL, "%s: unknown type of key", k->path);
}

static int set_default(const struct config_key *k, void *config, struct error *err) {
    if (!k->default_value || k->type == CFG_IGNORED)
        return 0;
    if (k->type == CFG_STRING && k->default_value[0] != '"') { /* as it stands */
        set_string(field(k, config), bytes_str(k->default_value));
        return 0;
    }
    struct yaml_doc doc;
    if (yaml_parse(bytes_str(k->default_value), k->path, &doc, err) < 0)
        return error_wrap(err, "default value");
    int rc = set_value(k, yyjson_doc_get_root(doc.json), config, "default value: ", err);
    yaml_doc_free(&doc);
    return rc;
}

int config_defaults(const struct config_schema *s, void *config, struct error *err) {
    for (size_t i = 0; i < s->n_keys; i++)
        if (set_default(&s->keys[i], config, err) < 0)
            return -1;
    return 0;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static bool case_prefix(const char *s, const char *prefix, size_t n) {
    return strlen(s) >= n && strncasecmp(s, prefix, n) == 0;
}

static const struct config_key *find_key(const struct config_schema *s, const char *path) {
    for (size_t i = 0; i < s->n_keys; i++)
        if (str_case_eq(s->keys[i].path, path))
            return &s->keys[i];
    return NULL;
}

/* Whether keys of the table stand below path. */
static bool is_section(const struct config_schema *s, const char *path) {
    size_t n = strlen(path);
    for (size_t i = 0; i < s->n_keys; i++)
        if (case_prefix(s->keys[i].path, path, n) && s->keys[i].path[n] == '.')
            return true;
    return false;
}

static int load_section(struct load *l, const char *section, yyjson_val *obj, struct error *err);

/* path is spelled as in the file, which is how its line is found. */
static int load_member(struct load *l, const char *path, yyjson_val *v, struct error *err) {
    unsigned line = yaml_line(l->doc, path);
    const struct config_key *k = find_key(l->schema, path);
    if (k && k->type == CFG_IGNORED) {
        strlist_add(&l->ignored, k->path);
        return 0;
    }
    if (k) {
        _cleanup_(free_p) char *where = xasprintf("%s:%u: ", l->file, line);
        return set_value(k, v, l->config, where, err);
    }
    if (!is_section(l->schema, path)) {
        log_warn("%s:%u: unknown key %s is ignored: check its spelling and where it stands", l->file, line, path);
        return 0;
    }
    if (yyjson_is_null(v))
        return 0;
    if (!yyjson_is_obj(v))
        return error_set(err, ERR_INVALID, "%s:%u: %s: must be a section with keys of its own, not a single value",
                         l->file, line, path);
    return load_section(l, path, v, err);
}

/* Goes only as deep as the table's paths do. */
static int load_section(struct load *l, const char *section, yyjson_val *obj, struct error *err) {
    size_t i, max;
    yyjson_val *key, *v;
    yyjson_obj_foreach (obj, i, max, key, v) {
        _cleanup_(free_p) char *path = xasprintf("%s%s%s", section, *section ? "." : "", yyjson_get_str(key));
        if (str_case_eq(path, "apiVersion") || str_case_eq(path, "kind"))
            continue;
        if (load_member(l, path, v, err) < 0)
            return -1;
    }
    return 0;
}

static int check_kind(const struct load *l, yyjson_val *root, struct error *err) {
    size_t i, max;
    yyjson_val *key, *v;
    yyjson_obj_foreach (root, i, max, key, v) {
        const char *name = yyjson_get_str(key), *value = yyjson_get_str(v);
        unsigned line = yaml_line(l->doc, name);
        if (str_case_eq(name, "kind") && !yyjson_is_null(v) && !str_case_eq(value, l->schema->kind))
            return error_set(err, ERR_INVALID, "%s:%u: kind: must be %s, not %s: is this the right file?", l->file,
                             line, l->schema->kind, value ? value : "of another type");
        if (str_case_eq(name, "apiVersion") && value && !str_eq(value, l->schema->api_version))
            log_warn("%s:%u: apiVersion %s is read as %s", l->file, line, value, l->schema->api_version);
    }
    return 0;
}

static void tell_ignored(const struct load *l) {
    if (l->ignored.count == 0)
        return;
    _cleanup_(buf_free) struct buf names = BUF_INIT(64 * 1024);
    for (size_t i = 0; i < l->ignored.count; i++)
        buf_addf(&names, "%s%s", i ? ", " : "", l->ignored.items[i]);
    log_info("%s: %zu keys have no effect here: %s", l->file, l->ignored.count, names.ptr);
}

int config_load_text(const struct config_schema *s, struct bytes text, const char *name, void *config,
                     struct error *err) {
    struct yaml_doc doc;
    if (yaml_parse(text, name, &doc, err) < 0)
        return -1;
    struct load l = {.schema = s, .config = config, .file = name, .doc = &doc};
    yyjson_val *root = yyjson_doc_get_root(doc.json);
    int rc = 0;
    if (yyjson_is_obj(root))
        rc = check_kind(&l, root, err) < 0 ? -1 : load_section(&l, "", root, err);
    else if (!yyjson_is_null(root))
        rc = error_set(err, ERR_INVALID, "%s:1: the file must hold keys and values", name);
    if (rc == 0)
        tell_ignored(&l);
    strlist_free(&l.ignored);
    yaml_doc_free(&doc);
    return rc;
}

int config_load(const struct config_schema *s, const char *path, void *config, struct error *err) {
    _cleanup_(buf_free_secret) struct buf text = BUF_INIT(CONFIG_FILE_MAX);
    if (file_read(path, &text, err) < 0) {
        if (err && err->code == ERR_NOT_FOUND)
            return error_set(err, ERR_NOT_FOUND,
                             "configuration file %s does not exist: name it with --config, or make one from the output "
                             "of --minconfig",
                             path);
        return error_wrap(err, "configuration file");
    }
    return config_load_text(s, buf_bytes(&text), path, config, err);
}

/* ---- printing ---------------------------------------------------------------------------------------------------- */

/* As Go prints it: 1m0s, 1h0m0s, 1.5s, 100ms, 0s. */
static void format_duration(int64_t ms, char *out, size_t size) {
    int64_t h = ms / 3600000, m = ms / 60000 % 60, s = ms / 1000 % 60, rest = ms % 1000;
    if (ms != 0 && ms < 1000) {
        snprintf(out, size, "%lldms", (long long)ms);
        return;
    }
    char fraction[16] = "";
    if (rest) {
        snprintf(fraction, sizeof(fraction), ".%03d", (int)rest);
        for (size_t n = strlen(fraction); n > 0 && fraction[n - 1] == '0'; n--)
            fraction[n - 1] = 0;
    }
    if (h)
        snprintf(out, size, "%lldh%lldm%lld%ss", (long long)h, (long long)m, (long long)s, fraction);
    else if (m)
        snprintf(out, size, "%lldm%lld%ss", (long long)m, (long long)s, fraction);
    else
        snprintf(out, size, "%lld%ss", (long long)s, fraction);
}

static yyjson_mut_val *list_value(yyjson_mut_doc *d, const struct strlist *l) {
    yyjson_mut_val *v = l->count ? yyjson_mut_arr(d) : NULL;
    for (size_t i = 0; i < l->count; i++)
        yyjson_mut_arr_add_strcpy(d, v, l->items[i]);
    return v;
}

static yyjson_mut_val *map_value(yyjson_mut_doc *d, const struct strlist *l) {
    yyjson_mut_val *v = l->count ? yyjson_mut_obj(d) : NULL;
    for (size_t i = 0; i < l->count; i++) {
        struct bytes key, value;
        bytes_cut(bytes_str(l->items[i]), '=', &key, &value);
        yyjson_mut_obj_add(v, yyjson_mut_strncpy(d, key.ptr, key.len),
                           yyjson_mut_strncpy(d, value.ptr ? value.ptr : "", value.len));
    }
    return v;
}

static yyjson_mut_val *json_value(yyjson_mut_doc *d, const char *text) {
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = text ? json_parse(bytes_str(text), CONFIG_FILE_MAX, NULL) : NULL;
    return doc ? yyjson_val_mut_copy(d, yyjson_doc_get_root(doc)) : NULL;
}

/* The value of a key, or NULL where it is unset. */
static yyjson_mut_val *value_of(yyjson_mut_doc *d, const struct config_key *k, const void *config) {
    void *at = field(k, config);
    char duration[48];
    switch (k->type) {
    case CFG_STRING:
        return *(char **)at ? yyjson_mut_strcpy(d, *(char **)at) : NULL;
    case CFG_BOOL:
        return yyjson_mut_bool(d, *(bool *)at);
    case CFG_INT:
        return yyjson_mut_sint(d, *(int64_t *)at);
    case CFG_DURATION_MS:
        format_duration(*(int64_t *)at, duration, sizeof(duration));
        return yyjson_mut_strcpy(d, duration);
    case CFG_STRINGS:
        return list_value(d, at);
    case CFG_STRING_MAP:
        return map_value(d, at);
    case CFG_JSON:
        return json_value(d, *(char **)at);
    case CFG_IGNORED:
        return NULL;
    }
    return NULL;
}

static void put_at_path(yyjson_mut_doc *d, yyjson_mut_val *root, const char *path, yyjson_mut_val *v) {
    struct bytes step, rest = bytes_str(path);
    yyjson_mut_val *at = root;
    while (bytes_cut(rest, '.', &step, &rest)) {
        _cleanup_(free_p) char *name = bytes_dup(step);
        at = json_ensure_obj(d, at, name);
    }
    _cleanup_(free_p) char *name = bytes_dup(step);
    json_set(d, at, name, v);
}

int config_print(const struct config_schema *s, const void *config, bool minimal, struct buf *out) {
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(d);
    json_set_str(d, root, "apiVersion", s->api_version);
    json_set_str(d, root, "kind", s->kind);
    for (size_t i = 0; i < s->n_keys; i++) {
        yyjson_mut_val *v = minimal && !s->keys[i].minimal ? NULL : value_of(d, &s->keys[i], config);
        if (v)
            put_at_path(d, root, s->keys[i].path, v);
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = yyjson_mut_val_imut_copy(root, NULL);
    return yaml_write(out, yyjson_doc_get_root(doc));
}

void config_free(const struct config_schema *s, void *config) {
    for (size_t i = 0; i < s->n_keys; i++) {
        void *at = field(&s->keys[i], config);
        switch (s->keys[i].type) {
        case CFG_STRING:
        case CFG_JSON:
            free(*(char **)at);
            *(char **)at = NULL;
            break;
        case CFG_STRINGS:
        case CFG_STRING_MAP:
            strlist_free(at);
            break;
        default:
            break;
        }
    }
}

const char *config_map_get(const struct strlist *map, const char *key) {
    size_t n = strlen(key);
    for (size_t i = 0; i < map->count; i++)
        if (strncmp(map->items[i], key, n) == 0 && map->items[i][n] == '=')
            return map->items[i] + n + 1;
    return NULL;
}
