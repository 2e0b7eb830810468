#include "apiserver/service_ips.h"

#include "apiserver/controllers/controllers.h"
#include "base/id.h"
#include "base/str.h"

#include <arpa/inet.h>

#define NETWORK 0x0a600000u /* 10.96.0.0 */
#define HOSTS 65536u
#define PORTS (SERVICE_PORT_MAX - SERVICE_PORT_MIN + 1)

struct service_ips {
    struct apiserver *s;
    struct resource *services;
    bool ips[HOSTS], ports[PORTS];
};

/* Host number of an address of ours; 0: it is none. */
static unsigned host_of(const char *ip) {
    struct in_addr a;
    if (str_empty(ip) || inet_pton(AF_INET, ip, &a) != 1 || (ntohl(a.s_addr) & ~(HOSTS - 1)) != NETWORK)
        return 0;
    return ntohl(a.s_addr) & (HOSTS - 1);
}

bool service_ip_valid(const char *ip) {
    unsigned host = host_of(ip);
    return host > 0 && host < HOSTS - 1;
}

bool service_ip_taken(const struct service_ips *x, const char *ip) {
    return x->ips[host_of(ip)];
}

bool service_port_taken(const struct service_ips *x, int64_t port) {
    return port >= SERVICE_PORT_MIN && port <= SERVICE_PORT_MAX && x->ports[port - SERVICE_PORT_MIN];
}

int service_ip_take(struct service_ips *x, bool dry_run, char out[SERVICE_IP_SIZE]) {
    unsigned first = (unsigned)random_below(HOSTS - 2);
    for (unsigned i = 0; i < HOSTS - 2; i++) {
        unsigned host = 1 + (first + i) % (HOSTS - 2);
        if (x->ips[host])
            continue;
        struct in_addr a = {htonl(NETWORK | host)};
        x->ips[host] = !dry_run;
        return inet_ntop(AF_INET, &a, out, SERVICE_IP_SIZE) ? 0 : -1;
    }
    return -1;
}

int service_port_take(struct service_ips *x, bool dry_run) {
    unsigned first = (unsigned)random_below(PORTS);
    for (unsigned i = 0; i < PORTS; i++) {
        unsigned port = (first + i) % PORTS;
        if (x->ports[port])
            continue;
        x->ports[port] = !dry_run;
        return (int)port + SERVICE_PORT_MIN;
    }
    return -1;
}

/* ---- what is stored ---- */

static void mark(struct service_ips *x, const struct record *rec, bool taken) {
    if (!rec)
        return;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = record_parse(rec);
    yyjson_val *spec = json_get(yyjson_doc_get_root(doc), "spec"), *port;
    unsigned host = host_of(json_str(spec, "clusterIP"));
    size_t i, n;
    if (host)
        x->ips[host] = taken;
    yyjson_arr_foreach (json_get(spec, "ports"), i, n, port) {
        int64_t number = json_int_or(json_get(port, "nodePort"), 0);
        if (number >= SERVICE_PORT_MIN && number <= SERVICE_PORT_MAX)
            x->ports[number - SERVICE_PORT_MIN] = taken;
    }
}

static void change(void *self, const struct change *c) {
    struct service_ips *x = self;
    if (c->resource != x->services)
        return;
    mark(x, c->old, false);
    mark(x, c->new_, true);
}

static void load(void *self, struct record *rec) {
    mark(self, rec, true);
}

static void *new (struct apiserver *s) {
    struct service_ips *x = NEW(struct service_ips);
    x->s = s;
    x->services = controller_resource(s, "", "services");
    recordmap_each(&x->services->objects, NULL, load, x);
    s->service_ips = x;
    return x;
}

static void release(void *self) {
    struct service_ips *x = self;
    x->s->service_ips = NULL;
    free(x);
}

const struct controller_type service_ips_controller = {
    .name = "service_ips", .new = new, .change = change, .free = release};
