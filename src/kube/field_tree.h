/* An object as the paths that managers of fields may own: a node for each member, list element and set value, down to
 * what is replaced as a whole. Of the metadata only labels, annotations, finalizers and owner references count;
 * apiVersion and kind do not.
 *
 * Nodes stand in the order of the text, parents before their children. A tree borrows the document. Pure. */
#pragma once

#include "kube/topology.h"

#define FIELD_NONE UINT32_MAX

struct field_node {
    struct bytes name; /* 'f': the member's name; 'k': {"name":"c1"}; 'v': the value's JSON text; 'i': the index */
    yyjson_val *value;
    struct topology topology;
    uint32_t parent, end; /* of its subtree: its first child is the next node, its next sibling nodes[end] */
    char step;            /* 'f', 'k', 'v', 'i'; 0: the root */
    uint8_t kind;         /* enum topology_kind */
    bool leaf;            /* nothing below it: owned as a whole */
    bool entry;           /* of a list or a map: owned apart from what is below it */
};
struct field_tree {
    struct field_node *nodes;
    uint32_t count, cap;
    char **texts; /* names that don't stand in the document */
    uint32_t n_texts, cap_texts;
};

/* The root is nodes[0]. Values deeper than JSON_MAX_DEPTH are atomic. */
void field_tree_init(struct field_tree *t, yyjson_val *object, struct topology topology);
/* The paths of a fieldsV1 object, for field_tree_match: `leaf` means that the path itself is named. Has no values. */
int field_tree_init_fields(struct field_tree *t, yyjson_val *fields, struct topology topology,
                           struct error *err) MUST_CHECK;
void field_tree_free(struct field_tree *t);
/* The nodes of b at the same paths as those of a: out[i] is FIELD_NONE where b has no such path. */
void field_tree_match(const struct field_tree *a, const struct field_tree *b, uint32_t *out);
/* A node with the same path as an earlier one (a list's keys are not unique); FIELD_NONE if there is none. */
uint32_t field_tree_duplicate(const struct field_tree *t);
/* Structs are owned by their members only. */
static inline bool field_node_can_be_owned(const struct field_node *n) {
    return n->step && (n->leaf || n->entry || n->kind == TOPOLOGY_MAP);
}
/* Where the node stands in the text: the number of the value, as yyjson counts. Does not depend on the schema. */
static inline uint32_t field_tree_position(const struct field_tree *t, uint32_t node) {
    return (uint32_t)(t->nodes[node].value - t->nodes[0].value);
}
/* Appends `.spec.template.spec.containers[name="c1"].image`. */
void field_tree_path(const struct field_tree *t, uint32_t node, struct buf *out);
/* The text by which an element of a list is known: owned; NULL where it lacks a key. */
char *field_tree_key(const struct topology *list, yyjson_val *element);
