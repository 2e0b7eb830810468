/* What metamanager.c (the batches and what comes from the cloud) and meta_requests.c (what edge components ask for)
 * share.
 */
#pragma once

#include "base/log.h"
#include "edge/metamanager/meta_job.h"
#include "edge/metamanager/metamanager.h"
#include "net/metrics.h"

struct meta_remote;

struct metamanager {
    struct loop *loop;
    struct bus *bus;
    const struct edge_config *config;
    struct meta_store *store; /* touched on the queue's thread only, once started */
    struct pool_queue *queue;

    struct job *waiting, **waiting_end; /* for the next batch, in order */
    size_t n_waiting, waiting_bytes;
    struct batch *batch; /* being committed */
    bool stopped, paused;
    bool gaps;            /* a damaged file was replaced: pods may be missing that run */
    int64_t connected_ms; /* since when the cloud can send them again; 0: it cannot */
    struct log_once disk;
    size_t refused_bytes; /* of the last batch that the disk did not take */
    int64_t refused_ms;   /* when */
    struct metric *stored, *failed;

    struct meta_remote *remotes; /* requests that the cloud is to answer */
};

/* Queues a job for the next batch. Takes it. */
void meta_submit(struct metamanager *mm, struct job *j);
/* A request of an edge component. Takes the message. */
void meta_request(struct metamanager *mm, struct message *m);
/* Finishes JOB_READ, JOB_ANSWER, JOB_KEEP_PATCH and JOB_TOKENS after the commit. Takes the job. */
void meta_request_done(struct metamanager *mm, struct job *j);
/* Has the cloud had the time to send what the database may lack? Remembers it, if so. */
bool meta_is_whole(struct metamanager *mm);
void meta_requests_free(struct metamanager *mm);
/* Tells the cloud that `m` is stored. */
void meta_ack(struct metamanager *mm, const struct message *m);
