/* Lines of a container's log as container runtimes write them (streams.md 2.2), sans-IO. */
#pragma once

#include "base/bytes.h"

struct cri_log_line {  /* borrowed from the line */
    struct bytes time; /* RFC 3339 */
    struct bytes text; /* with its newline, but for a part of a longer line */
    bool partial;      /* the line goes on in the next record of the stream */
    bool is_stderr;
};

/* line: without or with its newline. False: not a line of that form. */
bool cri_log_parse(struct bytes line, struct cri_log_line *out);
