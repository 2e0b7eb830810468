/* The KubeEdge message: JSON text of one WebSocket message (wire-protocol.md section 2). Sans-IO.
 *
 * Decoding accepts what the original accepts: member names in any case, trailing bytes, unknown members; and refuses
 * what it refuses: a float timestamp, wrong types. Encoding writes members in the original's order, with a final
 * newline. */
#pragma once

#include "base/json.h"

#define MESSAGE_MAX (32u << 20) /* bytes of one message: larger is refused on every lane */

/* Operations (2.4) */
#define OP_INSERT "insert"
#define OP_UPDATE "update"
#define OP_DELETE "delete"
#define OP_PATCH "patch"
#define OP_QUERY "query"
#define OP_RESPONSE "response"
#define OP_ERROR "error"
#define OP_UPLOAD "upload"
#define OP_KEEPALIVE "keepalive"
#define OP_CONNECT "connect"

/* Sources and groups (2.5) */
#define MODULE_EDGECONTROLLER "edgecontroller"
#define MODULE_DEVICECONTROLLER "devicecontroller"
#define MODULE_DYNAMICCONTROLLER "dynamiccontroller"
#define MODULE_CLOUDHUB "cloudhub"
#define MODULE_EDGED "edged"
#define MODULE_METAMANAGER "metamanager"
#define MODULE_METASERVER "metaserver"
#define MODULE_TWIN "twin"
#define MODULE_WEBSOCKET "websocket"
#define GROUP_RESOURCE "resource"
#define GROUP_META "meta"
#define GROUP_TWIN "twin"
#define GROUP_USER "user"
#define GROUP_HUB "hub"

/* A message owns a document that holds all of its strings and its content. Strings are "" rather than NULL. */
struct message {
    const char *id, *parent_id;
    int64_t timestamp; /* ms since the epoch */
    const char *resource_version;
    bool sync;
    const char *type, *destination; /* of no use to us: kept so that what came in goes out as it was */
    const char *source, *group, *operation, *resource;
    yyjson_val *content; /* never NULL: a JSON null where absent. Borrowed from the message */
    yyjson_doc *doc;     /* what the above lives in; owned */
    char *strings;       /* owned extra memory of built messages; may be NULL */
};

/* Parses. ERR_INVALID / ERR_TOO_LARGE as json_parse. */
int message_decode(struct bytes text, struct message **out, struct error *err) MUST_CHECK;
void message_free(struct message *m);
DEFINE_CLEANUP(struct message, message_free)
/* The JSON text with its newline, appended to out, byte for byte as Go writes it (its escapes of < > & U+2028 U+2029
 * included). -1 when out's maximum would be passed: then nothing was added. */
int message_encode(const struct message *m, struct buf *out);

/* What a new message is made of; all strings are copied, NULL counts as "". Missing id: a new UUID. Missing timestamp:
 * now. Content: the first that is set of content_text (raw JSON text; if it isn't valid JSON, that is logged and the
 * content is null), content_string (becomes a JSON string), content, content_mut (copied); else null. */
struct message_fields {
    const char *id, *parent_id, *resource_version;
    const char *source, *group, *operation, *resource;
    int64_t timestamp;
    bool sync;
    struct bytes content_text;
    const char *content_string;
    yyjson_val *content;
    yyjson_mut_val *content_mut;
};
struct message *message_new(const struct message_fields *f);
/* A response to m (2.3): new id, parent = m->id, resource of m; source and group as given, those of m where NULL. Of
 * content its content members, resource_version and operation (`response` where NULL) count; NULL: a null content. */
struct message *message_response(const struct message *m, const char *source, const char *group,
                                 const struct message_fields *content);
struct message *message_copy(const struct message *m);

/* Content as text: a JSON string's characters, anything else re-serialised. Owned by the caller. */
char *message_content_text(const struct message *m, size_t *len);
/* If the content is an object, itself; if it is a string that holds JSON, parsed into *doc (owned by the caller). NULL
 * otherwise. */
yyjson_val *message_content_object(const struct message *m, yyjson_doc **doc);
/* content is {"ErrStatus":{...}} or {"Object":...,"Err":{...}} with an error: gives the Status, else NULL (2.6). An
 * error that lost its Status on the way gives an object without `code`. */
yyjson_val *message_content_error(const struct message *m);
