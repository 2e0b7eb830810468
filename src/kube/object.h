/* Kubernetes object helpers: metadata accessors, references, status objects. On yyjson values. */
#pragma once

#include "base/json.h"

/* Borrowed from the object; "" where absent. */
const char *object_name(yyjson_val *o);
const char *object_namespace(yyjson_val *o);
const char *object_uid(yyjson_val *o);
const char *object_rv(yyjson_val *o);
const char *object_kind(yyjson_val *o);
const char *object_api_version(yyjson_val *o);
bool object_deleting(yyjson_val *o);      /* has a deletionTimestamp */
yyjson_val *object_labels(yyjson_val *o); /* object or NULL */
yyjson_val *object_annotations(yyjson_val *o);
const char *object_label(yyjson_val *o, const char *key); /* NULL if absent */
const char *object_annotation(yyjson_val *o, const char *key);

/* resourceVersions of one server: decimal, unsigned 64 bit. Anything else compares as 0 (never a crash). */
uint64_t rv_number(const char *rv);

/* {"kind":"Status",...} of a failure, embedded-api.md 1.8. Owned text. details may be NULL. */
char *status_failure(int code, const char *reason, const char *message, const char *details_json, size_t *len);
/* The error that a Status (or any HTTP answer) means: code by HTTP status and reason, message from the Status. */
int error_from_status(struct error *err, int http_status, struct bytes body);
