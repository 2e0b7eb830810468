/* OpenAPI documents, generated from the kinds' schemas: v3 for each group and version, and all of it as one v2 document
 * for kubectl up to 1.28 (embedded-api.md 2.5, 2.6). */
#pragma once

#include "apiserver/kinds.h"

#define OPENAPI_V2_CONTENT_TYPE "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
void openapi_v2(const struct kinds *ks, struct buf *out); /* protobuf */

/* Path without query: /openapi/v3, /openapi/v3/api/v1, /openapi/v3/apis/<group>/<version>. JSON. ERR_NOT_FOUND
 * otherwise. */
int openapi_v3(const struct kinds *ks, struct bytes path, struct buf *out, struct error *err) MUST_CHECK;
