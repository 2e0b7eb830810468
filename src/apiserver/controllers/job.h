#pragma once

#include "apiserver/controllers/children.h"

/* What a Job has and wants, and what follows from it (embedded-api.md 6.5). Decisions only: no state, no I/O. */
struct job_numbers {
    int64_t parallelism, completions; /* completions < 0: any success ends it */
    int64_t backoff_limit;
    int64_t active, succeeded, failed, restarts; /* restarts: of the containers of pods that run */
    bool restarts_count;                         /* restartPolicy OnFailure: they are failures, too */
    bool suspended, late;                        /* late: past its deadline */
    int64_t last_failure_s, now_s;
};
struct job_decision {
    const char *failed, *message; /* reason that it has failed; NULL */
    bool complete;
    bool stop;              /* its active pods are deleted */
    int64_t create, remove; /* pods; one of them is 0 */
    int64_t again_s;        /* look again then; 0: no need */
};
struct job_decision job_decide(const struct job_numbers *n);
