/* Discovery documents (embedded-api.md section 2), written from the register of kinds. */
#pragma once

#include "apiserver/kinds.h"

enum discovery_format { DISCOVERY_PLAIN, DISCOVERY_V2, DISCOVERY_V2BETA1 };

/* Path without query: /api, /apis, /api/v1, /apis/<group>, /apis/<group>/<version>, /version. The aggregated formats
 * change only /api and /apis. ERR_NOT_FOUND for another path or an unknown group or version. */
int discovery_document(const struct kinds *ks, struct bytes path, enum discovery_format format, struct buf *out,
                       struct error *err) MUST_CHECK;
/* Content-Type of that answer. */
const char *discovery_content_type(struct bytes path, enum discovery_format format);
/* What one clause of an Accept header asks for: true if it names an aggregated format. Unknown parameters don't matter.
 */
bool discovery_format_of_accept(struct bytes clause, enum discovery_format *out);

/* The Kubernetes level whose semantics are offered. */
#define DISCOVERY_GIT_VERSION "v1.32.0+selvage"
