/* Validation with Kubernetes' field errors (embedded-api.md 1.9, 1.10, 1.14, 5.3, 5.4, 5.7). */
#pragma once

#include "apiserver/kinds.h"

enum field_error_type {
    FIELD_REQUIRED,
    FIELD_INVALID,
    FIELD_NOT_SUPPORTED,
    FIELD_FORBIDDEN,
    FIELD_DUPLICATE,
    FIELD_TOO_LONG,
    FIELD_TOO_MANY,
    FIELD_NOT_FOUND,
    FIELD_TYPE_INVALID,
};
struct field_error {
    enum field_error_type type;
    char *field;   /* "spec.containers[0].name" */
    char *message; /* "Required value: ..." */
};
struct field_errors { /* zeroed is empty; at most FIELD_ERRORS_MAX are kept */
    struct field_error *items;
    size_t count;
};
#define FIELD_ERRORS_MAX 64
void field_errors_free(struct field_errors *e);
void field_errors_add(struct field_errors *e, enum field_error_type type, const char *field, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
const char *field_error_reason(enum field_error_type type); /* "FieldValueRequired" */
/* The complete object after defaulting. Found errors are added to e; what a user should be told though the object is
 * fine goes to warnings (for Warning headers; may be NULL). */
struct strlist;
void validate_create(const struct kind *k, yyjson_val *obj, struct field_errors *e, struct strlist *warnings);
/* subresource: NULL or "" for the object itself, "status", "finalize", ... Immutable members are compared with old. */
void validate_update(const struct kind *k, const char *subresource, yyjson_val *obj, yyjson_val *old,
                     struct field_errors *e, struct strlist *warnings);
