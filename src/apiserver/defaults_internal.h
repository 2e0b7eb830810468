/* What the files of defaults share. Private to defaults*.c. */
#pragma once

#include "apiserver/defaults.h"
#include "base/str.h"

static inline void default_str(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, const char *value) {
    if (str_empty(yyjson_mut_get_str(yyjson_mut_obj_get(obj, key))))
        json_set_str(d, obj, key, value);
}

static inline void default_int(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, int64_t value) {
    if (!yyjson_mut_obj_get(obj, key))
        json_set_int(d, obj, key, value);
}

/* As default_int, for fields where zero means unset. */
static inline void default_positive(yyjson_mut_doc *d, yyjson_mut_val *obj, const char *key, int64_t value) {
    if (yyjson_mut_get_sint(yyjson_mut_obj_get(obj, key)) == 0)
        json_set_int(d, obj, key, value);
}

/* Each element of a list; list may be NULL. */
#define FOR_EACH(item, list)                                                             \
    for (yyjson_mut_arr_iter it_##item = yyjson_mut_arr_iter_with(list); it_##item.arr;) \
        for (yyjson_mut_val * item; (item = yyjson_mut_arr_iter_next(&it_##item)) || (it_##item.arr = NULL);)

/* A pod's spec, in a pod and in a template. */
void default_pod_spec(yyjson_mut_doc *d, yyjson_mut_val *spec);

/* defaults_workloads.c */
void default_deployment(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_replicaset(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_daemonset(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_job(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_job_create(yyjson_mut_doc *d, yyjson_mut_val *o); /* selector and labels from the uid */
void default_service(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_endpoints(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_endpointslice(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_budget(yyjson_mut_doc *d, yyjson_mut_val *o);
void default_priority_class(yyjson_mut_doc *d, yyjson_mut_val *o);
