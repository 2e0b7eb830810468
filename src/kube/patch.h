/* The three patch kinds (embedded-api.md section 4). All produce a new value in doc; inputs are not changed. Inputs
 * must come from json_parse, so that their depth is bounded; the result's depth is bounded, too.
 *
 * Errors: ERR_UNSUPPORTED: the patch itself is malformed (HTTP 400); ERR_INVALID: it does not apply to this object
 * (422); ERR_TOO_LARGE: too many operations, too much copied, too deep (413). */
#pragma once

#include "kube/schema.h"

#define PATCH_MAX_OPERATIONS 10000
#define PATCH_MAX_COPIED (3 * 1024 * 1024)

/* RFC 6902: at most PATCH_MAX_OPERATIONS, copies at most PATCH_MAX_COPIED bytes in total. */
yyjson_mut_val *patch_json(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) MUST_CHECK;
/* RFC 7396. Kubernetes' rule on top: the patch must be an object. */
yyjson_mut_val *patch_merge(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) MUST_CHECK;
/* Strategic merge with all directives: $patch, $retainKeys, $setElementOrder, $deleteFromPrimitiveList. */
yyjson_mut_val *patch_strategic(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *target, yyjson_val *patch,
                                struct error *err) MUST_CHECK;

/* The two-way strategic merge patch that turns `from` into `to`: what kubelets send. NULL result (and 0) where they are
 * equal. Lists whose merge keys are not unique (a node's addresses) are sent whole, with {"$patch":"replace"} last. */
int patch_diff_strategic(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *from, yyjson_val *to,
                         yyjson_mut_val **out, struct error *err) MUST_CHECK;
