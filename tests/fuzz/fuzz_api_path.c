/* Paths, queries and Accept headers as anybody may send them. */
#include "apiserver/negotiate.h"
#include "apiserver/path.h"
#include "base/mem.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes in = bytes_of(data, size);
    struct api_path p;
    enum answer_form form;
    const char *mark = size > 0 ? memchr(data, '?', size) : NULL;
    struct bytes path = mark ? bytes_of(in.ptr, (size_t)(mark - in.ptr)) : in;
    struct bytes query = mark ? bytes_of(mark + 1, in.len - path.len - 1) : in;
    if (api_path_parse(path, &p, NULL) == 0)
        api_path_free(&p);
    _cleanup_(free_p) char *value = NULL;
    if (query_text(query, "labelSelector", &value, NULL) == 0 && query_flag(query, "watch") && value &&
        strlen(value) > size)
        __builtin_trap();
    if (negotiate(in, ~0u, &form) == 0 && form > FORM_OPENAPI_V2)
        __builtin_trap();
    return (int)body_type_of(in) < 0;
}
