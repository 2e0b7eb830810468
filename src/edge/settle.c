#include "edge/settle.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"

#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>

struct mapping {
    unsigned long start, end;
    bool file; /* of a file, private, not writable */
};

/* "7f00-7f10 r-xp 00000000 08:01 123 /usr/lib/libx.so" */
static bool parse_mapping(const char *line, struct mapping *m) {
    char permissions[8], path[8];
    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %7s", &m->start, &m->end, permissions, path) < 3)
        return false;
    m->file = strchr(line, '/') && permissions[0] == 'r' && permissions[1] == '-' && permissions[3] == 'p';
    return true;
}

/* Pages that were written to once (relocations made read-only afterwards) count as anonymous: such a mapping is left
 * alone, since dropping them would bring the file's bytes back. */
void settle_memory(void) {
    char line[512];
    struct mapping m = {0};
    FILE *f = fopen("/proc/self/smaps", "re");
    malloc_trim(0);
    while (f && fgets(line, sizeof(line), f)) {
        unsigned long kib;
        if (sscanf(line, "Anonymous: %lu kB", &kib) == 1) {
            if (m.file && kib == 0)
                (void)madvise((void *)m.start, m.end - m.start, MADV_DONTNEED);
            m.file = false;
        } else if (strchr(line, '-') && !strstr(line, ": ")) {
            if (!parse_mapping(line, &m))
                m.file = false;
        }
    }
    if (f)
        fclose(f);
}
