/* What an API server may send in a watch. The first byte says how it is cut in pieces. */
#include "kube/object_cache.h"
#include "kube/watch_stream.h"

static bool on_event(void *arg, const struct watch_event *e) {
    yyjson_doc *whole = object_compact(e->object, "v1", "Pod");
    yyjson_doc *identity = object_identity(e->object);
    yyjson_doc_free(whole);
    yyjson_doc_free(identity);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct watch_stream s;
    if (size == 0)
        return 0;
    size_t step = data[0] ? data[0] : size;
    watch_stream_init(&s, 4096);
    for (size_t i = 1; i < size; i += step)
        if (watch_stream_feed(&s, bytes_of(data + i, size - i < step ? size - i : step), on_event, NULL, NULL) < 0)
            break;
    watch_stream_free(&s);
    return 0;
}
