/* Small files: whole reads with a maximum, and writes that survive a power cut. Blocks: small configuration and key
 * files at start are fine on any thread; anything else goes to the task pool. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <sys/types.h>

/* Reads the whole file into out (its maximum is the limit: ERR_TOO_LARGE). */
int file_read(const char *path, struct buf *out, struct error *err) MUST_CHECK;
int file_read_at(int dirfd, const char *path, struct buf *out, struct error *err) MUST_CHECK;
/* Temporary file in the same folder, fsync, rename, fsync of the folder. Created with mode. */
int file_write_atomic(const char *path, struct bytes data, mode_t mode, struct error *err) MUST_CHECK;
/* mkdir -p; existing folders are fine and keep their mode. */
int dir_make(const char *path, mode_t mode, struct error *err) MUST_CHECK;
/* Removes a tree without following symbolic links or leaving the filesystem it is on. Missing is fine. */
int dir_remove(const char *path, struct error *err) MUST_CHECK;
/* Bytes on disk of everything beneath, without following links or leaving the filesystem; 0 if it is missing. Walks it
 * all. */
int64_t dir_usage(const char *path);
/* Opens path beneath dirfd: no absolute paths, no "..", no symbolic links out (openat2 RESOLVE_BENEATH). */
int open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct error *err) MUST_CHECK;
