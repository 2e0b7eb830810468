/* HTTP/1.1 requests, sans-IO, on llhttp in strict mode: bytes in, a message out. Private to net/.
 *
 * Refused, because two parties could read them differently: both or repeated Content-Length and Transfer-Encoding, any
 * coding but a single "chunked", folded header lines, bare line feeds, no or several Host lines. */
#pragma once

#include "base/bytes.h"

#include <llhttp.h>

enum { HTTP_NO_METHOD = UINT8_MAX }; /* the head is not there */

struct http_field {
    uint32_t name, name_len, value, value_len; /* within text */
};

struct http_message {
    struct buf text; /* the target, then names and values, as they came */
    uint32_t target_len;
    struct http_field *fields;
    unsigned n_fields, cap_fields;
    uint8_t llhttp_method, minor; /* HTTP/1.minor */
    int status;                   /* of an answer */
    bool keep_alive, upgrade, chunked, expects_continue;
    uint64_t content_length; /* 0 if none is given */
    struct buf body;
};

enum http_event {
    HTTP_EV_MORE, /* all was consumed, and there is more to come */
    HTTP_EV_HEAD, /* the head of a message with a body is there: look at it, set body.max, and go on */
    HTTP_EV_DONE, /* the whole message is there */
    HTTP_EV_BAD,  /* status and reason tell; the connection is of no more use */
};

struct http_parser {
    llhttp_t llhttp;
    struct http_message *message;
    size_t max_head, seen; /* bytes of head and trailers */
    bool in_head, in_value, done;
    int status;
    const char *reason;
};

void http_message_init(struct http_message *m, size_t max_head);
void http_message_free(struct http_message *m);
void http_parser_init(struct http_parser *p, struct http_message *m, size_t max_head); /* for the next message */
/* Reads an answer, its head only (HTTP_EV_HEAD): for what switches protocols. */
void http_parser_init_answer(struct http_parser *p, struct http_message *m, size_t max_head);
/* Returns how many bytes were consumed. */
size_t http_parse(struct http_parser *p, struct bytes in, enum http_event *ev);

struct bytes http_message_field(const struct http_message *m, const char *name, unsigned *count);
/* The name of field number i, empty past the last one. */
struct bytes http_message_field_at(const struct http_message *m, unsigned i, struct bytes *value);
bool http_message_has_token(const struct http_message *m, const char *name, const char *token);
