#include "kube/members.h"

#define MEMBERS_INDEX_FROM 24 /* below this, looking through them is faster */

static int compare_keys(yyjson_val *a, yyjson_val *b) {
    struct bytes x = json_bytes(a), y = json_bytes(b);
    int c = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
    if (c == 0)
        c = (x.len > y.len) - (x.len < y.len);
    return c;
}

static int compare_entries(const void *pa, const void *pb) {
    yyjson_val *a = *(yyjson_val *const *)pa, *b = *(yyjson_val *const *)pb;
    int c = compare_keys(a, b);
    return c ? c : (a > b) - (a < b); /* duplicates in the order of the text */
}

void members_init(struct members *m, yyjson_val *obj) {
    *m = (struct members){.obj = yyjson_is_obj(obj) ? obj : NULL};
    size_t n = yyjson_obj_size(m->obj);
    if (n < MEMBERS_INDEX_FROM)
        return;
    m->keys = xreallocarray(NULL, n, sizeof(yyjson_val *));
    yyjson_obj_iter it = yyjson_obj_iter_with(obj);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&it));)
        m->keys[m->n_keys++] = key;
    qsort(m->keys, m->n_keys, sizeof(yyjson_val *), compare_entries);
}

void members_free(struct members *m) {
    free(m->keys);
    *m = (struct members){0};
}

static yyjson_val *find_key(const struct members *m, struct bytes key) {
    yyjson_val *found = NULL;
    if (!m->keys) {
        yyjson_obj_iter it = yyjson_obj_iter_with(m->obj);
        for (yyjson_val *k; m->obj && (k = yyjson_obj_iter_next(&it));)
            if (bytes_eq(json_bytes(k), key))
                found = k;
        return found;
    }
    size_t low = 0, high = m->n_keys; /* the first key that is greater */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        struct bytes k = json_bytes(m->keys[mid]);
        int c = memcmp(k.ptr, key.ptr, k.len < key.len ? k.len : key.len);
        if (c < 0 || (c == 0 && k.len <= key.len))
            low = mid + 1;
        else
            high = mid;
    }
    if (low > 0 && bytes_eq(json_bytes(m->keys[low - 1]), key))
        found = m->keys[low - 1];
    return found;
}

yyjson_val *members_get(const struct members *m, struct bytes key) {
    yyjson_val *k = find_key(m, key);
    return k ? yyjson_obj_iter_get_val(k) : NULL;
}

bool members_is_last(const struct members *m, yyjson_val *key) {
    return find_key(m, json_bytes(key)) == key;
}
