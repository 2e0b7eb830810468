/* The database below the storage: the tables, loading them, and the writer thread with its group commit.
 *
 * obj holds the current objects, log what each change replaced (so that the history can be rebuilt after a restart),
 * both written in the same transaction. Nothing here knows what the objects mean. */
#pragma once

#include "apiserver/record.h"
#include "net/loop.h"
#include "store/store.h"

struct db;

/* One queued write. The loop thread makes it and gets it back; the writer thread reads it in between. */
struct db_write {
    struct db_write *next;
    int64_t resource;
    const char *group, *plural;
    bool new_resource; /* its row is to be made */
    bool barrier;      /* nothing to write */
    uint64_t rev;
    uint64_t epoch;            /* see db_submit */
    struct record *old, *new_; /* held by the storage */
};

/* Called on the opening thread, in the order: resources; objects, in any order; changes, newest first. */
struct db_loader {
    void *arg;
    void (*resource)(void *arg, int64_t id, const char *group, const char *plural);
    int (*object)(void *arg, int64_t resource, const char *ns, const char *name, uint64_t rev, struct bytes text,
                  struct error *err);
    int (*change)(void *arg, int64_t resource, const char *ns, const char *name, uint64_t rev, struct bytes old,
                  uint64_t old_rev, struct error *err);
};
struct db_options {
    const char *path;
    struct loop *loop;
    const struct db_loader *loader;
    /* On the loop: the batch (a list by next) was committed, or failed for the reason given. */
    void (*committed)(void *arg, struct db_write *batch, const struct error *failed);
    void *arg;
};
/* The file by itself, brought to the present schema: for backup.c. */
int db_open_store(struct store **out, const char *path, struct error *err) MUST_CHECK;
int db_open(struct db **out, const struct db_options *o, struct error *err) MUST_CHECK;
uint64_t db_compacted(const struct db *db); /* as found at start */
/* When a write fails, all later ones of the same or an older epoch fail too, without being tried: they were decided on
 * a state that never came to be. The loop starts a new epoch when it learns of the failure. */
void db_submit(struct db *db, struct db_write *w);
/* The rows of the log up to rev may go; done in slices between commits. */
void db_compact(struct db *db, uint64_t rev);
void db_close(struct db *db); /* commits what is queued, without telling */
