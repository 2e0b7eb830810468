/* Child processes: argv only, never a shell; watched by pidfd. A child is in a process group of its own, reads
 * /dev/null, and inherits no descriptor of ours but its output. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"

#include <sys/types.h>

struct child;
struct child_options {
    const char *const *argv; /* NULL-terminated; argv[0] is the program's path or is found in PATH */
    const char *const *envp; /* NULL: ours */
    /* Lines of its output (both streams), without the newline, cut at 4096 bytes; NULL: goes to our stderr. */
    void (*line)(void *arg, struct bytes line);
    void (*exited)(void *arg, int wait_status);
    void *arg;
    bool die_with_parent; /* SIGTERM when the thread that started it ends */
};
/* ERR_NOT_FOUND, ERR_IO, ... when the program cannot be executed. Blocks until it is (or is not). */
struct child *child_start(struct loop *l, const struct child_options *o, struct error *err) MUST_CHECK;
pid_t child_pid(const struct child *c);
/* SIGTERM, and SIGKILL after grace_ms; exited is called when it is gone. */
void child_stop(struct child *c, int grace_ms);
void child_free(struct child *c); /* kills it if it still runs; no callback afterwards */
