/* Tells when a network interface comes or goes, or an address does (rtnetlink), so that the connection to the cloud is
 * tried at once rather than at the end of a pause. Without netlink it just never tells. */
#pragma once

#include "net/loop.h"

struct link_watch;
struct link_watch *link_watch_new(struct loop *l, void (*changed)(void *arg), void *arg);
void link_watch_free(struct link_watch *w);
