/* Label and field selectors (embedded-api.md 3.8): parsed once, matched often. */
#pragma once

#include "base/json.h"

struct selector;
/* "a=b,c!=d,e in (f,g),h notin (i),j,!k". "" matches everything. */
int selector_parse_labels(struct bytes text, struct selector **out, struct error *err) MUST_CHECK;
/* "metadata.name=x,spec.nodeName!=y". Only =, ==, !=. Which fields are allowed is the caller's to check with
 * selector_field. */
int selector_parse_fields(struct bytes text, struct selector **out, struct error *err) MUST_CHECK;
/* From a LabelSelector object {matchLabels, matchExpressions}. NULL value: matches nothing; {}: everything. */
int selector_from_object(yyjson_val *label_selector, struct selector **out, struct error *err) MUST_CHECK;
void selector_free(struct selector *s);
DEFINE_CLEANUP(struct selector, selector_free)
bool selector_is_empty(const struct selector *s);                         /* matches everything; NULL does */
bool selector_match_labels(const struct selector *s, yyjson_val *labels); /* labels may be NULL */
/* get gives the value of a field path ("" where absent). */
bool selector_match_fields(const struct selector *s, const char *(*get)(void *arg, const char *field), void *arg);
/* Field name number i, NULL past the end; the exact value if it is an equality, else NULL, into *equals. */
const char *selector_field(const struct selector *s, size_t i, const char **equals);
