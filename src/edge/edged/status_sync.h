/* Sends pod statuses to the cloud: the newest wins, one message in flight per pod, sent again until it is stored
 * (resource-sync.md 7.6). Also asks for the final deletion of pods that have ended. */
#pragma once

#include "edge/bus.h"
#include "edge/edged/pod.h"

struct status_sync;
/* rebuild: the base changed by an answer; give the pod's status again with status_sync_set. */
struct status_sync *status_sync_new(struct loop *l, struct bus *b, void (*rebuild)(void *arg, const char *uid),
                                    void *arg);
void status_sync_free(struct status_sync *s);

/* What the API server is known to have: from the stored pod, and from each of its messages. */
void status_sync_known(struct status_sync *s, const struct pod *p);
/* A static pod's mirror in the cloud: only to it is the status sent. uid NULL: there is none. status may be NULL. */
void status_sync_mirror(struct status_sync *s, const char *uid, const char *mirror_uid, yyjson_val *status);
/* That known status; NULL if none. Borrowed until the next call. */
yyjson_val *status_sync_base(struct status_sync *s, const char *uid);
/* The status to reach; taken. Nothing is sent if nothing differs. */
void status_sync_set(struct status_sync *s, const struct pod *p, yyjson_mut_doc *status);
/* Once the latest status is stored: delete with grace 0 and the UID as precondition. Repeated until the pod is
 * forgotten. */
void status_sync_finish(struct status_sync *s, const struct pod *p);
void status_sync_forget(struct status_sync *s, const char *uid);
