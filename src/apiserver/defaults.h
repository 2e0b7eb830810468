/* Defaults that users see, and the initial status of new objects (embedded-api.md 5.3, 5.4).
 *
 * A write goes: kind_decode, system metadata, defaults_apply, validate_*, store. */
#pragma once

#include "apiserver/kinds.h"

/* Fills what is unset, in place, for creates and updates alike: idempotent. Secrets: stringData goes to data. */
void defaults_apply(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj);
/* Creates only, after defaults_apply: wipes the status a client sent where the kind has one, and writes the initial one
 * (Pod: Pending and QoS class; Namespace: Active, its finalizer and name label). */
void defaults_create(const struct kind *k, yyjson_mut_doc *d, yyjson_mut_val *obj);
/* "Guaranteed", "Burstable" or "BestEffort". */
const char *defaults_pod_qos(yyjson_mut_val *pod);
