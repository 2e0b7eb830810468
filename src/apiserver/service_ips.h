/* The addresses and node ports of Services: which are taken, and the next free one. One row among the controllers, so
 * that it follows what is stored. */
#pragma once

#include "apiserver/server.h"

#define SERVICE_IP_SIZE 16
/* A free address of the service network 10.96.0.0/16, which is taken from now on unless it is only tried. -1: none. */
int service_ip_take(struct service_ips *x, bool dry_run, char out[SERVICE_IP_SIZE]) MUST_CHECK;
/* A free port of 30000 to 32767; -1: none. */
int service_port_take(struct service_ips *x, bool dry_run) MUST_CHECK;
/* Is it one of ours, and is it taken? */
bool service_ip_taken(const struct service_ips *x, const char *ip);
bool service_ip_valid(const char *ip);
bool service_port_taken(const struct service_ips *x, int64_t port);
#define SERVICE_PORT_MIN 30000
#define SERVICE_PORT_MAX 32767
