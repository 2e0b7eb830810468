/* Strings: bounded parsing, encodings, lists. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

static inline bool str_eq(const char *a, const char *b) { /* NULL equals only NULL */
    return a == b || (a && b && strcmp(a, b) == 0);
}
static inline bool str_empty(const char *s) {
    return !s || !*s;
}
static inline const char *str_or(const char *s, const char *fallback) { /* fallback where s is NULL or "" */
    return str_empty(s) ? fallback : s;
}
bool str_starts_with(const char *s, const char *prefix);
bool str_ends_with(const char *s, const char *suffix);
bool str_case_eq(const char *a, const char *b); /* ASCII, NULL-safe as str_eq */
uint64_t str_hash(const void *p, size_t n);     /* FNV-1a, 64 bit; not for hostile keys in big tables */

/* The whole text must be a decimal number within [min, max]. No white space, no plus sign, "" refused. */
int parse_i64(struct bytes s, int64_t min, int64_t max, int64_t *out) MUST_CHECK;
int parse_u64(struct bytes s, uint64_t max, uint64_t *out) MUST_CHECK;
int parse_bool(struct bytes s, bool *out) MUST_CHECK; /* true/false/1/0/t/f, as Go's ParseBool */
/* Go durations: "1m30s", "300ms", "1.5h", "0": to nanoseconds. */
int parse_duration(struct bytes s, int64_t *nanoseconds) MUST_CHECK;

/* Splits s at every sep into at most max parts (borrowed from s); returns the number of parts that s has, which may be
 * more than max: check. "" has one empty part. */
size_t bytes_split(struct bytes s, char sep, struct bytes *parts, size_t max);
/* Cuts s at the first sep: true if there was one. before and after may be NULL. */
bool bytes_cut(struct bytes s, char sep, struct bytes *before, struct bytes *after);
struct bytes bytes_trim(struct bytes s); /* ASCII white space at both ends */

/* A list of owned strings. A zeroed struct is an empty list. */
struct strlist {
    char **items;
    size_t count;
    size_t cap;
};
void strlist_add(struct strlist *l, const char *s);
void strlist_add_take(struct strlist *l, char *s); /* takes ownership */
bool strlist_has(const struct strlist *l, const char *s);
bool strlist_remove(struct strlist *l, const char *s); /* keeps the order; true if it was there */
void strlist_sort(struct strlist *l);
void strlist_free(struct strlist *l); /* the list is empty afterwards */

/* Encodings. Encoders append to out; decoders refuse anything that is not exactly the encoding. */
int base64_encode(struct bytes in, struct buf *out);               /* standard alphabet, padded */
int base64_decode(struct bytes in, struct buf *out) MUST_CHECK;    /* standard, padding required; line breaks skipped */
int base64url_encode(struct bytes in, struct buf *out);            /* URL alphabet, no padding */
int base64url_decode(struct bytes in, struct buf *out) MUST_CHECK; /* no padding */
int hex_encode(struct bytes in, struct buf *out);                  /* lower case */
int hex_decode(struct bytes in, struct buf *out) MUST_CHECK;
int percent_decode(struct bytes in, bool plus_is_space, struct buf *out) MUST_CHECK; /* refuses bad escapes and NUL */
int percent_encode(struct bytes in, struct buf *out);                                /* all but A-Z a-z 0-9 - . _ ~ */

bool utf8_valid(struct bytes s);
size_t utf8_length(struct bytes s); /* bytes of the well-formed character at the start; 0 if there is none */

/* Names as Kubernetes defines them (embedded-api.md 1.14). */
bool dns_label_valid(struct bytes s);      /* 1..63 of [a-z0-9-], alphanumeric at both ends */
bool dns_subdomain_valid(struct bytes s);  /* 1..253, such parts (each up to 63 is not required) joined by dots */
bool qualified_name_valid(struct bytes s); /* label, annotation and resource keys: [prefix/]name */
bool label_value_valid(struct bytes s);

/* Value of ?name= in a query string, percent-decoded into out; false if absent or undecodable. The first one counts. */
bool query_get(struct bytes query, const char *name, struct buf *out);
