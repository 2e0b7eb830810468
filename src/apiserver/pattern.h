/* Regular expressions of schemas: RE2's syntax, but for what is listed here, in linear time.
 *
 * A pattern becomes a small program that follows all its alternatives at once (Thompson), so the cost of a match is at
 * most text times program, whatever the pattern. Not supported: Unicode classes (\p), flags other than i and s, and
 * \Q..\E. */
#pragma once

#include "base/bytes.h"

#define PATTERN_MAX_PROGRAM 4000 /* steps; repetitions count as often as they repeat */

struct pattern;

/* ERR_UNSUPPORTED for syntax that is not offered, ERR_INVALID for what is none, ERR_TOO_LARGE for too many steps. */
struct pattern *pattern_compile(const char *text, struct error *err) MUST_CHECK; /* NULL on failure */
void pattern_free(struct pattern *p);
/* Is there a match anywhere in it? *budget counts down by the steps taken; what would cost more is no match. */
bool pattern_matches(const struct pattern *p, struct bytes text, uint64_t *budget);
