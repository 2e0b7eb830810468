/* Files of a volume, replaced together: a reader sees all the old ones or all the new ones (resource-sync.md 7.8).
 *
 * The files are in a folder "..<time>", "..data" is a link to it that is swapped by rename, and each name at the top is
 * a link through "..data": the layout that programs know from the kubelet. Blocking: task pool only. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <sys/types.h>

struct volume_file {
    char *path; /* relative, no "..", may have folders */
    char *data;
    size_t len;
    mode_t mode;
};

/* Is path usable as a file's place in a volume? */
bool volume_path_valid(const char *path);
/* Makes dir (which exists) hold exactly these files. Does nothing if it does already. gid < 0: group left alone. */
int atomic_write(const char *dir, const struct volume_file *files, size_t n, int64_t gid, struct error *err) MUST_CHECK;
