/* JSON on yyjson.
 *
 * Parsing gives an immutable yyjson_doc in one allocation; use yyjson's own accessors on it, and the helpers below
 * where a path is walked. Building uses yyjson_mut_doc. Everything from outside goes through json_parse, which caps
 * size and depth and refuses duplicate members never (last one wins is wrong for us: the FIRST wins in yyjson lookups;
 * strict decoding reports them where it matters). Numbers: integers stay 64-bit integers. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#include <yyjson.h>

#define JSON_MAX_DEPTH 128

DEFINE_CLEANUP(yyjson_doc, yyjson_doc_free)         /* _cleanup_(yyjson_doc_free_p) */
DEFINE_CLEANUP(yyjson_mut_doc, yyjson_mut_doc_free) /* _cleanup_(yyjson_mut_doc_free_p) */

/* Parses exactly one value (white space around it allowed). ERR_TOO_LARGE over max_size or JSON_MAX_DEPTH, ERR_INVALID
 * with the position otherwise. NULL on failure. */
yyjson_doc *json_parse(struct bytes text, size_t max_size, struct error *err) MUST_CHECK;
/* As json_parse, but bytes after the first value are ignored (what the Go peers do with messages). */
yyjson_doc *json_parse_first(struct bytes text, size_t max_size, struct error *err) MUST_CHECK;

/* Compact text, owned by the caller; aborts only on out of memory. */
char *json_write(const yyjson_val *v, size_t *len);
char *json_write_mut(const yyjson_mut_val *v, size_t *len);
char *json_write_pretty(const yyjson_val *v, size_t *len); /* two blanks */
/* Is there an object anywhere in it with two members of one name? Readers differ in which of them counts: what is
 * judged here and passed on to another reader must have none. Also true if it is nested deeper than JSON_MAX_DEPTH. */
bool json_has_duplicates(yyjson_val *v);
/* Appends compact text to out; -1 if over its maximum. */
int json_append(struct buf *out, const yyjson_val *v);
int json_append_mut(struct buf *out, const yyjson_mut_val *v);
int json_append_string(struct buf *out, struct bytes s); /* quoted and escaped; invalid UTF-8 replaced by U+FFFD */

/* Walks a path of object members: json_get(v, "metadata", "name"). NULL where a member is missing or not an object. */
yyjson_val *json_get_path(yyjson_val *v, const char *const *path, size_t n);
#define json_get(v, ...) \
    json_get_path((v), (const char *const[]){__VA_ARGS__}, ARRAY_LEN(((const char *const[]){__VA_ARGS__})))
yyjson_mut_val *json_mut_get_path(yyjson_mut_val *v, const char *const *path, size_t n);
#define json_mut_get(v, ...) \
    json_mut_get_path((v), (const char *const[]){__VA_ARGS__}, ARRAY_LEN(((const char *const[]){__VA_ARGS__})))
/* The string at the path, or NULL. Borrowed from the document. */
#define json_str(v, ...) yyjson_get_str(json_get((v), __VA_ARGS__))
#define json_mut_str(v, ...) yyjson_mut_get_str(json_mut_get((v), __VA_ARGS__))
/* The integer at the path, or fallback if missing or not an integer in the int64 range. */
int64_t json_int_or(yyjson_val *v, int64_t fallback);
bool json_bool_or(yyjson_val *v, bool fallback);

/* Sets member `key` of a mutable object, replacing what is there (all duplicates of it). key and strings are copied.
 * Strings may come from anywhere (a container has the last word in its status): what is no UTF-8 becomes U+FFFD, since
 * a peer refuses the whole document otherwise. */
void json_set(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, yyjson_mut_val *value);
void json_set_str(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, const char *value);
void json_set_int(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, int64_t value);
void json_set_bool(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, bool value);
void json_remove(yyjson_mut_val *obj, const char *key);
/* The object at member key, made if it is missing or not an object. */
yyjson_mut_val *json_ensure_obj(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key);
yyjson_mut_val *json_ensure_arr(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key);

/* Deep equality: members in any order, integers by value, 1 equals 1.0. */
bool json_equal(yyjson_val *a, yyjson_val *b);
bool json_mut_equal(yyjson_mut_val *a, yyjson_mut_val *b);
