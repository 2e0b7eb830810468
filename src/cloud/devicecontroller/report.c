#include "cloud/devicecontroller/report.h"

#include "base/str.h"

#define VALUE_MAX (1u << 20)

enum report_kind report_parse_resource(struct bytes resource, struct bytes *ns, struct bytes *name) {
    struct bytes part[6];
    size_t n = bytes_split(resource, '/', part, ARRAY_LEN(part));
    if (n == 2 && bytes_eq_str(part[0], "membership") && bytes_eq_str(part[1], "detail"))
        return REPORT_MEMBERSHIP;
    if (n != 5 || !bytes_eq_str(part[0], "device") || part[1].len == 0 || part[2].len == 0)
        return REPORT_UNKNOWN;
    *ns = part[1];
    *name = part[2];
    if (bytes_eq_str(part[3], "twin") && bytes_eq_str(part[4], "edge_updated"))
        return REPORT_TWIN;
    if (bytes_eq_str(part[3], "state") && bytes_eq_str(part[4], "update"))
        return REPORT_STATE;
    return REPORT_UNKNOWN;
}

/* ---- twins ---- */

static void entry_free(struct device_state *s, struct twin_entry *t) {
    HASH_DEL(s->twins, t);
    free(t->name);
    free(t->reported);
    free(t->observed);
    free(t);
}

void device_state_free(struct device_state *s) {
    struct twin_entry *t, *next;
    HASH_ITER (hh, s->twins, t, next)
        entry_free(s, t);
    free(s->state);
    free(s->last_online);
    free(s->message);
    *s = (struct device_state){0};
}

static struct twin_entry *entry(struct device_state *s, const char *name) {
    struct twin_entry *t;
    HASH_FIND_STR(s->twins, name, t);
    if (t)
        return t;
    t = NEW(struct twin_entry);
    t->name = xstrdup(name);
    HASH_ADD_KEYPTR(hh, s->twins, t->name, strlen(t->name), t);
    return t;
}

static bool has_property(yyjson_val *device, const char *name) {
    yyjson_val *p;
    size_t i, max;
    yyjson_arr_foreach (json_get(device, "spec", "properties"), i, max, p) {
        if (str_eq(json_str(p, "name"), name))
            return true;
    }
    return false;
}

/* {"value":"61.5","metadata":{"timestamp":1}} becomes {"value":"61.5","metadata":{"timestamp":"1","type":"float"}}. */
static void set_value(char **out, yyjson_val *value, const char *type) {
    const char *text = json_str(value, "value");
    yyjson_val *timestamp = json_get(value, "metadata", "timestamp");
    if (!text)
        return;
    struct buf b = BUF_INIT(VALUE_MAX);
    (void)buf_add_str(&b, "{\"value\":");
    (void)json_append_string(&b, bytes_str(text));
    (void)buf_add_str(&b, ",\"metadata\":{");
    if (yyjson_is_int(timestamp))
        (void)buf_addf(&b, "\"timestamp\":\"%lld\"", (long long)json_int_or(timestamp, 0));
    if (!str_empty(type)) {
        (void)buf_add_str(&b, yyjson_is_int(timestamp) ? ",\"type\":" : "\"type\":");
        (void)json_append_string(&b, bytes_str(type));
    }
    (void)buf_add_str(&b, "}}");
    if (b.overflowed) {
        buf_free(&b);
        return;
    }
    free(*out);
    *out = buf_take(&b, NULL);
}

static int apply_twins(struct device_state *s, yyjson_val *content, yyjson_val *device, struct error *err) {
    yyjson_val *twins = json_get(content, "twin"), *k, *v;
    size_t i, max;
    if (!yyjson_is_obj(twins))
        return error_set(err, ERR_INVALID, "the report has no object \"twin\"");
    yyjson_obj_foreach (twins, i, max, k, v) {
        const char *name = yyjson_get_str(k), *type = json_str(v, "metadata", "type");
        if (!has_property(device, name) || !yyjson_is_obj(v))
            continue;
        struct twin_entry *t = entry(s, name);
        set_value(&t->reported, json_get(v, "actual"), type);
        set_value(&t->observed, json_get(v, "expected"), type);
    }
    return 0;
}

/* ---- state ---- */

static void set_text(char **out, const char *text) {
    free(*out);
    *out = xstrdup_null(text);
}

static int apply_state(struct device_state *s, yyjson_val *content, struct error *err) {
    yyjson_val *d = json_get(content, "device");
    if (!yyjson_is_obj(d))
        return error_set(err, ERR_INVALID, "the report has no object \"device\"");
    const char *state = json_str(d, "state"), *online = json_str(d, "lastOnlineTime"), *why = json_str(d, "message");
    if (!str_empty(state))
        set_text(&s->state, state);
    if (!str_empty(online)) /* a device that goes offline keeps the last one */
        set_text(&s->last_online, online);
    set_text(&s->message, str_empty(why) ? NULL : why);
    return 0;
}

int device_state_apply(struct device_state *s, enum report_kind kind, yyjson_val *content, yyjson_val *device,
                       struct error *err) {
    return kind == REPORT_TWIN ? apply_twins(s, content, device, err) : apply_state(s, content, err);
}

/* ---- the stored status ---- */

static void fill_value(char **out, yyjson_val *value) {
    size_t len;
    if (!*out && json_str(value, "value"))
        *out = json_write(value, &len);
}

void device_state_fill(struct device_state *s, yyjson_val *status) {
    yyjson_val *t;
    size_t i, max;
    yyjson_arr_foreach (json_get(status, "twins"), i, max, t) {
        const char *name = json_str(t, "propertyName");
        if (str_empty(name))
            continue;
        struct twin_entry *e = entry(s, name);
        fill_value(&e->reported, json_get(t, "reported"));
        fill_value(&e->observed, json_get(t, "observedDesired"));
    }
    if (!s->state)
        s->state = xstrdup_null(json_str(status, "state"));
    if (!s->last_online)
        s->last_online = xstrdup_null(json_str(status, "lastOnlineTime"));
}

bool device_state_prune(struct device_state *s, yyjson_val *device) {
    struct twin_entry *t, *next;
    bool any = false;
    HASH_ITER (hh, s->twins, t, next) {
        if (!has_property(device, t->name)) {
            entry_free(s, t);
            any = true;
        }
    }
    return any;
}

static void add_text(struct buf *out, const char *name, const char *text) {
    if (!text)
        return;
    (void)buf_addf(out, ",\"%s\":", name);
    (void)json_append_string(out, bytes_str(text));
}

void device_state_write(const struct device_state *s, struct buf *out) {
    const struct twin_entry *t;
    const char *comma = "";
    (void)buf_add_str(out, "\"twins\":[");
    for (t = s->twins; t; t = t->hh.next) {
        (void)buf_addf(out, "%s{\"propertyName\":", comma);
        (void)json_append_string(out, bytes_str(t->name));
        (void)buf_addf(out, ",\"reported\":%s,\"observedDesired\":%s}", str_or(t->reported, "{\"value\":\"\"}"),
                       str_or(t->observed, "{\"value\":\"\"}"));
        comma = ",";
    }
    (void)buf_add_str(out, "]");
    add_text(out, "state", s->state);
    add_text(out, "lastOnlineTime", s->last_online);
}
