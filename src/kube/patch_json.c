/* JSON patch (RFC 6902) and JSON merge patch (RFC 7396). */
#include "base/str.h"
#include "kube/members.h"
#include "kube/patch.h"

/* Looking into a list or object costs its length: what all operations together may cost. */
#define PATCH_MAX_STEPS 50000000u

struct json_patch {
    yyjson_mut_doc *doc;
    yyjson_mut_val *root;
    size_t copied, steps;
    struct error *err;
    size_t op; /* number of the operation, for messages */
};

/* ---- values ----------------------------------------------------------------------------------------------------- */

/* Depth and size in bytes, roughly as text. Stops counting where either passes its limit. */
static void measure(yyjson_mut_val *v, size_t depth, size_t *max_depth, size_t *size) {
    if (depth > *max_depth)
        *max_depth = depth;
    *size += 8 + (yyjson_mut_is_str(v) ? yyjson_mut_get_len(v) : 0);
    if (depth > JSON_MAX_DEPTH || *size > PATCH_MAX_COPIED)
        return;
    if (yyjson_mut_is_arr(v)) {
        yyjson_mut_arr_iter it = yyjson_mut_arr_iter_with(v);
        for (yyjson_mut_val *item; (item = yyjson_mut_arr_iter_next(&it));)
            measure(item, depth + 1, max_depth, size);
    } else if (yyjson_mut_is_obj(v)) {
        yyjson_mut_obj_iter it = yyjson_mut_obj_iter_with(v);
        for (yyjson_mut_val *key; (key = yyjson_mut_obj_iter_next(&it));) {
            *size += yyjson_mut_get_len(key);
            measure(yyjson_mut_obj_iter_get_val(key), depth + 1, max_depth, size);
        }
    }
}

/* ---- pointers --------------------------------------------------------------------------------------------------- */

struct pointer {
    size_t n;
    char *tokens[JSON_MAX_DEPTH];
};

static void pointer_free(struct pointer *p) {
    for (size_t i = 0; i < p->n; i++)
        free(p->tokens[i]);
    p->n = 0;
}

static int malformed(struct json_patch *p, const char *what) {
    return error_set(p->err, ERR_UNSUPPORTED, "JSON patch, operation %zu: %s", p->op, what);
}

static int does_not_apply(struct json_patch *p, const char *path, const char *what) {
    return error_set(p->err, ERR_INVALID, "JSON patch, operation %zu: %.200s: %s", p->op, path, what);
}

static char *unescape(struct bytes token) {
    char *out = xmalloc(token.len + 1), *o = out;
    for (size_t i = 0; i < token.len; i++) {
        char c = token.ptr[i];
        if (c == '~' && i + 1 < token.len && (token.ptr[i + 1] == '0' || token.ptr[i + 1] == '1'))
            c = token.ptr[++i] == '0' ? '~' : '/';
        *o++ = c;
    }
    *o = '\0';
    return out;
}

static int pointer_parse(struct json_patch *p, const char *text, struct pointer *out) {
    if (!text || (*text && *text != '/'))
        return malformed(p, "a path must be \"\" or begin with /");
    struct bytes rest = bytes_str(text), token;
    bool more = rest.len > 0;
    if (more) {
        rest.ptr++;
        rest.len--;
    }
    while (more) {
        if (out->n == ARRAY_LEN(out->tokens))
            return error_set(p->err, ERR_TOO_LARGE, "JSON patch, operation %zu: the path is too deep", p->op);
        struct bytes whole = rest;
        more = bytes_cut(whole, '/', &token, &rest);
        out->tokens[out->n++] = unescape(more ? token : whole);
    }
    return 0;
}

/* Position in a list: decimal without leading zeros, below `limit`. */
static bool parse_index(const char *token, size_t limit, size_t *out) {
    uint64_t n;
    if (parse_u64(bytes_str(token), UINT32_MAX, &n) < 0 || n >= limit || (token[0] == '0' && token[1]))
        return false;
    *out = (size_t)n;
    return true;
}

static int spend(struct json_patch *p, yyjson_mut_val *container) {
    p->steps += yyjson_mut_is_arr(container) ? yyjson_mut_arr_size(container) : yyjson_mut_obj_size(container);
    if (p->steps > PATCH_MAX_STEPS)
        return error_set(p->err, ERR_TOO_LARGE, "JSON patch: too much work on large lists or objects");
    return 0;
}

static yyjson_mut_val *step(struct json_patch *p, yyjson_mut_val *v, const char *token) {
    size_t i;
    if (spend(p, v) < 0)
        return NULL;
    if (yyjson_mut_is_obj(v))
        return yyjson_mut_obj_get(v, token);
    if (yyjson_mut_is_arr(v) && parse_index(token, yyjson_mut_arr_size(v), &i))
        return yyjson_mut_arr_get(v, i);
    return NULL;
}

/* The value that the first n tokens lead to, NULL if there is none. */
static yyjson_mut_val *walk(struct json_patch *p, const struct pointer *at, size_t n) {
    yyjson_mut_val *v = p->root;
    for (size_t i = 0; v && i < n; i++)
        v = step(p, v, at->tokens[i]);
    return v;
}

/* ---- operations ------------------------------------------------------------------------------------------------- */

static int op_add(struct json_patch *p, const struct pointer *at, const char *path, yyjson_mut_val *value) {
    size_t depth = at->n, size = 0, i;
    measure(value, at->n, &depth, &size);
    if (depth >= JSON_MAX_DEPTH)
        return error_set(p->err, ERR_TOO_LARGE, "JSON patch, operation %zu: the result is too deep", p->op);
    if (at->n == 0) {
        p->root = value;
        return 0;
    }
    yyjson_mut_val *parent = walk(p, at, at->n - 1);
    const char *last = at->tokens[at->n - 1];
    if (!parent || spend(p, parent) < 0)
        return does_not_apply(p, path, "the parent does not exist");
    if (yyjson_mut_is_obj(parent)) {
        yyjson_mut_obj_put(parent, yyjson_mut_strcpy(p->doc, last), value);
        return 0;
    }
    if (!yyjson_mut_is_arr(parent))
        return does_not_apply(p, path, "the parent is neither a list nor an object");
    if (str_eq(last, "-"))
        i = yyjson_mut_arr_size(parent);
    else if (!parse_index(last, yyjson_mut_arr_size(parent) + 1, &i))
        return does_not_apply(p, path, "no such place in the list");
    yyjson_mut_arr_insert(parent, value, i);
    return 0;
}

/* Takes the value out; NULL with an error if there is none. */
static yyjson_mut_val *op_remove(struct json_patch *p, const struct pointer *at, const char *path) {
    size_t i;
    yyjson_mut_val *parent = at->n ? walk(p, at, at->n - 1) : NULL, *taken = NULL;
    const char *last = at->n ? at->tokens[at->n - 1] : "";
    if (parent && spend(p, parent) < 0)
        return NULL;
    if (yyjson_mut_is_obj(parent))
        taken = yyjson_mut_obj_remove_key(parent, last);
    else if (yyjson_mut_is_arr(parent) && parse_index(last, yyjson_mut_arr_size(parent), &i))
        taken = yyjson_mut_arr_remove(parent, i);
    if (!taken)
        does_not_apply(p, path, "there is nothing to remove");
    return taken;
}

static int op_replace(struct json_patch *p, const struct pointer *at, const char *path, yyjson_mut_val *value) {
    size_t i;
    if (!walk(p, at, at->n))
        return does_not_apply(p, path, "there is nothing to replace");
    yyjson_mut_val *parent = at->n ? walk(p, at, at->n - 1) : NULL;
    if (!yyjson_mut_is_arr(parent))
        return op_add(p, at, path, value);
    if (!parse_index(at->tokens[at->n - 1], yyjson_mut_arr_size(parent), &i))
        return does_not_apply(p, path, "no such place in the list");
    yyjson_mut_arr_remove(parent, i);
    return op_add(p, at, path, value);
}

/* Is inner the same place as outer, or beneath it? */
static bool pointer_within(const struct pointer *outer, const struct pointer *inner) {
    if (outer->n > inner->n)
        return false;
    for (size_t i = 0; i < outer->n; i++)
        if (!str_eq(outer->tokens[i], inner->tokens[i]))
            return false;
    return true;
}

static int op_move(struct json_patch *p, const struct pointer *from, const struct pointer *to, const char *from_path,
                   const char *path) {
    if (pointer_within(from, to)) {
        if (from->n < to->n)
            return does_not_apply(p, path, "a value cannot be moved into itself");
        return walk(p, from, from->n) ? 0 : does_not_apply(p, from_path, "there is nothing to move");
    }
    yyjson_mut_val *v = op_remove(p, from, from_path);
    return v ? op_add(p, to, path, v) : -1;
}

static int op_copy(struct json_patch *p, const struct pointer *from, const struct pointer *to, const char *from_path,
                   const char *path) {
    yyjson_mut_val *v = walk(p, from, from->n);
    if (!v)
        return does_not_apply(p, from_path, "there is nothing to copy");
    size_t depth = 0;
    measure(v, to->n, &depth, &p->copied);
    if (p->copied > PATCH_MAX_COPIED || depth >= JSON_MAX_DEPTH)
        return error_set(p->err, ERR_TOO_LARGE, "JSON patch, operation %zu: copies too much", p->op);
    return op_add(p, to, path, yyjson_mut_val_mut_copy(p->doc, v));
}

static int op_test(struct json_patch *p, const struct pointer *at, const char *path, yyjson_mut_val *value) {
    yyjson_mut_val *v = walk(p, at, at->n);
    size_t depth = 0, size = 0;
    if (v)
        measure(v, 0, &depth, &size);
    p->steps += size;
    if (!v && yyjson_mut_is_null(value)) /* as Kubernetes' library: null equals absent */
        return 0;
    if (!v || !json_mut_equal(v, value))
        return does_not_apply(p, path, "the tested value is another one");
    return 0;
}

static int apply_operation(struct json_patch *p, yyjson_val *o) {
    _cleanup_(pointer_free) struct pointer at = {0}, from = {0};
    const char *op = json_str(o, "op"), *path = json_str(o, "path"), *from_path = json_str(o, "from");
    yyjson_val *value = json_get(o, "value");
    if (!op || !path || pointer_parse(p, path, &at) < 0)
        return op && path ? -1 : malformed(p, "op or path is missing");
    if (str_eq(op, "move") || str_eq(op, "copy")) {
        if (!from_path || pointer_parse(p, from_path, &from) < 0)
            return from_path ? -1 : malformed(p, "from is missing");
        return str_eq(op, "move") ? op_move(p, &from, &at, from_path, path) : op_copy(p, &from, &at, from_path, path);
    }
    if (str_eq(op, "remove"))
        return op_remove(p, &at, path) ? 0 : -1;
    if (!str_eq(op, "add") && !str_eq(op, "replace") && !str_eq(op, "test"))
        return malformed(p, "op must be add, remove, replace, move, copy or test");
    if (!value)
        return malformed(p, "value is missing");
    yyjson_mut_val *v = yyjson_val_mut_copy(p->doc, value);
    return str_eq(op, "add")       ? op_add(p, &at, path, v)
           : str_eq(op, "replace") ? op_replace(p, &at, path, v)
                                   : op_test(p, &at, path, v);
}

yyjson_mut_val *patch_json(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) {
    struct json_patch p = {.doc = d, .err = err};
    if (!yyjson_is_arr(patch)) {
        error_set(err, ERR_UNSUPPORTED, "a JSON patch is a list of operations");
        return NULL;
    }
    if (yyjson_arr_size(patch) > PATCH_MAX_OPERATIONS) {
        error_set(err, ERR_TOO_LARGE, "a JSON patch has at most %d operations, not %zu", PATCH_MAX_OPERATIONS,
                  yyjson_arr_size(patch));
        return NULL;
    }
    p.root = yyjson_val_mut_copy(d, target);
    yyjson_arr_iter it = yyjson_arr_iter_with(patch);
    for (yyjson_val *o; (o = yyjson_arr_iter_next(&it)); p.op++)
        if (apply_operation(&p, o) < 0)
            return NULL;
    return p.root;
}

/* ---- merge patch ------------------------------------------------------------------------------------------------ */

static yyjson_mut_val *merge(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch) {
    if (!yyjson_is_obj(patch))
        return yyjson_val_mut_copy(d, patch);
    _cleanup_(members_free) struct members old, new;
    members_init(&old, target);
    members_init(&new, patch);
    yyjson_mut_val *out = yyjson_mut_obj(d);
    yyjson_obj_iter it = yyjson_obj_iter_with(old.obj);
    for (yyjson_val *key; old.obj && (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *change = members_get(&new, json_bytes(key)), *value = yyjson_obj_iter_get_val(key);
        if (!members_is_last(&old, key) || yyjson_is_null(change))
            continue;
        yyjson_mut_obj_add(out, yyjson_val_mut_copy(d, key),
                           change ? merge(d, value, change) : yyjson_val_mut_copy(d, value));
    }
    it = yyjson_obj_iter_with(patch);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (!members_is_last(&new, key) || yyjson_is_null(value) || members_get(&old, json_bytes(key)))
            continue;
        yyjson_mut_obj_add(out, yyjson_val_mut_copy(d, key), merge(d, NULL, value));
    }
    return out;
}

yyjson_mut_val *patch_merge(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) {
    if (yyjson_is_obj(patch))
        return merge(d, target, patch);
    error_set(err, ERR_UNSUPPORTED, "a merge patch is an object");
    return NULL;
}
