/* Frames of the tunnel between CloudStream and EdgeStream (streams.md 1.6 to 1.8), sans-IO. A frame is one WebSocket
 * text message whose data may be any bytes: ID and type as LEB128 numbers, then the data. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

enum tunnel_type {
    TUNNEL_LOGS = 0,
    TUNNEL_EXEC = 1,
    TUNNEL_METRICS = 2,
    TUNNEL_DATA = 3,
    TUNNEL_REMOVE = 4, /* that stream is over */
    TUNNEL_CLOSE = 5,  /* ID 0: the whole session is refused; the data says why */
    TUNNEL_ATTACH = 6,
    /* Between two sides that agreed on TUNNEL_PROTOCOL as WebSocket subprotocol: the receiver of a stream's data has
     * room for so many bytes more (LEB128). KubeEdge ignores an offered subprotocol and has no flow control. */
    TUNNEL_WINDOW = 32,
};

#define TUNNEL_PROTOCOL "window.tunnel.selvage"
#define TUNNEL_PATH "/v1/kubeedge/connect"
#define TUNNEL_NODE_HEADER "SessionHostNameOverride"
#define TUNNEL_ADDRESS_HEADER "SessionInternalIP"
#define TUNNEL_DATA_MAX (1u << 20)      /* a receiver takes no more in one frame */
#define TUNNEL_HEAD_MAX 20              /* two numbers */
#define TUNNEL_CHUNK (32u << 10)        /* what we send at most in one frame */
#define TUNNEL_WINDOW_SIZE (256u << 10) /* in each direction of a stream before the first TUNNEL_WINDOW */

struct tunnel_frame {
    uint64_t id, type;
    struct bytes data; /* borrowed from the message; cut at TUNNEL_DATA_MAX, as KubeEdge does */
};

/* ERR_INVALID: a number is cut off or longer than 64 bits. */
int tunnel_frame_read(struct bytes message, struct tunnel_frame *out, struct error *err) MUST_CHECK;
int tunnel_frame_write(struct buf *out, uint64_t id, enum tunnel_type type, struct bytes data);
/* The number in a TUNNEL_WINDOW frame: 1 to TUNNEL_DATA_MAX. */
int tunnel_window_read(struct bytes data, uint64_t *out, struct error *err) MUST_CHECK;
int tunnel_window_write(struct buf *out, uint64_t id, uint64_t bytes);

/* A request that a stream begins with. */
struct tunnel_request {
    char *method; /* "GET" where the frame names none (logs, metrics) */
    char *path;   /* percent-encoded, begins with '/' */
    char *query;  /* percent-encoded, "" if none */
    struct tunnel_header {
        char *name, *value;
    } * headers;
    size_t n_headers;
};
void tunnel_request_free(struct tunnel_request *r);
void tunnel_request_add(struct tunnel_request *r, struct bytes name, struct bytes value);
/* Value of the first header of that name (any case); NULL if absent. */
const char *tunnel_request_header(const struct tunnel_request *r, const char *name);
/* The JSON of TUNNEL_EXEC and TUNNEL_ATTACH (with_method) or TUNNEL_LOGS and TUNNEL_METRICS. */
int tunnel_request_write(struct buf *out, uint64_t id, const struct tunnel_request *r, bool with_method);
/* ERR_INVALID: not JSON, no path, or something in it would not fit into a request head (control characters, a method
 * or header name that is none). */
int tunnel_request_read(struct bytes json, struct tunnel_request *out, struct error *err) MUST_CHECK;
