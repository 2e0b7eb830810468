#include "apiserver/json_path.h"

#include "base/str.h"

#define PATH_MAX_STEPS 64

enum step_kind { STEP_MEMBER, STEP_INDEX, STEP_ALL, STEP_FILTER };

struct step {
    enum step_kind kind;
    char name[256];  /* STEP_MEMBER; STEP_FILTER: the member that is compared */
    char value[256]; /* STEP_FILTER */
    int64_t index;
};

static bool copy(char out[256], struct bytes s) {
    if (s.len >= 256)
        return false;
    memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
    return true;
}

static struct bytes unquote(struct bytes s) {
    if (s.len >= 2 && (s.ptr[0] == '"' || s.ptr[0] == '\'') && s.ptr[s.len - 1] == s.ptr[0])
        return bytes_of(s.ptr + 1, s.len - 2);
    return BYTES_EMPTY;
}

/* What stands between [ and ]. */
static bool parse_brackets(struct bytes in, struct step *out) {
    struct bytes s = bytes_trim(in), quoted = unquote(s);
    if (bytes_eq_str(s, "*")) {
        out->kind = STEP_ALL;
        return true;
    }
    if (quoted.ptr) {
        out->kind = STEP_MEMBER;
        return copy(out->name, quoted);
    }
    if (!bytes_starts_with(s, "?(@.")) {
        out->kind = STEP_INDEX;
        return parse_i64(s, INT32_MIN, INT32_MAX, &out->index) == 0;
    }
    out->kind = STEP_FILTER;
    if (s.ptr[s.len - 1] != ')')
        return false;
    s = bytes_of(s.ptr + 4, s.len - 5);
    const char *equals = memmem(s.ptr, s.len, "==", 2);
    if (!equals)
        return false;
    struct bytes name = bytes_trim(bytes_of(s.ptr, (size_t)(equals - s.ptr)));
    struct bytes value = unquote(bytes_trim(bytes_of(equals + 2, (size_t)(s.ptr + s.len - equals - 2))));
    return value.ptr && copy(out->name, name) && copy(out->value, value);
}

/* The length up to the ] that closes, quotes regarded; 0 if there is none. */
static size_t find_close(const char *p) {
    char quote = '\0';
    for (size_t i = 0; p[i]; i++) {
        if (quote) {
            quote = p[i] == quote ? '\0' : quote;
        } else if (p[i] == '"' || p[i] == '\'') {
            quote = p[i];
        } else if (p[i] == ']') {
            return i;
        }
    }
    return 0;
}

/* One step from *path: false at the end or where it isn't understood (then *path is not at its end). */
static bool next_step(const char **path, struct step *out) {
    const char *p = *path;
    if (*p == '[') {
        size_t n = find_close(p + 1);
        if (n == 0 || !parse_brackets(bytes_of(p + 1, n), out))
            return false;
        *path = p + n + 2;
        return true;
    }
    if (*p != '.')
        return false;
    p++;
    out->kind = STEP_MEMBER;
    size_t n = 0, o = 0;
    for (; p[n] && p[n] != '.' && p[n] != '['; n++) {
        if (p[n] == '\\' && p[n + 1])
            n++;
        if (o + 1 >= sizeof out->name)
            return false;
        out->name[o++] = p[n];
    }
    out->name[o] = '\0';
    *path = p + n;
    if (str_eq(out->name, "*"))
        out->kind = STEP_ALL;
    return o > 0;
}

static const char *skip_root(const char *path) {
    return *path == '$' || *path == '@' ? path + 1 : path;
}

static yyjson_val *follow(yyjson_val *v, const char *path, unsigned steps) {
    struct step step;
    if (!*path || !v)
        return v;
    if (steps == 0 || !next_step(&path, &step))
        return NULL;
    switch (step.kind) {
    case STEP_MEMBER:
        return follow(yyjson_obj_get(v, step.name), path, steps - 1);
    case STEP_INDEX:
        if (step.index < 0)
            step.index += (int64_t)yyjson_arr_size(v);
        return step.index < 0 ? NULL : follow(yyjson_arr_get(v, (size_t)step.index), path, steps - 1);
    case STEP_ALL:
    case STEP_FILTER:
        break;
    }
    yyjson_arr_iter it = yyjson_arr_iter_with(v);
    for (yyjson_val *e; yyjson_is_arr(v) && (e = yyjson_arr_iter_next(&it));)
        if (step.kind == STEP_ALL || str_eq(yyjson_get_str(yyjson_obj_get(e, step.name)), step.value))
            return follow(e, path, steps - 1);
    return NULL;
}

yyjson_val *json_path_first(yyjson_val *root, const char *path) {
    return follow(root, skip_root(path), PATH_MAX_STEPS);
}
