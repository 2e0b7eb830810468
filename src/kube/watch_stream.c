#include "kube/watch_stream.h"

#include "base/str.h"
#include "kube/object.h"

void watch_stream_init(struct watch_stream *s, size_t max_event) {
    s->line = BUF_INIT(max_event);
}

void watch_stream_free(struct watch_stream *s) {
    buf_free(&s->line);
}

static bool parse_type(const char *type, enum watch_type *out) {
    static const char *const names[] = {
        [WATCH_ADDED] = "ADDED",       [WATCH_MODIFIED] = "MODIFIED", [WATCH_DELETED] = "DELETED",
        [WATCH_BOOKMARK] = "BOOKMARK", [WATCH_ERROR] = "ERROR",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(type, names[i])) {
            *out = (enum watch_type)i;
            return true;
        }
    }
    return false;
}

/* One line. *go_on is what the handler returned. */
static int read_event(struct bytes line, size_t max, bool (*event)(void *arg, const struct watch_event *e), void *arg,
                      bool *go_on, struct error *err) {
    struct watch_event e;
    if (bytes_trim(line).len == 0)
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(line, max, err);
    if (!doc)
        return error_wrap(err, "watch event");
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *type = json_str(root, "type");
    e.object = json_get(root, "object");
    if (!type || !yyjson_is_obj(e.object))
        return error_set(err, ERR_INVALID, "watch event without a type or an object");
    if (!parse_type(type, &e.type))
        return 0;
    if (e.type != WATCH_ERROR && str_empty(object_rv(e.object)))
        return error_set(err, ERR_INVALID, "watch event %s without a resourceVersion", type);
    if (e.type < WATCH_BOOKMARK && str_empty(object_name(e.object)))
        return error_set(err, ERR_INVALID, "watch event %s of an object without a name", type);
    *go_on = event(arg, &e);
    return 0;
}

int watch_stream_feed(struct watch_stream *s, struct bytes in, bool (*event)(void *arg, const struct watch_event *e),
                      void *arg, struct error *err) {
    bool go_on = true;
    struct bytes head, rest;
    while (go_on && in.len > 0) {
        bool ended = bytes_cut(in, '\n', &head, &rest);
        if (s->line.len > 0 || !ended) {
            if (buf_add_bytes(&s->line, head) < 0)
                return error_set(err, ERR_TOO_LARGE, "watch event larger than %zu bytes", s->line.max);
            head = buf_bytes(&s->line);
        }
        if (!ended)
            return 0;
        int rc = read_event(head, s->line.max, event, arg, &go_on, err);
        buf_clear(&s->line);
        if (rc < 0)
            return -1;
        in = rest;
    }
    return 0;
}
