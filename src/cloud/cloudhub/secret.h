/* Private to cloudhub/: Secrets as the PKI uses them, waited for. */
#pragma once

#include "cloud/sync_call.h"

struct secret_field {
    const char *key;
    struct bytes value;
};

/* The JSON text of an Opaque Secret in namespace kubeedge, owned; rv NULL: none. */
char *secret_text(const char *name, const char *rv, const struct secret_field *fields, size_t n, size_t *len);
/* ERR_NOT_FOUND if it does not exist. */
int secret_get(struct loop *l, struct kube_client *k, const char *name, struct sync_answer *out,
               struct error *err) MUST_CHECK;
/* Creates it; if somebody else did meanwhile, out is theirs. */
int secret_create_or_get(struct loop *l, struct kube_client *k, const char *name, const struct secret_field *fields,
                         size_t n, struct sync_answer *out, struct error *err) MUST_CHECK;
/* Replaces it if it is still at the resourceVersion of `old`; ERR_CONFLICT otherwise. */
int secret_replace(struct loop *l, struct kube_client *k, const char *name, const struct sync_answer *old,
                   const struct secret_field *fields, size_t n, struct error *err) MUST_CHECK;
/* The decoded value of data.<key>. ERR_INVALID names Secret and key. */
int secret_value(const struct sync_answer *s, const char *name, const char *key, struct buf *out,
                 struct error *err) MUST_CHECK;
int namespace_ensure(struct loop *l, struct kube_client *k, struct error *err) MUST_CHECK;
