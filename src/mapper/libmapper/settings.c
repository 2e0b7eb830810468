#include "mapper/libmapper/internal.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

int mapper_error(struct error *err, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    _cleanup_(free_p) char *text = xvasprintf(format, ap);
    va_end(ap);
    return error_set(err, ERR_INVALID, "%s", text);
}

/* ---- numbers as text ---- */

/* The fewest digits that read back the same; whole numbers without a point. */
static void shortest(double v, bool single, char *out, size_t size) {
    if (fabs(v) < 1e15 && v == floor(v)) {
        (void)snprintf(out, size, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, size, "%.*g", digits, v);
        double back = strtod(out, NULL);
        if (single ? (float)back == (float)v : back == v)
            break;
    }
    if (strchr(out, 'e') && fabs(v) < 1e15 && fabs(v) > 1e-9)
        (void)snprintf(out, size, "%.12f", v);
}

/* ---- settings ---- */

struct setting {
    char *name, *text;
};
struct mapper_settings {
    size_t n;
    struct setting items[];
};

static char *any_text(const Dmi__Any *a) {
    const char *dot = a && a->type_url ? strrchr(a->type_url, '.') : NULL;
    const struct {
        const char *name;
        const ProtobufCMessageDescriptor *type;
    } types[] = {{"StringValue", &dmi__string_value__descriptor}, {"BoolValue", &dmi__bool_value__descriptor},
                 {"FloatValue", &dmi__float_value__descriptor},   {"DoubleValue", &dmi__double_value__descriptor},
                 {"Int64Value", &dmi__int64_value__descriptor},   {"Int32Value", &dmi__int32_value__descriptor}};
    char number[400] = "";
    for (size_t i = 0; dot && i < ARRAY_LEN(types); i++) {
        if (!str_eq(dot + 1, types[i].name))
            continue;
        ProtobufCMessage *m = protobuf_c_message_unpack(types[i].type, NULL, a->value.len, a->value.data);
        char *text = NULL;
        if (!m)
            return NULL;
        if (i == 0)
            text = xstrdup(((Dmi__StringValue *)m)->value);
        else if (i == 1)
            text = xstrdup(((Dmi__BoolValue *)m)->value ? "true" : "false");
        else if (i == 2)
            shortest((double)((Dmi__FloatValue *)m)->value, true, number, sizeof number);
        else if (i == 3)
            shortest(((Dmi__DoubleValue *)m)->value, false, number, sizeof number);
        else if (i == 4)
            (void)snprintf(number, sizeof number, "%lld", (long long)((Dmi__Int64Value *)m)->value);
        else
            (void)snprintf(number, sizeof number, "%d", ((Dmi__Int32Value *)m)->value);
        protobuf_c_message_free_unpacked(m, NULL);
        return text ? text : xstrdup(number);
    }
    return NULL;
}

struct mapper_settings *settings_new(const Dmi__CustomizedValue *c) {
    size_t n = c ? c->n_data : 0;
    struct mapper_settings *s = xcalloc(1, sizeof *s + n * sizeof s->items[0]);
    for (size_t i = 0; i < n; i++) {
        char *text = any_text(c->data[i]->value);
        if (!text)
            continue;
        s->items[s->n++] = (struct setting){xstrdup(c->data[i]->key), text};
    }
    return s;
}

void settings_free(struct mapper_settings *s) {
    for (size_t i = 0; s && i < s->n; i++) {
        free(s->items[i].name);
        free(s->items[i].text);
    }
    free(s);
}

const char *mapper_setting(const struct mapper_settings *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (str_eq(s->items[i].name, name))
            return s->items[i].text;
    return NULL;
}

int mapper_setting_int(const struct mapper_settings *s, const char *name, int64_t min, int64_t max, int64_t fallback,
                       int64_t *out, struct error *err) {
    const char *text = mapper_setting(s, name);
    *out = fallback;
    if (!text)
        return 0;
    if (parse_i64(bytes_str(text), min, max, out) < 0)
        return mapper_error(err, "%s is \"%.64s\": it must be a whole number from %lld to %lld", name, text,
                            (long long)min, (long long)max);
    return 0;
}

int mapper_setting_double(const struct mapper_settings *s, const char *name, double fallback, double *out,
                          struct error *err) {
    const char *text = mapper_setting(s, name);
    char *end = NULL;
    *out = fallback;
    if (!text)
        return 0;
    *out = strtod(text, &end);
    if (!*text || *end || !isfinite(*out))
        return mapper_error(err, "%s is \"%.64s\": it must be a number", name, text);
    return 0;
}

int mapper_setting_bool(const struct mapper_settings *s, const char *name, bool fallback, bool *out,
                        struct error *err) {
    const char *text = mapper_setting(s, name);
    *out = fallback;
    if (text && parse_bool(bytes_str(text), out) < 0)
        return mapper_error(err, "%s is \"%.64s\": it must be true or false", name, text);
    return 0;
}

/* ---- values ---- */

int mapper_value_parse(enum mapper_type type, const char *text, struct mapper_value *out, struct error *err) {
    char *end = NULL;
    out->type = type;
    switch (type) {
    case MAPPER_INT:
        if (parse_i64(bytes_str(*text == '+' ? text + 1 : text), INT64_MIN, INT64_MAX, &out->i) < 0)
            return mapper_error(err, "\"%.64s\" is no whole number", text);
        return 0;
    case MAPPER_FLOAT:
    case MAPPER_DOUBLE:
        out->d = strtod(text, &end);
        if (!*text || *end || !isfinite(out->d) || (type == MAPPER_FLOAT && fabs(out->d) > (double)FLT_MAX))
            return mapper_error(err, "\"%.64s\" is no number", text);
        return 0;
    case MAPPER_BOOLEAN:
        return parse_bool(bytes_str(text), &out->b) == 0 ? 0
                                                         : mapper_error(err, "\"%.64s\" is not true or false", text);
    case MAPPER_STRING:
    case MAPPER_BYTES:
        if (strlen(text) >= sizeof out->text)
            return mapper_error(err, "a text of %zu bytes is too long", strlen(text));
        memcpy(out->text, text, strlen(text) + 1);
        return 0;
    case MAPPER_STREAM:
        break;
    }
    return mapper_error(err, "a property of type STREAM has no value");
}

void mapper_value_text(const struct mapper_value *v, char *out) {
    switch (v->type) {
    case MAPPER_INT:
        (void)snprintf(out, MAPPER_TEXT_MAX, "%lld", (long long)v->i);
        break;
    case MAPPER_FLOAT:
    case MAPPER_DOUBLE:
        shortest(v->d, v->type == MAPPER_FLOAT, out, MAPPER_TEXT_MAX);
        break;
    case MAPPER_BOOLEAN:
        (void)snprintf(out, MAPPER_TEXT_MAX, "%s", v->b ? "true" : "false");
        break;
    default:
        (void)snprintf(out, MAPPER_TEXT_MAX, "%s", v->text);
        break;
    }
}

static const char *const TYPES[] = {
    [MAPPER_INT] = "INT",         [MAPPER_FLOAT] = "FLOAT", [MAPPER_DOUBLE] = "DOUBLE", [MAPPER_STRING] = "STRING",
    [MAPPER_BOOLEAN] = "BOOLEAN", [MAPPER_BYTES] = "BYTES", [MAPPER_STREAM] = "STREAM"};

enum mapper_type value_type(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (str_case_eq(name, TYPES[i]))
            return (enum mapper_type)i;
    return MAPPER_STRING;
}

const char *value_type_name(enum mapper_type type) {
    static const char *const names[] = {
        [MAPPER_INT] = "int",         [MAPPER_FLOAT] = "float", [MAPPER_DOUBLE] = "double", [MAPPER_STRING] = "string",
        [MAPPER_BOOLEAN] = "boolean", [MAPPER_BYTES] = "bytes", [MAPPER_STREAM] = "stream"};
    return names[type];
}
