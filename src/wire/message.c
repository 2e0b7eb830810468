#define LOG_COMPONENT "message"
#include "wire/message.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

static yyjson_val null_content = {.tag = YYJSON_TYPE_NULL};

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

/* A string member; null leaves what was there, as in Go. NUL would cut the C string short: no peer sends one. */
static int take_string(const char *name, yyjson_val *v, const char **out, struct error *err) {
    if (yyjson_is_null(v))
        return 0;
    if (!yyjson_is_str(v))
        return error_set(err, ERR_INVALID, "message: %s must be a string, not %s", name, yyjson_get_type_desc(v));
    if (strlen(yyjson_get_str(v)) != yyjson_get_len(v))
        return error_set(err, ERR_INVALID, "message: %s holds a NUL", name);
    *out = yyjson_get_str(v);
    return 0;
}

static int take_timestamp(yyjson_val *v, int64_t *out, struct error *err) {
    if (yyjson_is_null(v))
        return 0;
    if (!yyjson_is_int(v) || (yyjson_is_uint(v) && yyjson_get_uint(v) > INT64_MAX))
        return error_set(err, ERR_INVALID, "message: header.timestamp must be an integer of 64 bits");
    *out = json_int_or(v, 0);
    return 0;
}

static int take_header_member(struct message *m, const char *key, yyjson_val *v, struct error *err) {
    if (str_case_eq(key, "msg_id"))
        return take_string("header.msg_id", v, &m->id, err);
    if (str_case_eq(key, "parent_msg_id"))
        return take_string("header.parent_msg_id", v, &m->parent_id, err);
    if (str_case_eq(key, "timestamp"))
        return take_timestamp(v, &m->timestamp, err);
    if (str_case_eq(key, "resourceversion"))
        return take_string("header.resourceversion", v, &m->resource_version, err);
    if (str_case_eq(key, "type"))
        return take_string("header.type", v, &m->type, err);
    if (str_case_eq(key, "sync") && !yyjson_is_null(v)) {
        if (!yyjson_is_bool(v))
            return error_set(err, ERR_INVALID, "message: header.sync must be true or false");
        m->sync = yyjson_get_bool(v);
    }
    return 0;
}

static int take_route_member(struct message *m, const char *key, yyjson_val *v, struct error *err) {
    if (str_case_eq(key, "source"))
        return take_string("route.source", v, &m->source, err);
    if (str_case_eq(key, "destination"))
        return take_string("route.destination", v, &m->destination, err);
    if (str_case_eq(key, "group"))
        return take_string("route.group", v, &m->group, err);
    if (str_case_eq(key, "operation"))
        return take_string("route.operation", v, &m->operation, err);
    if (str_case_eq(key, "resource"))
        return take_string("route.resource", v, &m->resource, err);
    return 0;
}

typedef int take_member_fn(struct message *m, const char *key, yyjson_val *v, struct error *err);

static int take_members(struct message *m, const char *name, yyjson_val *obj, take_member_fn *take, struct error *err) {
    if (yyjson_is_null(obj))
        return 0;
    if (!yyjson_is_obj(obj))
        return error_set(err, ERR_INVALID, "message: %s must be an object, not %s", name, yyjson_get_type_desc(obj));
    size_t i, max;
    yyjson_val *key, *v;
    yyjson_obj_foreach (obj, i, max, key, v) {
        if (take(m, yyjson_get_str(key), v, err) < 0)
            return -1;
    }
    return 0;
}

/* Members in any case; of those that occur twice the later one counts, as in Go. */
static int take_part(struct message *m, const char *key, yyjson_val *v, struct error *err) {
    if (str_case_eq(key, "header"))
        return take_members(m, "header", v, take_header_member, err);
    if (str_case_eq(key, "route"))
        return take_members(m, "route", v, take_route_member, err);
    if (str_case_eq(key, "content"))
        m->content = v;
    return 0;
}

static struct message *new_empty(void) {
    struct message *m = NEW(struct message);
    m->id = m->parent_id = m->resource_version = m->type = m->destination = "";
    m->source = m->group = m->operation = m->resource = "";
    m->content = &null_content;
    return m;
}

int message_decode(struct bytes text, struct message **out, struct error *err) {
    yyjson_doc *doc = json_parse_first(text, MESSAGE_MAX, err);
    if (!doc)
        return error_wrap(err, "message");
    _cleanup_(message_free_p) struct message *m = new_empty();
    m->doc = doc;
    if (!yyjson_is_obj(yyjson_doc_get_root(doc)))
        return error_set(err, ERR_INVALID, "message: it must be a JSON object");
    if (take_members(m, "it", yyjson_doc_get_root(doc), take_part, err) < 0)
        return -1;
    *out = TAKE(m);
    return 0;
}

void message_free(struct message *m) {
    if (!m)
        return;
    yyjson_doc_free(m->doc);
    free(m->strings);
    free(m);
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

/* Writes `,"name":"value"`, where value is not empty; the comma only after a member. */
static void add_member(struct buf *b, const char *name, const char *value, bool always) {
    if (!*value && !always)
        return;
    if (b->len > 0 && b->ptr[b->len - 1] != '{')
        buf_add_char(b, ',');
    buf_addf(b, "\"%s\":", name);
    json_append_string(b, bytes_str(value));
}

/* Go escapes what could end a script element in HTML, and the two line separators of JavaScript. None of these
 * characters occurs outside of strings. */
static int append_go_escaped(struct buf *out, struct bytes s) {
    size_t start = 0, i = 0;
    while (i < s.len) {
        const unsigned char *p = (const unsigned char *)s.ptr + i;
        size_t n = 1;
        unsigned code = 0;
        if (*p == '<' || *p == '>' || *p == '&') {
            code = *p;
        } else if (*p == 0xe2 && s.len - i >= 3 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) {
            code = p[2] == 0xa8 ? 0x2028 : 0x2029;
            n = 3;
        }
        if (code) {
            buf_add(out, s.ptr + start, i - start);
            buf_addf(out, "\\u%04x", code);
            start = i + n;
        }
        i += n;
    }
    return buf_add(out, s.ptr + start, s.len - start);
}

int message_encode(const struct message *m, struct buf *out) {
    _cleanup_(buf_free) struct buf b = BUF_INIT(out->max);
    buf_add_str(&b, "{\"header\":{");
    add_member(&b, "msg_id", m->id, true);
    add_member(&b, "parent_msg_id", m->parent_id, false);
    buf_addf(&b, ",\"timestamp\":%lld", (long long)m->timestamp);
    add_member(&b, "resourceversion", m->resource_version, false);
    if (m->sync)
        buf_add_str(&b, ",\"sync\":true");
    add_member(&b, "type", m->type, false);
    buf_add_str(&b, "},\"route\":{");
    add_member(&b, "source", m->source, false);
    add_member(&b, "destination", m->destination, false);
    add_member(&b, "group", m->group, false);
    add_member(&b, "operation", m->operation, false);
    add_member(&b, "resource", m->resource, false);
    buf_add_str(&b, "},\"content\":");
    json_append(&b, m->content);
    buf_add_str(&b, "}\n");

    size_t before = out->len;
    if (b.overflowed || append_go_escaped(out, buf_bytes(&b)) < 0 || out->overflowed) {
        out->overflowed = true;
        out->len = before;
        if (out->ptr)
            out->ptr[before] = 0;
        return -1;
    }
    return 0;
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

static yyjson_doc *content_doc(const struct message_fields *f) {
    if (f->content_text.ptr) {
        struct error err = ERROR_INIT;
        yyjson_doc *doc = json_parse(f->content_text, MESSAGE_MAX, &err);
        if (!doc)
            log_error("content of a new message is dropped: %s resource=%s operation=%s", error_text(&err),
                      str_or(f->resource, "-"), str_or(f->operation, "-"));
        return doc;
    }
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *doc = NULL;
    yyjson_mut_val *root = NULL;
    if (f->content_string || f->content) {
        doc = yyjson_mut_doc_new(NULL);
        root = f->content_string ? yyjson_mut_str(doc, f->content_string) : yyjson_val_mut_copy(doc, f->content);
    } else if (f->content_mut) {
        root = f->content_mut;
    } else {
        return NULL;
    }
    yyjson_doc *copy = yyjson_mut_val_imut_copy(root, NULL);
    if (!copy)
        panic("out of memory copying the content of a message");
    return copy;
}

/* As message_new, without the defaults. */
static struct message *build(const struct message_fields *f, const char *type, const char *destination) {
    struct message *m = new_empty();
    const struct {
        const char **to;
        const char *from;
    } strings[] = {
        {&m->id, f->id},       {&m->parent_id, f->parent_id},  {&m->resource_version, f->resource_version},
        {&m->type, type},      {&m->destination, destination}, {&m->source, f->source},
        {&m->group, f->group}, {&m->operation, f->operation},  {&m->resource, f->resource},
    };
    size_t total = 0;
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        total += strings[i].from ? strlen(strings[i].from) + 1 : 0;
    char *at = m->strings = xmalloc(total);
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        if (!strings[i].from)
            continue;
        size_t n = strlen(strings[i].from) + 1;
        memcpy(at, strings[i].from, n);
        *strings[i].to = at;
        at += n;
    }
    m->timestamp = f->timestamp;
    m->sync = f->sync;
    m->doc = content_doc(f);
    if (m->doc)
        m->content = yyjson_doc_get_root(m->doc);
    return m;
}

struct message *message_new(const struct message_fields *f) {
    struct message_fields filled = *f;
    char id[UUID_SIZE];
    if (str_empty(filled.id))
        filled.id = uuid_v4(id);
    if (filled.timestamp == 0)
        filled.timestamp = clock_wall_ms();
    return build(&filled, NULL, NULL);
}

struct message *message_response(const struct message *m, const char *source, const char *group,
                                 const struct message_fields *content) {
    struct message_fields f = content ? *content : (struct message_fields){0};
    f.id = NULL;
    f.timestamp = 0;
    f.parent_id = m->id;
    f.source = source ? source : m->source;
    f.group = group ? group : m->group;
    f.operation = f.operation ? f.operation : OP_RESPONSE;
    f.resource = m->resource;
    return message_new(&f);
}

struct message *message_copy(const struct message *m) {
    struct message_fields f = {.id = m->id,
                               .parent_id = m->parent_id,
                               .resource_version = m->resource_version,
                               .source = m->source,
                               .group = m->group,
                               .operation = m->operation,
                               .resource = m->resource,
                               .timestamp = m->timestamp,
                               .sync = m->sync,
                               .content = m->content};
    return build(&f, m->type, m->destination);
}

/* ---- content ----------------------------------------------------------------------------------------------------- */

char *message_content_text(const struct message *m, size_t *len) {
    if (!yyjson_is_str(m->content))
        return json_write(m->content, len);
    if (len)
        *len = yyjson_get_len(m->content);
    return xmemdup(yyjson_get_str(m->content), yyjson_get_len(m->content));
}

yyjson_val *message_content_object(const struct message *m, yyjson_doc **doc) {
    *doc = NULL;
    if (yyjson_is_obj(m->content))
        return m->content;
    if (!yyjson_is_str(m->content))
        return NULL;
    *doc = json_parse(bytes_of(yyjson_get_str(m->content), yyjson_get_len(m->content)), MESSAGE_MAX, NULL);
    yyjson_val *root = yyjson_doc_get_root(*doc);
    if (yyjson_is_obj(root))
        return root;
    yyjson_doc_free(*doc);
    *doc = NULL;
    return NULL;
}

yyjson_val *message_content_error(const struct message *m) {
    yyjson_val *status = json_get(m->content, "ErrStatus");
    if (yyjson_is_obj(status))
        return status;
    yyjson_val *e = json_get(m->content, "Err");
    if (!yyjson_is_obj(e) || !json_get(m->content, "Object"))
        return NULL;
    status = json_get(e, "ErrStatus");
    return yyjson_is_obj(status) ? status : e;
}
