/* SQLite: one file, one writer, WAL, synchronous=FULL.
 *
 * A store is used by one thread at a time (in edgecore: the store queue of the task pool; in the API server: its writer
 * thread). Statements are prepared once and cached by their text. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct store;

struct store_migration {
    int version;     /* 1, 2, 3 ... in order */
    const char *sql; /* one or more statements, run in one transaction */
};
struct store_options {
    const char *path;
    const struct store_migration *migrations;
    size_t n_migrations;
    /* PRAGMA user_version of our schema lives in the table selvage_schema(version), so that a file made by the original
     * (which has none) is taken over: its tables are kept. */
    const char *name; /* for messages: "edge database" */
    size_t cache_kib; /* page cache; 0: 512 */
};
/* Creates the file with mode 0600 if missing. A newer schema is refused (ERR_UNSUPPORTED, says which version is
 * needed). A damaged file: ERR_INVALID; see store_set_aside. */
int store_open(struct store **out, const struct store_options *o, struct error *err) MUST_CHECK;
void store_close(struct store *s);
/* Renames a damaged file (and its -wal, -shm) to <path>.damaged-<time>, so that a new one can be made. */
int store_set_aside(const char *path, struct error *err) MUST_CHECK;

int store_begin(struct store *s, struct error *err) MUST_CHECK; /* BEGIN IMMEDIATE */
int store_commit(struct store *s, struct error *err) MUST_CHECK;
void store_rollback(struct store *s);
/* Has SQLite met a page that is damaged? Only then is the file to be set aside. */
bool store_is_damaged(const struct store *s);

/* A cached prepared statement, reset and with bindings cleared, ready to bind. Valid until the next store_stmt with the
 * same text. */
sqlite3_stmt *store_stmt(struct store *s, const char *sql, struct error *err) MUST_CHECK;
/* Binds a borrowed text (kept until the step): no copy. */
void store_bind_text(sqlite3_stmt *st, int index, struct bytes text);
void store_bind_blob(sqlite3_stmt *st, int index, struct bytes blob);
/* Steps: 1 a row, 0 done, -1 error. ENOSPC gives ERR_IO with "disk full". */
int store_step(struct store *s, sqlite3_stmt *st, struct error *err) MUST_CHECK;
/* Steps to the end, ignoring rows, and resets. */
int store_run(struct store *s, sqlite3_stmt *st, struct error *err) MUST_CHECK;
struct bytes store_column(sqlite3_stmt *st, int column); /* text or blob, borrowed until the next step */
int store_exec(struct store *s, const char *sql, struct error *err) MUST_CHECK; /* statements without parameters */
int store_checkpoint(struct store *s, struct error *err) MUST_CHECK;
sqlite3 *store_db(struct store *s);
