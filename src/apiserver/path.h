/* The URL of a request, taken apart (embedded-api.md 1.2). No I/O: fuzzed. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

/* All strings are decoded and "" where absent. They live in the one block that api_path_free frees. */
struct api_path {
    const char *group, *version; /* group "" is core */
    const char *ns;
    const char *resource;    /* plural */
    const char *name;        /* "" for collections */
    const char *subresource; /* "status", ... */
    const char *rest;        /* what follows the subresource */
    char *block;
};

/* ERR_NOT_FOUND: not the path of a resource; ERR_INVALID: it would be one, but a segment is malformed. */
int api_path_parse(struct bytes path, struct api_path *out, struct error *err) MUST_CHECK;
void api_path_free(struct api_path *p);

/* Query parameters. Present with an empty value, or anything but "0" and "false", counts as true. */
bool query_flag(struct bytes query, const char *name);
/* The decoded value, owned, NULL if absent. ERR_INVALID if it cannot be decoded or is longer than 64 KiB. */
int query_text(struct bytes query, const char *name, char **out, struct error *err) MUST_CHECK;

/* Takes the next part off a list: true while there was one. *rest starts as the whole text with ptr not NULL. */
bool list_next(struct bytes *rest, char sep, struct bytes *part);
