/* base64, hexadecimal, percent encoding, query strings, UTF-8: decoders refuse or undo their encoder. */
#include "base/json.h"
#include "base/str.h"

typedef int codec_fn(struct bytes in, struct buf *out);

static int decode_path(struct bytes in, struct buf *out) {
    return percent_decode(in, false, out);
}

/* What decodes, encodes to a text that decodes to the same; exact: to the same text. */
static void check(struct bytes in, codec_fn *decode, codec_fn *encode, bool exact) {
    size_t max = in.len * 4 + 16;
    _cleanup_(buf_free) struct buf plain = BUF_INIT(max), text = BUF_INIT(max), back = BUF_INIT(max);
    if (decode(in, &plain) < 0)
        return;
    if (encode(buf_bytes(&plain), &text) < 0 || (exact && !bytes_eq(buf_bytes(&text), in)))
        panic("an encoding is not unique");
    if (decode(buf_bytes(&text), &back) < 0 || !bytes_eq(buf_bytes(&back), buf_bytes(&plain)))
        panic("an encoding does not read back");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes in = bytes_of(data, size);
    bool breaks = size && (memchr(data, '\n', size) || memchr(data, '\r', size));
    check(in, base64_decode, base64_encode, !breaks);
    check(in, base64url_decode, base64url_encode, true);
    check(in, hex_decode, hex_encode, false);
    check(in, decode_path, percent_encode, false);

    _cleanup_(buf_free) struct buf out = BUF_INIT(size + 1), text = BUF_INIT(size * 6 + 16);
    (void)query_get(in, "a", &out);
    if (json_append_string(&text, in) < 0)
        panic("a string does not fit its largest size");
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(buf_bytes(&text), SIZE_MAX, NULL);
    yyjson_val *s = yyjson_doc_get_root(doc);
    if (!s || (utf8_valid(in) && !bytes_eq(bytes_of(yyjson_get_str(s), yyjson_get_len(s)), in)))
        panic("a string changed on its way");
    return 0;
}
