/* Reads a container's log file for `kubectl logs`: where to begin, what to leave out, over rotations. Blocks: task
 * pool only, one task at a time. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

struct log_options {
    bool follow, previous, timestamps;
    int64_t since_ns; /* wall clock; 0: all */
    int64_t tail;     /* lines; -1: all */
    int64_t limit;    /* bytes; -1: none */
};
/* The query of /containerLogs. ERR_INVALID: a value is none; ERR_UNSUPPORTED: values that do not go together. */
int log_options_read(struct bytes query, int64_t now_ns, struct log_options *out, struct error *err) MUST_CHECK;

struct log_reader;
struct log_reader *log_reader_new(const char *path, const struct log_options *o);
void log_reader_free(struct log_reader *r);

enum log_state {
    LOG_MORE, /* there is more to read now */
    LOG_END,  /* of what is written so far */
    LOG_OVER, /* the limit is reached */
};
/* Appends the next piece (at most LOG_PIECE bytes) to out. ERR_NOT_FOUND: no log file. */
#define LOG_PIECE (64u << 10)
int log_reader_next(struct log_reader *r, struct buf *out, enum log_state *state, struct error *err) MUST_CHECK;
