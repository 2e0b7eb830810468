#include "base/mem.h"
#include "base/str.h"
#include "net/spdy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <zlib.h>

#include <cmocka.h>

static void unhex(const char *hex, struct buf *out) {
    assert_int_equal(hex_decode(bytes_str(hex), out), 0);
}

static struct spdy_event read_hex(struct spdy *s, const char *hex, struct buf *raw) {
    buf_clear(raw);
    unhex(hex, raw);
    struct bytes in = buf_bytes(raw);
    return spdy_read(s, &in);
}

/* The header blocks of one connection share one deflate stream, with the dictionary whose checksum is e3c6a7c2. */
static void streams_are_opened_as_in_the_draft(void **state) {
    struct spdy *s = spdy_new();
    _cleanup_(buf_free) struct buf out = BUF_INIT(1000);
    assert_int_equal(spdy_open(s, 1, "streamtype", "error", &out), 0);
    size_t first = out.len;
    static const unsigned char head[] = {0x80, 3, 0, 1, 0};
    assert_memory_equal(out.ptr, head, sizeof(head));
    static const unsigned char ids[] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    assert_memory_equal(out.ptr + 8, ids, sizeof(ids));
    static const unsigned char dictionary[] = {0xe3, 0xc6, 0xa7, 0xc2};
    assert_memory_equal(out.ptr + 20, dictionary, sizeof(dictionary));
    assert_memory_equal(out.ptr + first - 4, "\0\0\xff\xff", 4);
    assert_int_equal(spdy_open(s, 3, "streamtype", "stdout", &out), 0);
    assert_memory_equal(out.ptr + out.len - 4, "\0\0\xff\xff", 4);
    assert_true(out.len - first < first);
    spdy_free(s);
}

static void data_ends_and_pings_are_framed(void **state) {
    _cleanup_(buf_free) struct buf out = BUF_INIT(100), want = BUF_INIT(100);
    spdy_data(3, false, BYTES_LIT("hi\n"), &out);
    spdy_data(3, true, BYTES_EMPTY, &out);
    spdy_ping(2, &out);
    unhex("000000030000000368690a0000000301000000800300060000000400000002", &want);
    assert_true(bytes_eq(buf_bytes(&out), buf_bytes(&want)));
}

/* However the bytes are cut, the same is told. */
static void cuts_make_no_difference(void **state) {
    static const char all[] = "80030002000000140000000178f9e3c6a7c26260606000000000ffff"
                              "000000030000000368690a"
                              "0000000301000000"
                              "80030003000000080000000300000005"
                              "800300060000000400000002"
                              "80030007000000080000000300000000";
    _cleanup_(buf_free) struct buf raw = BUF_INIT(1000);
    unhex(all, &raw);
    for (size_t step = 1; step <= raw.len; step++) {
        struct spdy *s = spdy_new();
        _cleanup_(buf_free) struct buf told = BUF_INIT(1000), data = BUF_INIT(100);
        for (size_t at = 0; at < raw.len; at += step) {
            struct bytes in = bytes_of(raw.ptr + at, raw.len - at < step ? raw.len - at : step);
            for (struct spdy_event ev = spdy_read(s, &in); ev.kind != SPDY_MORE; ev = spdy_read(s, &in)) {
                buf_add_bytes(&data, ev.data);
                if (ev.kind != SPDY_DATA || ev.fin)
                    buf_addf(&told, "%d:%u%s ", ev.kind, ev.id, ev.fin ? "!" : "");
            }
        }
        assert_string_equal(told.ptr, "1:1 2:3! 3:3 4:2 5:3 ");
        assert_true(bytes_eq_str(buf_bytes(&data), "hi\n"));
        spdy_free(s);
    }
}

static void what_is_no_spdy_is_refused(void **state) {
    static const char *const bad[] = {"8002000200000014", "8003000200000003", "8003000200ffffff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct spdy *s = spdy_new();
        _cleanup_(buf_free) struct buf raw = BUF_INIT(100);
        assert_int_equal(read_hex(s, bad[i], &raw).kind, SPDY_BAD);
        spdy_free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_opened_as_in_the_draft),
        cmocka_unit_test(data_ends_and_pings_are_framed),
        cmocka_unit_test(cuts_make_no_difference),
        cmocka_unit_test(what_is_no_spdy_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
