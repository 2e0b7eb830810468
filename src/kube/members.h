/* Members of a JSON object by name, in logarithmic time: yyjson looks through all of them, which makes merging two
 * large objects quadratic. Of duplicates the last one counts, as it does for Go. Borrows the object. */
#pragma once

#include "base/json.h"

struct members {
    yyjson_val *obj;
    yyjson_val **keys; /* sorted; NULL for small objects */
    size_t n_keys;
};

void members_init(struct members *m, yyjson_val *obj); /* obj may be NULL or no object: no members */
void members_free(struct members *m);
/* The value, NULL if there is none. */
yyjson_val *members_get(const struct members *m, struct bytes key);
/* Is `value` what members_get finds for this key, so not an earlier duplicate? */
bool members_is_last(const struct members *m, yyjson_val *key);

static inline struct bytes json_bytes(yyjson_val *string) {
    return (struct bytes){yyjson_get_str(string), yyjson_get_len(string)};
}
