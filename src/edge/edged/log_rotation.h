/* Keeps the containers' logs small: containerLogMaxSize and containerLogMaxFiles, looked at every
 * containerLogMonitorInterval. On the loop; the files are worked on by the pool. */
#pragma once

#include "edge/edged/pods.h"

struct log_rotation;
/* ERR_INVALID: containerLogMaxSize is no quantity. A negative size switches rotation off. */
struct log_rotation *log_rotation_new(struct pods *ps, struct error *err) MUST_CHECK;
void log_rotation_free(struct log_rotation *r); /* after pool and CRI; NULL is fine */
