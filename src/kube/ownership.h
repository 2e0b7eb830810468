/* Who owns which fields of an object: metadata.managedFields (embedded-api.md 4.6, 4.7), and the rules by which it
 * changes. Sans-IO: the time is passed in.
 *
 * The set of a manager is a mask over the nodes of a field tree, since only what exists can be owned. Kept beside an
 * object it is a few bytes: the places of the owned values as a bitmap, or nothing at all where one manager has written
 * everything. The fieldsV1 that clients know is written when somebody reads. */
#pragma once

#include "kube/field_tree.h"

#define OWNERSHIP_MAX_MANAGERS 64
#define OWNERSHIP_MAX_UPDATERS 10 /* more are merged into "ancient-changes", the oldest first */
#define OWNERSHIP_MAX_NAME 128

struct manager {
    const char *name, *api_version, *subresource; /* subresource "" is the object itself */
    bool apply;                                   /* declarative, rather than having written */
    int64_t time;                                 /* unix seconds */
};
struct ownership {
    struct manager managers[OWNERSHIP_MAX_MANAGERS]; /* with owned strings */
    size_t count;
    uint64_t *owners; /* a mask of managers for each node of the tree */
};

void ownership_free(struct ownership *o);
/* The stored form of an object of which nothing is known: one manager wrote it all. */
void ownership_store_sole(const struct manager *who, struct buf *out);
/* From the stored form; stored bytes that are damaged, or empty, are owned by nobody. */
void ownership_load(struct ownership *o, struct bytes stored, const struct field_tree *tree);
void ownership_store(const struct ownership *o, const struct field_tree *tree, struct buf *out);
/* Reads only the managers. true: one wrote it all, and it is `who`. */
bool ownership_stored_sole(struct bytes stored, const struct manager *who);

/* Appends managedFields as a JSON list; false, with nothing added, where nobody owns anything. */
bool ownership_write(const struct ownership *o, const struct field_tree *tree, struct buf *out);
/* From what a client sends as managedFields. Entries that are no such thing: ERR_INVALID. Paths that the object doesn't
 * have are dropped. */
int ownership_read(struct ownership *o, yyjson_val *managed_fields, const struct field_tree *tree,
                   struct error *err) MUST_CHECK;

/* `who` has written: what is new or different is theirs alone. */
void ownership_update(struct ownership *o, const struct field_tree *tree, const struct ownership *before,
                      const struct field_tree *tree_before, const struct manager *who);
/* `who` has applied config: what it names is theirs, too. Others keep what did not change. ERR_TOO_LARGE: too many
 * managers. */
int ownership_apply(struct ownership *o, const struct field_tree *tree, const struct ownership *before,
                    const struct field_tree *tree_before, const struct field_tree *config, const struct manager *who,
                    struct error *err) MUST_CHECK;
/* Everything that is there belongs to `who`: an object that was not tracked. */
void ownership_all(struct ownership *o, const struct field_tree *tree, const struct manager *who);
bool ownership_same(const struct ownership *a, const struct ownership *b,
                    const struct field_tree *tree); /* times aside */

/* Each node's mask, with those of all nodes below it. Owned array. */
uint64_t *ownership_below(const struct ownership *o, const struct field_tree *tree);
/* The number of the manager, -1 if unknown. */
int ownership_find(const struct ownership *o, const struct manager *who);
/* `"kubectl-edit" with subresource "status" using apps/v1`, as conflicts name managers. */
void manager_describe(const struct manager *m, struct buf *out);
