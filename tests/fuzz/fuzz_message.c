/* A message that decodes must encode, and what was encoded must decode to the same message. */
#include "wire/message.h"

#include "base/str.h"

#define CHECK(cond) \
    if (!(cond))    \
    panic("broken: %s", #cond)

static void check_same(const struct message *a, const struct message *b) {
    CHECK(str_eq(a->id, b->id) && str_eq(a->parent_id, b->parent_id) && a->timestamp == b->timestamp);
    CHECK(str_eq(a->resource_version, b->resource_version) && a->sync == b->sync);
    CHECK(str_eq(a->source, b->source) && str_eq(a->group, b->group) && str_eq(a->operation, b->operation));
    CHECK(str_eq(a->resource, b->resource) && str_eq(a->type, b->type) && str_eq(a->destination, b->destination));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(message_free_p) struct message *m = NULL;
    struct error err = ERROR_INIT;
    if (message_decode(bytes_of(data, size), &m, &err) < 0)
        return 0;
    _cleanup_(buf_free) struct buf first = BUF_INIT(MESSAGE_MAX), second = BUF_INIT(MESSAGE_MAX);
    CHECK(message_encode(m, &first) == 0);
    _cleanup_(message_free_p) struct message *again = NULL;
    CHECK(message_decode(buf_bytes(&first), &again, &err) == 0);
    check_same(m, again);
    CHECK(message_encode(again, &second) == 0);
    CHECK(bytes_eq(buf_bytes(&first), buf_bytes(&second)));

    _cleanup_(message_free_p) struct message *copy = message_copy(m);
    check_same(m, copy);
    CHECK(json_equal(m->content, copy->content));
    _cleanup_(message_free_p) struct message *answer = message_response(m, NULL, NULL, NULL);
    CHECK(str_eq(answer->parent_id, m->id));

    yyjson_doc *doc = NULL;
    message_content_object(m, &doc);
    yyjson_doc_free(doc);
    message_content_error(m);
    free(message_content_text(m, NULL));
    return 0;
}
