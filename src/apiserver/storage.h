/* What is stored: the current objects of every resource, the recent changes, and the one way to change them.
 *
 * The loop thread owns everything here. A write is decided against the newest state, uncommitted writes included
 * (storage_latest); it gets its revision at once, goes to the writer thread, which commits whatever has queued up in
 * one transaction, and takes effect when that commit is on disk: only then do readers see it, watchers get it, and its
 * done function runs, all in revision order. When a commit fails, none of its writes happened, and neither did those
 * that were decided after them: each is told so, and their revisions are not used again. */
#pragma once

#include "apiserver/recordmap.h"
#include "net/loop.h"

struct storage;

/* A stored collection of objects. Lives as long as the storage. */
struct resource {
    int64_t id; /* in the database */
    char *group, *plural;
    struct recordmap objects; /* committed */
    uint64_t last_rev;        /* of its last committed change that is remembered, 0 if none */
    void *watchers;           /* owned by watch.c */
    struct resource *next;
};

/* A committed change. old NULL: created; new_ NULL: deleted. */
struct change {
    uint64_t rev;
    struct resource *resource;
    struct record *old, *new_; /* references held by the history */
};

struct storage_options {
    struct loop *loop;
    const char *path; /* of the database */
    /* History kept for watches that resume: younger than max_age_ms or among the last min_changes, but never more than
     * max_changes or max_bytes of superseded objects. 0: 10 minutes, 10,000, 60,000, 16 MiB. */
    int64_t max_age_ms;
    size_t min_changes, max_changes, max_bytes;
};
/* Opens, loads, starts the writer thread. */
int storage_open(struct storage **out, const struct storage_options *o, struct error *err) MUST_CHECK;
void storage_close(struct storage *s); /* commits what was submitted; calls no more done functions */

/* Finds or makes the resource. */
struct resource *storage_resource(struct storage *s, const char *group, const char *plural);
void storage_each_resource(struct storage *s, void (*fn)(void *arg, struct resource *r), void *arg);

/* The object as committed (for readers) and as it will be once everything submitted is committed (for deciding writes).
 * Borrowed, NULL if there is none. ns "" for cluster scope. */
struct record *storage_get(const struct resource *r, const char *ns, const char *name);
struct record *storage_latest(struct storage *s, const struct resource *r, const char *ns, const char *name);

/* snapshot.c: the objects as they were at a revision that is in the history: see recordmap_snapshot. */
struct record **storage_snapshot(const struct storage *s, const struct resource *r, const char *ns, uint64_t rev,
                                 size_t *n);

uint64_t storage_revision(const struct storage *s);  /* the last committed one: resourceVersion of lists */
uint64_t storage_compacted(const struct storage *s); /* changes up to and including this one are forgotten */
uint64_t storage_next_revision(const struct storage *s);

/* done(arg, NULL) after the commit, done(arg, why) if it failed. Always called from the loop, never from inside. */
typedef void storage_done(void *arg, const struct error *failed);
/* The object is created or replaced by rec, whose rev must be storage_next_revision. Takes a reference. done may be
 * NULL. */
void storage_put(struct storage *s, struct resource *r, struct record *rec, storage_done *done, void *arg);
/* Removes the object, which must be there (storage_latest). Gives the revision of the deletion. */
uint64_t storage_delete(struct storage *s, struct resource *r, const char *ns, const char *name, storage_done *done,
                        void *arg);
/* done is called when everything submitted before is committed: for answers that tell of uncommitted state. */
void storage_barrier(struct storage *s, storage_done *done, void *arg);

/* Told of every committed change, in order, before the done function of its write. */
void storage_on_change(struct storage *s, void (*fn)(void *arg, const struct change *c), void *arg);
/* Told after all changes of one commit were told. */
void storage_on_commit(struct storage *s, void (*fn)(void *arg), void *arg);
/* The changes after rev, oldest first: fn for each, until it says false. The caller checks storage_compacted first. */
void storage_history(const struct storage *s, uint64_t rev, bool (*fn)(void *arg, const struct change *c), void *arg);
/* Drops history that is out of the window; call it now and then. */
void storage_compact(struct storage *s);
/* Is the last commit's failure still in force (disk full)? Its text, or NULL. */
const char *storage_trouble(const struct storage *s);
