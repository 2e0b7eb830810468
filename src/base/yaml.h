/* YAML to JSON, on libyaml: configuration files, kubeconfigs, manifests.
 *
 * The document is turned into a yyjson_doc (core schema: null, booleans, integers, floats, else strings; quoted scalars
 * are strings; as in Go's readers "0644" is octal). Aliases are expanded within a cap on the number of nodes; depth and
 * size are capped; a duplicate key is an error with its line. */
#pragma once

#include "base/json.h"

#define YAML_MAX_SIZE (4u << 20) /* bytes of text */
#define YAML_MAX_DEPTH 100
#define YAML_MAX_NODES 200000 /* values, those that aliases stand for included */

struct yaml_doc {
    yyjson_doc *json;
    struct yaml_lines *lines; /* where each value stood */
};

/* The first document of text. name is used in messages ("edgecore.yaml:12: ..."). */
int yaml_parse(struct bytes text, const char *name, struct yaml_doc *out, struct error *err) MUST_CHECK;
void yaml_doc_free(struct yaml_doc *doc);
/* Line (from 1) of a key or value by its path, members joined by '.', list items as [i]: "modules.edgeHub.heartbeat",
 * "modules.edged.nodeLabels". 0 if unknown. */
unsigned yaml_line(const struct yaml_doc *doc, const char *path);
/* Appends v as YAML with a final newline (block style, members in order, strings quoted where they would read as
 * something else). -1 over out's maximum or JSON_MAX_DEPTH. */
int yaml_write(struct buf *out, const yyjson_val *v);
