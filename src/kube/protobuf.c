/* Kubernetes' protobuf bodies to JSON, driven by the schema table. */
#include "base/clock.h"
#include "base/str.h"
#include "kube/schema.h"

#define PROTOBUF_MAX_DEPTH 64
#define PROTOBUF_MAX_VALUES 400000 /* each costs about 50 bytes, whatever it took on the wire */

static const char magic[4] = {0x6b, 0x38, 0x73, 0x00};

struct decode {
    yyjson_mut_doc *doc;
    struct error *err;
    const char *in; /* name of the type being read, for messages */
    size_t values;
};

/* ---- the wire ------------------------------------------------------------------------------------------------- */

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct part { /* one field of a message */
    uint32_t number;
    enum wire wire;
    uint64_t scalar;
    struct bytes bytes;
};

static bool read_varint(struct bytes *in, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && in->len > 0; shift += 7) {
        uint8_t byte = (uint8_t)*in->ptr;
        in->ptr++;
        in->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct bytes *in, size_t size, uint64_t *out) {
    if (in->len < size)
        return false;
    *out = 0;
    for (size_t i = size; i-- > 0;)
        *out = *out << 8 | (uint8_t)in->ptr[i];
    in->ptr += size;
    in->len -= size;
    return true;
}

/* The next field: 1, or 0 at the end, or -1 for damaged bytes. */
static int next_part(struct bytes *in, struct part *part) {
    if (in->len == 0)
        return 0;
    uint64_t tag, len;
    if (!read_varint(in, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return -1;
    *part = (struct part){.number = (uint32_t)(tag >> 3), .wire = (enum wire)(tag & 7)};
    switch (tag & 7) {
    case WIRE_VARINT:
        return read_varint(in, &part->scalar) ? 1 : -1;
    case WIRE_FIXED64:
        return read_fixed(in, 8, &part->scalar) ? 1 : -1;
    case WIRE_FIXED32:
        return read_fixed(in, 4, &part->scalar) ? 1 : -1;
    case WIRE_BYTES:
        if (!read_varint(in, &len) || len > in->len)
            return -1;
        part->bytes = bytes_of(in->ptr, (size_t)len);
        in->ptr += len;
        in->len -= (size_t)len;
        return 1;
    default: /* groups don't exist here */
        return -1;
    }
}

static int damaged(struct decode *d) {
    return error_set(d->err, ERR_INVALID, "protobuf message %s is damaged", d->in);
}

/* ---- values --------------------------------------------------------------------------------------------------- */

static int decode_message(struct decode *d, const struct schema_type *t, struct bytes in, yyjson_mut_val *obj,
                          unsigned depth);

static yyjson_mut_val *string_value(struct decode *d, struct bytes s) {
    if (!utf8_valid(s)) {
        error_set(d->err, ERR_INVALID, "protobuf message %s: a string is not UTF-8", d->in);
        return NULL;
    }
    return yyjson_mut_strncpy(d->doc, s.len ? s.ptr : "", s.len);
}

/* The last part with this number, for the small messages that JSON writes as a scalar: false if damaged. */
static bool find_part(struct bytes in, uint32_t number, struct part *out) {
    struct part part;
    int r;
    *out = (struct part){0};
    while ((r = next_part(&in, &part)) > 0)
        if (part.number == number)
            *out = part;
    return r == 0;
}

/* Quantity {1 string}. An empty one is 0. */
static int decode_quantity(struct decode *d, struct bytes in, yyjson_mut_val **out) {
    struct part text;
    if (!find_part(in, 1, &text))
        return damaged(d);
    *out = string_value(d, text.bytes.len ? text.bytes : BYTES_LIT("0"));
    return *out ? 0 : -1;
}

/* IntOrString {1 type, 2 int, 3 string} */
static int decode_int_or_string(struct decode *d, struct bytes in, yyjson_mut_val **out) {
    struct part type, number, text;
    if (!find_part(in, 1, &type) || !find_part(in, 2, &number) || !find_part(in, 3, &text))
        return damaged(d);
    *out = type.scalar ? string_value(d, text.bytes) : yyjson_mut_sint(d->doc, (int32_t)number.scalar);
    return *out ? 0 : -1;
}

/* Time {1 seconds, 2 nanos}; *out stays NULL for the zero time, which means unset. */
static int decode_time(struct decode *d, struct bytes in, bool micro, yyjson_mut_val **out) {
    const int64_t year_1 = -62135596800, year_10000 = 253402300800;
    struct part seconds, nanos;
    if (!find_part(in, 1, &seconds) || !find_part(in, 2, &nanos))
        return damaged(d);
    int64_t s = (int64_t)seconds.scalar;
    uint64_t n = nanos.scalar;
    if ((s == 0 && n == 0) || s == year_1)
        return 0;
    if (s < year_1 || s >= year_10000 || n >= 1000000000)
        return error_set(d->err, ERR_INVALID, "protobuf message %s: time out of range", d->in);
    char text[RFC3339_SIZE];
    if (micro)
        rfc3339_micro(s * 1000000 + (int64_t)n / 1000, text);
    else
        rfc3339_seconds(s, text);
    *out = yyjson_mut_strcpy(d->doc, text);
    return 0;
}

/* RawExtension, FieldsV1, JSON {1 bytes}: JSON text inside. */
static int decode_raw(struct decode *d, struct bytes in, yyjson_mut_val **out) {
    struct part raw;
    if (!find_part(in, 1, &raw))
        return damaged(d);
    if (raw.bytes.len == 0)
        return 0;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = json_parse(raw.bytes, raw.bytes.len, d->err);
    if (!doc)
        return error_wrap(d->err, "protobuf message %s", d->in);
    d->values += yyjson_doc_get_val_count(doc);
    *out = yyjson_val_mut_copy(d->doc, yyjson_doc_get_root(doc));
    return 0;
}

static int decode_strings(struct decode *d, struct bytes in, uint32_t number, yyjson_mut_val **out) {
    *out = yyjson_mut_arr(d->doc);
    struct part part;
    int r;
    while ((r = next_part(&in, &part)) > 0) {
        if (part.number != number)
            continue;
        yyjson_mut_val *s = string_value(d, part.bytes);
        if (!s || ++d->values > PROTOBUF_MAX_VALUES)
            return s ? error_set(d->err, ERR_TOO_LARGE, "protobuf message %s has too many values", d->in) : -1;
        yyjson_mut_arr_append(*out, s);
    }
    return r == 0 ? 0 : damaged(d);
}

static int decode_object(struct decode *d, const struct schema_type *t, struct bytes in, unsigned depth,
                         yyjson_mut_val **out) {
    *out = yyjson_mut_obj(d->doc);
    return decode_message(d, t, in, *out, depth);
}

/* OrArray {1 schema, 2 repeated schema}, OrBool {1 bool, 2 schema}, OrStringArray {1 schema, 2 repeated string} */
static int decode_schema_union(struct decode *d, const struct schema_field *f, struct bytes in, unsigned depth,
                               yyjson_mut_val **out) {
    const struct schema_type *schema = schema_field_message(f);
    uint32_t number = f->type == FT_SCHEMA_OR_BOOL ? 2 : 1;
    struct part part, allows;
    if (!find_part(in, number, &part) || !find_part(in, 1, &allows))
        return damaged(d);
    if (part.number == number && part.wire == WIRE_BYTES)
        return decode_object(d, schema, part.bytes, depth, out);
    if (f->type == FT_SCHEMA_OR_BOOL) {
        *out = yyjson_mut_bool(d->doc, allows.scalar != 0);
        return 0;
    }
    if (f->type == FT_SCHEMA_OR_STRINGS)
        return decode_strings(d, in, 2, out);
    *out = yyjson_mut_arr(d->doc);
    int r;
    while ((r = next_part(&in, &part)) > 0) {
        yyjson_mut_val *item;
        if (part.number != 2)
            continue;
        if (decode_object(d, schema, part.bytes, depth, &item) < 0)
            return -1;
        yyjson_mut_arr_append(*out, item);
    }
    return r == 0 ? 0 : damaged(d);
}

static int decode_bytes(struct decode *d, struct bytes in, yyjson_mut_val **out) {
    _cleanup_(buf_free) struct buf text = BUF_INIT(in.len * 2 + 8);
    if (base64_encode(in, &text) < 0)
        return error_set(d->err, ERR_TOO_LARGE, "protobuf message %s: bytes too long", d->in);
    *out = yyjson_mut_strncpy(d->doc, str_or(text.ptr, ""), text.len);
    return 0;
}

static bool wire_fits(const struct schema_field *f, const struct part *part) {
    switch ((enum field_type)f->type) {
    case FT_BOOL:
    case FT_INT32:
    case FT_INT64:
        return part->wire == WIRE_VARINT;
    case FT_DOUBLE:
        return part->wire == WIRE_FIXED64;
    default:
        return part->wire == WIRE_BYTES;
    }
}

/* One value. *out stays NULL where the message means "unset". */
static int decode_value(struct decode *d, const struct schema_field *f, const struct part *part, unsigned depth,
                        yyjson_mut_val **out) {
    double number;
    *out = NULL;
    if (!wire_fits(f, part))
        return damaged(d);
    if (++d->values > PROTOBUF_MAX_VALUES)
        return error_set(d->err, ERR_TOO_LARGE, "protobuf message %s has too many values", d->in);
    switch ((enum field_type)f->type) {
    case FT_STRING:
        *out = string_value(d, part->bytes);
        return *out ? 0 : -1;
    case FT_BOOL:
        *out = yyjson_mut_bool(d->doc, part->scalar != 0);
        return 0;
    case FT_INT32:
        *out = yyjson_mut_sint(d->doc, (int32_t)part->scalar);
        return 0;
    case FT_INT64:
        *out = yyjson_mut_sint(d->doc, (int64_t)part->scalar);
        return 0;
    case FT_DOUBLE:
        memcpy(&number, &part->scalar, sizeof number);
        if (number != number || number - number != 0)
            return error_set(d->err, ERR_INVALID, "protobuf message %s: not a finite number", d->in);
        *out = yyjson_mut_real(d->doc, number);
        return 0;
    case FT_BYTES:
        return decode_bytes(d, part->bytes, out);
    case FT_MESSAGE:
        return decode_object(d, schema_field_message(f), part->bytes, depth, out);
    case FT_QUANTITY:
        return decode_quantity(d, part->bytes, out);
    case FT_INT_OR_STRING:
        return decode_int_or_string(d, part->bytes, out);
    case FT_TIME:
    case FT_MICRO_TIME:
        return decode_time(d, part->bytes, f->type == FT_MICRO_TIME, out);
    case FT_RAW:
        return decode_raw(d, part->bytes, out);
    case FT_STRINGS:
        return decode_strings(d, part->bytes, 1, out);
    case FT_SCHEMA_OR_ARRAY:
    case FT_SCHEMA_OR_BOOL:
    case FT_SCHEMA_OR_STRINGS:
        return decode_schema_union(d, f, part->bytes, depth, out);
    }
    return damaged(d);
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static const struct schema_field *field_by_number(const struct schema_type *t, uint32_t number) {
    for (size_t i = 0; i < t->n_fields; i++)
        if (schema_field_at(t, i)->number == number)
            return schema_field_at(t, i);
    return NULL;
}

/* Go writes non-pointer scalars and messages even when they are zero; in JSON they are left out. */
static bool is_zero(const yyjson_mut_val *v) {
    yyjson_mut_val *m = (yyjson_mut_val *)v;
    switch (yyjson_mut_get_type(m)) {
    case YYJSON_TYPE_STR:
        return yyjson_mut_get_len(m) == 0;
    case YYJSON_TYPE_BOOL:
        return !yyjson_mut_get_bool(m);
    case YYJSON_TYPE_NUM:
        return yyjson_mut_is_real(m) ? yyjson_mut_get_real(m) == 0 : yyjson_mut_get_uint(m) == 0;
    case YYJSON_TYPE_OBJ:
        return yyjson_mut_obj_size(m) == 0;
    default:
        return false;
    }
}

/* A map entry {1 key, 2 value}. */
static int decode_entry(struct decode *d, const struct schema_field *f, struct bytes in, yyjson_mut_val *map,
                        unsigned depth) {
    struct part key, value;
    if (!find_part(in, 1, &key) || !find_part(in, 2, &value))
        return damaged(d);
    if (value.number == 0) /* zero: an empty message or string */
        value = (struct part){.number = 2, .wire = WIRE_BYTES};
    yyjson_mut_val *name = string_value(d, key.bytes), *v;
    if (!name || decode_value(d, f, &value, depth, &v) < 0)
        return -1;
    if (v)
        yyjson_mut_obj_add(map, name, v);
    return 0;
}

static yyjson_mut_val *member(struct decode *d, yyjson_mut_val *obj, const struct schema_field *f) {
    yyjson_mut_val *v = yyjson_mut_obj_getn(obj, schema_field_name(f), f->name_len);
    if (v)
        return v;
    v = f->shape == FS_LIST ? yyjson_mut_arr(d->doc) : yyjson_mut_obj(d->doc);
    yyjson_mut_obj_add(obj, yyjson_mut_strn(d->doc, schema_field_name(f), f->name_len), v);
    return v;
}

static int decode_field(struct decode *d, const struct schema_field *f, const struct part *part, yyjson_mut_val *obj,
                        unsigned depth) {
    yyjson_mut_val *v;
    if (f->inlined) {
        if (part->wire != WIRE_BYTES)
            return damaged(d);
        return decode_message(d, schema_field_message(f), part->bytes, obj, depth);
    }
    if (f->shape == FS_MAP) {
        if (part->wire != WIRE_BYTES)
            return damaged(d);
        return decode_entry(d, f, part->bytes, member(d, obj, f), depth);
    }
    if (decode_value(d, f, part, depth, &v) < 0)
        return -1;
    if (f->shape == FS_LIST) {
        if (v)
            yyjson_mut_arr_append(member(d, obj, f), v);
        return 0;
    }
    if (!v || (f->optional && !f->pointer && is_zero(v)))
        return 0;
    yyjson_mut_obj_put(obj, yyjson_mut_strn(d->doc, schema_field_name(f), f->name_len), v);
    return 0;
}

static int decode_message(struct decode *d, const struct schema_type *t, struct bytes in, yyjson_mut_val *obj,
                          unsigned depth) {
    if (depth == 0)
        return error_set(d->err, ERR_TOO_LARGE, "protobuf message %s is nested too deeply", d->in);
    const char *outer = d->in;
    d->in = schema_type_name(t);
    struct part part;
    int r;
    while ((r = next_part(&in, &part)) > 0) {
        const struct schema_field *f = field_by_number(t, part.number);
        if (f && decode_field(d, f, &part, obj, depth - 1) < 0)
            return -1;
    }
    if (r < 0)
        return damaged(d);
    d->in = outer;
    return 0;
}

/* Options of a request and lists of anything may come under every group and version. */
static const struct schema_type *type_of(struct bytes api_version, struct bytes kind) {
    struct bytes group, version;
    if (!bytes_cut(api_version, '/', &group, &version)) {
        group = BYTES_EMPTY;
        version = api_version;
    }
    _cleanup_(free_p) char *g = bytes_dup(group), *v = bytes_dup(version), *k = bytes_dup(kind);
    const struct schema_type *t = schema_find(g, v, k);
    if (!t && (str_ends_with(k, "Options") || str_eq(k, "List") || str_eq(k, "Status")))
        t = schema_find("meta.k8s.io", "v1", k);
    return t;
}

bool schema_is_protobuf(struct bytes body) {
    return body.len >= sizeof magic && memcmp(body.ptr, magic, sizeof magic) == 0;
}

int schema_decode_protobuf(struct bytes body, yyjson_mut_doc **out, struct error *err) {
    struct part type_meta, raw, api_version, kind;
    if (!schema_is_protobuf(body))
        return error_set(err, ERR_INVALID, "body is not Kubernetes protobuf: the magic bytes are missing");
    struct bytes envelope = bytes_of(body.ptr + sizeof magic, body.len - sizeof magic);
    if (!find_part(envelope, 1, &type_meta) || !find_part(envelope, 2, &raw) ||
        !find_part(type_meta.bytes, 1, &api_version) || !find_part(type_meta.bytes, 2, &kind))
        return error_set(err, ERR_INVALID, "protobuf envelope is damaged");
    if (api_version.bytes.len > 512 || kind.bytes.len > 128 || !utf8_valid(api_version.bytes) ||
        !utf8_valid(kind.bytes))
        return error_set(err, ERR_INVALID, "protobuf envelope names no type");
    const struct schema_type *t = type_of(api_version.bytes, kind.bytes);
    if (!t)
        return error_set(err, ERR_UNSUPPORTED, "no protobuf type known for %.*s %.*s", (int)api_version.bytes.len,
                         api_version.bytes.ptr, (int)kind.bytes.len, kind.bytes.ptr);
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    struct decode d = {.doc = doc, .err = err, .in = schema_type_name(t)};
    yyjson_mut_val *obj = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, obj);
    yyjson_mut_obj_add_strncpy(doc, obj, "apiVersion", api_version.bytes.len ? api_version.bytes.ptr : "",
                               api_version.bytes.len);
    yyjson_mut_obj_add_strncpy(doc, obj, "kind", kind.bytes.len ? kind.bytes.ptr : "", kind.bytes.len);
    if (decode_message(&d, t, raw.bytes, obj, PROTOBUF_MAX_DEPTH) < 0)
        return -1;
    *out = TAKE(doc);
    return 0;
}
