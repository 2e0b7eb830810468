/* Which component a message from the cloud is for (wire-protocol.md 3.3). */
#pragma once

#include "wire/message.h"

enum downstream_target {
    DOWN_DROP,      /* nobody here has this group */
    DOWN_CONTROL,   /* answered by the hub itself: ping, pong, config (1.6) */
    DOWN_ANSWER,    /* to who waits for it; else to component, if that is not NULL */
    DOWN_COMPONENT, /* to component */
};
enum downstream_target downstream_target(const struct message *m, const char **component);
