/* The body of a watch, cut into events. Sans-IO: bytes in, events out. Private to the reflector. */
#pragma once

#include "base/json.h"

enum watch_type { WATCH_ADDED, WATCH_MODIFIED, WATCH_DELETED, WATCH_BOOKMARK, WATCH_ERROR };

struct watch_event {
    enum watch_type type;
    yyjson_val *object; /* borrowed. Except for ERROR it has a resourceVersion; objects also have a name */
};

struct watch_stream {
    struct buf line; /* the beginning of an event whose end has not come */
};

void watch_stream_init(struct watch_stream *s, size_t max_event);
void watch_stream_free(struct watch_stream *s);
/* Calls event for each event that is complete now; events of unknown types are passed over. event returns false to
 * stop. -1: what came is no watch event, or is larger than allowed. */
int watch_stream_feed(struct watch_stream *s, struct bytes in, bool (*event)(void *arg, const struct watch_event *e),
                      void *arg, struct error *err) MUST_CHECK;
