/* Server-side printing: meta.k8s.io/v1 Tables, as `kubectl get` shows them (embedded-api.md 5.2).
 *
 * A table is written piece by piece, so that a list of any length needs one object in memory at a time:
 *
 *     table_begin(out, kind, &meta, true);
 *     for (...)
 *         table_row(out, kind, object, TABLE_METADATA, now, first);
 *     table_end(out);
 *
 * Appends to out; check it with buf_check at the end. Any thread. */
#pragma once

#include "apiserver/kinds.h"

enum table_include { TABLE_METADATA, TABLE_NONE, TABLE_OBJECT };

struct table_meta {
    const char *resource_version; /* NULL: left out */
    const char *continue_token;   /* NULL: left out */
    int64_t remaining;            /* <= 0: left out */
};

/* ?includeObject=: "" and "Metadata", "None", "Object"; ERR_INVALID otherwise. */
int table_include_parse(struct bytes text, enum table_include *out, struct error *err) MUST_CHECK;

/* with_columns false leaves columnDefinitions empty: events of a watch after the first. */
void table_begin(struct buf *out, const struct kind *k, const struct table_meta *meta, bool with_columns);
/* object in the served form; now in unix seconds. */
void table_row(struct buf *out, const struct kind *k, yyjson_val *object, enum table_include include, int64_t now,
               bool first);
void table_end(struct buf *out);

/* {"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{...}} */
void table_partial_metadata(struct buf *out, yyjson_val *object);

#define TABLE_DURATION_SIZE 48
/* "5m10s", "3h", "2d1h": a duration as kubectl writes ages. Returns buf. */
char *table_duration(int64_t seconds, char buf[TABLE_DURATION_SIZE]);
