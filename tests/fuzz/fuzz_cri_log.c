/* The parts of a log line lie within it. */
#include "base/mem.h"
#include "base/str.h"
#include "edge/edged/cri_log.h"
#include "edge/edged/log_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes line = bytes_of(data, size);
    struct cri_log_line l;
    struct log_options o;
    (void)!log_options_read(line, 1000000000, &o, NULL);
    if (!cri_log_parse(line, &l))
        return 0;
    if (l.time.ptr < line.ptr || l.text.ptr < l.time.ptr + l.time.len || l.text.ptr + l.text.len > line.ptr + line.len)
        panic("a log line points outside of itself");
    return 0;
}
