#include "edge/devicetwin/twin.h"

#include "base/str.h"

#include <stdlib.h>

/* ---- devices ---- */

struct twin_device *twin_device_new(struct bytes id) {
    struct twin_device *d = NEW(struct twin_device);
    d->id = bytes_dup(id);
    const char *slash = strrchr(d->id, '/');
    d->name = slash ? slash + 1 : d->id;
    d->dirty = true;
    return d;
}

static void twin_free(struct twin_device *d, struct twin *t) {
    HASH_DEL(d->twins, t);
    free(t->name);
    free(t->type);
    free(t->expected.value);
    free(t->actual.value);
    free(t);
}

void twin_device_free(struct twin_device *d) {
    struct twin *t, *next;
    HASH_ITER (hh, d->twins, t, next)
        twin_free(d, t);
    free(d->id);
    free(d->description);
    free(d->state);
    free(d->last_online);
    free(d->message);
    free(d->report_id);
    free(d);
}

struct twin *twin_find(const struct twin_device *d, const char *name) {
    struct twin *t;
    HASH_FIND_STR(d->twins, name, t);
    return t;
}

static struct twin *twin_add(struct twin_device *d, const char *name, const char *type) {
    struct twin *t = NEW(struct twin);
    t->name = xstrdup(name);
    t->type = xstrdup(str_or(type, "string"));
    t->optional = true;
    HASH_ADD_KEYPTR(hh, d->twins, t->name, strlen(t->name), t);
    return t;
}

/* ---- reading requests ---- */

yyjson_val *twin_member(yyjson_val *object, const char *name) {
    yyjson_val *k, *v, *found = NULL;
    size_t i, max;
    if (!yyjson_is_obj(object))
        return NULL;
    yyjson_obj_foreach (object, i, max, k, v) {
        if (str_case_eq(yyjson_get_str(k), name))
            found = v;
    }
    return found;
}

static const char *member_str(yyjson_val *object, const char *name) {
    return yyjson_get_str(twin_member(object, name));
}

bool twin_state_known(const char *state) {
    static const char *const known[] = {"online", "offline", "ok", "unknown", "unhealthy", "disconnected"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_case_eq(state, known[i]))
            return true;
    return false;
}

static bool text_allowed(const char *s, size_t max) {
    static const char marks[] = "-_.,:/@#";
    size_t n = strlen(s);
    if (n > max)
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr(marks, *s)))
            return false;
    return true;
}

static bool type_known(const char *type) {
    static const char *const known[] = {"",       "string",  "int",   "integer", "float",
                                        "double", "boolean", "bytes", "deleted"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq(type, known[i]))
            return true;
    return false;
}

static bool is_number(const char *s) {
    char *end = NULL;
    (void)strtod(s, &end);
    return *s && end && !*end;
}

static bool value_fits(const char *value, const char *type) {
    int64_t n;
    if (!*value)
        return true;
    if (str_eq(type, "int") || str_eq(type, "integer"))
        return parse_i64(bytes_str(*value == '+' ? value + 1 : value), INT64_MIN, INT64_MAX, &n) == 0;
    if (str_eq(type, "float") || str_eq(type, "double"))
        return is_number(value);
    if (str_eq(type, "boolean"))
        return str_eq(value, "true") || str_eq(value, "false");
    return true;
}

static int check_part(yyjson_val *part, const char *name, const char *which, const char *type, enum twin_origin origin,
                      struct error *err) {
    if (!part || yyjson_is_null(part))
        return 0;
    const char *value = member_str(part, "value");
    yyjson_val *ts = twin_member(twin_member(part, "metadata"), "timestamp");
    if (!value)
        return error_set(err, ERR_INVALID, "%s of twin %s has no text \"value\"", which, name);
    if (ts && !yyjson_is_int(ts))
        return error_set(err, ERR_INVALID, "the timestamp of %s of twin %s is no integer", which, name);
    if (origin == TWIN_FROM_MAPPER)
        return strlen(value) <= TWIN_VALUE_MAX_DMI
                   ? 0
                   : error_set(err, ERR_INVALID, "%s of twin %s is longer than %d bytes", which, name,
                               TWIN_VALUE_MAX_DMI);
    if (!text_allowed(value, TWIN_VALUE_MAX))
        return error_set(err, ERR_INVALID,
                         "%s of twin %s: a value has up to %d characters out of A-Z a-z 0-9 - _ . , : / @ #", which,
                         name, TWIN_VALUE_MAX);
    if (!value_fits(value, type))
        return error_set(err, ERR_INVALID, "%s of twin %s is no value of type %s", which, name, type);
    return 0;
}

static int check_twin(const struct twin_device *d, const char *name, yyjson_val *v, enum twin_origin origin,
                      struct error *err) {
    const struct twin *t = twin_find(d, name);
    if (!*name || strlen(name) > TWIN_NAME_MAX || (origin == TWIN_FROM_MQTT && !text_allowed(name, TWIN_NAME_MAX)))
        return error_set(err, ERR_INVALID, "a twin's name has 1 to %d characters out of A-Z a-z 0-9 - _ . , : / @ #",
                         TWIN_NAME_MAX);
    if (yyjson_is_null(v))
        return 0;
    if (!yyjson_is_obj(v))
        return error_set(err, ERR_INVALID, "twin %s is not an object", name);
    const char *type = str_or(member_str(twin_member(v, "metadata"), "type"), "");
    if (origin != TWIN_FROM_MAPPER && !type_known(type))
        return error_set(err, ERR_INVALID, "twin %s has an unknown type %.64s", name, type);
    if (t && !t->deleted)
        type = t->type;
    if (check_part(twin_member(v, "expected"), name, "expected", type, origin, err) < 0)
        return -1;
    return check_part(twin_member(v, "actual"), name, "actual", type, origin, err);
}

/* ---- writing ---- */

enum { PART_EXPECTED = 1, PART_ACTUAL = 2, PART_BOTH = 3 };

static void add_string(struct buf *out, const char *name, const char *value) {
    (void)buf_addf(out, "\"%s\":", name);
    (void)json_append_string(out, bytes_str(value));
}

static void add_part(struct buf *out, const char *name, const struct twin_part *p) {
    if (!p->value)
        return;
    (void)buf_addf(out, "\"%s\":{", name);
    add_string(out, "value", p->value);
    (void)buf_addf(out, ",\"metadata\":{\"timestamp\":%lld}},", (long long)p->timestamp);
}

static void add_version(struct buf *out, const char *name, const struct twin_part *p) {
    if (p->cloud || p->edge)
        (void)buf_addf(out, ",\"%s\":{\"cloud\":%lld,\"edge\":%lld}", name, (long long)p->cloud, (long long)p->edge);
}

static void add_twin(struct buf *out, const struct twin *t, unsigned parts, bool versions) {
    (void)buf_add_char(out, '{');
    if (parts & PART_EXPECTED)
        add_part(out, "expected", &t->expected);
    if (parts & PART_ACTUAL)
        add_part(out, "actual", &t->actual);
    (void)buf_addf(out, "\"optional\":%s,\"metadata\":{", t->optional ? "true" : "false");
    add_string(out, "type", t->deleted ? "deleted" : t->type);
    (void)buf_add_char(out, '}');
    if (versions) {
        add_version(out, "expected_version", &t->expected);
        add_version(out, "actual_version", &t->actual);
    }
    (void)buf_add_char(out, '}');
}

/* Between members, not before the first. */
static void add_comma(struct buf *out) {
    if (out->len > 0 && out->ptr[out->len - 1] != '{')
        (void)buf_add_char(out, ',');
}

static void add_key(struct buf *out, const char *name) {
    add_comma(out);
    (void)json_append_string(out, bytes_str(name));
    (void)buf_add_char(out, ':');
}

void twin_write_all(const struct twin_device *d, struct buf *out) {
    (void)buf_add_char(out, '{');
    for (const struct twin *t = d->twins; t; t = t->hh.next) {
        if (t->deleted)
            continue;
        add_key(out, t->name);
        add_twin(out, t, PART_BOTH, false);
    }
    (void)buf_add_char(out, '}');
}

bool twin_write_delta(const struct twin_device *d, struct buf *delta, struct buf *twins) {
    bool any = false;
    (void)buf_add_char(delta, '{');
    (void)buf_add_char(twins, '{');
    for (const struct twin *t = d->twins; t; t = t->hh.next) {
        if (t->deleted || str_empty(t->expected.value))
            continue;
        add_key(twins, t->name);
        add_twin(twins, t, PART_BOTH, false);
        if (str_eq(t->expected.value, t->actual.value))
            continue;
        add_key(delta, t->name);
        (void)json_append_string(delta, bytes_str(t->expected.value));
        any = true;
    }
    (void)buf_add_char(delta, '}');
    (void)buf_add_char(twins, '}');
    return any;
}

/* ---- applying ---- */

struct applying {
    struct twin_device *d;
    enum twin_origin origin;
    int64_t now;
    struct buf *result, *document;
    bool changed;
};

/* True: the part is new or was said again. */
static bool set_part(struct applying *a, struct twin_part *p, yyjson_val *part, yyjson_val *version) {
    const char *value = member_str(part, "value");
    if (!value)
        return false;
    if (a->origin == TWIN_FROM_CLOUD) {
        int64_t cloud = json_int_or(twin_member(version, "cloud"), -1),
                edge = json_int_or(twin_member(version, "edge"), -1);
        if (cloud < p->cloud || edge < p->edge)
            return false; /* we know better */
        p->cloud = cloud;
        p->edge = edge;
    } else {
        p->edge++;
    }
    int64_t timestamp = json_int_or(twin_member(twin_member(part, "metadata"), "timestamp"), 0);
    p->timestamp = a->origin == TWIN_FROM_MAPPER && timestamp > 0 ? timestamp : a->now;
    if (!str_eq(p->value, value)) {
        free(p->value);
        p->value = xstrdup(value);
    }
    return true;
}

static void begin_document(struct applying *a, const char *name, const struct twin *last) {
    if (!a->document)
        return;
    add_key(a->document, name);
    (void)buf_add_str(a->document, "{\"last\":");
    if (last && !last->deleted)
        add_twin(a->document, last, PART_BOTH, false);
    else
        (void)buf_add_str(a->document, "null");
    (void)buf_add_str(a->document, ",\"current\":");
}

static void end_document(struct applying *a, const struct twin *t) {
    if (!a->document)
        return;
    if (t)
        add_twin(a->document, t, PART_BOTH, false);
    else
        (void)buf_add_str(a->document, "null");
    (void)buf_add_char(a->document, '}');
}

static void remove_twin(struct applying *a, struct twin *t, const char *name) {
    if (a->result) {
        add_key(a->result, name);
        (void)buf_add_str(a->result, "null");
    }
    if (!t || t->deleted || !t->optional)
        return;
    begin_document(a, name, t);
    free(TAKE(t->expected.value));
    free(TAKE(t->actual.value));
    t->expected.edge += t->expected.edge > 0;
    t->actual.edge += t->actual.edge > 0;
    t->deleted = t->dirty = a->changed = true;
    t->sync = TWIN_UNSENT;
    end_document(a, NULL);
}

static void change_twin(struct applying *a, const char *name, yyjson_val *v) {
    struct twin *t = twin_find(a->d, name);
    yyjson_val *expected = twin_member(v, "expected"), *actual = twin_member(v, "actual"),
               *optional = twin_member(v, "optional");
    const char *type = member_str(twin_member(v, "metadata"), "type");
    bool fresh = !t || t->deleted;
    begin_document(a, name, t);
    if (!t)
        t = twin_add(a->d, name, type);
    if (t->deleted || (a->origin == TWIN_FROM_MAPPER && !str_empty(type) && !str_eq(type, t->type))) {
        free(t->type);
        t->type = xstrdup(str_or(type, "string"));
        t->deleted = false;
    }
    if (yyjson_is_bool(optional) && (fresh || !yyjson_is_true(optional)))
        t->optional = yyjson_is_true(optional);
    unsigned parts = 0;
    if (set_part(a, &t->expected, expected, twin_member(v, "expected_version")))
        parts |= PART_EXPECTED;
    if (set_part(a, &t->actual, actual, twin_member(v, "actual_version")))
        parts |= PART_ACTUAL;
    if (parts || fresh) {
        t->dirty = a->changed = true;
        t->sync = TWIN_UNSENT;
    }
    end_document(a, t);
    if (a->result) {
        add_key(a->result, name);
        add_twin(a->result, t, fresh ? PART_BOTH : parts, false);
    }
}

static bool is_deletion(yyjson_val *v) {
    return yyjson_is_null(v) || str_eq(member_str(twin_member(v, "metadata"), "type"), "deleted");
}

int twin_update(struct twin_device *d, yyjson_val *request, enum twin_origin origin, int64_t now, struct buf *result,
                struct buf *document, bool *changed, struct error *err) {
    yyjson_val *twins = twin_member(request, "twin"), *k, *v, *ts = twin_member(request, "timestamp");
    struct applying a = {.d = d, .origin = origin, .now = now, .result = result, .document = document};
    size_t i, max;
    if (!yyjson_is_obj(twins))
        return error_set(err, ERR_INVALID, "the request has no object \"twin\"");
    if (ts && !yyjson_is_int(ts))
        return error_set(err, ERR_INVALID, "\"timestamp\" is no integer");
    if (HASH_COUNT(d->twins) + yyjson_obj_size(twins) > TWIN_PER_DEVICE)
        return error_set(err, ERR_INVALID, "a device has at most %d twins", TWIN_PER_DEVICE);
    yyjson_obj_foreach (twins, i, max, k, v) {
        if (check_twin(d, yyjson_get_str(k), v, origin, err) < 0)
            return -1;
    }
    if (result)
        (void)buf_add_char(result, '{');
    if (document)
        (void)buf_add_char(document, '{');
    yyjson_obj_foreach (twins, i, max, k, v) {
        if (is_deletion(v))
            remove_twin(&a, twin_find(d, yyjson_get_str(k)), yyjson_get_str(k));
        else
            change_twin(&a, yyjson_get_str(k), v);
    }
    if (result)
        (void)buf_add_char(result, '}');
    if (document)
        (void)buf_add_char(document, '}');
    *changed = a.changed;
    return 0;
}

/* ---- the cloud ---- */

bool twin_write_report(struct twin_device *d, struct buf *out) {
    bool any = false;
    (void)buf_add_char(out, '{');
    for (struct twin *t = d->twins; t; t = t->hh.next) {
        if (t->sync != TWIN_UNSENT)
            continue;
        add_key(out, t->name);
        if (t->deleted) {
            (void)buf_add_str(out,
                              "{\"expected\":{},\"actual\":{},\"optional\":true,\"metadata\":{\"type\":\"deleted\"}");
            add_version(out, "expected_version", &t->expected);
            add_version(out, "actual_version", &t->actual);
            (void)buf_add_char(out, '}');
        } else {
            add_twin(out, t, PART_BOTH, true);
        }
        t->sync = TWIN_SENT;
        any = true;
    }
    (void)buf_add_char(out, '}');
    return any;
}

void twin_report_done(struct twin_device *d, bool arrived) {
    struct twin *t, *next;
    HASH_ITER (hh, d->twins, t, next) {
        if (t->sync != TWIN_SENT)
            continue;
        t->sync = arrived ? TWIN_SYNCED : TWIN_UNSENT;
        if (arrived && t->deleted && !t->dirty)
            twin_free(d, t);
    }
}

bool twin_has_report(const struct twin_device *d) {
    for (const struct twin *t = d->twins; t; t = t->hh.next)
        if (t->sync == TWIN_UNSENT)
            return true;
    return false;
}

/* ---- rows ---- */

static void add_column(struct buf *out, const char *name, const char *value) {
    add_comma(out);
    add_string(out, name, str_or(value, ""));
}

void twin_write_device_row(const struct twin_device *d, struct buf *out) {
    (void)buf_add_char(out, '{');
    add_column(out, "id", d->id);
    add_column(out, "name", d->name);
    add_column(out, "description", d->description);
    add_column(out, "state", d->state);
    add_column(out, "last_online", d->last_online);
    (void)buf_add_char(out, '}');
}

static void add_part_columns(struct buf *out, const char *name, const struct twin_part *p) {
    _cleanup_(free_p) char *meta = xasprintf("%s_meta", name), *version = xasprintf("%s_version", name);
    _cleanup_(free_p) char *ts = xasprintf("{\"timestamp\":%lld}", (long long)p->timestamp);
    _cleanup_(free_p) char *v = xasprintf("{\"cloud\":%lld,\"edge\":%lld}", (long long)p->cloud, (long long)p->edge);
    add_column(out, name, p->value);
    add_column(out, meta, p->value ? ts : "");
    add_column(out, version, p->cloud || p->edge ? v : "");
}

void twin_write_row(const struct twin_device *d, const struct twin *t, struct buf *out) {
    (void)buf_add_char(out, '{');
    add_column(out, "deviceid", d->id);
    add_column(out, "name", t->name);
    add_part_columns(out, "expected", &t->expected);
    add_part_columns(out, "actual", &t->actual);
    (void)buf_addf(out, ",\"optional\":%d", t->optional);
    add_column(out, "attr_type", t->deleted ? "deleted" : t->type);
    add_column(out, "metadata", "{}");
    (void)buf_add_char(out, '}');
}

static void read_part(struct twin_part *p, yyjson_val *row, const char *value, const char *meta, const char *version) {
    const char *v = json_str(row, value), *m = json_str(row, meta), *n = json_str(row, version);
    _cleanup_(yyjson_doc_free_p) yyjson_doc *md = m && *m ? json_parse(bytes_str(m), 4096, NULL) : NULL;
    _cleanup_(yyjson_doc_free_p) yyjson_doc *vd = n && *n ? json_parse(bytes_str(n), 4096, NULL) : NULL;
    if (str_empty(v) && !md) /* "" with a time is an empty value; "" without is none */
        return;
    p->value = xstrdup(str_or(v, ""));
    p->timestamp = json_int_or(json_get(yyjson_doc_get_root(md), "timestamp"), 0);
    p->cloud = json_int_or(json_get(yyjson_doc_get_root(vd), "cloud"), 0);
    p->edge = json_int_or(json_get(yyjson_doc_get_root(vd), "edge"), 0);
}

void twin_read_row(struct twin_device *d, yyjson_val *row) {
    const char *name = json_str(row, "name"), *type = json_str(row, "attr_type");
    if (str_empty(name) || str_eq(type, "deleted") || twin_find(d, name))
        return;
    struct twin *t = twin_add(d, name, type);
    t->optional = json_int_or(json_get(row, "optional"), 1) != 0;
    read_part(&t->expected, row, "expected", "expected_meta", "expected_version");
    read_part(&t->actual, row, "actual", "actual_meta", "actual_version");
    t->sync = TWIN_UNSENT; /* whether the cloud knows it is not written down */
}
