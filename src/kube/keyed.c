#include "kube/keyed.h"

#include "base/str.h"

char *keyed_key(yyjson_val *element, const char *merge_key) {
    yyjson_val *key = str_empty(merge_key) ? element : yyjson_obj_get(element, merge_key);
    if (!key || yyjson_is_null(key) || yyjson_is_ctn(key))
        return NULL;
    return json_write(key, NULL);
}

struct keyed_item *keyed_find(const struct keyed *k, const char *key) {
    struct keyed_item *item = NULL;
    if (key)
        HASH_FIND_STR(k->index, key, item);
    return item;
}

struct keyed_item *keyed_add(struct keyed *k, char *key_taken, yyjson_val *value) {
    struct keyed_item *item = NEW(struct keyed_item), *first = keyed_find(k, key_taken);
    *item = (struct keyed_item){.key = key_taken, .value = value, .position = SIZE_MAX, .order = SIZE_MAX};
    if (first) { /* second place in the chain, so that adding stays cheap; nobody needs the chain's order */
        item->same = first->same;
        first->same = item;
    } else if (key_taken) {
        HASH_ADD_KEYPTR(hh, k->index, item->key, strlen(item->key), item);
    }
    k->unique = k->unique && key_taken && !first;
    if (k->count == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 16;
        k->items = xreallocarray(k->items, k->cap, sizeof *k->items);
    }
    k->items[k->count++] = item;
    return item;
}

void keyed_init(struct keyed *k, yyjson_val *list, const char *merge_key) {
    *k = (struct keyed){.unique = true};
    yyjson_arr_iter it = yyjson_arr_iter_with(list);
    size_t i = 0;
    for (yyjson_val *v; yyjson_is_arr(list) && (v = yyjson_arr_iter_next(&it));)
        keyed_add(k, keyed_key(v, merge_key), v)->position = i++;
}

void keyed_free(struct keyed *k) {
    HASH_CLEAR(hh, k->index);
    for (size_t i = 0; i < k->count; i++) {
        free(k->items[i]->key);
        free(k->items[i]);
    }
    free(k->items);
    *k = (struct keyed){0};
}
