#include "edge/edged/cri_log.h"

#include "base/str.h"

enum { MAX_TIME = 64 };

bool cri_log_parse(struct bytes line, struct cri_log_line *out) {
    struct bytes stream, tags, tag, rest;
    if (!bytes_cut(line, ' ', &out->time, &rest) || !bytes_cut(rest, ' ', &stream, &rest) ||
        !bytes_cut(rest, ' ', &tags, &out->text))
        return false;
    if (!bytes_cut(tags, ':', &tag, NULL))
        tag = tags;
    out->is_stderr = bytes_eq_str(stream, "stderr");
    out->partial = bytes_eq_str(tag, "P");
    if (out->time.len == 0 || out->time.len > MAX_TIME || (!out->is_stderr && !bytes_eq_str(stream, "stdout")) ||
        (!out->partial && !bytes_eq_str(tag, "F")))
        return false;
    if (out->partial && bytes_ends_with(out->text, "\n"))
        out->text.len--;
    return true;
}
