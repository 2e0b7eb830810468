/* HTTP requests, cut as the first byte says: cut or whole must mean the same. */
#include "base/mem.h"
#include "net/http_parse.h"

struct outcome {
    enum http_event last;
    size_t used;
    int status;
    size_t fields, body;
};

static struct outcome parse(struct bytes in, size_t step) {
    struct http_message m;
    struct http_parser p;
    struct outcome o = {0};
    http_message_init(&m, 4096);
    http_parser_init(&p, &m, 4096);
    bool over = false;
    while (!over && o.used < in.len) {
        size_t n = in.len - o.used < step ? in.len - o.used : step;
        size_t used = http_parse(&p, bytes_of(in.ptr + o.used, n), &o.last);
        if (used > n || (o.last == HTTP_EV_MORE && used != n))
            panic("consumed %zu of %zu", used, n);
        if (o.last == HTTP_EV_HEAD)
            m.body.max = 1000;
        over = o.last == HTTP_EV_DONE || o.last == HTTP_EV_BAD;
        o.used += used;
    }
    if (m.body.len > 1000 || m.text.len > 4096)
        panic("a limit was passed");
    (void)http_message_has_token(&m, "Connection", "upgrade");
    o.status = p.status;
    o.fields = m.n_fields;
    o.body = m.body.len;
    http_message_free(&m);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    struct bytes in = bytes_of(data + 1, size - 1);
    struct outcome whole = parse(in, in.len + 1), cut = parse(in, (size_t)data[0] + 1);
    if (whole.last == HTTP_EV_DONE &&
        (cut.last != HTTP_EV_DONE || cut.used != whole.used || cut.fields != whole.fields || cut.body != whole.body))
        panic("the cut request means something else");
    return 0;
}
