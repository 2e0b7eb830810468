/* The contents of answers to edges (resource-sync.md 0.4). Sans-IO; texts are owned by the caller. */
#pragma once

#include "base/json.h"

enum answer_shape {
    ANSWER_OBJECT, /* the object itself; failed: {"ErrStatus":...} */
    ANSWER_PAIR,   /* {"Object":...,"Err":...} */
    ANSWER_OK,     /* "OK"; failed: {"ErrStatus":...} */
};

/* Success. object: of ANSWER_OBJECT and ANSWER_PAIR. */
char *answer_success(enum answer_shape shape, yyjson_val *object, size_t *len);
/* Failure. status: the API server's Status object if there is one, else NULL: then err says what to tell. kind and name
 * go into details where the Status has none. */
char *answer_failure(enum answer_shape shape, yyjson_val *status, const struct error *err, const char *kind,
                     const char *name, size_t *len);
