/* The pods that files in staticPodPath describe: YAML or JSON, one Pod each. */
#pragma once

#include "edge/edged/pod.h"

/* The pod of a file, as a kubelet makes it: its name ends in -<node>, its UID is a hash over content and node, it is
 * bound to the node and tolerates whatever would drive it away. Pure. */
struct pod *static_pod_parse(struct bytes text, const char *file, const char *node, struct error *err) MUST_CHECK;

struct static_file {
    char *name;
    struct pod *pod; /* NULL: see complaint */
    char *complaint;
};
struct static_files {
    struct static_file *items; /* by name */
    size_t count;
    struct error err; /* the folder itself could not be read; a missing one is an empty one */
};
/* Files whose names begin with a dot, folders, pipes and the like are left out. Blocks: task pool. */
void static_files_read(const char *folder, const char *node, struct static_files *out);
void static_files_free(struct static_files *f);
