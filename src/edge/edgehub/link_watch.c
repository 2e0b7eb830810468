#define LOG_COMPONENT "edgehub"

#include "edge/edgehub/link_watch.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#define SETTLE_MS 200 /* changes come in bursts */

struct link_watch {
    int fd;
    struct fdwatch *watch;
    struct timer *settle;
    void (*changed)(void *arg);
    void *arg;
};

/* Interfaces that container runtimes make and drop with every pod say nothing about the way to the cloud. */
static bool is_container_interface(const char *name) {
    return str_starts_with(name, "veth") || str_starts_with(name, "cni") || str_starts_with(name, "cali") ||
           str_starts_with(name, "docker") || str_starts_with(name, "br-") || strcmp(name, "lo") == 0;
}

static bool matters(const struct nlmsghdr *h) {
    int index;
    if (h->nlmsg_type == RTM_NEWLINK && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        index = ((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
    else if ((h->nlmsg_type == RTM_NEWADDR || h->nlmsg_type == RTM_DELADDR) &&
             h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifaddrmsg)))
        index = (int)((const struct ifaddrmsg *)NLMSG_DATA(h))->ifa_index;
    else
        return false;
    char name[IF_NAMESIZE];
    return index > 0 && if_indextoname((unsigned)index, name) && !is_container_interface(name);
}

static void readable(void *arg, unsigned what) {
    struct link_watch *w = arg;
    _Alignas(struct nlmsghdr) char buf[8192];
    ssize_t n;
    while ((n = recv(w->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        ssize_t left = n; /* wider than the lengths it is compared with, and may end below 0 */
        for (const struct nlmsghdr *h = (const void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
            if (matters(h) && !timer_pending(w->settle))
                timer_set(w->settle, SETTLE_MS);
    }
}

static void settled(void *arg) {
    struct link_watch *w = arg;
    w->changed(w->arg);
}

struct link_watch *link_watch_new(struct loop *l, void (*changed)(void *arg), void *arg) {
    struct link_watch *w = NEW(struct link_watch);
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    w->changed = changed;
    w->arg = arg;
    w->settle = timer_new(l, settled, w);
    w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (w->fd < 0 || bind(w->fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
        log_info("changes of the network cannot be watched: reconnecting relies on timers alone");
        return w;
    }
    w->watch = fdwatch_new(l, w->fd, FD_READ, readable, w);
    return w;
}

void link_watch_free(struct link_watch *w) {
    if (!w)
        return;
    fdwatch_free(w->watch);
    timer_free(w->settle);
    if (w->fd >= 0)
        close(w->fd);
    free(w);
}
