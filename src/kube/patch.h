/* The three patch kinds (embedded-api.md section 4). All produce a new value in doc; inputs are not changed. */
#pragma once

#include "kube/schema.h"

/* RFC 6902: at most 10,000 operations, copies at most 3 MiB in total. ERR_INVALID when it does not apply. */
yyjson_mut_val *patch_json(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) MUST_CHECK;
/* RFC 7396. */
yyjson_mut_val *patch_merge(yyjson_mut_doc *d, yyjson_val *target, yyjson_val *patch, struct error *err) MUST_CHECK;
/* Strategic merge with all directives: $patch, $retainKeys, $setElementOrder, $deleteFromPrimitiveList. */
yyjson_mut_val *patch_strategic(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *target, yyjson_val *patch,
                                struct error *err) MUST_CHECK;

/* The two-way strategic merge patch that turns `from` into `to`: what kubelets send. NULL result (and 0) where they are
 * equal. */
int patch_diff_strategic(yyjson_mut_doc *d, const struct schema_type *t, yyjson_val *from, yyjson_val *to,
                         yyjson_mut_val **out, struct error *err) MUST_CHECK;
