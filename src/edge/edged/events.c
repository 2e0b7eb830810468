#include "edge/edged/events.h"

#include "base/clock.h"
#include "wire/resource.h"

#include <inttypes.h>

#define RECENT 64
#define RECENT_MS (10 * 60 * 1000)

/* An event told lately, by a hash of what it says; its name and count, for updates. */
struct recent {
    uint64_t key;
    int64_t at_ms;
    int64_t count;
    char name[320];
    char first[RFC3339_SIZE];
};

struct event_recorder {
    struct bus *bus;
    char *node_name;
    bool enabled;
    struct recent recent[RECENT];
    size_t next;
};

struct event_recorder *event_recorder_new(struct bus *b, const char *node_name, bool enabled) {
    struct event_recorder *r = NEW(struct event_recorder);
    r->bus = b;
    r->node_name = xstrdup(node_name);
    r->enabled = enabled;
    return r;
}

void event_recorder_free(struct event_recorder *r) {
    if (!r)
        return;
    free(r->node_name);
    free(r);
}

static struct recent *find_recent(struct event_recorder *r, uint64_t key, int64_t now) {
    for (size_t i = 0; i < RECENT; i++)
        if (r->recent[i].key == key && r->recent[i].count > 0 && now - r->recent[i].at_ms < RECENT_MS)
            return &r->recent[i];
    return NULL;
}

static yyjson_mut_val *involved(yyjson_mut_doc *d, const struct pod *p, const char *container, bool init) {
    yyjson_mut_val *o = yyjson_mut_obj(d);
    json_set_str(d, o, "kind", "Pod");
    json_set_str(d, o, "apiVersion", "v1");
    json_set_str(d, o, "namespace", p->ns);
    json_set_str(d, o, "name", p->name);
    json_set_str(d, o, "uid", p->uid);
    if (!str_empty(container)) {
        _cleanup_(free_p) char *path = xasprintf("spec.%s{%s}", init ? "initContainers" : "containers", container);
        json_set_str(d, o, "fieldPath", path);
    }
    return o;
}

void event_record(struct event_recorder *r, const struct pod *p, const char *container, bool init, bool warning,
                  const char *reason, const char *message) {
    if (!r->enabled || !p)
        return;
    int64_t now = clock_mono_ms();
    _cleanup_(free_p) char *said = xasprintf("%s/%s/%s/%s", p->uid, str_or(container, ""), reason, message);
    uint64_t key = str_hash(said, strlen(said));
    struct recent *e = find_recent(r, key, now);
    bool again = e != NULL;
    char stamp[RFC3339_SIZE];
    rfc3339_now(stamp);
    if (!again) {
        e = &r->recent[r->next++ % RECENT];
        *e = (struct recent){.key = key};
        snprintf(e->name, sizeof(e->name), "%s.%" PRIx64, p->name,
                 (uint64_t)(clock_wall_ms() * 1000000) ^ (key & 0xfffff));
        memcpy(e->first, stamp, sizeof(stamp));
    }
    e->at_ms = now;
    e->count++;
    yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *o = yyjson_mut_obj(d);
    yyjson_mut_doc_set_root(d, o);
    json_set_str(d, o, "kind", "Event");
    json_set_str(d, o, "apiVersion", "v1");
    yyjson_mut_val *meta = json_ensure_obj(d, o, "metadata");
    json_set_str(d, meta, "name", e->name);
    json_set_str(d, meta, "namespace", p->ns);
    json_set(d, o, "involvedObject", involved(d, p, container, init));
    json_set_str(d, o, "reason", reason);
    json_set_str(d, o, "message", message);
    yyjson_mut_val *source = json_ensure_obj(d, o, "source");
    json_set_str(d, source, "component", "kubelet");
    json_set_str(d, source, "host", r->node_name);
    json_set_str(d, o, "firstTimestamp", e->first);
    json_set_str(d, o, "lastTimestamp", stamp);
    json_set_int(d, o, "count", e->count);
    json_set_str(d, o, "type", warning ? "Warning" : "Normal");
    json_set_str(d, o, "reportingComponent", "kubelet");
    json_set_str(d, o, "reportingInstance", r->node_name);
    _cleanup_(buf_free) struct buf resource = BUF_INIT(1024);
    resource_format(&resource, p->ns, "event", e->name);
    bus_send(r->bus, MODULE_METAMANAGER,
             message_new(&(struct message_fields){.source = MODULE_EDGED,
                                                  .group = GROUP_META,
                                                  .operation = again ? OP_UPDATE : OP_INSERT,
                                                  .resource = resource.ptr,
                                                  .content_mut = o}));
    yyjson_mut_doc_free(d);
}
