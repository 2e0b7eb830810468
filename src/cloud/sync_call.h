/* One call to the API server, waited for. Only while starting, before the control loop runs for good: it runs the loop
 * until the answer is there. */
#pragma once

#include "kube/client.h"

struct sync_answer {
    int status;       /* HTTP */
    yyjson_val *body; /* or NULL */
    yyjson_doc *doc;  /* holds body; free it */
};
/* 0 for 2xx. -1 with the error of the answer; out is filled then, too. ERR_CANCELLED: the loop was stopped, by SIGTERM
 * for one. done and arg of r are not used. */
int sync_call(struct loop *l, struct kube_client *k, const struct kube_request *r, struct sync_answer *out,
              struct error *err) MUST_CHECK;
void sync_answer_free(struct sync_answer *a);
/* Lets the loop run for ms. ERR_CANCELLED as above. */
int sync_wait(struct loop *l, int64_t ms, struct error *err) MUST_CHECK;
