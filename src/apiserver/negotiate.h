/* Which form of an answer a client wants: the Accept header (embedded-api.md 1.6). No I/O. */
#pragma once

#include "base/bytes.h"

enum answer_form {
    FORM_JSON,         /* the object or list itself */
    FORM_UNMANAGED,    /* the same without metadata.managedFields, which most programs only throw away: the clause has
                          managedFields=none. Other servers ignore that. Wherever FORM_JSON is allowed */
    FORM_TABLE,        /* meta.k8s.io Table */
    FORM_PARTIAL,      /* PartialObjectMetadata */
    FORM_PARTIAL_LIST, /* PartialObjectMetadataList */
    FORM_DISCOVERY_V2, /* APIGroupDiscoveryList */
    FORM_DISCOVERY_V2BETA1,
    FORM_OPENAPI_V2, /* application/com.github.proto-openapi.spec.v2...+protobuf */
};
#define FORM_BIT(f) (1u << (f))

/* The first clause of the header, best quality first, that is among the allowed forms. */
int negotiate(struct bytes accept, unsigned allowed, enum answer_form *out) MUST_CHECK;

enum body_type {
    BODY_JSON,
    BODY_PROTOBUF,
    BODY_JSON_PATCH,
    BODY_MERGE_PATCH,
    BODY_STRATEGIC_PATCH,
    BODY_APPLY_PATCH,
    BODY_OTHER,
};
/* From a Content-Type header; absent means JSON. Parameters are tolerated. */
enum body_type body_type_of(struct bytes content_type);
