/* Regular expressions of schemas, on PCRE2: RE2's syntax, which Kubernetes has, but for its absence of look-around,
 * which is accepted here. Whatever a pattern is, what it may cost is limited. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

struct pattern;

/* ERR_UNSUPPORTED for references back, ERR_INVALID for what is no pattern or too large a one. */
struct pattern *pattern_compile(const char *text, struct error *err) MUST_CHECK; /* NULL on failure */
void pattern_free(struct pattern *p);
/* Is there a match anywhere in it? *budget counts down by at least the steps taken; what would cost more is no match.
 */
bool pattern_matches(const struct pattern *p, struct bytes text, uint64_t *budget);
