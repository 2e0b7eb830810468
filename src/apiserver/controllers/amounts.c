#include "apiserver/controllers/amounts.h"

#include "base/str.h"
#include "kube/quantity.h"

#define NAMES_MAX 64 /* different resources of one pod or node */

void amounts_free(struct amounts *a) {
    for (size_t i = 0; i < a->count; i++)
        free(a->items[i].name);
    free(a->items);
    *a = (struct amounts){0};
}

static struct amount *find(const struct amounts *a, const char *name) {
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i].name, name) == 0)
            return &a->items[i];
    return NULL;
}

int64_t amounts_get(const struct amounts *a, const char *name, int64_t fallback) {
    const struct amount *x = find(a, name);
    return x ? x->value : fallback;
}

void amounts_put(struct amounts *a, const char *name, int64_t value) {
    struct amount *x = find(a, name);
    if (!x) {
        if (a->count == NAMES_MAX)
            return;
        a->items = xreallocarray(a->items, a->count + 1, sizeof *a->items);
        x = &a->items[a->count++];
        *x = (struct amount){xstrdup(name), 0};
    }
    if (__builtin_add_overflow(x->value, value, &x->value))
        x->value = value > 0 ? INT64_MAX : INT64_MIN;
}

void amounts_add(struct amounts *a, const struct amounts *b, int sign) {
    for (size_t i = 0; i < b->count; i++)
        amounts_put(a, b->items[i].name, sign * b->items[i].value);
}

void amounts_read(struct amounts *a, yyjson_val *map) {
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach (map, i, n, key, value) {
        const char *name = yyjson_get_str(key), *text = yyjson_get_str(value);
        struct quantity q;
        if (yyjson_is_int(value))
            amounts_put(a, name, json_int_or(value, 0) * (strcmp(name, "cpu") == 0 ? 1000 : 1));
        else if (text && quantity_parse(bytes_str(text), &q, NULL) == 0)
            amounts_put(a, name, strcmp(name, "cpu") == 0 ? quantity_milli(q) : quantity_value(q));
    }
}

static void add_max(struct amounts *a, const struct amounts *b) {
    for (size_t i = 0; i < b->count; i++) {
        int64_t had = amounts_get(a, b->items[i].name, 0);
        if (b->items[i].value > had)
            amounts_put(a, b->items[i].name, b->items[i].value - had);
    }
}

void amounts_of_pod(struct amounts *a, yyjson_val *spec) {
    struct amounts sidecars = {0}, init = {0};
    size_t i, n;
    yyjson_val *c;
    yyjson_arr_foreach (json_get(spec, "initContainers"), i, n, c) {
        yyjson_val *requests = json_get(c, "resources", "requests");
        if (str_eq(json_str(c, "restartPolicy"), "Always")) {
            amounts_read(&sidecars, requests);
            add_max(&init, &sidecars);
            continue;
        }
        struct amounts with = {0}; /* it runs beside the sidecars that came before it */
        amounts_read(&with, requests);
        amounts_add(&with, &sidecars, 1);
        add_max(&init, &with);
        amounts_free(&with);
    }
    yyjson_arr_foreach (json_get(spec, "containers"), i, n, c)
        amounts_read(a, json_get(c, "resources", "requests"));
    amounts_add(a, &sidecars, 1);
    add_max(a, &init);
    amounts_read(a, json_get(spec, "overhead"));
    amounts_put(a, "pods", 1);
    amounts_free(&sidecars);
    amounts_free(&init);
}
