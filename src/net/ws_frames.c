#include "net/ws_frames.h"

#include "base/id.h"
#include "base/mem.h"
#include "net/websocket.h"

enum {
    MAX_CONTROL = 125,
    KEEP_MESSAGE = 4096, /* a larger message buffer is given back after the message */
    NO_STATUS = 1005,
};

/* A frame that is under way. The bytes for wslay are measured out, so that it never holds any of the next frame. */
struct ws_frame_state {
    wslay_frame_context_ptr wslay;
    struct bytes *in; /* only during ws_read */
    unsigned char head[14];
    size_t head_got, head_need;
    uint64_t to_feed; /* of the payload: not given to wslay yet */
    uint64_t left;    /* of the payload: not given back by wslay yet */
    bool started;     /* wslay has given the head back */
    uint8_t opcode;
    bool fin;
    size_t control_len;
    char control[MAX_CONTROL];
};

/* ---- reading ---- */

static size_t head_size(unsigned char second) {
    unsigned len = second & 0x7f;
    return 2u + (len == 126 ? 2u : len == 127 ? 8u : 0u) + (second & 0x80 ? 4u : 0u);
}

static uint64_t payload_size(const unsigned char *head) {
    unsigned len = head[1] & 0x7f, bytes = len == 126 ? 2 : len == 127 ? 8 : 0;
    uint64_t size = bytes ? 0 : len;
    for (unsigned i = 0; i < bytes; i++)
        size = size << 8 | head[2 + i];
    return size;
}

static void head_grew(struct ws_frame_state *f, size_t n) {
    f->head_got += n;
    if (f->head_got == 2)
        f->head_need = head_size(f->head[1]);
    if (f->head_got == f->head_need)
        f->to_feed = payload_size(f->head);
}

static ssize_t feed(uint8_t *to, size_t size, int flags, void *arg) {
    struct ws_frame_state *f = arg;
    bool in_head = f->head_got < f->head_need;
    uint64_t wanted = in_head ? f->head_need - f->head_got : f->to_feed;
    size_t n = wanted < size ? (size_t)wanted : size;
    if (n > f->in->len)
        n = f->in->len;
    if (n == 0)
        return -1;
    memcpy(to, f->in->ptr, n);
    if (in_head) {
        memcpy(f->head + f->head_got, f->in->ptr, n);
        head_grew(f, n);
    } else {
        f->to_feed -= n;
    }
    f->in->ptr += n;
    f->in->len -= n;
    return (ssize_t)n;
}

static struct ws_frame_state *frame_new(void) {
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = feed};
    struct ws_frame_state *f = NEW(struct ws_frame_state);
    f->head_need = 2;
    if (wslay_frame_context_init(&f->wslay, &callbacks, f) != 0)
        panic("wslay: no memory");
    return f;
}

static void frame_free(struct ws_frame_state *f) {
    if (!f)
        return;
    wslay_frame_context_free(f->wslay);
    free(f);
}

void ws_reader_init(struct ws_reader *r, bool is_server, size_t max_message) {
    *r = (struct ws_reader){.is_server = is_server, .message = BUF_INIT(max_message)};
}

void ws_reader_free(struct ws_reader *r) {
    frame_free(TAKE(r->frame));
    buf_free(&r->message);
}

static enum ws_event bad(struct ws_reader *r, unsigned code, const char *reason) {
    r->close_code = code;
    r->reason = reason;
    return WS_EV_BAD;
}

static bool is_control(uint8_t opcode) {
    return opcode & 8;
}

/* The rules for a frame's head; WS_EV_MORE: it may go on. */
static enum ws_event check_head(struct ws_reader *r, const struct wslay_frame_iocb *h) {
    if (h->rsv != 0)
        return bad(r, WS_CLOSE_PROTOCOL, "a reserved bit is set, but no extension was agreed on");
    if ((h->mask != 0) != r->is_server)
        return bad(r, WS_CLOSE_PROTOCOL, r->is_server ? "a frame is not masked" : "a server's frame is masked");
    if (is_control(h->opcode)) {
        if (h->opcode > WSLAY_PONG)
            return bad(r, WS_CLOSE_PROTOCOL, "unknown opcode");
        if (!h->fin || h->payload_length > MAX_CONTROL)
            return bad(r, WS_CLOSE_PROTOCOL, "a control frame is too long, or in fragments");
        return WS_EV_MORE;
    }
    if (h->opcode > WSLAY_BINARY_FRAME)
        return bad(r, WS_CLOSE_PROTOCOL, "unknown opcode");
    if ((h->opcode == WSLAY_CONTINUATION_FRAME) != r->in_message)
        return bad(r, WS_CLOSE_PROTOCOL, "fragments are out of order");
    if (h->payload_length > r->message.max - r->message.len)
        return bad(r, WS_CLOSE_TOO_BIG, "the message is larger than allowed");
    if (h->opcode != WSLAY_CONTINUATION_FRAME)
        r->binary = h->opcode == WSLAY_BINARY_FRAME;
    r->in_message = true;
    return WS_EV_MORE;
}

static enum ws_event close_received(struct ws_reader *r, struct bytes p) {
    r->close_code = NO_STATUS;
    r->payload = BYTES_EMPTY;
    if (p.len == 0)
        return WS_EV_CLOSE;
    if (p.len == 1)
        return bad(r, WS_CLOSE_PROTOCOL, "a close frame of one byte");
    r->close_code = (unsigned)(unsigned char)p.ptr[0] << 8 | (unsigned char)p.ptr[1];
    if (r->close_code < 1000 || r->close_code >= 5000 || r->close_code == NO_STATUS || r->close_code == 1006)
        return bad(r, WS_CLOSE_PROTOCOL, "a close code that may not be sent");
    r->payload = bytes_of(p.ptr + 2, p.len - 2);
    return WS_EV_CLOSE;
}

/* Where the payload of a whole frame is: with wslay if it came in one piece, else collected. */
static enum ws_event frame_done(struct ws_reader *r, struct ws_frame_state *f, struct bytes last) {
    if (is_control(f->opcode)) {
        r->payload = bytes_of(f->control, f->control_len);
        r->payload_binary = false;
        if (f->opcode == WSLAY_CONNECTION_CLOSE)
            return close_received(r, r->payload);
        return f->opcode == WSLAY_PING ? WS_EV_PING : WS_EV_PONG;
    }
    if (!f->fin)
        return WS_EV_MORE;
    r->in_message = false;
    r->message_shown = true;
    r->payload = r->message.len > 0 ? buf_bytes(&r->message) : last;
    r->payload_binary = r->binary;
    return WS_EV_MESSAGE;
}

static enum ws_event take_piece(struct ws_reader *r, struct ws_frame_state *f, const struct wslay_frame_iocb *io) {
    struct bytes piece = bytes_of(io->data, io->data_length);
    if (!f->started) {
        f->started = true;
        f->left = io->payload_length;
        f->opcode = io->opcode;
        f->fin = io->fin;
        enum ws_event ev = check_head(r, io);
        if (ev != WS_EV_MORE)
            return ev;
    }
    f->left -= piece.len;
    if (is_control(f->opcode)) {
        if (piece.len > 0)
            memcpy(f->control + f->control_len, piece.ptr, piece.len);
        f->control_len += piece.len;
    } else if (!(f->fin && f->left == 0 && r->message.len == 0)) { /* not whole in this piece: collect */
        if (buf_add_bytes(&r->message, piece) < 0)
            return bad(r, WS_CLOSE_TOO_BIG, "the message is larger than allowed");
    }
    return f->left == 0 ? frame_done(r, f, piece) : WS_EV_MORE;
}

/* What the last event showed is not needed any more. */
static void forget_shown(struct ws_reader *r) {
    if (r->frame && r->frame->started && r->frame->left == 0)
        frame_free(TAKE(r->frame));
    if (!r->message_shown)
        return;
    r->message_shown = false;
    if (r->message.cap > KEEP_MESSAGE)
        buf_free(&r->message);
    else
        buf_clear(&r->message);
}

enum ws_event ws_read(struct ws_reader *r, struct bytes *in) {
    forget_shown(r);
    enum ws_event ev = WS_EV_MORE;
    while (ev == WS_EV_MORE && in->len > 0) {
        if (!r->frame)
            r->frame = frame_new();
        struct ws_frame_state *f = r->frame;
        struct wslay_frame_iocb io = {0};
        f->in = in;
        size_t before = in->len;
        ssize_t n = wslay_frame_recv(f->wslay, &io);
        f->in = NULL;
        if (n == WSLAY_ERR_WANT_READ && in->len < before)
            continue; /* a part of the head was taken */
        if (n < 0)
            return bad(r, WS_CLOSE_PROTOCOL, "malformed frame");
        ev = take_piece(r, f, &io);
        if (ev == WS_EV_MORE && f->left == 0) /* a fragment is complete */
            frame_free(TAKE(r->frame));
    }
    if (!r->in_message && ev == WS_EV_MORE && !r->frame)
        buf_free(&r->message); /* nothing is kept while idle */
    return ev;
}

/* ---- writing ---- */

struct sink {
    void (*put)(void *arg, const void *p, size_t n);
    void *arg;
};

static ssize_t pass_on(const uint8_t *data, size_t n, int flags, void *arg) {
    struct sink *s = arg;
    s->put(s->arg, data, n);
    return (ssize_t)n;
}

static int make_mask(uint8_t *to, size_t n, void *arg) {
    random_bytes(to, n);
    return 0;
}

void ws_write_frame(bool fin, uint8_t opcode, bool mask, struct bytes payload,
                    void (*put)(void *arg, const void *p, size_t n), void *arg) {
    static const struct wslay_frame_callbacks callbacks = {.send_callback = pass_on, .genmask_callback = make_mask};
    struct sink sink = {put, arg};
    wslay_frame_context_ptr wslay;
    if (wslay_frame_context_init(&wslay, &callbacks, &sink) != 0)
        panic("wslay: no memory");
    struct wslay_frame_iocb io = {
        .fin = fin,
        .opcode = opcode,
        .mask = mask,
        .payload_length = payload.len,
        .data = (const uint8_t *)payload.ptr,
        .data_length = payload.len,
    };
    do {
        ssize_t n = wslay_frame_send(wslay, &io);
        if (n < 0)
            panic("wslay refuses to send a frame: %zd", n);
        io.data += n;
        io.data_length -= (size_t)n;
    } while (io.data_length > 0);
    wslay_frame_context_free(wslay);
}
