/* MetaManager: the edge database, and the only way between the cloud connection and edged (resource-sync.md 5).
 *
 * Everything that the cloud sends is committed first, then passed on, then acknowledged. What the edge asks for is
 * answered from the database, or from the cloud and then stored. It listens on the bus as "metamanager".
 *
 * What edged may send (bus_request to "metamanager"; source "edged", group "meta"):
 *
 *   operation  resource                           content            answer's content
 *   query      <ns>/pod                           -                  array of all stored pods of every namespace;
 *                                                                    {"incomplete": that} after a damaged database was
 *                                                                    replaced, until the cloud was connected for a
 *                                                                    minute and so has sent what it lacks: ask again
 *   query      <ns>/<type>/<name>                 -                  the object, or {"ErrStatus":{...}} if there is
 * none configmap, secret: from the database, from the cloud only if absent; node, pod: the same;
 *              persistentvolume(claim), volumeattachment, lease, certificatesigningrequest: from the cloud when
 *              connected, else from the database
 *   query      <ns>/serviceaccounttoken/<sa>      TokenRequest       TokenRequest with status; a stored one while it is
 *                                                                    younger than 24 h and has 20 % of its life left
 *   insert     <ns>/pod/<n>, null/node/<n>, ...   object             {"Object":...,"Err":...}
 *   update     <ns>/lease/<n>                     Lease              {"Object":...,"Err":...}
 *   update     null/node/<n>                      Node               "OK"
 *   patch      <ns>/podpatch/<n>, null/nodepatch  JSON text (string) {"Object":...,"Err":...}; Object is stored as the
 *                                                                    pod or node, unless it is older or was deleted
 *   delete     <ns>/pod/<n>                       DeleteOptions      "OK" or {"ErrStatus":{...}}
 *   insert     <ns>/event/<n>  (bus_send)         Event              none
 *   delete     <ns>/serviceaccounttoken/<poduid>  -                  "OK": the pod's stored tokens are gone
 *
 *
 * DeviceTwin, DMI and EventBus ask for the same, and for their own tables: meta_local.h.
 *
 * Answers are `response` messages. While the cloud cannot be reached, what needs it fails with ERR_UNAVAILABLE; when it
 * is silent, with ERR_TIMEOUT. Objects in answers always carry kind and apiVersion.
 *
 * What edged gets on the bus, after it was committed, in the order of commits, with the object as content:
 *   insert/update  <ns>/pod/<n>  <ns>/configmap/<n>  <ns>/secret/<n>  (and other types: ignore what you do not know)
 *   delete         the same; content is the stored object where there was one, so that a pod always has its uid and
 *                  spec, else what the cloud sent. A delete with a uid of an object that is gone already is not passed.
 * Older resourceVersions of the same uid are not passed on. Edged answers none of these. */
#pragma once

#include "edge/bus.h"
#include "edge/edge_config.h"
#include "net/pool.h"

struct metamanager;

/* Opens the database (blocking, at start). A damaged one is set aside and a new one made; one that cannot be opened at
 * all fails with what to do. config and bus outlive it. */
struct metamanager *metamanager_new(struct loop *l, struct pool *p, struct bus *b, const struct edge_config *c,
                                    struct error *err) MUST_CHECK;
int metamanager_start(struct metamanager *m, struct error *err) MUST_CHECK;
/* Takes no more messages. What was accepted is still committed: wait with metamanager_idle. */
void metamanager_stop(struct metamanager *m);
bool metamanager_storing(const struct metamanager *m); /* false while commits fail, e.g. on a full disk */
bool metamanager_idle(const struct metamanager *m);
void metamanager_free(struct metamanager *m); /* after pool_free, or when idle */
