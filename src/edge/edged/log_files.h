/* The log file of a container and the rotated ones beside it: <log>, <log>.20260102-150405, <log>.20260102-140102.gz.
 * Blocks: task pool only. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Moves the log away as `<path>.<stamp>`, compresses the ones moved earlier, and removes the oldest, so that with the
 * new file that the runtime is to open next there are at most max_files (2 or more). *moved is the new name, owned;
 * NULL if that name is taken already (a second rotation within a second). */
int log_rotate(const char *path, const char *stamp, int64_t max_files, char **moved, struct error *err) MUST_CHECK;
/* The file's size; 0 if it is missing or no regular file. */
int64_t log_size(const char *path);
