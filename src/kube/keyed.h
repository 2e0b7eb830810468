/* The elements of a merge list by their key: shared by applying and making strategic merge patches. */
#pragma once

#include "base/json.h"

#include <uthash.h>

struct keyed_item {
    char *key;         /* JSON text of the merge key (or of the scalar itself); NULL where it is missing */
    yyjson_val *value; /* as it stood in the list */
    yyjson_mut_val *merged;
    size_t position; /* in that list; SIZE_MAX for one that was added */
    size_t order;    /* in $setElementOrder; SIZE_MAX if not named there */
    bool deleted;
    struct keyed_item *same; /* the next one with the same key */
    UT_hash_handle hh;
};

struct keyed {
    struct keyed_item **items; /* in the order of the list */
    size_t count, cap;
    struct keyed_item *index;
    bool unique; /* every element has a key, and none has another's */
};

/* merge_key "" or NULL: a list of scalars, each its own key. list may be NULL. */
void keyed_init(struct keyed *k, yyjson_val *list, const char *merge_key);
void keyed_free(struct keyed *k);
struct keyed_item *keyed_find(const struct keyed *k, const char *key);             /* the first; NULL key: none */
struct keyed_item *keyed_add(struct keyed *k, char *key_taken, yyjson_val *value); /* at the end */
char *keyed_key(yyjson_val *element, const char *merge_key);                       /* owned; NULL if missing */
