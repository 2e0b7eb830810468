/* Tables of the edge database that other components keep: devices and their twins (devices.md 3.3), EventBus's own
 * subscriptions, mappers. Reached by messages to MetaManager, written in its batches, so that there is one writer.
 *
 *   operation  resource                       content                              answer's content
 *   query      devicetwin                     -                                    {"devices":[rows],"twins":[rows]}
 *   update     devicetwin                     {"devices":[],"twins":[],"removed":[ids]}   "OK"
 *   query      sub_topics                     -                                    array of topics
 *   insert, delete  sub_topics                topic                                "OK"
 *   insert     <...>/devicemapper/<name>      MapperInfo                           "OK"
 *
 * A twin's row whose attr_type is "deleted" is removed. */
#pragma once

#include "edge/metamanager/meta_job.h"

bool meta_is_local(const struct message *m);
bool meta_local_writes(const struct message *m);
/* On the store queue's thread. Fills j->text. */
int meta_local_apply(struct job *j, struct meta_store *s, struct error *err) MUST_CHECK;
