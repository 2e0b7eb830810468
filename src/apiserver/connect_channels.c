/* WebSocket channels (v4 and v5.channel.k8s.io) to SPDY streams: container runtimes end a command's input only over
 * SPDY. */
#include "apiserver/connect.h"
#include "net/spdy.h"

#define QUEUE_HIGH (256u << 10)
#define MESSAGE_MAX (1u << 20)
#define WS_PING_MS 30000
#define N_CHANNELS 5

enum channel { CHANNEL_STDIN, CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_ERROR, CHANNEL_RESIZE, CHANNEL_CLOSE = 255 };

const char *const CONNECT_CHANNEL_PROTOCOLS[] = {"v5.channel.k8s.io", "v4.channel.k8s.io", NULL};

struct channels {
    struct connect *connect;
    struct spdy *spdy;
    uint32_t ids[N_CHANNELS]; /* stream of each channel; 0: none */
    bool ended[N_CHANNELS];   /* by the node */
    bool input_ended;
    unsigned unanswered; /* streams that do not stand yet */
};

void channels_free(struct channels *ch) {
    if (!ch)
        return;
    spdy_free(ch->spdy);
    free(ch);
}

/* ---- to the node ---- */

static bool write_node(struct channels *ch, const struct buf *out) {
    return stream_write(ch->connect->node, out->ptr, out->len) != 0;
}

static void send_data(struct channels *ch, uint32_t id, bool fin, struct bytes data) {
    bool full = false;
    do {
        struct bytes part = bytes_of(data.ptr, data.len < SPDY_FRAME_MAX ? data.len : SPDY_FRAME_MAX);
        _cleanup_(buf_free) struct buf out = BUF_INIT(SPDY_FRAME_MAX + 16);
        data = bytes_of(data.ptr + part.len, data.len - part.len);
        if (spdy_data(id, fin && data.len == 0, part, &out) == 0)
            full = write_node(ch, &out);
    } while (data.len > 0);
    if (full)
        ws_pause(ch->connect->ws);
}

static void on_message(void *arg, struct bytes payload, bool binary) {
    struct channels *ch = arg;
    if (payload.len == 0)
        return;
    unsigned channel = (unsigned char)payload.ptr[0];
    struct bytes data = bytes_of(payload.ptr + 1, payload.len - 1);
    if (channel == CHANNEL_CLOSE && data.len == 1 && data.ptr[0] == CHANNEL_STDIN && ch->ids[CHANNEL_STDIN] &&
        !ch->input_ended) {
        ch->input_ended = true;
        send_data(ch, ch->ids[CHANNEL_STDIN], true, BYTES_EMPTY);
    } else if ((channel == CHANNEL_STDIN && !ch->input_ended) || channel == CHANNEL_RESIZE) {
        if (ch->ids[channel] && data.len > 0)
            send_data(ch, ch->ids[channel], false, data);
    }
}

static void on_drained(void *arg) {
    struct channels *ch = arg;
    stream_resume(ch->connect->node);
}

static void on_ws_closed(void *arg, unsigned code, const struct error *why) {
    struct channels *ch = arg;
    connect_free(ch->connect);
}

static const struct ws_handlers WS = {.message = on_message, .drained = on_drained, .closed = on_ws_closed};

/* ---- from the node ---- */

static void finish(struct channels *ch, unsigned code, const char *why) {
    struct connect *c = ch->connect;
    ws_close(TAKE(c->ws), code, why);
    connect_free(c);
}

static int channel_of(const struct channels *ch, uint32_t id) {
    for (int i = 0; i < N_CHANNELS; i++)
        if (ch->ids[i] == id && id != 0)
            return i;
    return -1;
}

static int to_client(struct channels *ch, int channel, struct bytes data) {
    char message[1 + SPDY_FRAME_MAX];
    message[0] = (char)channel;
    while (data.len > 0) {
        size_t n = data.len < SPDY_FRAME_MAX ? data.len : SPDY_FRAME_MAX;
        memcpy(message + 1, data.ptr, n);
        if (ws_send(ch->connect->ws, bytes_of(message, n + 1), true, NULL) < 0)
            return -1;
        data = bytes_of(data.ptr + n, data.len - n);
    }
    return 0;
}

static bool all_ended(const struct channels *ch) {
    for (int i = CHANNEL_STDOUT; i <= CHANNEL_ERROR; i++)
        if (ch->ids[i] && !ch->ended[i])
            return false;
    return true;
}

/* False: the connection is over. */
static bool handle(struct channels *ch, const struct spdy_event *ev) {
    int channel = channel_of(ch, ev->id);
    _cleanup_(buf_free) struct buf out = BUF_INIT(64);
    switch (ev->kind) {
    case SPDY_REPLY:
        if (ch->unanswered > 0 && --ch->unanswered == 0)
            ws_resume(ch->connect->ws);
        break;
    case SPDY_PINGED:
        if (ev->id % 2 == 0 && spdy_ping(ev->id, &out) == 0)
            write_node(ch, &out);
        return true;
    case SPDY_BAD:
        finish(ch, WS_CLOSE_INTERNAL, "the node does not speak SPDY");
        return false;
    case SPDY_DATA:
        if (channel >= CHANNEL_STDOUT && channel <= CHANNEL_ERROR && to_client(ch, channel, ev->data) < 0) {
            connect_free(ch->connect);
            return false;
        }
        break;
    default:
        break;
    }
    if (channel >= 0 && (ev->fin || ev->kind == SPDY_RESET))
        ch->ended[channel] = true;
    if (!all_ended(ch))
        return true;
    finish(ch, WS_CLOSE_NORMAL, "");
    return false;
}

static size_t on_data(void *arg, struct bytes in) {
    struct channels *ch = arg;
    size_t all = in.len;
    struct spdy_event ev;
    do {
        ev = spdy_read(ch->spdy, &in);
        if (ev.kind != SPDY_MORE && !handle(ch, &ev))
            return all;
    } while (ev.kind != SPDY_MORE);
    if (ws_queued(ch->connect->ws) > QUEUE_HIGH)
        stream_pause(ch->connect->node);
    return all;
}

static void on_node_drained(void *arg) {
    struct channels *ch = arg;
    if (ch->unanswered == 0)
        ws_resume(ch->connect->ws);
}

static void on_node_closed(void *arg, const struct error *why) {
    struct channels *ch = arg;
    bool good = ch->ended[CHANNEL_ERROR];
    finish(ch, good ? WS_CLOSE_NORMAL : WS_CLOSE_INTERNAL, good ? "" : "the connection to the node broke");
}

static const struct stream_handlers NODE = {.data = on_data, .drained = on_node_drained, .closed = on_node_closed};

/* ---- beginning ---- */

static void open_streams(struct channels *ch, unsigned wanted) {
    static const struct {
        enum channel channel;
        const char *type;
    } order[] = {{CHANNEL_ERROR, "error"},
                 {CHANNEL_STDIN, "stdin"},
                 {CHANNEL_STDOUT, "stdout"},
                 {CHANNEL_STDERR, "stderr"},
                 {CHANNEL_RESIZE, "resize"}};
    _cleanup_(buf_free) struct buf out = BUF_INIT(4096);
    uint32_t id = 1;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        if (!(wanted & (1u << order[i].channel)))
            continue;
        if (spdy_open(ch->spdy, id, "streamtype", order[i].type, &out) < 0)
            panic("a SPDY stream cannot be opened");
        ch->ids[order[i].channel] = id;
        ch->unanswered++;
        id += 2;
    }
    write_node(ch, &out);
}

static unsigned wanted_channels(const struct http_request *r) {
    struct bytes query = http_query(r);
    unsigned wanted = 1u << CHANNEL_ERROR;
    bool tty = query_flag(query, "tty");
    if (query_flag(query, "stdin"))
        wanted |= 1u << CHANNEL_STDIN;
    if (query_flag(query, "stdout"))
        wanted |= 1u << CHANNEL_STDOUT;
    if (query_flag(query, "stderr") && !tty)
        wanted |= 1u << CHANNEL_STDERR;
    if (tty)
        wanted |= 1u << CHANNEL_RESIZE;
    return wanted;
}

void connect_channels(struct connect *c) {
    struct channels *ch = c->channels = NEW(struct channels);
    ch->connect = c;
    ch->spdy = spdy_new();
    unsigned wanted = wanted_channels(c->http);
    const struct ws_options o = {.handlers = &WS, .arg = ch, .max_message = MESSAGE_MAX, .ping_every_ms = WS_PING_MS};
    http_on_close(c->http, NULL, NULL);
    c->ws = ws_accept(TAKE(c->http), CONNECT_CHANNEL_PROTOCOLS, &o);
    if (!c->ws) {
        connect_free(c);
        return;
    }
    ws_pause(c->ws); /* until the streams stand: a runtime drops what comes before */
    c->node = http_dial_take(c->dial);
    open_streams(ch, wanted);
    stream_set_handlers(c->node, &NODE, ch);
}
