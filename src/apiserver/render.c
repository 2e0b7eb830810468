#include "apiserver/server.h"

#include "base/clock.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>

#define TEXT_MAX (64u << 20)

static yyjson_doc *parse_text(const struct record *rec, uint64_t rev) {
    if (rev == 0 && rec->rev != 0)
        return record_parse(rec);
    _cleanup_(buf_free) struct buf text = BUF_INIT(TEXT_MAX);
    record_append(&text, rec, rev);
    yyjson_doc *doc = yyjson_read(text.ptr, text.len, 0);
    if (!doc)
        panic("apiserver: object %s/%s does not parse", rec->ns, rec->name);
    return doc;
}

yyjson_doc *served_doc(const struct kind *k, const struct record *rec, uint64_t rev) {
    yyjson_doc *doc = parse_text(rec, rev);
    if (!kind_needs_conversion(k))
        return doc;
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_doc_mut_copy(doc, NULL);
    yyjson_doc_free(doc);
    kind_from_stored(k, d, yyjson_mut_doc_get_root(d));
    return yyjson_mut_doc_imut_copy(d, NULL);
}

static void render_table(struct buf *out, const struct kind *k, yyjson_val *object, uint64_t rev,
                         enum table_include include, bool with_columns) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, rev);
    const struct table_meta meta = {.resource_version = text};
    table_begin(out, k, &meta, with_columns);
    table_row(out, k, object, include, clock_wall_s(), true);
    table_end(out);
}

void render_json(struct buf *out, const struct kind *k, const struct record *rec, uint64_t rev, enum answer_form form,
                 bool bare) {
    _cleanup_(buf_free) struct buf managed = BUF_INIT(TEXT_MAX);
    if (form == FORM_JSON)
        managed_append(&managed, k, rec);
    record_append_with(out, rec, rev, buf_bytes(&managed), bare);
}

void render_converted(struct buf *out, const struct kind *k, const struct record *rec, yyjson_val *object,
                      enum answer_form form) {
    _cleanup_(buf_free) struct buf managed = BUF_INIT(TEXT_MAX);
    struct bytes list;
    if (form == FORM_JSON)
        managed_append(&managed, k, rec);
    if (managed.len == 0) {
        json_append(out, object);
        return;
    }
    _cleanup_(yyjson_mut_doc_free_p) yyjson_mut_doc *d = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *copy = yyjson_val_mut_copy(d, object);
    bytes_cut(buf_bytes(&managed), ':', NULL, &list); /* ,"managedFields":[...] */
    json_set(d, json_ensure_obj(d, copy, "metadata"), "managedFields", yyjson_mut_rawn(d, list.ptr, list.len));
    json_append_mut(out, copy);
}

void render_object(struct buf *out, const struct kind *k, const struct record *rec, uint64_t rev, enum answer_form form,
                   enum table_include include, bool with_columns) {
    bool json = form == FORM_JSON || form == FORM_UNMANAGED;
    if (json && !kind_needs_conversion(k)) {
        render_json(out, k, rec, rev, form, false);
        return;
    }
    _cleanup_(yyjson_doc_free_p) yyjson_doc *doc = served_doc(k, rec, rev);
    yyjson_val *object = yyjson_doc_get_root(doc);
    if (form == FORM_TABLE)
        render_table(out, k, object, rev ? rev : rec->rev, include, with_columns);
    else if (json)
        render_converted(out, k, rec, object, form);
    else
        table_partial_metadata(out, object);
}
