/* The bus between edgecore's components: messages addressed by component name, requests correlated by message id with a
 * deadline. One loop thread; delivery is from the loop, never from inside bus_send.
 *
 * Components never call each other's internals, so that one of them can become a process of its own later. Names are
 * KubeEdge's: "websocket" is EdgeHub (the way to the cloud), "metamanager", "edged", "twin", "eventbus", ... */
#pragma once

#include "net/loop.h"
#include "wire/message.h"

struct bus;
struct bus *bus_new(struct loop *l);
void bus_free(struct bus *b);

/* handle owns the message it is given (message_free). One handler per name. */
void bus_register(struct bus *b, const char *name, void (*handle)(void *arg, struct message *m), void *arg);
void bus_unregister(struct bus *b, const char *name);

/* Delivers m (ownership moves) to the component `to`. To an unknown component: logged once, dropped. */
void bus_send(struct bus *b, const char *to, struct message *m);

/* Sends m and waits for a message whose parent_id is m->id: done gets it (and owns it), or NULL with err (ERR_TIMEOUT,
 * ERR_UNAVAILABLE when the way to the cloud is down and the receiver said so, or when there is no such component).
 * Answers are matched in bus_reply. The request is gone when done is called. */
struct bus_request;
struct bus_request *bus_request(struct bus *b, const char *to, struct message *m, int timeout_ms,
                                void (*done)(void *arg, struct message *answer, const struct error *err), void *arg);
void bus_request_cancel(struct bus_request *r); /* done is not called */
/* Gives an answer to whoever waits for its parent_id: true if somebody did (ownership moves), false otherwise (the
 * caller keeps it). */
bool bus_reply(struct bus *b, struct message *answer);
/* Ends the request whose id is given, with an error (told from the loop). False if nobody waits for that id. */
bool bus_reply_error(struct bus *b, const char *id, const struct error *err);
/* Is there a request with this id? */
bool bus_is_request(const struct bus *b, const char *id);
/* Ends all requests under way to the component `to` with an error (told from the loop): its link has broken. */
void bus_fail_requests(struct bus *b, const char *to, const struct error *err);

/* Connection events (EdgeHub publishes; wire-protocol.md 6.6). Subscribers are told at each change, and at once on
 * subscription. */
void bus_publish_connected(struct bus *b, bool connected);
bool bus_connected(const struct bus *b);
void bus_on_connected(struct bus *b, void (*fn)(void *arg, bool connected), void *arg);
void bus_off_connected(struct bus *b, void (*fn)(void *arg, bool connected), void *arg); /* never from inside fn */

/* Back-pressure against the cloud: a component that has more than it can store asks EdgeHub to stop reading, and says
 * when it can take more. Every pause needs its resume. The subscriber (EdgeHub) is told at changes. */
void bus_pause_downstream(struct bus *b);
void bus_resume_downstream(struct bus *b);
void bus_on_downstream(struct bus *b, void (*fn)(void *arg, bool paused), void *arg);
