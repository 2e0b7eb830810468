/* Input: a pattern and a text, divided by a NUL. Neither may cost more than it is allowed to. */
#include "apiserver/pattern.h"

#include "base/mem.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes pattern, text;
    uint64_t budget = 1000000;
    if (!bytes_cut(bytes_of(data, size), '\0', &pattern, &text))
        return 0;
    char *copy = bytes_dup(pattern);
    struct pattern *p = pattern_compile(copy, NULL);
    if (p)
        pattern_matches(p, text, &budget);
    pattern_free(p);
    free(copy);
    return 0;
}
