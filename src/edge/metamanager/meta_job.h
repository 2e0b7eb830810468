/* One step of MetaManager on the database. A job is made on the loop thread, applied on the store queue's thread as
 * part of a batch that is one transaction, and finished on the loop thread after the commit. Nobody else touches it
 * meanwhile.
 */
#pragma once

#include "edge/metamanager/meta_store.h"
#include "wire/message.h"

enum job_kind {
    JOB_PUT,        /* the cloud's insert or update, or an answer that came too late for who asked */
    JOB_DELETE,     /* the cloud's delete */
    JOB_READ,       /* a query that the database may answer */
    JOB_ANSWER,     /* store what the cloud answered to a request */
    JOB_KEEP_PATCH, /* a status patch that did not reach the cloud */
    JOB_LOCAL,      /* tables of other edge components: meta_local.h */
    JOB_TOKENS,     /* forget a pod's tokens */
    JOB_WHOLE,      /* the cloud has sent what a damaged database had lost */
};

struct job {
    enum job_kind kind;
    struct message *message; /* what the cloud sent, or what an edge component asked for; owned. NULL: JOB_WHOLE */
    struct message *answer;  /* JOB_ANSWER: the cloud's; owned */
    bool has_resource;
    struct resource resource; /* of message: views into it */
    size_t size;              /* bytes of the content, roughly: for back-pressure */

    /* Filled by job_apply. */
    enum meta_put_result put;
    bool stale;        /* JOB_READ: a token past its best, only good while the cloud cannot be reached */
    bool told;         /* whoever runs the object must hear of it */
    char *text;        /* JOB_READ: what was found; JOB_DELETE: what was removed; JOB_ANSWER: content for the caller */
    size_t text_len;   /* of text; owned */
    char *object;      /* JOB_ANSWER: the object as stored, with kind; owned */
    size_t object_len; /* of object */
    struct error failed; /* the database refused: nothing of this job was stored */

    struct job *next;
};

/* Takes the message. */
struct job *job_new(enum job_kind kind, struct message *m);
void job_free(struct job *j);
bool job_writes(const struct job *j);
/* On the store queue's thread; may be repeated after a rollback. */
int job_apply(struct job *j, struct meta_store *s, struct error *err) MUST_CHECK;

/* {"Object":...,"Err":...}: is the content one of these, and is it a success? */
bool content_is_wrapper(yyjson_val *content, bool *ok);
