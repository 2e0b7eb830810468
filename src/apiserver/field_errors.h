/* Helpers of validation: errors that show the value, and paths that grow and shrink with the walk. Private. */
#pragma once

#include "apiserver/validate.h"
#include "kube/object.h"

/* 'Invalid value: <value as JSON>: <detail>'; value may be NULL. */
void field_errors_value(struct field_errors *e, enum field_error_type type, const char *field, yyjson_val *value,
                        const char *detail);
/* 'Unsupported value: "x": supported values: "a", "b"'; allowed ends with NULL. */
void field_errors_unsupported(struct field_errors *e, const char *field, const char *value, const char *const *allowed);

#define PATH_MAX_LEN 4096
/* Each returns the length to field_path_pop back to. */
size_t field_path_push(struct buf *path, const char *name);
size_t field_path_index(struct buf *path, size_t i);
size_t field_path_key(struct buf *path, const char *key);
void field_path_pop(struct buf *path, size_t len);
static inline const char *field_path_text(const struct buf *path) {
    return path->ptr ? path->ptr : "";
}
