#include "apiserver/table.h"

#include "apiserver/json_path.h"
#include "apiserver/table_cells.h"
#include "base/clock.h"
#include "kube/object.h"

int table_include_parse(struct bytes text, enum table_include *out, struct error *err) {
    if (text.len == 0 || bytes_eq_str(text, "Metadata"))
        *out = TABLE_METADATA;
    else if (bytes_eq_str(text, "None"))
        *out = TABLE_NONE;
    else if (bytes_eq_str(text, "Object"))
        *out = TABLE_OBJECT;
    else
        return error_set(err, ERR_INVALID, "includeObject must be None, Metadata or Object");
    return 0;
}

char *table_duration(int64_t s, char buf[TABLE_DURATION_SIZE]) {
    static const struct { /* below the limit: one unit, or two */
        int64_t limit, first, second;
        char first_name, second_name;
    } steps[] = {
        {120, 1, 0, 's', 0},
        {600, 60, 1, 'm', 's'},
        {3 * 3600, 60, 0, 'm', 0},
        {8 * 3600, 3600, 60, 'h', 'm'},
        {48 * 3600, 3600, 0, 'h', 0},
        {8 * 86400, 86400, 3600, 'd', 'h'},
        {2 * 365 * 86400, 86400, 0, 'd', 0},
        {8LL * 365 * 86400, 365 * 86400, 86400, 'y', 'd'},
        {INT64_MAX, 365 * 86400, 0, 'y', 0},
    };
    if (s < -1) {
        snprintf(buf, TABLE_DURATION_SIZE, "<invalid>");
        return buf;
    }
    if (s < 0)
        s = 0;
    size_t i = 0;
    while (s >= steps[i].limit && i + 1 < ARRAY_LEN(steps))
        i++;
    long long first = s / steps[i].first, second = steps[i].second ? s % steps[i].first / steps[i].second : 0;
    if (second)
        snprintf(buf, TABLE_DURATION_SIZE, "%lld%c%lld%c", first, steps[i].first_name, second, steps[i].second_name);
    else
        snprintf(buf, TABLE_DURATION_SIZE, "%lld%c", first, steps[i].first_name);
    return buf;
}

/* ---- cells ------------------------------------------------------------------------------------------------------ */

static void separate(struct cells *c) {
    if (c->any)
        buf_add_char(c->out, ',');
    c->any = true;
}

void cell_str(struct cells *c, const char *s) {
    separate(c);
    if (s)
        json_append_string(c->out, bytes_str(s));
    else
        buf_add_str(c->out, "null");
}

void cell_int(struct cells *c, int64_t n) {
    separate(c);
    buf_addf(c->out, "%lld", (long long)n);
}

void cell_bool(struct cells *c, bool value) {
    separate(c);
    buf_add_str(c->out, value ? "true" : "false");
}

void cell_null(struct cells *c) {
    cell_str(c, NULL);
}

void cell_age(struct cells *c, const char *time) {
    int64_t ns;
    char text[TABLE_DURATION_SIZE];
    if (str_empty(time) || rfc3339_parse(bytes_str(time), &ns) < 0)
        cell_str(c, "<unknown>");
    else
        cell_str(c, table_duration(c->now - ns / 1000000000, text));
}

/* A printer column of a custom kind. What is missing or of another type becomes null. */
static void custom_cell(struct cells *c, const struct kind_column *column, yyjson_val *o) {
    yyjson_val *v = json_path_first(o, column->json_path);
    if (str_eq(column->type, "date")) {
        if (yyjson_is_str(v))
            cell_age(c, yyjson_get_str(v));
        else
            cell_null(c);
    } else if ((str_eq(column->type, "integer") && yyjson_is_int(v)) ||
               (str_eq(column->type, "number") && yyjson_is_num(v)) ||
               (str_eq(column->type, "boolean") && yyjson_is_bool(v))) {
        separate(c);
        json_append(c->out, v);
    } else if (str_eq(column->type, "string") && v && !yyjson_is_null(v)) {
        _cleanup_(free_p) char *text = yyjson_is_str(v) ? xstrdup(yyjson_get_str(v)) : json_write(v, NULL);
        cell_str(c, text);
    } else {
        cell_null(c);
    }
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

static void write_column(struct buf *out, bool first, const struct table_column *column) {
    buf_addf(out, "%s{\"name\":", first ? "" : ",");
    json_append_string(out, bytes_str(column->name));
    buf_add_str(out, ",\"type\":");
    json_append_string(out, bytes_str(column->type));
    buf_add_str(out, ",\"format\":");
    json_append_string(out, bytes_str(column->format));
    buf_add_str(out, ",\"description\":");
    json_append_string(out, bytes_str(str_or(column->description, "")));
    buf_addf(out, ",\"priority\":%d}", column->priority);
}

static const struct table_column name_column = {"Name", "string", "name", "Name must be unique within a namespace.", 0};
static const struct table_column age_column = {"Age", "date", "", "Time since creation.", 0};

static void write_columns(struct buf *out, const struct kind *k) {
    const struct table_layout *layout = table_layout_of(k);
    for (size_t i = 0; layout && i < layout->n_columns; i++)
        write_column(out, i == 0, &layout->columns[i]);
    if (layout)
        return;
    write_column(out, true, &name_column);
    for (size_t i = 0; i < k->n_columns; i++) {
        const struct kind_column *c = &k->columns[i];
        struct table_column column = {c->name, c->type, c->format, c->description, (int)c->priority};
        write_column(out, false, &column);
    }
    if (k->n_columns == 0)
        write_column(out, false, &age_column);
}

void table_begin(struct buf *out, const struct kind *k, const struct table_meta *meta, bool with_columns) {
    bool any = false;
    buf_add_str(out, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{");
    if (meta->resource_version) {
        buf_add_str(out, "\"resourceVersion\":");
        json_append_string(out, bytes_str(meta->resource_version));
        any = true;
    }
    if (!str_empty(meta->continue_token)) {
        buf_addf(out, "%s\"continue\":", any ? "," : "");
        json_append_string(out, bytes_str(meta->continue_token));
        any = true;
    }
    if (meta->remaining > 0)
        buf_addf(out, "%s\"remainingItemCount\":%lld", any ? "," : "", (long long)meta->remaining);
    buf_add_str(out, "},\"columnDefinitions\":[");
    if (with_columns)
        write_columns(out, k);
    buf_add_str(out, "],\"rows\":[");
}

static void write_completed(struct buf *out, const struct kind *k, yyjson_val *o) {
    const char *phase = json_str(o, "status", "phase");
    if (k->custom || !str_eq(k->plural, "pods") || (!str_eq(phase, "Succeeded") && !str_eq(phase, "Failed")))
        return;
    buf_addf(out, ",\"conditions\":[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"%s\",\"message\":\"%s\"}]",
             phase, str_eq(phase, "Succeeded") ? "The pod has completed successfully." : "The pod failed.");
}

void table_partial_metadata(struct buf *out, yyjson_val *object) {
    yyjson_val *metadata = json_get(object, "metadata");
    buf_add_str(out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":");
    if (metadata)
        json_append(out, metadata);
    else
        buf_add_str(out, "{}");
    buf_add_char(out, '}');
}

void table_row(struct buf *out, const struct kind *k, yyjson_val *object, enum table_include include, int64_t now,
               bool first) {
    struct cells c = {.out = out, .now = now};
    const struct table_layout *layout = table_layout_of(k);
    buf_add_str(out, first ? "{\"cells\":[" : ",{\"cells\":[");
    if (layout) {
        layout->cells(&c, object);
    } else {
        cell_str(&c, object_name(object));
        for (size_t i = 0; i < k->n_columns; i++)
            custom_cell(&c, &k->columns[i], object);
        if (k->n_columns == 0)
            cell_age(&c, json_str(object, "metadata", "creationTimestamp"));
    }
    buf_add_char(out, ']');
    write_completed(out, k, object);
    if (include != TABLE_NONE)
        buf_add_str(out, ",\"object\":");
    if (include == TABLE_METADATA)
        table_partial_metadata(out, object);
    else if (include == TABLE_OBJECT)
        json_append(out, object);
    buf_add_char(out, '}');
}

void table_end(struct buf *out) {
    buf_add_str(out, "]}");
}
